"""Operators of ONNX's own domain as ATen operators (ONNX operators, versions 7 to 24)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradbase.errors import UnsupportedError
from gradbase.importing.building import Value
from gradbase.importing.files.onnx_reader import DTYPES
from gradbase.importing.onnx_calls import Call, Translator, size
from gradbase.importing.onnx_images import IMAGES
from gradbase.importing.onnx_reductions import REDUCTIONS
from gradbase.importing.onnx_shapes import SHAPES

_FLOATS = ("float32", "float64")


def _aten(name: str, *more: Any) -> Translator:
    return lambda c: c.b.call(name, c.get(0), *more)


def _binary(name: str) -> Translator:
    return lambda c: c.b.call(name, c.get(0), c.get(1))


def _folded(name: str) -> Translator:
    """A function of any number of inputs, two at a time."""

    def run(c: Call) -> Value:
        found = c.get(0)
        for place in range(1, len(c.x)):
            found = c.b.call(name, found, c.get(place))
        return found

    return run


def _mean(c: Call) -> Value:
    return c.b.call("div.Scalar", _folded("add.Tensor")(c), float(len(c.x)))


def _div(c: Call) -> Value:
    a, b = c.get(0), c.get(1)
    if a.dtype in _FLOATS:
        return c.b.call("div.Tensor", a, b)
    return c.b.call("div.Tensor_mode", a, b, rounding_mode="trunc")


def _mod(c: Call) -> Value:
    name = "fmod.Tensor" if c.attribute("fmod", 0) else "remainder.Tensor"
    return c.b.call(name, c.get(0), c.get(1))


def _gemm(c: Call) -> Value:
    a, weight = c.get(0), c.get(1)
    if c.attribute("transA", 0):
        a = c.b.call("permute.default", a, [1, 0])
    if not c.attribute("transB", 0):
        weight = c.b.call("permute.default", weight, [1, 0])
    alpha, beta = float(c.attribute("alpha", 1.0)), float(c.attribute("beta", 1.0))
    found = c.b.call("linear.default", a, weight)
    if alpha != 1.0:
        found = c.b.call("mul.Scalar", found, alpha)
    if c.has(2) and beta:
        bias = c.get(2) if beta == 1.0 else c.b.call("mul.Scalar", c.get(2), beta)
        if c.b.is_constant(bias) and bias.rank == 2 and bias.pair[0].shape[0] == 1:
            bias = c.b.call("reshape.default", bias, [-1])
        found = c.b.call("add.Tensor", found, bias)
    return found


def _matmul(c: Call) -> Value:
    a, b = c.get(0), c.get(1)
    if c.b.is_constant(b) and b.rank == 2 and a.rank >= 2:
        return c.b.call("linear.default", a, c.b.call("permute.default", b, [1, 0]))
    return c.b.call("matmul.default", a, b)


def _pow(c: Call) -> Value:
    exponent = c.get(1)
    if c.b.is_constant(exponent) and exponent.pair[0].numel() == 1:
        number = c.b.content(exponent).reshape(-1)[0].item()
        if number == 0.5:
            return c.b.call("sqrt.default", c.get(0))
        return c.b.call("pow.Tensor_Scalar", c.get(0), number)
    return c.b.call("pow.Tensor_Tensor", c.get(0), exponent)


def _clip(c: Call) -> Value:
    low, high = c.number("min", 1), c.number("max", 2)
    if low is None and high is None:
        return c.get(0)
    return c.b.call("clamp.default", c.get(0), low, high)


def _cast(c: Call) -> Value:
    kind = DTYPES.get(int(c.attribute("to", 0)), "")
    if kind not in ("float32", "float64", "int32", "int64", "bool", "uint8"):
        raise UnsupportedError(f"Cast to {kind or c.attribute('to')}")
    x = c.get(0)
    return x if x.dtype == kind else c.b.call("_to_copy.default", x, dtype=("dtype", kind))


def _cast_like(c: Call) -> Value:
    return c.b.call("_to_copy.default", c.get(0), dtype=("dtype", c.get(1).dtype))


def _leaky(c: Call) -> Value:
    return c.b.call("leaky_relu.default", c.get(0), float(c.attribute("alpha", 0.01)))


def _elu(c: Call) -> Value:
    alpha = float(c.attribute("alpha", 1.0))
    return c.b.call("elu.default", c.get(0), *([] if alpha == 1.0 else [alpha]))


def _gelu(c: Call) -> Value:
    how = c.attribute("approximate", "none")
    return c.b.call("gelu.default", c.get(0), **({} if how == "none" else {"approximate": how}))


def _hard_sigmoid(c: Call) -> Value:
    scaled = c.b.call("mul.Scalar", c.get(0), float(c.attribute("alpha", 0.2)))
    moved = c.b.call("add.Scalar", scaled, float(c.attribute("beta", 0.5)))
    return c.b.call("clamp.default", moved, 0.0, 1.0)


def _prelu(c: Call) -> Value:
    x, slope = c.get(0), c.get(1)
    positive = c.b.call("gt.Scalar", x, 0)
    return c.b.call("where.self", positive, x, c.b.call("mul.Tensor", x, slope))


def _softsign(c: Call) -> Value:
    below = c.b.call("add.Scalar", c.b.call("abs.default", c.get(0)), 1.0)
    return c.b.call("div.Tensor", c.get(0), below)


def _softmax(name: str) -> Translator:
    def run(c: Call) -> Value:
        x = c.get(0)
        axis = c.axis(1 if c.version < 13 else -1)
        if c.version < 13 and axis != x.rank - 1:  # then all axes from there on count as one
            sizes = [size(x, i) for i in range(x.rank)]
            flat = c.b.call("flatten.using_ints", x, axis, -1)
            return c.b.call("reshape.default", c.b.call(name, flat, axis, False), sizes)
        return c.b.call(name, x, axis, False)

    return run


def _where(c: Call) -> Value:
    return c.b.call("where.self", c.get(0), c.get(1), c.get(2))


def _einsum(c: Call) -> Value:
    return c.b.call("einsum.default", c.attribute("equation"), [c.get(i) for i in range(len(c.x))])


OPERATORS: Mapping[str, Translator] = {
    **SHAPES,
    **REDUCTIONS,
    **IMAGES,
    **{
        name: _aten(f"{aten}.default")
        for name, aten in (
            ("Abs", "abs"),
            ("Acos", "acos"),
            ("Acosh", "acosh"),
            ("Asin", "asin"),
            ("Asinh", "asinh"),
            ("Atan", "atan"),
            ("Atanh", "atanh"),
            ("Ceil", "ceil"),
            ("Cos", "cos"),
            ("Cosh", "cosh"),
            ("Erf", "erf"),
            ("Exp", "exp"),
            ("Floor", "floor"),
            ("HardSwish", "hardswish"),
            ("IsNaN", "isnan"),
            ("Log", "log"),
            ("Mish", "mish"),
            ("Neg", "neg"),
            ("Not", "logical_not"),
            ("Reciprocal", "reciprocal"),
            ("Relu", "relu"),
            ("Round", "round"),
            ("Selu", "selu"),
            ("Sigmoid", "sigmoid"),
            ("Sign", "sign"),
            ("Sin", "sin"),
            ("Sinh", "sinh"),
            ("Softplus", "softplus"),
            ("Sqrt", "sqrt"),
            ("Tan", "tan"),
            ("Tanh", "tanh"),
        )
    },
    **{
        name: _binary(aten)
        for name, aten in (
            ("Add", "add.Tensor"),
            ("Sub", "sub.Tensor"),
            ("Mul", "mul.Tensor"),
            ("Equal", "eq.Tensor"),
            ("Greater", "gt.Tensor"),
            ("GreaterOrEqual", "ge.Tensor"),
            ("Less", "lt.Tensor"),
            ("LessOrEqual", "le.Tensor"),
            ("And", "logical_and.default"),
            ("Or", "logical_or.default"),
            ("Xor", "logical_xor.default"),
        )
    },
    **{name: lambda c: c.get(0) for name in ("Identity", "Dropout")},
    "Cast": _cast,
    "CastLike": _cast_like,
    "Clip": _clip,
    "Div": _div,
    "Einsum": _einsum,
    "Elu": _elu,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "HardSigmoid": _hard_sigmoid,
    "LeakyRelu": _leaky,
    "LogSoftmax": _softmax("_log_softmax.default"),
    "MatMul": _matmul,
    "Max": _folded("maximum.default"),
    "Mean": _mean,
    "Min": _folded("minimum.default"),
    "Mod": _mod,
    "PRelu": _prelu,
    "Pow": _pow,
    "Softmax": _softmax("_softmax.default"),
    "Softsign": _softsign,
    "Sum": _folded("add.Tensor"),
    "Where": _where,
}
"""By name: how each becomes operators of ours."""
