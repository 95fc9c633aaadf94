"""Which metrics are better where they are smaller, and the names of users' own."""

from __future__ import annotations

MINIMISED = frozenset((
    "log_loss", "loss", "mean_absolute_error", "mean_squared_error", "mean_squared_log_error",
    "median_absolute_error", "davies_bouldin_index", "mean_squared_distance"))  # fmt: skip
"""Metrics of which less is better."""
MINIMIZE, MAXIMIZE = "minimize ", "maximize "
"""What the name of a user's own metric begins with, as it says which way is better."""


def is_minimised(metric: str) -> bool:
    """Whether less of a metric is better.

    Examples
    --------
    >>> is_minimised("log_loss"), is_minimised("minimize cost"), is_minimised("roc_auc")
    (True, True, False)
    """
    return metric in MINIMISED or metric.startswith(MINIMIZE)


def reference_of(metric: str) -> str:
    """The function of a user's own metric: ``python:…``; '' of another.

    Examples
    --------
    >>> reference_of("minimize python:shop:cost"), reference_of("log_loss")
    ('python:shop:cost', '')
    """
    for direction in (MINIMIZE, MAXIMIZE):
        if metric.startswith(f"{direction}python:"):
            return metric.removeprefix(direction)
    return ""


def shown(metric: str) -> str:
    """A metric's name in tables: of a user's own the direction and the function's name.

    Examples
    --------
    >>> shown("minimize python:shop:cost"), shown("maximize python:gain@0f3a"), shown("log_loss")
    ('minimize cost', 'maximize gain', 'log_loss')
    """
    reference = reference_of(metric)
    if not reference:
        return metric
    direction = metric.split(" ", 1)[0]
    return f"{direction} {reference.rsplit(':', 1)[-1].partition('@')[0]}"
