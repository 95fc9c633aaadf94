"""Operators of ONNX's domain ``ai.onnx.ml``, as skl2onnx writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradbase.errors import DataError, UnsupportedError
from gradbase.importing.building import Value
from gradbase.importing.onnx_calls import Call, Translator
from gradbase.importing.onnx_trees import summed
from gradbase.ir.conversion import Category, ToTensor
from gradbase.ir.tensor import Embedding, TorchOp


@dataclass(frozen=True)
class Texts:
    """Columns of texts side by side, which only encoders read."""

    columns: tuple[str, ...]


@dataclass(frozen=True)
class Words:
    """A constant of texts."""

    values: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Labels:
    """The class with the largest of `scores` Tensor[B, classes], which are `chances` or logits."""

    classes: tuple[Any, ...]
    scores: Value
    chances: bool = True


@dataclass(frozen=True, eq=False)
class Mapped:
    """What ZipMap makes of numbers: the same, with a name for each."""

    classes: tuple[Any, ...]
    scores: Value
    chances: bool = True


def _classes(c: Call) -> tuple[Any, ...]:
    for name in ("classlabels_int64s", "classlabels_ints", "classlabels_strings"):
        found = c.attribute(name)
        if found:
            return tuple(found)
    raise UnsupportedError(f"{c.step.op} without the names of its classes")


def _transformed(c: Call, scores: Value, how: str) -> Value:
    match how:
        case "NONE":
            return scores
        case "LOGISTIC":
            return c.b.call("sigmoid.default", scores)
        case "SOFTMAX":
            return c.b.call("_softmax.default", scores, 1, False)
    raise UnsupportedError(f"scores transformed by {how}")


def _float32(c: Call, x: Value) -> Value:
    return (
        x if x.dtype == "float32" else c.b.call("_to_copy.default", x, dtype=("dtype", "float32"))
    )


def _both(c: Call, positive: Value, negative: Value) -> Value:
    return c.b.call("cat.default", [negative, positive], 1)


# -- trees -----------------------------------------------------------------------------------------


def _tree_classifier(c: Call) -> list[Any]:
    classes, how = _classes(c), c.attribute("post_transform", "NONE")
    weights = np.asarray(c.attribute("class_weights", []))
    ids = set(c.attribute("class_ids", []))
    base = c.attribute("base_values")
    if len(classes) != 2 or len(ids) != 1:
        scores = _with_base(c, summed(c, "class", len(classes)), base)
        scores = _transformed(c, _float32(c, scores), how)
        return [Labels(classes, scores), scores]
    total = summed(c, "class", 2)
    column = c.b.call("slice.Tensor", total, 1, next(iter(ids)), next(iter(ids)) + 1)
    column = _float32(c, _with_base(c, column, base[-1:] if base else None))
    if (weights >= 0).all():  # then they are chances of the second class
        other = c.b.call("add.Scalar", c.b.call("neg.default", column), 1.0)
    else:
        other = c.b.call("neg.default", column)
        column, other = (_transformed(c, v, how) for v in (column, other))
    scores = _both(c, column, other)
    return [Labels(classes, scores, how != "NONE" or bool((weights >= 0).all())), scores]


def _with_base(c: Call, scores: Value, base: Any) -> Value:
    if not base:
        return scores
    return c.b.call("add.Tensor", scores, c.b.literal([float(v) for v in base], "float64"))


def _tree_regressor(c: Call) -> Value:
    outputs = int(c.attribute("n_targets", 1))
    if not 0 < outputs <= 1 << 16:
        raise DataError(f"{c.step.op} has {outputs} outputs")
    total = summed(c, "target", outputs)
    match c.attribute("aggregate_function", "SUM"):
        case "AVERAGE":
            trees = len(set(c.attribute("nodes_treeids")))
            total = c.b.call("div.Scalar", total, float(trees))
        case "SUM":
            pass
        case other:
            raise UnsupportedError(f"trees of which the {other} is taken")
    total = _with_base(c, total, c.attribute("base_values"))
    return _transformed(c, _float32(c, total), c.attribute("post_transform", "NONE"))


# -- linear models ---------------------------------------------------------------------------------


def _linear(c: Call, outputs: int) -> Value:
    weight = np.asarray(c.attribute("coefficients"), np.float32).reshape(outputs, -1)
    x = _float32(c, c.get(0))
    parts = [x, c.b.literal(weight.tolist(), "float32")]
    intercepts = c.attribute("intercepts")
    if intercepts:
        parts.append(c.b.literal([float(v) for v in intercepts], "float32"))
    return c.b.call("linear.default", *parts)


def _linear_regressor(c: Call) -> Value:
    return _transformed(
        c, _linear(c, int(c.attribute("targets", 1))), c.attribute("post_transform", "NONE")
    )


def _linear_classifier(c: Call) -> list[Any]:
    classes = _classes(c)
    intercepts = c.attribute("intercepts") or [0.0]
    if len(intercepts) == 1 and len(classes) == 2:
        scores = _linear(c, 1)
        scores = _both(c, scores, c.b.call("neg.default", scores))
    else:
        scores = _linear(c, len(classes))
    how = c.attribute("post_transform", "NONE")
    scores = _transformed(c, scores, how)
    return [Labels(classes, scores, how != "NONE"), scores]


# -- in front of them ------------------------------------------------------------------------------


def _scaler(c: Call) -> Value:
    x = _float32(c, c.get(0))
    offset, scale = c.attribute("offset"), c.attribute("scale")
    if offset:
        x = c.b.call("sub.Tensor", x, c.b.literal([float(v) for v in offset], "float32"))
    return (
        c.b.call("mul.Tensor", x, c.b.literal([float(v) for v in scale], "float32")) if scale else x
    )


def _imputer(c: Call) -> Value:
    x = c.get(0)
    floats, replaced = c.attribute("imputed_value_floats"), c.attribute("replaced_value_float", 0.0)
    if not floats:
        raise UnsupportedError("Imputer of integers")
    value = c.b.literal([float(v) for v in floats], x.dtype)
    missing = (
        c.b.call("isnan.default", x) if replaced != replaced  # noqa: PLR0124 (NaN)
        else c.b.call("eq.Scalar", x, float(replaced))
    )  # fmt: skip
    return c.b.call("where.self", missing, value, x)


def _normalizer(c: Call) -> Value:
    x = _float32(c, c.get(0))
    match c.attribute("norm", "MAX"):
        case "L1":
            size = c.b.call("sum.dim_IntList", c.b.call("abs.default", x), [1], True)
        case "L2":
            squares = c.b.call("sum.dim_IntList", c.b.call("mul.Tensor", x, x), [1], True)
            size = c.b.call("sqrt.default", squares)
        case _:
            size = c.b.call("amax.default", x, [1], True)
    nothing = c.b.call("eq.Scalar", size, 0.0)
    safe = c.b.call("masked_fill.Scalar", size, nothing, 1.0)
    return c.b.call("div.Tensor", x, safe)


def _one_hot(c: Call) -> Value:
    texts, numbers = c.attribute("cats_strings"), c.attribute("cats_int64s")
    if not c.attribute("zeros", 1):
        raise UnsupportedError("OneHotEncoder that refuses what it does not know")
    x = c.x[0]
    if isinstance(x, Texts):
        parts = [_coded(c, name, texts or [], np.eye(len(texts or []))) for name in x.columns]
        wide = [c.b.call("unsqueeze.default", p, 1) for p in parts]
        return wide[0] if len(wide) == 1 else c.b.call("cat.default", wide, 1)
    if not numbers:
        raise UnsupportedError("OneHotEncoder of texts that are computed")
    values = c.b.call("_to_copy.default", c.get(0), dtype=("dtype", "int64"))
    known = c.b.literal(list(numbers), "int64")
    return _float32(c, c.b.call("eq.Tensor", c.b.call("unsqueeze.default", values, -1), known))


def _coded(c: Call, column: str, words: list[str], table: Any) -> Value:
    """A row of `table` for each text; zeros where it is not among `words`."""
    rows = np.vstack([np.zeros((1, table.shape[1])), table]).astype(np.float32)
    codes = ToTensor(column, Category(tuple(words), 0))
    return c.b.input(Embedding(codes, c.b.constants.tensor(lambda: rows)))


def _label_encoder(c: Call) -> Value:
    keys = c.attribute("keys_strings") or c.attribute("classes_strings")
    x = c.x[0]
    words = c.attribute("values_strings")
    if not isinstance(x, Texts) or not keys or len(x.columns) != 1 or words:
        raise UnsupportedError("LabelEncoder of numbers, or to texts")
    floats = c.attribute("values_floats")
    values = floats or c.attribute("values_int64s") or list(range(len(keys)))
    otherwise = c.attribute("default_float", 0.0) if floats else c.attribute("default_int64", -1)
    table = np.array([otherwise, *values], np.float32)[:, None]
    codes = ToTensor(x.columns[0], Category(tuple(keys), 0))
    found = c.b.input(Embedding(codes, c.b.constants.tensor(lambda: table)))
    return found if floats else c.b.call("_to_copy.default", found, dtype=("dtype", "int64"))


def _extract(c: Call) -> Any:
    """Columns by number; of a constant: the class of each row."""
    x, index = c.x[0], c.get(1)
    if c.b.is_constant(index):
        places = [int(i) for i in c.b.content(index).reshape(-1)]
        if isinstance(x, Texts):
            return Texts(tuple(x.columns[i] for i in places))
        chosen = c.b.literal(places, "int64")
        return c.b.call("index_select.default", c.get(0), c.get(0).rank - 1, chosen)
    node = c.b.node(index)
    while isinstance(node, TorchOp) and node.target in ("_to_copy.default", "reshape.default"):
        node = node.inputs_[0]  # type: ignore[assignment]
    while not isinstance(node, TorchOp) and node.children and not isinstance(node, ToTensor):
        node = node.children[0]  # type: ignore[assignment]
    if not isinstance(node, TorchOp) or node.target != "argmax.default":
        raise UnsupportedError("ArrayFeatureExtractor by a number that is computed")
    classes = (
        x.values if isinstance(x, Words) else tuple(c.b.content(c.get(0)).reshape(-1).tolist())
    )
    return Labels(classes, c.b.input(node.inputs_[0]))


def _zip_map(c: Call) -> Mapped:
    return Mapped(_classes(c), c.get(0))


def _vectorizer(c: Call) -> Value:
    parts = [_float32(c, c.get(i)) for i in range(len(c.x))]
    return parts[0] if len(parts) == 1 else c.b.call("cat.default", parts, 1)


def _binarizer(c: Call) -> Value:
    return _float32(c, c.b.call("gt.Scalar", c.get(0), float(c.attribute("threshold", 0.0))))


LEARNERS: Mapping[str, Translator] = {
    "ArrayFeatureExtractor": _extract,
    "Binarizer": _binarizer,
    "FeatureVectorizer": _vectorizer,
    "Imputer": _imputer,
    "LabelEncoder": _label_encoder,
    "LinearClassifier": _linear_classifier,
    "LinearRegressor": _linear_regressor,
    "Normalizer": _normalizer,
    "OneHotEncoder": _one_hot,
    "Scaler": _scaler,
    "TreeEnsembleClassifier": _tree_classifier,
    "TreeEnsembleRegressor": _tree_regressor,
    "ZipMap": _zip_map,
}
"""By name: how each becomes operators of ours."""


def passed_on(c: Call) -> Any:
    """What an operator makes of texts and labels that it does not change; None: it reads no such.

    Raises
    ------
    UnsupportedError
        It cannot read them.
    """
    special = [x for x in c.x if isinstance(x, Texts | Words | Labels | Mapped)]
    if not special or c.step.op in LEARNERS:
        return None
    if c.step.op == "Concat" and all(isinstance(x, Texts) for x in c.x):
        return Texts(tuple(n for x in c.x if isinstance(x, Texts) for n in x.columns))
    if c.step.op in ("Cast", "Identity", "Reshape", "Squeeze", "Flatten"):
        return special[0]
    raise UnsupportedError(f"{c.step.op} of texts or labels")
