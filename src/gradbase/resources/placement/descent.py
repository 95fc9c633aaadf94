"""The compiled depth-first search behind `exact` (import it late: it loads numba).

Storages are laid down from the bottom. `low` of a storage is the least offset it can still have.
Where the load is deepest along some stretch of time (a *valley*: a run of sections whose `base`,
the least `low` of their unplaced storages, is below that of both neighbours), nothing can come
below any more. So for a section of a valley there are few branches: one of its storages with that
`low` lies exactly there, or none does (they are *barred* from there: each has to be carried by a
storage not yet placed). The section with the fewest branches is decided first.

A branch fails where the base of a section and the bytes still to be placed exceed the capacity,
where no branch is left, where a barred storage could as well have been dropped into the hole below
it, or where of two storages with equal lifetimes, one on the other, the later in the order is
below (they could be exchanged). Parts of time that no unplaced storage links are independent:
when one of them is exhausted, decisions that do not touch it are skipped on the way back.

Source: own, after the canonical search of Moffitt, MiniMalloc (ASPLOS 2023): decisions at any
valley rather than in the order of offsets, the fewest branches first.
"""

from __future__ import annotations

from gradbase.resources.placement.deduction import (
    BACK,
    BARRED,
    BASE,
    DEPTH,
    DONE,
    FAN,
    LENGTH,
    LEVEL,
    LOW,
    MARK,
    NEVER,
    NEXT,
    NODES,
    NONE,
    ON_TOP,
    PAUSED,
    PLACED,
    SECTION,
    SOLVED,
    STACK_FULL,
    START,
    TRAIL,
    TRAIL_FULL,
    WORK,
    Ints,
    State,
    bar,
    place,
    undo,
)  # fmt: skip
from gradbase.resources.placement.machine import compiled, inner, meet
from gradbase.resources.placement.overlaps import Net


@inner
def _open_run(state: State, capacity: int) -> tuple[int, int]:
    """(start, length) of the sections linked by unplaced storages that have the least slack."""
    sections, begin = len(state.rest), 0
    while begin < sections and state.linked[begin - 1] > 0:
        begin += 1
    begin %= sections
    best, best_length, best_slack = -1, 0, NEVER
    start, slack = 0, NEVER
    for k in range(sections):
        s = (begin + k) % sections
        if state.value[BASE, s] < NEVER:
            slack = min(slack, capacity - state.value[BASE, s] - state.rest[s])
        if state.linked[s] == 0 or k == sections - 1:
            if slack < best_slack:
                best, best_length, best_slack = (begin + start) % sections, k + 1 - start, slack
            start, slack = k + 1, NEVER
    return best, best_length


@inner
def _narrowest(state: State, start: int, length: int, capacity: int, tie: int) -> int:
    """The section of a run that lies in a valley and has the fewest branches."""
    sections, best, best_fan, best_tie = len(state.rest), start, NEVER + 1, 0.0
    closed = length == sections and state.linked[start - 1] > 0
    k = 0
    while k < length:
        level, end = state.value[BASE, (start + k) % sections], k + 1
        while end < length and state.value[BASE, (start + end) % sections] == level:
            end += 1
        if (k > 0 or closed) and state.value[BASE, (start + k - 1) % sections] < level:
            k = end
            continue
        if (end < length or closed) and state.value[BASE, (start + end) % sections] < level:
            k = end
            continue
        for q in range(k, end):
            s = (start + q) % sections
            if state.value[FAN, s] > best_fan:
                continue
            if tie == 0:
                value = float(q)
            elif tie == 1:
                value = -float(q)
            elif tie == 2:
                value = float(capacity - level - state.rest[s])
            else:
                value = -float(state.weight[s])
            if state.value[FAN, s] < best_fan or value < best_tie:
                best, best_fan, best_tie = s, state.value[FAN, s], value
        k = end
    return best


@compiled
def search(net: Net, state: State, capacity: int, nodes: int, work: int, tie: int) -> int:  # noqa: PLR0917
    """Go on until all is placed, nothing is left to try, or `nodes` or `work` are spent.

    Parameters
    ----------
    capacity : int
        No storage may end above.
    nodes, work : int
        At most so many since the last `reset`; work is counted in storages and sections looked at.
    tie : int
        Which of the sections with equally few branches: 0 first, 1 last in time, 2 that with the
        least slack, 3 that which failed most often.
    """
    sections, control = len(state.rest), state.control
    margin = 6 * len(net.size) + 4 * sections + 8
    while True:
        if control[TRAIL] + margin > len(state.trail):
            return TRAIL_FULL
        if control[DEPTH] + 1 >= len(state.stack):
            return STACK_FULL
        if not control[BACK]:
            control[WORK] += sections
            start, length = _open_run(state, capacity)
            if start < 0:
                return SOLVED
            s = _narrowest(state, start, length, capacity, tie)
            row = state.stack[control[DEPTH]]
            row[MARK], row[SECTION], row[LEVEL] = control[TRAIL], s, state.value[BASE, s]
            row[NEXT], row[START], row[LENGTH] = net.live_start[s], start, length
            control[DEPTH] += 1
            control[BACK] = 1
        if control[NODES] >= nodes or control[WORK] >= work:
            return PAUSED
        if control[DEPTH] == 0:
            return NONE
        row = state.stack[control[DEPTH] - 1]
        undo(net, state, row[MARK])
        if _next_branch(net, state, row, capacity):
            control[BACK] = 0
            continue
        control[DEPTH] -= 1
        _skip(net, state, row)


@inner
def _skip(net: Net, state: State, exhausted: Ints) -> None:
    """Take back decisions that an exhausted one does not depend on."""
    control = state.control
    while control[DEPTH] > 0:
        before = state.stack[control[DEPTH] - 1]
        i = before[DONE]
        if i >= 0:
            start, length = net.first[i], net.length[i]
        else:
            start, length = before[START], before[LENGTH]
        if meet(start, length, exhausted[START], exhausted[LENGTH], len(state.rest)):
            break
        undo(net, state, before[MARK])
        control[DEPTH] -= 1


@inner
def _next_branch(net: Net, state: State, row: Ints, capacity: int) -> bool:
    """Take the next branch of a decision that does not fail at once."""
    s, level, mark = row[SECTION], row[LEVEL], row[MARK]
    end = net.live_start[s + 1]
    while row[NEXT] < end:
        i = net.live[row[NEXT]]
        row[NEXT] += 1
        if state.value[PLACED, i] or state.value[BARRED, i] or state.value[LOW, i] != level:
            continue
        twin = state.value[ON_TOP, net.twin[i]]
        if (
            twin >= 0
            and net.rank[twin] > net.rank[i]
            and state.offset[twin] + net.size[twin] == level
        ):
            continue
        row[DONE] = i
        state.control[NODES] += 1
        if place(net, state, i, capacity):
            return True
        undo(net, state, mark)
    if row[NEXT] == end:
        row[NEXT] += 1
        row[DONE] = -1
        state.control[NODES] += 1
        if bar(net, state, s, level, capacity):
            return True
        undo(net, state, mark)
    return False
