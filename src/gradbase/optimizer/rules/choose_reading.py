"""How the rows of a training come from an engine that can write files."""

from __future__ import annotations

from gradbase.ir.learning import Dataset, Evaluate, Predict, Preprocess
from gradbase.ir.node import Node, walk
from gradbase.ir.scalar import PredictCall
from gradbase.optimizer.context import Alternative, Choice, Context
from gradbase.optimizer.cost import estimate
from gradbase.optimizer.cost_reading import PARQUET, reading_seconds
from gradbase.optimizer.rule import rule

_OURS = (Predict, Evaluate, Preprocess, PredictCall)


@rule(requires=("share_scan",), source="own")
def choose_reading(n: Node, ctx: Context) -> Node | None:
    """Dataset that would be streamed -> one that the engine writes as Parquet where that is faster.

    The engine must be able to write files, and compute the whole relation itself.
    """
    match n:
        case Dataset(relation=relation, reading="stream") if ctx.capabilities.writers:
            if any(isinstance(part, _OURS) for part in walk(relation)):
                return None
            estimate(n, ctx)
            seconds = reading_seconds(n, ctx)
            best = min(seconds, key=lambda way: seconds[way])
            chosen = n.replace(reading=best)
            by = f"written once by {ctx.capabilities.writers} cores, then read"
            ctx.choices[chosen] = Choice(
                f"rows by {best}",
                by if best == PARQUET else "sent to this process as they come",
                tuple(Alternative(way, s) for way, s in seconds.items()),
            )
            return None if chosen is n else chosen
    return None
