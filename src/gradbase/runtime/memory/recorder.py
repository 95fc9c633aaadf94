"""Writing down every operator of a running step with the storages it touches."""

from __future__ import annotations

import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode

from gradbase.runtime.memory.layers import Layers
from gradbase.runtime.memory.operators import describe, flops_of, storages_of, tensors_of

__all__ = ["Call", "Life", "Recorder"]


@dataclass(eq=False)
class Life:
    """A storage, from the call that made it until it was freed (in calls since the start).

    `outside`: it was there when a call first read it; nobody saw it being made.
    """

    id: int
    size: int
    born: int
    outside: bool
    died: int | None = None


@dataclass(eq=False)
class Call:
    """One call of an operator."""

    name: str
    layer: str
    flops: int
    bytes_moved: int
    seconds: float
    touched: list[tuple[Life, Literal["read", "write"]]]
    signature: int
    shapes: str
    backward: bool
    events: tuple[Any, Any] | None = None  # of CUDA, read when the device is done


@dataclass
class _Running:
    """A call in progress: what it reads and writes, found before it runs, and its clocks."""

    lives: dict[int, tuple[Life, bool]] = field(default_factory=dict[int, tuple[Life, bool]])
    tensors: list[Tensor] = field(default_factory=list[Tensor])
    moved: int = 0
    started: float = 0.0
    seconds: float = 0.0
    events: tuple[Any, Any] | None = None

    def start(self) -> None:
        if any(t.is_cuda for t in self.tensors):
            self.events = (
                torch.cuda.Event(enable_timing=True),
                torch.cuda.Event(enable_timing=True),
            )
            self.events[0].record()
        self.started = time.perf_counter()

    def stop(self) -> None:
        self.seconds = time.perf_counter() - self.started
        if self.events is not None:
            self.events[1].record()


class Recorder(TorchDispatchMode):
    """Dispatch mode that sees every operator below autograd: forward, backward, optimiser.

    Calls of views are left out: they touch no memory.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.lives: list[Life] = []
        self.layers = Layers()
        self._alive: dict[int, tuple[Life, weakref.ref[UntypedStorage]]] = {}
        self._clock = 0  # calls begun
        self._signatures: dict[Any, int] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run the operator and write it down."""
        kwargs = kwargs or {}
        described = describe(func)
        if described.view:
            return func(*args, **kwargs)
        running = self._reach(described.writes, args, kwargs)
        index = len(self.calls)
        self._clock = index + 1
        running.start()
        result = self.run(func, args, kwargs)
        running.stop()
        made = self._made(result, running, index)
        changes = made or any(written for _, written in running.lives.values())
        if not changes and tensors_of(result, []):  # a view that is not declared as one
            self._clock = index
            return result
        self._write(func, running, result, flops_of(func, args, kwargs, result))
        return result

    def run(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call the operator."""
        return func(*args, **kwargs)

    def finish(self) -> None:
        """Read the clocks of the device and let go of the storages."""
        for call in self.calls:
            if call.events is not None:
                call.events[1].synchronize()
                call.seconds = call.events[0].elapsed_time(call.events[1]) / 1e3
                call.events = None
        self._alive.clear()

    def _reach(
        self, writes: frozenset[int | str], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> _Running:
        running = _Running()
        for place, value in (*enumerate(args), *kwargs.items()):
            written = place in writes
            for tensor in tensors_of(value, []):
                running.tensors.append(tensor)
                running.moved += _touched_bytes(tensor) * (2 if written else 1)
                for storage in storages_of(tensor):
                    life = self._life(storage, outside=True)
                    before = running.lives.get(life.id, (life, False))[1]
                    running.lives[life.id] = (life, written or before)
        return running

    def _life(self, storage: UntypedStorage, *, outside: bool) -> Life:
        key = storage._cdata
        found = self._alive.get(key)
        if found is not None:
            return found[0]
        born = len(self.calls)
        life = Life(len(self.lives), storage.nbytes(), born, outside)
        self.lives.append(life)
        self._watch(storage, life)
        return life

    def _watch(self, storage: UntypedStorage, life: Life) -> None:
        key = storage._cdata

        def freed(_: Any) -> None:
            life.died = self._clock
            self._alive.pop(key, None)

        self._alive[key] = (life, weakref.ref(storage, freed))

    def _made(self, result: Any, running: _Running, index: int) -> list[Life]:
        """Storages that were not there before the call, and those it has changed the size of."""
        made: list[Life] = []
        for tensor in tensors_of(result, []):
            for storage in storages_of(tensor):
                if storage._cdata not in self._alive:
                    made.append(self._life(storage, outside=False))
                    running.moved += _touched_bytes(tensor)
        for tensor in running.tensors:
            for storage in storages_of(tensor):
                life = self._life(storage, outside=True)
                if life.size != storage.nbytes():  # resized in place: as if freed and made anew
                    life.died = index + 1
                    grown = Life(len(self.lives), storage.nbytes(), index, outside=False)
                    self.lives.append(grown)
                    self._watch(storage, grown)
                    made.append(grown)
        running.lives |= {life.id: (life, True) for life in made}
        return made

    def _write(self, func: Any, running: _Running, result: Any, flops: int) -> None:
        index = len(self.calls)
        tensors = (*running.tensors, *tensors_of(result, []))
        shapes = " ".join(str(list(t.shape)) for t in tensors)
        touched: list[tuple[Life, Literal["read", "write"]]] = []
        for life, written in running.lives.values():
            if life.born < index or life.outside:
                touched.append((life, "read"))
            if written:
                touched.append((life, "write"))
        node: Any = torch._C._current_autograd_node()
        self.calls.append(
            Call(
                name=describe(func).name,
                layer=self.layers.current(),
                flops=flops,
                bytes_moved=running.moved,
                seconds=running.seconds,
                touched=touched,
                signature=self._signatures.setdefault((func, shapes), len(self._signatures)),
                shapes=shapes,
                backward=node is not None,
                events=running.events,
            )
        )


def _touched_bytes(tensor: Tensor) -> int:
    """Bytes of the elements, at most those that are stored (an expanded tensor has fewer)."""
    size = tensor.numel() * tensor.element_size()
    stored = sum(s.nbytes() for s in storages_of(tensor))
    return min(size, stored) if stored else size
