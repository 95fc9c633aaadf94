"""Perceptrons of many groups trained together, each on rows of its own."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gradbase.ir.learning import Mlp
from gradbase.runtime.groups.layout import Layout
from gradbase.runtime.groups.masks import Masks
from gradbase.runtime.groups.member import Member, Rows, State
from gradbase.runtime.groups.ragged import EpochOrders, RaggedUpdate, room_of
from gradbase.runtime.train.kernel import Kernel
from gradbase.runtime.train.losses import gradient_of, row_losses
from gradbase.runtime.train.networks import MlpShape, initial
from gradbase.runtime.train.schedules import factor
from gradbase.runtime.train.stacked import LEAST_PLACES


class GroupStack:
    """`members` of one padded shape, optimiser, batch size and task, equally far, most steps first.

    A member's numbers do not depend on the others, nor on where its legs end.

    Parameters
    ----------
    members : sequence of Member
    shape : MlpShape
        The `layout.common_shape` of all.
    check : callable
        Raises where training is to stop.
    """

    def __init__(
        self,
        members: Sequence[Member],
        shape: MlpShape,
        orders: EpochOrders,
        check: Callable[[], None],
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.members, data = sorted(members, key=lambda m: -m.steps), orders.data
        self.data, self.orders, self.check, self.dtype = data, orders, check, dtype
        self.layout, self.task = Layout(shape), members[0].group.target.task
        first = self.members[0]
        self.size, self.loss = first.fit.batch_size, first.fit.loss
        self.room = room_of(first.group, self.size)
        self._x, self._codes = torch.from_numpy(data.x), torch.from_numpy(data.codes)
        self._y, self._w = torch.from_numpy(data.y), torch.from_numpy(data.weights)
        self._nothing = len(data.y) - 1
        self.weights = torch.zeros(self._places(len(members)), self.layout.width, dtype=dtype)
        self._start()
        fits = [m.fit for m in self.members]
        self.update = RaggedUpdate([f.optimizer for f in fits], self.weights, self._shrinks())
        for place, member in enumerate(self.members):
            if member.state:
                self.update.load(place, *member.state)
        self._build()

    @staticmethod
    def _places(members: int) -> int:
        return max(members, LEAST_PLACES)

    def _start(self) -> None:
        made: dict[tuple[MlpShape, int], list[Tensor]] = {}
        for place, member in enumerate(self.members):
            key = (member.shape, member.fit.seed)
            if key not in made:
                made[key] = initial(*key, self.dtype)
            self.layout.place(self.weights, place, member.shape, made[key])
        if not self._has_intercept:
            self.layout.views(self.weights)[0][:, 0] = 0

    @property
    def _has_intercept(self) -> bool:
        return self._network.intercept

    @property
    def _network(self) -> Mlp:
        network = self.members[0].fit.network
        assert isinstance(network, Mlp), network
        return network

    def _shrinks(self) -> Tensor:
        """1 at weights and embeddings, 0 at biases."""
        flat = torch.ones(1, self.layout.width, dtype=self.dtype)
        views = self.layout.views(flat)
        views[0][:, 0] = 0
        for bias in views[self.layout.shape.first_dense_layer + 1 :: 2]:
            bias.zero_()
        return flat

    def _build(self) -> None:
        """Buffers for the present members."""
        places, shape = self._places(len(self.members)), self.layout.shape
        self._flat = torch.zeros(places, self.layout.width, dtype=self.dtype)
        self._gradients = [torch.zeros(places, *b, dtype=self.dtype) for b in shape.blocks]
        self._kept = self._own_hidden(places) if shape.activation == "sigmoid" else None
        self._memory: dict[str, Tensor] = {}
        self._kernels: dict[int, Kernel] = {}
        self._steps = np.array([m.steps for m in self.members])
        self._masks = Masks([m.fit for m in self.members], [m.shape for m in self.members],
                            self.layout.shape.widths[:-1], self.room, self.dtype)  # fmt: skip
        self._eval = self._matrix([m.group.parts.eval for m in self.members])

    def _own_hidden(self, places: int) -> list[Tensor]:
        found = [torch.zeros(places, 1, w, dtype=self.dtype) for w in self.layout.shape.widths[:-1]]
        for place, member in enumerate(self.members):
            for kept, width in zip(found, member.shape.hidden, strict=True):
                kept[place, :, :width] = 1
        return found

    def _kernel(self, count: int) -> Kernel:
        """For the first `count` places."""
        found = self._kernels.get(count)
        if found is None:
            weights = [v[:count] for v in self.layout.views(self.weights)]
            kept = None if self._kept is None else [k[:count] for k in self._kept]
            gradients = [g[:count] for g in self._gradients]
            found = Kernel(self.layout.shape, count, weights, gradients, kept=kept,
                           memory=self._memory)  # fmt: skip
            self._kernels[count] = found
        return found

    # -- epochs ------------------------------------------------------------------------------------

    def run(self) -> None:
        """Train every member to its end."""
        epoch = self.members[0].epochs
        while self.members:
            started = time.perf_counter()
            self.check()
            train = self._epoch(epoch)
            z = self._outputs(self._eval)
            evaluated = self._eval_losses(z)
            seconds = (time.perf_counter() - started) / len(self.members)
            for place, member in enumerate(self.members):
                member.train_losses.append(train[place])
                member.seconds.append(seconds)
                if len(member.group.parts.eval):
                    member.eval_losses.append(evaluated[place])
            self._end(epoch, z)
            epoch += 1

    def _epoch(self, epoch: int) -> list[float]:
        """One pass over every member's rows; its mean loss."""
        rows, coefficients, weights = self._plan(epoch)
        labels = self._targets(rows)
        seen = torch.zeros(*rows.shape, self.layout.shape.outputs, dtype=self.dtype)
        self._masks.begin(epoch)
        for step in range(rows.shape[1]):
            active = int(np.count_nonzero(self._steps > step))
            count = self._places(active)
            kernel = self._kernel(count)
            z = kernel.forward(*self._batch(rows[:count, step]), self._masks.at(step, count))
            seen[:count, step] = z
            dz = gradient_of(self.task, z, labels[:count, step], self.loss)
            kernel.backward(dz.mul_(coefficients[:count, step].unsqueeze(2)))
            self._change(active)
        losses = self._row_losses(seen, labels).mul_(weights)
        totals = losses.flatten(1).sum(1, dtype=torch.float64).tolist()
        counts = [max(len(m.group.parts.train), 1) for m in self.members]
        return [t / n for t, n in zip(totals, counts, strict=False)]

    def _change(self, active: int) -> None:
        gradients = self._flat[:active]
        self.layout.joined([g[:active] for g in self._gradients], gradients)
        if not self._has_intercept:
            self.layout.views(gradients)[0][:, 0] = 0
        self.update.step(gradients, self._factors(active))

    def _factors(self, active: int) -> Tensor | None:
        """What the learning rates of a step are multiplied by."""
        if not any(m.fit.optimizer.stepping.is_scheduled for m in self.members):
            return None
        done = self.update.steps[:active, 0].tolist()
        found = [
            factor(m.fit.optimizer.stepping, int(step), m.steps, m.fit.epochs)
            for step, m in zip(done, self.members, strict=False)
        ]
        return torch.tensor(found, dtype=self.dtype)[:, None]

    def _plan(self, epoch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Rows [places, steps, room], what their gradients and what their losses are times."""
        order = self.orders.order(epoch)
        shape = (self._places(len(self.members)), int(self._steps.max()))
        starts, lengths = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for place, member in enumerate(self.members):
            begin, length, shards = self.orders.batches(member.group, epoch, self.size)
            starts[place, : len(begin)], lengths[place, : len(begin)] = begin, length
            self._masks.plan(place, shards, length)
        among = np.arange(self.room)
        valid = torch.from_numpy(among < lengths[:, :, None])
        places = np.minimum(starts[:, :, None] + among, len(order) - 1)
        rows = torch.where(valid, torch.from_numpy(order[places]), self._nothing)
        weights = torch.where(valid, self._w[rows], 0.0)
        divided = torch.from_numpy(np.maximum(lengths, 1)).unsqueeze(2)
        return rows, (weights / divided).to(self.dtype), weights.to(self.dtype)

    def _targets(self, rows: Tensor) -> Tensor:
        y = self._y[rows]
        return y.long() if self.task == "multiclass" else y.to(self.dtype)

    def _batch(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """x [places, room, dense] and codes of rows [places, room]."""
        wide, shape = self.layout.shape.columns[0], self.layout.shape
        flat = rows.reshape(-1)
        x = self._x.index_select(0, flat)
        if x.shape[1] < wide:
            x = torch.nn.functional.pad(x, (0, wide - x.shape[1]))
        x = x[:, :wide].contiguous().view(*rows.shape, wide).to(self.dtype)
        if not shape.embeddings:
            return x, None
        codes = self._codes.index_select(0, flat)[:, : len(shape.embeddings)]
        return x, codes.reshape(*rows.shape, -1)

    def _row_losses(self, z: Tensor, y: Tensor) -> Tensor:
        width = z.shape[-1]
        flat = z.reshape(-1, width), y.reshape(-1)
        return row_losses(self.task, *flat, loss=self.loss).view(y.shape)

    # -- measuring ---------------------------------------------------------------------------------

    def _matrix(self, parts: Sequence[Rows]) -> Tensor:
        """Row numbers [places, steps, room] of a part of each member's rows."""
        most = max(map(len, parts), default=0)
        steps = -(-most // self.room)
        found = np.full((self._places(len(parts)), steps * self.room), self._nothing)
        for place, rows in enumerate(parts):
            found[place, : len(rows)] = rows
        return torch.from_numpy(found).view(len(found), steps, self.room)

    def _outputs(self, rows: Tensor, places: Tensor | None = None) -> Tensor:
        """Outputs [places, steps, room, outputs] in the mode of prediction."""
        z = torch.zeros(*rows.shape, self.layout.shape.outputs, dtype=self.dtype)
        kernel = self._kernel(len(rows)) if places is None else self._some(places, len(rows))
        for step in range(rows.shape[1]):
            z[:, step] = kernel.forward(*self._batch(rows[:, step]))
        return z

    def _some(self, places: Tensor, count: int) -> Kernel:
        """A kernel for other places than the first."""
        chosen = torch.cat([places, places[:1].expand(count - len(places))])
        weights = self.layout.views(self.weights[chosen])
        kept = None if self._kept is None else [k[chosen] for k in self._kept]
        return Kernel(self.layout.shape, count, weights, [], kept=kept)

    def _eval_losses(self, z: Tensor) -> list[float]:
        if not z.shape[1]:
            return [math.nan] * len(self.members)
        valid = self._eval != self._nothing
        losses = torch.where(valid, self._row_losses(z, self._targets(self._eval)), 0.0)
        totals = losses.flatten(1).sum(1, dtype=torch.float64)
        return (totals / valid.flatten(1).sum(1).clamp(min=1)).tolist()

    def _end(self, epoch: int, z: Tensor) -> None:
        """Take out the members that are done, have converged or failed."""
        ended: list[int] = []
        for place, member in enumerate(self.members):
            loss = member.losses[-1]
            if not (math.isfinite(loss) and math.isfinite(member.train_losses[-1])):
                member.error = f"the loss became {loss:g} in epoch {epoch + 1}: lower learn_rate"
                ended.append(place)
            elif member.has_ended or member.epochs >= member.until:
                ended.append(place)
        if not ended:
            return
        done = [p for p in ended if not self.members[p].error]
        if done:
            self._measure(done, z)
        left = [p for p in range(len(self.members)) if p not in set(ended)]
        self._keep(left)

    def _measure(self, done: list[int], z: Tensor) -> None:
        members, places = [self.members[p] for p in done], torch.tensor(done)
        rows = self._matrix([m.group.parts.test for m in members])
        tested = self._outputs(rows, places) if rows.shape[1] else None
        seen = [m.group.parts.eval for m in members]
        plain = [
            m.group.parts.train if not len(s) else s[:0] for m, s in zip(members, seen, strict=True)
        ]
        trained = self._matrix(plain)
        zt = self._outputs(trained, places) if trained.shape[1] else None
        for i, (place, member) in enumerate(zip(done, members, strict=True)):
            found = z[place] if len(seen[i]) or zt is None else zt[i]
            member.outputs = _doubles(found, len(member.measured))
            if tested is not None and len(member.group.parts.test):
                member.tested = _doubles(tested[i], len(member.group.parts.test))
            member.layers = self.layout.layers(self.weights, place, member.shape)
            paused = member.until < member.fit.epochs
            member.state = State(*self.update.state(place)) if paused else None

    def _keep(self, left: list[int]) -> None:
        self.members = [self.members[p] for p in left]
        if not left:
            return
        room = self._places(len(left)) - len(left)
        places = torch.tensor([*left, *left[:1] * room])
        self.weights = self.weights[places].contiguous()
        self.update = self.update.kept(torch.tensor(left), self.weights)
        self._build()


def _doubles(z: Tensor, rows: int) -> npt.NDArray[np.float64]:
    """[steps, room, outputs] as float64[rows, outputs]."""
    return z.reshape(-1, z.shape[-1])[:rows].double().numpy()
