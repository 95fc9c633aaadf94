"""Perceptrons of equal shape trained together: one batch, a handful of torch calls for all."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gradbase.ir.learning import Fit, Mlp
from gradbase.ir.networks import Autoencoder, WideDeep, optimizers_of
from gradbase.runtime.train.data import Batch, TrainingData
from gradbase.runtime.train.evaluating import outputs_of
from gradbase.runtime.train.keys import generator
from gradbase.runtime.train.losses import Loss, RowLoss, RunningLoss, row_losses
from gradbase.runtime.train.networks import ALIGNED, MlpShape, initial
from gradbase.runtime.train.schedules import CLIP_EPS, Schedules, factor, no_schedules
from gradbase.runtime.train.tower import Tower

LEAST_PLACES = 2
"""Outputs of width 1 are computed differently in a batch of one, so a stack has two places."""

_NAMES = ("", "linear.")
"""What the names of parameters of hidden layers and of a linear part beside them begin with."""


def shapes_of(network: Mlp, data: TrainingData, *, aligned: bool) -> tuple[MlpShape, ...]:
    """The parameters of a perceptron over `data`; of wide and deep networks those of both parts."""
    shape = MlpShape(
        data.inputs.width + 1, data.inputs.embeddings, network.hidden_units, data.outputs,
        network.activation, aligned,
    )  # fmt: skip
    if isinstance(network, WideDeep):
        return shape, dataclasses.replace(shape, hidden=())
    return (shape,)


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
    loss : str or RowLoss
        Of all fits, by name or as a function.
    schedules : Schedules
        Users' own.
    """

    def __init__(
        self,
        fits: Sequence[Fit],
        data: TrainingData,
        dtype: torch.dtype,
        *,
        alone: bool,
        loss: str | RowLoss = "",
        schedules: Schedules = no_schedules,
    ) -> None:
        self._loss, self._schedules = loss, schedules
        self.fits, self.data, self.dtype, self.alone = list(fits), data, dtype, alone
        network = fits[0].network
        assert isinstance(network, Mlp), network
        self.shapes = shapes_of(network, data, aligned=not alone)
        self._has_intercept = network.intercept
        self._build()
        for tower, start in zip(self.towers, self._starts(), strict=True):
            for place, fit in enumerate(self._places):
                tower.blocks.place(tower.weights, place, start[fit.seed])
            if not self._has_intercept:
                tower.first_bias(tower.weights).zero_()

    def _starts(self) -> Iterator[dict[int, list[Tensor]]]:
        """First weights of each part by seed: of the model that is continued, or random ones."""
        seeds = {f.seed for f in self._places}
        continued = iter(self.data.start)
        for shape, name in zip(self.shapes, _NAMES, strict=False):
            if self.data.start:
                arrays = itertools.islice(continued, len(shape.true_blocks))
                found = [torch.from_numpy(a.copy()).to(self.dtype) for a in arrays]
                yield dict.fromkeys(seeds, found)
            else:
                yield {s: initial(shape, s, self.dtype, name) for s in seeds}

    def _build(self) -> None:
        """Empty weights and slots for the present fits."""
        missing = 0 if self.alone else max(0, LEAST_PLACES - len(self.fits))
        self._places = [*self.fits, *self.fits[:1] * missing]
        optimizers = zip(*map(optimizers_of, self._places), strict=True)
        self.towers = [
            Tower(shape, found, self.dtype, alone=self.alone, name=name)
            for shape, found, name in zip(self.shapes, optimizers, _NAMES, strict=False)
        ]
        self.loss = Loss(
            self.data.task, class_weights_of(self.data, self._places, self.dtype), loss=self._loss
        )
        self._stepping = [f.optimizer.stepping for f in self._places]
        self._is_scheduled = any(s.is_scheduled for s in self._stepping)
        self._clips = [s.clip_norm or math.inf for s in self._stepping]
        self._is_clipped = min(self._clips) < math.inf
        self._drop_rates = [_dropout(f) for f in self._places]
        networks = [n for f in self._places if isinstance(n := f.network, Autoencoder)]
        if any(n.l1_reg_activation for n in networks):
            factors = torch.tensor([n.l1_reg_activation for n in networks], dtype=self.dtype)
            self.towers[0].kernel.penalty = networks[0].bottleneck, factors.view(-1, 1, 1)

    # -- a unit ------------------------------------------------------------------------------------

    def run_unit(self, epoch: int, shard: int) -> list[float]:
        """Train one pass over a shard; each fit's mean loss over its rows."""
        masks = self._masks(epoch, shard)
        total = RunningLoss(self.loss, len(self._places))
        for batch in self.batches(epoch, shard):
            count = len(batch.y)
            z = self._forward(batch, masks(count))
            outputs = z if count == z.shape[1] else z[:, :count]
            total.add(outputs.clone(), batch.y, batch.w)
            self._backward(self.loss.gradient(z, batch.y, batch.w), count)
            self._step()
        return total.mean()[: len(self.fits)]

    def _step(self) -> None:
        """Change all weights, by the learning rates and within the norms of this step."""
        if self._is_scheduled:
            done, steps = self.towers[0].update.steps, self.data.steps(self.fits[0].batch_size)
            pairs = zip(self._stepping, self._places, strict=True)
            factors = [factor(s, done, steps, f.epochs, self._schedules) for s, f in pairs]
            for tower in self.towers:
                tower.update.scale(factors)
        if self._is_clipped:
            norms = torch.stack([t.squares() for t in self.towers]).sum(0).sqrt()
            most = torch.tensor(self._clips, dtype=self.dtype)
            for tower in self.towers:
                tower.shrink((most / (norms + CLIP_EPS)).clamp(max=1.0))
        for tower in self.towers:
            tower.update.step()

    def _forward(self, batch: Batch, masks: list[Tensor] | None = None) -> Tensor:
        """Outputs [fits, rows, outputs], added up over the parts."""
        z, *others = [t.forward(batch, masks if t.shape.hidden else None) for t in self.towers]
        for other in others:
            z.add_(other)
        return z

    def _backward(self, dz: Tensor, count: int) -> None:
        for tower in self.towers:
            tower.kernel.backward(dz, count)
            if not self._has_intercept:
                tower.first_bias(tower.gradients).zero_()

    def batches(self, epoch: int, shard: int) -> Iterator[Batch]:
        """The unit's batches."""
        return self.data.batches(epoch, shard, self.fits[0].batch_size, self.dtype)

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
            for width in self.shapes[0].hidden:
                drawn = [torch.rand(rows, width, generator=d, dtype=self.dtype) for d in draws]
                each = torch.stack(drawn)
                each = each[which] if len(seeds) > 1 else each
                mask = (each >= rates).to(self.dtype).mul_(kept)
                if self.shapes[0].aligned:
                    mask = F.pad(mask, (0, -width % ALIGNED, 0, -rows % ALIGNED))
                found.append(mask)
            return found

        return masks

    # -- results -----------------------------------------------------------------------------------

    def outputs(self, part: str) -> tuple[Tensor, list[float]]:
        """(outputs [fits, rows, outputs], mean loss of each fit) over a part of the rows."""

        def forward(batch: Batch) -> Tensor:
            return self._forward(batch)[: len(self.fits), : len(batch.y)].clone()

        def mean_losses(z: Tensor, y: Tensor) -> list[float]:
            losses = (row_losses(self.data.task, each, y, loss=self._loss) for each in z)
            return [float(each.sum(dtype=torch.float64)) / len(y) for each in losses]

        return outputs_of(self.data, part, forward, mean_losses, self.dtype)

    # -- members -----------------------------------------------------------------------------------

    def state(self, place: int) -> dict[str, Tensor]:
        """Everything of one fit: weights, optimiser slots, steps taken."""
        return {name: value for t in self.towers for name, value in t.state(place).items()}

    def load_state(self, place: int, state: dict[str, Tensor]) -> None:
        """Inverse of `state`; all fits of a stack have taken the same number of steps."""
        for tower in self.towers:
            tower.load_state(place, state)
        if place == 0 and len(self._places) > len(self.fits):
            self.load_state(1, state)

    def keep(self, places: Sequence[int]) -> None:
        """Vacate all places but these."""
        states = [self.state(p) for p in places]
        self.fits = [self.fits[p] for p in places]
        self._build()
        for place, state in enumerate(states):
            self.load_state(place, state)

    def layers(self, place: int) -> list[tuple[MlpShape, list[Tensor]]]:
        """Shape of each part of one fit, with its parameters in the order of `true_blocks`."""
        return [(t.shape, t.blocks.layers(t.weights, place)) for t in self.towers]


def _dropout(fit: Fit) -> float:
    assert isinstance(fit.network, Mlp), fit.network
    return fit.network.dropout


def class_weights_of(data: TrainingData, fits: Sequence[Fit], dtype: torch.dtype) -> Tensor | None:
    """What the losses of `fits` are multiplied by: Tensor[fits, classes]; None: by nothing."""
    found = [data.class_weights(fit) for fit in fits]
    if not any(found):
        return None
    ones = (1.0,) * len(data.target.classes)
    return torch.tensor([weights or ones for weights in found], dtype=dtype)
