"""A part of the networks of a stack: parameters, kernel and optimiser of equal perceptrons."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gradbase.ir.learning import Optimizer
from gradbase.runtime.train.data import Batch
from gradbase.runtime.train.kernel import Kernel
from gradbase.runtime.train.networks import ALIGNED, Blocks, MlpShape
from gradbase.runtime.train.updates import FlatUpdate, LoneUpdate

_ADDRESS = 64


class Tower:
    """One perceptron of `shape` per optimiser; parameters are 0 until they are placed.

    Parameters
    ----------
    shape : MlpShape
    optimizers : sequence of Optimizer
        Of one kind, one per member.
    dtype : torch.dtype
    alone : bool
        One member, updated by torch's fused kernels.
    name : str
        Before the names of its parameters in a state.
    """

    def __init__(
        self,
        shape: MlpShape,
        optimizers: Sequence[Optimizer],
        dtype: torch.dtype,
        *,
        alone: bool,
        name: str = "",
    ) -> None:
        self.shape, self.alone, self.name = shape, alone, name
        count = len(optimizers)
        self.blocks = Blocks(shape, count)
        self.weights = torch.zeros(self.blocks.total, dtype=dtype)
        self.gradients = torch.zeros_like(self.weights)
        views = self.blocks.views(self.weights), self.blocks.views(self.gradients)
        self.kernel = Kernel(shape, count, *views)
        self.update: FlatUpdate | LoneUpdate
        if alone:
            self.update = LoneUpdate(self.blocks, optimizers[0], self.weights, self.gradients)
        else:
            self.update = FlatUpdate(self.blocks, optimizers, self.weights, self.gradients)

    def forward(self, batch: Batch, masks: list[Tensor] | None = None) -> Tensor:
        """See `Kernel.forward`; a stack's outputs have a multiple of `ALIGNED` rows."""
        return self.kernel.forward(*self._aligned(batch), masks)

    def squares(self) -> Tensor:
        """The squared norm of each member's gradients: [members]."""
        views = self.blocks.views(self.gradients)
        return sum((v.square().flatten(1).sum(1) for v in views[1:]), views[0].square().sum((1, 2)))

    def shrink(self, factors: Tensor) -> None:
        """Multiply each member's gradients."""
        for view in self.blocks.views(self.gradients):
            view.mul_(factors.view(-1, *[1] * (view.dim() - 1)))

    def first_bias(self, flat: Tensor) -> Tensor:
        """Where the first layer's bias is in weights or gradients: [members, outputs]."""
        return self.blocks.views(flat)[0][:, self.shape.dense - 1]

    def state(self, place: int) -> dict[str, Tensor]:
        """Everything of one member: weights, optimiser slots, steps taken."""
        found = {f"{self.name}weights": self.blocks.gather(self.weights, place)}
        for name, slot in self.update.slots.items():
            found[f"{self.name}slot.{name}"] = self.blocks.gather(slot, place)
        found["steps"] = torch.tensor(self.update.steps)
        return found

    def load_state(self, place: int, state: dict[str, Tensor]) -> None:
        """Inverse of `state`; all members of a stack have taken the same number of steps."""
        self.blocks.scatter(self.weights, place, state[f"{self.name}weights"])
        for name, slot in self.update.slots.items():
            self.blocks.scatter(slot, place, state[f"{self.name}slot.{name}"])
        self.update.steps = int(state["steps"])

    def _aligned(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """x and codes of a batch at an aligned address; in a stack padded to `ALIGNED` rows."""
        x, codes = batch.x, batch.codes
        rows, columns = -(-len(x) // ALIGNED) * ALIGNED, self.shape.columns[0]
        if self.alone or x.shape == (rows, columns):
            return (x if x.data_ptr() % _ADDRESS == 0 else x.clone()), codes
        wider = x.new_zeros(rows, columns)
        wider[: len(x), : x.shape[1]] = x
        if codes is not None:
            codes = F.pad(codes, (0, 0, 0, rows - len(x)))
        return wider, codes
