"""An object from Python -> a `Model` and the content of its constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gradbase.errors import BindError, ShapeError, UnsupportedError
from gradbase.frontend.torch_export import Exporter
from gradbase.importing.columns import Inputs
from gradbase.importing.estimators import Predictor, literals, predictor
from gradbase.importing.steps import kind_of, raw_columns, transformed
from gradbase.ir.conversion import Numeric, ToTable, ToTensor, Vector
from gradbase.ir.learning import Feature, Model
from gradbase.ir.tensor import Concat, Linear, Tensor
from gradbase.ir.types import BOOL, FLOAT32, FLOAT64, INT64, SqlType, array_of, list_of, struct_of
from gradbase.runtime.train.features import constant

Params = dict[str, npt.NDArray[Any]]
LABEL = "label"
"""Name of what an object of scikit-learn predicts, where none is given."""


def imported(
    name: str,
    what: Any,
    features: Mapping[str, SqlType | None] | None,
    label: str | None,
    classes: Sequence[Any] | None,
) -> tuple[Model, Params]:
    """The model `name` that predicts as `what` does.

    Parameters
    ----------
    what : torch.nn.Module or fitted object of scikit-learn
    features : mapping, optional
        The columns on offer, in order, with their types where they are known.
    label : str, optional
    classes : sequence, optional
        Of a module that returns logits.

    Raises
    ------
    BindError
        The object is not fitted, or what it reads is not known.
    UnsupportedError
        It, or a part of it, has no counterpart here; names it.
    """
    if isinstance(what, torch.nn.Module):
        return _of_module(name, what, features, label, classes)
    if isinstance(what, type) or not kind_of(what):
        found = f"the class {what.__name__}" if isinstance(what, type) else repr(type(what))
        raise UnsupportedError(
            f"fitted objects of scikit-learn and torch modules can be imported, found {found}",
            hint="files: db.import_model(name, 'model.onnx'), or a `.pt2` file of torch.export",
        )
    if classes is not None:
        raise BindError(f"{kind_of(what)} knows its classes, leave `classes` out")
    return _of_sklearn(name, what, features, label or LABEL)


# -- scikit-learn --------------------------------------------------------------------------------


def _of_sklearn(
    name: str, what: Any, features: Mapping[str, SqlType | None] | None, label: str
) -> tuple[Model, Params]:
    while hasattr(what, "best_estimator_"):  # a search
        what = what.best_estimator_
    _check_fitted(what)
    names = _names(what, features, label)
    inputs = Inputs(features or dict.fromkeys(names))
    columns = raw_columns(inputs, names)
    steps = [part for _, part in what.steps] if kind_of(what) == "Pipeline" else [what]
    for step in steps[:-1]:
        columns = transformed(inputs, step, columns)
    found = predictor(inputs, steps[-1], inputs.tensor(columns))
    read, derived = inputs.finish()
    task = {0: "regression", 2: "binary"}.get(len(found.classes), "multiclass")
    model = Model(name, 0, 1, task, label, read, heads(found), derived, imported=True)
    return model, inputs.params


def _check_fitted(what: Any) -> None:
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(what)
    except NotFittedError as error:
        raise BindError(
            f"this {type(what).__name__} is not fitted", hint="call fit(X, y) before the import"
        ) from error
    except TypeError as error:
        raise UnsupportedError(f"{type(what).__name__} is no estimator of scikit-learn") from error


def _names(what: Any, features: Mapping[str, SqlType | None] | None, label: str) -> list[str]:
    """The columns that the object was fitted on, in its order."""
    known: Any = getattr(what, "feature_names_in_", None)
    if known is not None:
        return [str(n) for n in known]
    count: int = what.n_features_in_
    given = [n for n in features or () if n != label]
    if len(given) != count:
        found = f"found {', '.join(given)}" if given else "none were given"
        raise BindError(
            f"this {type(what).__name__} was fitted on {count} columns without names, {found}",
            hint="features=['a', 'b', …] names them in their order",
        )
    return given


def heads(found: Predictor) -> tuple[ToTable, ...]:
    """The columns that a predictor gives."""
    if not found.classes:
        return (ToTable(found.x, "value", FLOAT64),)
    of, classes = found.classes[0].of, found.classes
    proba = FLOAT64 if len(classes) == 2 else list_of(FLOAT64)
    return (
        ToTable(found.x, "label", of, classes),
        ToTable(found.x, "proba", proba, classes),
        ToTable(found.x, "probs", list_of(struct_of(label=of, prob=FLOAT64)), classes),
    )


# -- modules -------------------------------------------------------------------------------------


def _of_module(
    name: str,
    module: torch.nn.Module,
    features: Mapping[str, SqlType | None] | None,
    label: str | None,
    classes: Sequence[Any] | None,
) -> tuple[Model, Params]:
    if not features:
        raise BindError(
            "a module does not say which columns it reads",
            hint="features=['a', 'b', …], or rows with these columns",
        )
    read = tuple(Feature(n, t or FLOAT64) for n, t in features.items() if n != label)
    parts = tuple(_entry(feature) for feature in read)
    x, params = Exporter().export(module, parts[0] if len(parts) == 1 else Concat(parts))
    if x.dtype not in ("float32", "float64"):
        raise ShapeError(f"{type(module).__name__} returns {x.dtype}, expected float32 or float64")
    task, outputs = "raw", (ToTable(x, "raw", raw_type(x)),)
    if classes is not None:
        found = literals(classes)
        made = logit(x, len(found), lambda values: constant(values, params))
        task, outputs = (
            "binary" if len(found) == 2 else "multiclass",
            heads(Predictor(made, found)),
        )
    elif label is not None:
        if x.shape[-1] != 1:
            raise ShapeError(
                f"{type(module).__name__} returns {x.shape[-1]} numbers per row; a value to be "
                f"compared with `{label}` is one",
                hint="classes=[…] where they are logits; without label and classes they stay as "
                "they are",
            )
        task, outputs = "regression", heads(Predictor(x))
    shown = "" if task == "raw" else label or LABEL
    return Model(name, 0, 1, task, shown, read, outputs, imported=True), params


def _entry(feature: Feature) -> Tensor:
    if feature.of.is_vector:
        return ToTensor(feature.name, Vector(feature.of.size[0]))
    if feature.of.is_numeric or feature.of.kind == "bool":
        return ToTensor(feature.name, Numeric(0.0, 1.0, indicator=False))
    raise UnsupportedError(
        f"column `{feature.name}` of type {feature.of} cannot go into a module",
        hint="modules read numbers, booleans and arrays of a fixed length",
    )


def logit(x: Tensor, classes: int, kept: Callable[[npt.NDArray[Any]], Tensor]) -> Tensor:
    """One logit of two classes, one per class of more; `kept` makes constants."""
    width = x.shape[-1]
    if width == classes == 2:
        return Linear(x, kept(np.array([[-1.0, 1.0]], x.dtype)))
    if width == (1 if classes == 2 else classes):
        return x
    raise ShapeError(
        f"the module returns {width} numbers per row, {classes} classes need {classes} logits"
    )


_RAW = {"float32": FLOAT32, "float64": FLOAT64, "int64": INT64, "int32": SqlType("int32"),
        "uint8": SqlType("uint8"), "bool": BOOL}  # fmt: skip


def raw_type(x: Tensor) -> SqlType:
    """The type of a column with what a network gives."""
    kind = _RAW[x.dtype]
    return kind if x.shape[-1] == 1 else array_of(kind, x.shape[-1])
