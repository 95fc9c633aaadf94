"""CREATE MODEL and `Table.fit`: one road from what was asked to a version in the catalog."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from gradbase.engines import quote_identifier
from gradbase.errors import BindError, EngineError, StoreError
from gradbase.frontend.addresses import check_name
from gradbase.frontend.binder import bind_query
from gradbase.frontend.fits import find_column, label_of, transform_dataset
from gradbase.frontend.option_table import TRANSFORM_ONLY, UNLABELLED
from gradbase.frontend.options import resolve
from gradbase.frontend.rich import Asker
from gradbase.frontend.space import to_plain
from gradbase.frontend.star_lists import without_star_lists
from gradbase.frontend.structure import Text
from gradbase.frontend.training import RECONSTRUCTION, TrainingSpec
from gradbase.frontend.transform import TransformClause, bind_transform
from gradbase.frontend.words import is_ours
from gradbase.ir.derived import Derived
from gradbase.ir.learning import SUMMARY, Learn, Model, Search
from gradbase.ir.node import Node
from gradbase.ir.relational import Relation, SqlFragment
from gradbase.ir.scalar import Column
from gradbase.ir.unlabelled import Solve
from gradbase.selection import transform_only, unlabelled
from gradbase.selection.api import MlpSpace, search
from gradbase.selection.outcome import RunResult
from gradbase.selection.piloting import ModuleFacts
from gradbase.selection.run import RunInfo, run
from gradbase.selection.search import Planned, build, terms_of
from gradbase.selection.solving import Counts, texts_to_count
from gradbase.selection.study import Study
from gradbase.selection.warm_start import check_transform, continued, earlier_epochs
from gradbase.session.groups import create_groups, fit_groups, plan_groups
from gradbase.session.planning import Plan, plan, planned
from gradbase.session.results import Result
from gradbase.store import ModelRecord

if TYPE_CHECKING:
    from gradbase.frontend.statements import CreateModel
    from gradbase.selection.resuming import Interrupted
    from gradbase.session.handles import ModelHandle
    from gradbase.session.session import Session


def create_model(session: Session, statement: CreateModel, params: Mapping[str, Any]) -> Result:
    """Train, commit, and return the summary row; nothing happens where IF NOT EXISTS applies."""
    if not session.store.check_creatable(
        statement.name, or_replace=statement.or_replace, if_not_exists=statement.if_not_exists
    ):
        return Result.of(pa.table({n: [] for n in SUMMARY.names}))
    spec = _resolved(session, statement)
    if spec.model_type in (TRANSFORM_ONLY, *UNLABELLED):
        return summary_of(_create_unlabelled(session, spec, statement, params))
    if spec.groups:
        return summary_of(create_groups(session, spec, statement, params))
    asked, planning = _plan(
        session, spec, statement.name, statement.query, params, clause=statement.transform
    )
    info = RunInfo(
        query=statement.query,
        sql=statement.sql,
        options=options_of(asked.spec),
        model_type=asked.spec.model_type,
        seed=asked.spec.seed,
        tuned=asked.tuned,
        earlier=asked.earlier,
        or_replace=statement.or_replace,
        if_not_exists=statement.if_not_exists,
        python_modules=session.python_modules,
        terms=terms_of(asked.spec),
        parameters=params,
    )
    return summary_of(train(session, search_of(planning), info))


def summary_of(result: RunResult) -> Result:
    """The one row that a training statement returns."""
    return Result.of(pa.table({name: [value] for name, value in result.summary.items()}))


def search_of(planning: Plan) -> Search:
    """The root of a training's plan."""
    assert isinstance(planning.root, Search), planning.root
    return planning.root


def plan_model(session: Session, statement: CreateModel, params: Mapping[str, Any]) -> Plan:
    """The plan of a CREATE MODEL, to be shown: users' modules tell what a step of them holds."""
    spec = _resolved(session, statement)
    clause = statement.transform
    if spec.model_type in (TRANSFORM_ONLY, *UNLABELLED):
        name, query = statement.name, statement.query
        return _plan_unlabelled(session, spec, name, query, params=params, clause=clause)
    if spec.groups:
        name, query = statement.name, statement.query
        return plan_groups(session, spec, name, query, params, clause=clause)[1]
    return _plan(
        session, spec, statement.name, statement.query, params, clause=clause, looking=True
    )[1]


def _resolved(session: Session, statement: CreateModel) -> TrainingSpec:
    """The options of a statement; with warm_start the type is that of the model it continues."""
    warm = statement.options.get("warm_start")
    present = None
    if warm is not None and warm.value is True:
        present = _present(session, statement.name, warm.name_at)[1].model_type
    return resolve(statement.options, present)


