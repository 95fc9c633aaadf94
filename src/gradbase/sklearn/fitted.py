"""A trained model as plain data, and the session in which estimators train and predict."""

from __future__ import annotations

import atexit
import dataclasses
import functools
import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from gradbase.ir.learning import Model
from gradbase.ir.node import find
from gradbase.ir.printer import print_plan
from gradbase.ir.tensor import Param
from gradbase.session.handles import ModelHandle
from gradbase.session.session import Session, connect
from gradbase.store.reading import parse_program

if TYPE_CHECKING:
    from collections.abc import Callable


_opening = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A trained model that needs no database: what a pickle of an estimator holds.

    Parameters
    ----------
    program : str
        The model's plan text.
    arrays : mapping of str to array
        Content of its parameters by hash.
    """

    program: str
    arrays: Mapping[str, npt.NDArray[Any]]

    @classmethod
    def of(cls, handle: ModelHandle) -> Fitted:
        """Take a model out of its database."""
        params = find(handle.model, Param)
        arrays = {p.hash: handle.session.store.blobs.array(p) for p in params}
        return cls(print_plan(handle.model), arrays)

    @functools.cached_property
    def model(self) -> Model:
        """The program."""
        return parse_program(self.program, "of the estimator")

    def array(self, param: Param) -> npt.NDArray[Any]:
        """Content of a parameter, in its shape and dtype."""
        return self.arrays[param.hash]

    def handle(self) -> ModelHandle:
        """The model as something to predict with."""
        return ModelHandle(shared_session(), self.model, self)

    def __reduce__(self) -> tuple[Callable[..., Fitted], tuple[Any, ...]]:
        return type(self), (self.program, dict(self.arrays))


def shared_session() -> Session:
    """The in-memory session of all estimators of this process.

    One broker shares out cores and memory among estimators that work at the same time. In a worker
    process of joblib it keeps to the threads that joblib allows.
    """
    with _opening:
        return _session_of(os.getpid())


@functools.cache
def _session_of(process: int) -> Session:
    """A fork does not inherit its parent's session."""
    del process
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    session = connect(threads=int(allowed) if allowed.isdigit() else 0, progress=False)
    atexit.register(_session_of.cache_clear)  # last: DuckDB complains of what outlives Python
    atexit.register(session.close)
    return session
