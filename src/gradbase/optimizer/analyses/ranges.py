"""Between which numbers the features of a prediction lie."""

from __future__ import annotations

import math

from gradbase.ir.facts import Range
from gradbase.ir.learning import Predict
from gradbase.optimizer.analyses.known import Known, known_values
from gradbase.optimizer.analyses.proofs import promised
from gradbase.optimizer.context import Context
from gradbase.optimizer.cost import estimate
from gradbase.optimizer.cost_predict import PLAIN_BATCH, row_seconds

_ASKING_S = 4e-3
"""Asking for bounds of a table's columns, again whenever the plan is used again."""
_SMALL = 50.0
"""How many times as long a prediction must take for bounds to be asked for."""


def ranges(n: Predict, context: Context) -> dict[str, Range]:
    """By feature what filters say and, where much is computed, the bounds of the table's storage.

    Features of which neither says anything are left out.
    """
    known, found = known_values(n.child), dict[str, Range]()
    asked = prediction_seconds(n, context) > _SMALL * _ASKING_S
    for feature, column in zip(n.model.features, n.features, strict=True):
        made = _range(n, column, known.get(column), context, asked=asked)
        if made != Range():
            found[feature.name] = made
    return found


def prediction_seconds(n: Predict, context: Context) -> float:
    """Computing all rows on one core, without what hands them over."""
    return estimate(n.child, context).rows * row_seconds(n.model, PLAIN_BATCH, context)


def _range(n: Predict, column: str, known: Known | None, ctx: Context, *, asked: bool) -> Range:
    low, high = (known.low, known.high) if known is not None else (-math.inf, math.inf)
    null = known is None
    nan = n.child.schema.type_of(column).is_float and not math.isfinite(high)
    given = promised(n.child, column, ctx) if asked else None
    if given is not None:
        found, promises = given
        null = null and (found.filled_up or found.column not in promises.filled)
        if found.column in promises.ranges:
            least, most = promises.ranges[found.column]
            low, high, nan = max(low, least), min(high, most), False
    return Range(low, high, nan or (null and not n.model.imported))
