"""Optimisers over one flat vector of parameters, with torch.optim's formulas and defaults.

`FlatUpdate` serves a stack: hyper-parameters that differ between members are vectors as long as the
parameters, so that a step is a handful of calls however many members there are. `LoneUpdate` serves
one network, with torch's fused kernels where it has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from gradbase.ir.learning import Optimizer
from gradbase.runtime.train import adam
from gradbase.runtime.train.adam import ADAM_EPS, BETA1, BETA2
from gradbase.runtime.train.networks import Blocks

RMS_ALPHA, RMS_EPS = 0.99, 1e-8
ADAGRAD_EPS = 1e-10
SLOTS = {
    "sgd": ("momentum",),
    "adam": ("mean", "square"),
    "adamw": ("mean", "square"),
    "rmsprop": ("square", "momentum"),
    "adagrad": ("square",),
}


class Flat(Protocol):
    """Where the parameters of a stack's members lie in a flat vector; see `networks.Blocks`."""

    def column(self, values: Sequence[float], dtype: torch.dtype) -> Tensor:
        """A flat vector with `values[k]` at every parameter of member k."""
        ...

    def without_biases(self, dtype: torch.dtype) -> Tensor:
        """A flat vector with 0 at biases and 1 elsewhere."""
        ...


class FlatUpdate:
    """One step of `optimizers[k]` for each member k of a stack.

    Parameters
    ----------
    blocks : Flat
    optimizers : sequence of Optimizer
        Of one kind; learning rate, l2_reg and momentum may differ.
    weights, gradients : Tensor[blocks.total]
    """

    def __init__(
        self, blocks: Flat, optimizers: Sequence[Optimizer], weights: Tensor, gradients: Tensor
    ) -> None:
        self.kind = optimizers[0].name
        self.weights, self.gradients = weights, gradients
        self.steps = 0
        dtype = weights.dtype
        self._scratch = torch.empty_like(weights)
        self._blocks, self._optimizers = blocks, list(optimizers)
        self._rate = blocks.column([o.learn_rate for o in optimizers], dtype)
        momentum = [o.momentum for o in optimizers]
        self._momentum = blocks.column(momentum, dtype) if any(momentum) else None
        self._decay = self._decayed([1.0] * len(optimizers))
        names = [n for n in SLOTS[self.kind] if n != "momentum" or self._momentum is not None]
        self.slots = {n: torch.zeros_like(weights) for n in names}
        self._proximal = Proximal(blocks, optimizers, weights, self.slots.get("square"))

    def scale(self, factors: Sequence[float]) -> None:
        """Let the learning rate of each member be its optimiser's times a factor, from now on."""
        dtype, own = self.weights.dtype, self._optimizers
        rates = [o.learn_rate * f for o, f in zip(own, factors, strict=True)]
        self._rate = self._blocks.column(rates, dtype)
        if self.kind == "adamw":
            self._decay = self._decayed(factors)
        self._proximal.scale(factors)

    def _decayed(self, factors: Sequence[float]) -> Tensor | None:
        """What weights are multiplied by (adamw), or added to gradients times."""
        own = self._optimizers
        if not any(o.l2_reg for o in own):
            return None
        decay = [o.l2_reg for o in own]
        if self.kind == "adamw":
            decay = [1 - o.learn_rate * f * o.l2_reg for o, f in zip(own, factors, strict=True)]
        return self._blocks.column(decay, self.weights.dtype)

    def step(self) -> None:
        """Change the weights by their gradients (which may be overwritten)."""
        self.steps += 1
        if self.kind in ("adam", "adamw"):
            mean, square = self.slots["mean"], self.slots["square"]
            vectors = (self.weights, self.gradients, mean, square, self._scratch)
            found = adam.Vectors(*vectors, self._rate, self._decay)
            adam.step(found, self.steps, decoupled=self.kind == "adamw")
        elif self._decay is not None:
            self.gradients.addcmul_(self.weights, self._decay)
        match self.kind:
            case "sgd":
                self.weights.addcmul_(self._moving(self.gradients), self._rate, value=-1)
            case "rmsprop":
                square = self.slots["square"]
                square.mul_(RMS_ALPHA).addcmul_(self.gradients, self.gradients, value=1 - RMS_ALPHA)
                self._descend(square, RMS_EPS)
            case "adagrad":
                square = self.slots["square"]
                square.addcmul_(self.gradients, self.gradients)
                self._descend(square, ADAGRAD_EPS)
        self._proximal.step()

    def _descend(self, square: Tensor, eps: float) -> None:
        """weights -= rate * moving(gradients / (sqrt(square) + eps))."""
        torch.sqrt(square, out=self._scratch).add_(eps)
        torch.div(self.gradients, self._scratch, out=self._scratch)
        moved = self._moving(self._scratch) if self.kind == "rmsprop" else self._scratch
        self.weights.addcmul_(moved, self._rate, value=-1)

    def _moving(self, change: Tensor) -> Tensor:
        """`change` with momentum. (A zero buffer makes torch's special first step the same.)"""
        if self._momentum is None:
            return change
        return self.slots["momentum"].mul_(self._momentum).add_(change)


