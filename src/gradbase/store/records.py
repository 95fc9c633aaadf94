"""What a search hands to the store: a model version with all its trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradbase.frontend.space import Dimension, space_of
from gradbase.ir.learning import Model

SUCCEEDED, FAILED, STOPPED = "SUCCEEDED", "FAILED", "STOPPED"
CONSTANT = "CONSTANT"
"""Of a group whose label is the same in all training rows: every row gets it as its prediction."""


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of a trial. `epoch` counts from 0, `seconds` of training and validation.

    `run` counts trainings of the trial from 0: one per fold and one on all rows behind them, or one
    more for each time that the model was continued.
    """

    epoch: int
    train_loss: float | None
    eval_loss: float | None
    metrics: Mapping[str, float] = field(default_factory=dict)
    learn_rate: float | None = None
    seconds: float | None = None
    run: int = 0


@dataclass(frozen=True)
class FoldRecord:
    """A trial that learnt from the other folds, on the `rows` rows of one (from 1)."""

    fold: int
    rows: int
    epochs: int
    train_loss: float | None
    eval_loss: float | None
    metrics: Mapping[str, float] = field(default_factory=dict)


def over_folds(values: Sequence[float | None], rows: Sequence[int]) -> tuple[float, float]:
    """Mean and standard deviation, each fold as often as it has rows; NaN and None are left out.

    Examples
    --------
    >>> over_folds([0.5, 1.0, None], [10, 30, 20])
    (0.875, 0.21650635094610965)
    """
    pairs = zip(values, rows, strict=True)
    known = [(v, n) for v, n in pairs if v is not None and not math.isnan(v)]
    total = sum(n for _, n in known)
    if not total:
        return math.nan, math.nan
    mean = sum(v * n for v, n in known) / total
    return mean, math.sqrt(sum((v - mean) ** 2 * n for v, n in known) / total)


@dataclass(frozen=True)
class FeatureRecord:
    """A column of the training query over the training rows, as it was before any encoding.

    Parameters
    ----------
    type : str
        Text of its `SqlType`.
    minimum, maximum, mean, median, stddev : float, optional
        Of numbers (dates and timestamps in seconds since 1970, vectors over all elements);
        `stddev` is that of the population.
    category_count : int, optional
        Distinct values of text and booleans.
    null_count : int
        Missing values: NULL and NaN.
    dimension : int, optional
        Length of a vector.
    """

    name: str
    type: str
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    median: float | None = None
    stddev: float | None = None
    category_count: int | None = None
    null_count: int = 0
    dimension: int | None = None


class Scores(NamedTuple):
    """Rows of two classes counted by score: ascending `logit` float64[k], and rows of each class.

    Rows that score above one ``logit`` and at most the next are counted at the next.
    """

    logit: NDArray[np.float64]
    negatives: NDArray[np.int64]
    positives: NDArray[np.int64]


@dataclass(frozen=True)
class TrialRecord:
    """One configuration and what became of it.

    Parameters
    ----------
    trial : int
        From 1.
    status : str
        ``SUCCEEDED``, ``FAILED`` or ``STOPPED``.
    configuration : mapping
        The tuned hyper-parameters (JSON values).
    metrics : mapping
        On the evaluation rows.
    test_metrics : mapping
        On the test rows, where there are some.
    error, traceback : str, optional
        Why the trial failed, and where.
    model : Model, optional
        Its program; None where it failed.
    params : mapping
        Hash -> array of the program's `Param`s that may not be in the store yet.
    scores : Scores, optional
        Of the evaluation rows (training rows where none were held out), for two classes.
    confusion : int64[n, 3], optional
        (expected class number, predicted, rows) there, for more classes.
    folds : tuple of FoldRecord
        Of cross-validation; `metrics` and losses are then means over them by rows.
    components : tuple of (float, float)
        Eigenvalue of each principal component, and its share of the variance.
    """

    trial: int
    status: str
    configuration: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    train_loss: float | None = None
    eval_loss: float | None = None
    error: str | None = None
    epochs: tuple[EpochRecord, ...] | list[EpochRecord] = ()
    model: Model | None = None
    params: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    test_metrics: Mapping[str, float] = field(default_factory=dict)
    scores: Scores | None = None
    confusion: NDArray[np.int64] | None = None
    folds: tuple[FoldRecord, ...] = ()
    components: tuple[tuple[float, float], ...] = ()
    traceback: str | None = None

    @property
    def deviations(self) -> dict[str, float]:
        """Standard deviation of each metric and of the loss over the folds; {} without folds."""
        if not self.folds:
            return {}
        rows = [f.rows for f in self.folds]
        values = {n: [f.metrics.get(n) for f in self.folds] for n in self.metrics}
        values["loss"] = [f.eval_loss for f in self.folds]
        return {name: over_folds(of_folds, rows)[1] for name, of_folds in values.items()}


@dataclass(frozen=True)
class GroupRecord:
    """A group of a model that has one per group; its trials are `first_trial` to `last_trial`.

    `key` holds the values of the group's columns; None: the rows of all groups.
    """

    group: int
    key: Mapping[str, Any] | None
    first_trial: int
    last_trial: int
    best_trial: int
    train_rows: int
    eval_rows: int
    test_rows: int


@dataclass(frozen=True)
class ModelRecord:
    """A version of a model: what was asked, what it came from and all trials.

    Parameters
    ----------
    query, sql : str
        The training query, and the whole statement.
    options : mapping
        All options with their values (JSON).
    relation_hash : str
        Hash of the content of the training rows.
    code_version : str
        Of gradbase, and of the user's function where there is one.
    metric, best_trial
        What the trials were compared by (``loss`` is the evaluation loss), and which won.
    created : datetime, UTC
    features : tuple of FeatureRecord
        Of the columns of the training query, in their order.
    train_rows, eval_rows, test_rows : int, optional
        Rows of each part.
    groups : tuple of GroupRecord
        Where there is one model per group; trial 0 is then that of all of them together.
    """

    name: str
    model_type: str
    task: str
    label: str
    query: str
    options: Mapping[str, Any]
    seed: int
    relation_hash: str
    code_version: str
    engine: str
    trials: tuple[TrialRecord, ...] | list[TrialRecord]
    metric: str
    best_trial: int
    sql: str = ""
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    features: tuple[FeatureRecord, ...] = ()
    train_rows: int | None = None
    eval_rows: int | None = None
    test_rows: int | None = None
    groups: tuple[GroupRecord, ...] = ()

    @property
    def space(self) -> dict[str, Dimension]:
        """What the search could choose from, by hyper-parameter."""
        return space_of(self.options, [t.configuration for t in self.trials])

    def trial(self, number: int) -> TrialRecord:
        """The trial of that number."""
        return next(t for t in self.trials if t.trial == number)
