"""`arena`: a training step run inside one planned allocation."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode

from gradbase.errors import BindError
from gradbase.resources.lifetimes import Trace
from gradbase.resources.placement import Plan, verify
from gradbase.resources.placement import plan as make_plan
from gradbase.resources.sizes import readable
from gradbase.runtime.memory.operators import Described, describe, storages_of, tensors_of
from gradbase.runtime.memory.outs import out_variant
from gradbase.runtime.memory.slots import Slots
from gradbase.runtime.memory.tracing import trace as take_trace

__all__ = ["Arena", "ArenaReport", "arena"]

_ALIGNMENT = {"cpu": 64, "cuda": 512}  # of PyTorch's own allocators


@dataclass(repr=False)
class ArenaReport:
    """What ran inside the allocation, over all calls.

    Parameters
    ----------
    height, lower_bound : int, bytes
        Of the plan.
    top : int, bytes
        Highest end of a storage that lay in it.
    calls, operators : int
        Of the step, and operators in them (views are none).
    inside : int
        Storages that lay at their planned place: `written` there by the operator, or `copied` there
        from where it had put them.
    outside : int
        Storages that operators made and that have no place, or are larger than planned.
    displaced : int
        Those whose place was taken by a storage that still lived: the plan does not hold.
    notes : list of str
    """

    height: int
    lower_bound: int
    top: int = 0
    calls: int = 0
    operators: int = 0
    written: int = 0
    copied: int = 0
    outside: int = 0
    displaced: int = 0
    notes: list[str] = field(default_factory=list[str])

    @property
    def inside(self) -> int:
        """Storages that lay at their planned place."""
        return self.written + self.copied

    def note(self, text: str) -> None:
        """Add a note, once."""
        if text not in self.notes:
            self.notes.append(text)

    def __repr__(self) -> str:
        lines = [
            f"Arena of {readable(self.height)}, used up to {readable(self.top)}",
            f"  lower bound  {readable(self.lower_bound)}",
            f"  calls        {self.calls}, {self.operators:,} operators",
            f"  inside       {self.inside:,} storages, {self.copied:,} of them copied there",
            f"  outside      {self.outside:,}, {self.displaced:,} of them as their place was taken",
            *(f"  note: {note}" for note in self.notes),
        ]
        return "\n".join(lines)


class Arena:
    """A step whose transient storages lie in one allocation; call it to run the step.

    Parameters
    ----------
    trace : Trace
    plan : Plan
    report : ArenaReport
    """

    def __init__(self, step: Callable[[], Any], traced: Trace, placed: Plan, device: str) -> None:
        self.trace, self.plan = traced, placed
        self.report = ArenaReport(placed.height, placed.lower_bound)
        self._step, self._device = step, device
        self._slots = Slots(traced, placed, device)
        self._geometry: dict[Any, list[tuple[Any, ...]]] = {}

    def __call__(self) -> Any:
        """Run the step once and return what it returns.

        What it leaves (gradients, the loss) stays in the allocation as long as it lives, as after
        an error in the step.
        """
        self.report.calls += 1
        replay = _Replay(self._slots, self.trace, self.report, self._device, self._geometry)
        with replay:
            result = self._step()
        if replay.position and replay.follows:
            replay.lost(f"it ended before operator {replay.position}")
        return result


def arena(
    step: Callable[[], Any],
    trace: Trace | None = None,
    plan: Plan | None = None,
    *,
    device: str | None = None,
    time_limit: float = 10.0,
) -> Arena:
    """Run a training step inside one planned allocation, bit by bit as it runs without.

    Every transient storage that an operator makes lies at its planned offset. Weights, optimiser
    state and inputs stay where they are, and so does what operators allocate inside themselves. An
    operator with an overload for it writes into its place (from the second call on, when the shapes
    are known); the results of others are copied there. Where a step does otherwise than traced
    (shapes that depend on data, a place whose storage still lives), storages are allocated as usual
    and the report says so.

    Parameters
    ----------
    step : callable without arguments
        One iteration: the user's own, or one exported as a graph of ATen operators.
    trace : Trace, optional
        Of `step`. Without it the step is traced: it runs three times.
    plan : Plan, optional
        Of that trace, with ``alignment=64`` (512 on CUDA). Without it one is made.
    device : 'cpu' or 'cuda', optional
        Whose storages are placed. The default is 'cuda' where CUDA is in use.
    time_limit : float, seconds
        For making a plan.

    Raises
    ------
    BindError
        No function, a plan without its trace, or one whose offsets are not aligned.
    DataError
        Storages of the plan overlap, or the step calls no tensor operator.

    Source: SmartPool (arXiv 1903.06631) for one planned pool; replay by operator is own.
    """
    kind = device or ("cuda" if torch.cuda.is_initialized() else "cpu")
    if kind not in _ALIGNMENT:
        raise BindError(f"an arena is for 'cpu' or 'cuda', found device={device!r}")
    if not callable(step) or inspect.isgeneratorfunction(step):
        raise BindError(f"an arena runs a function that is one iteration, found {step!r}")
    if plan is not None and trace is None:
        raise BindError("a plan alone does not say what makes which storage", hint="give its trace")
    traced = trace or take_trace(step, marks=True)
    placed = plan or make_plan(traced, time_limit=time_limit, alignment=_ALIGNMENT[kind])
    _check(placed, _ALIGNMENT[kind])
    return Arena(step, traced, placed, kind)


def _check(placed: Plan, alignment: int) -> None:
    if placed.alignment % alignment:
        raise BindError(
            f"the plan's offsets are multiples of {placed.alignment}, operators expect {alignment}",
            hint=f"plan(trace, alignment={alignment})",
        )
    verify(placed)


class _Replay(TorchDispatchMode):
    """Follows one call of the step along its trace and puts results in their places."""

    def __init__(
        self,
        slots: Slots,
        traced: Trace,
        report: ArenaReport,
        device: str,
        geometry: dict[Any, list[tuple[Any, ...]]],
    ) -> None:
        super().__init__()
        self.position, self.follows = 0, True
        self._slots, self._trace, self._report, self._device = slots, traced, report, device
        self._geometry = geometry  # of results, by operator and arguments: learnt as they come
        self._iteration = report.calls

    def lost(self, why: str) -> None:
        """From here on the step is not the one that was planned."""
        self.follows = False
        self._report.note(f"call {self._report.calls} left the trace, the rest lay outside: {why}")

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operator so that its results lie where they are planned."""
        kwargs = kwargs or {}
        described = describe(func)
        if described.view:
            return func(*args, **kwargs)
        known = {
            s._cdata for t in tensors_of([*args, *kwargs.values()], []) for s in storages_of(t)
        }
        key = _key(func, args, kwargs)
        result = self._in_place(func, key, args, kwargs)
        if result is None:
            result = func(*args, **kwargs)
            made = _new(result, known)
            if not made and not _writes(described, args, kwargs) and tensors_of(result, []):
                return result  # a view that is not declared as one
            self._expect(described.name)
            self._place(key, made)
        self._report.operators += 1
        self._report.top = self._slots.top
        self.position += 1
        if self.position == self._trace.period:
            self.position, self._iteration = 0, self._iteration + 1
        return result

    def _expect(self, name: str) -> bool:
        """Whether the trace has this operator here."""
        expected = self._trace.operations[self.position].name
        if self.follows and expected != name:
            self.lost(f"operator {self.position} is {name}, {expected} was traced")
        return self.follows

    def _in_place(
        self, func: Any, key: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any | None:
        """The results of an operator that wrote them into their places; None: it could not."""
        variant = out_variant(func, self._device)
        geometry = self._geometry.get(key)
        if variant is None or geometry is None or not self._expect(describe(func).name):
            return None
        planned = self._slots.planned(self.position, self._iteration)
        if len(planned) < len(geometry):
            return None
        windows: list[UntypedStorage] = []
        for (room, offset), (size, *_) in zip(planned, geometry, strict=False):
            if offset is None or size > room or not self._slots.free(offset, size):
                return None  # the windows taken so far are free again
            windows.append(self._slots.window(offset, size))
        operator, names = variant
        outs = [_tensor(w, *g[1:]) for w, g in zip(windows, geometry, strict=True)]
        wanted = {a.name for a in operator._schema.arguments}
        given = {k: v for k, v in kwargs.items() if k in wanted}
        operator(*args, **given, **dict(zip(names, outs, strict=True)))
        self._report.written += len(outs)
        return tuple(outs) if len(outs) > 1 else outs[0]

    def _place(self, key: Any, made: list[tuple[UntypedStorage, list[Tensor]]]) -> None:
        """Move what an operator has made to its places."""
        single = all(len(tensors) == 1 for _, tensors in made)
        if single and all(s.device.type == self._device for s, _ in made):
            self._geometry[key] = [_geometry(storage, t[0]) for storage, t in made]
        planned = self._slots.planned(self.position, self._iteration) if self.follows else []
        for j, (storage, tensors) in enumerate(made):
            size = storage.nbytes()
            room, offset = planned[j] if j < len(planned) else (0, None)
            if not size:
                continue
            if storage.device.type != self._device or offset is None or size > room:
                self._outside(size, room)
            elif not self._slots.free(offset, size):
                self._report.displaced += 1
                self._outside(size, room)
            else:
                _move(tensors, self._slots.window(offset, size), storage)
                self._report.copied += 1

    def _outside(self, size: int, room: int) -> None:
        self._report.outside += 1
        if self.follows and size > room:
            name = self._trace.operations[self.position].name
            self._report.note(
                f"operator {self.position} ({name}) made {size:,} bytes, planned were {room:,}: "
                "they lay outside"
            )


def _new(result: Any, known: set[int]) -> list[tuple[UntypedStorage, list[Tensor]]]:
    """Storages of the results that no argument has, each with its tensors, in order."""
    found: dict[int, tuple[UntypedStorage, list[Tensor]]] = {}
    for tensor in tensors_of(result, []):
        for storage in storages_of(tensor):
            if storage._cdata not in known:
                tensors = found.setdefault(storage._cdata, (storage, []))[1]
                if torch._C._has_storage(tensor):
                    tensors.append(tensor)
    return list(found.values())


def _writes(described: Described, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    places = (*enumerate(args), *kwargs.items())
    return any(place in described.writes and tensors_of(value, []) for place, value in places)


def _move(tensors: list[Tensor], window: UntypedStorage, storage: UntypedStorage) -> None:
    """Copy a storage to a window, and let its tensors be of that."""
    window.copy_(storage)
    for t in tensors:
        t.set_(window, t.storage_offset(), t.size(), t.stride())  # type: ignore[reportCallIssue]


def _geometry(storage: UntypedStorage, tensor: Tensor) -> tuple[Any, ...]:
    layout = (tensor.storage_offset(), tuple(tensor.size()), tuple(tensor.stride()))
    return (storage.nbytes(), tensor.dtype, *layout)


def _tensor(window: UntypedStorage, dtype: torch.dtype, *layout: Any) -> Tensor:
    return torch.empty(0, dtype=dtype, device=window.device).set_(window, *layout)  # type: ignore[reportCallIssue]


def _key(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """An operator with all that the layout of its results rests on."""
    found: list[Any] = [func]
    for place, value in (*enumerate(args), *sorted(kwargs.items())):
        tensors = tensors_of(value, [])
        found += [(place, t.dtype, t.shape, t.stride()) for t in tensors] or [(place, str(value))]
    return tuple(found)
