"""Why a representation cannot serve a prediction."""

from __future__ import annotations

import functools
import importlib.util

from gradbase.ir.grouping import ByGroup
from gradbase.ir.imported import Opaque
from gradbase.ir.learning import Evaluate, Model, Predict
from gradbase.ir.node import walk
from gradbase.ir.scalar import SqlScalar
from gradbase.ir.tensor import UserModule
from gradbase.optimizer.analyses.portable import sql_misfit
from gradbase.optimizer.context import Context
from gradbase.resources.tiled_plan import stays_whole

OUTSIDE = ("dl", "onnx", "relational")
"""Representations that rows leave the engine for, where it has `dl`."""
INSIDE = ("udf", "sql", "executors")
"""Representations that predict where the engine's rows are; evaluations have none."""


_ONNX = ("onnx", "onnxruntime", "onnxscript")


def misfit(n: Predict | Evaluate, representation: str, ctx: Context) -> str:
    """Why `representation` cannot serve `n`; '' where it can."""
    model = n.model
    if isinstance(n, Predict) and n.distinct and representation in INSIDE:
        return "equal rows are found in whole batches, which stay out of the engine"
    match representation:
        case "udf" if not ctx.capabilities.functions:
            return ctx.capabilities.unsupported.get("udf", "the engine cannot call functions")
        case "executors" if not _is_movable(model):
            return "the model needs this process or the engine's SQL"
        case "relational" if stays_whole(model):
            return f"{_whole(model)}, of which there are no tiles"
        case "onnx":
            if not has_onnx():
                return "ONNX Runtime is not installed (pip install 'gradbase[onnx]')"
            return f"{_whole(model)}, which has no form in ONNX" if stays_whole(model) else ""
        case "sql" if isinstance(n, Predict):
            types = tuple(n.child.schema.type_of(f) for f in n.features)
            return sql_misfit(model, n.methods, types)
    if isinstance(n, Evaluate) and representation in INSIDE:
        return "rows that are evaluated leave the engine"
    return ""


@functools.cache
def has_onnx() -> bool:
    """Whether ONNX Runtime, and what writes its programs, are installed."""
    return all(importlib.util.find_spec(name) for name in _ONNX)


def _is_movable(model: Model) -> bool:
    """Whether all of a model can run without this process and without the engine's SQL."""
    return not any(isinstance(n, UserModule | SqlScalar) for n in walk(model))


def _whole(model: Model) -> str:
    for n in walk(model):
        match n:
            case ByGroup():
                return "it is one network per group"
            case Opaque():
                return "a part of it is opaque"
            case UserModule(reference=reference):
                return f"it needs the Python function `{reference}`"
            case _:
                pass
    return "it reads text"
