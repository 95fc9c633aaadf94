"""What of a network is kept where, when its tensors are worked through in tiles.

Results are computed a few columns at a time, for all rows of a batch, and used at once. Only what
several operators read, what has to be passed over twice, and inputs of products whose result is too
wide to add up are kept: in memory, or on disk where they are too large. So every weight is read
once per batch; the batch is as large as memory allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gradbase.errors import ResourceError
from gradbase.ir.conversion import Category, ToTensor
from gradbase.ir.grouping import ByGroup
from gradbase.ir.imported import Opaque, Text
from gradbase.ir.learning import Model
from gradbase.ir.node import walk
from gradbase.ir.shapes import elements
from gradbase.ir.splitting import groups_of, is_turned, way_of, weight_of
from gradbase.ir.tensor import (
    DTYPES,
    Concat,
    Const,
    Linear,
    OneHot,
    Param,
    Tensor,
    TorchOp,
    UserModule,
)
from gradbase.resources.sizes import readable
from gradbase.resources.tiling import SMALLEST_PAGE, page_bytes_for, weight_grid

MOST_ROWS = 1 << 16
_KEPT_SHARE = 4
"""One result takes at most this part (one in …) of the memory, else it goes to disk."""
_WIDTHS = (16, 1024)
"""Columns computed at once."""
_TEMPORARIES = 4
"""Parts of tensors that a thread holds at once."""
PINNED = 3
"""Pages that a thread needs at once: one of weights, the next one, one of a result on disk."""
_ARROW = 3
"""Times that the rows of a batch are there: computed, with their results, and collected ahead."""


@dataclass(frozen=True)
class TiledPlan:
    """How a batch goes through a network.

    Parameters
    ----------
    order : tuple of Tensor
        Operators, inputs first.
    rows, threads, width : int
        Rows of a batch; threads that compute parts of results; columns of a part.
    page_bytes : int
    kept : mapping of Tensor to ``memory`` or ``disk``
        Results that are kept; all others are computed when they are read.
    summed : frozenset of Tensor
        Products that are added up over parts of their input.
    tiled : frozenset of Param
        Weights that are read from tiles; others are in memory.
    size_bytes : int
        Memory of all of it.
    """

    order: tuple[Tensor, ...]
    rows: int
    threads: int
    width: int
    page_bytes: int
    kept: dict[Tensor, str] = field(hash=False)
    summed: frozenset[Tensor]
    tiled: frozenset[Param]
    size_bytes: int

    @property
    def read_bytes(self) -> int:
        """Bytes of weights read from tiles in a batch, by each operator that has them."""
        found = (in_tiles(n) for n in self.order)
        return sum(w.size_bytes for w in found if w is not None and w in self.tiled)

    @property
    def tiles(self) -> int:
        """Tiles that the weights are cut into."""
        return sum(
            weight_grid(*matrix_sizes(p), DTYPES[p.kind], self.page_bytes).tiles for p in self.tiled
        )

    @property
    def disk_bytes(self) -> int:
        """Bytes of results written to disk in a batch, and read at least once."""
        return sum(_bytes(n, self.rows) for n, where in self.kept.items() if where == "disk")


def matrix_sizes(param: Param) -> tuple[int, int]:
    """A parameter as a matrix: the first dimension by all others."""
    if len(param.dims) < 2:
        return 1, elements(param.dims)
    return param.dims[0], elements(param.dims[1:])


def is_input(node: Tensor) -> bool:
    """Whether a node is made from columns in one step."""
    match node:
        case ToTensor():
            return True
        case OneHot(codes=ToTensor()):
            return True
        case Concat(parts=parts) if node.dtype == "float32":
            return all(is_input(p) and not _is_codes(p) and not isinstance(p, Concat)
                       for p in parts)  # fmt: skip
    return False


def _is_codes(node: Tensor) -> bool:
    return isinstance(node, ToTensor) and isinstance(node.encoding, Category)


def in_tiles(node: Tensor) -> Param | None:
    """The weight that `node` can read in tiles."""
    way = way_of(node)
    if way in ("linear", "gather") or (way == "window" and _convolves_whole(node)):
        found = weight_of(node)
        return found if isinstance(found, Param) else None
    return None


def _convolves_whole(node: Tensor) -> bool:
    """Whether a window is a convolution over all channels at once."""
    return isinstance(node, TorchOp) and len(node.inputs_) > 1 and groups_of(node) == 1


def reads(node: Tensor) -> tuple[Tensor, ...]:
    """What must be there before `node`; of a weight that is turned around, the weight."""
    if is_input(node):
        return ()
    if isinstance(node, Linear) and way_of(node) == "linear":
        return (node.x, weight_of(node), *([] if node.bias is None else [node.bias]))
    return tuple(c for c in node.children if isinstance(c, Tensor))


def order_of(roots: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Operators below `roots`, inputs first, constants among them."""
    done: dict[Tensor, None] = {}
    stack = [(r, False) for r in reversed(roots)]
    while stack:
        node, expanded = stack.pop()
        if node in done:
            continue
        if expanded:
            done[node] = None
            continue
        stack.append((node, True))
        stack.extend((c, False) for c in reversed(reads(node)) if c not in done)
    return tuple(done)


