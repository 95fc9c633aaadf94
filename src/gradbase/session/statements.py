"""Running one statement: native ones go to the engine, ours are planned here."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from gradbase.frontend.binder import bind_query
from gradbase.frontend.parameters import parameter_values
from gradbase.frontend.statements import (
    AlterModel,
    AlterSearch,
    CreateModel,
    DescribeModel,
    DropModel,
    Explain,
    ExportModel,
    ExportSql,
    ImportModel,
    Native,
    Query,
    ResumeSearch,
    SetOption,
    ShowModels,
    ShowSearches,
    ShowTrials,
    Statement,
    parse_statement,
    substitute_tables,
)
from gradbase.frontend.tokens import significant
from gradbase.frontend.words import is_ours, system_tables
from gradbase.session.altering import DONE, alter, describe, drop, export
from gradbase.session.explanation import Explanation
from gradbase.session.measured import Measuring, notes
from gradbase.session.planning import Plan, bind_again, plan, plan_again
from gradbase.session.results import Result, Stream
from gradbase.session.searches import alter as alter_search
from gradbase.session.searches import show
from gradbase.session.settings import change_of
from gradbase.store.tables import TABLES

if TYPE_CHECKING:
    from gradbase.ir.relational import Relation
    from gradbase.runtime.encode import Blobs
    from gradbase.runtime.observed import Observed
    from gradbase.session.session import Session

log = logging.getLogger("gradbase.session")
Params = Sequence[Any] | Mapping[str, Any] | None
_numbers = itertools.count(1)
VIEW = "__gradbase_result"
"""View that feeds predictions to the statement written around them."""


def run(session: Session, text: str, params: Params) -> Result:
    """Run one statement; queries wait until their rows are asked for."""
    if session.engine.catalog is not session.engine:
        text = with_catalog(session, text)
    statement = session.parsed.get(text)
    if statement is None:
        if not is_ours(text):
            return native(session, text, params)
        statement = parse_statement(text)
        session.parsed.put(text, statement)
    return _ours(session, statement, text, params)


def with_catalog(session: Session, text: str) -> str:
    """`text` with views for tables of schema gradbase, where another engine holds them."""
    if "gradbase" not in text.lower():
        return text
    names = {name for name, _, _ in system_tables(significant(text), tuple(TABLES))}
    views = {name: session.store.shown.table(name) for name in names}
    return substitute_tables(text, views, tuple(TABLES)) if views else text


def native(session: Session, text: str, params: Params) -> Result:
    """A statement of the engine's own, byte for byte."""
    found = session.engine.run(text, params)
    return Result(found.stream, found.cancel, native=found)


def _ours(session: Session, statement: Statement, text: str, params: Params) -> Result:
    match statement:
        case CreateModel():
            from gradbase.session.training import create_model

            return create_model(session, statement, parameter_values(params))
        case ImportModel():
            from gradbase.session.importing import create_from_file

            return create_from_file(session, statement)
        case AlterModel():
            return Result.of(alter(session, statement))
        case DescribeModel():
            return run_relation(session, describe(session, statement), {})
        case DropModel():
            return Result.of(drop(session, statement))
        case ExportModel(model, path, trial):
            return Result.of(export(session, model, path, trial))
        case ExportSql():
            from gradbase.session.exporting_sql import export_sql

            return Result.of(export_sql(session, statement))
        case ShowModels():
            return Result.of(session.store.engine.fetch(session.store.show_sql()))
        case ShowSearches() | ShowTrials():
            return Result.of(show(session, statement))
        case AlterSearch():
            return Result.of(alter_search(session, statement))
        case ResumeSearch(name):
            from gradbase.session.resuming import resume
            from gradbase.session.training import summary_of

            return summary_of(resume(session, name))
        case SetOption(name, value, at):
            session.change_settings(**change_of(name, value, at))
            return Result.of(DONE)
        case Explain(inner, verbose, analyze):
            lines = _explained(session, inner, params, verbose=verbose, analyze=analyze)
            return Result.of(pa.table({"plan": lines.splitlines()}))
        case Query():
            return _query(session, statement, params)
        case Native():
            return native(session, text, params)


def _query(session: Session, statement: Query, params: Params) -> Result:
    if statement.system_tables:
        return _with_system_tables(session, statement, params)
    wrapped = statement.wrapped
    relation = bind_again(session, wrapped.query, params)
    result = run_relation(session, relation, parameter_values(params))
    if wrapped.is_plain:
        return result
    return _around(session, result, f"{wrapped.before} (SELECT * FROM {VIEW}) {wrapped.after}")


