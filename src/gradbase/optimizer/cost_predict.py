"""Seconds of a prediction, by representation and batch.

Checked against two networks over 2 million rows of 28 floats (2-core EPYC), in millions of rows a
second, measured then estimated: ``dl`` 28-16-1 10.9 and 12.7, 28-256-1 3.3 and 2.4; ``udf`` 3.8 and
3.2, 3.1 and 1.9.
"""

from __future__ import annotations

import functools
import math
from typing import Protocol

from gradbase.ir.chains import chain_of
from gradbase.ir.conversion import ToTensor, per_row
from gradbase.ir.facts import Settings
from gradbase.ir.learning import Evaluate, Model, Predict
from gradbase.ir.relational import Filter, Relation
from gradbase.ir.shapes import elements
from gradbase.ir.tensor import Concat
from gradbase.ir.types import Schema
from gradbase.optimizer.analyses.portable import sql_terms
from gradbase.optimizer.analyses.repeats import distinct_share, finding_seconds
from gradbase.optimizer.context import Context
from gradbase.optimizer.cost_tiled import CHECKED_BYTES_S, RELATIONAL, tiled_plan, tiled_seconds
from gradbase.resources.calibration import Calibration

SQL, ONNX = "sql", "onnx"
PLAIN_BATCH = 8192
BATCHES = tuple(256 << i for i in range(7))
"""Rows computed at once that are considered: 256 to 16,384. Beyond, the engine's threads wait for
one that computes: 28-16-1 over 2 million rows took 0.106 s in batches of 16,384, 0.113 s of
32,768."""

_SETUP_S = {"dl": 2e-3, "udf": 6e-3, "executors": 0.2, "sql": 1e-3}
"""Starting a stream or registering a function, which takes 4 ms longer (measured with one row);
asking Spark's Python processes, which have the program already."""
_PLANNED_S = 2e-5
"""An engine reading and planning a number of a model's SQL."""
_EXPORT_S, _ONNX_OPS = 3.0, 8
"""Writing a network as ONNX once in a session; small torch calls that a call is worth."""
_FETCH_S, _HAND_S = 2e-7, 3e-8
"""A value on its way from Spark to this process, from Spark to its own Python and back."""
ENGINE_ROWS = 16_384
"""Rows of a batch that an engine hands over."""
_CACHED, _SHARED = 4.0, 2.0
"""How much faster activations move in the second-level and in the last-level cache than
`copy_bytes_s` (28-16-1 is fastest in tiles of 16,384 rows, 28-256-1 in tiles of 4,096)."""
_SHARED_CACHE = 16
"""Last-level cache of a core's share, in second-level caches."""
_COLUMN_OPS = 0.25
"""Small torch calls that gathering one column of a tile is worth."""


@functools.lru_cache(maxsize=256)
def _shape(model: Model) -> tuple[int, int]:
    """(calls of torch, bytes of all tensors per row); columns are gathered, not called for."""
    tensors = per_row(model)
    calls = [n for n in tensors if not isinstance(n, (Concat, ToTensor))]
    return len(calls), sum(4 * elements(n.shape) for n in tensors)


def is_native(model: Model, context: Machine) -> bool:
    """Whether machine code of ours computes the model: one chain of layers."""
    if not context.calibration.layers_flops or context.settings.exactness == "bitwise":
        return False
    roots = {o.x for o in model.outputs}
    return len(roots) == 1 and chain_of(roots.pop()) is not None


class Machine(Protocol):
    """What the seconds of arithmetic follow from."""

    @property
    def calibration(self) -> Calibration: ...

    @property
    def settings(self) -> Settings: ...


def operator_name(model: Model, representation: str) -> str:
    """What history calls a model in a representation."""
    return f"{representation} {model.address} {model.flops:.0f} {model.param_bytes}"


def row_seconds(model: Model, batch: int, context: Machine) -> float:
    """Computing one row of a batch of `batch` rows on one core, without what history says."""
    calibration = context.calibration
    if is_native(model, context):
        per_batch = (1 + _COLUMN_OPS * len(model.features)) * calibration.op_s
        read = 4 * len(model.features) / (calibration.copy_bytes_s * _SHARED)
        return model.flops / calibration.layers_flops + read + per_batch / batch
    operators, traffic = _shape(model)
    working = (8 * model.widest + 4 * len(model.features)) * batch
    speed = calibration.copy_bytes_s
    if working <= calibration.cache_bytes:
        speed *= _CACHED
    elif working <= _SHARED_CACHE * calibration.cache_bytes:
        speed *= _SHARED
    calls = operators + _COLUMN_OPS * len(model.features)
    per_batch = calls * calibration.op_s + model.param_bytes / (speed * _CACHED)
    return model.flops / calibration.gemm_flops + traffic / speed + per_batch / batch