def stays_whole(model: Model) -> bool:
    """Whether a part of a model is nothing that tiles could be made of."""
    return any(
        isinstance(n, (ByGroup, Opaque, UserModule))
        or (isinstance(n, ToTensor) and isinstance(n.encoding, Text))
        for n in walk(model)
    )


class Planner:
    """Plans of one model's outputs, for batches of any size.

    Parameters
    ----------
    model : Model
    row_bytes : int
        Of the rows that pass by.
    memory_bytes : int
        What statements may use together; a page and the share of one statement follow from it.
    threads : int
    roots : sequence of Tensor, optional
        The outputs; default: all of the model.
    page_bytes : int, optional
        Default: as the memory allows.
    """

    def __init__(
        self, model: Model, row_bytes: int, memory_bytes: int, threads: int, *,
        roots: Sequence[Tensor] = (), page_bytes: int = 0,
    ) -> None:  # fmt: skip
        self.model, self.row_bytes, self.memory_bytes = model, row_bytes, memory_bytes
        self.roots = tuple(dict.fromkeys(roots or (o.x for o in model.outputs)))
        self.order = order_of(self.roots)
        self.page_bytes = page_bytes or page_bytes_for(memory_bytes)
        self.tiled = self._tiled()
        constants = [n for n in self.order if isinstance(n, Param) and n not in self.tiled]
        inside = [p for n in self.order if is_input(n) for p in n.params]
        self.resident_bytes = sum({p: p.size_bytes for p in (*constants, *inside)}.values())
        self.constants = _constants(self.order)
        self.computed = [n for n in self.order if n not in self.constants]
        self.readers: dict[Tensor, list[Tensor]] = {n: [] for n in self.order}
        for node in self.order:
            for child in set(reads(node)):
                self.readers[child].append(node)
        self.threads = threads if self._fixed(threads) * 2 <= memory_bytes else 1

    def plan(self, rows: int = 0) -> TiledPlan:
        """The plan for batches of `rows`; 0: as many as half of the memory allows.

        Raises
        ------
        ResourceError
            The memory is too small for one row; says how much is needed.
        """
        rows = rows or MOST_ROWS
        while True:
            made = self._planned(rows)
            if made.size_bytes <= self.memory_bytes // (1 if rows == 1 else 2):
                return made
            if rows == 1:
                raise self._too_small(made.size_bytes)
            rows = max(1, 1 << rows.bit_length() - 2 if rows & (rows - 1) == 0 else rows // 2)

    def _tiled(self) -> frozenset[Param]:
        """Large weights that only operators read which can read tiles."""
        found = {w for n in self.order if (w := in_tiles(n)) is not None}
        whole: set[Tensor] = set()
        for node in self.order:
            mine = in_tiles(node)
            whole.update(c for c in reads(node) if c is not mine)
            if is_input(node):
                whole.update(node.params)
        smallest = min(SMALLEST_PAGE, self.page_bytes)
        return frozenset(p for p in found - whole if p.size_bytes > smallest)

    def _fixed(self, threads: int) -> int:
        return threads * PINNED * self.page_bytes + self.resident_bytes

    def _planned(self, rows: int) -> TiledPlan:
        room = max(self.memory_bytes // 2 - self._fixed(self.threads), 0)
        kept, summed = self._kept(rows, room // _KEPT_SHARE)
        deepest = max((_bytes(n, rows) // abs(n.shape[-1]) for n in self.computed if n.shape),
                      default=4)  # fmt: skip
        columns = room // _KEPT_SHARE // max(self.threads * _TEMPORARIES * deepest, 1)
        width = max(_WIDTHS[0], min(_WIDTHS[1], columns))
        working = self.threads * _TEMPORARIES * deepest * width
        size = self._fixed(self.threads) + _ARROW * rows * self.row_bytes + working
        size += self._peak(rows, kept, summed)
        return TiledPlan(
            self.order, rows, self.threads, width, self.page_bytes, kept, frozenset(summed),
            self.tiled, size,
        )  # fmt: skip

    def _kept(self, rows: int, most: int) -> tuple[dict[Tensor, str], set[Tensor]]:
        """Where results are kept (`most` bytes of one in memory), which products are summed."""
        kept: dict[Tensor, str] = {}
        summed: set[Tensor] = set()

        def keep(node: Tensor, *, always: bool = False) -> None:
            if node not in kept and node not in self.constants:
                kept[node] = "memory" if always or _bytes(node, rows) <= most else "disk"

        for node in self.computed:
            match way_of(node):
                case _ if is_input(node):
                    keep(node, always=True)
                case "linear":
                    x, rows_of_tiles = reads(node)[0], self._in_rows(node)
                    fits = self.threads * _bytes(node, rows) <= most
                    if rows_of_tiles == "outputs":
                        keep(x, always=True)
                    elif rows_of_tiles == "inputs" or (kept.get(x) != "memory" and fits):
                        summed.add(node)
                        keep(node, always=rows_of_tiles == "inputs")
                    else:
                        keep(x)
                case "rowwise" | "window" | "gather":
                    for c in reads(node):
                        keep(c)
                case "reshape":
                    keep(reads(node)[0])
                    keep(node)
                case "whole":
                    for c in (*reads(node), node):
                        keep(c, always=True)
                        if c in kept:
                            kept[c] = "memory"
                case _:
                    pass
            if len(self.readers[node]) > 1 or node in self.roots:
                keep(node, always=node in self.roots)
        return kept, summed

    def _in_rows(self, node: Tensor) -> str | None:
        """What the rows of a tall weight are, all of each in one tile: going along its columns
        would read every tile again for each part."""
        weight = in_tiles(node)
        if weight not in self.tiled:
            return None
        rows, cols = matrix_sizes(weight)
        grid = weight_grid(rows, cols, DTYPES[weight.kind], self.page_bytes)
        if grid.across > 1 or rows <= cols:
            return None
        return "inputs" if is_turned(node) else "outputs"

    def ends(self, plan: TiledPlan) -> dict[int, list[Tensor]]:
        """Which results are read for the last time by each operator of `computed`."""
        found: dict[int, list[Tensor]] = {}
        for node, last in self._last(plan.kept).items():
            found.setdefault(last, []).append(node)
        return found

    def _last(self, kept: dict[Tensor, str]) -> dict[Tensor, int]:
        """The last reader of every result; one that is not kept passes its inputs on to its own."""
        last: dict[Tensor, int] = {}
        at = {n: i for i, n in enumerate(self.computed)}
        for node in reversed(self.computed):
            readers = self.readers[node]
            ends = [at[r] if r in kept else last.get(r, at[r]) for r in readers]
            last[node] = len(self.computed) if node in self.roots else max(ends, default=at[node])
        return last

    def _peak(self, rows: int, kept: dict[Tensor, str], summed: set[Tensor]) -> int:
        """Bytes of all results in memory at the worst moment."""
        last, at = self._last(kept), {n: i for i, n in enumerate(self.computed)}
        change = [0] * (len(self.computed) + 2)
        for node, where in kept.items():
            if where == "memory":
                copies = self.threads + 1 if node in summed else 1
                change[at[node]] += copies * _bytes(node, rows)
                change[at[node] + 1] -= (copies - 1) * _bytes(node, rows)
                change[last[node] + 1] -= _bytes(node, rows)
        peak = now = 0
        for step in change:
            now += step
            peak = max(peak, now)
        return peak

    def _too_small(self, needed: int) -> ResourceError:
        return ResourceError(
            f"{readable(self.memory_bytes)} are too little for model `{self.model.name}` even tile "
            f"by tile and row by row: at least {readable(needed)} are needed",
            hint="SET gradbase.memory_limit to a larger size (the engine's buffer pool takes half)",
        )


def _constants(order: Sequence[Tensor]) -> frozenset[Tensor]:
    """Operators that read no column."""
    found: set[Tensor] = set()
    for node in order:
        below = reads(node)
        known = bool(below) or isinstance(node, (Param, Const))
        if known and not is_input(node) and all(c in found for c in below):
            found.add(node)
    return frozenset(found)


def _bytes(node: Tensor, rows: int) -> int:
    return rows * elements(node.shape) * DTYPES.get(node.dtype, 8)
