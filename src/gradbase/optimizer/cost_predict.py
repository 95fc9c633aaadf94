"""Seconds of a prediction, by representation and batch.

Checked against two networks over 2 million rows of 28 floats (2-core EPYC), in millions of rows a
second, measured then estimated: ``dl`` 28-16-1 10.9 and 12.7, 28-256-1 3.3 and 2.4; ``udf`` 3.8 and
3.2, 3.1 and 1.9.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple, Protocol

from gradbase.ir.chains import chain_of
from gradbase.ir.conversion import Category, MultiHot, ToTensor, per_row
from gradbase.ir.facts import Settings
from gradbase.ir.imported import Trees
from gradbase.ir.learning import Evaluate, Model, Predict
from gradbase.ir.relational import Filter, Project, Relation
from gradbase.ir.shapes import elements
from gradbase.ir.tensor import Concat, Unary
from gradbase.ir.types import Schema
from gradbase.optimizer.analyses.portable import sql_work
from gradbase.optimizer.analyses.repeats import distinct_share, finding_seconds
from gradbase.optimizer.context import Context
from gradbase.optimizer.cost_preprocess import ELEMENTS, handing_seconds
from gradbase.optimizer.cost_tiled import CHECKED_BYTES_S, RELATIONAL, tiled_plan, tiled_seconds
from gradbase.resources.calibration import Calibration
from gradbase.resources.history import INVESTED_S

SQL, ONNX = "sql", "onnx"
PLAIN_BATCH = 8192
BATCHES = tuple(256 << i for i in range(7))
"""Rows computed at once that are considered: 256 to 16,384. Beyond, the engine's threads wait for
one that computes: 28-16-1 over 2 million rows took 0.106 s in batches of 16,384, 0.113 s of
32,768."""

_SETUP_S = {"dl": 1.5e-3, "udf": 3e-3, "executors": 0.2, "sql": 1e-3}
"""Starting a stream or registering a function, which takes a little longer (measured with one row);
asking Spark's Python processes, which have the program already."""
_CALLED_S = 2.5e-4
"""Python's part of a call of a model inside the engine: threads take turns with it."""
_CODE_S, _STEP_S, _CURVE_S = 5e-8, 2.5e-8, 1.5e-9
"""One value that torch's runtime spends most on: a text or number told by its code, a level of a
tree, a tanh, sigmoid or the like (200,000 rows on one core of an EPYC)."""
_STRIDES = 20.0
"""Gathering columns to rows, against copying them in order."""
_EXPORTED_STEPS = 2.0
"""A level of a tree in ONNX Runtime, which runs our steps one by one, against torch's."""
MORSEL_ROWS = 122_880
"""Rows that one thread of the engine takes at a time: fewer are not shared."""
_ONNX_OPS = 8
"""Small torch calls that a call of ONNX Runtime is worth."""
_FETCH_S, _HAND_S = 2e-7, 3e-8
"""A value on its way from Spark to this process, from Spark to its own Python and back."""
ENGINE_ROWS, BATCH_ROWS = 16_384, 32_768
"""Rows of a batch that an engine hands over; of one of several that are computed at once."""
_PIECE_S, _PIECE_ROWS = 0.02, 64
_CACHED, _SHARED = 4.0, 2.0
"""How much faster activations move in the second-level and in the last-level cache than
`copy_bytes_s` (28-16-1 is fastest in tiles of 16,384 rows, 28-256-1 in tiles of 4,096)."""
_SHARED_CACHE = 16
"""Last-level cache of a core's share, in second-level caches."""
_COLUMN_OPS = 0.25
"""Small torch calls that gathering one column of a tile is worth."""


class Work(NamedTuple):
    """What a row of a model is to the program, beside multiplications.

    Parameters
    ----------
    calls : int
        Calls of torch; columns are gathered, not called for.
    size : int, bytes
        Of all tensors.
    codes, steps, curves : int
        Values told by their codes, levels of trees, values of functions other than ReLU.
    """

    calls: int
    size: int
    codes: int
    steps: int
    curves: int

    def seconds(self, steps: float = 1.0) -> float:
        """Of codes, trees (a level takes `steps` times as long) and functions."""
        return self.codes * _CODE_S + self.steps * steps * _STEP_S + self.curves * _CURVE_S


@functools.lru_cache(maxsize=256)
def work_of(model: Model) -> Work:
    """The work of one row."""
    tensors = per_row(model)
    calls = codes = steps = curves = 0
    for n in tensors:
        calls += not isinstance(n, (Concat, ToTensor))
        match n:
            case ToTensor(encoding=Category()):
                codes += 1
            case ToTensor(encoding=MultiHot()):
                codes += ELEMENTS
            case Trees():
                steps += n.roots.shape[-1] * max(n.depth, 1)
            case Unary(op=op) if not op.startswith("relu"):
                curves += elements(n.shape)
            case _:
                pass
    return Work(calls, sum(4 * elements(n.shape) for n in tensors), codes, steps, curves)


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
    work = work_of(model)
    if is_native(model, context):
        per_batch = (1 + _COLUMN_OPS * len(model.features)) * calibration.op_s
        read = 4 * len(model.features) / (calibration.copy_bytes_s * _SHARED)
        arithmetic = model.flops / calibration.layers_flops
        return arithmetic + work.seconds() + read + per_batch / batch
    working = (8 * model.widest + 4 * len(model.features)) * batch
    speed = calibration.copy_bytes_s
    if working <= calibration.cache_bytes:
        speed *= _CACHED
    elif working <= _SHARED_CACHE * calibration.cache_bytes:
        speed *= _SHARED
    calls = work.calls + _COLUMN_OPS * len(model.features)
    per_batch = calls * calibration.op_s + model.param_bytes / (speed * _CACHED)
    arithmetic = model.flops / calibration.gemm_flops + work.seconds()
    return arithmetic + work.size / speed + per_batch / batch