def onnx_row_seconds(model: Model, batch: int, context: Machine) -> float:
    """As `row_seconds`, by ONNX Runtime: operators are fused, and one call does all."""
    calibration = context.calibration
    _, traffic = _shape(model)
    speed = calibration.copy_bytes_s * _CACHED
    calls = (_ONNX_OPS + _COLUMN_OPS * len(model.features)) * calibration.op_s
    arithmetic = model.flops / (calibration.onnx_flops or calibration.gemm_flops)
    return arithmetic + traffic / speed + calls / batch


def predict_seconds(
    n: Predict | Evaluate, representation: str, batch: int, context: Context
) -> float:
    """Running the prediction over all rows of its child, with handing them over."""
    rows = max(context.estimates[n.child].rows, 1.0)
    loaded = context.is_loaded(n.model, representation)
    loading = 0.0 if loaded else _loading_seconds(n.model, representation, context)
    if representation in ("dl", ONNX):
        away = "executors" in context.capabilities.representations
        fetched = rows * _values(n.child.schema) * _FETCH_S if away else 0.0
        return _SETUP_S["dl"] + loading + fetched + _dl(n, rows, batch, representation, context)
    if representation == "executors":
        compute = row_seconds(n.model, min(batch, math.ceil(rows)), context)
        handed = _values(n.child.schema) * _HAND_S
        return _SETUP_S["executors"] + rows * (handed + compute) / context.threads
    if representation == SQL:
        terms = sql_terms(n.model)
        computed = rows * terms * context.calibration.sql_term_s / context.threads
        return _SETUP_S[SQL] + terms * _PLANNED_S + computed
    if representation == RELATIONAL:
        return _SETUP_S["dl"] + tiled_seconds(n, rows, tiled_plan(n, batch, context), context)
    return _SETUP_S["udf"] + loading + _udf(n, rows, context)


def _loading_seconds(model: Model, representation: str, context: Context) -> float:
    """Reading weights and checking them, at a model's first use; exporting to ONNX."""
    exporting = _EXPORT_S if representation == ONNX else 0.0
    return exporting + model.param_bytes * (
        1 / context.calibration.file_bytes_s + 1 / CHECKED_BYTES_S
    )


def _dl(
    n: Predict | Evaluate, rows: float, batch: int, representation: str, context: Context
) -> float:
    """Scan and network overlap where the network is the dearer one."""
    calibration = context.calibration
    scan = rows * _values(n.child.schema) * calibration.arrow_value_s
    batches = math.ceil(rows / max(batch, ENGINE_ROWS))
    over = batches * (calibration.batch_s + len(n.features) * calibration.op_s)
    compute = rows * row_seconds(n.model, min(batch, math.ceil(rows)), context)
    if representation == ONNX and context.calibration.onnx_flops:
        compute = rows * onnx_row_seconds(n.model, min(batch, math.ceil(rows)), context)
    compute *= context.history.ratio(operator_name(n.model, representation))
    if isinstance(n, Predict) and n.distinct:
        compute = compute * distinct_share(n, context) + rows * finding_seconds(n)
    # The same test as the runtime's, whatever the batch: else a slower batch would seem to overlap.
    arithmetic = n.model.flops / calibration.gemm_flops
    if arithmetic > len(n.features) * calibration.arrow_value_s / 2:
        return over + max(scan, (scan + compute) / context.threads)
    return over + scan + compute


def _udf(n: Predict | Evaluate, rows: float, context: Context) -> float:
    """Engines hand over a chunk's rows as a filter leaves them, so calls follow the rows before."""
    calibration = context.calibration
    before = max(_before_filters(n.child, context), rows)
    calls = math.ceil(before / calibration.udf_rows)
    per_call = min(rows / calls, calibration.udf_rows)
    outputs = len(n.methods) if isinstance(n, Predict) else 1
    values = _values(n.child.schema.select(tuple(dict.fromkeys(n.features)))) + 1
    handed = rows * values * calibration.udf_value_s
    compute = rows * row_seconds(n.model, max(1, int(per_call)), context) / context.threads
    compute *= context.history.ratio(operator_name(n.model, "udf"))
    return outputs * (calls * calibration.udf_call_s + handed + compute)


def _values(schema: Schema) -> int:
    """Values in a row; a vector has as many as elements."""
    return sum(f.type.length if f.type.kind == "array" else 1 for f in schema)


def _before_filters(relation: Relation, context: Context) -> float:
    while isinstance(relation, Filter):
        relation = relation.child
    return context.estimates[relation].rows
