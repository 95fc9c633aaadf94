"""Many models at once: search spaces, one file per search procedure, running a search."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gradbase.errors import BindError, near

if TYPE_CHECKING:
    from gradbase.frontend.space import Dimension
    from gradbase.selection.procedure import Procedure

PROCEDURES = {
    "grid": "gradbase.selection.grid:Grid",
    "random": "gradbase.selection.random:Random",
}
"""Search procedures by name; loaded when used."""


def make_procedure(
    name: str, space: Mapping[str, Dimension], trials: int | None, seed: int
) -> Procedure:
    """The search procedure `name` over `space`.

    Raises
    ------
    BindError
        There is no such procedure, or it cannot search that space with so many trials.
    """
    if name not in PROCEDURES:
        raise BindError(
            f"there is no search procedure `{name}`; there are {', '.join(PROCEDURES)}",
            hint=near(name, PROCEDURES),
        )
    home, _, kind = PROCEDURES[name].partition(":")
    return getattr(importlib.import_module(home), kind)(space, trials, seed)
