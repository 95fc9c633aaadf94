"""Tensor operators as SQL expressions: a tensor is one expression per column."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gradbase.errors import UnsupportedError
from gradbase.ir.conversion import Category, Numeric, ToTensor, Vector
from gradbase.ir.imported import Trees
from gradbase.ir.shapes import elements
from gradbase.ir.tensor import (
    Binary,
    Concat,
    Const,
    Embedding,
    Linear,
    OneHot,
    Param,
    Reshape,
    Softmax,
    Tensor,
    TorchOp,
    Unary,
)
from gradbase.runtime.constants import constant_value
from gradbase.runtime.encode import Blobs, constant
from gradbase.runtime.export.sql_values import NAN, literal, number
from gradbase.runtime.trees import cut_off

Columns = tuple[str, ...]
Layer = Callable[[Sequence[str]], Columns]
Array = npt.NDArray[Any]

_UNARY = {
    "relu": "GREATEST({x}, 0e0)",
    "relu6": "LEAST(GREATEST({x}, 0e0), 6e0)",
    "sigmoid": "1 / (1 + EXP(-GREATEST(LEAST({x}, 700), -700)))",
    "tanh": "TANH({x})",
    "exp": "EXP({x})",
    "log": "LN({x})",
    "neg": "-{x}",
    "sqrt": "SQRT({x})",
    "silu": "{x} / (1 + EXP(-GREATEST(LEAST({x}, 700), -700)))",
    "softplus": "CASE WHEN {x} > 20 THEN {x} ELSE LN(1 + EXP(GREATEST({x}, -700))) END",
    "elu": "CASE WHEN {x} > 0 THEN {x} ELSE EXP(GREATEST({x}, -700)) - 1 END",
    "selu": (
        "1.0507009873554805e0 * CASE WHEN {x} > 0 THEN {x} ELSE "
        "1.6732632423543772e0 * (EXP(GREATEST({x}, -700)) - 1) END"
    ),
}
_BINARY = {"add": "{a} + {b}", "sub": "{a} - {b}", "mul": "{a} * {b}", "div": "{a} / {b}",
           "maximum": "GREATEST({a}, {b})", "minimum": "LEAST({a}, {b})"}  # fmt: skip


def unsupported(what: str) -> UnsupportedError:
    """The error for what has no SQL."""
    return UnsupportedError(
        f"{what} cannot be written as SQL; linear models, perceptrons and trees can",
        hint="EXPORT MODEL … TO 'model.onnx', or leave the prediction to gradbase",
    )


def encoded(n: ToTensor, column: str, blobs: Blobs | None, *, imported: bool) -> Columns:
    """A column as numbers, as `gradbase.runtime.encode` makes them; categories as text."""
    match n.encoding:
        case Numeric(part="value") as of:
            return _number(column, of, imported=imported)
        case Category():
            return (f"CAST({column} AS VARCHAR)",)
        case Vector(size=size, mean=mean, scale=scale):
            means = np.zeros(size) if mean is None else constant(mean, blobs)
            scales = np.ones(size) if scale is None else constant(scale, blobs)
            parts = [
                Numeric(float(m), float(s), indicator=False)
                for m, s in zip(means, scales, strict=True)
            ]
            return tuple(
                _number(f"({column})[{i}]", p, imported=imported)[0] for i, p in enumerate(parts, 1)
            )
        case _:
            raise unsupported(f"a column read as {type(n.encoding).__name__}")


def _number(column: str, of: Numeric, *, imported: bool) -> Columns:
    x = f"CAST({column} AS DOUBLE)"
    plain = (of.mean, of.scale) == (0.0, 1.0)
    standard = x if plain else f"({x} - {number(of.mean)}) * {number(of.scale)}"
    if imported:
        return (standard,)
    lost = f"{column} IS NULL OR {x} = {NAN}"
    flag = (f"CASE WHEN {lost} THEN 1e0 ELSE 0e0 END",) if of.indicator else ()
    return (f"CASE WHEN {lost} THEN 0e0 ELSE {standard} END", *flag)


def operator_sql(
    n: Tensor, values: Mapping[Tensor, Columns], blobs: Blobs | None, layer: Layer
) -> Columns:
    """The columns of `n`; `layer` gives names to expressions that are read several times."""
    match n:
        case Concat(parts=parts):
            return tuple(c for p in parts for c in _columns(p, values, blobs))
        case Linear(x=x, weight=weight, bias=bias):
            return _linear(
                values[x], _array(weight, blobs), None if bias is None else _array(bias, blobs)
            )
        case Unary(op=op, x=x) if op in _UNARY:
            return tuple(_UNARY[op].format(x=c) for c in values[x])
        case Binary(op=op, a=a, b=b):
            pairs = _broadcast(_columns(a, values, blobs), _columns(b, values, blobs))
            return tuple(_BINARY[op].format(a=x, b=y) for x, y in pairs)
        case Softmax(x=x):
            return softmax_sql(values[x], layer)
        case OneHot(codes=ToTensor(encoding=Category() as of) as codes):
            return tuple(f"CASE WHEN {_is(of, values[codes][0], k)} THEN 1e0 ELSE 0e0 END"
                         for k in range(1, n.count))  # fmt: skip
        case Embedding(codes=ToTensor(encoding=Category() as of) as codes, weight=weight):
            return _embedding(of, values[codes][0], _array(weight, blobs))
        case Trees():
            return _trees(n, values[n.x], blobs)
        case Reshape(x=x) if elements(n.shape) == len(values[x]):
            return values[x]
        case TorchOp():
            return _kept(n, values, blobs)
    raise unsupported(f"operator {type(n).__name__} {getattr(n, 'op', '')}".rstrip())


def _array(tensor: Tensor, blobs: Blobs | None) -> Array:
    if isinstance(tensor, Param | Const):
        return constant(tensor, blobs).astype(np.float64)
    return constant_value(tensor, blobs).double().numpy()


def _columns(tensor: Tensor, values: Mapping[Tensor, Columns], blobs: Blobs | None) -> Columns:
    if tensor in values:
        return values[tensor]
    return tuple(number(v) for v in _array(tensor, blobs).ravel().tolist())


def _broadcast(a: Columns, b: Columns) -> list[tuple[str, str]]:
    width = max(len(a), len(b))
    if len(a) not in (1, width) or len(b) not in (1, width):
        raise unsupported(f"sizes {len(a)} and {len(b)} side by side")
    return list(zip(a * (width // len(a)), b * (width // len(b)), strict=True))


def _linear(x: Columns, weight: Array, bias: Array | None) -> Columns:
    made: list[str] = []
    for k, row in enumerate(weight.tolist()):
        terms = [f"{number(w)} * {c}" for w, c in zip(row, x, strict=True)]
        if bias is not None:
            terms.append(number(float(bias[k])))
        made.append("(" + " + ".join(terms) + ")")
    return tuple(made)


def softmax_sql(x: Columns, layer: Layer) -> Columns:
    """Shares by logits; powers never overflow."""
    (most,) = layer([f"GREATEST({', '.join(x)})"])
    powers = layer([f"EXP(GREATEST({c} - {most}, -700))" for c in x])
    (total,) = layer([" + ".join(powers)])
    return tuple(f"{p} / {total}" for p in powers)


# -- categories and trees --------------------------------------------------------------------------


def _is(of: Category, text: str, code: int) -> str:
    """Whether the category has this code (1 on; missing values may have the last)."""
    return (
        f"{text} IS NULL"
        if code > len(of.vocabulary)
        else f"{text} = {literal(of.vocabulary[code - 1])}"
    )


def _embedding(of: Category, text: str, table: Array) -> Columns:
    made: list[str] = []
    for place in range(table.shape[1]):
        cases = " ".join(
            f"WHEN {literal(v)} THEN {number(float(table[i, place]))}"
            for i, v in enumerate(of.vocabulary, 1)
        )
        unknown = number(float(table[0, place]))
        known = f"CASE {text} {cases} ELSE {unknown} END" if cases else unknown
        missing = number(float(table[of.missing_code, place]))
        made.append(f"CASE WHEN {text} IS NULL THEN {missing} ELSE {known} END")
    return tuple(made)


def _trees(n: Trees, x: Columns, blobs: Blobs | None) -> Columns:
    names = ("roots", "feature", "limit", "left", "right", "missing_left", "value")
    tables = tuple(constant_value(getattr(n, name), blobs) for name in names)
    t: dict[str, Array] = dict(
        zip(names, (table.numpy() for table in cut_off(n, tables)[0]), strict=True)
    )
    outputs = t["value"].shape[1]
    rounded = (
        x if n.precision == "float64" else tuple(f"CAST(CAST({c} AS REAL) AS DOUBLE)" for c in x)
    )
    made: list[str] = []
    for k in range(outputs):
        trees = [_branch(int(root), k, t, rounded) for root in t["roots"].ravel()]
        made.append("(" + " + ".join(trees) + ")")
    return tuple(made)


def _branch(root: int, output: int, t: Mapping[str, Array], x: Columns) -> str:
    """A tree as nested CASE; without recursion, as trees may be deep."""
    done: dict[int, str] = {}
    stack = [root]
    while stack:
        i = stack[-1]
        left, right = int(t["left"][i]), int(t["right"][i])
        if left == i:
            done[i] = number(float(t["value"][i, output]))
        elif left in done and right in done:
            done[i] = _choice(i, t, x, done.pop(left), done.pop(right))
        else:
            stack += [right, left]
            continue
        stack.pop()
    return done[root]


def _choice(i: int, t: Mapping[str, Array], x: Columns, left: str, right: str) -> str:
    column, limit = x[int(t["feature"][i])], number(float(t["limit"][i]))
    strayed = f" OR {column} = {NAN}" if t["missing_left"][i] else ""
    return f"CASE WHEN {column} <= {limit}{strayed} THEN {left} ELSE {right} END"


# -- ATen ------------------------------------------------------------------------------------------


def _kept(n: TorchOp, values: Mapping[Tensor, Columns], blobs: Blobs | None) -> Columns:
    arguments: list[Any] = json.loads(n.arguments)
    x = values.get(n.inputs_[0], ())
    match n.target:
        case "_to_copy.default" if n.dtype in ("float32", "float64"):
            return x
        case "slice.Tensor" if arguments[1] == 1 and arguments[4:] in ([], [1]):
            return x[arguments[2] : arguments[3]]
        case "cat.default" if len(n.shape) == 2:
            return tuple(c for part in n.inputs_ for c in _columns(part, values, blobs))
        case "clamp.default":
            low, high = [*arguments[1:], None, None][:2]
            floor = [f"GREATEST({c}, {number(low)})" if low is not None else c for c in x]
            return tuple(f"LEAST({c}, {number(high)})" if high is not None else c for c in floor)
        case "leaky_relu.default":
            slope = number(arguments[1] if len(arguments) > 1 else 0.01)
            return tuple(f"CASE WHEN {c} > 0 THEN {c} ELSE {slope} * {c} END" for c in x)
        case "_native_batch_norm_legit_no_training.default" if len(n.shape) == 2:
            weight, bias, mean, variance = (
                _array(n.inputs_[a["$"]], blobs) for a in arguments[1:5]
            )
            scale = weight / np.sqrt(variance + arguments[6])
            shift = bias - mean * scale
            terms = zip(x, scale.tolist(), shift.tolist(), strict=True)
            return tuple(f"{c} * {number(s)} + {number(b)}" for c, s, b in terms)
    raise unsupported(f"operator `{n.target}`")
