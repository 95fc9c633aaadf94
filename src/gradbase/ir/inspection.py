"""Relations that tell about a model: how it judges rows, what its weights are, what has drifted."""

from __future__ import annotations

import functools
import re

from gradbase.ir.learning import Evaluate, Model
from gradbase.ir.node import Node, node
from gradbase.ir.relational import Relation
from gradbase.ir.scalar import Literal
from gradbase.ir.types import FLOAT64, INT64, TEXT, Field, Schema, SqlType, list_of, struct_of

SCORES = Schema.of(logit=FLOAT64, negatives=INT64, positives=INT64)
"""Rows of two classes by ascending logit; as in the catalog's table `scores`."""
COUNTS = Schema.of(expected=INT64, predicted=INT64, cases=INT64)
"""Rows by class numbers; as in the catalog's table `confusion`."""


@node
class ScoreCounts(Evaluate):
    """`SCORES` of the rows of `child` that have a label; the model has two classes."""

    @functools.cached_property
    def schema(self) -> Schema:  # type: ignore[override]
        return SCORES


@node
class ClassCounts(Evaluate):
    """`COUNTS` of the rows of `child` that have a label, without zeros."""

    @functools.cached_property
    def schema(self) -> Schema:  # type: ignore[override]
        return COUNTS


class Inspection(Relation):
    """Computed here from few rows, or from a model alone."""

    row_independent = False


@node
class RocCurve(Inspection):
    """A row per threshold, in order; a row is predicted positive where its score is above it.

    `child` has the columns of `SCORES`. `thresholds` are probabilities; () means 0 and the
    percentiles of the scores.  SQL: ``ML.ROC_CURVE(MODEL m, (rows), thresholds)``.
    """

    child: Relation
    thresholds: tuple[float, ...] = ()

    @property
    def schema(self) -> Schema:
        return ROC


ROC = Schema.of(
    threshold=FLOAT64,
    recall=FLOAT64,
    false_positive_rate=FLOAT64,
    true_positives=INT64,
    false_positives=INT64,
    true_negatives=INT64,
    false_negatives=INT64,
)


@node
class ConfusionMatrix(Inspection):
    """A row per class that was expected, a column per class that was predicted.

    `child` has the columns of `COUNTS`; `names[i]` is the column of ``classes[i]``.
    SQL: ``ML.CONFUSION_MATRIX(MODEL m, (rows), STRUCT(threshold))``.
    """

    child: Relation
    classes: tuple[Literal, ...]
    names: tuple[str, ...]

    @functools.cached_property
    def schema(self) -> Schema:  # type: ignore[override]
        counts = (Field(n, INT64) for n in self.names)
        return Schema((Field("expected_label", self.classes[0].of), *counts))


def column_name(label: str) -> str:
    """`label` as a column's name: letters, digits and underscores, no digit first.

    Examples
    --------
    >>> [column_name(label) for label in ("yes", "0", "-1.5", "a b", "")]
    ['yes', '_0', '_1_5', 'a_b', '_']
    """
    legal = re.sub(r"\W", "_", label)
    return legal if legal and not legal[0].isdigit() else f"_{legal}"


@node
class Keep(Inspection):
    """The rows of `child`, computed once for all that read them."""

    child: Relation

    @property
    def schema(self) -> Schema:
        return self.child.schema


@node
class CompareModels(Inspection):
    """Metrics of two models on the same rows, and on what share of them they differ.

    `metrics` are two relations of one row each, or none where the rows have no label. `pairs` has
    two columns: what either model predicts.  SQL: ``ML.COMPARE(MODEL a, MODEL b, (rows))``.
    """

    metrics: tuple[Relation, ...]
    pairs: Relation

    @property
    def schema(self) -> Schema:
        return Schema.of(metric=TEXT, first=FLOAT64, second=FLOAT64, difference=FLOAT64)


@node
class Weights(Inspection):
    """The weights of linear models: a row per input and class, the intercept last.

    `models` are trials of one version; `with_trial` puts their numbers into a first column.
    Without `standardize` weights are in the units of the columns.  SQL: ``ML.WEIGHTS(MODEL m)``.
    """

    models: tuple[Model, ...]
    standardize: bool = False
    with_trial: bool = False

    @functools.cached_property
    def schema(self) -> Schema:  # type: ignore[override]
        model = self.models[0]
        categories = list_of(struct_of(category=TEXT, weight=FLOAT64))
        columns = {"processed_input": TEXT, "weight": FLOAT64, "category_weights": categories}
        if model.task == "multiclass":
            columns["class_label"] = model.outputs[0].classes[0].of
        trial = {"trial_id": INT64} if self.with_trial else {}
        return Schema.of(**trial, **columns)


@node
class DriftColumn(Node):
    """A column of training or of the rows at hand, and how the two compare.

    `name` is its name in the rows ('' where missing); shares and means are of the training rows,
    None where unknown.
    """

    column: str
    status: str
    trained: SqlType | None = None
    found: SqlType | None = None
    name: str = ""
    null_share: float | None = None
    mean: float | None = None


@node
class SchemaDrift(Inspection):
    """A row per column: its type, missing values, unseen categories and mean, then and now.

    SQL: ``ML.SCHEMA_DRIFT(MODEL m, (child))``.
    """

    child: Relation
    model: Model
    columns: tuple[DriftColumn, ...]

    @property
    def schema(self) -> Schema:
        return Schema.of(
            column_name=TEXT, status=TEXT, trained_type=TEXT, found_type=TEXT,
            trained_null_share=FLOAT64, null_share=FLOAT64, unseen_share=FLOAT64,
            trained_mean=FLOAT64, mean=FLOAT64,
        )  # fmt: skip
