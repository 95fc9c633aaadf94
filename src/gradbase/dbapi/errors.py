"""The exceptions of PEP 249, and which of them each of ours is.

::

    Exception
    ├── Warning
    └── Error
        ├── InterfaceError
        └── DatabaseError
            ├── DataError           DataError
            ├── OperationalError    StoreError, ResourceError, TrainingError, CancelledError
            ├── IntegrityError      (a constraint of the engine)
            ├── InternalError       InternalError, OptimizerBug
            ├── ProgrammingError    ParseError, BindError, ShapeError
            └── NotSupportedError   UnsupportedError, PlanError

An EngineError is what the engine's own exception says it is, by the name that PEP 249 gave it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from gradbase import errors


class Warning(Exception):  # noqa: A001, N818 (the name is PEP 249's)
    """Something worth knowing; never raised."""


class Error(Exception):
    """Base of all errors; gradbase's own is ``__cause__``."""


class InterfaceError(Error):
    """This module was used in a way it is not made for."""


class DatabaseError(Error):
    """The database refused or failed."""


class DataError(DatabaseError):
    """The rows cannot be used as asked."""


class OperationalError(DatabaseError):
    """Not the statement's fault: a locked file, too little memory, a cancelled statement."""


class IntegrityError(DatabaseError):
    """A constraint does not hold."""


class InternalError(DatabaseError):
    """A bug."""


class ProgrammingError(DatabaseError):
    """The statement is wrong, or a closed connection or cursor was used."""


class NotSupportedError(DatabaseError):
    """Engine, model or plan cannot do it."""


BY_NAME: dict[str, type[DatabaseError]] = {
    c.__name__: c
    for c in (
        DataError,
        OperationalError,
        IntegrityError,
        InternalError,
        ProgrammingError,
        NotSupportedError,
    )
}
_OURS: tuple[tuple[type[errors.GradbaseError], type[DatabaseError]], ...] = (
    (errors.DataError, DataError),
    (errors.InternalError, InternalError),
    (errors.ParseError, ProgrammingError),
    (errors.BindError, ProgrammingError),
    (errors.ShapeError, ProgrammingError),
    (errors.UnsupportedError, NotSupportedError),
    (errors.PlanError, NotSupportedError),
    (errors.StoreError, OperationalError),
    (errors.ResourceError, OperationalError),
    (errors.TrainingError, OperationalError),
    (errors.CancelledError, OperationalError),
)


def of(error: errors.GradbaseError) -> DatabaseError:
    """PEP 249's exception for one of ours, with the same words."""
    for ours, theirs in _OURS:
        if isinstance(error, ours):
            return theirs(str(error))
    for base in type(error.__cause__).__mro__:
        if base.__name__ in BY_NAME:
            return BY_NAME[base.__name__](str(error))
    return DatabaseError(str(error))


@contextlib.contextmanager
def translated() -> Generator[None]:
    """Raise our exceptions inside the block as PEP 249's."""
    try:
        yield
    except errors.GradbaseError as error:
        raise of(error) from error
