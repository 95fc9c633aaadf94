"""Examples in docstrings show what happens."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import gradbase

MODULES = sorted(
    m.name
    for m in pkgutil.walk_packages(gradbase.__path__, "gradbase.")
    if not m.name.endswith("__main__")
)


@pytest.mark.parametrize("name", ["gradbase", *MODULES])
def test_docstring_examples(name):
    """Every module imports and its examples hold."""
    results = doctest.testmod(importlib.import_module(name))
    assert results.failed == 0
