"""Predictors of scikit-learn, fitted: what each one computes of its columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gradbase.errors import UnsupportedError
from gradbase.importing.columns import Inputs
from gradbase.importing.steps import kind_of, refuse, unsupported
from gradbase.importing.trees import averaged, walked
from gradbase.ir.scalar import Literal
from gradbase.ir.tensor import Binary, Linear, Tensor, Unary
from gradbase.ir.types import BOOL, FLOAT64, INT64, TEXT


@dataclass(frozen=True)
class Predictor:
    """What an object computes: `x` is a logit, one per class of more than two, or a value."""

    x: Tensor
    classes: tuple[Literal, ...] = ()


def predictor(inputs: Inputs, what: Any, x: Tensor) -> Predictor:
    """The fitted estimator `what` of its columns `x`.

    Raises
    ------
    UnsupportedError
        It cannot be imported, or predicts several values.
    """
    translate = ESTIMATORS.get(kind_of(what))
    if translate is None:
        raise unsupported(what, "model", ESTIMATORS)
    classes = literals(what.classes_) if hasattr(what, "classes_") else ()
    found = translate(inputs, what, x)
    expected = 1 if len(classes) in (0, 2) else len(classes)
    if found.shape[-1] != expected:
        raise UnsupportedError(
            f"{kind_of(what)} gives {found.shape[-1]} numbers for {len(classes) or 'no'} classes; "
            "models with several labels cannot be imported",
            hint="import one model per label",
        )
    return Predictor(found, classes)


def literals(classes: Any) -> tuple[Literal, ...]:
    """Classes as constants.

    Raises
    ------
    UnsupportedError
        There are fewer than two, or they are neither texts, numbers nor booleans.
    """
    values = np.asarray(classes)
    if isinstance(classes, list) and any(isinstance(v, np.ndarray) for v in classes):
        raise UnsupportedError("models with several labels cannot be imported")
    plain: list[Any] = values.tolist()
    if len(plain) < 2:
        raise UnsupportedError(f"a model of the classes {plain} has nothing to decide")
    kinds = {bool: BOOL, int: INT64, float: FLOAT64, str: TEXT}
    found = {kinds.get(type(v)) for v in plain}
    kind = found.pop() if len(found) == 1 else None
    if kind is None:
        names = ", ".join(sorted({type(v).__name__ for v in plain}))
        raise UnsupportedError(f"classes are all texts, integers, floats or booleans, not {names}")
    return tuple(Literal(v, kind) for v in plain)


# -- linear models and perceptrons -----------------------------------------------------------------


def dense(inputs: Inputs, x: Tensor, weight: npt.ArrayLike, bias: npt.ArrayLike) -> Tensor:
    """A layer with `weight` [outputs, inputs] or [inputs]."""
    matrix = np.atleast_2d(np.asarray(weight, np.float64))
    vector = np.broadcast_to(np.asarray(bias, np.float64).ravel(), (len(matrix),))
    return Linear(x, inputs.constant(matrix), inputs.constant(vector))


def _linear(inputs: Inputs, what: Any, x: Tensor) -> Tensor:
    coefficients = what.coef_
    if hasattr(coefficients, "toarray"):  # after sparsify()
        coefficients = coefficients.toarray()
    return dense(inputs, x, coefficients, what.intercept_)


_ACTIVATIONS = {"identity": "", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}


def _perceptron(inputs: Inputs, what: Any, x: Tensor) -> Tensor:
    last = len(what.coefs_) - 1
    activation = _ACTIVATIONS[what.activation]
    for i, (weight, bias) in enumerate(zip(what.coefs_, what.intercepts_, strict=True)):
        x = dense(inputs, x, weight.T, bias)
        if activation and i < last:
            x = Unary(activation, x)
    return Unary("exp", x) if what.out_activation_ == "exp" else x


_SMALLEST = 1e-300

# -- trees -------------------------------------------------------------------------------------


def _tree_classifier(inputs: Inputs, what: Any, x: Tensor) -> Tensor:
    trees = _trees(what)
    values = [t.value[:, 0, :] / t.value[:, 0, :].sum(axis=1, keepdims=True) for t in trees]
    chances = averaged(inputs, trees, values, x)
    # The logarithm of 0 would leave nothing to compute metrics of.
    logs = Unary("log", Binary("maximum", chances, inputs.constant([_SMALLEST])))
    if len(what.classes_) != 2:
        return logs
    return Linear(logs, inputs.constant([[-1.0, 1.0]]))


def _tree_regressor(inputs: Inputs, what: Any, x: Tensor) -> Tensor:
    trees = _trees(what)
    return averaged(inputs, trees, [t.value[:, :, 0] for t in trees], x)


def _trees(what: Any) -> list[Any]:
    if what.n_outputs_ != 1:
        raise UnsupportedError("models with several labels cannot be imported")
    return [e.tree_ for e in what.estimators_] if hasattr(what, "estimators_") else [what.tree_]


def _boosting(inputs: Inputs, what: Any, x: Tensor) -> Tensor:
    if what.init_ != "zero" and kind_of(what.init_) not in ("DummyClassifier", "DummyRegressor"):
        raise refuse(what, "init", what.init_)
    stages = what.estimators_  # [stages, outputs]
    trees = [e.tree_ for e in stages.ravel()]
    outputs = stages.shape[1]
    values = [
        what.learning_rate * t.value[:, 0, :] * np.eye(outputs)[i % outputs]
        for i, t in enumerate(trees)
    ]
    rows = np.zeros((1, what.n_features_in_), np.float32)
    start = what._raw_predict_init(rows)  # noqa: SLF001 (no public way to the first guess)
    found = Binary(
        "add", walked(inputs, trees, values, x), inputs.constant(np.asarray(start, np.float64)[0])
    )
    if getattr(what, "loss", "") == "exponential":
        return Binary("mul", found, inputs.constant([2.0]))  # the loss is of half the logit
    return found


ESTIMATORS: dict[str, Callable[[Inputs, Any, Tensor], Tensor]] = {
    **dict.fromkeys(
        ("ElasticNet", "ElasticNetCV", "Lasso", "LassoCV", "LinearRegression",
         "LogisticRegression", "LogisticRegressionCV", "Ridge", "RidgeCV"),
        _linear,
    ),
    **dict.fromkeys(("MLPClassifier", "MLPRegressor"), _perceptron),
    **dict.fromkeys(
        ("DecisionTreeClassifier", "ExtraTreesClassifier", "RandomForestClassifier"),
        _tree_classifier,
    ),
    **dict.fromkeys(
        ("DecisionTreeRegressor", "ExtraTreesRegressor", "RandomForestRegressor"),
        _tree_regressor,
    ),
    **dict.fromkeys(("GradientBoostingClassifier", "GradientBoostingRegressor"), _boosting),
}  # fmt: skip
"""By class: what its predictions are made of."""
