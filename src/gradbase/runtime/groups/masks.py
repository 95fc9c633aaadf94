"""Dropout of networks that train together: the draws that each would make by itself."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gradbase.ir.learning import Fit, Mlp
from gradbase.runtime.train.keys import generator
from gradbase.runtime.train.networks import MlpShape

Key = tuple[int, tuple[int, ...], int, int, int]
"""Seed, hidden widths, shard, batch of the shard, rows."""


class Masks:
    """What hidden values are multiplied by, for each member and step; None without dropout.

    Parameters
    ----------
    fits, shapes : sequence
        Of the members by themselves.
    widths : sequence of int
        Of the hidden layers with padding.
    room : int
        Rows of a batch with padding.
    """

    def __init__(
        self, fits: list[Fit], shapes: list[MlpShape], widths: tuple[int, ...], room: int,
        dtype: torch.dtype,
    ) -> None:  # fmt: skip
        self.fits, self.shapes, self.widths, self.room = fits, shapes, widths, room
        self.dtype = dtype
        self._rates = [f.network.dropout if isinstance(f.network, Mlp) else 0.0 for f in fits]
        self._active = any(self._rates)
        self._steps: list[list[Key]] = [[] for _ in fits]
        self._drawn: dict[Key, list[Tensor]] = {}
        self._streams: dict[tuple[int, tuple[int, ...], int], list[Tensor]] = {}
        self._epoch = 0

    def plan(self, place: int, shards: list[int], lengths: npt.NDArray[np.int64]) -> None:
        """The batches of a member's next epoch."""
        if not self._active:
            return
        seed, hidden = self.fits[place].seed, self.shapes[place].hidden
        keys: list[Key] = []
        for shard, rows in zip(shards, lengths.tolist(), strict=True):
            number = keys[-1][3] + 1 if keys and keys[-1][2] == shard else 0
            keys.append((seed, hidden, shard, number, rows))
        self._steps[place] = keys

    def begin(self, epoch: int) -> None:
        """An epoch begins."""
        self._epoch = epoch
        self._drawn.clear()
        self._streams.clear()

    def at(self, step: int, count: int) -> list[Tensor] | None:
        """Tensor[count, room, width] for each hidden layer."""
        if not self._active:
            return None
        found = [torch.zeros(count, self.room, w, dtype=self.dtype) for w in self.widths]
        for place, keys in enumerate(self._steps[:count]):
            if step >= len(keys):
                continue
            rate, rows = self._rates[place], keys[step][4]
            for mask, drawn in zip(found, self._draws(keys[step]), strict=True):
                kept = (drawn >= rate).to(self.dtype).mul_(1 / (1 - rate))
                mask[place, :rows, : drawn.shape[1]] = kept
        return found

    def _draws(self, key: Key) -> list[Tensor]:
        if key not in self._drawn:
            seed, hidden, shard, number, rows = key
            states = self._streams.setdefault((seed, hidden, shard), [])
            if not states:
                states.append(generator(seed, "dropout", self._epoch, shard).get_state())
            made = torch.Generator()
            made.set_state(states[min(number, len(states) - 1)])
            # Every batch but a shard's last has as many rows as the first.
            drawn = [torch.rand(rows, w, generator=made, dtype=self.dtype) for w in hidden]
            if number == len(states) - 1:
                states.append(made.get_state())
            self._drawn[key] = drawn
        return self._drawn[key]
