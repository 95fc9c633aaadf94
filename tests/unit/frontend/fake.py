"""DuckDB as the Relations of the frontend, two models as SQL formulas, and plans run as SQL."""

from __future__ import annotations

import duckdb

from gradbase.engines.duckdb.compiler import DuckDBDialect
from gradbase.errors import BindError, EngineError, near
from gradbase.frontend.tokens import quote_identifier
from gradbase.ir import relational as ra
from gradbase.ir import scalar as sc
from gradbase.ir.conversion import Numeric, ToTable, ToTensor
from gradbase.ir.learning import Evaluate, Feature, Model
from gradbase.ir.node import walk
from gradbase.ir.shapes import BATCH
from gradbase.ir.tensor import Const, Linear
from gradbase.ir.types import (
    FLOAT64,
    INT64,
    TEXT,
    Field,
    Schema,
    SqlType,
    array_of,
    list_of,
    struct_of,
)

_TYPES = {
    "BOOLEAN": "bool", "TINYINT": "int8", "SMALLINT": "int16", "INTEGER": "int32",
    "BIGINT": "int64", "HUGEINT": "int128", "FLOAT": "float32", "DOUBLE": "float64",
    "VARCHAR": "text", "DATE": "date", "TIMESTAMP": "timestamp", "BLOB": "blob",
    "INTERVAL": "interval", '"NULL"': "null", "NULL": "null", "UBIGINT": "uint64",
}  # fmt: skip


def sql_type(found: object) -> SqlType:
    """A DuckDB type as ours."""
    kind = found.id  # type: ignore[attr-defined]
    children = dict(found.children) if kind in ("decimal", "list", "array", "struct") else {}  # type: ignore[attr-defined]
    if kind == "decimal":
        return SqlType("decimal", size=(children["precision"], children["scale"]))
    if kind == "list":
        return list_of(sql_type(children["child"]))
    if kind == "array":
        return array_of(sql_type(children["child"]), children["size"])
    if kind == "struct":
        return struct_of(**{n: sql_type(t) for n, t in children.items()})
    if kind == "enum":
        return SqlType("enum")
    return SqlType(_TYPES.get(str(found), "other"), text="" if str(found) in _TYPES else str(found))


class DuckRelations:
    """Relations over a connection."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection
        self.asked: list[str] = []
        self.dialect = DuckDBDialect()

    def types(self, sql: str, parameters: dict | None = None) -> list[tuple[str, SqlType]]:
        self.asked.append(sql)
        try:
            found = self.connection.sql(sql, params=parameters or None)
        except duckdb.Error as error:
            raise EngineError(str(error)) from error
        return [(n, sql_type(t)) for n, t in zip(found.columns, found.types, strict=True)]

    def schema(self, sql: str, parameters: dict | None = None) -> Schema:
        return Schema(tuple(Field(n, t) for n, t in self.types(sql, parameters)))


def _features(*named: tuple[str, SqlType]) -> tuple[Feature, ...]:
    return tuple(Feature(n, t) for n, t in named)


_LOGIT = Linear(
    ToTensor("x", Numeric(0.0, 1.0, indicator=False)), Const((1.0,), (1, 1)), Const((0.0,), (1,))
)
CLASSES = (sc.Literal("no", TEXT), sc.Literal("yes", TEXT))
PROBS = list_of(struct_of(label=TEXT, prob=FLOAT64))
assert _LOGIT.shape == (BATCH, 1)


def binary(name: str = "m", version: int = 1, trial: int = 1) -> Model:
    """Predicts `yes` where x + 2 * y > 3; features x, y; label `churned`."""
    outputs = (
        ToTable(_LOGIT, "label", TEXT, CLASSES),
        ToTable(_LOGIT, "proba", FLOAT64, CLASSES),
        ToTable(_LOGIT, "probs", PROBS, CLASSES),
    )
    features = _features(("x", FLOAT64), ("y", INT64))
    return Model(name, version, trial, "binary", "churned", features, outputs)


def regression(name: str = "r") -> Model:
    """Predicts x + 2 * y; label `price`."""
    outputs = (ToTable(_LOGIT, "value", FLOAT64),)
    features = _features(("x", FLOAT64), ("y", INT64))
    return Model(name, 1, 1, "regression", "price", features, outputs)


class FakeModels:
    """`m` binary, `r` regression, `Tuned` with three trials, `named` reading text and date."""

    def __init__(self) -> None:
        text = Feature("s", TEXT), Feature("d", SqlType("date"))
        self._models = {"m": binary(), "r": regression(), "Tuned": binary("Tuned", trial=2)}
        self._models["named"] = binary("named").replace(features=text)

    def model(self, name: str, version: int | str | None = None, trial: int | None = None) -> Model:
        if name not in self._models:
            raise BindError(f"there is no model `{name}`", hint=near(name, self._models))
        found = self._models[name].replace(version={None: 1, "old": 7}.get(version, version))
        return found if trial is None else found.replace(trial=trial)

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._models))

    def trial_count(self, name: str, version: int | str | None = None) -> int:
        return 3 if name == "Tuned" else 1

    def usable_trials(self, name: str, version: int | str | None = None) -> tuple[int, ...]:
        return (1, 2) if name == "Tuned" else (1,)

    def feature_statistics(self, name: str, version: int | str | None = None) -> dict:
        return {"x": (0.25, 1.5)}

    def counts_sql(self, name: str, version: int | str | None, trial: int) -> str:
        return f"SELECT 0.5::DOUBLE AS logit, {trial}::BIGINT AS negatives, 2::BIGINT AS positives"

    def describe(self, name: str, version: int | str | None = None) -> ra.Relation:
        return ra.Values(Schema.of(section=TEXT), (sc.Literal(name, TEXT),))

    def info(self, function: str, name: str, version: int | str | None = None) -> str:
        return f"SELECT 1 AS trial_id, '{function}' AS what, '{name}' AS model"


def formula(call: sc.PredictCall, features: list[str]) -> str:
    """What a fake model computes, as SQL."""
    raw = f"(({features[0]})::DOUBLE + 2 * ({features[1]})::DOUBLE)"
    proba = f"({raw} / (1 + abs({raw})))"
    match call.output:
        case "value":
            return raw
        case "proba":
            return proba
        case "label":
            return f"CASE WHEN {raw} > 3 THEN 'yes' ELSE 'no' END"
    return f"[{{'label': 'no', 'prob': 1 - {proba}}}, {{'label': 'yes', 'prob': {proba}}}]"


def run(connection: duckdb.DuckDBPyConnection, relation: ra.Relation, values: dict | None = None):
    """Rows of a plan, compiled to SQL over the fake models' formulas."""
    sql = compile_plan(relation)
    used = {n: v for n, v in (values or {}).items() if f"${n}" in sql}
    return connection.sql(sql, params=used or None).fetchall()


