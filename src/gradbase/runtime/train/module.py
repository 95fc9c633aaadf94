"""Any ``torch.nn.Module`` of a user: trained by autograd and torch.optim, one by itself."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from gradbase.errors import GradbaseError, ShapeError, TrainingError
from gradbase.ir.learning import Fit, Optimizer, PythonNetwork
from gradbase.ir.stepping import OWN_LOSS
from gradbase.runtime.memory.budget import budget
from gradbase.runtime.train.data import Batch, TrainingData
from gradbase.runtime.train.evaluating import outputs_of
from gradbase.runtime.train.keys import derive
from gradbase.runtime.train.losses import RowLoss, row_losses
from gradbase.runtime.train.own_draws import OwnDraws, generator_lock
from gradbase.runtime.train.schedules import Schedules, factor, no_schedules
from gradbase.runtime.train.step_memory import StepMemory, bounded_memory, module_memory

_FRAMES = 6


def make_optimizer(spec: Optimizer, parameters: Sequence[Tensor]) -> torch.optim.Optimizer:
    """torch's optimiser of that name, with torch's defaults for what `spec` does not say."""
    rate: dict[str, Any] = {"lr": spec.learn_rate, "weight_decay": spec.l2_reg}
    match spec.name:
        case "sgd":
            return torch.optim.SGD(parameters, momentum=spec.momentum, **rate)
        case "adam":
            return torch.optim.Adam(parameters, **rate)
        case "adamw":
            return torch.optim.AdamW(parameters, **rate)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, momentum=spec.momentum, **rate)
    return torch.optim.Adagrad(parameters, **rate)


def shrink(spec: Optimizer, optimizer: torch.optim.Optimizer) -> None:
    """The proximal step of `l1_reg` (see `updates.Proximal`); vectors count as biases."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.dim() < 2 or parameter.grad is None:
                continue
            reach = torch.as_tensor(group["lr"] * spec.l1_reg, dtype=parameter.dtype)
            if spec.name == "adagrad":
                reach = reach / optimizer.state[parameter]["sum"].sqrt().add_(group["eps"])
            parameter.sub_(torch.clamp(parameter, -reach, reach))


class OwnOptimizers(Protocol):
    """Users' optimisers, by reference."""

    def optimizer(
        self, reference: str, spec: Optimizer, parameters: Sequence[Tensor]
    ) -> torch.optim.Optimizer:
        """An optimiser of `parameters`."""
        ...


def guarded(fit: Fit, name: str, function: Any, *args: Any) -> Any:
    """Call the code of the module `name`; what it raises becomes an error of its trial."""
    try:
        return function(*args)
    except GradbaseError:
        raise
    except Exception as error:
        frames = "".join(traceback.format_exception(error, limit=-_FRAMES))
        raise TrainingError(
            f"the module of `{name}` raised {type(error).__name__}: {error}",
            at=f"trial {fit.trial}\n{frames.rstrip()}",
        ) from error


def memory_of(
    module: torch.nn.Module,
    optimizer: Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer],
    fit: Fit,
    data: TrainingData,
    limit: int,
) -> StepMemory | None:
    """What a step of `module` holds; exactly only where that may be near `limit` bytes."""
    sizes: dict[str, Any] = {
        "inputs": data.inputs.width, "task": data.task, "batch": fit.batch_size
    }  # fmt: skip
    with generator_lock, torch.random.fork_rng(devices=[]):
        found = bounded_memory(module, **sizes, limit=limit)
    return found or module_memory(module, optimizer, **sizes)


