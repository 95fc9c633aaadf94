"""Whether a linear regression is solved exactly: what that depends on, and what follows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from gradbase.frontend.option_checks import STEPS
from gradbase.frontend.option_table import AUTO_STRATEGY, GRADIENT_DESCENT, NORMAL_EQUATION
from gradbase.frontend.training import TrainingSpec
from gradbase.ir.learning import Dataset
from gradbase.ir.scalar import Column
from gradbase.ir.types import Schema, SqlType
from gradbase.runtime.train.features import ONE_HOT_ONLY_CODES, TIME_PARTS
from gradbase.runtime.train.normal_equation import MAX_COLUMNS

ROWS_PER_COLUMN = 10
_LINEAR_REG = "linear_reg"


@dataclass(frozen=True)
class Counts:
    """What the plan of a search needs to know of the rows, exactly.

    Rows with a label, its classes; and the distinct values of `texts_to_count`.
    """

    rows: int
    classes: int
    distinct: Mapping[str, int] = field(default_factory=dict)


def texts_to_count(spec: TrainingSpec, schema: Schema) -> tuple[str, ...]:
    """Text columns whose distinct values decide how `spec` is trained."""
    return tuple(f.name for f in schema if f.type.is_text) if may_be_solved(spec) else ()


def with_strategy(spec: TrainingSpec, data: Dataset, counts: Counts) -> TrainingSpec:
    """`spec` with a strategy that is not automatic.

    BigQuery's rule: exact, unless an option speaks of steps, there are fewer than ten rows a
    column, or too many columns.
    """
    if spec.strategy != AUTO_STRATEGY:
        return spec
    width = sum(encoded_columns(c.type, _distinct(data, c.name, counts)) for c in data.inputs)
    enough = width <= MAX_COLUMNS and counts.rows >= ROWS_PER_COLUMN * width
    solved = enough and may_be_solved(spec)
    return dataclasses.replace(spec, strategy=NORMAL_EQUATION if solved else GRADIENT_DESCENT)


def may_be_solved(spec: TrainingSpec) -> bool:
    """Whether nothing that was said stands against an exact solution."""
    if spec.model_type != _LINEAR_REG or spec.strategy != AUTO_STRATEGY:
        return False
    return not spec.said.union(spec.space).intersection(STEPS)


def _distinct(data: Dataset, name: str, counts: Counts) -> int:
    """Distinct texts of an input; of what TRANSFORM computes, as many as are ever told apart."""
    computed = {d.name: d.expr for d in data.prepared}
    source = computed.get(name)
    if isinstance(source, Column) or source is None:
        return counts.distinct.get(source.name if source is not None else name, 0)
    return ONE_HOT_ONLY_CODES


def encoded_columns(of: SqlType, distinct: int) -> int:
    """At most so many columns does a feature become."""
    if of.is_text:
        return min(distinct + 2, ONE_HOT_ONLY_CODES)
    if of.is_temporal:
        return len(TIME_PARTS) + 1
    if of.kind == "list":
        return MAX_COLUMNS + 1  # nobody knows before the rows are read
    return of.length if of.is_vector or of.is_nested else 2
