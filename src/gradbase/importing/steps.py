"""Steps of scikit-learn's pipelines: what each fitted one does to the columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradbase.errors import UnsupportedError
from gradbase.importing.columns import Column, Inputs, is_missing, made
from gradbase.ir.tensor import Binary, Linear

Step = Callable[[Inputs, Any, list[Column]], list[Column]]


def kind_of(step: Any) -> str:
    """The name of a class of scikit-learn; '' of any other, subclasses included."""
    return type(step).__name__ if type(step).__module__.partition(".")[0] == "sklearn" else ""


def transformed(inputs: Inputs, step: Any, columns: list[Column]) -> list[Column]:
    """What the fitted `step` makes of `columns`.

    Raises
    ------
    UnsupportedError
        It cannot be imported, or not with its parameters.
    """
    if step is None or isinstance(step, str):
        return [] if step == "drop" else columns
    found = STEPS.get(kind_of(step))
    if found is None:
        support = getattr(step, "get_support", None)  # any selection of columns
        if kind_of(step) and support is not None:
            return [columns[i] for i in support(indices=True)]
        raise unsupported(step, "step", STEPS)
    return found(inputs, step, columns)


def unsupported(what: Any, role: str, known: Sequence[str] | dict[str, Any]) -> UnsupportedError:
    """The error for an object that is none of those `known`."""
    cls = type(what)
    shown = cls.__name__ if kind_of(what) else f"{cls.__module__}.{cls.__qualname__}"
    return UnsupportedError(
        f"{shown} cannot be imported; as a {role} there are {', '.join(sorted(known))}",
        hint="do its part in the query, or train the model here",
    )


def refuse(step: Any, parameter: str, value: object, hint: str | None = None) -> UnsupportedError:
    """The error for a parameter that has no counterpart here."""
    return UnsupportedError(
        f"{type(step).__name__}({parameter}={value!r}) cannot be imported", hint=hint
    )


def _pipeline(inputs: Inputs, step: Any, columns: list[Column]) -> list[Column]:
    for _, part in step.steps:
        columns = transformed(inputs, part, columns)
    return columns


def _union(inputs: Inputs, step: Any, columns: list[Column]) -> list[Column]:
    if step.transformer_weights:
        raise refuse(step, "transformer_weights", step.transformer_weights)
    return [c for _, part in step.transformer_list for c in transformed(inputs, part, columns)]


def _column_transformer(inputs: Inputs, step: Any, columns: list[Column]) -> list[Column]:
    if step.transformer_weights:
        raise refuse(step, "transformer_weights", step.transformer_weights)
    names = getattr(step, "feature_names_in_", None)
    found: list[Column] = []
    for _, part, chosen in step.transformers_:
        picked = [columns[i] for i in places(chosen, names, len(columns))]
        found += transformed(inputs, part, picked) if picked else []
    return found


def places(chosen: Any, names: Any, width: int) -> list[int]:
    """The columns that a fitted ColumnTransformer names by number, name, mask or slice."""
    if isinstance(chosen, slice) and all(
        isinstance(v, int | None) for v in (chosen.start, chosen.stop)
    ):
        return list(range(width))[chosen]
    if isinstance(chosen, str | int):
        chosen = [chosen]
    if isinstance(chosen, slice):
        known = list(names)
        start = 0 if chosen.start is None else known.index(chosen.start)
        stop = width if chosen.stop is None else known.index(chosen.stop) + 1
        return list(range(start, stop))
    values = np.asarray(chosen)
    if values.dtype.kind == "b":
        return np.flatnonzero(values).tolist()
    if values.dtype.kind in "iu":
        return [int(i) % width for i in values]
    known = list(names)
    return [known.index(v) for v in values.tolist()]


def _standard(inputs: Inputs, step: Any, columns: list[Column]) -> list[Column]:
    shift = step.mean_ if step.with_mean else 0.0
    return inputs.affine(columns, shift, 1.0 / step.scale_ if step.with_std else 1.0)


def _robust(inputs: Inputs, step: Any, columns: list[Column]) -> list[Column]:
    shift = step.center_ if step.with_centering else 0.0
    return inputs.affine(columns, shift, 1.0 / step.scale_ if step.with_scaling else 1.0)


def _max_abs(inputs: Inputs, step: Any, columns: list[Column]) -> list[Column]:
    if getattr(step, "clip", False):
        return _clipped(inputs, inputs.affine(columns, 0.0, 1.0 / step.scale_), -1.0, 1.0)
    return inputs.affine(columns, 0.0, 1.0 / step.scale_)


def _min_max(inputs: Inputs, step: Any, columns: list[Column]) -> list[Column]:
    found = inputs.affine(columns, -step.min_ / step.scale_, step.scale_)
    return _clipped(inputs, found, *step.feature_range) if step.clip else found


def _clipped(inputs: Inputs, columns: list[Column], low: float, high: float) -> list[Column]:
    floor = Binary("maximum", inputs.tensor(columns), inputs.constant([low]))
    return made(Binary("minimum", floor, inputs.constant([high])))


def _imputer(inputs: Inputs, step: Any, columns: list[Column]) -> list[Column]:
    marker = step.missing_values
    if not (type(marker).__name__ == "NAType" or is_missing(marker)):
        raise refuse(step, "missing_values", marker, "make these values NULL in the query")
    if step.add_indicator:
        raise refuse(step, "add_indicator", True, "add the column (x IS NULL) in the query")
    found: list[Column] = []
    for column, value in zip(columns, step.statistics_.tolist(), strict=True):
        if not is_missing(value):  # the column was empty, and is left out
            found.append(inputs.filled(column, value if isinstance(value, str) else float(value)))
    return found


def _one_hot(inputs: Inputs, step: Any, columns: list[Column]) -> list[Column]:
    found: list[Column] = []
    nowhere: list[Any] = [None] * len(columns)
    infrequent: list[Any] = step.infrequent_categories_ if _has_infrequent(step) else nowhere
    dropped = nowhere if step.drop_idx_ is None else list(step.drop_idx_)
    for i, column in enumerate(columns):
        values = step.categories_[i]
        rare = None if infrequent[i] is None else np.isin(values, infrequent[i])
        if rare is None:
            place, width = np.arange(len(values)), len(values)
        else:
            frequent = int((~rare).sum())
            place = np.where(rare, frequent, np.cumsum(~rare) - 1)
            width = frequent + 1
        table = np.zeros((len(values) + 1, width))
        table[np.arange(1, len(values) + 1), place] = 1.0
        _unseen(step, table, rare is not None)
        if dropped[i] is not None:
            table = np.delete(table, place[dropped[i]], axis=1)
        found += inputs.categories(column, values, table)
    return found


def _unseen(step: Any, table: Any, has_infrequent: bool) -> None:
    """Row 0: what becomes of a value that is no category."""
    if step.handle_unknown == "error":
        table[0] = np.nan
    elif step.handle_unknown in ("infrequent_if_exist", "warn") and has_infrequent:
        table[0, -1] = 1.0


def _has_infrequent(step: Any) -> bool:
    return step.min_frequency is not None or step.max_categories is not None


def _ordinal(inputs: Inputs, step: Any, columns: list[Column]) -> list[Column]:
    if _has_infrequent(step):
        raise refuse(step, "min_frequency", step.min_frequency)
    found: list[Column] = []
    known = step.handle_unknown == "use_encoded_value"
    for column, values in zip(columns, step.categories_, strict=True):
        codes = np.arange(-1.0, len(values))
        codes[0] = step.unknown_value if known else np.nan
        missing = [i for i, v in enumerate(values.tolist()) if is_missing(v)]
        codes[[i + 1 for i in missing]] = step.encoded_missing_value
        found += inputs.categories(column, values, codes[:, None])
    return found


def _pca(inputs: Inputs, step: Any, columns: list[Column]) -> list[Column]:
    directions = step.components_
    if getattr(step, "whiten", False):
        deviation = np.sqrt(step.explained_variance_)
        smallest = np.finfo(deviation.dtype).eps
        directions = directions / np.maximum(deviation, smallest)[:, None]
    x = inputs.tensor(columns)
    if getattr(step, "mean_", None) is not None:
        x = Binary("sub", x, inputs.constant(step.mean_))
    return made(Linear(x, inputs.constant(directions)))


def _identity(_inputs: Inputs, step: Any, columns: list[Column]) -> list[Column]:
    if step.func is not None:
        raise refuse(step, "func", step.func, "compute it in the query")
    return columns


STEPS: dict[str, Step] = {
    "ColumnTransformer": _column_transformer,
    "FeatureUnion": _union,
    "FunctionTransformer": _identity,
    "MaxAbsScaler": _max_abs,
    "MinMaxScaler": _min_max,
    "OneHotEncoder": _one_hot,
    "OrdinalEncoder": _ordinal,
    "PCA": _pca,
    "Pipeline": _pipeline,
    "RobustScaler": _robust,
    "SimpleImputer": _imputer,
    "StandardScaler": _standard,
    "TruncatedSVD": _pca,
}
"""By class; any selector of columns (`get_support`) can be imported besides."""


def raw_columns(inputs: Inputs, names: Sequence[str]) -> list[Column]:
    """The columns of the table that an object was fitted on."""
    return [inputs.raw(n) for n in names]
