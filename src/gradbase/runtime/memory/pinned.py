"""Where storages of a GPU go when they leave: pinned memory of the host, over two streams."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, UntypedStorage

from gradbase.errors import ResourceError
from gradbase.resources.sizes import readable
from gradbase.runtime.memory.tiers import Copy, Transfer

__all__ = ["PinnedTier"]


class _StreamTransfer:
    """A copy on a side stream. Waiting makes the computing stream wait, never the host."""

    def __init__(self, event: Any) -> None:
        self._event = event

    def done(self) -> bool:
        return self._event.query()

    def wait(self) -> None:
        torch.cuda.current_stream().wait_event(self._event)


class PinnedTier:
    """Pinned blocks that are kept for the next step, since pinning stops the device.

    The computing stream is read *before* a side stream is entered, and each side stream first waits
    for what the computing stream has been given, so that a copy reads what the operators before it
    have written, and memory that is reused is not written to before its last reader has run.
    """

    device = "cuda"

    def __init__(self) -> None:
        self.name = "pinned memory"
        self._out, self._in = torch.cuda.Stream(), torch.cuda.Stream()
        self._numbers = itertools.count()
        self._held: dict[int, Tensor] = {}
        # With when the last copy from the block to the device will have ended.
        self._spare: dict[int, list[tuple[Tensor, Any]]] = defaultdict(list)

    def out(self, storage: UntypedStorage) -> Copy:
        host = self._take(storage.nbytes())
        place = next(self._numbers)
        self._held[place] = host
        event = self._copy(self._out, _as_tensor(storage), host)
        return Copy(place, storage.nbytes(), _StreamTransfer(event))

    def back(self, copy: Copy, storage: UntypedStorage) -> Transfer:
        return _StreamTransfer(self._copy(self._in, self._held[copy.place], _as_tensor(storage)))

    def forget(self, copy: Copy) -> None:
        self._spare[copy.size].append((self._held.pop(copy.place), self._in.record_event()))

    def close(self) -> None:
        self._out.synchronize()
        self._in.synchronize()
        self._held.clear()
        self._spare.clear()

    def measure(self, size: int) -> tuple[float, float]:
        """Seconds to copy `size` bytes out and back, once each, after one copy to warm up."""
        host = self._take(size)
        device = torch.empty(size, dtype=torch.uint8, device="cuda")
        device.copy_(host)
        out = self._timed(device, host)
        into = self._timed(host, device)
        self._spare[size].append((host, self._in.record_event()))
        return out, into

    def _timed(self, source: Tensor, target: Tensor) -> float:
        begun, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begun.record()
        target.copy_(source, non_blocking=True)
        ended.record()
        ended.synchronize()
        return begun.elapsed_time(ended) / 1e3

    def _take(self, size: int) -> Tensor:
        if self._spare[size]:
            host, read = self._spare[size].pop()
            self._out.wait_event(read)
            return host
        try:
            return torch.empty(size, dtype=torch.uint8, pin_memory=True)
        except RuntimeError as error:
            raise ResourceError(
                f"{self.name}: {readable(size)} more could not be had from the host",
                hint="free memory of the host, or give the budget a higher limit",
            ) from error

    def _copy(self, stream: torch.cuda.Stream, source: Tensor, target: Tensor) -> Any:
        computing = torch.cuda.current_stream()
        stream.wait_stream(computing)
        with torch.cuda.stream(stream):
            target.copy_(source, non_blocking=True)
        for tensor in (source, target):
            if tensor.is_cuda:  # freed early, its memory waits for this stream
                tensor.record_stream(stream)
        return stream.record_event()


def _as_tensor(storage: UntypedStorage) -> Tensor:
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)  # type: ignore[reportArgumentType]
