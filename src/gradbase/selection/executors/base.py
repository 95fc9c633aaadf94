"""The one interface of executors, and what the remote ones are made of."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from gradbase.errors import GradbaseError
from gradbase.runtime.train.trainer import Evaluation, Ran, Trainer

if TYPE_CHECKING:
    from gradbase.runtime.confusion import Counts
    from gradbase.runtime.train.data import TrainingData
    from gradbase.selection.admission import Admission
    from gradbase.selection.group import Group
    from gradbase.store.records import Scores


class Trains(Protocol):
    """What drives a group's units, wherever they run; see `runtime.train.trainer.Trainer`."""

    @property
    def data(self) -> TrainingData: ...
    @property
    def failed(self) -> dict[int, GradbaseError]: ...
    @property
    def active(self) -> tuple[int, ...]: ...
    @property
    def ran(self) -> Ran | None: ...
    @property
    def validate_s(self) -> float: ...
    def run_unit(self, epoch: int, shard: int) -> list[float]: ...
    def evaluate(self, part: str = "eval") -> list[Evaluation]: ...
    def counts(self, member: int) -> Scores | Counts | None: ...
    def state(self, member: int) -> dict[str, Tensor]: ...
    def load_state(self, member: int, state: dict[str, Tensor]) -> None: ...
    def drop(self, member: int) -> None: ...
    def here(self, member: int) -> Trainer: ...


class Executor(Protocol):
    """Where the units of a search are trained.

    Attributes
    ----------
    drivers : int
        How many groups should be on their way at once.
    workers : int
        How many units run at once.
    threads : int
        Of torch, for each unit.
    """

    drivers: int
    workers: int
    threads: int

    def grow(self, workers: int) -> None:
        """Let at least so many units run at once; a later round may have use for more."""
        ...

    def training(
        self, group: Group, data: TrainingData, admission: Admission, number: int
    ) -> AbstractContextManager[Trains]:
        """A group's trainer, while its units run; `number` is that of the driving thread."""
        ...

    def close(self) -> None:
        """Let all workers go; what they do is lost. Closing twice is allowed."""
        ...


class WorkerLost(Exception):  # noqa: N818 (never reaches a user)
    """A worker died, or was given up: whatever it still answers does not count."""


class Link(Protocol):
    """The way to one worker."""

    def ask(self, message: bytes, check: Callable[[], None]) -> bytes:
        """The worker's answer; `check` is called again and again and may raise.

        Raises
        ------
        WorkerLost
        """
        ...

    def close(self) -> None:
        """Give the worker up, whatever it does."""
        ...
