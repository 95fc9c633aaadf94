"""Where and in which batches a prediction runs."""

from __future__ import annotations

from gradbase.errors import ResourceError, UnsupportedError
from gradbase.ir.learning import Evaluate, Model, Predict
from gradbase.ir.node import Node, walk
from gradbase.ir.scalar import SqlScalar
from gradbase.ir.tensor import UserModule
from gradbase.ir.unlabelled import ClusterQuality, ReconstructionQuality
from gradbase.optimizer.analyses.repeats import once_text
from gradbase.optimizer.context import Alternative, Choice, Context
from gradbase.optimizer.cost import estimate
from gradbase.optimizer.cost_predict import BATCHES, PLAIN_BATCH, predict_seconds
from gradbase.optimizer.cost_tiled import BATCHES as TILED_BATCHES
from gradbase.optimizer.cost_tiled import RELATIONAL, details, does_not_fit, is_large, tiled_plan
from gradbase.optimizer.rule import rule
from gradbase.resources.tiled_plan import stays_whole

INSIDE = ("udf", "executors")
"""Representations that predict where the engine's rows are; evaluations have none."""


@rule(mandatory=True, requires=("extract_predictions",))
def choose_representation(n: Node, ctx: Context) -> Node | None:
    """Set representation and batch of a prediction to what is expected to take least time.

    ``dl``: rows stream to torch in this process; ``udf``: a function inside the engine;
    ``executors``: torch goes to the rows, in processes of the engine's own;
    ``relational``: weights and results in tiles, read through the buffer pool, considered for large
    models and taken where weights and a batch do not fit in memory. Settings may force one of them;
    with the optimiser off: ``dl`` in batches of 8,192 where it fits.
    """
    match n:
        case Predict(representation=""):
            return _chosen(n, ctx, _allowed(n, ctx))
        case ClusterQuality(representation="") | ReconstructionQuality(representation=""):
            return _chosen(n, ctx, ("dl",))
        case Evaluate(representation=""):
            return _chosen(n, ctx, tuple(r for r in _allowed(n, ctx) if r not in INSIDE) or ("dl",))
    return None


def _allowed(n: Predict | Evaluate, ctx: Context) -> tuple[str, ...]:
    has, forced = ctx.capabilities, ctx.settings.representation
    possible = tuple(r for r in has.representations if r != "udf" or has.functions)
    if isinstance(n, Predict) and n.distinct:  # seen in whole batches only
        possible = tuple(r for r in possible if r not in INSIDE)
    if not _movable(n.model):
        possible = tuple(r for r in possible if r != "executors")
    if "dl" in possible:
        possible += (RELATIONAL,)
    if stays_whole(n.model):
        possible = tuple(r for r in possible if r != RELATIONAL)
        forced = "dl" if forced == RELATIONAL else forced
    if forced and forced not in possible:
        reason = has.unsupported.get(forced, f"it has {', '.join(possible) or 'none'}")
        raise UnsupportedError(
            f"{has.engine} cannot run predictions as `{forced}`: {reason}",
            hint="RESET gradbase.representation",
        )
    if forced:
        return (forced,)
    if does_not_fit(n, ctx):
        return (RELATIONAL,) if RELATIONAL in possible and not _bitwise(ctx) else possible
    if not is_large(n.model, ctx) or _bitwise(ctx):
        return tuple(r for r in possible if r != RELATIONAL)
    return possible


def _bitwise(ctx: Context) -> bool:
    """Sums over tiles are rounded otherwise."""
    return ctx.settings.exactness == "bitwise"


def _movable(model: Model) -> bool:
    """Whether all of a model can run without this process and without the engine's SQL."""
    return not any(isinstance(n, UserModule | SqlScalar) for n in walk(model))


def _chosen(n: Predict | Evaluate, ctx: Context, allowed: tuple[str, ...]) -> Node:
    estimate(n.child, ctx)
    if not ctx.settings.optimizer:
        return _plain(n, ctx, allowed)
    best: dict[str, tuple[float, int]] = {}
    for representation in allowed:
        try:
            best[representation] = min(
                (predict_seconds(n, representation, b, ctx), b)
                for b in _batches(n, representation, ctx)
            )
        except ResourceError:  # too little memory even for one tile
            if len(allowed) == 1:
                raise
    chosen = min(best, key=lambda r: best[r][0])
    made = n.replace(representation=chosen, batch_rows=best[chosen][1])
    alternatives = tuple(Alternative(f"{r} {b}", s) for r, (s, b) in sorted(best.items()))
    forced = len(allowed) == 1 and bool(ctx.settings.representation)
    reason = "forced by gradbase.representation" if forced else _reason(n, best, chosen, ctx)
    what = f"{chosen} {best[chosen][1]}"
    ctx.choices[made] = Choice(what, reason, alternatives, _details(n, chosen, best, ctx))
    return made


def _plain(n: Predict | Evaluate, ctx: Context, allowed: tuple[str, ...]) -> Node:
    plain = "dl" if "dl" in allowed else allowed[0]
    batch = ctx.settings.batch_rows or PLAIN_BATCH
    if plain == RELATIONAL:
        batch = tiled_plan(n, batch, ctx).rows
    made = n.replace(representation=plain, batch_rows=batch)
    ctx.choices[made] = Choice(f"{plain} {batch}", "the optimiser is off")
    return made


def _batches(n: Predict | Evaluate, representation: str, ctx: Context) -> tuple[int, ...]:
    """Rows of a batch that are possible."""
    given = ctx.settings.batch_rows
    match representation:
        case "dl" | "executors":
            return (given,) if given else BATCHES
        case "udf":
            return (ctx.calibration.udf_rows,)
        case _:
            wanted = (given,) if given else TILED_BATCHES
            return tuple(sorted({tiled_plan(n, b, ctx).rows for b in wanted}))


def _details(
    n: Predict | Evaluate, chosen: str, best: dict[str, tuple[float, int]], ctx: Context
) -> tuple[str, ...]:
    if chosen != RELATIONAL:
        return (once_text(n, ctx),) if isinstance(n, Predict) and n.distinct else ()
    return details(n, tiled_plan(n, best[chosen][1], ctx), ctx)


def _reason(
    n: Predict | Evaluate, best: dict[str, tuple[float, int]], chosen: str, ctx: Context
) -> str:
    if chosen == RELATIONAL and (why := does_not_fit(n, ctx)):
        return why
    if len(best) == 1:
        why = ctx.capabilities.unsupported.get("udf", "") if isinstance(n, Predict) else ""
        return f"the only one here: {why}" if why else "the only one here"
    others = min(s for r, (s, _) in best.items() if r != chosen)
    saved = others / max(best[chosen][0], 1e-12)
    return f"{saved:.1f}x faster for {n.model.flops:,.0f} FLOPs a row"
