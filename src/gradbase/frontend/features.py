"""Which expression feeds which feature of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gradbase.errors import BindError, near
from gradbase.ir.learning import Feature, Model
from gradbase.ir.scalar import PredictCall, Scalar
from gradbase.ir.types import SqlType

METHOD = {"binary": "label", "multiclass": "label", "regression": "value", "raw": "raw"}
"""What PREDICT gives, by task."""


@dataclass(frozen=True)
class Given:
    """A value on offer: its name ('' by position) and expression."""

    name: str
    value: Scalar


def method_of(function: str, model: Model) -> str:
    """The model's output that a scalar function asks for."""
    return "proba" if function == "PREDICT_PROBA" else METHOD[model.task]


def predict_call(
    model: Model, method: str, given: Sequence[Given], *, by_name: bool, at: str | None
) -> PredictCall:
    """The prediction, its features chosen among `given` by name or by position.

    Raises
    ------
    BindError
        A feature is missing, ambiguous or of another type, or the number of arguments differs.
    """
    if method not in {o.method for o in model.outputs}:
        raise BindError(
            f"model `{model.name}` ({model.task}) has no probabilities"
            if method == "proba"
            else f"model `{model.name}` ({model.task}) has no output `{method}`",
            at=at,
            hint="use PREDICT" if method == "proba" else None,
        )
    if not by_name and len(given) != len(model.features):
        names = ", ".join(f.name for f in model.features)
        raise BindError(
            f"model `{model.name}` reads {len(model.features)} features ({names}), "
            f"{len(given)} were given",
            at=at,
            hint="PREDICT(model, *) takes them from the columns by name",
        )
    chosen: list[Scalar] = []
    for i, feature in enumerate(model.features):
        value = _named(model, feature, given, at) if by_name else given[i].value
        if not feature_type_fits(feature.of, value.type):
            raise BindError(
                f"model `{model.name}` was trained on `{feature.name}` of type {feature.of}, "
                f"found {value.type}",
                at=at,
                hint=f"cast it: PREDICT({model.name}, *, CAST(… AS …) AS {feature.name})",
            )
        chosen.append(value)
    return PredictCall(model, method, tuple(chosen))


def _named(model: Model, feature: Feature, given: Sequence[Given], at: str | None) -> Scalar:
    exact = [g for g in given if g.name == feature.name]
    found = exact or [g for g in given if g.name.casefold() == feature.name.casefold()]
    values = list(dict.fromkeys(g.value for g in found))
    if not values:
        names = [g.name for g in given]
        shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
        raise BindError(
            f"model `{model.name}` reads column `{feature.name}`, which is not there; "
            f"there are {shown or 'no columns'}",
            at=at,
            hint=near(feature.name, names),
        )
    if len(values) > 1:
        raise BindError(
            f"model `{model.name}` reads column `{feature.name}`, which several tables have",
            at=at,
            hint=f"PREDICT({model.name}, t.*) or PREDICT({model.name}, *, t.{feature.name} "
            f"AS {feature.name})",
        )
    return values[0]


def feature_type_fits(trained: SqlType, found: SqlType) -> bool:
    """Whether a column of type `found` can stand for one of type `trained`.

    Numbers interchange; text and enums; dates and timestamps; arrays of
    numbers need equal length; the length of a list is checked row by row. NULL fits everything.

    Examples
    --------
    >>> from gradbase.ir.types import FLOAT64, INT64, TEXT
    >>> feature_type_fits(INT64, FLOAT64), feature_type_fits(INT64, TEXT)
    (True, False)
    """
    if found.kind == "null" or trained == found:
        return True
    if trained.is_numeric and found.is_numeric:
        return True
    if trained.is_text and found.is_text:
        return True
    if trained.is_temporal and found.is_temporal:
        return True
    if trained.is_vector and found.kind == "list" and found.element is not None:
        return found.element.is_numeric
    return trained.is_vector and found.is_vector and trained.size == found.size
