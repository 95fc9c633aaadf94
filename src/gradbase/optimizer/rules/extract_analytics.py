"""Preprocessing functions that learn from all rows become `Preprocess` operators."""

from __future__ import annotations

from gradbase.ir.analytic import Analytic, analytics
from gradbase.ir.learning import Preprocess
from gradbase.ir.node import Node
from gradbase.ir.relational import Project, Relation
from gradbase.ir.scalar import Column, Scalar, substituted
from gradbase.optimizer.analyses.lowering import columns_of
from gradbase.optimizer.context import Context
from gradbase.optimizer.rule import rule


@rule(mandatory=True, requires=("extract_predictions",))
def extract_analytics(n: Node, ctx: Context) -> Node | None:
    """Learn and compute each analytic function of a projection by a `Preprocess` below it.

    What it reads is computed by a `Project` below that; a function over another one's result stands
    above it.
    """
    if not isinstance(n, Project) or not any(analytics(e) for e in n.exprs):
        return None
    child, exprs = n.child, n.exprs
    while True:
        waiting = dict.fromkeys(a for e in exprs for a in analytics(e) if not analytics(a.arg))
        if not waiting:
            return Project(child, n.names, exprs)
        child, columns = _learnt(child, tuple(waiting), ctx)
        exprs = tuple(substituted(e, columns) for e in exprs)


def _learnt(
    child: Relation, functions: tuple[Analytic, ...], ctx: Context
) -> tuple[Relation, dict[Scalar, Column]]:
    """`child` with a column per function, and these columns."""
    kept = columns_of(child, child.schema.names)
    args = {f.arg: ctx.fresh() for f in functions if not isinstance(f.arg, Column)}
    if args:
        child = Project(child, (*kept.names, *args.values()), (*kept.exprs, *args))
    over = tuple(
        f.replace(arg=Column(args[f.arg], f.arg.type)) if f.arg in args else f for f in functions
    )
    names = tuple(ctx.fresh() for _ in functions)
    made = Preprocess(child, names, over)
    pairs = zip(functions, names, strict=True)
    return made, {f: Column(name, f.type) for f, name in pairs}
