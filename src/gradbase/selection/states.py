"""Training states of a run on disk: what a trial needs to go on, bit for bit."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import safetensors
import safetensors.torch
from torch import Tensor

from gradbase.errors import StoreError
from gradbase.store.files import make_folder, write_files
from gradbase.store.runs import STATES

SHARE = 0.01
"""Of a trial's time that saving its state may take, where nobody has to have it."""
_COST_S, _BYTES_PER_S = 0.005, 300e6
"""What saving is taken to cost before it was measured: a flush, and a slow disk."""


class Position(NamedTuple):
    """How far a state has come: whole epochs, then `done` shards of the next one.

    `loss` is the part of that epoch's training loss that these shards gave.
    """

    epoch: int
    done: int = 0
    loss: float = 0.0


State = dict[str, Tensor]


class States:
    """States of a run's trials, several in a file. Files never change; thread-safe.

    Parameters
    ----------
    run : Path
        The run's folder.
    """

    def __init__(self, run: Path) -> None:
        self._folder, self._run = run / STATES, run
        self._files: dict[tuple[int, int, int], Path] = {}
        self._latest: dict[int, Position] = {}
        self._lock = threading.Lock()
        self._count = 0
        for path in sorted(self._folder.glob("*.safetensors")):
            self._know(path, _positions(path))
            self._count = int(path.stem) + 1

    def position(self, trial: int) -> Position | None:
        """The furthest saved of a trial."""
        return self._latest.get(trial)

    def save(self, states: Mapping[int, tuple[Position, State]]) -> Path:
        """Save the states of some trials together; their file, on disk when this returns."""
        tensors = {
            f"{trial}/{name}": tensor.contiguous()
            for trial, (_, state) in states.items()
            for name, tensor in state.items()
        }
        positions = {trial: position for trial, (position, _) in states.items()}
        data = safetensors.torch.save(tensors, {"positions": json.dumps(positions)})
        make_folder(self._folder)
        with self._lock:
            path = self._folder / f"{self._count:08d}.safetensors"
            self._count += 1
        write_files([(path, memoryview(data))], self._run)
        self._know(path, positions)
        return path

    def load(self, trial: int, epoch: int, done: int = 0) -> State:
        """The state of a trial at a position that was saved."""
        path = self._files[trial, epoch, done]
        prefix = f"{trial}/"
        try:
            with safetensors.safe_open(path, "pt") as file:
                names = [n for n in file.keys() if n.startswith(prefix)]  # noqa: SIM118
                return {n[len(prefix) :]: file.get_tensor(n) for n in names}
        except (OSError, safetensors.SafetensorError) as error:
            raise _damaged(path) from error

    def _know(self, path: Path, positions: Mapping[int, Position]) -> None:
        with self._lock:
            for trial, position in positions.items():
                self._files[trial, position.epoch, position.done] = path
                self._latest[trial] = max(position, self._latest.get(trial, position))


class Pace:
    """Says when saving is worth its time: after so long that it is `SHARE` of it."""

    def __init__(self) -> None:
        self._cost: float | None = None
        self._last = time.perf_counter()

    def is_due(self, size_bytes: int) -> bool:
        """Whether to save now."""
        cost = _COST_S + size_bytes / _BYTES_PER_S if self._cost is None else self._cost
        return time.perf_counter() - self._last >= cost / SHARE

    def saved(self, seconds: float) -> None:
        """It took so long."""
        self._cost, self._last = seconds, time.perf_counter()


def _positions(path: Path) -> dict[int, Position]:
    try:
        with safetensors.safe_open(path, "pt") as file:
            text = (file.metadata() or {})["positions"]
        return {int(trial): Position(*values) for trial, values in json.loads(text).items()}
    except (OSError, safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> StoreError:
    return StoreError(
        f"the training state {path} is damaged",
        hint="delete the file: its trials go on from an earlier state",
    )
