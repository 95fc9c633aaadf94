"""One model per group: planning it by the groups that there are, and running it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gradbase.engines import quote_identifier
from gradbase.errors import UnsupportedError
from gradbase.frontend.fits import find_column
from gradbase.frontend.transform import bind_transform
from gradbase.ir.derived import Derived
from gradbase.ir.grouping import FitGroups
from gradbase.ir.relational import Relation, SqlFragment
from gradbase.selection import group_run, groups
from gradbase.selection.outcome import RunResult
from gradbase.selection.resuming import Interrupted
from gradbase.selection.run import RunInfo
from gradbase.selection.search import terms_of
from gradbase.session.planning import Plan, plan

if TYPE_CHECKING:
    from gradbase.frontend.statements import CreateModel
    from gradbase.frontend.training import TrainingSpec
    from gradbase.frontend.transform import TransformClause
    from gradbase.session.session import Session


def plan_groups(
    session: Session,
    spec: TrainingSpec,
    name: str,
    query: str,
    params: Mapping[str, Any],
    *,
    clause: TransformClause | None,
    adds_label: bool = False,
) -> tuple[TrainingSpec, Plan]:
    """The plan of one model per group, and what was asked for with everything filled in.

    `adds_label` as in `training.plan_search`.
    """
    from gradbase.session.training import count, passed_on, training_relation

    if session.settings.exactness == "bitwise":
        raise UnsupportedError(
            "group_by trains in stacks, which is `tolerance`; gradbase.exactness is 'bitwise'",
            hint="SET gradbase.exactness = 'tolerance', or train a model for each group in a loop",
        )
    relation = training_relation(session, query, params)
    label = find_column(relation.schema, spec.label, "label column", "set input_label_cols")
    keys = [find_column(relation.schema, n, "group_by column") for n in spec.groups]
    transform: tuple[Derived, ...] = ()
    if clause is not None:
        spec = dataclasses.replace(spec, transform=clause.text.strip())
        transform = bind_transform(clause, relation.schema, session.engine)
        if adds_label:
            transform += passed_on(spec, relation, {d.name for d in transform})
    counts = count(session, relation, label, (), params)
    sizes = _sizes(session, relation, label, keys, params)
    root, spec = groups.build(spec, name, relation, counts, sizes, transform=transform)
    return spec, plan(session, root)


def _sizes(
    session: Session, relation: Relation, label: str, keys: list[str], params: Mapping[str, Any]
) -> list[int]:
    """Rows with a label of each group, ascending."""
    if isinstance(relation, SqlFragment) and not relation.inputs and not relation.calls:
        by = ", ".join(map(quote_identifier, keys))
        known = quote_identifier(label)
        found = session.engine.fetch(
            f"SELECT count(*) AS n FROM ({relation.parts[0]}\n) AS __gb_q "
            f"WHERE {known} IS NOT NULL GROUP BY {by}",
            params,
        )
        return sorted(found.column("n").to_pylist())
    rows = session.run_relation(relation, params).arrow()
    kept = rows.filter(rows[label].is_valid())
    codes = kept.group_by(keys).aggregate([([], "count_all")])
    return sorted(np.array(codes["count_all"]).tolist())


def create_groups(
    session: Session, spec: TrainingSpec, statement: CreateModel, params: Mapping[str, Any]
) -> RunResult:
    """CREATE MODEL with group_by."""
    name, query, clause = statement.name, statement.query, statement.transform
    spec, planning = plan_groups(session, spec, name, query, params, clause=clause)
    info = dataclasses.replace(
        _info(spec, query), sql=statement.sql, parameters=params,
        or_replace=statement.or_replace, if_not_exists=statement.if_not_exists,
    )  # fmt: skip
    return _train(session, planning, info)


def fit_groups(
    session: Session,
    spec: TrainingSpec,
    name: str,
    query: str,
    *,
    clause: TransformClause | None,
    replace: bool,
) -> None:
    """`Table.fit` with group_by."""
    spec, planning = plan_groups(session, spec, name, query, {}, clause=clause, adds_label=True)
    _train(session, planning, dataclasses.replace(_info(spec, query), or_replace=replace))


def _info(spec: TrainingSpec, query: str) -> RunInfo:
    from gradbase.session.training import options_of

    return RunInfo(
        query=query, options=options_of(spec), model_type=spec.model_type, seed=spec.seed,
        tuned=tuple(spec.space), terms=terms_of(spec),
    )  # fmt: skip


def _train(session: Session, planning: Plan, info: RunInfo) -> RunResult:
    """Run a plan; it can be cancelled through the session."""
    root = planning.root
    assert isinstance(root, FitGroups), root
    return _run(session, root, info)


def resume_groups(session: Session, plan: FitGroups, interrupted: Interrupted) -> RunResult:
    """Go on with a training of one model per group: groups that had ended stay as they are."""
    return _run(session, plan, interrupted.info(()), interrupted)


def _run(
    session: Session, plan: FitGroups, info: RunInfo, interrupted: Interrupted | None = None
) -> RunResult:
    context = session.context(info.parameters)
    done = session.running(context.cancelled)
    try:
        return group_run.run(plan, context, session.store, info, interrupted=interrupted)
    finally:
        done()