class ModuleFit:
    """One fit of a user's module, called with Tensor[B, inputs] float32 -> Tensor[B, outputs].

    What the module draws from torch's generator (dropout, …) comes from the stream (seed, 'module',
    epoch, shard), whatever else runs in the process.

    Parameters
    ----------
    fit : Fit
    data : TrainingData
    module : torch.nn.Module
        With its initial weights.
    loss : str or RowLoss
        Another than the task's, by name or as a function.
    own : OwnOptimizers, optional
    schedules : Schedules
        Users' own.

    Attributes
    ----------
    parts : int
        Into how many parts a batch is cut; gradients are accumulated over them.
    limit : (int, Path) or None
        Bytes of tensor storage while it trains, and the folder where the rest waits.
    """

    def __init__(
        self,
        fit: Fit,
        data: TrainingData,
        module: torch.nn.Module,
        loss: str | RowLoss = "",
        *,
        own: OwnOptimizers | None = None,
        schedules: Schedules = no_schedules,
    ) -> None:
        assert isinstance(fit.network, PythonNetwork), fit.network
        self.fit, self.data, self.module = fit, data, module
        self.parts, self.loss = 1, loss
        self.steps = 0
        self.limit: tuple[int, Path] | None = None
        self.name = fit.network.reference
        parameters = [p for p in module.parameters() if p.requires_grad]
        if not parameters:
            raise TrainingError(f"the module of `{self.name}` has no parameter to train")
        self._own, self._schedules = own, schedules
        self.optimizer = self._optimizer_of(parameters)
        self.draws = OwnDraws(module)
        weights = data.class_weights(fit)
        self._class_weights = torch.tensor(weights) if weights else None

    def _optimizer_of(self, parameters: Sequence[Tensor]) -> torch.optim.Optimizer:
        spec = self.fit.optimizer
        if not spec.name.startswith(OWN_LOSS):
            return make_optimizer(spec, parameters)
        assert self._own is not None, spec
        return self._own.optimizer(spec.name.removeprefix(OWN_LOSS), spec, parameters)

    def step_memory(self, limit: int) -> StepMemory | None:
        """See `memory_of`."""
        return memory_of(self.module, self._optimizer_of, self.fit, self.data, limit)

    def run_unit(self, epoch: int, shard: int) -> list[float]:
        """Train one pass over a shard; the mean loss over its rows."""
        self.module.train()
        self.draws.start(derive(self.fit.seed, "module", epoch, shard))
        if self.limit is None:
            return self._steps(epoch, shard)
        with budget(*self.limit, device="cpu"):
            return self._steps(epoch, shard)

    def _steps(self, epoch: int, shard: int) -> list[float]:
        total, rows = torch.zeros((), dtype=torch.float64), 0
        for batch in self.data.batches(epoch, shard, self.fit.batch_size):
            self.optimizer.zero_grad(set_to_none=True)
            loss = self._gradients(batch)
            self._step()
            total += loss.double() * len(batch.y)
            rows += len(batch.y)
        return [float(total) / max(rows, 1)]

    def _step(self) -> None:
        """Change the weights, by the learning rate and within the norm of this step."""
        own, stepping = self.fit.optimizer, self.fit.optimizer.stepping
        if stepping.is_scheduled:
            steps = self.data.steps(self.fit.batch_size)
            times = factor(stepping, self.steps, steps, self.fit.epochs, self._schedules)
            for group in self.optimizer.param_groups:
                group["lr"] = own.learn_rate * times
        if stepping.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), stepping.clip_norm)
        guarded(self.fit, self.name, self.optimizer.step)
        self.steps += 1
        if own.l1_reg:
            shrink(own, self.optimizer)

    def _gradients(self, batch: Batch) -> Tensor:
        """Add up the gradients of a batch, part by part; its mean loss."""
        total = torch.zeros(())
        for part in batch.split(-(-len(batch.y) // self.parts)):
            total += self.backward(part, len(part.y) / len(batch.y))
        return total

    def backward(self, part: Batch, share: float) -> Tensor:
        """Add the gradients of a part of a batch; its share of the batch's mean loss."""
        with torch.enable_grad():
            loss = self._loss(self._call(part.x), part) * share
            guarded(self.fit, self.name, loss.backward)
        return loss.detach()

    def outputs(self, part: str) -> tuple[Tensor, list[float]]:
        """(outputs [1, rows, outputs], mean loss) over a part of the rows, in eval mode."""
        self.module.eval()
        with torch.no_grad():
            return outputs_of(
                self.data, part, lambda b: self._call(b.x)[None],
                lambda z, y: [float(self._row_losses(z[0], y).double().mean())],
            )  # fmt: skip

    def _row_losses(self, z: Tensor, y: Tensor) -> Tensor:
        return row_losses(self.data.task, z, y, loss=self.loss)

    def state(self, place: int) -> dict[str, Tensor]:
        """Everything: parameters, buffers, optimiser slots, steps taken.

        Units begin with their own stream of random numbers.
        """
        assert place == 0
        found: dict[str, Tensor] = {"steps": torch.tensor(self.steps)}
        found |= {f"module.{n}": t.detach().clone() for n, t in self.module.state_dict().items()}
        for index, slots in self.optimizer.state_dict()["state"].items():
            for name, value in slots.items():
                kind = "slot" if isinstance(value, Tensor) else "number"
                if value is not None:
                    found[f"{kind}.{index}.{name}"] = torch.as_tensor(value).clone()
        return found

    def load_state(self, place: int, state: dict[str, Tensor]) -> None:
        """Inverse of `state`."""
        assert place == 0
        module = {n[len("module.") :]: t for n, t in state.items() if n.startswith("module.")}
        self.module.load_state_dict(module)
        slots: dict[int, dict[str, Any]] = {}
        for key, value in state.items():
            kind, _, rest = key.partition(".")
            if kind in ("slot", "number"):
                index, name = rest.split(".", 1)
                own = value.clone() if kind == "slot" else value.item()
                slots.setdefault(int(index), {})[name] = own
        self.steps = int(state["steps"])
        whole = self.optimizer.state_dict()
        self.optimizer.load_state_dict({**whole, "state": slots})

    def keep(self, places: list[int]) -> None:
        """A fit by itself is kept as it is."""
        assert places in ([0], [])

    def module_of(self, place: int) -> torch.nn.Module:
        """The module itself."""
        assert place == 0
        return self.module

    def _loss(self, z: Tensor, batch: Batch) -> Tensor:
        if not self.loss:
            return self._usual_loss(z, batch)
        weights = self._class_weights
        found = row_losses(self.data.task, z, batch.y, weights, batch.w, loss=self.loss)
        return found.mean()

    def _usual_loss(self, z: Tensor, batch: Batch) -> Tensor:
        y = batch.y
        if self.data.task == "multiclass":
            each = F.cross_entropy(z, y, reduction="none")
        elif self.data.task == "binary":
            each = F.binary_cross_entropy_with_logits(z[:, 0], y, reduction="none")
        else:
            each = (z[:, 0] - y).square()
        if self._class_weights is not None:
            each = each * self._class_weights[y.long()]
        return (each if batch.w is None else each * batch.w).mean()

    def _call(self, x: Tensor) -> Tensor:
        with self.draws.used():
            z = guarded(self.fit, self.name, self.module, x[:, :-1].contiguous())
        expected = [len(x), self.data.outputs]
        found = list(z.shape) if isinstance(z, Tensor) else type(z).__name__
        if found != expected:
            raise ShapeError(
                f"the module of `{self.name}` must return Tensor{expected}, it returned {found}",
                at=f"trial {self.fit.trial}",
                hint="end it with torch.nn.Linear(…, config['n_outputs'])",
            )
        return z