def _around(session: Session, result: Result, text: str) -> Result:
    """Run INSERT, CREATE TABLE AS, COPY, … with the predictions as a view it reads once."""
    with result.stream() as rows:
        found = session.engine.run(text, views={VIEW: rows})
        return Result(found.stream, found.cancel, native=found)


def _with_system_tables(session: Session, statement: Query, params: Params) -> Result:
    """``gradbase.leases`` and ``gradbase.metrics`` live in this process: give the engine a copy."""
    number = next(_numbers)  # several threads may read them at once
    views = {name: f"__gradbase_{name}_{number}" for name in statement.system_tables}
    for name, view in views.items():
        session.engine.register(view, system_table(session, name))
    try:
        text = substitute_tables(statement.sql, views)
        return Result.of(run(session, text, params).arrow())
    finally:
        for view in views.values():
            session.engine.unregister(view)


def system_table(session: Session, name: str) -> pa.Table:
    """The rows of ``gradbase.leases`` or ``gradbase.metrics`` now."""
    if name == "metrics":
        names, values = zip(*session.metrics.rows(), strict=True)
        return pa.table({"metric": names, "value": values})
    leases = [*session.broker.leases(), *session.broker.reserves()]
    return pa.table(
        {
            "id": pa.array([g.id for g in leases], pa.int64()),
            "owner": pa.array([g.owner for g in leases], pa.string()),
            "purpose": pa.array([g.purpose for g in leases], pa.string()),
            "threads": pa.array([g.threads for g in leases], pa.int64()),
            "bytes": pa.array([g.size_bytes for g in leases], pa.int64()),
            "since": pa.array([int(g.since * 1e6) for g in leases], pa.timestamp("us", "UTC")),
        }
    )


def run_relation(
    session: Session, relation: Relation, params: Mapping[str, Any], blobs: Blobs | None = None
) -> Result:
    """Plan a relation now, run it when its rows are asked for."""
    return planned_result(session, plan_again(session, relation), params, blobs)


def planned_result(
    session: Session, planned: Plan, params: Mapping[str, Any], blobs: Blobs | None = None,
    observed: Observed | None = None,
) -> Result:  # fmt: skip
    """The rows of a plan, computed when they are asked for; `observed` counts them on their way."""
    context = session.context(params, blobs)
    context.observed = observed

    @contextmanager
    def stream() -> Generator[Stream]:
        from gradbase.runtime.execute import run as execute

        context.cancelled.clear()
        done = session.running(context.cancelled)
        started = time.perf_counter()
        try:
            with execute(planned.root, context) as rows:  # type: ignore[arg-type]
                yield rows
        finally:
            done()
            log.info("query ran for %.3f s", time.perf_counter() - started)

    return Result(stream, context.cancelled.set)


def explain(
    session: Session, text: str, params: Params, *, verbose: bool = False, analyze: bool = False
) -> Explanation:
    """EXPLAIN of a statement; one without our words is explained by the engine."""
    if not is_ours(text):
        words = "EXPLAIN ANALYZE " if analyze else "EXPLAIN "
        rows = native(session, words + text, params).fetchall()
        return Explanation("\n".join(str(r[-1]) for r in rows))
    statement = parse_statement(text)
    if isinstance(statement, Explain):
        verbose, analyze = verbose or statement.verbose, analyze or statement.analyze
        statement = statement.statement
    return _explained(session, statement, params, verbose=verbose, analyze=analyze)


def _explained(
    session: Session, statement: Statement, params: Params, *, verbose: bool, analyze: bool
) -> Explanation:
    if isinstance(statement, CreateModel):
        from gradbase.session.training import plan_model

        made = plan_model(session, statement, parameter_values(params))
        if not analyze:
            return Explanation(made.text(verbose=verbose), made)
        row = _ours(session, statement, statement.sql, params).fetchall()[0]
        measured = f"measured: {row[2]} trials in {row[-1]:.3f} s"
        return Explanation(made.text(verbose=verbose), made, measured)
    if not isinstance(statement, Query):
        from gradbase.errors import UnsupportedError

        raise UnsupportedError(
            "only CREATE MODEL and queries with predictions have a plan",
            hint="EXPLAIN SELECT PREDICT(model, *) FROM table",
        )
    query = statement.wrapped.query
    made = plan(session, bind_query(query, session.engine, session.store, params))
    if not analyze:
        return Explanation(made.text(verbose=verbose), made)
    from gradbase.runtime.observed import Observed

    observed, measuring = Observed(), Measuring(session.metrics)
    rows = planned_result(session, made, parameter_values(params), observed=observed).arrow()
    measured = measuring.text(rows.num_rows, rows.nbytes, observed)
    return Explanation(made.text(verbose=verbose, actual=notes(observed)), made, measured)
