"""Where and in which batches a prediction runs."""

from __future__ import annotations

from gradbase.errors import ResourceError, UnsupportedError
from gradbase.ir.learning import Evaluate, Predict
from gradbase.ir.node import Node
from gradbase.ir.relational import Rebatch
from gradbase.ir.unlabelled import ClusterQuality, ReconstructionQuality
from gradbase.optimizer.analyses.repeats import once_text
from gradbase.optimizer.analyses.representations import INSIDE, OUTSIDE, misfit
from gradbase.optimizer.context import Alternative, Choice, Context
from gradbase.optimizer.cost import estimate
from gradbase.optimizer.cost_predict import (
    BATCHES,
    ENGINE_ROWS,
    ONNX,
    PLAIN_BATCH,
    SQL,
    operator_name,
    predict_seconds,
)
from gradbase.optimizer.cost_tiled import BATCHES as TILED_BATCHES
from gradbase.optimizer.cost_tiled import RELATIONAL, details, does_not_fit, is_large, tiled_plan
from gradbase.optimizer.quantities import quantity
from gradbase.optimizer.rule import rule

_TOLD = 0.05
"""Corrections smaller than this are not worth a line."""


@rule(mandatory=True, requires=("extract_predictions",))
def choose_representation(n: Node, ctx: Context) -> Node | None:
    """Set representation and batch of a prediction to what is expected to take least time.

    ``dl``: rows stream to torch in this process; ``onnx``: to ONNX Runtime instead; ``udf``: a
    function inside the engine; ``sql``: the model as text, for small ones; ``executors``: torch
    goes to the rows, in processes of the engine's own; ``relational``: weights and results in
    tiles, read through the buffer pool, considered for large models and taken where weights and a
    batch do not fit in memory. Settings may force some of them; with the optimiser off: ``dl`` in
    batches of 8,192 where it fits. Where rows leave the engine a `Rebatch` joins what filters
    leave of its batches.
    """
    match n:
        case Predict(representation=""):
            return _chosen(n, ctx, *_allowed(n, ctx))
        case ClusterQuality(representation="") | ReconstructionQuality(representation=""):
            return _chosen(n, ctx, ("dl",), ())
        case Evaluate(representation=""):
            allowed, notes = _allowed(n, ctx)
            outside = tuple(r for r in allowed if r not in INSIDE)
            return _chosen(n, ctx, outside or ("dl",), notes)
    return None


def _allowed(n: Predict | Evaluate, ctx: Context) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Representations to choose from, and what is to be said of those that are not among them."""
    forced = tuple(r for r in ctx.settings.representation.split(", ") if r)
    offered = ctx.capabilities.representations
    known = (*offered, *OUTSIDE[1:]) if "dl" in offered else offered
    _refuse(tuple(r for r in forced if r not in known), known, ctx)
    reasons = {r: misfit(n, r, ctx) for r in known}
    possible = tuple(r for r in known if not reasons[r])
    if wanted := tuple(r for r in forced if r in possible):
        return wanted, ()
    notes = tuple(f"{r} is asked for and cannot serve: {reasons[r]}" for r in forced)
    if does_not_fit(n, ctx) and RELATIONAL in possible and not _bitwise(ctx):
        return (RELATIONAL,), notes
    if (not is_large(n.model, ctx) and not does_not_fit(n, ctx)) or _bitwise(ctx):
        possible = tuple(r for r in possible if r != RELATIONAL)
    if _bitwise(ctx) or not ctx.calibration.sql_term_s:
        possible = tuple(r for r in possible if r != SQL)
    if _bitwise(ctx) or not ctx.calibration.onnx_flops:
        possible = tuple(r for r in possible if r != ONNX)
    return possible, notes


def _refuse(missing: tuple[str, ...], known: tuple[str, ...], ctx: Context) -> None:
    """UnsupportedError where the engine has none of what is asked for."""
    if missing:
        has = ctx.capabilities
        reason = has.unsupported.get(missing[0], f"it has {', '.join(known) or 'none'}")
        raise UnsupportedError(
            f"{has.engine} cannot run predictions as `{missing[0]}`: {reason}",
            hint="RESET gradbase.representation",
        )


def _bitwise(ctx: Context) -> bool:
    """Sums over tiles and in SQL are rounded otherwise."""
    return ctx.settings.exactness == "bitwise"


def _chosen(
    n: Predict | Evaluate, ctx: Context, allowed: tuple[str, ...], notes: tuple[str, ...]
) -> Node:
    estimate(n.child, ctx)
    if not ctx.settings.optimizer:
        return _plain(n, ctx, allowed, notes)
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
    made = _made(n, chosen, best[chosen][1])
    alternatives = tuple(Alternative(f"{r} {b}", s) for r, (s, b) in sorted(best.items()))
    forced = len(allowed) == 1 and bool(ctx.settings.representation) and not notes
    reason = "forced by gradbase.representation" if forced else _reason(n, best, chosen, ctx)
    what = f"{chosen} {best[chosen][1]}"
    details = (*notes, *_details(n, chosen, best, ctx), *_learnt(n, chosen, ctx))
    ctx.chose(n, made, Choice(what, reason, alternatives, details))
    return made


def _made(n: Predict | Evaluate, representation: str, batch: int) -> Predict | Evaluate:
    """`n` as chosen, over rows in batches that it likes."""
    if representation in INSIDE:
        return n.replace(representation=representation, batch_rows=batch)
    child = Rebatch(n.child, max(batch, ENGINE_ROWS))
    return n.replace(child=child, representation=representation, batch_rows=batch)


def _plain(
    n: Predict | Evaluate, ctx: Context, allowed: tuple[str, ...], notes: tuple[str, ...]
) -> Node:
    plain = "dl" if "dl" in allowed else allowed[0]
    batch = ctx.settings.batch_rows or PLAIN_BATCH
    if plain == RELATIONAL:
        batch = tiled_plan(n, batch, ctx).rows
    made = n.replace(representation=plain, batch_rows=batch)
    ctx.chose(n, made, Choice(f"{plain} {batch}", "the optimiser is off", (), notes))
    return made


def _batches(n: Predict | Evaluate, representation: str, ctx: Context) -> tuple[int, ...]:
    """Rows of a batch that are possible."""
    given = ctx.settings.batch_rows
    match representation:
        case "dl" | "onnx" | "executors":
            return (given,) if given else BATCHES
        case "udf" | "sql":
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


def _learnt(n: Predict | Evaluate, chosen: str, ctx: Context) -> tuple[str, ...]:
    """What history and a first use add to the estimate."""
    found: list[str] = []
    ratio = ctx.history.ratio(operator_name(n.model, chosen))
    if abs(ratio - 1) > _TOLD:
        found.append(f"computing is expected to take {ratio:.2f} times the estimate, as before")
    if chosen not in (RELATIONAL, SQL) and not ctx.is_loaded(n.model, chosen):
        found.append(f"first use: {quantity(n.model.param_bytes, 'B')} of weights are read")
    return tuple(found)


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
