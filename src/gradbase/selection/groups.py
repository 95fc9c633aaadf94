"""One model per group: from what was asked for to the plan, and running it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gradbase.errors import BindError, UnsupportedError
from gradbase.frontend.fits import build_dataset, build_fits
from gradbase.frontend.option_table import AUTO_STRATEGY, GRADIENT_DESCENT, NORMAL_EQUATION
from gradbase.ir.derived import Derived
from gradbase.ir.grouping import BY_ROWS, FitGroups
from gradbase.ir.learning import Mlp
from gradbase.runtime.groups.columns import is_groupable
from gradbase.selection import make_procedure
from gradbase.selection.group_rounds import size_of
from gradbase.selection.search import check_space, filled, terms_of
from gradbase.selection.search import task_of as task_with
from gradbase.selection.solving import Counts, may_be_solved

if TYPE_CHECKING:
    from gradbase.frontend.training import TrainingSpec
    from gradbase.ir.learning import Dataset
    from gradbase.ir.relational import Relation


def build(
    spec: TrainingSpec,
    name: str,
    relation: Relation,
    counts: Counts,
    sizes: Sequence[int],
    *,
    transform: tuple[Derived, ...] = (),
) -> tuple[FitGroups, TrainingSpec]:
    """The plan of one model per group, and `spec` with everything filled in.

    Parameters
    ----------
    sizes : sequence of int
        Rows of the groups, ascending.
    transform : tuple of Derived
        What TRANSFORM gives; () without one.

    Raises
    ------
    BindError
        A column does not exist or cannot make groups, or the space cannot be searched so.
    UnsupportedError
        A network or a column is of a kind that is not trained by group.
    """
    draft = build_dataset(spec, relation, counts.rows, transform=transform)
    data = draft.replace(task=task_with(draft.task, counts.classes))
    _check(spec, data)
    hidden = spec.hidden_units
    if hidden is None and "hidden_units" not in spec.space:
        hidden = BY_ROWS
    spec = filled(dataclasses.replace(spec, hidden_units=hidden), data, counts)
    check_space(spec)
    solvable = spec.strategy == AUTO_STRATEGY and may_be_solved(spec)
    stepping = GRADIENT_DESCENT if spec.strategy != NORMAL_EQUATION else NORMAL_EQUATION
    terms = terms_of(spec)
    trials, epochs = size_of(spec.procedure, terms)
    legs = next(make_procedure(spec.procedure, terms).rounds())
    configurations = [leg.configuration for leg in legs]
    fits = build_fits(dataclasses.replace(spec, strategy=stepping), data, configurations)
    if hidden == BY_ROWS:
        spec = dataclasses.replace(spec, hidden_units=None)
    rows = (sizes[0], sizes[len(sizes) // 2], sizes[-1]) if sizes else (0, 0, 0)
    found = FitGroups(
        name, data, fits, spec.metric, spec.procedure, trials, epochs, spec.unseen, solvable,
        len(sizes), rows,
    )  # fmt: skip
    return found, spec


def _check(spec: TrainingSpec, data: Dataset) -> None:
    schema = data.relation.schema
    for name in data.groups:
        of = schema.type_of(name)
        if of.kind in ("list", "array", "struct", "map", "blob", "interval"):
            raise BindError(
                f"group_by column `{name}` has type {of}, of which there are no groups",
                at=f"column {name}",
                hint="cast it in the query",
            )
        others = {
            data.label: "the label", data.split.column: "data_split_col",
            data.weight: "instance_weight_col",
        }  # fmt: skip
        if name in others:
            raise BindError(f"group_by column `{name}` is {others[name]}")
    if spec.network is not None and not isinstance(spec.network, Mlp):
        raise UnsupportedError(
            "group_by trains perceptrons and linear models, found a function",
            hint="gb.mlp(…), or train a model for each group in a loop",
        )
    for field in data.inputs:
        if not is_groupable(field.type):
            raise UnsupportedError(
                f"column `{field.name}` of type {field.type} cannot be a feature of one model per "
                "group",
                hint=f"leave it out (SELECT * EXCLUDE ({field.name}))",
            )
