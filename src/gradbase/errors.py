"""Every public exception.

::

    GradbaseError
    ├── ParseError            (ValueError)    the text is not what we can read
    ├── BindError             (LookupError)   a name, option or type does not fit
    ├── ShapeError            (ValueError)    tensor shapes do not fit
    ├── DataError             (ValueError)    the rows cannot be used as asked
    ├── UnsupportedError      (NotImplementedError)  engine or model cannot do it; says the way out
    ├── PlanError             (RuntimeError)  no plan satisfies the settings
    ├── ResourceError         (MemoryError)   asked for more than there is
    ├── TrainingError         (RuntimeError)  training could not produce a model
    ├── EngineError           (RuntimeError)  the data system failed; its own error is the cause
    ├── StoreError            (OSError)       blobs or catalog are missing, damaged, locked or full
    │   └── ConnectionLostError   the server is gone, or cannot be reached
    ├── CancelledError        (RuntimeError)  the user cancelled
    └── InternalError         (AssertionError)  our bug
        └── OptimizerBug      a rule broke its contract; names the rule
"""

from __future__ import annotations

import difflib
from collections.abc import Generator, Iterable
from contextlib import contextmanager

__all__ = [
    "BindError",
    "CancelledError",
    "ConnectionLostError",
    "DataError",
    "EngineError",
    "GradbaseError",
    "InternalError",
    "OptimizerBug",
    "ParseError",
    "PlanError",
    "ResourceError",
    "ShapeError",
    "StoreError",
    "TrainingError",
    "UnsupportedError",
]


class GradbaseError(Exception):
    """Base of all errors that gradbase raises on purpose.

    Parameters
    ----------
    message : str
        What failed, with the values expected and found.
    at : str, optional
        Where: a layer path, a table and column, or the SQL text with the span underlined.
    hint : str, optional
        What to do next.
    """

    def __init__(self, message: str, *, at: str | None = None, hint: str | None = None) -> None:
        self.message, self.at, self.hint = message, at, hint
        parts = [message]
        if at:
            parts.append(f"  at: {at}")
        if hint:
            parts.append(f"  hint: {hint}")
        super().__init__("\n".join(parts))

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class ParseError(GradbaseError, ValueError):
    """The statement is ours but its text cannot be read."""


class BindError(GradbaseError, LookupError):
    """A name, option or type in a statement does not exist or does not fit."""


class ShapeError(GradbaseError, ValueError):
    """Tensor shapes do not fit together."""


class DataError(GradbaseError, ValueError):
    """The rows cannot be used as asked (empty table, infinite values, constant label, ...)."""


class UnsupportedError(GradbaseError, NotImplementedError):
    """The engine, model or plan cannot do this; the hint names the way out."""


class PlanError(GradbaseError, RuntimeError):
    """No plan satisfies the settings (for instance `exactness` or `memory_limit`)."""


class ResourceError(GradbaseError, MemoryError):
    """More threads or bytes were asked for than can be had; the message has both numbers."""


class TrainingError(GradbaseError, RuntimeError):
    """Training produced no usable model."""


class EngineError(GradbaseError, RuntimeError):
    """The data system failed; its own exception is `__cause__`."""


class StoreError(GradbaseError, OSError):
    """The store is missing something, damaged, locked, read-only or full."""


class ConnectionLostError(StoreError):
    """The server that has the rows and the catalog is gone, or cannot be reached."""


class CancelledError(GradbaseError, RuntimeError):
    """The user cancelled the statement."""


class InternalError(GradbaseError, AssertionError):
    """A bug in gradbase."""


class OptimizerBug(InternalError):  # noqa: N818
    """A rule broke its contract; the message names the rule and shows the plan before and after."""


@contextmanager
def noted(place: str) -> Generator[None]:
    """Add `place` as a note to an error of ours that is raised below."""
    try:
        yield
    except GradbaseError as error:
        error.add_note(place)
        raise


def near(name: str, choices: Iterable[str]) -> str | None:
    """A hint naming the choices nearest to `name`, or None where nothing is near.

    Examples
    --------
    >>> near("chrun", ["churn", "sales"])
    'did you mean `churn`?'
    """
    by_folded = {choice.casefold(): choice for choice in choices}
    found = difflib.get_close_matches(name.casefold(), by_folded, n=3, cutoff=0.6)
    if not found:
        return None
    return "did you mean " + " or ".join(f"`{by_folded[f]}`" for f in found) + "?"


def underline(sql: str, start: int, end: int) -> str:
    """The line of `sql` that holds the span [start, end), with the span underlined."""
    line_start = sql.rfind("\n", 0, start) + 1
    line_end = sql.find("\n", start)
    line_end = len(sql) if line_end < 0 else line_end
    number = sql.count("\n", 0, start) + 1
    marks = " " * (start - line_start) + "^" * max(1, min(end, line_end) - start)
    return f"line {number}\n      {sql[line_start:line_end]}\n      {marks}"
