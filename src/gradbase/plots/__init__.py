"""Pictures: one small file per kind, drawn from plain values.

Whoever asks for a picture (`selection`, `session`) gathers the values; nothing here knows a
database or a model. Colours are told apart with every kind of colour vision.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradbase.errors import BindError, UnsupportedError, near

if TYPE_CHECKING:
    from gradbase.plots.style import Picture

SEARCH, CLASSIFIED, CONFUSION, REGRESSED, LINEAR = (
    "search", "classified", "confusion", "regressed", "linear",
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A kind of picture: what it is of, and what it shows."""

    of: str
    shows: str


KINDS = {
    "curves": Kind(SEARCH, "metric and losses of all trials by epoch"),
    "history": Kind(SEARCH, "the metric of each trial and the best so far"),
    "parallel": Kind(SEARCH, "hyper-parameters and metric as parallel coordinates"),
    "importance": Kind(SEARCH, "which hyper-parameters mattered"),
    "roc": Kind(CLASSIFIED, "true against false positives at every threshold"),
    "calibration": Kind(CLASSIFIED, "observed against predicted probability"),
    "confusion": Kind(CONFUSION, "which classes are taken for which"),
    "actual": Kind(REGRESSED, "predicted against actual values"),
    "residuals": Kind(REGRESSED, "actual minus predicted values"),
    "weights": Kind(LINEAR, "weights of a linear model"),
}
"""Every kind by name; each is drawn by the file of its name."""


def kind_of(kind: str, possible: tuple[str, ...], what: str) -> Kind:
    """The kind called `kind`.

    Parameters
    ----------
    possible : tuple of str
        What there are values for (`Kind.of`).
    what : str
        What the picture would be of, for messages.

    Raises
    ------
    BindError
        There is no such kind, or not of this; says which there are.
    """
    kind = str(kind)
    usable = [name for name, k in KINDS.items() if k.of in possible]
    if kind in usable:
        return KINDS[kind]
    if kind in KINDS:
        raise BindError(f"there is no `{kind}` of {what}; there are {', '.join(usable)}")
    is_path = bool(Path(kind).suffix)
    hint = f"a file is named like this: plot(path='{kind}')" if is_path else near(kind, usable)
    raise BindError(f"there is no picture `{kind}`; there are {', '.join(usable)}", hint=hint)


def draw(kind: str, subject: Any, path: str | Path | None = None) -> Picture:
    """Draw `subject` (see `plots.subjects`) and, with `path`, write it there.

    Raises
    ------
    UnsupportedError
        matplotlib is not installed, or the path's ending names no format.
    """
    try:
        home = importlib.import_module(f"gradbase.plots.{kind}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise UnsupportedError(
            "matplotlib is not installed", hint="pip install 'gradbase[plots]'"
        ) from None
    made: Picture = home.draw(subject)
    if path is not None:
        made.write(path)
    return made
