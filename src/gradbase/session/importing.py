"""`Session.import_model`: an object from Python, or a file, becomes a version of a model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from gradbase import __version__
from gradbase.errors import BindError, DataError, ShapeError, UnsupportedError
from gradbase.frontend.addresses import check_name
from gradbase.importing.constants import LEASED_PIECES, Constants
from gradbase.importing.entries import Wanted
from gradbase.importing.from_file import imported_file, kind_of_file
from gradbase.importing.models import imported
from gradbase.ir.learning import Model
from gradbase.ir.types import SqlType
from gradbase.selection.tracing import tracing
from gradbase.session.results import Result
from gradbase.session.rows import Rows
from gradbase.store.records import SUCCEEDED, ModelRecord, TrialRecord

if TYPE_CHECKING:
    from gradbase.frontend.import_statement import ImportModel
    from gradbase.session.session import Session

_PATIENCE_S = 60.0
"""How long an import waits for memory that statements hold."""


def import_model(
    session: Session,
    name: str,
    what: Any,
    *,
    features: Any,
    label: str | None,
    classes: Sequence[Any] | None,
    output: str | None,
    replace: bool,
) -> None:
    """See `Session.import_model`."""
    check_name(name)
    session.store.check_creatable(name, or_replace=replace, if_not_exists=False)
    given = _features(session, features)
    if isinstance(what, str | Path):
        path = Path(what)
        wanted = Wanted(given, label, classes, output)
        store_file(session, name, path, kind_of_file(path), wanted, replace=replace)
        return
    if output is not None:
        raise BindError("`output` chooses among the outputs of a file, leave it out")
    with tracing():
        model, params = imported(name, what, given, label, classes)
    _store(session, model, params, type(what).__name__, _origin(what), replace=replace)


def store_file(
    session: Session, name: str, path: Path, kind: str, wanted: Wanted, *, replace: bool,
    if_not_exists: bool = False, sql: str = "",
) -> None:  # fmt: skip
    """Make the network in a file a version of model `name`."""
    path = path.expanduser().absolute()
    memory_bytes = session.broker.memory_bytes - session.broker.held(session.engine.name)
    constants = Constants(path, session.store.blobs, memory_bytes)
    purpose, size_bytes = f"import of {name}", LEASED_PIECES * constants.piece_bytes
    with session.broker.lease("import", purpose, size_bytes=size_bytes, timeout_s=_PATIENCE_S):
        model = imported_file(name, constants, kind, wanted)
        _store(session, model, constants, kind, f"file {path}", replace=replace,
               if_not_exists=if_not_exists, sql=sql)  # fmt: skip


def create_from_file(session: Session, statement: ImportModel) -> Result:
    """CREATE MODEL of a file; returns one row: model, version, outputs, parameters, seconds."""
    started = time.perf_counter()
    name = statement.name
    if not session.store.check_creatable(
        name, or_replace=statement.or_replace, if_not_exists=statement.if_not_exists
    ):
        return Result.of(pa.table({n: [] for n in SUMMARY}))
    try:
        features = None if statement.features is None else dict.fromkeys(statement.features)
        wanted = Wanted(features, statement.label, statement.classes, statement.output)
        store_file(
            session, name, statement.path, statement.kind, wanted, replace=statement.or_replace,
            if_not_exists=statement.if_not_exists, sql=statement.sql,
        )  # fmt: skip
    except (BindError, DataError, ShapeError, UnsupportedError) as error:
        places = [p for p in (statement.at, error.at) if p]
        raise type(error)(error.message, at="\n      ".join(places), hint=error.hint) from error
    model = session.model(name).model
    row = (
        name,
        model.version,
        len(model.outputs),
        model.param_bytes,
        time.perf_counter() - started,
    )
    return Result.of(pa.table({n: [v] for n, v in zip(SUMMARY, row, strict=True)}))


SUMMARY = ("model", "version", "outputs", "weight_bytes", "seconds")
"""What CREATE MODEL of a file returns."""


def _store(
    session: Session, model: Model, params: Mapping[str, Any], kind: str, origin: str, *,
    replace: bool, if_not_exists: bool = False, sql: str = "",
) -> None:  # fmt: skip
    record = ModelRecord(
        name=model.name,
        model_type=f"imported:{kind}",
        task=model.task,
        label=model.label,
        query="",
        sql=sql,
        options={},
        seed=0,
        relation_hash="",
        code_version=f"gradbase {__version__}, {origin}",
        engine=session.engine.name,
        trials=(TrialRecord(1, SUCCEEDED, model=model, params=params),),
        metric="",
        best_trial=1,
    )
    session.store.commit(record, or_replace=replace, if_not_exists=if_not_exists)


def _origin(what: Any) -> str:
    """The library an object comes from, with its version."""
    import sys

    library = type(what).__module__.partition(".")[0]
    version = getattr(sys.modules.get(library), "__version__", "")
    return f"{library} {version}".rstrip()


def _features(session: Session, given: Any) -> Mapping[str, SqlType | None] | None:
    """Names without types, or the columns of rows with theirs."""
    if given is None:
        return None
    if isinstance(given, list | tuple):
        names = [str(n) for n in given]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise BindError(f"features are given twice: {', '.join(twice)}")
        return dict.fromkeys(names)
    with Rows(session, given) as query:
        return {f.name: f.type for f in session.engine.schema(query)}
