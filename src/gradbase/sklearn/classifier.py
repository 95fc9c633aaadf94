"""`GradbaseClassifier`."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets

from gradbase.errors import DataError
from gradbase.frontend.training import CLASSIFICATION
from gradbase.sklearn.estimator import Array, Estimator


class GradbaseClassifier(ClassifierMixin, Estimator):
    """Neural networks as a scikit-learn classifier, one or the best of a search.

    Rows are numeric arrays, or data frames (pandas, Polars, Arrow) with numbers, texts, categories,
    booleans and dates in any mixture. Missing values may stand anywhere and unseen categories come
    at prediction: nothing has to be imputed, scaled or encoded first. The same rows in any order
    and the same parameters give the same model.

    Parameters
    ----------
    hidden_units : list of int, or a dimension
        Sizes of the hidden layers, [64] if left out; [] is a linear model.
    search : gb.search(…), optional
        Everything that is trained, instead of the parameters from `activation` to `metric`: for
        networks written in Python too.
    activation, dropout, optimizer, learn_rate, l2_reg, batch_size, epochs, early_stop
        As in `gradbase.search`, each a value or a dimension to search over (``gb.choice``,
        ``gb.loguniform``, Optuna's distributions, …). If left out: relu, 0, adam, 0.003, 0, 32, 50,
        False.
    eval_fraction : float
        Share of the rows on which trials are compared: 0.2 in a search, else 0.
    trials, procedure, metric
        Of the search: number of configurations, ``grid`` or ``random``, what decides.
    class_weight : dict or "balanced", optional
        Weights of the classes, as in scikit-learn.
    random_state : int, RandomState or None
        Seed of weights, order and split; None is 0, or the seed of `search`.
    database : Session or str, optional
        Where the model is kept (an open session, or a path) under `name`, for SQL and other
        programs. Without it training leaves nothing behind.
    name : str
        The model's name in `database`; every fit makes a new version of it.

    Attributes
    ----------
    classes_ : array
        The classes, ascending: the order of `predict_proba`'s columns.
    best_params_ : dict
        Values of the best trial's dimensions.
    trials_, history_ : list of dict
        One per trial; one per trial and epoch. See `Study.trials` and `Study.history`.
    n_iter_ : int
        Epochs of the best trial.
    fitted_ : Fitted
        The model as plain data.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> X, y = load_wine(return_X_y=True)
    >>> bool(GradbaseClassifier(epochs=20).fit(X, y).score(X, y) > 0.95)
    True
    """

    task = CLASSIFICATION
    classes_: Array

    def __init__(
        self,
        hidden_units: Any = None,
        *,
        search: Any = None,
        activation: Any = None,
        dropout: Any = None,
        optimizer: Any = None,
        learn_rate: Any = None,
        l2_reg: Any = None,
        batch_size: Any = None,
        epochs: Any = None,
        early_stop: bool | None = None,
        eval_fraction: float | None = None,
        trials: int | None = None,
        procedure: str | None = None,
        metric: str | None = None,
        class_weight: Any = None,
        random_state: Any = None,
        database: Any = None,
        name: str = "estimator",
    ) -> None:
        super().__init__(
            hidden_units, search=search, activation=activation, dropout=dropout,
            optimizer=optimizer, learn_rate=learn_rate, l2_reg=l2_reg, batch_size=batch_size,
            epochs=epochs, early_stop=early_stop, eval_fraction=eval_fraction, trials=trials,
            procedure=procedure, metric=metric, random_state=random_state, database=database,
            name=name,
        )  # fmt: skip
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train.

        Parameters
        ----------
        X : array or frame of shape (n, columns)
        y : array of shape (n,)
            Classes: texts, whole numbers or booleans.
        sample_weight : array of shape (n,), optional
            Weights from 0; a row of weight 2 counts as if it stood there twice.

        Raises
        ------
        DataError
            One row or one class, ±Inf, a column of mixed types.
        """
        rows, target, label = self._checked(X, y)
        check_classification_targets(target)
        weights = self._weights(sample_weight, rows)
        if self.class_weight is not None:
            of_classes = compute_sample_weight(self.class_weight, target)
            weights = of_classes if weights is None else weights * of_classes
        self.classes_ = np.unique(target if weights is None else target[weights > 0])
        if len(self.classes_) == 1:
            raise DataError(
                f"all samples are of one class, `{self.classes_[0]}`: there is nothing to learn",
                hint="at least 2 classes are needed, counting rows with a weight above 0",
            )
        self._train(rows, target, label, weights)
        return self

    def predict_proba(self, X: Any) -> Array:
        """Probabilities, float64 of shape (n, classes), in the order of `classes_`."""
        rows = self._rows(X)
        found = self.fitted_.handle().predict_proba(rows)
        return found / found.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> Array:
        """The most probable class of each row: shape (n,), in the type of `y`."""
        likeliest = self.predict_proba(X).argmax(axis=1)
        return self.classes_[likeliest]
