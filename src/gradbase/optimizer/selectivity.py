"""Which part of the rows a condition keeps, in [0, 1].

Where statistics say nothing: equality 0.1, a range 1/3, text the engine alone understands 1/3,
NULL 0.05 (the usual guesses of textbooks); a probability above x: 1 - x.
"""

from __future__ import annotations

from gradbase.ir.facts import ColumnStatistics
from gradbase.ir.learning import Predict, Preprocess
from gradbase.ir.relational import Filter, Join, Limit, Project, Rebatch, Relation, Scan, Sort
from gradbase.ir.scalar import And, Column, Compare, IsNull, Literal, Not, Or, PredictCall, Scalar
from gradbase.optimizer.context import Context

EQUAL, RANGE, UNKNOWN, NULL = 0.1, 1 / 3, 1 / 3, 0.05
_LEAST = 1e-4
_SWAPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


def selectivity(predicate: Scalar, child: Relation, context: Context) -> float:
    """Part of the rows of `child` that `predicate` keeps."""
    done: dict[Scalar, float] = {}
    for node in _scalars(predicate):
        done[node] = min(1.0, max(_LEAST, _one(node, done, child, context)))
    return done[predicate]


def _scalars(root: Scalar) -> list[Scalar]:
    """And, Or and Not below `root` and what they stand on, children first."""
    order: list[Scalar] = []
    stack = [root]
    while stack:
        node = stack.pop()
        order.append(node)
        if isinstance(node, (And, Or)):
            stack.extend(node.args)
        elif isinstance(node, Not):
            stack.append(node.arg)
    return order[::-1]


def _one(node: Scalar, done: dict[Scalar, float], child: Relation, context: Context) -> float:
    match node:
        case And(args=args):
            kept = 1.0
            for arg in args:
                kept *= done[arg]
            return kept
        case Or(args=args):
            lost = 1.0
            for arg in args:
                lost *= 1.0 - done[arg]
            return 1.0 - lost
        case Not(arg=arg):
            return 1.0 - done[arg]
        case Compare(left=Literal() as left, right=right, op=op) if not isinstance(right, Literal):
            return _compare(_SWAPPED.get(op, op), right, left, child, context)
        case Compare(op=op, left=left, right=right):
            return _compare(op, left, right, child, context)
        case IsNull(arg=Column(name=name)):
            known = column_statistics(child, name, context)
            return known.null_fraction if known is not None else NULL
        case IsNull():
            return NULL
        case Literal(value=value):
            return 1.0 if value is True else 0.0
        case Column() | PredictCall():
            return 0.5
        case _:
            return UNKNOWN


def _compare(op: str, left: Scalar, right: Scalar, child: Relation, context: Context) -> float:
    classes = _classes(left, child)
    if classes is not None:
        return _predicted(op, classes, right)
    known = column_statistics(child, left.name, context) if isinstance(left, Column) else None
    if op in ("=", "<>"):
        equal = 1.0 / known.distinct if known is not None and known.distinct else EQUAL
        return equal if op == "=" else 1.0 - equal
    part = _below(known, right) if known is not None else None
    if part is None:
        return RANGE
    return part if op in ("<", "<=") else 1.0 - part


def _classes(scalar: Scalar, child: Relation) -> int | None:
    """How many classes a prediction chooses from: 0 for a probability, None: no prediction."""
    match scalar:
        case PredictCall(model=model, output=method):
            pass
        case Column(name=name):
            found = origin(child, name)
            if found is None or not isinstance(found[0], Predict):
                return None
            model, method = found[0].model, found[0].methods[found[0].names.index(found[1])]
        case _:
            return None
    if method == "proba":
        return 0
    return len(model.output(method).classes) or None


def _predicted(op: str, classes: int, right: Scalar) -> float:
    if classes:
        return 1.0 / classes if op == "=" else 1.0 - 1.0 / classes
    value = right.value if isinstance(right, Literal) else 0.5
    threshold = float(value) if isinstance(value, (int, float)) else 0.5
    above = min(0.95, max(0.05, 1.0 - threshold))
    return above if op in (">", ">=") else 1.0 - above


def _below(known: ColumnStatistics, right: Scalar) -> float | None:
    """Part of the values below a constant, as if they were spread evenly."""
    value = right.value if isinstance(right, Literal) else None
    low, high = known.minimum, known.maximum
    bounds = (value, low, high)
    if not all(isinstance(b, (int, float)) and not isinstance(b, bool) for b in bounds):
        return None
    at, first, last = (float(b) for b in bounds if isinstance(b, (int, float)))
    return (at - first) / (last - first) if last > first else None


# -- where a column comes from -----------------------------------------------------------------


def origin(relation: Relation, name: str) -> tuple[Relation, str] | None:
    """The operator that makes column `name` (a Scan or a Predict) and its name there."""
    current: Relation | None = relation
    while current is not None:
        match current:
            case Scan():
                return current, name
            case Predict(names=names) if name in names:
                return current, name
            case Preprocess(child=x) if name in x.schema:
                current = x
            case Predict(child=x) | Filter(child=x) | Sort(child=x) | Limit(child=x):
                current = x
            case Rebatch(child=x):
                current = x
            case Project(child=x, names=names, exprs=exprs):
                expr = exprs[names.index(name)]
                current, name = (x, expr.name) if isinstance(expr, Column) else (None, name)
            case Join(left=left, right=right):
                current = left if name in left.schema else right
            case _:
                current = None
    return None


def column_statistics(relation: Relation, name: str, context: Context) -> ColumnStatistics | None:
    """What is known of column `name` of `relation` in the table it comes from."""
    found = origin(relation, name)
    if found is None or not isinstance(found[0], Scan):
        return None
    table = context.statistics.table(found[0].table)
    return None if table is None else table.columns.get(found[0].source(found[1]))