def _plan_unlabelled(
    session: Session,
    spec: TrainingSpec,
    name: str,
    query: str,
    *,
    params: Mapping[str, Any],
    clause: TransformClause | None,
) -> Plan:
    """The plan of a model that is solved without a label."""
    if clause is None and spec.model_type == TRANSFORM_ONLY:
        raise BindError(
            f"model_type '{TRANSFORM_ONLY}' learns a TRANSFORM, there is none",
            hint=f"CREATE MODEL {name} TRANSFORM (…) OPTIONS (…) AS …",
        )
    relation = training_relation(session, query, params)
    transform: tuple[Derived, ...] = ()
    if clause is not None:
        transform = bind_transform(clause, relation.schema, session.engine)
    if spec.model_type == TRANSFORM_ONLY:
        return plan(session, Learn(name, transform_dataset(relation, transform)))
    return plan(session, unlabelled.build(spec, name, relation, transform))


def _create_unlabelled(
    session: Session, spec: TrainingSpec, statement: CreateModel, params: Mapping[str, Any]
) -> RunResult:
    name, query, clause = statement.name, statement.query, statement.transform
    root = _plan_unlabelled(session, spec, name, query, params=params, clause=clause).root
    info = dataclasses.replace(
        _unlabelled_info(spec, query, clause, or_replace=statement.or_replace),
        sql=statement.sql,
        if_not_exists=statement.if_not_exists,
    )
    return _solve(session, root, info, params)


def _unlabelled_info(
    spec: TrainingSpec, query: str, clause: TransformClause | None, *, or_replace: bool
) -> RunInfo:
    options = (
        {"model_type": spec.model_type} if spec.model_type == TRANSFORM_ONLY else options_of(spec)
    )
    return RunInfo(
        query=query,
        options=options | ({} if clause is None else {"transform": clause.text.strip()}),
        model_type=spec.model_type,
        seed=spec.seed,
        tuned=tuple(spec.space),
        or_replace=or_replace,
    )


def _solve(session: Session, root: Node, info: RunInfo, params: Mapping[str, Any]) -> RunResult:
    """Learn what needs no label; it can be cancelled through the session."""
    context = session.context(params)
    done = session.running(context.cancelled)
    try:
        if isinstance(root, Solve):
            return unlabelled.run(root, context, session.store, info)
        assert isinstance(root, Learn)
        return transform_only.run(root, context, session.store, info)
    finally:
        done()


def _present(session: Session, name: str, at: str | None = None) -> tuple[Model, ModelRecord]:
    """The model that warm_start continues."""
    try:
        model = session.store.model(name)
    except BindError as error:
        raise BindError(
            f"warm_start continues a model: {error.message}",
            at=at,
            hint=error.hint or "leave warm_start out to train a new one",
        ) from None
    if model.imported:
        raise BindError(
            f"model `{name}` was imported, warm_start continues what was trained here",
            at=at,
            hint="leave warm_start out to train a new version",
        )
    return model, session.store.record(name, model.version)


def fit(
    session: Session,
    what: TrainingSpec | MlpSpace | Callable[[dict[str, Any]], Any],
    query: str,
    target: str | None,
    name: str,
    *,
    replace: bool,
    transform: str = "",
    options: Mapping[str, Any],
) -> Study[ModelHandle]:
    """Train from Python; see `Table.fit`."""
    if isinstance(what, TrainingSpec):
        if options and set(options) != {"row_key"}:
            raise BindError(
                f"{', '.join(options)} belong into gb.search(…), which was given already"
            )
        key = tuple(options.get("row_key", what.row_key))
        spec = dataclasses.replace(what, row_key=key, said=what.said | set(options))
    else:
        spec = search(what, **options)
    spec = _towards(spec, target)
    clause = TransformClause.of(transform) if transform else None
    if spec.model_type in UNLABELLED:
        root = _plan_unlabelled(
            session, spec, check_name(name), query, params={}, clause=clause
        ).root
        info = _unlabelled_info(spec, query, clause, or_replace=replace)
        _solve(session, root, info, {})
        return session.study(name)
    if spec.groups:
        fit_groups(session, spec, check_name(name), query, clause=clause, replace=replace)
        return session.study(name)
    asked, planning = _plan(
        session, spec, check_name(name), query, {}, clause=clause, adds_label=True
    )
    info = RunInfo(
        query=query,
        options=options_of(asked.spec),
        model_type=asked.spec.model_type,
        seed=asked.spec.seed,
        tuned=asked.tuned,
        earlier=asked.earlier,
        or_replace=replace,
        python_modules=session.python_modules,
        terms=terms_of(asked.spec),
    )
    train(session, search_of(planning), info)
    return session.study(name)


def _towards(spec: TrainingSpec, target: str | None) -> TrainingSpec:
    """`spec` with the column that it is to predict, where it predicts one."""
    labelled = spec.model_type not in UNLABELLED and spec.task != RECONSTRUCTION
    if target is None and labelled:
        raise BindError(
            "fit needs the column to predict",
            hint='target="…"; gb.kmeans, gb.pca and gb.autoencoder learn without one',
        )
    if target is None:
        return spec
    if not labelled:
        raise BindError(
            f"{spec.model_type} learns without a target, found target={target!r}",
            hint="leave it out; a column that is not to be learnt from is left out of the query",
        )
    return dataclasses.replace(spec, label=target, said=spec.said | {"label"})


