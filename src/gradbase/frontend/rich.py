"""The user's text with relations and predictions of ours in it, and what its schema is.

A *stub* is SQL that has the schema of a relation and computes nothing of ours: predictions are
NULLs of their type.  The engine is asked for types of stubs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gradbase.errors import BindError, GradbaseError
from gradbase.frontend.dialect import literal_sql, type_sql
from gradbase.frontend.names import distinct_names
from gradbase.frontend.tokens import quote_identifier, significant
from gradbase.ir import scalar as ir
from gradbase.ir.analytic import Analytic
from gradbase.ir.facts import Relations
from gradbase.ir.node import Node
from gradbase.ir.preprocessing import Preprocessing
from gradbase.ir.relational import Relation, SqlFragment
from gradbase.ir.scalar import PredictCall, Scalar, scalars
from gradbase.ir.types import Field, Schema, SqlType


@dataclass(frozen=True)
class Bound:
    """A relation and a stub of it."""

    relation: Relation
    stub: str

    @property
    def schema(self) -> Schema:
        return self.relation.schema


Piece = str | Bound | Scalar


@dataclass(frozen=True)
class Rich:
    """Text in pieces: SQL, relations (rendered in parentheses) and scalars of ours."""

    pieces: tuple[Piece, ...]
    reads: tuple[str, ...] = ()

    @property
    def stub(self) -> str:
        return "".join(_stub_piece(p) for p in self.pieces)

    def bound(self, schema: Schema) -> Bound:
        """The text as a relation of `schema`."""
        texts: list[str] = [""]
        inputs: dict[Relation, int] = {}
        calls: dict[Scalar, int] = {}
        gaps: list[tuple[bool, int]] = []
        for piece in self.pieces:
            match piece:
                case str():
                    texts[-1] += piece
                    continue
                case Bound():
                    # An engine may put a view's bare name here: that stands after FROM only.
                    texts[-1] += "(SELECT * FROM "
                    texts.append(")")
                    gaps.append((False, inputs.setdefault(piece.relation, len(inputs))))
                case Scalar():
                    texts.append("")
                    gaps.append((True, calls.setdefault(piece, len(calls))))
        numbered = tuple(n + len(inputs) * is_call for is_call, n in gaps)
        fragment = SqlFragment(
            tuple(texts), tuple(inputs), schema, self.reads, tuple(calls), numbered
        )
        return Bound(fragment, self.stub)


def join_pieces(*parts: Piece | Rich) -> Rich:
    """One text of several."""
    pieces: list[Piece] = []
    reads: dict[str, None] = {}
    for part in parts:
        if isinstance(part, Rich):
            pieces.extend(part.pieces)
            reads.update(dict.fromkeys(part.reads))
        else:
            pieces.append(part)
    return Rich(tuple(pieces), tuple(reads))


def _stub_piece(piece: Piece) -> str:
    match piece:
        case str():
            return piece
        case Bound():
            return f"({piece.stub})"
        case PredictCall():
            return stub_call(piece.type, [render(f) for f in piece.features])
        case Scalar():
            return render(piece)


def stub_call(of: SqlType, arguments: list[str]) -> str:
    """A NULL of type `of` that reads `arguments`, so that the engine checks their names."""
    null = f"CAST(NULL AS {type_sql(of)})"
    if not arguments:
        return null
    tests = " OR ".join(f"({a}) IS NULL" for a in arguments)
    return f"(CASE WHEN {tests} THEN {null} END)"


def render(scalar: Scalar) -> str:
    """SQL of a scalar over its relation's columns, for stubs (predictions are NULLs)."""
    done: dict[Node, str] = {}
    for n in scalars(scalar, Scalar):
        done[n] = _render(n, done)
    return done[scalar]


def _render(n: Scalar, done: Mapping[Node, str]) -> str:
    match n:
        case ir.Column(name=name):
            return quote_identifier(name)
        case ir.Parameter(name=name):
            return f"${name}"
        case ir.Literal(value=value, of=of):
            return literal_sql(value, of)
        case ir.Compare():
            return f"({done[n.left]} {n.op} {done[n.right]})"
        case ir.And():
            return "(" + " AND ".join(done[a] for a in n.args) + ")"
        case ir.Or():
            return "(" + " OR ".join(done[a] for a in n.args) + ")"
        case ir.Not():
            return f"(NOT {done[n.arg]})"
        case ir.IsNull():
            return f"({done[n.arg]} IS NULL)"
        case ir.PredictCall():
            return stub_call(n.type, [])
        case Preprocessing() | Analytic():
            given = (c for c in n.children if isinstance(c, Scalar))
            return stub_call(n.type, [done[c] for c in given])
        case ir.SqlScalar():
            gaps = [done[a] for a in n.args] + [""]
            return "".join(p + g for p, g in zip(n.parts, gaps, strict=True))
    raise AssertionError(type(n).__name__)


class Asker:
    """Asks the engine for names and types, with the parameters that a text uses."""

    def __init__(self, relations: Relations, parameters: Mapping[str, object]) -> None:
        self._relations, self._parameters = relations, parameters
        self._known: dict[str, list[tuple[str, SqlType]]] = {}

    def types(self, sql: str) -> list[tuple[str, SqlType]]:
        """Column names, as they are, and types."""
        if sql not in self._known:
            self._known[sql] = self._relations.types(sql, self._used(sql))
        return self._known[sql]

    def probe(self, sql: str) -> list[tuple[str, SqlType]] | None:
        """As `types`; None where the engine refuses."""
        try:
            return self.types(sql)
        except GradbaseError:
            return None

    def schema(self, sql: str) -> Schema:
        """Schema of a query; doubled names are made distinct (a, a_1)."""
        found = self.types(f"SELECT * FROM ({sql}) AS __gb_q")
        names = [name for name, _ in found]
        if len(set(names)) < len(names):
            names = distinct_names(names)
        return Schema(tuple(Field(n, t) for n, (_, t) in zip(names, found, strict=True)))

    def value(self, name: str) -> object:
        return self._parameters[name]

    def _used(self, sql: str) -> dict[str, object] | None:
        names = dict.fromkeys(t.text[1:] for t in significant(sql) if t.kind == "param")
        for name in names:
            if name not in self._parameters:
                raise BindError(
                    f"parameter `{_shown(name)}` has no value; {len(self._parameters)} were given"
                )
        return {n: self._parameters[n] for n in names} or None


def _shown(name: str) -> str:
    number = name.removeprefix("p")
    return f"${number}" if number != name and number.isdigit() else f"${name}"
