"""The live table of a search: its trials, the best first, above the line of `progress.LiveBar`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradbase.ir.metrics import is_minimised
from gradbase.selection.progress import LiveBar

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress
    from rich.table import Table

SHOWN = 10
"""Trials in the table: it must not push away what was printed before."""
RUNNING = "RUNNING"


@dataclass
class _Row:
    epoch: int = 0
    value: float = math.nan
    loss: float = math.nan
    state: str = RUNNING


class LiveTable(LiveBar):
    """Epoch, metric, loss and state of the best trials, drawn anew as they go on."""

    def __init__(self, model: str, metric: str) -> None:
        super().__init__(model, metric)
        self._rows: dict[int, _Row] = {}

    def on_epoch(self, trial: int, epoch: int, metrics: Mapping[str, float]) -> None:
        row = self._rows.setdefault(trial, _Row())
        row.epoch, row.state = epoch, RUNNING
        row.value, row.loss = metrics.get(self.metric, math.nan), metrics.get("loss", math.nan)
        super().on_epoch(trial, epoch, metrics)

    def on_trial_end(self, trial: int, status: str, epochs_left: int) -> None:
        self._rows.setdefault(trial, _Row()).state = status
        super().on_trial_end(trial, status, epochs_left)

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """(trial, state, epoch, metric, loss) of the best trials."""
        sign = 1.0 if is_minimised(self.metric) else -1.0
        trials = list(self._rows)  # another thread draws

        def place(trial: int) -> tuple[bool, float, int]:
            value = self._rows[trial].value
            return math.isnan(value), 0.0 if math.isnan(value) else sign * value, trial

        found: list[tuple[str, str, str, str, str]] = []
        for trial in sorted(trials, key=place)[:SHOWN]:
            row = self._rows[trial]
            found.append(
                (str(trial), row.state, str(row.epoch), _number(row.value), _number(row.loss))
            )
        return found

    def _table(self) -> Table:
        from rich.table import Table

        found = Table("trial", "state", "epoch", self.metric, "loss", box=None, pad_edge=False)
        for row in self.rows():
            found.add_row(*row)
        hidden = len(self._rows) - SHOWN
        if hidden > 0:
            found.caption = f"and {hidden} more trials"
        return found

    def _drawn(self) -> Progress:
        from rich.progress import Progress

        table, plain = self._table, super()._drawn()

        class Drawn(Progress):
            def get_renderables(self) -> Iterable[RenderableType]:
                yield table()
                yield from super().get_renderables()

        return Drawn(*plain.columns, console=plain.console, transient=True)


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4g}"
