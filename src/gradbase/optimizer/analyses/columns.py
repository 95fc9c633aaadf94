"""Which columns an operator reads, and what they are one operator further down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from gradbase.ir.learning import Predict, Preprocess
from gradbase.ir.relational import Aggregate, Filter, Join, Limit, Project, Relation, Scan, Sort
from gradbase.ir.relational import Union as UnionAll
from gradbase.ir.scalar import Column, Literal, Parameter, Scalar, substituted
from gradbase.ir.scalar import scalars as below
from gradbase.ir.types import Schema
from gradbase.optimizer.analyses.lowering import columns_of

_ATOMS = (Column, Literal, Parameter)


def columns_in(scalars: Iterable[Scalar]) -> frozenset[str]:
    """All columns that `scalars` read."""
    return frozenset[str]().union(*(s.columns for s in scalars))


def expand(inner: Project, scalars: tuple[Scalar, ...]) -> tuple[Scalar, ...] | None:
    """`scalars` over `inner` as expressions over its child; None where one reads a volatile."""
    mapping: dict[Scalar, Scalar] = {}
    read = columns_in(scalars)
    for name, expr in zip(inner.names, inner.exprs, strict=True):
        if name in read:
            if expr.volatile:
                return None
            mapping[Column(name, expr.type)] = expr
    if any(Column(n, t) not in mapping for s in scalars for n, t in _typed(s)):
        return None
    return tuple(substituted(s, mapping) for s in scalars)


def _typed(scalar: Scalar) -> set[tuple[str, object]]:
    return {(c.name, c.of) for c in below(scalar, Column)}


def read_through(inner: Project, scalars: tuple[Scalar, ...]) -> tuple[Scalar, ...] | None:
    """As `expand`, and None too where `inner` is volatile anywhere or work would be repeated."""
    if any(e.volatile for e in inner.exprs):
        return None
    work = {
        name: expr
        for name, expr in zip(inner.names, inner.exprs, strict=True)
        if not isinstance(expr, _ATOMS)
    }
    uses: Counter[str] = Counter()
    for scalar in scalars:
        uses.update(scalar.columns)
        if not isinstance(scalar, Column) and scalar.columns & work.keys():
            return None
    if any(uses[name] > 1 for name in work):
        return None
    return expand(inner, scalars)


# -- narrowing ---------------------------------------------------------------------------------


def keep(relation: Relation, needed: frozenset[str]) -> Relation:
    """The columns `needed` of `relation`, in its order, at least one; itself if these are all.

    Where nothing is needed (``count(*)``), the narrowest column stays.
    """
    names = tuple(n for n in relation.schema.names if n in needed)
    if not names:
        names = (narrowest(relation.schema),)
    return relation if names == relation.schema.names else columns_of(relation, names)


def narrowest(schema: Schema) -> str:
    """The column of fewest bytes, the first of several."""
    return min(schema, key=lambda f: f.type.width_bytes).name


def narrow(child: Relation, needed: frozenset[str]) -> Relation | None:
    """`child` without what only feeds columns outside `needed`, one operator deep.

    The result has at least the columns `needed`. None: there is nothing to leave out.
    """
    narrowed: Relation | None = None
    match child:
        case Scan(columns=columns):
            kept = keep(child, needed).schema.names
            narrowed = child.replace(columns=columns.select(kept))
        case Project(child=x):
            kept = keep(child, needed).schema.names
            exprs = tuple(e for n, e in zip(child.names, child.exprs, strict=True) if n in kept)
            narrowed = Project(x, kept, exprs)
        case Filter(child=x, predicate=p):
            narrowed = Filter(keep(x, needed | p.columns), p)
        case Sort(child=x, keys=keys):
            narrowed = child.replace(child=keep(x, needed | columns_in(keys)))
        case Limit(child=x):
            narrowed = child.replace(child=keep(x, needed))
        case Predict(child=x, features=features):
            narrowed = child.replace(child=keep(x, needed - {*child.names} | {*features}))
        case Preprocess():
            narrowed = _narrow_preprocess(child, needed)
        case Join():
            narrowed = _narrow_join(child, needed)
        case Aggregate():
            narrowed = _narrow_aggregate(child, needed)
        case UnionAll(inputs=inputs, keep_duplicates=True):
            kept = keep(child, needed).schema.names
            at = [child.schema.names.index(n) for n in kept]
            parts = (keep(r, frozenset(r.schema.names[i] for i in at)) for r in inputs)
            narrowed = child.replace(inputs=tuple(parts))
        case _:
            pass
    return None if narrowed is child else narrowed


def _narrow_preprocess(n: Preprocess, needed: frozenset[str]) -> Relation:
    pairs = zip(n.names, n.exprs, strict=True)
    kept = [(name, e) for name, e in pairs if name in needed]
    if not kept:
        return keep(n.child, needed)
    names, exprs = tuple(name for name, _ in kept), tuple(e for _, e in kept)
    child = keep(n.child, needed - {*n.names} | columns_in(exprs))
    return Preprocess(child, names, exprs)


def _narrow_join(join: Join, needed: frozenset[str]) -> Relation:
    on = join.condition.columns if join.condition is not None else frozenset[str]()
    right = on if join.kind in ("semi", "anti") else needed | on
    return join.replace(left=keep(join.left, needed | on), right=keep(join.right, right))


def _narrow_aggregate(n: Aggregate, needed: frozenset[str]) -> Relation:
    pairs = zip(n.aggregate_names, n.aggregates, strict=True)
    kept = [(name, a) for name, a in pairs if name in needed]
    if not kept and not n.keys:
        kept = [(n.aggregate_names[0], n.aggregates[0])]
    names, aggregates = tuple(name for name, _ in kept), tuple(a for _, a in kept)
    return n.replace(aggregate_names=names, aggregates=aggregates)
