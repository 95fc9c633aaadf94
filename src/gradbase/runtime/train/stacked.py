"""Perceptrons of equal shape trained together: one batch, a handful of torch calls for all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gradbase.ir.learning import Fit, Mlp
from gradbase.runtime.train.data import Batch, TrainingData
from gradbase.runtime.train.kernel import Kernel
from gradbase.runtime.train.keys import generator
from gradbase.runtime.train.losses import Loss, row_losses
from gradbase.runtime.train.networks import ALIGNED, Blocks, MlpShape, initial
from gradbase.runtime.train.updates import FlatUpdate, LoneUpdate

LEAST_PLACES = 2
"""Outputs of width 1 are computed differently in a batch of one, so a stack has two places."""

_LOSS_ROWS = 4_096
_ADDRESS = 64
Waiting = tuple[Tensor, Tensor, Tensor | None]
"""Outputs, labels and weights of a batch whose loss has not been added yet."""


def shape_of(network: Mlp, data: TrainingData, *, aligned: bool) -> MlpShape:
    """The perceptron's parameters over `data`."""
    return MlpShape(
        data.inputs.width + 1, data.inputs.embeddings, network.hidden_units, data.outputs,
        network.activation, aligned,
    )  # fmt: skip


class Stack:
    """`fits` as one stack of networks.

    A place may be vacated (`keep`); the others' numbers do not change by that, nor by how many
    there are. With ``alone`` there is one fit, updated by torch's fused kernels.

    Parameters
    ----------
    fits : sequence of Fit
        Of equal network shape, optimiser and batch size.
    data : TrainingData
    dtype : torch.dtype
    alone : bool
    """

    def __init__(
        self, fits: Sequence[Fit], data: TrainingData, dtype: torch.dtype, *, alone: bool
    ) -> None:
        self.fits, self.data, self.dtype, self.alone = list(fits), data, dtype, alone
        network = fits[0].network
        assert isinstance(network, Mlp), network
        self.shape = shape_of(network, data, aligned=not alone)
        self._has_intercept = network.intercept
        self._build()
        start = {s: self._start(s) for s in {f.seed for f in self._places}}
        for place, fit in enumerate(self._places):
            self.blocks.place(self.weights, place, start[fit.seed])
        if not self._has_intercept:
            self._first_bias(self.weights).zero_()

    def _start(self, seed: int) -> list[Tensor]:
        """The first weights: those of the model that is continued, or random ones."""
        if self.data.start:
            return [torch.from_numpy(a.copy()).to(self.dtype) for a in self.data.start]
        return initial(self.shape, seed, self.dtype)

    def _build(self) -> None:
        """Empty weights and slots for the present fits."""
        missing = 0 if self.alone else max(0, LEAST_PLACES - len(self.fits))
        self._places = [*self.fits, *self.fits[:1] * missing]
        count, fits = len(self._places), self._places
        self.blocks = Blocks(self.shape, count)
        self.weights = torch.zeros(self.blocks.total, dtype=self.dtype)
        self.gradients = torch.zeros_like(self.weights)
        views = self.blocks.views(self.weights), self.blocks.views(self.gradients)
        self.kernel = Kernel(self.shape, count, *views)
        self.update: FlatUpdate | LoneUpdate
        if self.alone:
            self.update = LoneUpdate(self.blocks, fits[0].optimizer, self.weights, self.gradients)
        else:
            optimizers = [f.optimizer for f in fits]
            self.update = FlatUpdate(self.blocks, optimizers, self.weights, self.gradients)
        self.loss = Loss(self.data.task, self._class_weights())
        self._drop_rates = [_dropout(f) for f in fits]

    def _first_bias(self, flat: Tensor) -> Tensor:
        """Where the first layer's bias is in weights or gradients: [members, outputs]."""
        return self.blocks.views(flat)[0][:, self.shape.dense - 1]

    def _class_weights(self) -> Tensor | None:
        found = [self.data.class_weights(f) for f in self._places]
        if not any(found):
            return None
        ones = (1.0,) * len(self.data.target.classes)
        return torch.tensor([weights or ones for weights in found], dtype=self.dtype)

    # -- a unit ------------------------------------------------------------------------------------

    def run_unit(self, epoch: int, shard: int) -> list[float]:
        """Train one pass over a shard; each fit's mean loss over its rows."""
        masks = self._masks(epoch, shard)
        total = torch.zeros(len(self._places), dtype=torch.float64)
        waiting: list[Waiting] = []
        rows = held = 0
        for batch in self.batches(epoch, shard):
            count = len(batch.y)
            z = self.kernel.forward(*self._aligned(batch), masks(count))
            waiting.append((z[:, :count].clone(), batch.y, batch.w))
            self.kernel.backward(self.loss.gradient(z, batch.y, batch.w))
            if not self._has_intercept:
                self._first_bias(self.gradients).zero_()
            self.update.step()
            rows, held = rows + count, held + count
            if held >= _LOSS_ROWS:
                total += self._loss_sum(waiting)
                held = 0
        total += self._loss_sum(waiting)
        return (total / max(rows, 1)).tolist()[: len(self.fits)]

    def _loss_sum(self, waiting: list[Waiting]) -> Tensor:
        """Summed loss of outputs that were put aside: fewer, larger calls than one per batch."""
        if not waiting:
            return torch.zeros(len(self._places), dtype=torch.float64)
        zs, ys, ws = zip(*waiting, strict=True)
        waiting.clear()
        z, y = torch.cat(zs, 1), torch.cat(ys)
        w = None if ws[0] is None else torch.cat([w for w in ws if w is not None])
        weights = self.loss.class_weights
        own = [None] * len(z) if weights is None else list(weights)
        return torch.stack([self._summed(each, y, c, w) for each, c in zip(z, own, strict=True)])

    def _summed(
        self,
        z: Tensor,
        y: Tensor,
        class_weights: Tensor | None = None,
        w: Tensor | None = None,
    ) -> Tensor:
        return row_losses(self.data.task, z, y, class_weights, w).sum(dtype=torch.float64)

    def batches(self, epoch: int, shard: int) -> Iterator[Batch]:
        """The unit's batches."""
        return self.data.batches(epoch, shard, self.fits[0].batch_size, self.dtype)

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

    def _masks(self, epoch: int, shard: int) -> Any:
        """A function rows -> dropout masks of each hidden layer (None without dropout).

        The draws are one for all members of equal seed: what differs is which of them are dropped.
        """
        if not any(self._drop_rates):
            return lambda _rows: None
        seeds = list(dict.fromkeys(f.seed for f in self._places))
        draws = [generator(s, "dropout", epoch, shard) for s in seeds]
        which = torch.tensor([seeds.index(f.seed) for f in self._places])
        rates = torch.tensor(self._drop_rates, dtype=self.dtype).view(-1, 1, 1)
        kept = 1 / (1 - rates)

        def masks(rows: int) -> list[Tensor]:
            found: list[Tensor] = []
            for width in self.shape.hidden:
                drawn = [torch.rand(rows, width, generator=d, dtype=self.dtype) for d in draws]
                each = torch.stack(drawn)
                each = each[which] if len(seeds) > 1 else each
                mask = (each >= rates).to(self.dtype).mul_(kept)
                if self.shape.aligned:
                    mask = F.pad(mask, (0, -width % ALIGNED, 0, -rows % ALIGNED))
                found.append(mask)
            return found

        return masks

    # -- results -----------------------------------------------------------------------------------

    def outputs(self, part: str) -> tuple[Tensor, list[float]]:
        """(outputs [fits, rows, outputs], mean loss of each fit) over a part of the rows."""
        found: list[Tensor] = []
        labels: list[Tensor] = []
        for batch in self.data.evaluation(part, self.dtype):
            z = self.kernel.forward(*self._aligned(batch))
            found.append(z[:, : len(batch.y)].clone())
            labels.append(batch.y)
        z, y = torch.cat(found, 1)[: len(self.fits)], torch.cat(labels)
        return z, [float(self._summed(each, y)) / len(y) for each in z]

    # -- members -----------------------------------------------------------------------------------

    def state(self, place: int) -> dict[str, Tensor]:
        """Everything of one fit: weights, optimiser slots, steps taken."""
        found = {"weights": self.blocks.gather(self.weights, place)}
        for name, slot in self.update.slots.items():
            found[f"slot.{name}"] = self.blocks.gather(slot, place)
        found["steps"] = torch.tensor(self.update.steps)
        return found

    def load_state(self, place: int, state: dict[str, Tensor]) -> None:
        """Inverse of `state`; all fits of a stack have taken the same number of steps."""
        self.blocks.scatter(self.weights, place, state["weights"])
        for name, slot in self.update.slots.items():
            self.blocks.scatter(slot, place, state[f"slot.{name}"])
        self.update.steps = int(state["steps"])
        if place == 0 and len(self._places) > len(self.fits):
            self.load_state(1, state)

    def keep(self, places: Sequence[int]) -> None:
        """Vacate all places but these."""
        states = [self.state(p) for p in places]
        self.fits = [self.fits[p] for p in places]
        self._build()
        for place, state in enumerate(states):
            self.load_state(place, state)

    def layers(self, place: int) -> list[Tensor]:
        """The parameters of one fit in the order of `shape.true_blocks`."""
        return self.blocks.layers(self.weights, place)


def _dropout(fit: Fit) -> float:
    assert isinstance(fit.network, Mlp), fit.network
    return fit.network.dropout
