"""Many models at once: search spaces, one file per search procedure, running a search."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from gradbase.errors import BindError, near

if TYPE_CHECKING:
    from gradbase.selection.procedure import Procedure, Terms

PROCEDURES = {
    "grid": "gradbase.selection.grid:Grid",
    "random": "gradbase.selection.random:Random",
    "tpe": "gradbase.selection.sampling:Tpe",
    "gp": "gradbase.selection.sampling:GaussianProcess",
    "successive_halving": "gradbase.selection.halving:SuccessiveHalving",
    "hyperband": "gradbase.selection.halving:Hyperband",
    "asha": "gradbase.selection.halving:Asha",
    "pbt": "gradbase.selection.population:Population",
}
"""Search procedures by name; loaded when used."""
AT_ONCE = ("grid", "random")
"""Those that name all trials at once and let each train to its end."""
TO_THE_END = (*AT_ONCE, "tpe", "gp")
"""Those that let each trial train to its end."""


def make_procedure(name: str, terms: Terms) -> Procedure:
    """The search procedure `name`.

    Raises
    ------
    BindError
        There is no such procedure, or it cannot search so.
    """
    if name not in PROCEDURES:
        raise BindError(
            f"there is no search procedure `{name}`; there are {', '.join(PROCEDURES)}",
            hint=near(name, PROCEDURES),
        )
    home, _, kind = PROCEDURES[name].partition(":")
    return getattr(importlib.import_module(home), kind)(terms)
