"""Where rows go that do not fit into memory."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradbase.runtime.context import RunContext


def spill_folder(context: RunContext) -> Path:
    """Where rows that do not fit go: beside the database, or the system's temporary folder."""
    engine: Any = context.engine
    root: Path | None = engine.folder
    if root is None or engine.read_only:
        return Path(tempfile.gettempdir())
    folder = root / "spill"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
