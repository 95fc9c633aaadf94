"""Hidden units whose sign is known are computed no more, or together."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence

from gradbase.ir.conversion import ToTable
from gradbase.ir.factored import Picked
from gradbase.ir.facts import Settled
from gradbase.ir.learning import Predict
from gradbase.ir.node import Node, walk
from gradbase.ir.tensor import Binary, Concat, Const, Linear, MatMul, Tensor, TorchOp, Unary
from gradbase.optimizer.analyses.networks import times, with_outputs
from gradbase.optimizer.analyses.ranges import prediction_seconds, ranges
from gradbase.optimizer.context import Alternative, Choice, Context
from gradbase.optimizer.rule import rule

_SETUP_S = 2e-3
"""Making the weights of the smaller network."""
_MOST_OUTPUTS = 4
"""Of a layer whose inputs are added up: a `Const` holds the signs."""


@rule(
    requires=("extract_predictions", "fold_known_values", "fuse_layers"),
    exactness="tolerance",
    source="indb inference 2.2 R3 and R4, by interval arithmetic through ReLU layers",
)
def fold_settled_units(n: Node, ctx: Context) -> Node | None:
    """Predict -> Predict without units that ReLU leaves at 0, units it leaves alone added up.

    Which these are follows from the ranges of all columns that a unit reads: filters, and where
    much is computed the bounds that the engine promises. Of what a unit leaves alone the next layer
    takes sums, those with positive weights and those with negative ones: neither is below 0.
    """
    if not isinstance(n, Predict) or n.representation or n.model.columns or ctx.weights is None:
        return None
    outputs = tuple(n.model.output(m) for m in dict.fromkeys(n.methods))
    known = ranges(n, ctx) if _has_hidden(outputs) else {}
    if not known:
        return None
    settled = ctx.weights.settled(outputs, known, imported=n.model.imported)
    made, counts = n, [0, 0]
    for unit in reversed(list(settled)):  # the last layer first: the others stay what they are
        smaller = _without(made, unit, settled[unit])
        if smaller is not made:
            counts[0] += len(settled[unit].dead)
            counts[1] += len(settled[unit].linear)
        made = smaller
    seconds = [prediction_seconds(p, ctx) for p in (n, made)]
    if made is n or seconds[0] - seconds[1] <= _SETUP_S:
        return None
    reason = (
        f"of its hidden units {counts[0]} are always 0 and {counts[1]} linear, by {_names(known)}"
    )
    alternatives = tuple(map(Alternative, ("all units", "folded"), seconds))
    ctx.chose(n, made, Choice("folded", reason, alternatives))
    return made


def _names(known: Iterable[str]) -> str:
    names = sorted(known)
    return ", ".join(names) if len(names) <= 4 else f"the ranges of {len(names)} columns"


def _has_hidden(outputs: Sequence[ToTable]) -> bool:
    return any(
        isinstance(t, Linear) and isinstance(t.x, Unary) and t.x.op == "relu"
        for o in outputs
        for t in walk(o)
    )


def _without(n: Predict, unit: Unary, settled: Settled) -> Predict:
    """`n` with the layers before and behind `unit` made smaller; itself where that is nothing."""
    inner = unit.x
    outputs = tuple(n.model.output(m) for m in dict.fromkeys(n.methods))
    readers = Counter(c for o in outputs for t in walk(o) for c in set(t.children))
    if not isinstance(inner, Linear) or readers[unit] > 1 or readers[inner] > 1:
        return n

    def change(t: Node) -> Node | None:
        return _smaller(t, inner, settled) if isinstance(t, Linear) and t.x is unit else None

    changed = with_outputs(n.model, n.methods, change)
    return n if changed == outputs else n.replace(model=n.model.replace(outputs=changed))


def _smaller(outer: Linear, inner: Linear, settled: Settled) -> Linear | None:
    """``outer(relu(inner))``, whichever of the ways has the fewest multiplications."""
    hidden, inputs = inner.weight.shape
    outputs, linear = outer.weight.shape[0], settled.linear
    if outer.weight.inputs or inner.weight.inputs:
        return None
    decided = {*settled.dead, *linear}
    open_ = tuple(i for i in range(hidden) if i not in decided)
    ways = {"kept": (len(open_) + len(linear)) * (inputs + outputs)}
    if outputs <= _MOST_OUTPUTS and linear:
        ways["sums"] = (len(open_) + 2 * outputs) * (inputs + outputs)
    if linear and not open_:
        ways["straight"] = inputs * outputs
    match min(ways, key=lambda w: ways[w]):
        case "straight":
            return _straight(outer, inner, linear)
        case "sums":
            return _summed(outer, inner, open_, linear)
        case _:
            kept = tuple(sorted((*open_, *linear))) or (0,)
            if len(kept) == hidden:
                return None
            before = Linear(inner.x, Picked(inner.weight, kept, 0), _of(inner.bias, kept))
            return Linear(Unary("relu", before), Picked(outer.weight, kept, 1), outer.bias)


def _straight(outer: Linear, inner: Linear, linear: tuple[int, ...]) -> Linear:
    """Every unit is 0 or linear: one layer."""
    weight = Picked(outer.weight, linear, 1)
    bias, own = outer.bias, _of(inner.bias, linear)
    if own is not None:
        shift = times(weight, own)
        bias = shift if bias is None else Binary("add", bias, shift)
    return Linear(inner.x, MatMul(weight, Picked(inner.weight, linear, 0)), bias)


def _summed(
    outer: Linear, inner: Linear, open_: tuple[int, ...], linear: tuple[int, ...]
) -> Linear:
    """Per output one unit for what is added and one for what is subtracted; open ones stay."""
    weight, outputs = Picked(outer.weight, linear, 1), outer.weight.shape[0]
    signed = (Unary("relu", weight), Unary("relu", Unary("neg", weight)))
    own, bias = Picked(inner.weight, linear, 0), _of(inner.bias, linear)
    weights: list[Tensor] = [MatMul(s, own) for s in signed]
    biases: list[Tensor] = [] if bias is None else [times(s, bias) for s in signed]
    places: list[Tensor] = [_signs(outputs, sign, outer.dtype) for sign in (1.0, -1.0)]
    if open_:
        weights.insert(0, Picked(inner.weight, open_, 0))
        places.insert(0, Picked(outer.weight, open_, 1))
        if inner.bias is not None:
            biases.insert(0, Picked(inner.bias, open_, 0))
    before = Linear(inner.x, _stacked(weights), Concat(tuple(biases)) if biases else None)
    return Linear(Unary("relu", before), Concat(tuple(places)), outer.bias)


def _of(bias: Tensor | None, places: tuple[int, ...]) -> Tensor | None:
    return None if bias is None else Picked(bias, places, 0)


def _signs(size: int, sign: float, kind: str) -> Const:
    values = tuple(sign if i == j else 0.0 for i in range(size) for j in range(size))
    return Const(values, (size, size), kind)


def _stacked(weights: Sequence[Tensor]) -> Tensor:
    """Matrices one above the other."""
    arguments = json.dumps([[{"$": i} for i in range(len(weights))], 0])
    dims = (sum(w.shape[0] for w in weights), *weights[0].shape[1:])
    return TorchOp("cat.default", tuple(weights), arguments, dims, weights[0].dtype)
