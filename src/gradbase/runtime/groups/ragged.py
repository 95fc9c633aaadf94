"""Steps of many networks over rows of their own: some take more of them in an epoch than others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gradbase.ir.learning import Optimizer
from gradbase.runtime.groups.rows import Group, GroupedData
from gradbase.runtime.train.identity import keyed
from gradbase.runtime.train.networks import ALIGNED
from gradbase.runtime.train.schedules import CLIP_EPS
from gradbase.runtime.train.trainer import shard_order
from gradbase.runtime.train.updates import (
    ADAGRAD_EPS,
    ADAM_EPS,
    BETA1,
    BETA2,
    RMS_ALPHA,
    RMS_EPS,
    SLOTS,
)

Ints = npt.NDArray[np.int64]
_KEPT_BYTES = 1 << 28


class EpochOrders:
    """Training rows in the order of an epoch: groups together, shard after shard as visited.

    Parameters
    ----------
    data : GroupedData

    Attributes
    ----------
    starts : int64[groups]
        Where the rows of each group begin.
    """

    def __init__(self, data: GroupedData) -> None:
        self.data = data
        lengths = [sum(map(len, g.shards)) for g in data.groups]
        self.starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
        self._rows = np.concatenate([s for g in data.groups for s in g.shards])
        self._shards = [len(g.shards) for g in data.groups]
        self._first = np.concatenate([[0], np.cumsum(self._shards)[:-1]])
        self._lengths = [len(s) for g in data.groups for s in g.shards]
        self._ids = data.ids[self._rows]
        self._kept: dict[int, Ints] = {}

    def order(self, epoch: int) -> Ints:
        """int64[training rows]."""
        found = self._kept.get(epoch)
        if found is None:
            rank = np.empty(len(self._lengths), np.int64)
            for first, count in zip(self._first, self._shards, strict=True):
                rank[first + np.array(shard_order(epoch, count))] = first + np.arange(count)
            key = keyed(self._ids, self.data.data.seed, epoch)
            found = self._rows[_sorted_within(np.repeat(rank, self._lengths), key)]
            if (len(self._kept) + 1) * found.nbytes <= _KEPT_BYTES:
                self._kept[epoch] = found
        return found

    def batches(self, group: Group, epoch: int, size: int) -> tuple[Ints, Ints, list[int]]:
        """Start and length of each batch of an epoch in `order`, and the shard that it is of."""
        at = int(self.starts[group.number])
        starts: list[int] = []
        lengths: list[int] = []
        shards: list[int] = []
        for shard in shard_order(epoch, len(group.shards)):
            rows = len(group.shards[shard])
            for begin in range(0, rows, size):
                starts.append(at + begin)
                lengths.append(min(size, rows - begin))
                shards.append(shard)
            at += rows
        return np.array(starts, np.int64), np.array(lengths, np.int64), shards


def _sorted_within(segment: Ints, key: npt.NDArray[np.uint64]) -> Ints:
    """As ``lexsort((key, segment))``, by one sort of both together where no two rows are equal."""
    bits = int(segment.max(initial=0)).bit_length()
    both = (segment.astype(np.uint64) << np.uint64(64 - bits)) | (key >> np.uint64(bits))
    order = np.argsort(both)
    ordered = both[order]
    if (ordered[1:] == ordered[:-1]).any():
        return np.lexsort((key, segment))
    return order


def steps_of(group: Group, size: int) -> int:
    """Batches of an epoch."""
    return sum(-(-len(s) // size) for s in group.shards)


def room_of(group: Group, size: int) -> int:
    """Rows that a batch takes in a stack; follows from the group and its batch size alone."""
    largest = 2 ** math.ceil(math.log2(max(group.largest_shard, ALIGNED)))
    return min(-(-size // ALIGNED) * ALIGNED, largest)


class RaggedUpdate:
    """One step of each of the first few members, with torch.optim's formulas and defaults.

    As `updates.FlatUpdate`, but members have taken different numbers of steps.

    Parameters
    ----------
    optimizers : sequence of Optimizer
        Of one kind.
    weights : Tensor[members, width]
    shrinks : Tensor[1, width]
        1 where `l1_reg` acts, 0 at biases.
    """

    def __init__(self, optimizers: Sequence[Optimizer], weights: Tensor, shrinks: Tensor) -> None:
        self.optimizers, self.weights, self._shrinks = list(optimizers), weights, shrinks
        self.kind = optimizers[0].name
        self.rate = self._column([o.learn_rate for o in optimizers])
        self._rate = self.rate
        self.steps = torch.zeros(len(weights), 1, dtype=torch.float64)
        momentum = [o.momentum for o in optimizers]
        self._momentum = self._column(momentum) if any(momentum) else None
        clips = [o.stepping.clip_norm or math.inf for o in optimizers]
        self._most = self._column(clips) if min(clips) < math.inf else None
        decoupled = self.kind == "adamw"
        decay = [o.l2_reg for o in optimizers]
        self._decay = self._column(decay) if any(decay) else None
        self._decoupled = decoupled
        reach = [o.l1_reg for o in optimizers]
        self._reach = self._column(reach) if any(reach) else None
        names = [n for n in SLOTS[self.kind] if n != "momentum" or self._momentum is not None]
        self.slots = {n: torch.zeros_like(weights) for n in names}
        self._scratch = torch.empty_like(weights)

    def _column(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(list(values), dtype=self.weights.dtype)[:, None]

    def step(self, gradients: Tensor, factors: Tensor | None = None) -> None:
        """Change the first ``len(gradients)`` members; the gradients may be overwritten.

        `factors` [members, 1] are what learning rates are multiplied by.
        """
        n = len(gradients)
        self._rate = self.rate[:n] if factors is None else self.rate[:n] * factors
        self._clip(gradients, n)
        weights, rate = self.weights[:n], self._rate
        self.steps[:n] += 1
        if self._decay is not None:
            if self._decoupled:
                weights.mul_(1 - rate * self._decay[:n])
            else:
                gradients.addcmul_(weights, self._decay[:n])
        match self.kind:
            case "adam" | "adamw":
                self._adam(gradients, n)
            case "sgd":
                weights.addcmul_(self._moving(gradients, n), rate, value=-1)
            case "rmsprop":
                square = self.slots["square"][:n]
                square.mul_(RMS_ALPHA).addcmul_(gradients, gradients, value=1 - RMS_ALPHA)
                change = gradients.div_(torch.sqrt(square, out=self._scratch[:n]).add_(RMS_EPS))
                weights.addcmul_(self._moving(change, n), rate, value=-1)
            case "adagrad":
                square = self.slots["square"][:n].addcmul_(gradients, gradients)
                change = gradients.div_(torch.sqrt(square, out=self._scratch[:n]).add_(ADAGRAD_EPS))
                weights.addcmul_(change, rate, value=-1)
        if self._reach is not None:
            self._shrink(n)

    def _clip(self, gradients: Tensor, n: int) -> None:
        if self._most is not None:
            norms = gradients.square().sum(1, keepdim=True).sqrt()
            gradients.mul_((self._most[:n] / (norms + CLIP_EPS)).clamp(max=1.0))

    def _adam(self, gradients: Tensor, n: int) -> None:
        first, second, scratch = self.slots["mean"][:n], self.slots["square"][:n], self._scratch[:n]
        steps = self.steps[:n]
        corrected = (1 - BETA2**steps).rsqrt().to(first.dtype)
        rate = self._rate / (1 - BETA1**steps).to(first.dtype)
        first.lerp_(gradients, 1 - BETA1)
        second.mul_(BETA2).addcmul_(gradients, gradients, value=1 - BETA2)
        torch.sqrt(second, out=scratch).mul_(corrected).add_(ADAM_EPS)
        torch.div(first, scratch, out=scratch)
        self.weights[:n].addcmul_(scratch, rate, value=-1)

    def _moving(self, change: Tensor, n: int) -> Tensor:
        if self._momentum is None:
            return change
        return self.slots["momentum"][:n].mul_(self._momentum[:n]).add_(change)

    def _shrink(self, n: int) -> None:
        """See `updates.Proximal`."""
        assert self._reach is not None
        weights = self.weights[:n]
        reach = self._rate * self._reach[:n] * self._shrinks
        if self.kind == "adagrad":
            reach = reach / self.slots["square"][:n].sqrt().add_(ADAGRAD_EPS)
        weights.sub_(torch.clamp(weights, -reach, reach))

    def state(self, place: int) -> tuple[int, dict[str, Tensor]]:
        """A member's steps, weights and slots, as copies."""
        names = self._own_slots(place)
        rows = {"weights": self.weights[place].clone()}
        return int(self.steps[place, 0]), rows | {n: self.slots[n][place].clone() for n in names}

    def load(self, place: int, steps: int, rows: Mapping[str, Tensor]) -> None:
        """Inverse of `state`; a slot that is not in `rows` begins at 0."""
        self.steps[place] = steps
        self.weights[place] = rows["weights"]
        for name in self._own_slots(place):
            if name in rows:
                self.slots[name][place] = rows[name]

    def _own_slots(self, place: int) -> list[str]:
        """Those that a member would have by itself."""
        return [n for n in self.slots if n != "momentum" or self.optimizers[place].momentum]

    def kept(self, places: Tensor, weights: Tensor) -> RaggedUpdate:
        """The update of these members alone; `weights` are theirs."""
        found = RaggedUpdate([self.optimizers[int(p)] for p in places], weights, self._shrinks)
        found.steps = self.steps[places]
        found.slots = {n: s[places] for n, s in self.slots.items()}
        return found
