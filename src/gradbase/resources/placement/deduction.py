"""What follows from a decision of the search: placing, barring, undoing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradbase.resources.placement.machine import compiled, inner
from gradbase.resources.placement.overlaps import Net, fill_live

Ints = NDArray[np.int64]

# NumPy's integers: numba would compile a function anew for each of Python's.
NEVER = np.int64(1 << 60)
NO, YES, LESS = np.int64(0), np.int64(1), np.int64(-1)
# What `control` holds.
TRAIL, DEPTH, BACK, NODES, WORK, QUEUED, BARS, NEED = range(8)
# Rows of `value`.
LOW, FLOOR, BARRED, PLACED, ON_TOP, BASE, FAN = np.arange(7)
# Columns of `stack`.
MARK, SECTION, LEVEL, NEXT, START, LENGTH, DONE = range(7)
# How a search ends.
SOLVED, PAUSED, NONE, TRAIL_FULL, STACK_FULL = range(5)


class State(NamedTuple):
    """Where a search is.

    Parameters
    ----------
    value : int64[7, max(n, m)]
        What is undone on the way back. Of storages: LOW, FLOOR (the highest top below), BARRED,
        PLACED; of sections: BASE, FAN (the number of branches); of twins: ON_TOP.
    offset, seen : int64[n]
    rest, linked, weight : int64[m]
        Unplaced granules; how many unplaced storages go on into the next section; failures so far.
    dirty, queue : int64[m]
        Sections to be looked at again.
    control : int64[8]
    trail : int64[k, 3]
        Rows (LOW, ..., index, old value).
    stack : int64[k, 7]
        A row for each decision.
    """

    value: Ints
    offset: Ints
    seen: Ints
    rest: Ints
    linked: Ints
    weight: Ints
    dirty: Ints
    queue: Ints
    control: Ints
    trail: Ints
    stack: Ints


def fresh(storages: int, sections: int) -> State:
    """Room for a search; see `reset`."""
    n, m = storages, sections

    def room(*shape: int) -> Ints:
        return np.zeros(shape, np.int64)

    return State(
        room(7, max(n, m)), room(n), room(n), room(m), room(m), room(m), room(m), room(m), room(8),
        room(16 * (n + m) + 1024, 3), room(2 * n + 16, 7),
    )  # fmt: skip


@compiled
def reset(net: Net, state: State, order: Ints, capacity: int) -> None:
    """Begin anew: nothing placed, values tried in `order`."""
    sections = len(state.rest)
    fill_live(net.first, net.length, order, net.live_start, net.live)
    state.value[:] = 0
    state.value[ON_TOP] = -1
    state.seen[:] = 0
    state.rest[:] = 0
    state.linked[:] = 0
    state.dirty[:] = 0
    state.control[:] = 0
    state.control[NEED] = NEVER
    for r in range(len(order)):
        net.rank[order[r]] = r
    for i in range(len(order)):
        _add_load(net, state, i, YES)
    for s in range(sections):
        state.value[BASE, s], state.value[FAN, s] = _branches(net, state, s, capacity)


@inner
def _add_load(net: Net, state: State, i: int, sign: int) -> None:
    sections, s = len(state.rest), net.first[i]
    last = net.length[i] - 1 if net.length[i] < sections else sections
    for k in range(net.length[i]):
        state.rest[s] += sign * net.size[i]
        if k < last:
            state.linked[s] += sign
        s += 1
        if s == sections:
            s = 0


@inner
def _branches(net: Net, state: State, s: int, capacity: int) -> tuple[np.int64, np.int64]:
    """(base, number of branches) of section `s`."""
    base, above, fan = NEVER, NEVER, NO
    for q in range(net.live_start[s], net.live_start[s + 1]):
        i = net.live[q]
        if state.value[PLACED, i]:
            continue
        low = state.value[LOW, i]
        if state.value[BARRED, i]:
            above = min(above, low)
        elif low < base:
            above = min(above, base)
            base, fan = low, YES
        elif low == base:
            fan += 1
        else:
            above = min(above, low)
    if above < base:  # carried by a neighbour that is lower: no valley
        return above, NEVER
    if above < NEVER:  # none of them lies there
        fan += above + state.rest[s] <= capacity
    return base, fan


@inner
def _set(state: State, what: int, index: int, value: int) -> None:
    k = state.control[TRAIL]
    state.trail[k, 0] = what
    state.trail[k, 1] = index
    state.trail[k, 2] = state.value[what, index]
    state.value[what, index] = value
    state.control[TRAIL] = k + 1


@inner
def undo(net: Net, state: State, mark: int) -> None:
    for k in range(state.control[TRAIL] - 1, mark - 1, -1):
        what, i, old = state.trail[k, 0], state.trail[k, 1], state.trail[k, 2]
        state.value[what, i] = old
        if what == PLACED:
            _add_load(net, state, i, YES)
        elif what == BARRED:
            state.control[BARS] += 2 * old - 1
    state.control[TRAIL] = mark


@inner
def _touch(net: Net, state: State, i: int) -> None:
    """The sections of `i` have to be looked at again."""
    sections, s, k = len(state.rest), net.first[i], state.control[QUEUED]
    for _ in range(net.length[i]):
        if not state.dirty[s]:
            state.dirty[s] = 1
            state.queue[k] = s
            k += 1
        s += 1
        if s == sections:
            s = 0
    state.control[QUEUED] = k


@inner
def _fail(state: State, section: int) -> bool:
    for k in range(state.control[QUEUED]):
        state.dirty[state.queue[k]] = 0
    state.control[QUEUED] = 0
    state.weight[section] += 1
    return False


@inner
def _raise(net: Net, state: State, i: int, low: int, capacity: int) -> bool:
    top = low + net.size[i]
    if top > capacity:
        state.control[NEED] = min(state.control[NEED], top)
        return _fail(state, net.first[i])
    _set(state, LOW, i, low)
    _touch(net, state, i)
    return True


@inner
def _carry(net: Net, state: State, i: int, capacity: int) -> bool:
    """A barred storage lies on one that is not placed yet and that blocks the hole below it."""
    top, lowest = NEVER, NEVER
    state.control[WORK] += net.near_start[i + 1] - net.near_start[i]
    for k in range(net.near_start[i], net.near_start[i + 1]):
        j = net.near[k]
        if not state.value[PLACED, j]:
            top = min(top, state.value[LOW, j] + net.size[j])
            lowest = min(lowest, state.value[LOW, j])
    if lowest >= state.value[FLOOR, i] + net.size[i]:
        return _fail(state, net.first[i])
    return top <= state.value[LOW, i] or _raise(net, state, i, top, capacity)


@inner
def _settle(net: Net, state: State, capacity: int) -> bool:
    """Bring all sections up to date after a decision; False where it cannot hold."""
    control, k = state.control, 0
    if control[BARS]:
        while k < control[QUEUED]:
            s = state.queue[k]
            k += 1
            for q in range(net.live_start[s], net.live_start[s + 1]):
                i = net.live[q]
                if (
                    state.value[BARRED, i]
                    and not state.value[PLACED, i]
                    and state.seen[i] != control[NODES]
                ):
                    state.seen[i] = control[NODES]
                    if not _carry(net, state, i, capacity):
                        return False
    for k in range(control[QUEUED]):
        s = state.queue[k]
        state.dirty[s] = 0
        control[WORK] += net.live_start[s + 1] - net.live_start[s]
        base, fan = _branches(net, state, s, capacity)
        if base != state.value[BASE, s]:
            _set(state, BASE, s, base)
        if fan != state.value[FAN, s]:
            _set(state, FAN, s, fan)
        if base < NEVER and base + state.rest[s] > capacity:
            control[NEED] = min(control[NEED], base + state.rest[s])
            return _fail(state, s)
    control[QUEUED] = 0
    return True


@inner
def place(net: Net, state: State, i: int, capacity: int) -> bool:
    """Put storage `i` at its `low`, all that overlap it above."""
    top, twin = state.value[LOW, i] + net.size[i], net.twin[i]
    state.offset[i] = state.value[LOW, i]
    _set(state, PLACED, i, YES)
    _add_load(net, state, i, LESS)
    _touch(net, state, i)
    _set(state, ON_TOP, twin, i)
    state.control[WORK] += net.near_start[i + 1] - net.near_start[i]
    for k in range(net.near_start[i], net.near_start[i + 1]):
        j = net.near[k]
        if state.value[PLACED, j]:
            continue
        _set(state, FLOOR, j, top)
        if state.value[BARRED, j]:
            _set(state, BARRED, j, NO)
            state.control[BARS] -= 1
            _touch(net, state, j)
        if state.value[LOW, j] < top and not _raise(net, state, j, top, capacity):
            return False
    return _settle(net, state, capacity)


@inner
def bar(net: Net, state: State, s: int, level: int, capacity: int) -> bool:
    """No storage of section `s` lies at `level`."""
    for k in range(net.live_start[s], net.live_start[s + 1]):
        i = net.live[k]
        if not state.value[PLACED, i] and state.value[LOW, i] == level:
            if not state.value[BARRED, i]:
                _set(state, BARRED, i, YES)
                state.control[BARS] += 1
            _touch(net, state, i)
    return _settle(net, state, capacity)
