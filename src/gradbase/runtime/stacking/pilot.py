"""A few minibatches before a search: may modules train as a stack, and what does that take?"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from gradbase.errors import GradbaseError
from gradbase.ir.facts import Pilot
from gradbase.ir.learning import Fit, Optimizer
from gradbase.ir.stepping import Stepping
from gradbase.runtime.stacking.stack import ModuleStack
from gradbase.runtime.train.data import Batch
from gradbase.runtime.train.losses import RowLoss
from gradbase.runtime.train.module import ModuleFit
from gradbase.runtime.train.threads import torch_threads

_SHORT, _ROWS = 13, 48
"""Rows of the batches that are compared: one that is padded in a stack, and one that is not."""
_MEMBERS = 3
_LARGER = 6
"""Members of the larger of two stacks that are timed."""
_CLOSE = 1e-4
"""Largest difference of a gradient to that of the module alone, over the gradient's largest value
(float32)."""
_LONG_S = 0.05
"""Steps of a module that take longer are long for what they compute, not for what they call."""
_STEPS, _REPEATS, _MOST_ROWS = 2, 5, 1024


class _Random:
    """Rows of noise in place of `TrainingData`."""

    def __init__(self, rows: Sequence[int], inputs: int, outputs: int, task: str) -> None:
        self.task, self.outputs = task, outputs
        draw = torch.Generator().manual_seed(0)
        self._batches: list[Batch] = []
        for count in rows:
            x = torch.rand(count, inputs + 1, generator=draw)
            y = torch.randint(0, max(outputs, 2), (count,), generator=draw)
            self._batches.append(Batch(x, None, y if task == "multiclass" else y.float()))

    def batches(self, *_which: object) -> Iterator[Batch]:
        yield from self._batches

    def class_weights(self, fit: Fit) -> tuple[float, ...]:
        del fit
        return ()

    def steps(self, size: int) -> int:
        del size
        return len(self._batches)


class _Trial:
    """What is tried out: fits, and modules that are copied whenever they are used."""

    def __init__(
        self,
        fits: Sequence[Fit],
        modules: Sequence[torch.nn.Module],
        sizes: tuple[int, int],
        loss: str | RowLoss,
    ) -> None:
        self.inputs, self.outputs = sizes
        self.loss = loss
        plain = Optimizer("sgd", 0.01)
        constant = [f.replace(optimizer=f.optimizer.replace(stepping=Stepping())) for f in fits]
        self.fits = [constant[i % len(fits)] for i in range(_LARGER)]
        self.plain = [f.replace(optimizer=plain) for f in self.fits]
        self._modules = modules

    def module(self, place: int) -> torch.nn.Module:
        """A copy with weights of its own."""
        made = copy.deepcopy(self._modules[place % len(self._modules)])
        draw = torch.Generator().manual_seed(place)
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.02)
        return made.train()

    def data(self, *rows: int) -> Any:
        return _Random(rows, self.inputs, self.outputs, self.fits[0].data.task)

    def stack(self, places: Sequence[int], data: Any) -> ModuleStack:
        fits = [self.plain[p] for p in places]
        return ModuleStack(fits, data, [self.module(p) for p in places], self.loss)

    def gradients(self, places: Sequence[int], rows: int) -> list[list[Tensor]]:
        """Of each member of a stack over one batch."""
        data = self.data(rows)
        stack = self.stack(places, data)
        stack.begin(0, 0)
        batch = next(data.batches())
        stack.gradient(batch.x, batch.y)
        views = stack.blocks.views(stack.gradients)
        return [[v[place].clone() for v in views] for place in range(len(places))]

    def gradients_alone(self, place: int, rows: int) -> list[Tensor]:
        fit = ModuleFit(self.plain[place], self.data(rows), self.module(place), self.loss)
        fit.run_unit(0, 0)
        wanted = [p for p in fit.module.parameters() if p.requires_grad]
        return [torch.zeros_like(p) if p.grad is None else p.grad for p in wanted]

    def alone_s(self, data: Any) -> float:
        """Seconds of a step of one fit."""
        return _timed(ModuleFit(self.fits[0], data, self.module(0), self.loss))

    def stacked_s(self, members: int, data: Any) -> float:
        """Seconds of a step of so many in a stack."""
        modules = [self.module(p) for p in range(members)]
        return _timed(ModuleStack(self.fits[:members], data, modules, self.loss))


def pilot(
    fits: Sequence[Fit],
    modules: Sequence[torch.nn.Module],
    sizes: tuple[int, int],
    loss: str | RowLoss = "",
) -> Pilot:
    """Try out modules of equal `alike.likeness`; they are left as they are.

    Parameters
    ----------
    fits : sequence of Fit
    modules : sequence of Module
        One for each of the first few fits.
    sizes : (int, int)
        Inputs and outputs of the network.

    Source: own.
    """
    trial = _Trial(fits, modules, sizes, loss)
    whole = trial.data(*[min(fits[0].batch_size, _MOST_ROWS)] * _STEPS)
    try:
        with torch.no_grad(), torch_threads(1):
            alone = trial.alone_s(whole)
            if alone > _LONG_S:
                return Pilot(alone, reason="its steps are long for what they compute")
            reason = next(filter(None, (_differs(trial, rows) for rows in (_SHORT, _ROWS))), "")
            if reason:
                return Pilot(alone, reason=reason)
            small, large = (trial.stacked_s(n, whole) for n in (2, _LARGER))
    except GradbaseError as error:
        return Pilot(0.0, reason=error.message.partition("\n")[0])
    each = max((large - small) / (_LARGER - 2), 0.0)
    return Pilot(alone, max(small - 2 * each, 0.0), each)


def _differs(trial: _Trial, rows: int) -> str:
    """How a stack's gradients differ from those alone, or from those of a smaller stack."""
    before = torch.get_rng_state()
    stacked = trial.gradients(range(_MEMBERS), rows)
    if not torch.equal(before, torch.get_rng_state()):
        return "it draws random numbers other than by dropout layers"
    for place, own in enumerate(stacked):
        alone = torch.cat([g.flatten() for g in trial.gradients_alone(place, rows)])
        differences = (torch.cat([g.flatten() for g in own]) - alone).abs()
        if not float(differences.max()) <= _CLOSE * float(alone.abs().max()):
            return "gradients in a stack differ from those of a module alone"
    fewer = trial.gradients((_MEMBERS - 1, 0), rows)
    pairs = ((fewer[1], stacked[0]), (fewer[0], stacked[-1]))
    if not all(torch.equal(a, b) for one, other in pairs for a, b in zip(one, other, strict=True)):
        return "a member's gradients depend on the others in the stack"
    return ""


def _timed(of: ModuleFit | ModuleStack) -> float:
    """Seconds of a step, at best; of this thread, whatever else the machine does."""
    of.run_unit(0, 0)
    found: list[float] = []
    for _ in range(_REPEATS):
        started = time.thread_time()
        of.run_unit(0, 0)
        found.append((time.thread_time() - started) / _STEPS)
    return min(found)
