"""What a filter says of a feature is computed into the network."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from gradbase.ir.conversion import Category, Numeric, ToTensor
from gradbase.ir.facts import Range
from gradbase.ir.imported import Trees
from gradbase.ir.learning import Model, Predict
from gradbase.ir.node import Node, find
from gradbase.ir.tensor import (
    Binary,
    Concat,
    Const,
    Embedding,
    Linear,
    OneHot,
    Reshape,
    Tensor,
    TorchOp,
)
from gradbase.optimizer.analyses.known import Known, known_values
from gradbase.optimizer.analyses.networks import FirstLayer, column_of, first_layer, with_outputs
from gradbase.optimizer.analyses.ranges import ranges
from gradbase.optimizer.context import Choice, Context
from gradbase.optimizer.rule import rule


@rule(
    requires=("extract_predictions", "push_filter_below_predict"),
    exactness="tolerance",
    source="indb inference 2.2 R3: predicate-based model pruning",
)
def fold_known_values(n: Node, ctx: Context) -> Node | None:
    """Predict(Filter[c = value](x)) -> the same with c's part of the first layer in its bias.

    Trees of which a filter bounds features lose the branches that no row can take; where much is
    computed those too that the bounds of a table's storage exclude. Only literals count; a feature
    folded into the network is no longer read.
    """
    if not isinstance(n, Predict) or n.representation or n.model.columns:
        return None
    known = known_values(n.child)
    of = {f.name: known[c] for f, c in zip(n.model.features, n.features, strict=True) if c in known}
    return (_folded(n, of, ctx) if of else None) or _bounded(n, ctx)


# -- constants into the bias -----------------------------------------------------------------------


def _folded(n: Predict, known: dict[str, Known], ctx: Context) -> Predict | None:
    layer = first_layer(n.model, n.methods)
    if layer is None:
        return None
    terms: dict[int, tuple[Tensor, ...]] = {}
    for i, part in enumerate(layer.parts):
        column = column_of(part)
        found = _terms(layer, i, known[column]) if column in known else None
        if found is not None:
            terms[i] = found
    rest = [i for i in range(len(layer.parts)) if i not in terms]
    if not terms or not rest:
        return None
    bias = layer.layer.bias
    for found in terms.values():
        for term in found:
            bias = term if bias is None else Binary("add", bias, term)
    made = Linear(layer.inputs(rest), layer.weight(rest), bias)
    gone = {column_of(layer.parts[i]) for i in terms}
    changed = _without(n, gone, n.model.replace(
        outputs=with_outputs(n.model, n.methods, lambda t: made if t is layer.layer else None)
    ))  # fmt: skip
    ctx.chose(n, changed, Choice("folded", f"{', '.join(sorted(gone))} known from the filter"))
    return changed


def _without(n: Predict, gone: set[str], model: Model) -> Predict:
    pairs = list(zip(model.features, n.features, strict=True))
    kept = [(f, c) for f, c in pairs if f.name not in gone]
    return n.replace(
        model=model.replace(features=tuple(f for f, _ in kept)), features=tuple(c for _, c in kept)
    )


def _terms(layer: FirstLayer, place: int, known: Known) -> tuple[Tensor, ...] | None:
    """What the part `place` adds to the layer's result for the known value; None: not known."""
    part, at = layer.parts[place], layer.starts[place]
    match part:
        case ToTensor(encoding=Numeric(part="value") as of) if known.value is not None:
            number = (known.value - of.mean) * of.scale  # the indicator of missing values is 0
            if not math.isfinite(number):
                return None
            scale = Const((number,), (1,), layer.layer.dtype)
            return (Binary("mul", _column(layer, at), scale),)
        case OneHot(codes=ToTensor(encoding=Category() as of)):
            code = _code(of, known)
            return None if code is None else (_column(layer, at + code - 1),) if code else ()
        case Embedding(codes=ToTensor(encoding=Category() as of), weight=table):
            code = _code(of, known)
            if code is None:
                return None
            arguments = json.dumps([{"$": 0}, 0, code, code + 1])
            row = TorchOp("slice.Tensor", (table,), arguments, (1, table.shape[1]), table.dtype)
            product = Linear(row, layer.weight([place]))
            return (Reshape(product, (product.shape[-1],)),)
    return None


def _code(of: Category, known: Known) -> int | None:
    if known.text is None:
        return None
    return of.vocabulary.index(known.text) + 1 if known.text in of.vocabulary else 0


def _column(layer: FirstLayer, at: int) -> Tensor:
    """A column of the weight, as a vector."""
    weight = layer.layer.weight
    arguments = json.dumps([{"$": 0}, 1, at, at + 1])
    column = TorchOp("slice.Tensor", (weight,), arguments, (weight.shape[0], 1), weight.dtype)
    return Reshape(column, (weight.shape[0],))


# -- bounds of trees -------------------------------------------------------------------------------


def _bounded(n: Predict, ctx: Context) -> Predict | None:
    outputs = [n.model.output(m) for m in dict.fromkeys(n.methods)]
    found = {t for o in outputs for t in find(o, Trees)}
    known = ranges(n, ctx) if found else {}
    bounded = [(t, t.replace(bounds=_bounds(t, known))) for t in found]
    changes: dict[Node, Node] = {t: b for t, b in bounded if _is_smaller(b, t, ctx)}
    if not changes:
        return None
    changed = n.replace(
        model=n.model.replace(outputs=with_outputs(n.model, n.methods, changes.get))
    )
    names = ", ".join(sorted(known))
    ctx.chose(n, changed, Choice("pruned", f"branches of trees by what is known of {names}"))
    return changed


def _is_smaller(made: Trees, before: Trees, ctx: Context) -> bool:
    """Whether rows have a shorter way down, or trees fewer nodes; where nobody knows: yes."""
    if made.bounds == before.bounds:
        return False
    sizes = [None if ctx.weights is None else ctx.weights.size(t) for t in (made, before)]
    return None in sizes or sizes[0] != sizes[1]


def _bounds(trees: Trees, known: Mapping[str, Range]) -> tuple[float, ...]:
    x = trees.x
    while isinstance(x, TorchOp) and x.target == "_to_copy.default":
        x = x.inputs_[0]
    found: list[float] = []
    at = 0
    for part in x.parts if isinstance(x, Concat) else (x,):
        match part:
            case ToTensor(column=column, encoding=Numeric(part="value") as of) if column in known:
                least, most = known[column].low, known[column].high
                ends = [(end - of.mean) * of.scale for end in (least, most)]
                ends = [ends[0], math.inf] if known[column].missing else ends
                if of.scale > 0 and any(math.isfinite(e) for e in ends):
                    found += [float(at), *ends]
            case _:
                pass
        at += part.shape[-1]
    return tuple(found)
