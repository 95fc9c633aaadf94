"""`GradbaseRegressor`."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin

from gradbase.frontend.training import REGRESSION
from gradbase.sklearn.estimator import Array, Estimator


class GradbaseRegressor(RegressorMixin, Estimator):
    """Neural networks as a scikit-learn regressor, one or the best of a search.

    Parameters and attributes are those of `GradbaseClassifier`, without `class_weight` and
    `classes_`. The target is standardised while it is learnt.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> bool(GradbaseRegressor(epochs=20).fit(X, y).score(X, y) > 0.5)
    True
    """

    task = REGRESSION

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train.

        Parameters
        ----------
        X : array or frame of shape (n, columns)
        y : array of shape (n,)
            Numbers.
        sample_weight : array of shape (n,), optional
            Weights from 0; a row of weight 2 counts as if it stood there twice.

        Raises
        ------
        DataError
            One row, a constant target, ±Inf, a column of mixed types.
        """
        rows, target, label = self._checked(X, y)
        self._train(rows, target.astype(np.float64), label, self._weights(sample_weight, rows))
        return self

    def predict(self, X: Any) -> Array:
        """The value of each row: float64 of shape (n,)."""
        rows = self._rows(X)
        return self.fitted_.handle().predict(rows)
