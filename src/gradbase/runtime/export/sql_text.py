"""A model as one SQL query that needs nothing of ours, in text as long as the model has numbers.

Every layer is a common table expression whose columns the next one reads, so nothing is written
twice. The text is DuckDB's; other dialects are translated by sqlglot. Numbers are computed in
double precision, where the network has float32 (`tolerance`); ±Inf is no error here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gradbase.engines import quote_identifier
from gradbase.errors import UnsupportedError
from gradbase.ir.conversion import Numeric, ToTable, ToTensor
from gradbase.ir.derived import Derived
from gradbase.ir.learning import Model
from gradbase.ir.node import walk
from gradbase.ir.preprocessing import Impute
from gradbase.ir.scalar import Column, Literal, Scalar
from gradbase.ir.tensor import Const, Param, Tensor
from gradbase.ir.types import BOOL, SqlType
from gradbase.runtime.encode import Blobs
from gradbase.runtime.export.sql_operators import Columns, encoded, operator_sql, softmax_sql
from gradbase.runtime.export.sql_values import NAN, literal, number

TEXT_END = "AS VARCHAR)"
"""How the expression of a category ends."""
MOST_BYTES = 32 << 20
"""Longer texts are refused: engines parse them, but nobody waits for that."""


@dataclass
class SqlModel:
    """A model on its way to SQL.

    Parameters
    ----------
    model : Model
    blobs : Blobs
        Where weights are.
    """

    model: Model
    blobs: Blobs | None
    layers: list[str] = field(default_factory=list[str])
    values: dict[Tensor, Columns] = field(default_factory=dict[Tensor, Columns])
    _read: dict[str, str] = field(default_factory=dict[str, str])
    _types: dict[str, SqlType] = field(default_factory=dict[str, SqlType])
    _size: int = 0
    _last: int = 0

    def query(self, rows: str, columns: Sequence[str], dialect: str = "duckdb") -> str:
        """``SELECT columns, predictions`` over `rows`: a quoted name, or a query in brackets.

        Raises
        ------
        UnsupportedError
            A part of the model has no SQL, by name; or the text would be too long.
        """
        outputs = [o for o in self.model.outputs if o.method in ("value", "label", "proba", "raw")]
        self._layer("gb_0", [], f"{rows} AS gb_rows")
        derived = self.model.columns or tuple(
            Derived(f.name, Column(f.name, f.of)) for f in self.model.features
        )
        self._read = {d.name: _scalar(d.expr) for d in derived}
        self._types = {d.name: d.expr.type for d in derived}
        for tensor in _order(outputs):
            self._tensor(tensor)
        made = [pair for o in outputs for pair in self._output(o)]
        names = [f"{self._nulls(text)} AS {quote_identifier(n)}" for n, text in made]
        kept = ", ".join([*map(quote_identifier, columns), *names])
        text = f"WITH {', '.join(self.layers)} SELECT {kept} FROM gb_{len(self.layers) - 1}"
        return text if dialect == "duckdb" else _translated(text, dialect)

    def columns(self, exprs: Sequence[str]) -> Columns:
        """`exprs` as columns of a layer of their own; plain columns and numbers stay."""
        if not exprs:
            return ()
        names = []
        added: list[str] = []
        for text in exprs:
            self._last += 1
            name = quote_identifier(f"__gb_{self._last}")
            names.append(name)
            # Some engines hold constants for decimals, and compute with them so.
            double = text if text.endswith(TEXT_END) else f"CAST({text} AS DOUBLE)"
            added.append(f"{double} AS {name}")
        self._layer(f"gb_{len(self.layers)}", added, f"gb_{len(self.layers) - 1}")
        return tuple(names)

    def _layer(self, name: str, added: list[str], source: str) -> None:
        text = f"{name} AS (SELECT {', '.join(['*', *added])} FROM {source})"
        self._size += len(text)
        if self._size > MOST_BYTES:
            raise UnsupportedError(
                f"model `{self.model.name}` would be more than {MOST_BYTES >> 20} MB of SQL",
                hint="EXPORT MODEL … TO 'model.onnx'",
            )
        self.layers.append(text)

    def _nulls(self, text: str) -> str:
        """`text`, NULL where a feature of an imported network is NULL."""
        if not self.model.imported:
            return text
        lost = " OR ".join(f"{c} IS NULL" for c in self._read.values())
        return f"CASE WHEN {lost} THEN NULL ELSE {text} END"

    # -- operators ---------------------------------------------------------------------------------

    def _tensor(self, n: Tensor) -> None:
        if isinstance(n, ToTensor):
            column = self._read[n.column]
            if isinstance(n.encoding, Numeric) and self._types.get(n.column) == BOOL:
                column = f"(CASE WHEN {column} THEN 1 WHEN NOT {column} THEN 0 END)"
            parts = encoded(n, column, self.blobs, imported=self.model.imported)
        else:
            parts = operator_sql(n, self.values, self.blobs, self.columns)
        self.values[n] = parts if all(_is_plain(p) for p in parts) else self.columns(parts)

    def _output(self, o: ToTable) -> list[tuple[str, str]]:
        x, label = self.values[o.x], self.model.label or "value"
        name = f"predicted_{label}"
        match o.method:
            case "value":
                return [(name, f"CAST({x[0]} * {number(o.scale)} + {number(o.shift)} AS DOUBLE)")]
            case "raw":
                pairs = enumerate(x, 1)
                return (
                    [("prediction", x[0])]
                    if len(x) == 1
                    else [(f"prediction_{i}", c) for i, c in pairs]
                )
            case "label" if len(o.classes) == 2:
                low, high = (literal(c.value) for c in o.classes)
                cases = f"WHEN {x[0]} = {NAN} THEN NULL WHEN {x[0]} > 0 THEN {high}"
                return [(name, f"CASE {cases} ELSE {low} END")]
            case "label":
                (most,) = self.columns([f"GREATEST({', '.join(x)})"])
                cases = " ".join(
                    f"WHEN {c} = {most} THEN {literal(k.value)}"
                    for c, k in zip(x, o.classes, strict=True)
                )
                return [(name, f"CASE WHEN {most} = {NAN} THEN NULL {cases} END")]
            case "proba" if len(o.classes) == 2:
                return [(f"{name}_proba", sigmoid(x[0]))]
        shares = softmax_sql(x, self.columns)
        named = zip(o.classes, shares, strict=True)
        return [(f"{name}_proba_{k.value}", share) for k, share in named]


def _order(outputs: Sequence[ToTable]) -> list[Tensor]:
    found: dict[Tensor, None] = {}
    for output in outputs:
        for n in walk(output.x):
            if isinstance(n, Tensor) and not isinstance(n, Param | Const) and n.inputs:
                found[n] = None
    return list(found)


def _is_plain(text: str) -> bool:
    return text.startswith('"__gb_') or text.replace(".", "").replace("-", "").isdigit()


def _scalar(expr: Scalar) -> str:
    match expr:
        case Column(name=name):
            return quote_identifier(name)
        case Impute(arg=Column(name=name, of=of), value=Literal(value=value)):
            column = quote_identifier(name)
            lost = f" OR CAST({column} AS DOUBLE) = {NAN}" if of.is_float else ""
            return f"CASE WHEN {column} IS NULL{lost} THEN {literal(value)} ELSE {column} END"
    raise UnsupportedError(
        f"preprocessing {type(expr).__name__} has no SQL of its own here",
        hint="compute it in the training query, or EXPORT MODEL … TO 'model.onnx'",
    )


def sigmoid(x: str) -> str:
    """``1 / (1 + exp(-x))`` that never overflows."""
    return f"1 / (1 + EXP(-GREATEST(LEAST({x}, 700), -700)))"


def _translated(text: str, dialect: str) -> str:
    """`text` in another dialect; every layer is computed once there."""
    import sqlglot

    tree = sqlglot.parse_one(text, read="duckdb")
    if dialect == "postgres":  # it would copy a layer's expressions into the next
        for cte in tree.find_all(sqlglot.exp.CTE):
            cte.set("materialized", True)
    return tree.sql(dialect=dialect)