def compile_plan(relation: ra.Relation) -> str:
    done: dict[object, str] = {}
    for n in walk(relation):
        if isinstance(n, sc.Scalar):
            done[n] = _scalar(n, done)
        elif isinstance(n, ra.Relation):
            done[n] = _relation(n, done)
    return done[relation]


def _scalar(n: sc.Scalar, done: dict) -> str:
    match n:
        case sc.Column():
            return quote_identifier(n.name)
        case sc.Literal():
            return DuckDBDialect().literal(n.value, n.of)
        case sc.Parameter():
            return f"${n.name}"
        case sc.Compare():
            return f"({done[n.left]} {n.op} {done[n.right]})"
        case sc.And():
            return "(" + " AND ".join(done[a] for a in n.args) + ")"
        case sc.Or():
            return "(" + " OR ".join(done[a] for a in n.args) + ")"
        case sc.Not():
            return f"(NOT {done[n.arg]})"
        case sc.IsNull():
            return f"({done[n.arg]} IS NULL)"
        case sc.PredictCall():
            return formula(n, [done[f] for f in n.features])
    return "".join(p + g for p, g in zip(n.parts, [*(done[a] for a in n.args), ""], strict=True))


def _named(names, exprs, done) -> str:
    return ", ".join(
        f"{done[e]} AS {quote_identifier(n)}" for n, e in zip(names, exprs, strict=True)
    )


def _relation(n: ra.Relation, done: dict) -> str:
    match n:
        case ra.Scan():
            columns = ", ".join(
                f"{quote_identifier(n.source(c))} AS {quote_identifier(c)}" for c in n.columns.names
            )
            return f"SELECT {columns} FROM {n.table}"
        case ra.Filter():
            return f"SELECT * FROM ({done[n.child]}) WHERE {done[n.predicate]}"
        case ra.Project():
            return f"SELECT {_named(n.names, n.exprs, done)} FROM ({done[n.child]})"
        case ra.Aggregate():
            items = _named(n.key_names + n.aggregate_names, n.keys + n.aggregates, done)
            keys = ", ".join(done[k] for k in n.keys)
            return f"SELECT {items} FROM ({done[n.child]})" + (f" GROUP BY {keys}" if keys else "")
        case ra.Sort():
            keys = ", ".join(f"{done[k]} {o}" for k, o in zip(n.keys, n.orders, strict=True))
            return f"SELECT * FROM ({done[n.child]}) ORDER BY {keys}"
        case ra.Limit():
            return f"SELECT * FROM ({done[n.child]}) LIMIT {n.count} OFFSET {n.offset}"
        case ra.Join():
            on = f" ON {done[n.condition]}" if n.condition is not None else ""
            return f"SELECT * FROM ({done[n.left]}) {n.kind} JOIN ({done[n.right]}){on}"
        case ra.SqlFragment():
            every = [*n.inputs, *n.calls]
            gaps = [f"({done[every[g]]})" for g in n.gaps] + [""]
            return "".join(p + g for p, g in zip(n.parts, gaps, strict=True))
        case Evaluate():
            items = ", ".join(f"CAST(0.5 AS DOUBLE) AS {c}" for c in n.schema.names)
            return f"SELECT {items}"
    raise AssertionError(type(n).__name__)


__all__ = ["DuckRelations", "FakeModels", "compile_plan", "run"]
