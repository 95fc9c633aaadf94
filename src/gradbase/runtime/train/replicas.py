"""Gradients of a batch's parts, added up in one order, whoever computed which of them.

A batch is cut into `Fit.replicas` parts (a power of two). Their gradients are added in pairs, the
sums in pairs again, and so on: so a worker can add up those of its own parts, and what comes to is
the same to the bit for one worker or for as many as there are parts.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from gradbase.errors import UnsupportedError
from gradbase.ir.learning import Fit
from gradbase.runtime.train.data import Batch
from gradbase.runtime.train.keys import derive
from gradbase.runtime.train.losses import RunningLoss
from gradbase.runtime.train.module import ModuleFit
from gradbase.runtime.train.stacked import Stack

TIMEOUT_S = 60.0
"""A team whose member says nothing for so long is given up."""


class TeamLost(Exception):  # noqa: N818 (never reaches a user)
    """Another member of a team is gone."""


class Team(Protocol):
    """Those that compute the parts of one trial's batches."""

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...
    def gather(self, mine: Tensor) -> list[Tensor]:
        """What each member gives, in the order of their ranks."""
        ...


class Alone:
    """A team of one."""

    rank, size = 0, 1

    def gather(self, mine: Tensor) -> list[Tensor]:
        """See `Team`."""
        return [mine]


class Gloo:
    """A team of processes that find each other at a store of the search's; see `Team`.

    Bytes to each member in a step: (size - 1) times the gradients.
    """

    def __init__(self, host: str, port: int, name: str, *, rank: int, size: int) -> None:
        import torch.distributed as dist

        self.rank, self.size = rank, size
        timeout = dt.timedelta(seconds=TIMEOUT_S)
        try:
            store = dist.TCPStore(host, port, is_master=False, timeout=timeout)
            made: Any = dist.ProcessGroupGloo
            self._group = made(dist.PrefixStore(name, store), rank, size, timeout)
            self._store = store  # its connection lives as long as the group
        except RuntimeError as error:
            raise TeamLost(str(error)) from error

    def gather(self, mine: Tensor) -> list[Tensor]:
        """See `Team`; TeamLost where another member is gone."""
        found = [torch.empty_like(mine) for _ in range(self.size)]
        try:
            self._group.allgather([found], [mine]).wait()
        except RuntimeError as error:
            raise TeamLost(str(error)) from error
        return found


def added(parts: Sequence[Tensor]) -> Tensor:
    """The sum of 1, 2, 4, … tensors, in pairs.

    Examples
    --------
    >>> added([torch.tensor(1.0), torch.tensor(2.0)])
    tensor(3.)
    """
    while len(parts) > 1:
        parts = [a + b for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


class _Part(NamedTuple):
    number: int
    batch: Batch | None
    rows: slice


def total_of(
    batch: Batch, replicas: int, team: Team, of_part: Callable[[_Part], Tensor], like: Tensor
) -> Tensor:
    """The sum over a batch's parts of what `of_part` gives for those of this member."""
    rows = len(batch.y)
    size = -(-rows // replicas)
    batches: list[Batch | None] = [*batch.split(size)]
    batches += [None] * (replicas - len(batches))
    each = replicas // team.size
    mine = range(team.rank * each, (team.rank + 1) * each)
    parts = [_Part(n, batches[n], slice(n * size, min((n + 1) * size, rows))) for n in mine]
    found = [torch.zeros_like(like) if p.batch is None else of_part(p) for p in parts]
    return added(team.gather(added(found)))


class ReplicatedStack(Stack):
    """One perceptron whose batches are cut into parts; `team` computes them."""

    team: Team = Alone()

    def run_unit(self, epoch: int, shard: int) -> list[float]:
        masks, fit = self._masks(epoch, shard), self.fits[0]
        total, rows = 0.0, 0
        like = torch.cat([*(t.gradients for t in self.towers), torch.zeros(1, dtype=self.dtype)])
        for batch in self.batches(epoch, shard):
            count = len(batch.y)
            kept = masks(count)
            found = total_of(
                batch, fit.replicas, self.team,
                lambda part, k=kept, n=count: self._of_part(part, k, n), like,
            )  # fmt: skip
            sizes = [t.gradients.numel() for t in self.towers]
            *gradients, loss = torch.split(found, [*sizes, 1])
            for tower, gradient in zip(self.towers, gradients, strict=True):
                tower.gradients.copy_(gradient)
            self._step()
            total, rows = total + float(loss), rows + count
        return [total / max(rows, 1)]

    def _of_part(self, part: _Part, masks: list[Tensor] | None, count: int) -> Tensor:
        """Its share of the batch's gradient, and its summed loss."""
        assert part.batch is not None
        batch, rows = part.batch, len(part.batch.y)
        mine = None if masks is None else [m[:, part.rows].contiguous() for m in masks]
        z = self._forward(batch, mine)
        loss = RunningLoss(self.loss, 1)
        loss.add(z[:, :rows].clone(), batch.y, batch.w)
        dz = self.loss.gradient(z, batch.y, batch.w).mul_(rows / count)
        self._backward(dz, rows)
        summed = torch.tensor([loss.mean()[0] * rows], dtype=self.dtype)
        return torch.cat([*(t.gradients for t in self.towers), summed])


class ReplicatedModule(ModuleFit):
    """A user's module whose batches are cut into parts; `team` computes them.

    Each part draws from a stream of its own. Buffers that change as it trains (BatchNorm) would be
    those of a part, so there may be none.
    """

    team: Team = Alone()

    def run_unit(self, epoch: int, shard: int) -> list[float]:
        self._unit = (epoch, shard)
        before = {name: b.clone() for name, b in self.module.named_buffers()}
        self._refuse(any(name.endswith("running_mean") for name in before))
        found = super().run_unit(epoch, shard)
        after = dict(self.module.named_buffers())
        self._refuse(any(not torch.equal(old, after[name]) for name, old in before.items()))
        return found

    def _refuse(self, keeps: bool) -> None:
        if keeps:
            raise UnsupportedError(
                f"the module of `{self.name}` keeps statistics of its batches, which replicas see "
                "in parts only",
                at=f"trial {self.fit.trial}", hint="replicas = 1, or GroupNorm, LayerNorm",
            )  # fmt: skip

    def _gradients(self, batch: Batch) -> Tensor:
        parameters = [p for p in self.module.parameters() if p.requires_grad]
        like = torch.zeros(sum(p.numel() for p in parameters) + 1)
        count = len(batch.y)
        found = total_of(
            batch, self.fit.replicas, self.team,
            lambda part: self._of_part(part, parameters, count), like,
        )  # fmt: skip
        *gradients, loss = torch.split(found, [*(p.numel() for p in parameters), 1])
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.view_as(parameter).clone()
        return loss[0]

    def _of_part(self, part: _Part, parameters: Sequence[Tensor], count: int) -> Tensor:
        assert part.batch is not None
        self.optimizer.zero_grad(set_to_none=True)
        seed = derive(self.fit.seed, f"part {self.steps} {part.number}", *self._unit)
        self.draws.start(seed)
        loss = self.backward(part.batch, len(part.batch.y) / count)
        flat = [torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in parameters]
        return torch.cat([*flat, loss.view(1)])


def check_replicas(fit: Fit) -> None:
    """UnsupportedError where a batch cannot be cut into so many parts."""
    if fit.replicas & (fit.replicas - 1) or fit.replicas < 1:
        raise UnsupportedError(
            f"replicas is {fit.replicas}, it must be a power of two", hint="1, 2, 4, 8, …"
        )