def _plan(
    session: Session,
    spec: TrainingSpec,
    name: str,
    query: str,
    params: Mapping[str, Any],
    *,
    clause: TransformClause | None,
    adds_label: bool = False,
    looking: bool = False,
) -> tuple[Planned, Plan]:
    """`adds_label`: what only decides the training need not stand in the TRANSFORM."""
    start = before = None
    if spec.warm_start:
        start, before = _present(session, name)
        spec = continued(spec, before)
    relation = training_relation(session, query, params)
    label = label_of(spec, relation.schema)
    transform: tuple[Derived, ...] = ()
    if start is not None and start.transform:
        check_transform(start, spec.transform, clause)
        transform = start.transform
    elif clause is not None:
        spec = dataclasses.replace(spec, transform=clause.text.strip())
        transform = bind_transform(clause, relation.schema, session.engine)
        if adds_label:
            transform += passed_on(spec, relation, {d.name for d in transform})
    texts = texts_to_count(spec, relation.schema)
    counts = count(session, relation, label, texts, params)
    asked = build(
        spec, name, relation, counts, session.python_modules, start=start, transform=transform
    )
    if before is not None:
        asked = dataclasses.replace(asked, earlier=earlier_epochs(before))
    facts = ModuleFacts(session.python_modules)
    return asked, plan(session, asked.search, facts.step_bytes if looking else None, facts)


def passed_on(spec: TrainingSpec, relation: Relation, names: set[str]) -> tuple[Derived, ...]:
    """Label, split and weight column as they are, where `names` holds none of these."""
    schema = relation.schema
    wanted = dict.fromkeys(n for n in (spec.label, spec.split.column, spec.weight_column) if n)
    found = (find_column(schema, n, "column") for n in wanted)
    return tuple(Derived(n, Column(n, schema.type_of(n))) for n in found if n not in names)


def training_relation(session: Session, query: str, params: Mapping[str, Any]) -> Relation:
    """The training query as a relation; one without our words stays whole."""
    if is_ours(query):
        return bind_query(query, session.engine, session.store, params)
    asker = Asker(session.engine, params)
    plain = without_star_lists(Text.of(query), asker, session.engine.dialect.star_words).sql
    return SqlFragment((plain,), (), session.engine.schema(plain, params))


def count(
    session: Session,
    relation: Relation,
    label: str,
    texts: Sequence[str],
    params: Mapping[str, Any],
) -> Counts:
    """Rows with a label (all without one), distinct labels and texts: what a plan depends on."""
    if isinstance(relation, SqlFragment) and not relation.inputs and not relation.calls:
        names = [quote_identifier(n) if n else "0" for n in (label, *texts)]
        distinct = ", ".join(f"count(DISTINCT {n}) AS n{i}" for i, n in enumerate(names))
        found = session.engine.fetch(
            f"SELECT count({names[0]}) AS n, {distinct} FROM ({relation.parts[0]}\n) AS __gb_q",
            params,
        )
        rows, classes, *others = (column[0].as_py() for column in found.columns)
        return Counts(rows, classes, dict(zip(texts, others, strict=True)))
    values = session.run_relation(relation, params).arrow()
    others = (len(values[n].drop_null().unique()) for n in texts)
    distinct = dict(zip(texts, others, strict=True))
    if not label:
        return Counts(len(values), 0, distinct)
    known = values[label].drop_null()
    return Counts(len(known), len(known.unique()), distinct)


def train(
    session: Session, search: Search, info: RunInfo, interrupted: Interrupted | None = None
) -> RunResult:
    """Run an optimised search; it can be cancelled through the session."""
    context = session.context(info.parameters)
    done = session.running(context.cancelled)
    modules = ModuleFacts(info.python_modules)

    def replan(later: Search) -> Search:
        found = planned(session, later, modules=modules).root
        assert isinstance(found, Search), found
        return found

    try:
        return run(search, context, session.store, info, replan=replan, interrupted=interrupted)
    except (StoreError, EngineError) as error:
        hint = f"then RESUME SEARCH {quote_identifier(search.name)} goes on with what was trained"
        hint = f"{error.hint}; {hint}" if error.hint else hint
        raise type(error)(error.message, at=error.at, hint=hint) from error
    finally:
        done()


def options_of(spec: TrainingSpec) -> dict[str, Any]:
    """The options of a search as JSON values."""
    fields = {f.name: getattr(spec, f.name) for f in dataclasses.fields(spec) if f.compare}
    fields["split"] = dataclasses.asdict(spec.split)
    solve = fields.pop("solve")
    if spec.model_type in UNLABELLED:
        fields["solve"] = dataclasses.asdict(solve)
    fields["space"] = {name: to_plain(d) for name, d in spec.space.items()}
    fields["network"] = None if spec.network is None else repr(spec.network)
    return json.loads(json.dumps(fields, default=list))
