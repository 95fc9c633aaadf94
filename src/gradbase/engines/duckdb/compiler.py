"""Relations as DuckDB's SQL."""

from __future__ import annotations

from collections.abc import Mapping

from gradbase.engines.base import quote_identifier
from gradbase.engines.compiler import Compiler, selected
from gradbase.engines.duckdb.literals import literal
from gradbase.engines.duckdb.preprocessing import preprocessing_sql
from gradbase.engines.duckdb.types import type_name
from gradbase.ir.learning import Predict
from gradbase.ir.node import Node
from gradbase.ir.preprocessing import Preprocessing
from gradbase.ir.relational import Relation
from gradbase.ir.scalar import Value
from gradbase.ir.types import TEXT, SqlType


class DuckDBDialect:
    """DuckDB's language."""

    name = "duckdb"
    star_words: frozenset[str] = frozenset(("EXCLUDE", "EXCEPT", "REPLACE", "RENAME"))

    def identifier(self, name: str) -> str:
        """A name in double quotes."""
        return quote_identifier(name)

    def type_name(self, of: SqlType) -> str:
        """DuckDB's name of a type."""
        return type_name(of)

    def literal(self, value: Value, of: SqlType) -> str:
        """A constant as DuckDB's SQL."""
        return literal(value, of)

    def struct(self, values: Mapping[str, str]) -> str:
        """A struct of expressions by name."""
        pairs = (f"{quote_identifier(n)} := {v}" for n, v in values.items())
        return f"struct_pack({', '.join(pairs)})"

    def nulls(self, direction: str) -> str:  # noqa: ARG002
        """Behind all values, unless its setting ``default_null_order`` says otherwise."""
        return "last"

    def element(self, value: str, number: int) -> str:
        """An element of a list, from 1."""
        return f"({value})[{number}]"

    def from_json(self, text: str, structure: str) -> str:
        """JSON text as a struct."""
        return f"from_json({text}, {literal(structure, TEXT)})"


def compile_relation(
    root: Relation, names: Mapping[Relation, str], functions: Mapping[Node, str]
) -> str:
    """SQL of `root`, see `Compiler`."""
    return _Compiler(DuckDBDialect(), names, functions).query(root)


class _Compiler(Compiler):
    engine = "DuckDB"

    def predict(self, node: Predict) -> str:
        if node not in self.functions:
            return super().predict(node)
        arguments = ", ".join(quote_identifier(f) for f in node.features)
        call = f"{quote_identifier(self.functions[node])}({arguments})"
        inner = f'(SELECT *, {call} AS "_predicted" FROM {self.source(node.child)}) AS "p"'
        fields = (f'"_predicted".{quote_identifier(m)}' for m in node.methods)
        added = selected(zip(fields, node.names, strict=True))
        return f'SELECT * EXCLUDE ("_predicted"), {added} FROM {inner}'

    def preprocessing(self, node: Preprocessing) -> str:
        return preprocessing_sql(node, self.done)
