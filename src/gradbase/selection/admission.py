"""Whether a group of trials may train in the memory there is, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradbase.errors import ResourceError
from gradbase.ir.learning import Fit, FusedFit, Mlp
from gradbase.optimizer.cost_memory import stack_bytes
from gradbase.optimizer.quantities import quantity
from gradbase.runtime.train.networks import shape_sizes

if TYPE_CHECKING:
    from gradbase.runtime.train.data import TrainingData
    from gradbase.runtime.train.step_memory import StepMemory


@dataclass(frozen=True)
class Admission:
    """What a group needs.

    Parameters
    ----------
    size_bytes : int
        To be leased while it trains.
    parts : int
        Into how many parts each batch is cut, gradients accumulated over them (`tolerance`).
    split : bool
        The group is too large: its fits train in two groups (`bitwise`).
    swap : bool
        What a step does not need at the moment waits in a file (`bitwise`, and slow).
    limit : int, bytes
        What there is.
    """

    size_bytes: int
    parts: int = 1
    split: bool = False
    swap: bool = False
    limit: int = 0


def admit_stack(item: Fit | FusedFit, data: TrainingData, limit: int) -> Admission:
    """How perceptrons train within `limit` bytes.

    Raises
    ------
    ResourceError
        Not at all; says what is needed and what there is.
    """
    fits: tuple[Fit, ...] = item.fits if isinstance(item, FusedFit) else (item,)
    first = fits[0]
    assert isinstance(first.network, Mlp), first.network
    sizes, embedded = shape_sizes(first.network, data)
    size = stack_bytes(sizes, fits, first.batch_size, embedded=embedded)
    if size <= limit or len(fits) > 1:
        return Admission(size, split=size > limit)
    raise _refused(first, size, limit, "a smaller batch_size or network needs less")


def admit_module(fit: Fit, memory: StepMemory | None, limit: int, *, bitwise: bool) -> Admission:
    """How a user's module trains within `limit` bytes; errors as `admit_stack`.

    A module of which nothing is known trains, and keeps no other out.
    """
    if memory is None or memory.peak <= limit:
        return Admission(memory.peak if memory else 0)
    return _within(fit, memory, limit, bitwise=bitwise)


def admit_modules(item: FusedFit, memory: StepMemory | None, limit: int) -> Admission:
    """How users' modules train as a stack; errors as `admit_stack`."""
    if memory is None or memory.peak <= limit:
        return Admission(memory.peak if memory else 0)
    first, *others = item.fits
    if others:
        return Admission(memory.peak, split=True)
    hint = "SET gradbase.disabled_rules = 'fuse_fits', so that it trains alone with its batch cut"
    raise _refused(first, memory.peak, limit, hint)


def _within(fit: Fit, memory: StepMemory, limit: int, *, bitwise: bool) -> Admission:
    """Cutting the batch costs little; where it may not be, or does not help, storages wait."""
    against = [*memory.reasons, *(["gradbase.exactness is bitwise"] if bitwise else [])]
    parts = memory.parts(limit, fit.batch_size)
    if parts is not None and not against:
        return Admission(limit, parts)
    least = memory.persistent + memory.working
    if least <= limit:
        return Admission(limit, swap=True, limit=limit)
    why = f"its batch cannot be cut ({' and '.join(against)}), and" if against else "even so"
    hint = f"{why} {quantity(least, 'B')} must be there at once for its largest operator"
    raise _refused(fit, memory.peak, limit, hint)


def _refused(fit: Fit, size: int, limit: int, hint: str) -> ResourceError:
    return ResourceError(
        f"trial {fit.trial} needs {size:,} bytes in a step of {fit.batch_size} rows, "
        f"{limit:,} may be used",
        hint=f"{hint}; or SET gradbase.memory_limit to a larger size",
    )
