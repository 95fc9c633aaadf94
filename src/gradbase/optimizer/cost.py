"""Rows, bytes, FLOPs and seconds of every operator.

Constants of the machine come from `Calibration`; those here were measured on 2 cores of an EPYC
with DuckDB 2.0 and say so.
"""

from __future__ import annotations

import math

from gradbase.ir.factored import Numbered, PredictJoined
from gradbase.ir.facts import Promises, TableStatistics
from gradbase.ir.grouping import FitGroups
from gradbase.ir.inspection import (
    CompareModels,
    ConfusionMatrix,
    Inspection,
    Keep,
    SchemaDrift,
    Weights,
)
from gradbase.ir.learning import (
    Dataset,
    Evaluate,
    Fit,
    FusedFit,
    Learn,
    Predict,
    Preprocess,
    Search,
)
from gradbase.ir.node import Node
from gradbase.ir.preprocessing import Preprocessing
from gradbase.ir.relational import (
    Aggregate,
    Filter,
    Join,
    Limit,
    Project,
    Rebatch,
    Relation,
    Scan,
    Sort,
    SqlFragment,
    Union,
    Values,
)
from gradbase.ir.scalar import Column, Compare, Scalar, conjuncts, scalars
from gradbase.optimizer.context import Context, Estimate
from gradbase.optimizer.cost_fit import group_seconds, makespan, refit_seconds, training_flops
from gradbase.optimizer.cost_groups import by_group_seconds
from gradbase.optimizer.cost_predict import PLAIN_BATCH, predict_seconds, row_seconds
from gradbase.optimizer.cost_preprocess import engine_seconds, handing_seconds, program_seconds
from gradbase.optimizer.selectivity import column_statistics, selectivity

VALUE_S = 5e-10
"""One value touched by an engine's operator (2 M rows x 28 floats summed in 0.03 s)."""
HASH_S = 2e-8
"""One row put into or looked up in a hash table, or sorted."""
_METRICS, _THRESHOLDS = 8.0, 101.0
"""Rows of a comparison and of a ROC curve."""
SETUP_S = 2e-3
"""Starting a stream."""
UNKNOWN_ROWS = 10_000.0
"""Rows of a table that nothing is known of."""


def estimate(root: Node, context: Context) -> Estimate:
    """What `root` itself does; estimates of all below it are kept in ``context.estimates``."""
    known = context.estimates
    stack = [root]
    while stack:
        node = stack[-1]
        missing = [c for c in _inputs(node) if c not in known]
        if node in known or not missing:
            stack.pop()
            if node not in known:
                known[node] = _estimate(node, context)
        stack.extend(missing if node not in known else ())
    return known[root]


def total_seconds(root: Node, context: Context) -> float:
    """Seconds of `root` and all below it, shared parts once."""
    estimate(root, context)
    seen: set[Node] = set()
    stack = [root]
    total = 0.0
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            total += context.estimates[node].seconds
            stack.extend(_inputs(node))
    return total


def scalar_seconds(scalar: Scalar, context: Context) -> float:
    """Evaluating `scalar` for one row, predictions included."""
    models = (row_seconds(c.model, PLAIN_BATCH, context) for c in scalar.predictions)
    handed = sum(len(c.features) for c in scalar.predictions) * context.calibration.arrow_value_s
    return VALUE_S * (1 + len(scalar.columns)) + sum(models) + handed


def _inputs(node: Node) -> tuple[Node, ...]:
    if isinstance(node, Search):
        return tuple(dict.fromkeys(f.data for f in node.fits))
    return node.stands_on


def _made(relation: Relation, rows: float, seconds: float, flops: float = 0.0) -> Estimate:
    return Estimate(rows, rows * relation.schema.row_bytes, flops, seconds)


def _estimate(node: Node, context: Context) -> Estimate:
    rows = [context.estimates[c].rows for c in _inputs(node)]
    match node:
        case Scan():
            known = context.statistics.table(node.table)
            count = float(known.rows) if known is not None else UNKNOWN_ROWS
            return _made(node, count, count * len(node.columns) * VALUE_S)
        case Values():
            return _made(node, len(node.cells) / len(node.columns), 0.0)
        case SqlFragment():
            return _fragment(node, rows, context)
        case Filter():
            kept = rows[0] * selectivity(node.predicate, node.child, context)
            return _made(node, kept, rows[0] * scalar_seconds(node.predicate, context))
        case Project():
            per_row = sum(_computing(e, context) for e in node.exprs)
            return _made(node, rows[0], rows[0] * per_row)
        case Join():
            found = _joined(node, rows[0], rows[1], context)
            return _made(node, found, (rows[0] + rows[1] + found) * HASH_S)
        case Aggregate():
            return _made(node, _groups(node, rows[0], context), rows[0] * HASH_S)
        case Sort():
            return _made(node, rows[0], rows[0] * math.log2(rows[0] + 2) * HASH_S / 4)
        case Rebatch():
            return _made(node, rows[0], 0.0)
        case Limit():
            return _made(node, min(rows[0], node.count), 0.0)
        case Union():
            return _made(node, sum(rows), 0.0 if node.keep_duplicates else sum(rows) * HASH_S)
        case Preprocess():
            seconds = rows[0] * (program_seconds(node.exprs) + _handed(node.child, context))
            return _made(node, rows[0], seconds)
        case Numbered(child=child):
            return _made(node, rows[0], rows[0] * _handed(child, context))
        case PredictJoined(child=child, model=model):
            each = _handed(child, context) + row_seconds(model, PLAIN_BATCH, context)
            return _made(node, rows[0], SETUP_S + rows[0] * each, rows[0] * model.flops)
        case Predict() | Evaluate():
            return _predicted(node, rows[0], context)
        case Inspection():
            return _inspected(node, rows, context)
        case _:
            return _trained(node, rows, context)


