"""scikit-learn's own checks of estimators, all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

import gradbase
from gradbase.sklearn import GradbaseClassifier, GradbaseRegressor

ARRAY_API = """
from sklearn.utils.estimator_checks import check_array_api_input
from gradbase.sklearn import GradbaseClassifier, GradbaseRegressor
for kind in (GradbaseClassifier, GradbaseRegressor):
    check_array_api_input(kind.__name__, kind(), "numpy", expect_only_array_outputs=False)
"""


@parametrize_with_checks([GradbaseClassifier(), GradbaseRegressor()])
def test_check(estimator, check):
    """What scikit-learn expects of every estimator."""
    if getattr(check, "func", check).__name__ == "check_array_api_input":
        return  # it needs a variable set before SciPy is imported: see below
    check(estimator)


@pytest.mark.slow
def test_results_are_the_same_under_array_api_dispatch():
    """scikit-learn leaves this check out unless SCIPY_ARRAY_API is set when Python starts."""
    sources = str(Path(gradbase.__file__).parents[1])
    environment = os.environ | {"SCIPY_ARRAY_API": "1", "PYTHONPATH": sources}
    subprocess.run([sys.executable, "-W", "error", "-c", ARRAY_API], env=environment, check=True)
