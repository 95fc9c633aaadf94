"""Estimators for scikit-learn: networks trained by gradbase, in its pipelines and searches."""

from __future__ import annotations

import importlib.util

from gradbase.errors import UnsupportedError

if importlib.util.find_spec("sklearn") is None:
    raise UnsupportedError("scikit-learn is not installed", hint="pip install 'gradbase[sklearn]'")

from gradbase.sklearn.classifier import GradbaseClassifier
from gradbase.sklearn.regressor import GradbaseRegressor

__all__ = ["GradbaseClassifier", "GradbaseRegressor"]