def _handed(relation: Relation, context: Context) -> float:
    return sum(handing_seconds(f.type, context) for f in relation.schema)


def _computing(expr: Scalar, context: Context) -> float:
    if isinstance(expr, Column):
        return 0.0
    functions = tuple(scalars(expr, Preprocessing))
    return scalar_seconds(expr, context) + (
        engine_seconds(functions, context) if functions else 0.0
    )


def _fragment(n: SqlFragment, rows: list[float], context: Context) -> Estimate:
    """As the engine says; over relations of ours, as many rows as the largest of them."""
    known = None
    if len(n.parts) == 1:
        known = context.statistics.query_rows(n.parts[0])
    found = float(known) if known is not None else max(rows, default=UNKNOWN_ROWS)
    calls = sum(scalar_seconds(c, context) for c in n.calls) * found
    read = max([found, *rows])
    return _made(n, found, read * len(n.columns) * VALUE_S + calls)


def _predicted(n: Predict | Evaluate, rows: float, context: Context) -> Estimate:
    representation = n.representation or "dl"
    seconds = predict_seconds(n, representation, n.batch_rows or PLAIN_BATCH, context)
    return _made(n, rows if isinstance(n, Predict) else 1.0, seconds, rows * n.model.flops)


def _inspected(n: Inspection, rows: list[float], context: Context) -> Estimate:
    """Rows that are read here are handed over; the rest is quick."""
    match n:
        case Keep(child=child) | SchemaDrift(child=child):
            made = rows[0] if isinstance(n, Keep) else float(len(n.columns))
            return _made(n, made, rows[0] * _handed(child, context))
        case ConfusionMatrix(classes=classes):
            return _made(n, float(len(classes)), 0.0)
        case CompareModels(pairs=pairs):
            return _made(n, _METRICS, rows[-1] * _handed(pairs, context))
        case Weights(models=models):
            return _made(n, float(sum(len(m.features) + 1 for m in models)), 0.0)
        case _:
            return _made(n, _THRESHOLDS, 0.0)


def _trained(node: Node, rows: list[float], context: Context) -> Estimate:
    match node:
        case Dataset(relation=relation):
            found = context.estimates[relation]
            read = found.rows * len(relation.schema) * context.calibration.arrow_value_s
            return Estimate(found.rows, found.bytes, 0.0, read)
        case Fit():
            return Estimate(
                rows[0], 0.0, training_flops(node, context), group_seconds((node,), context)
            )
        case FusedFit(fits=fits):
            flops = sum(training_flops(f, context) for f in fits)
            return Estimate(rows[0], 0.0, flops, group_seconds(fits, context))
        case FitGroups():
            seconds = by_group_seconds(node, context)["stacks"]
            return Estimate(1.0, float(node.schema.row_bytes), 0.0, seconds)
        case Learn():
            return Estimate(1.0, float(node.schema.row_bytes), 0.0, 0.0)
        case Search(trials=trials):
            groups = [t.fits if isinstance(t, FusedFit) else (t,) for t in trials]
            seconds = makespan([group_seconds(g, context) for g in groups], node.workers or 1)
            seconds += refit_seconds(node.fits[0], context)
            flops = sum(training_flops(f, context) for f in node.fits)
            return Estimate(1.0, float(node.schema.row_bytes), flops, seconds)
        case _:
            raise AssertionError(f"nothing is known of the cost of {type(node).__name__}")


def _joined(n: Join, left: float, right: float, context: Context) -> float:
    if n.condition is None:
        return left * right
    matched = left * right
    both = {
        **dict.fromkeys(n.left.schema.names, n.left),
        **dict.fromkeys(n.right.schema.names, n.right),
    }
    for part in conjuncts(n.condition):
        match part:
            case Compare(op="=", left=Column(name=a), right=Column(name=b)):
                known = [column_statistics(both[c], c, context) for c in (a, b)]
                distinct = [float(k.distinct) for k in known if k is not None and k.distinct]
                matched /= max(distinct, default=max(min(left, right), 1.0))
            case _:
                matched /= 3.0
    match n.kind:
        case "left":
            return max(matched, left)
        case "right":
            return max(matched, right)
        case "full":
            return max(matched, left, right)
        case "semi":
            return min(left, matched)
        case "anti":
            return max(left - matched, left / 10)
    return matched


def _groups(n: Aggregate, rows: float, context: Context) -> float:
    if not n.keys:
        return 1.0
    groups = 1.0
    for key in n.keys:
        known = column_statistics(n.child, key.name, context) if isinstance(key, Column) else None
        groups *= known.distinct if known is not None and known.distinct else max(rows / 10, 1.0)
    return min(groups, rows)


class FixedStatistics:
    """Statistics given as values: what tests and golden plans use."""

    def __init__(
        self,
        tables: dict[str, TableStatistics] | None = None,
        queries: dict[str, int] | None = None,
        promises: dict[str, Promises] | None = None,
    ) -> None:
        self._tables, self._queries, self._promises = tables or {}, queries or {}, promises or {}

    def table(self, table: str) -> TableStatistics | None:
        return self._tables.get(table)

    def query_rows(self, sql: str) -> int | None:
        return self._queries.get(sql)

    def promises(self, table: str, columns: tuple[str, ...] = ()) -> Promises | None:
        del columns
        return self._promises.get(table)
