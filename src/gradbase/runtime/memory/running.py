"""A step that runs under a budget, seen operator by operator."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from gradbase.errors import ResourceError
from gradbase.resources.sizes import readable
from gradbase.runtime.memory.following import SURE, Follower
from gradbase.runtime.memory.foreseen import result_bytes
from gradbase.runtime.memory.operators import Described, describe, storages_of, tensors_of
from gradbase.runtime.memory.orders import Call, Order, Orders
from gradbase.runtime.memory.pager import Block, Pager
from gradbase.runtime.memory.report import Report
from gradbase.runtime.memory.resident import Resident
from gradbase.runtime.memory.schedule import Moves, moves_of

__all__ = ["Running"]

_LEARNT = {"cpu": Orders(), "cuda": Orders()}
_UNKNOWN = 1e9  # a rank after every known use, before those that are never used again


class Running(TorchDispatchMode):
    """Sees every operator below autograd and lets the pager prepare it."""

    def __init__(self, report: Report, pager: Pager, kind: str) -> None:
        super().__init__()
        self.report, self.pager, self.kind = report, pager, kind
        self.follower = Follower(_LEARNT[kind])
        self._resident = Resident() if kind == "cpu" else None
        self._backward = False  # this iteration has begun its backward pass
        self._working_set = 0
        self._planned: Order | None = None
        self._moves: Moves = {}
        self._events: dict[int, tuple[Any, Any]] = {}
        self._too_small = False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Make room, run the operator, watch what it made."""
        kwargs = kwargs or {}
        described = describe(func)
        if described.view:
            return self._view(func, args, kwargs)
        return self._run(func, described, args, kwargs)

    def _run(
        self, func: Any, described: Described, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        pager, follower = self.pager, self.follower
        for block in pager.settle():
            follower.freed(block)
        self._look_for_end()
        signature, blocks = self._arguments(func, described, args, kwargs)
        known = follower.expect(signature, described.name)
        need = result_bytes(func, args, kwargs) if known is None else sum(known.made) + known.grown
        self._move(known)
        pager.use(list(blocks), [b for b, written in blocks.items() if written], need, self._rank)
        if self._resident is not None:
            found = self.report.persistent
            self._resident.prepare(need, pager.load - found, self.report.limit - found)
        events = self._begin_event(known)
        begun = time.perf_counter()
        result = func(*args, **kwargs)
        seconds = time.perf_counter() - begun
        if events is not None:
            events[1].record()
        made = self._adopt(result)
        grown = self._resize(b for b, written in blocks.items() if written)
        names = [(follower.name_of(block), written) for block, written in blocks.items()]
        call = Call(
            signature=signature,
            name=described.name,
            made=tuple(block.size for block in made),
            grown=grown,
            touched=tuple((name, written) for name, written in names if name is not None),
            working_set=sum(b.size for b in (*blocks, *made) if b.movable),
            seconds=seconds,
        )
        self._judge(call, need)
        follower.passed(call, made)
        self._say_deviation()
        return result

    def _view(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Touches no memory, but torch checks that a view lies within it."""
        if self.pager.away:
            blocks = list(self._arguments(func, describe(func), args, kwargs)[1])
            if any(block.away for block in blocks):
                self.pager.use(blocks, (), 0, self._rank)
        return func(*args, **kwargs)

    def finish(self) -> None:
        """The end of the ``with`` without an error in it."""
        for block in self.pager.settle():
            self.follower.freed(block)
        left = sum(block.size for block in self.pager.blocks.values())
        if left > self.report.limit:
            self.report.note(
                f"{readable(left)} live on after the step, more than the limit (gradients, say): "
                "they are in memory again"
            )
        self._end()

    def close(self) -> None:
        """Everything is as it was."""
        if self._resident is not None:
            self._resident.close()
        self.pager.close()

    def reached(self, tensor: Tensor, kept: bool) -> None:
        """Somebody reads the tensor's memory past the dispatcher, or gets a pointer to it."""
        with _disable_current_modes():
            blocks = [self.pager.blocks.get(s._cdata) for s in storages_of(tensor)]
            for block in blocks:
                if block is not None and block.movable:
                    self.pager.restore([block])
                    if kept:
                        self.pager.pin(block)

    def _look_for_end(self) -> None:
        """An iteration ends where, after a backward pass and an update, other work begins."""
        node: Any = torch._C._current_autograd_node()
        if node is not None:
            self._backward = True
        elif self._backward and torch.is_grad_enabled():
            self._end()

    def _begin_event(self, known: Call | None) -> tuple[Any, Any] | None:
        """Of a GPU only events tell how long an operator runs; used while an order is learnt."""
        if self.kind != "cuda" or known is not None:
            return None
        events = (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
        events[0].record()
        self._events[self.follower.position] = events
        return events

    def _time(self) -> None:
        """Replace the host's seconds by the device's."""
        if self._events:
            torch.cuda.synchronize()
            seconds = {i: a.elapsed_time(b) / 1e3 for i, (a, b) in self._events.items()}
            self.follower.retime(seconds)
            self._events.clear()

    def _end(self) -> None:
        self._time()
        if not self.follower.complete:
            self.pager.expect_nothing()
        self.follower.end(list(self.pager.blocks.values()))
        self.report.iterations += self._backward
        self._backward = False
        self.report.learnt = self.follower.learnt
        self._say_deviation()
        self.report.minimum = self.report.persistent + self._working_set
        if self._too_small:
            self._refuse(self.report.minimum)

    def _arguments(
        self, func: Any, described: Described, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[int, dict[Block, bool]]:
        """Signature of a call; the blocks it touches and whether it overwrites them."""
        shapes: list[Any] = [func]
        blocks: dict[Block, bool] = {}
        for place, value in (*enumerate(args), *kwargs.items()):
            written = place in described.writes
            tensors = tensors_of(value, [])
            for tensor in tensors:
                shapes += (tensor.shape, tensor.dtype)
                for storage in storages_of(tensor):
                    block = self._block(storage, made=False)
                    if block is not None:
                        blocks[block] = blocks.get(block, False) or written
            if not tensors and isinstance(value, (int, list, tuple, torch.dtype)):
                shapes.append(str(value))  # sizes and dtypes that a result may have
        return hash(tuple(shapes)), blocks

    def _block(self, storage: UntypedStorage, *, made: bool) -> Block | None:
        if storage.device.type != self.kind:
            return None
        return self.pager.blocks.get(storage._cdata) or self.pager.adopt(storage, made=made)

    def _adopt(self, result: Any) -> list[Block]:
        """Blocks of the storages that the operator has made."""
        made: list[Block] = []
        for tensor in tensors_of(result, []):
            for storage in storages_of(tensor):
                if storage._cdata not in self.pager.blocks:
                    block = self._block(storage, made=True)
                    if block is not None:
                        made.append(block)
        return made

    def _resize(self, written: Iterable[Block]) -> int:
        grown = 0
        for block in written:
            storage = block.storage()
            if storage is not None and storage.nbytes() != block.size:
                grown += max(storage.nbytes() - block.size, 0)
                self.pager.resized(block, storage.nbytes())
        return grown

    def _move(self, known: Call | None) -> None:
        """What is planned before this operator: copies out that begin, returns that are due."""
        order, position = self.follower.order, self.follower.position
        if known is None or order is None or position < SURE:
            return
        if self._planned is not order:
            self._planned = order
            self._moves = moves_of(order, self.report.limit, lambda: self.pager.tier)
            self.follower.relied = self.follower.relied or bool(self._moves)
        for move, name in self._moves.get(position, ()):
            block = self.follower.blocks.get(name)
            if block is None:
                continue
            if move == "leave":
                self.pager.leave(block)
            else:
                self.pager.expect(block)

    def _judge(self, call: Call, need: int) -> None:
        """What the operator allocated against what was foreseen and the limit."""
        self.report.operations += 1
        order = self.follower.order
        if order is None:
            self.pager.expect_nothing()
        else:
            self.report.foreseen += 1
            if self.follower.position >= SURE:
                self.pager.expect_fixed(order.fixed)
        working_set = call.working_set + self.pager.stuck
        self._working_set = max(self._working_set, working_set)
        over = self.pager.load - self.report.limit  # what is expected refuses nothing
        if over > 0 and self.pager.cramped:
            self._too_small = True
        elif over > 0:
            self.report.note(
                f"{readable(over)} over the limit for a moment: {call.name} allocated "
                f"{readable(sum(call.made) + call.grown)}, {readable(need)} were foreseen"
            )

    def _rank(self, block: Block) -> float:
        """Who is to leave first: who is needed last, or, not knowing, was used the longest ago."""
        next_use = self.follower.next_use(block)
        if next_use is None:  # of an earlier iteration, or nothing is known
            return _UNKNOWN - block.used
        return next_use if next_use < _UNKNOWN else 2 * _UNKNOWN

    def _say_deviation(self) -> None:
        why, self.follower.deviation = self.follower.deviation, None
        if why is not None:
            self.report.note(
                f"iteration {self.report.iterations + 1} left the learnt order, storages were "
                f"moved on demand from there on: {why}"
            )

    def _refuse(self, minimum: int) -> None:
        stuck = self.pager.stuck
        why = f", {readable(stuck)} of it held by numpy or the like" if stuck else ""
        raise ResourceError(
            f"a limit of {self.report.limit:,} bytes is too small for this step: the least is "
            f"{minimum:,} bytes, {self.report.persistent:,} of persistent storages (weights, "
            f"optimiser state, inputs) and {self._working_set:,} of what one operator needs at once"
            f"{why}",
            hint=f"budget({minimum}) or more, or a smaller batch",
        )
