"""LIMIT, with or without ORDER BY, moves below projections."""

from __future__ import annotations

from gradbase.ir.node import Node
from gradbase.ir.relational import Limit, Project, Sort
from gradbase.ir.scalar import Column
from gradbase.optimizer.analyses.columns import expand
from gradbase.optimizer.context import Context
from gradbase.optimizer.rule import rule


@rule(requires=("extract_predictions",), source="textbook")
def push_limit_below_project(n: Node, ctx: Context) -> Node | None:
    """Limit(Project(x)) -> Project(Limit(x)); Limit(Sort(Project(x))) -> Project(Limit(Sort(x))).

    Sort keys must be over columns passed through; nothing volatile may be computed.
    """
    del ctx
    match n:
        case Limit(child=Project(child=x) as project) if not _volatile(project):
            return project.replace(child=n.replace(child=x))
        case Limit(child=Sort(child=Project(child=x) as project, keys=keys) as sort):
            pairs = zip(project.names, project.exprs, strict=True)
            passed = {name for name, e in pairs if isinstance(e, Column)}
            if _volatile(project) or not all(k.columns <= passed for k in keys):
                return None
            below = expand(project, keys)
            if below is None:
                return None
            return project.replace(child=n.replace(child=sort.replace(child=x, keys=below)))
    return None


def _volatile(project: Project) -> bool:
    return any(e.volatile for e in project.exprs)
