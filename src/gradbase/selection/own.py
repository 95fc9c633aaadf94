"""Users' functions as values of options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from gradbase.errors import BindError
from gradbase.frontend.space import Choice
from gradbase.ir.metrics import MAXIMIZE, MINIMIZE
from gradbase.ir.stepping import OWN_LOSS
from gradbase.selection.networks import register

_FUNCTIONS = ("loss", "optimizer", "lr_schedule")
"""Options that may be functions."""


def referenced(given: dict[str, Any]) -> dict[str, Any]:
    """Options with functions as what names them.

    Raises
    ------
    BindError
        A metric is a function that does not say which way is better.
    """
    if callable(given.get("metric")):
        raise BindError(
            "a metric that is a function must say which way is better",
            hint="metric=gb.minimize(function) or metric=gb.maximize(function)",
        )
    return {n: by_reference(v) if n in _FUNCTIONS else v for n, v in given.items()}


def by_reference(value: Any) -> Any:
    """A function as what names it, among the values of a choice too."""
    if isinstance(value, Choice):
        return Choice(tuple(by_reference(v) for v in value.values))
    return OWN_LOSS + register(cast("Any", value)).reference if callable(value) else value


def minimize(function: Callable[[Any, Any], float]) -> str:
    """A metric of your own, of which less is better, for ``metric=``.

    Parameters
    ----------
    function : callable
        Of outputs Tensor[rows, outputs] and targets Tensor[rows] of the evaluation rows a number.
        Outputs of a classifier are logits, those of a regression in the label's unit.

    Examples
    --------
    >>> import gradbase as gb
    >>> def largest_error(outputs, targets): return (outputs[:, 0] - targets).abs().max()
    >>> gb.minimize(largest_error).startswith("minimize python:largest_error@")
    True
    """
    return f"{MINIMIZE}{by_reference(function)}"


def maximize(function: Callable[[Any, Any], float]) -> str:
    """A metric of your own, of which more is better; see `minimize`.

    Examples
    --------
    >>> import gradbase as gb
    >>> gb.maximize(lambda outputs, targets: 1.0).split()[0]
    'maximize'
    """
    return f"{MAXIMIZE}{by_reference(function)}"
