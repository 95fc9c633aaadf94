"""Who wants to know how a search goes: the listener protocol and a live line for people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from gradbase.ir.metrics import is_minimised

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from gradbase.ir.facts import Settings
    from gradbase.ir.grouping import FitGroups
    from gradbase.ir.learning import Search
    from gradbase.ir.unlabelled import Solve


class Listener(Protocol):
    """Told of a search's steps, by one thread at a time, in no fixed order of trials."""

    def on_data(self, what: str, rows: int) -> None:
        """The rows are being made ready: `what` is done now, `rows` have been read."""
        ...

    def on_start(self, trials: int, epochs: int) -> None:
        """A round begins: `trials` will train for `epochs` more epochs, all of them together."""
        ...

    def on_epoch(self, trial: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """A trial's epoch (from 1) is trained and validated; losses are among `metrics`."""
        ...

    def on_trial_end(self, trial: int, status: str, epochs_left: int) -> None:
        """A trial has ended, `epochs_left` epochs before it had to."""
        ...

    def on_end(self, message: str) -> None:
        """The search is over; `message` says how it ended."""
        ...


class Silent:
    """Listens and says nothing."""

    def on_data(self, what: str, rows: int) -> None:
        """See `Listener`."""

    def on_start(self, trials: int, epochs: int) -> None:
        """See `Listener`."""

    def on_epoch(self, trial: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """See `Listener`."""

    def on_trial_end(self, trial: int, status: str, epochs_left: int) -> None:
        """See `Listener`."""

    def on_end(self, message: str) -> None:
        """See `Listener`."""


class LiveBar:
    """One live line: trials running and failed, epochs done, best so far, time left.

    Drawn on standard error by rich, in a terminal or a notebook.
    """

    def __init__(self, model: str, metric: str) -> None:
        self.model, self.metric = model, metric
        self.running = self.failed = 0
        self.best: tuple[float, int] | None = None
        self._epochs = 0
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def on_data(self, what: str, rows: int) -> None:
        self._update(total=None, state=f"{what}, {rows:,} rows")

    def on_start(self, trials: int, epochs: int) -> None:
        self.running = trials
        self._epochs += epochs
        self._update(total=self._epochs, state=self.state())

    def on_epoch(
        self,
        trial: int,
        epoch: int,  # noqa: ARG002
        metrics: Mapping[str, float],
    ) -> None:
        value = metrics.get(self.metric, math.nan)
        sign = -1.0 if is_minimised(self.metric) else 1.0
        if not math.isnan(value) and (self.best is None or sign * value > sign * self.best[0]):
            self.best = (value, trial)
        self._advance(1)

    def on_trial_end(self, trial: int, status: str, epochs_left: int) -> None:  # noqa: ARG002
        self.running = max(0, self.running - 1)  # what a procedure stops had paused before
        self.failed += status == "FAILED"
        self._advance(epochs_left)

    def on_end(self, message: str) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress.console.print(message, markup=False, highlight=False)

    def state(self) -> str:
        """What is known now, as text."""
        parts = [f"{self.running} running"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.best is not None:
            parts.append(f"{self.metric} {self.best[0]:.4g} (trial {self.best[1]})")
        return ", ".join(parts)

    def _advance(self, epochs: int) -> None:
        self._update(advance=epochs, state=self.state())

    def _update(self, **changes: Any) -> None:
        if self._progress is None:
            self._progress = self._drawn()
            self._task = self._progress.add_task("", total=None, model=self.model, state="")
            self._progress.start()
        assert self._task is not None
        self._progress.update(self._task, **changes)

    def _drawn(self) -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as TimeLeft
        from rich.table import Column

        def column(least: int) -> Column:
            return Column(min_width=least, no_wrap=True)

        return Progress(
            TextColumn("{task.fields[model]}", markup=False, table_column=column(8)),
            BarColumn(bar_width=12),
            MofNCompleteColumn(table_column=column(7)),
            TextColumn("epochs", table_column=column(6)),
            # In a narrow terminal this is what gives way.
            TextColumn("{task.fields[state]}", markup=False, table_column=Column(no_wrap=True)),
            TimeLeft(table_column=column(7)),
            console=Console(stderr=True),
            transient=True,
        )


def listener_for(
    search: Search | Solve | FitGroups, settings: Settings, kind: type[LiveBar] = LiveBar
) -> Listener:
    """A live bar, of this kind, where someone looks at a terminal or notebook and wants it."""
    from rich.console import Console

    console = Console(stderr=True)
    if settings.progress and (console.is_terminal or console.is_jupyter):
        return kind(search.name, search.metric)
    return Silent()