def onnx_row_seconds(model: Model, batch: int, context: Machine) -> float:
    """As `row_seconds`, by ONNX Runtime: operators are fused, and one call does all."""
    calibration = context.calibration
    work = work_of(model)
    working = (8 * model.widest + 4 * len(model.features)) * batch
    fits = working <= _SHARED_CACHE * calibration.cache_bytes
    speed = calibration.copy_bytes_s * (_CACHED if fits else _SHARED)
    calls = (_ONNX_OPS + _COLUMN_OPS * len(model.features)) * calibration.op_s
    arithmetic = model.flops / (calibration.onnx_flops or calibration.gemm_flops)
    arithmetic += work.seconds(_EXPORTED_STEPS)
    gathered = 4 * len(model.features) * _STRIDES / calibration.copy_bytes_s
    return arithmetic + gathered + work.size / speed + calls / batch


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
        calibration, (planned, computed) = context.calibration, sql_work(n.model)
        seconds = rows * computed * calibration.sql_term_s / _lanes(n.child, MORSEL_ROWS, context)
        return _SETUP_S[SQL] + planned * calibration.sql_plan_s + seconds
    if representation == RELATIONAL:
        return _SETUP_S["dl"] + tiled_seconds(n, rows, tiled_plan(n, batch, context), context)
    return _SETUP_S["udf"] + loading + _udf(n, rows, context)


def _loading_seconds(model: Model, representation: str, context: Context) -> float:
    """Reading weights and checking them, at a model's first use; exporting to ONNX.

    An export costs less the longer torch has computed the model in this session, and in the end
    nothing: who goes on asking gains by it, who does not has lost no more than it took so far.
    """
    exporting = 0.0
    if representation == ONNX:
        spent = context.history.spent(operator_name(model, "dl"))
        exporting = max(0.0, INVESTED_S - spent)
    return exporting + model.param_bytes * (
        1 / context.calibration.file_bytes_s + 1 / CHECKED_BYTES_S
    )


def _dl(
    n: Predict | Evaluate, rows: float, batch: int, representation: str, context: Context
) -> float:
    """Scan and network overlap where the network is the dearer one; evaluations take turns."""
    calibration = context.calibration
    scan = rows * sum(handing_seconds(f.type, context) for f in n.child.schema)
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
    if isinstance(n, Predict) and arithmetic > len(n.features) * calibration.arrow_value_s / 2:
        lanes = min(context.threads, math.ceil(rows / piece_rows(n.model, calibration)))
        return over + max(scan, (scan + compute) / lanes)
    return over + scan + compute


def piece_rows(model: Model, calibration: Calibration) -> int:
    """Rows that a thread computes at a time, in about `_PIECE_S`: the last ones end together."""
    wanted = _PIECE_S * calibration.gemm_flops / max(model.flops, 1.0)
    return max(_PIECE_ROWS, min(BATCH_ROWS, int(wanted) // _PIECE_ROWS * _PIECE_ROWS))


def _udf(n: Predict | Evaluate, rows: float, context: Context) -> float:
    """Engines hand over a chunk's rows as a filter leaves them, so calls follow the rows before.

    A column of few rows is handed over in the time of a full one.
    """
    calibration = context.calibration
    before = max(_rows_before(n.child, context), rows)
    calls = math.ceil(before / calibration.udf_rows)
    per_call = min(rows / calls, calibration.udf_rows)
    outputs = len(n.methods) if isinstance(n, Predict) else 1
    values = _values(n.child.schema.select(tuple(dict.fromkeys(n.features)))) + 1
    each = calibration.udf_call_s + values * calibration.udf_rows * calibration.udf_value_s
    lanes = _lanes(n.child, MORSEL_ROWS, context)
    compute = rows * row_seconds(n.model, max(1, int(per_call)), context) / lanes
    compute *= context.history.ratio(operator_name(n.model, "udf"))
    return outputs * (calls * (each + _CALLED_S) + compute)


def _lanes(relation: Relation, rows_each: int, context: Context) -> int:
    """Threads of the engine that share the rows below a filter."""
    return min(context.threads, math.ceil(max(_rows_before(relation, context), 1.0) / rows_each))


def _values(schema: Schema) -> int:
    """Values in a row; a vector has as many as elements."""
    return sum(f.type.length if f.type.kind == "array" else 1 for f in schema)


def _rows_before(relation: Relation, context: Context) -> float:
    """Rows that the engine passes over, of which filters leave those of `relation`."""
    while isinstance(relation, (Filter, Project)):
        relation = relation.child
    return context.estimates[relation].rows
