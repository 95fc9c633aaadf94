"""Relations, preprocessing functions and exact sums as PostgreSQL's SQL."""

from __future__ import annotations

from collections.abc import Mapping

from gradbase.engines.base import quote_identifier
from gradbase.engines.compiler import Compiler
from gradbase.engines.moments import Spelling
from gradbase.engines.postgres.types import PostgresDialect
from gradbase.errors import UnsupportedError
from gradbase.ir.node import Node
from gradbase.ir.preprocessing import Bucketize, Impute, Preprocessing, Product, Rescale
from gradbase.ir.relational import Relation, SqlFragment
from gradbase.ir.types import FLOAT64, TEXT, SqlType
from gradbase.ir.vocabulary import LabelCode

DIALECT = PostgresDialect()
_NOT_IN_SQL = "it is computed in the program, on rows that come from the server"
UNSUPPORTED = dict.fromkeys(
    ("Cross", "HashBucket", "NGrams", "Normalize", "Struct", "Member", "OneHotCode",
     "MultiHotCode", "TermCounts", "TermWeights"),
    _NOT_IN_SQL,
)  # fmt: skip
"""Preprocessing functions that have no SQL here."""


def compile_relation(
    root: Relation, names: Mapping[Relation, str], functions: Mapping[Node, str]
) -> str:
    """SQL of `root`, see `Compiler`."""
    return _Compiler(DIALECT, names, functions).query(root)


class _Compiler(Compiler):
    engine = "PostgreSQL"

    def fragment(self, node: SqlFragment) -> str:
        """The text; where the second ``a`` of it is called ``a_1``, columns are named again."""
        text, names = super().fragment(node), node.schema.names
        if not any(f"{name}_1" in names for name in names):
            return text
        columns = ", ".join(quote_identifier(n) for n in names)
        return f'SELECT * FROM (\n{text}\n) AS "_"({columns})'

    def preprocessing(self, node: Preprocessing) -> str:
        match node:
            case Rescale():
                return self._rescale(node, self._double(self.done[node.arg]))
            case Bucketize():
                return self._bucketize(node, self._double(self.done[node.arg]))
            case Impute():
                return self._impute(node)
            case Product(args=args):
                return f"({' * '.join(self._double(self.done[a]) for a in args)})"
            case LabelCode(arg=arg, vocabulary=vocabulary) if vocabulary.blob is None:
                words = ", ".join(DIALECT.literal(w, TEXT) for w in vocabulary.words)
                word = f"CAST({self.done[arg]} AS text)"
                return (
                    f"CAST(coalesce(array_position(ARRAY[{words}]::text[], {word}), 0) AS bigint)"
                )
            case _:
                return super().preprocessing(node)

    def _rescale(self, node: Rescale, value: str) -> str:
        shift, scale = (DIALECT.literal(float(c), FLOAT64) for c in (node.shift, node.scale))
        scaled = f"(({value} - {shift}) / {scale})"
        if not node.clipped:
            return scaled
        # NaN is larger than every number here, and should stay.
        nan = "'NaN'::double precision"
        above = f"WHEN {scaled} > 1 AND {scaled} <> {nan} THEN 1.0::double precision"
        return f"CASE WHEN {scaled} < 0 THEN 0.0::double precision {above} ELSE {scaled} END"

    def _bucketize(self, node: Bucketize, value: str) -> str:
        names = [DIALECT.literal(label, TEXT) for label in node.labels]
        ends = zip(node.points, names, strict=False)
        below = "".join(
            f" WHEN {value} < {DIALECT.literal(float(p), FLOAT64)} THEN {name}" for p, name in ends
        )
        return f"CASE WHEN {self._missing(value)} THEN NULL{below} ELSE {names[-1]} END"

    def _impute(self, node: Impute) -> str:
        value, constant = self.done[node.arg], DIALECT.literal(node.value.value, node.type)
        if node.arg.type.is_text:
            return f"coalesce(CAST({value} AS text), {constant})"
        double = self._double(value)
        return f"CASE WHEN {self._missing(double)} THEN {constant} ELSE {double} END"

    def _double(self, value: str) -> str:
        return f"CAST({value} AS double precision)"

    def _missing(self, value: str) -> str:
        return f"{value} IS NULL OR {value} = 'NaN'::double precision"


class PostgresSpelling(Spelling):
    """Exact sums: NUMERIC adds without limit, products that underflow would be errors."""

    double = "double precision"

    def is_nan(self, value: str) -> str:
        """Whether a double is NaN."""
        return f"{value} = 'NaN'::double precision"

    def is_infinite(self, value: str) -> str:
        """Whether a double, a date or a time is infinite."""
        return f"CAST({value} AS text) IN ('infinity', '-infinity', 'Infinity', '-Infinity')"

    def is_finite(self, value: str) -> str:
        """Whether it is neither."""
        ends = "'infinity', '-infinity', 'Infinity', '-Infinity', 'NaN'"
        return f"CAST({value} AS text) NOT IN ({ends})"

    def epoch(self, value: str, of: SqlType) -> str:  # noqa: ARG002
        """Seconds since 1970 as a double, of a date or time."""
        return f"CAST(extract(epoch FROM {value}) AS double precision)"

    def element(self, column: str, number: int) -> str:
        """An element of a vector of pgvector, from 1."""
        return f"(CAST({column} AS real[]))[{number}]"

    def bytes_of(self, value: str) -> str:
        """The UTF-8 bytes of a value as text."""
        return f"convert_to(CAST({value} AS text), 'UTF8')"

    def times(self, value: str, factor: str, least: float) -> str:
        """A product; that of a value below `least` in magnitude is 0."""
        zero = "0.0::double precision"
        small = f"abs({value}) < '{least!r}'::double precision"
        return f"(CASE WHEN {small} THEN {zero} ELSE {value} * {factor} END)"


def refuse_functions() -> UnsupportedError:
    """Python functions cannot be called by the server."""
    return UnsupportedError(
        "PostgreSQL cannot call Python functions of this program",
        hint="predict in the SELECT list, WHERE or FROM of a query, not inside a correlated "
        "subquery",
    )