class Proximal:
    """The proximal step of l1_reg: ``w <- sign(w) max(|w| - rate l1_reg, 0)``, biases as they are.

    With adagrad each weight's rate is that of its own step. Source: Duchi and Singer 2009 (FOBOS),
    section 5.1.
    """

    def __init__(
        self,
        blocks: Flat,
        optimizers: Sequence[Optimizer],
        weights: Tensor,
        square: Tensor | None,
    ) -> None:
        self.weights, self.square = weights, square
        self._blocks, self._optimizers = blocks, list(optimizers)
        self._reach: Tensor | None = None
        self.scale([1.0] * len(optimizers))

    def scale(self, factors: Sequence[float]) -> None:
        """See `FlatUpdate.scale`."""
        own = zip(self._optimizers, factors, strict=True)
        reach = [o.learn_rate * f * o.l1_reg for o, f in own]
        if any(o.l1_reg for o in self._optimizers):
            column = self._blocks.column(reach, self.weights.dtype)
            self._reach = column.mul_(self._blocks.without_biases(self.weights.dtype))

    def step(self) -> None:
        """Move every weight towards 0."""
        reach = self._reach
        if reach is None:
            return
        if self.square is not None:
            reach = reach / self.square.sqrt().add_(ADAGRAD_EPS)
        self.weights.sub_(torch.clamp(self.weights, -reach, reach))


class LoneUpdate:
    """One step of `optimizer` for a network that trains by itself."""

    def __init__(
        self, blocks: Blocks, optimizer: Optimizer, weights: Tensor, gradients: Tensor
    ) -> None:
        self.optimizer, self._rate = optimizer, optimizer.learn_rate
        self.weights, self.gradients = weights, gradients
        self._step = torch.zeros((), dtype=torch.float32)
        names = [n for n in SLOTS[optimizer.name] if n != "momentum" or optimizer.momentum]
        self.slots = {n: torch.zeros_like(weights) for n in names}
        self._proximal = Proximal(blocks, [optimizer], weights, self.slots.get("square"))

    def scale(self, factors: Sequence[float]) -> None:
        """See `FlatUpdate.scale`."""
        self._rate = self.optimizer.learn_rate * factors[0]
        self._proximal.scale(factors)

    @property
    def steps(self) -> int:
        return int(self._step)

    @steps.setter
    def steps(self, value: int) -> None:
        self._step.fill_(value)

    def step(self) -> None:
        """Change the weights by their gradients (which may be overwritten)."""
        self._step += 1
        match self.optimizer.name:
            case "adam" | "adamw":
                self._adam()
            case "sgd":
                self._sgd()
            case "rmsprop":
                self._rmsprop()
            case "adagrad":
                torch._fused_adagrad_(
                    [self.weights], [self.gradients], [self.slots["square"]], [self._step],
                    lr=self._rate, lr_decay=0.0,
                    weight_decay=self.optimizer.l2_reg, eps=ADAGRAD_EPS, maximize=False,
                )  # fmt: skip
        self._proximal.step()

    def _adam(self) -> None:
        kernel: Any = torch._fused_adamw_ if self.optimizer.name == "adamw" else torch._fused_adam_
        kernel(
            [self.weights], [self.gradients], [self.slots["mean"]], [self.slots["square"]], [],
            [self._step], lr=self._rate, beta1=BETA1, beta2=BETA2,
            weight_decay=self.optimizer.l2_reg, eps=ADAM_EPS, amsgrad=False, maximize=False,
        )  # fmt: skip

    def _sgd(self) -> None:
        if self.optimizer.l2_reg:
            self.gradients.add_(self.weights, alpha=self.optimizer.l2_reg)
        change = self.gradients
        if self.optimizer.momentum:
            change = self.slots["momentum"].mul_(self.optimizer.momentum).add_(change)
        self.weights.add_(change, alpha=-self._rate)

    def _rmsprop(self) -> None:
        gradients, square = self.gradients, self.slots["square"]
        if self.optimizer.l2_reg:
            gradients.add_(self.weights, alpha=self.optimizer.l2_reg)
        square.mul_(RMS_ALPHA).addcmul_(gradients, gradients, value=1 - RMS_ALPHA)
        root = square.sqrt().add_(RMS_EPS)
        rate = -self._rate
        if self.optimizer.momentum:
            buffer = self.slots["momentum"].mul_(self.optimizer.momentum)
            self.weights.add_(buffer.addcdiv_(gradients, root), alpha=rate)
        else:
            self.weights.addcdiv_(gradients, root, value=rate)
