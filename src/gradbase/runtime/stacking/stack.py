"""Users' modules of equal structure trained together: one batch, one run of their Python code."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gradbase.errors import ShapeError, TrainingError
from gradbase.ir.learning import Fit, PythonNetwork
from gradbase.runtime.stacking.alike import likeness, rates_of, set_rates
from gradbase.runtime.stacking.parameters import ModuleBlocks
from gradbase.runtime.stacking.tensors import Members, Stacked
from gradbase.runtime.train.data import Batch, TrainingData
from gradbase.runtime.train.evaluating import outputs_of
from gradbase.runtime.train.keys import generator
from gradbase.runtime.train.losses import Loss, RowLoss, RunningLoss
from gradbase.runtime.train.module import guarded, make_optimizer, memory_of
from gradbase.runtime.train.networks import ALIGNED, padded
from gradbase.runtime.train.schedules import CLIP_EPS, Schedules, factor, no_schedules
from gradbase.runtime.train.stacked import LEAST_PLACES, class_weights_of
from gradbase.runtime.train.step_memory import StepMemory
from gradbase.runtime.train.updates import FlatUpdate


class ModuleStack:
    """`fits` of users' modules as one stack; see `train.stacked.Stack` for perceptrons.

    A place may be vacated (`keep`); the others' numbers do not change by that, nor by how many
    there are.

    Parameters
    ----------
    fits : sequence of Fit
        Of equal optimiser, batch size and loss.
    data : TrainingData
    modules : sequence of Module
        With their first weights, and of equal `alike.likeness`.
    loss : str or RowLoss
    """

    def __init__(
        self,
        fits: Sequence[Fit],
        data: TrainingData,
        modules: Sequence[torch.nn.Module],
        loss: str | RowLoss = "",
        schedules: Schedules = no_schedules,
    ) -> None:
        assert isinstance(fits[0].network, PythonNetwork), fits[0].network
        self.fits, self.data, self.modules = list(fits), data, list(modules)
        self.name = fits[0].network.reference
        self._loss, self._schedules = loss, schedules
        if len({likeness(m) for m in modules}) > 1:
            raise TrainingError(
                f"the modules of `{self.name}` have different parts for these rows, they cannot "
                "train as one stack",
                hint="SET gradbase.disabled_rules = 'fuse_fits'",
            )
        self._build()

    def _build(self) -> None:
        """The stack of the present modules, as they are."""
        missing = max(0, LEAST_PLACES - len(self.fits))
        self._places = [*self.fits, *self.fits[:1] * missing]
        modules = [*self.modules, *self.modules[:1] * missing]
        trained = {n: p for n, p in modules[0].named_parameters() if p.requires_grad}
        self.names, self.dtype = list(trained), next(iter(trained.values())).dtype
        count = len(self._places)
        self.blocks = ModuleBlocks([p.shape for p in trained.values()], count)
        self.weights = torch.zeros(self.blocks.total, dtype=self.dtype)
        self.gradients = torch.zeros_like(self.weights)
        self.update = FlatUpdate(
            self.blocks, [f.optimizer for f in self._places], self.weights, self.gradients
        )
        each = [rates_of(m) for m in modules]
        keys = [(f.seed, *r) for f, r in zip(self._places, each, strict=True)]
        self._streams = list(dict.fromkeys(keys))
        self.members = Members(count, stream_of=[self._streams.index(k) for k in keys])
        self._fill(modules)
        self._dress(modules[0], each)
        self.loss = Loss(
            self.data.task, class_weights_of(self.data, self._places, self.dtype), loss=self._loss
        )
        self._stepping = [f.optimizer.stepping for f in self._places]
        self._clips = [s.clip_norm or math.inf for s in self._stepping]

    def _fill(self, modules: Sequence[torch.nn.Module]) -> None:
        """Weights into the flat vector, everything else (buffers, what is frozen) into stacks."""
        states = [m.state_dict(keep_vars=True) for m in modules]
        self.leaves: dict[str, Tensor] = {}
        for name, view in zip(self.names, self.blocks.views(self.weights), strict=True):
            for place, state in enumerate(states):
                view[place] = state[name].detach()
            self.leaves[name] = view.detach().requires_grad_()
        tensors = [dict((*m.named_parameters(), *m.named_buffers())) for m in modules]
        self.others = {
            n: torch.stack([t[n].detach() for t in tensors])
            for n in tensors[0]
            if n not in self.leaves
        }

    def _dress(self, like: torch.nn.Module, rates: Sequence[tuple[float, ...]]) -> None:
        """A module of which every tensor is that of all members."""
        self.template = copy.deepcopy(like)
        set_rates(self.template, rates)
        for name, value in (self.leaves | self.others).items():
            path, _, own = name.rpartition(".")
            part = self.template.get_submodule(path)
            parameters, buffers = vars(part)["_parameters"], vars(part)["_buffers"]
            kind = parameters if own in parameters else buffers
            kind[own] = Stacked(value, self.members)

    def step_memory(self, limit: int) -> StepMemory | None:
        """What a step holds: about what its members hold alone."""
        first, count = self.fits[0], len(self._places)
        found = memory_of(
            self.modules[0], lambda p: make_optimizer(first.optimizer, p), first, self.data,
            limit // count,
        )  # fmt: skip
        if found is None:
            return None
        return StepMemory(found.peak * count, found.persistent * count, found.working * count,
                          (*found.reasons, "it trains in a stack"))  # fmt: skip

    # -- a unit ------------------------------------------------------------------------------------

    def run_unit(self, epoch: int, shard: int) -> list[float]:
        """Train one pass over a shard; each fit's mean loss over its rows."""
        self.begin(epoch, shard)
        total = RunningLoss(self.loss, len(self._places))
        for batch in self.data.batches(epoch, shard, self.fits[0].batch_size, self.dtype):
            z = self.gradient(batch.x, batch.y, batch.w)
            total.add(z, batch.y, batch.w)
            self._step()
        return total.mean()[: len(self.fits)]

    def begin(self, epoch: int, shard: int) -> None:
        """The next batches train, with the random numbers of this unit."""
        self.template.train()
        self.members.streams = [generator(k[0], "module", epoch, shard) for k in self._streams]

    def gradient(self, x: Tensor, y: Tensor, w: Tensor | None = None) -> Tensor:
        """Outputs of a batch [places, rows, outputs]; `gradients` are those of its mean loss."""
        with torch.enable_grad():
            z = self._call(x)
        buffer = torch.zeros(padded(z.numel()), dtype=z.dtype)[: z.numel()].view(z.shape)
        buffer.copy_(z.detach())
        outputs = buffer[:, : len(y)].clone()
        dz = self.loss.gradient(buffer, y, w)
        leaves = list(self.leaves.values())
        with torch.enable_grad():
            found = guarded(
                self.fits[0], self.name,
                lambda: torch.autograd.grad(z, leaves, dz, allow_unused=True),
            )  # fmt: skip
        for view, gradient in zip(self.blocks.views(self.gradients), found, strict=True):
            view.zero_() if gradient is None else view.copy_(gradient)
        return outputs

    def _step(self) -> None:
        """Change all weights, by the learning rates and within the norms of this step."""
        if any(s.is_scheduled for s in self._stepping):
            done, steps = self.update.steps, self.data.steps(self.fits[0].batch_size)
            pairs = zip(self._stepping, self._places, strict=True)
            own = self._schedules
            self.update.scale([factor(s, done, steps, f.epochs, own) for s, f in pairs])
        if min(self._clips) < math.inf:
            views = self.blocks.views(self.gradients)
            norms = torch.stack([v.square().flatten(1).sum(1) for v in views]).sum(0).sqrt()
            most = torch.tensor(self._clips, dtype=self.dtype)
            times = (most / (norms + CLIP_EPS)).clamp(max=1.0)
            for view in views:
                view.mul_(times.view(-1, *[1] * (view.dim() - 1)))
        self.update.step()

    def _call(self, x: Tensor) -> Tensor:
        """Outputs [places, rows with padding, outputs] of a batch that all members share."""
        self.members.rows = len(x)
        rows = F.pad(x[:, :-1], (0, 0, 0, -len(x) % ALIGNED))
        given = Stacked(rows.contiguous(), self.members, shared=True)
        z = guarded(self.fits[0], self.name, self.template, given)
        expected = [len(rows), self.data.outputs]
        if not isinstance(z, Stacked) or list(z.shape) != expected:
            found = list(z.shape) if isinstance(z, Tensor) else type(z).__name__
            raise ShapeError(f"the module of `{self.name}` must return Tensor{expected}, it "
                             f"returned {found}")  # fmt: skip
        return z.spread()

    # -- results -----------------------------------------------------------------------------------

    def outputs(self, part: str) -> tuple[Tensor, list[float]]:
        """(outputs [fits, rows, outputs], mean loss of each fit) over a part, in eval mode."""
        self.template.eval()

        def forward(batch: Batch) -> Tensor:
            return self._call(batch.x)[: len(self.fits), : len(batch.y)].clone()

        def mean_losses(z: Tensor, y: Tensor) -> list[float]:
            total = RunningLoss(Loss(self.data.task, loss=self._loss), len(z))
            total.add(z, y, None)
            return total.mean()

        return outputs_of(self.data, part, forward, mean_losses, self.dtype)

    # -- members -----------------------------------------------------------------------------------

    def state(self, place: int) -> dict[str, Tensor]:
        """Everything of one fit: parameters, buffers, optimiser slots, steps taken."""
        found: dict[str, Tensor] = {"steps": torch.tensor(self.update.steps)}
        tensors = {n: t.detach() for n, t in (self.leaves | self.others).items()}
        found |= {f"module.{n}": t[place].clone() for n, t in tensors.items()}
        for slot, flat in self.update.slots.items():
            for name, view in zip(self.names, self.blocks.views(flat), strict=True):
                found[f"slot.{slot}.{name}"] = view[place].clone()
        return found

    def load_state(self, place: int, state: dict[str, Tensor]) -> None:
        """Inverse of `state`; all fits of a stack have taken the same number of steps."""
        with torch.no_grad():
            for name, tensor in (self.leaves | self.others).items():
                tensor[place] = state[f"module.{name}"]
            for slot, flat in self.update.slots.items():
                for name, view in zip(self.names, self.blocks.views(flat), strict=True):
                    view[place] = state[f"slot.{slot}.{name}"]
        self.update.steps = int(state["steps"])
        if place == 0 and len(self._places) > len(self.fits):
            self.load_state(1, state)

    def keep(self, places: Sequence[int]) -> None:
        """Vacate all places but these."""
        states = [self.state(p) for p in places]
        self.fits = [self.fits[p] for p in places]
        self.modules = [self.modules[p] for p in places]
        self._build()
        for place, state in enumerate(states):
            self.load_state(place, state)

    def module_of(self, place: int) -> torch.nn.Module:
        """A fit's module as it is now, by itself."""
        made = copy.deepcopy(self.modules[place])
        own = {n: t.detach()[place].clone() for n, t in (self.leaves | self.others).items()}
        made.load_state_dict({n: own[n] for n in made.state_dict()})
        return made
