"""ONNX operators that take sums, extremes and norms along axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gradbase.errors import UnsupportedError
from gradbase.importing.building import Size, Value
from gradbase.importing.onnx_calls import Call, Translator, size


def _reduce(run: Callable[[Call, Value, list[int], bool], Value]) -> Translator:
    def translated(c: Call) -> Value:
        x = c.get(0)
        axes = c.numbers("axes", 1)
        if not axes and c.attribute("noop_with_empty_axes", 0):
            return x
        chosen = [int(a) % x.rank for a in axes] if axes else list(range(x.rank))  # type: ignore[arg-type]
        if 0 in chosen and isinstance(size(x, 0), Size):
            raise UnsupportedError(f"{c.step.op} over the batch mixes rows")
        return run(c, x, chosen, bool(c.attribute("keepdims", 1)))

    return translated


def _reduced(name: str) -> Translator:
    return _reduce(lambda c, x, axes, keep: c.b.call(name, x, axes, keep))


def _sum_of(name: str, *more: Any) -> Translator:
    return _reduce(
        lambda c, x, axes, keep: c.b.call("sum.dim_IntList", c.b.call(name, x, *more), axes, keep)
    )


def _l2(c: Call, x: Value, axes: list[int], keep: bool) -> Value:
    total = c.b.call("sum.dim_IntList", c.b.call("mul.Tensor", x, x), axes, keep)
    return c.b.call("sqrt.default", total)


def _log_sum(c: Call, x: Value, axes: list[int], keep: bool) -> Value:
    return c.b.call("log.default", c.b.call("sum.dim_IntList", x, axes, keep))


def _product(c: Call, x: Value, axes: list[int], keep: bool) -> Value:
    for axis in sorted(axes, reverse=True):
        x = c.b.call("prod.dim_int", x, axis, keep)
    return x


def _arg(name: str) -> Translator:
    def run(c: Call) -> Value:
        if c.attribute("select_last_index", 0):
            raise UnsupportedError(f"{c.step.op} of the last of equal ones")
        return c.b.call(name, c.get(0), c.axis(0), bool(c.attribute("keepdims", 1)))

    return run


def _top_k(c: Call) -> Any:
    k = c.b.sizes(c.get(1))[0] if c.has(1) else c.attribute("k")
    largest, ordered = bool(c.attribute("largest", 1)), bool(c.attribute("sorted", 1))
    return c.b.calls("topk.default", c.get(0), k, c.axis(-1), largest, ordered)


def _cumsum(c: Call) -> Value:
    if c.attribute("exclusive", 0) or c.attribute("reverse", 0):
        raise UnsupportedError("CumSum backwards")
    return c.b.call("cumsum.default", c.get(0), int(c.b.content(c.get(1)).item()))


def _layer_norm(c: Call) -> Value:
    x, axis = c.get(0), c.axis(-1)
    sizes = [size(x, i) for i in range(axis, x.rank)]
    weight = c.get(1) if c.has(1) else None
    bias = c.get(2) if c.has(2) else None
    return c.b.call(
        "layer_norm.default", x, sizes, weight, bias, float(c.attribute("epsilon", 1e-5))
    )


def _batch_norm(c: Call) -> Value:
    if c.attribute("training_mode", 0):
        raise UnsupportedError("BatchNormalization in training mode mixes rows")
    parts = [c.get(i) for i in range(5)]
    epsilon = float(c.attribute("epsilon", 1e-5))
    name = "_native_batch_norm_legit_no_training.default"
    return c.b.first(name, *parts, 0.1, epsilon)


def _group_norm(c: Call) -> Value:
    groups = int(c.attribute("num_groups", 1))
    return c.b.call("group_norm.default", c.get(0), groups, c.get(1), c.get(2),
                    float(c.attribute("epsilon", 1e-5)))  # fmt: skip


def _instance_norm(c: Call) -> Value:
    channels = size(c.get(0), 1)
    return c.b.call("group_norm.default", c.get(0), channels, c.get(1), c.get(2),
                    float(c.attribute("epsilon", 1e-5)))  # fmt: skip


REDUCTIONS: Mapping[str, Translator] = {
    "ArgMax": _arg("argmax.default"),
    "ArgMin": _arg("argmin.default"),
    "BatchNormalization": _batch_norm,
    "CumSum": _cumsum,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "ReduceL1": _sum_of("abs.default"),
    "ReduceL2": _reduce(_l2),
    "ReduceLogSum": _reduce(_log_sum),
    "ReduceLogSumExp": _reduced("logsumexp.default"),
    "ReduceMax": _reduced("amax.default"),
    "ReduceMean": _reduced("mean.dim"),
    "ReduceMin": _reduced("amin.default"),
    "ReduceProd": _reduce(_product),
    "ReduceSum": _reduced("sum.dim_IntList"),
    "ReduceSumSquare": _sum_of("pow.Tensor_Scalar", 2),
    "TopK": _top_k,
}
"""By name."""
