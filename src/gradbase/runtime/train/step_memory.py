"""What a step of training a user's module will hold, before the first one is taken."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from torch._subclasses.fake_tensor import FakeTensorMode

    from gradbase.resources.lifetimes import Trace

_BATCH_STATISTICS = re.compile(r"batch_norm")
_HIDES = "mkldnn_rnn"
"""Operators with a workspace that has no size without values."""
_LEAST = 8
_FEW = (4, 8)
"""Rows of the batches of `bounded_memory`."""
_COPIES = 8
"""Of the weights: themselves, gradients, slots of the optimiser, what it computes with."""
_FAR = 4
_RANDOM = re.compile(r"dropout|bernoulli|rand|normal_|uniform_|multinomial|rrelu")

MakeOptimizer = Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]


@dataclass(frozen=True)
class StepMemory:
    """Bytes of tensors in a step, and what stands against cutting its batch.

    Parameters
    ----------
    peak, persistent, working : int, bytes
        The most that is held at once; of it what lives between steps (weights, buffers, optimiser
        slots, the batch); the most that a single operator touches.
    reasons : tuple of str
        Why accumulating gradients over parts of a batch would change more than rounding.
    """

    peak: int
    persistent: int
    working: int
    reasons: tuple[str, ...] = ()

    def parts(self, limit: int, batch: int) -> int | None:
        """Into how many parts a batch is cut so that a step fits `limit` bytes; None: no number.

        What is not persistent grows with the rows.
        """
        room = limit - self.persistent
        if room <= 0:
            return None
        found = -(-(self.peak - self.persistent) // room)
        return found if found <= batch else None


def module_memory(
    module: torch.nn.Module, optimizer: MakeOptimizer, *, inputs: int, task: str, batch: int
) -> StepMemory | None:
    """A step of `module`, traced without computing anything.

    A copy of it runs on tensors that have shapes and no values, so that takes no memory and little
    time. Recurrent layers keep a workspace of unknown size: these take real steps of a quarter and
    of half the batch besides. None where it fails: the module looks at values.

    Source: own; sizes and lifetimes as in `gradbase.memory.trace`.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    from gradbase.runtime.memory.tracing import trace

    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            copied = _without_values(module, mode)
            found = trace(_step(copied, optimizer, torch.zeros(batch, inputs), task))
        peak = found.peak
        if any(_HIDES in o.name for o in found.operations) and batch >= _LEAST:
            peak = max(peak, _from_smaller(module, optimizer, inputs, task, batch))
    except Exception:  # noqa: BLE001 (a user's module may raise anything without values)
        return None
    return StepMemory(peak, found.persistent_bytes, found.working_set, _reasons(found))


class _Sizes(TorchDispatchMode):
    """Adds up what all operators return, as if nothing was freed."""

    total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else it would be imported

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        given = {_memory(t) for t in _tensors((args, kwargs))}
        self.total += sum(t.nbytes for t in _tensors(found) if _memory(t) not in given)
        return found


def _tensors(values: Any) -> list[torch.Tensor]:
    return [v for v in pytree.tree_leaves(values) if isinstance(v, torch.Tensor)]


def _memory(value: torch.Tensor) -> int:
    return value.untyped_storage().data_ptr()


def bounded_memory(
    module: torch.nn.Module, *, inputs: int, task: str, batch: int, limit: int
) -> StepMemory | None:
    """A step of `module` for sure, where that is far below `limit` bytes; None: look closer.

    From the gradients of two small batches: unlike `module_memory` it loads none of what torch
    traces with. Draws from torch's generator.

    Source: own.
    """
    weights = sum(t.nbytes for t in (*module.parameters(), *module.buffers()))
    if weights * _COPIES > limit:
        return None
    try:
        small, large = (_all_results(module, inputs, task, rows) for rows in _FEW)
    except Exception:  # noqa: BLE001 (a user's module may raise anything on other rows)
        return None
    each = max(large - small, 0) / (_FEW[1] - _FEW[0])
    found = int(small + each * batch) + weights * _COPIES
    return StepMemory(found, 0, 0) if found * _FAR <= limit else None


def _all_results(module: torch.nn.Module, inputs: int, task: str, rows: int) -> int:
    copied, x = copy.deepcopy(module).train(), torch.zeros(rows, inputs)
    with torch.enable_grad(), _Sizes() as sizes:
        _gradients(copied, x, _targets(x, task), task)
    return sizes.total


def _from_smaller(
    module: torch.nn.Module, optimizer: MakeOptimizer, inputs: int, task: str, batch: int
) -> int:
    """The peak along the line through those of a quarter and of half the batch, really taken."""
    from gradbase.runtime.memory.tracing import trace

    sizes = (batch // 4, batch // 2)
    peaks: list[int] = []
    for size in sizes:
        step = _step(copy.deepcopy(module), optimizer, torch.zeros(size, inputs), task)
        peaks.append(trace(step).peak)
    slope = (peaks[1] - peaks[0]) / (sizes[1] - sizes[0])
    return int(peaks[1] + slope * (batch - sizes[1]))


def _without_values(module: torch.nn.Module, mode: FakeTensorMode) -> torch.nn.Module:
    """A copy whose parameters and buffers have shapes only."""
    known: dict[int, object] = {}
    for parameter in module.parameters():
        empty = mode.from_tensor(parameter.detach())
        known[id(parameter)] = torch.nn.Parameter(empty, parameter.requires_grad)
    for buffer in module.buffers():
        known[id(buffer)] = mode.from_tensor(buffer)
    return copy.deepcopy(module, known)


def _step(
    module: torch.nn.Module, optimizer: MakeOptimizer, x: torch.Tensor, task: str
) -> Callable[[], None]:
    module.train()
    update = optimizer([p for p in module.parameters() if p.requires_grad])
    y = _targets(x, task)

    def step() -> None:
        update.zero_grad(set_to_none=True)
        _gradients(module, x, y, task)
        update.step()

    return step


def _targets(x: torch.Tensor, task: str) -> torch.Tensor:
    return torch.zeros(len(x), dtype=torch.int64 if task == "multiclass" else torch.float32)


def _gradients(module: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, task: str) -> None:
    z = module(x)
    if task == "multiclass":
        each = F.cross_entropy(z, y, reduction="none")
    elif task == "binary":
        each = F.binary_cross_entropy_with_logits(z[:, 0], y, reduction="none")
    else:
        each = (z[:, 0] - y).square()
    each.mean().backward()


def _reasons(found: Trace) -> tuple[str, ...]:
    names = {o.name for o in found.operations}
    reasons: list[str] = []
    if any(_BATCH_STATISTICS.search(n) for n in names):
        reasons.append("it normalises by statistics of the whole batch")
    if any(_RANDOM.search(n) for n in names):
        reasons.append("it draws random numbers (dropout), which would fall differently")
    return tuple(reasons)
