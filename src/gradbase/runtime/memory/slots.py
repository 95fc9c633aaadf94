"""Planned places in one allocation, and who lies in them."""

from __future__ import annotations

import weakref
from collections import defaultdict

import torch
from torch import UntypedStorage

from gradbase.resources.lifetimes import Trace
from gradbase.resources.placement import Plan

__all__ = ["Slots"]


class Slots:
    """One allocation of `plan.height` bytes; every planned storage is a window on it.

    Each window is a storage of its own, so that its life is known and that views of it end with it.
    A window is given only while no living one overlaps it: a plan that does not hold for what runs
    is noticed before anything is overwritten.

    Parameters
    ----------
    trace : Trace
        What makes which storage.
    plan : Plan
        Where that lies.
    device : str
    """

    def __init__(self, trace: Trace, plan: Plan, device: str) -> None:
        self.block = torch.empty(plan.height, dtype=torch.uint8, device=device)
        self.top = 0  # highest end of a window that was given
        self._alive: dict[int, tuple[int, int, weakref.ref[UntypedStorage]]] = {}
        self._places: dict[int, list[tuple[int, tuple[int, ...]]]] = defaultdict(list)
        offsets: dict[str, list[int]] = defaultdict(list)
        for identity, offset in plan.offsets.items():
            offsets[str(identity).partition(".")[0]].append(offset)
        for s in sorted(trace.storages, key=lambda s: s.id):
            if not s.persistent:
                place = (s.size, tuple(offsets.get(str(s.id), ())))
                self._places[s.allocated].append(place)

    def planned(self, operation: int, iteration: int) -> list[tuple[int, int | None]]:
        """(size, offset) of what an operation makes, bytes; offset None: it needs no place.

        Of a storage that lives longer than an iteration there are several, used in turn.
        """
        found = self._places.get(operation, [])
        return [(size, o[iteration % len(o)] if o else None) for size, o in found]

    def free(self, offset: int, size: int) -> bool:
        """Whether no living window overlaps."""
        end = offset + size
        return all(b <= offset or end <= a for a, b, _ in list(self._alive.values()))

    def window(self, offset: int, size: int) -> UntypedStorage:
        """A storage at that place, which is free."""
        storage = torch.from_dlpack(self.block[offset : offset + size]).untyped_storage()
        key = storage._cdata

        def gone(_: object) -> None:
            self._alive.pop(key, None)

        self._alive[key] = (offset, offset + size, weakref.ref(storage, gone))
        self.top = max(self.top, offset + size)
        return storage
