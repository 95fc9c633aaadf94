"""Questions about joins: which side keeps its rows, and what may go wrong below them."""

from __future__ import annotations

from collections.abc import Iterable

from gradbase.ir.learning import Feature, Model
from gradbase.ir.relational import Join, Relation
from gradbase.optimizer.analyses.lowering import columns_of
from gradbase.optimizer.context import Context

PRESERVED = {
    "inner": (True, True),
    "cross": (True, True),
    "left": (True, False),
    "right": (False, True),
    "semi": (True, False),
    "anti": (True, False),
    "full": (False, False),
}
"""Whether each row of a join's left and right side keeps its values in the result, or is gone."""


def reads_back_cheaply(context: Context) -> bool:
    """Whether a join of the engine's may read what is computed here without its being copied.

    An engine in another process would get it as a temporary table; and a representation that is
    forced is meant for the prediction as it is written.
    """
    allowed = context.settings.representation
    return context.capabilities.embedded and (not allowed or "dl" in allowed.split(", "))


def may_fail(model: Model, features: Iterable[Feature]) -> bool:
    """Whether one of `features` may be ±Inf, which is an error in a row that is predicted."""
    elements = (f.of.element or f.of for f in features)
    return not model.imported and any(e.is_float for e in elements)


def with_partner(join: Join, side: Relation) -> Relation | None:
    """The rows of one side that come into a join's result; None where that is not known.

    Those that find a partner, or all where an outer join keeps them.
    """
    if join.kind not in ("inner", "left", "right") or join.condition is None:
        return None
    if join.kind != "inner" and side is (join.left if join.kind == "left" else join.right):
        return side
    other = join.right if side is join.left else join.left
    keys = tuple(c for c in other.schema.names if c in join.condition.columns)
    return Join(side, columns_of(other, keys), "semi", join.condition) if keys else None
