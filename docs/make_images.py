"""Draws the pictures of docs/pictures.md into docs/img: ``make images``."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

PAGE = Path(__file__).with_name("pictures.md")
IMAGES = PAGE.with_name("img")


def main() -> None:
    """Run the page's first example and keep some of its pictures."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    query = next(b for b in blocks if "explained.plot" in b)
    with tempfile.TemporaryDirectory() as folder:
        first = blocks[0].replace("tumours.duckdb", f"{folder}/tumours.duckdb")
        exec(first, names)
        exec(query.replace('"plan.svg"', repr(str(IMAGES / "plan.svg"))), names)
        study, db = names["study"], names["db"]
        for kind in ("parallel", "roc", "confusion"):
            study.plot(kind).savefig(IMAGES / f"{kind}.png", dpi=80)
        db.close()


if __name__ == "__main__":
    main()
