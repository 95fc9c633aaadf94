"""scikit-learn's own checks of estimators, all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sklearn.utils.estimator_checks import (
    check_regressors_int,
    check_regressors_train,
    parametrize_with_checks,
)

import gradbase
from gradbase.sklearn import GradbaseClassifier, GradbaseRegressor

ARRAY_API = """
from sklearn.utils.estimator_checks import check_array_api_input
from gradbase.sklearn import GradbaseClassifier, GradbaseRegressor
for kind in (GradbaseClassifier, GradbaseRegressor):
    check_array_api_input(kind.__name__, kind(), "numpy", expect_only_array_outputs=False)
"""


@parametrize_with_checks([GradbaseClassifier()])
def test_check(estimator, check):
    """What scikit-learn expects of every estimator."""
    run(check, estimator)


@pytest.mark.slow  # what both are is in one base class
@parametrize_with_checks([GradbaseRegressor()])
def test_check_of_regressors(estimator, check):
    """The same of the other kind."""
    run(check, estimator)


@pytest.mark.parametrize("check", [check_regressors_train, check_regressors_int])
def test_what_is_expected_of_regressors_only(check):
    """Of those the checks that classifiers do not have."""
    check("GradbaseRegressor", GradbaseRegressor())


def run(check, estimator):
    """Run one check."""
    if getattr(check, "func", check).__name__ == "check_array_api_input":
        return  # it needs a variable set before SciPy is imported: see below
    check(estimator)


@pytest.mark.slow
def test_results_are_the_same_under_array_api_dispatch():
    """scikit-learn leaves this check out unless SCIPY_ARRAY_API is set when Python starts."""
    sources = str(Path(gradbase.__file__).parents[1])
    environment = os.environ | {"SCIPY_ARRAY_API": "1", "PYTHONPATH": sources}
    subprocess.run([sys.executable, "-W", "error", "-c", ARRAY_API], env=environment, check=True)
