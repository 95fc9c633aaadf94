"""Seconds and bytes of a prediction whose weights are read tile by tile, and when it is needed."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from gradbase.ir.learning import Evaluate, Model, Predict
from gradbase.ir.splitting import way_of
from gradbase.ir.tensor import Tensor
from gradbase.optimizer.context import Context
from gradbase.optimizer.quantities import count_text, quantity
from gradbase.resources.tiled_plan import Planner, TiledPlan

RELATIONAL = "relational"
BATCHES = tuple(256 << i for i in range(9))
"""Rows of a batch that are considered; each batch reads all weights."""
CHECKED_BYTES_S = 3.0e9
"""Verifying the checksum of a page (BLAKE3 on one core of an EPYC takes 4.0 GB/s)."""
_PART_S = 3e-5
"""One part of one operator, beyond its arithmetic."""
_DL_ROWS, _DL_BATCHES = 256, 2
"""The smallest batch that `dl` is run with, and how many are there at once."""
_LARGE = 8
"""Weights from this part (one in …) of the memory on are large: tiles are considered."""


@functools.lru_cache(maxsize=64)
def _planner(
    model: Model, roots: tuple[Tensor, ...], row_bytes: int, memory_bytes: int, threads: int
) -> Planner:
    return Planner(model, row_bytes, memory_bytes, threads, roots=roots)


def tiled_plan(n: Predict | Evaluate, batch: int, context: Context) -> TiledPlan:
    """How a prediction in tiles would run in batches of at most `batch` rows.

    Raises
    ------
    ResourceError
        The memory is too small even for one row.
    """
    methods: Sequence[str] = n.methods if isinstance(n, Predict) else ()
    roots = tuple(dict.fromkeys(n.model.output(m).x for m in methods))
    row_bytes = n.child.schema.row_bytes
    made = _planner(n.model, roots, row_bytes, context.memory_bytes, context.threads)
    return made.plan(batch)


def tiled_seconds(n: Predict | Evaluate, rows: float, plan: TiledPlan, context: Context) -> float:
    """Scan, arithmetic, reading every weight once per batch, and what goes to disk."""
    calibration = context.calibration
    batches = math.ceil(rows / plan.rows)
    scan = rows * len(n.child.schema) * calibration.arrow_value_s
    compute = rows * n.model.flops / calibration.gemm_flops / plan.threads
    read_s = 1 / calibration.file_bytes_s + 1 / CHECKED_BYTES_S
    reading = batches * plan.read_bytes * read_s / plan.threads
    spilled = plan.disk_bytes * min(rows / plan.rows, batches)
    parts = sum(math.ceil(abs(t.shape[-1]) / plan.width) for t in plan.order if t.shape)
    return scan + compute + reading + 2 * spilled * read_s + batches * parts * _PART_S


def is_large(model: Model, context: Context) -> bool:
    """Whether reading a model's weights tile by tile is worth thinking about."""
    return model.param_bytes > context.memory_bytes // _LARGE


def does_not_fit(n: Predict | Evaluate, context: Context) -> str:
    """Why the network cannot be in memory as a whole, '' where it can."""
    per_row = 2 * n.child.schema.row_bytes + 8 * n.model.widest
    needed = n.model.param_bytes + per_row * _DL_ROWS * _DL_BATCHES
    if needed <= context.memory_bytes:
        return ""
    return (
        f"{quantity(needed, 'B')} for weights and a batch of {_DL_ROWS} rows exceed the "
        f"{quantity(context.memory_bytes, 'B')} that statements may use"
    )


def details(n: Predict | Evaluate, plan: TiledPlan, context: Context) -> tuple[str, ...]:
    """What EXPLAIN says of tiles, bytes and order."""
    rows = max(context.estimates[n.child].rows, 1.0)
    batches = math.ceil(rows / plan.rows)
    read = quantity(plan.read_bytes * batches, "B")
    page = quantity(plan.page_bytes, "B")
    each = quantity(plan.read_bytes, "B")
    once = f"every weight once per batch of {count_text(plan.rows)} rows"
    lease = f"{quantity(plan.size_bytes, 'B')} of {quantity(context.memory_bytes, 'B')}"
    lines = [
        f"tiles: {count_text(plan.tiles)} of {page}; reads {read} ({batches} x {each}, {once})",
        f"order: {'; '.join(_order(plan)) or 'one part'}",
        f"lease: {lease}, {plan.threads} threads",
    ]
    if plan.disk_bytes:
        lines.append(f"results on disk: {quantity(plan.disk_bytes, 'B')} per batch")
    return tuple(lines)


_SHOWN = 4


def _order(plan: TiledPlan) -> list[str]:
    """How the products go, the first few of them."""
    found: list[str] = []
    for node in plan.order:
        if way_of(node) == "linear":
            inputs = node.children[0]
            assert isinstance(inputs, Tensor)
            how = "sums kept, inputs in parts" if node in plan.summed else "outputs in parts"
            found.append(f"{inputs.shape[-1]} -> {node.shape[-1]} {how}")
    more = len(found) - _SHOWN
    return found[:_SHOWN] + ([f"{more} more products"] if more > 0 else [])
