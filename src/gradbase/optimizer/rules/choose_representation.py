"""Where and in which batches a prediction runs."""

from __future__ import annotations

from gradbase.errors import UnsupportedError
from gradbase.ir.learning import Evaluate, Predict
from gradbase.ir.node import Node
from gradbase.optimizer.context import Alternative, Choice, Context
from gradbase.optimizer.cost import estimate
from gradbase.optimizer.cost_predict import BATCHES, PLAIN_BATCH, predict_seconds
from gradbase.optimizer.rule import rule


@rule(mandatory=True, requires=("extract_predictions",))
def choose_representation(n: Node, ctx: Context) -> Node | None:
    """Set representation and batch of a prediction to what is expected to take least time.

    ``dl``: rows stream to torch in this process; ``udf``: a function inside the engine. Settings
    may force either; with the optimiser off: ``dl`` in batches of 8,192.
    """
    match n:
        case Predict(representation=""):
            return _chosen(n, ctx, _allowed(ctx))
        case Evaluate(representation=""):
            return _chosen(n, ctx, ("dl",))
    return None


def _allowed(ctx: Context) -> tuple[str, ...]:
    has = ctx.capabilities
    possible = tuple(r for r in has.representations if r != "udf" or has.functions)
    forced = ctx.settings.representation
    if forced and forced not in possible:
        reason = has.unsupported.get(forced, f"it has {', '.join(possible) or 'none'}")
        raise UnsupportedError(
            f"{has.engine} cannot run predictions as `{forced}`: {reason}",
            hint="RESET gradbase.representation",
        )
    return (forced,) if forced else possible


def _chosen(n: Predict | Evaluate, ctx: Context, allowed: tuple[str, ...]) -> Node:
    settings = ctx.settings
    if not settings.optimizer:
        plain = "dl" if "dl" in allowed else allowed[0]
        batch = settings.batch_rows or PLAIN_BATCH
        made = n.replace(representation=plain, batch_rows=batch)
        ctx.choices[made] = Choice(f"{plain} {batch}", "the optimiser is off")
        return made
    estimate(n.child, ctx)
    best: dict[str, tuple[float, int]] = {}
    for representation in allowed:
        dl = representation == "dl"
        batches = (settings.batch_rows,) if settings.batch_rows else BATCHES
        sizes = batches if dl else (ctx.calibration.udf_rows,)
        best[representation] = min((predict_seconds(n, representation, b, ctx), b) for b in sizes)
    chosen = min(best, key=lambda r: best[r][0])
    made = n.replace(representation=chosen, batch_rows=best[chosen][1])
    alternatives = tuple(Alternative(f"{r} {b}", s) for r, (s, b) in sorted(best.items()))
    forced = len(allowed) == 1 and bool(settings.representation)
    reason = "forced by gradbase.representation" if forced else _reason(n, best, chosen, ctx)
    ctx.choices[made] = Choice(f"{chosen} {best[chosen][1]}", reason, alternatives)
    return made


def _reason(
    n: Predict | Evaluate, best: dict[str, tuple[float, int]], chosen: str, ctx: Context
) -> str:
    if len(best) == 1:
        why = ctx.capabilities.unsupported.get("udf", "") if isinstance(n, Predict) else ""
        return f"the only one here: {why}" if why else "the only one here"
    others = min(s for r, (s, _) in best.items() if r != chosen)
    saved = others / max(best[chosen][0], 1e-12)
    return f"{saved:.1f}x faster for {n.model.flops:,.0f} FLOPs a row"
