"""What of a network follows from some of its columns alone, and the network without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gradbase.ir.conversion import ToTable, ToTensor
from gradbase.ir.factored import Looked
from gradbase.ir.grouping import ByGroup
from gradbase.ir.learning import Model
from gradbase.ir.node import Node, walk
from gradbase.ir.tensor import Binary, Concat, Linear, Tensor
from gradbase.optimizer.analyses.networks import FirstLayer, FirstTrees, layer_of
from gradbase.optimizer.context import Context

_KINDS = ("float32", "float64")


@dataclass(frozen=True)
class Piece:
    """A part of `node` that some columns decide alone.

    Of a layer what the inputs `parts` add to it; of trees the sum of those `chosen`, which test
    nothing but `parts`; of anything else the whole (a tower), and `parts` is empty. `tested` are
    the parts that each of all the trees tests.
    """

    node: Tensor
    parts: tuple[int, ...] = ()
    chosen: tuple[int, ...] = ()
    tested: tuple[frozenset[int], ...] = field(default=(), compare=False)

    def content(self, *, biased: bool) -> Tensor:
        """What is to be computed, [rows, width]; of a layer with its bias where `biased`."""
        match layer_of(self.node) if self.parts else None:
            case FirstLayer(layer=layer) as entry:
                bias = layer.bias if biased else None
                return Linear(entry.inputs(self.parts), entry.weight(self.parts), bias)
            case FirstTrees() as entry:
                return entry.some(self.chosen, self.parts)
            case None:
                return self.node


@dataclass(frozen=True)
class LookedUp:
    """A piece's result: `table` holds it by row, `code` says which row."""

    piece: Piece
    code: Tensor
    table: Tensor


def pieces(
    model: Model, methods: Sequence[str], columns: frozenset[str], context: Context
) -> tuple[Piece, ...]:
    """The largest parts of the network that read nothing but `columns`; of one dtype."""
    if model.columns:
        return ()
    found: dict[Piece, None] = {}
    for t in (t for m in dict.fromkeys(methods) for t in walk(model.output(m))):
        if isinstance(t, ByGroup):
            return ()
        if isinstance(t, Tensor) and t.inputs and not _is_pure(t, columns):
            found.update(dict.fromkeys(_below(t, columns, context)))
        elif isinstance(t, ToTable) and _is_tower(t.x):
            found[Piece(t.x)] = None
    kinds = [p.node.dtype for p in found if p.node.dtype in _KINDS]
    return tuple(p for p in found if p.node.dtype == kinds[0]) if kinds else ()


def without(
    model: Model, methods: Sequence[str], looked_up: Sequence[LookedUp]
) -> tuple[ToTable, ...]:
    """The outputs `methods` of a network that takes results of pieces from tables."""
    by_node: dict[Tensor, list[LookedUp]] = {}
    for found in looked_up:
        by_node.setdefault(found.piece.node, []).append(found)
    made: list[ToTable] = []
    for method in dict.fromkeys(methods):
        done: dict[Node, Node] = {}
        for old in walk(model.output(method)):
            if isinstance(old, Tensor) and old in by_node:
                done[old] = _joined(old, by_node[old], done)
            else:
                done[old] = old.with_children(tuple(done[c] for c in old.children))
        output = done[model.output(method)]
        assert isinstance(output, ToTable)
        made.append(output)
    return tuple(made)


def read_by(outputs: Sequence[Tensor]) -> frozenset[str]:
    """The columns that networks read."""
    return frozenset(t.column for o in outputs for t in o.inputs)


# -- finding ---------------------------------------------------------------------------------------


def _is_pure(t: Tensor, columns: frozenset[str]) -> bool:
    return read_by((t,)) <= columns


def _is_tower(t: Tensor) -> bool:
    """Whether looking a row of `t` up may be less than computing it."""
    return len(t.shape) == 2 and t.flops > 0 and not isinstance(t, ToTensor)


def _below(t: Tensor, columns: frozenset[str], context: Context) -> list[Piece]:
    """The pieces right below `t`, which reads other columns too."""
    entry = layer_of(t)
    if entry is None:
        below = (c for c in t.children if isinstance(c, Tensor) and c.inputs)
        return [Piece(c) for c in below if _is_pure(c, columns) and _is_tower(c)]
    pure = tuple(i for i, p in enumerate(entry.parts) if p.inputs and _is_pure(p, columns))
    if isinstance(entry, FirstTrees):
        return _trees(entry, frozenset(pure), context)
    return [Piece(t, pure)] if pure else []


def _trees(entry: FirstTrees, pure: frozenset[int], context: Context) -> list[Piece]:
    """The trees that test nothing but the parts `pure`; what nobody tests is read with them."""
    found = None if context.weights is None else context.weights.tested(entry.trees)
    if found is None:
        return []
    every = range(len(entry.parts))
    part_of = {place: i for i in every for place in entry.places((i,))}
    # A tree that is a leaf counts as one that tests the first part: somebody has to add it.
    tested = tuple(frozenset(part_of[f] for f in features) or frozenset((0,)) for features in found)
    chosen = tuple(i for i, parts in enumerate(tested) if parts <= pure)
    idle = pure - frozenset[int]().union(*tested)
    read = idle.union(*(tested[i] for i in chosen))
    return [Piece(entry.trees, tuple(sorted(read)), chosen, tested)] if chosen else []


# -- putting together ------------------------------------------------------------------------------


def _joined(node: Tensor, found: Sequence[LookedUp], done: Mapping[Node, Node]) -> Tensor:
    """What takes the place of `node`."""
    looked = Looked(tuple(f.code for f in found), tuple(f.table for f in found))
    gone = frozenset(i for f in found for i in f.piece.parts)
    match layer_of(node) if gone else None:
        case FirstLayer() as entry:
            rest = [i for i in range(len(entry.parts)) if i not in gone]
            kept = tuple(p for p in (done[entry.parts[i]] for i in rest) if isinstance(p, Tensor))
            if not kept:
                return looked
            x = kept[0] if len(kept) == 1 else Concat(kept)
            return looked.replace(x=x, weight=entry.weight(rest))
        case FirstTrees() as entry:
            tested = found[0].piece.tested
            taken = {i for f in found for i in f.piece.chosen}
            trees = [i for i in range(len(tested)) if i not in taken]
            still = frozenset[int]().union(*(tested[i] for i in trees))
            parts = [i for i in range(len(entry.parts)) if i in still or i not in gone]
            return Binary("add", looked, entry.some(trees, parts)) if trees else looked
        case None:
            return looked
