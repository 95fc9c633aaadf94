"""A model as one SQL query that needs nothing of ours, in text as long as the model has numbers.

Every layer is a common table expression whose columns the next one reads, so nothing is written
twice. The text is DuckDB's; other dialects are translated by sqlglot. Numbers are computed in
double precision, where the network has float32 (`tolerance`); ±Inf is no error here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gradbase.engines import quote_identifier
from gradbase.engines.base import REFUSED
from gradbase.errors import UnsupportedError
from gradbase.ir.conversion import Numeric, ToTable, ToTensor
from gradbase.ir.derived import Derived
from gradbase.ir.facts import Dialect
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
    names : str
        What names of layers, and after ``__`` of columns, start with.
    """

    model: Model
    blobs: Blobs | None
    names: str = "gb_"
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
        plain = tuple(Derived(f.name, Column(f.name, f.of)) for f in self.model.features)
        self._compute(rows, outputs, self.model.columns or plain)
        made = [pair for o in outputs for pair in self._output(o)]
        text = self._select(columns, [(self._nulls(text), n) for n, text in made])
        return text if dialect == "duckdb" else _translated(text, dialect)

    def adding(
        self, rows: str, columns: Sequence[str], features: Sequence[Column],
        added: Mapping[str, str], types: Dialect,
    ) -> str:  # fmt: skip
        """``SELECT columns, outputs`` over `rows`, whose `features` the model reads.

        `added` is names of columns -> methods; their types are those of a plan. ±Inf is an error.
        """
        outputs = [self.model.output(m) for m in added.values()]
        pairs = zip(self.model.features, features, strict=True)
        self._compute(rows, outputs, tuple(Derived(f.name, c) for f, c in pairs))
        made: list[tuple[str, str]] = []
        for name, output in zip(added, outputs, strict=True):
            parts = [text for _, text in self._output(output)]
            text = parts[0] if output.type.element is None else f"[{', '.join(parts)}]"
            typed = f"CAST({text} AS {types.type_name(output.type)})"
            made.append((self._refusing(self._nulls(typed)), name))
        return self._select(columns, made)

    def _compute(self, rows: str, outputs: Sequence[ToTable], derived: Sequence[Derived]) -> None:
        self._layer(f"{self.names}0", [], f"{rows} AS {self.names}rows")
        self._read = {d.name: _scalar(d.expr) for d in derived}
        self._types = {d.name: d.expr.type for d in derived}
        for tensor in _order(outputs):
            self._tensor(tensor)

    def _select(self, columns: Sequence[str], made: Sequence[tuple[str, str]]) -> str:
        names = [f"{text} AS {quote_identifier(n)}" for text, n in made]
        kept = ", ".join([*map(quote_identifier, columns), *names])
        last = f"{self.names}{len(self.layers) - 1}"
        return f"WITH {', '.join(self.layers)} SELECT {kept} FROM {last}"

    def _refusing(self, text: str) -> str:
        """`text`, an error where a feature of a model of ours is infinite."""
        floats = [(n, self._read[n]) for n, of in self._types.items() if of.is_float]
        if self.model.imported or not floats:
            return text
        told = ((c, literal(f"{REFUSED} column `{n}` holds an infinite value")) for n, c in floats)
        cases = " ".join(f"WHEN ISINF({c}) THEN ERROR({message})" for c, message in told)
        return f"CASE {cases} ELSE {text} END"

    def columns(self, exprs: Sequence[str]) -> Columns:
        """`exprs` as columns of a layer of their own; plain columns and numbers stay."""
        if not exprs:
            return ()
        names = []
        added: list[str] = []
        for text in exprs:
            self._last += 1
            name = quote_identifier(f"__{self.names}{self._last}")
            names.append(name)
            # Some engines hold constants for decimals, and compute with them so.
            double = text if text.endswith(TEXT_END) else f"CAST({text} AS DOUBLE)"
            added.append(f"{double} AS {name}")
        self._layer(f"{self.names}{len(self.layers)}", added, f"{self.names}{len(self.layers) - 1}")
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
