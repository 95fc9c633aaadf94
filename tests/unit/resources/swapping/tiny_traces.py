"""Traces small enough to schedule by hand, and random ones of the shape of a training step."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hypothesis import strategies as st

from gradbase.resources.lifetimes import Access, Operation, Storage, Trace
from gradbase.resources.swapping.link import Link

UNIT = Link(0, 10, 0, 10)  # ten bytes a second, both ways


def trace_of(
    seconds: Sequence[float],
    storages: Sequence[tuple[int, int, Sequence[int]]],
    *,
    persistent: Sequence[int] = (),
    reads: Sequence[tuple[int, int]] = (),
    names: Sequence[str] = (),
    freed: dict[int, int] | None = None,
) -> Trace:
    """Storages are (id, size, operations that use it): the first writes it, the last frees it after.

    `reads` are more accesses, (operation, storage).
    """
    n = len(seconds)
    named = [*names, *["aten.mul"] * (n - len(names))]
    operations = tuple(Operation(i, named[i], seconds=s) for i, s in enumerate(seconds))
    kept, accesses = [], [Access(o, s, "read") for o, s in reads]
    for identity, size, used in storages:
        if identity in persistent:
            kept.append(Storage(identity, size, 0, n, persistent=True))
            accesses += [Access(o, identity, "read") for o in used]
            continue
        end = (freed or {}).get(identity, used[-1] + 1)
        kept.append(Storage(identity, size, used[0], end))
        accesses.append(Access(used[0], identity, "write"))
        accesses += [Access(o, identity, "read") for o in used[1:]]
    accesses.sort(key=lambda a: a.operation)
    return Trace(tuple(kept), operations, tuple(accesses), n)


@st.composite
def training_steps(draw: st.DrawFn) -> Trace:
    """A chain of operators forward, then backward: each makes a storage that its backward reads."""
    layers = draw(st.integers(2, 6))
    n = 2 * layers
    seconds = [draw(st.integers(0, 8)) / 4 for _ in range(n)]
    names = [draw(st.sampled_from(["aten.mul", "aten.mm", "aten.dropout"])) for _ in range(n)]
    storages = []
    reads = []
    for i in range(layers):
        size = draw(st.integers(1, 30))
        used = [i, n - 1 - i]
        if draw(st.booleans()) and i + 1 < layers:
            used.insert(1, draw(st.integers(i + 1, n - 1 - i)))
        storages.append((i, size, sorted(used)))
        if i:
            reads.append((i, i - 1))
    # Gradients, used by the next operation.
    storages += [(i, draw(st.integers(1, 10)), [i, i + 1]) for i in range(layers, n - 1)]
    weights = []
    for k in range(draw(st.integers(0, 2))):
        used = sorted(draw(st.sets(st.integers(0, n - 1), min_size=1, max_size=3)))
        storages.append((n + k, draw(st.integers(1, 20)), used))
        weights.append(n + k)
    freed = {}
    if draw(st.booleans()):  # one that the next iteration frees
        storages.append((n + 9, draw(st.integers(1, 10)), [n - 1]))
        freed[n + 9] = n + draw(st.integers(1, layers))
    return trace_of(seconds, storages, persistent=weights, reads=reads, names=names, freed=freed)


LINKS = st.builds(
    Link,
    st.integers(0, 2).map(lambda x: x / 8),
    st.sampled_from([4.0, 16.0, math.inf]),
    st.integers(0, 2).map(lambda x: x / 8),
    st.sampled_from([4.0, 16.0, math.inf]),
)
