"""Relational operators.  Every relation has a `schema` with distinct column names."""

from __future__ import annotations

import functools

from gradbase.errors import BindError
from gradbase.ir.node import Step, node
from gradbase.ir.scalar import Literal, Scalar
from gradbase.ir.types import Field, Schema

JOINS = ("inner", "left", "right", "full", "cross", "semi", "anti")


class Relation(Step):
    """A bag of rows with a schema."""

    derived = ("schema",)

    @property
    def schema(self) -> Schema:
        raise AssertionError(f"{type(self).__name__} has no schema")


def _check_columns(owner: Relation, expression: Scalar, schema: Schema) -> None:
    for name in sorted(expression.columns):
        schema.type_of(name)  # raises with near matches
    del owner


@node
class Scan(Relation):
    """Read a table.  SQL: ``SELECT columns FROM table``.

    `table` is its SQL name, quoted as the engine needs it. Output column ``prefix + c`` is the
    table's column ``c``; a prefix (``"t."``) keeps two tables of a join apart.
    """

    table: str
    prefix: str
    columns: Schema

    def __post_init__(self) -> None:
        assert all(n.startswith(self.prefix) for n in self.columns.names)

    @property
    def schema(self) -> Schema:
        return self.columns

    def source(self, name: str) -> str:
        """The table's own name of output column `name`."""
        return name[len(self.prefix) :]


@node
class SqlFragment(Relation):
    """SQL kept as the user's text.  SQL: ``parts[0] (inputs[0]) parts[1] … parts[n]``.

    `reads` names the engine's tables read by the text; the engine says what the schema is.
    `calls` are predictions left inside the text (correlated, or in a window): gap i + len(inputs)
    is a call of a function registered in the engine.
    """

    parts: tuple[str, ...]
    inputs: tuple[Relation, ...]
    columns: Schema
    reads: tuple[str, ...] = ()
    calls: tuple[Scalar, ...] = ()
    gaps: tuple[int, ...] = ()
    """Which gap holds what: index into inputs + calls, one per gap (len(parts) - 1)."""

    def __post_init__(self) -> None:
        assert len(self.parts) == len(self.gaps) + 1
        assert all(0 <= g < len(self.inputs) + len(self.calls) for g in self.gaps)

    @property
    def schema(self) -> Schema:
        return self.columns


@node
class Values(Relation):
    """Literal rows.  SQL: ``VALUES (…), (…)``; row-major `cells`."""

    columns: Schema
    cells: tuple[Literal, ...]

    def __post_init__(self) -> None:
        assert len(self.columns) > 0
        assert len(self.cells) % len(self.columns) == 0

    @property
    def schema(self) -> Schema:
        return self.columns


@node
class Filter(Relation):
    """Keep rows for which `predicate` is true (NULL counts as false).  SQL: ``WHERE predicate``."""

    child: Relation
    predicate: Scalar

    def __post_init__(self) -> None:
        _check_columns(self, self.predicate, self.child.schema)
        if self.predicate.type.kind not in ("bool", "null"):
            raise BindError(f"a filter must be bool, `{self.predicate!r}` is {self.predicate.type}")

    @functools.cached_property
    def schema(self) -> Schema:  # type: ignore[override]
        return self.child.schema


@node
class Project(Relation):
    """Compute one expression per output column.  SQL: ``SELECT exprs[i] AS names[i]``."""

    child: Relation
    names: tuple[str, ...]
    exprs: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        assert len(self.names) == len(self.exprs)
        for expression in self.exprs:
            _check_columns(self, expression, self.child.schema)

    @functools.cached_property
    def schema(self) -> Schema:  # type: ignore[override]
        return Schema(tuple(Field(n, e.type) for n, e in zip(self.names, self.exprs, strict=True)))


@node
class Join(Relation):
    """SQL: ``left kind JOIN right ON condition`` (`condition` is None for cross joins).

    Schema: left's columns then right's (semi and anti: left's only). Names must not clash.
    """

    left: Relation
    right: Relation
    kind: str
    condition: Scalar | None

    def __post_init__(self) -> None:
        if self.kind not in JOINS:
            raise BindError(f"`{self.kind}` is no join; there are {', '.join(JOINS)}")
        both = Schema(self.left.schema.fields + self.right.schema.fields)
        assert (self.condition is None) == (self.kind == "cross")
        if self.condition is not None:
            _check_columns(self, self.condition, both)

    @functools.cached_property
    def schema(self) -> Schema:  # type: ignore[override]
        if self.kind in ("semi", "anti"):
            return self.left.schema
        return Schema(self.left.schema.fields + self.right.schema.fields)


@node
class Aggregate(Relation):
    """SQL: ``SELECT keys AS key_names, aggregates AS aggregate_names … GROUP BY keys``.

    An aggregate is a `SqlScalar` such as ``count(*)`` or ``avg(p)``. No keys: exactly one row.
    """

    row_independent = False
    child: Relation
    key_names: tuple[str, ...]
    keys: tuple[Scalar, ...]
    aggregate_names: tuple[str, ...]
    aggregates: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        assert len(self.key_names) == len(self.keys)
        assert len(self.aggregate_names) == len(self.aggregates)
        for expression in self.keys + self.aggregates:
            _check_columns(self, expression, self.child.schema)

    @functools.cached_property
    def schema(self) -> Schema:  # type: ignore[override]
        names = self.key_names + self.aggregate_names
        exprs = self.keys + self.aggregates
        return Schema(tuple(Field(n, e.type) for n, e in zip(names, exprs, strict=True)))


@node
class Sort(Relation):
    """SQL: ``ORDER BY keys[i] orders[i]``; an order is ``asc|desc nulls first|last``."""

    row_independent = False
    child: Relation
    keys: tuple[Scalar, ...]
    orders: tuple[str, ...]

    def __post_init__(self) -> None:
        assert len(self.keys) == len(self.orders) > 0
        allowed = {f"{d} nulls {n}" for d in ("asc", "desc") for n in ("first", "last")}
        assert set(self.orders) <= allowed, self.orders
        for expression in self.keys:
            _check_columns(self, expression, self.child.schema)

    @functools.cached_property
    def schema(self) -> Schema:  # type: ignore[override]
        return self.child.schema


@node
class Rebatch(Relation):
    """The same rows in batches of about `rows`: small ones, as filters leave them, are joined.

    SQL: ``SELECT * FROM child``.
    """

    child: Relation
    rows: int

    def __post_init__(self) -> None:
        assert self.rows > 0

    @property
    def schema(self) -> Schema:
        return self.child.schema


@node
class Limit(Relation):
    """SQL: ``LIMIT count OFFSET offset``; which rows is arbitrary unless `child` is a Sort."""

    row_independent = False
    child: Relation
    count: int
    offset: int = 0

    def __post_init__(self) -> None:
        assert self.count >= 0
        assert self.offset >= 0

    @functools.cached_property
    def schema(self) -> Schema:  # type: ignore[override]
        return self.child.schema


@node
class Union(Relation):
    """SQL: ``a UNION ALL b …`` (or UNION where not `keep_duplicates`); equal types by position."""

    inputs: tuple[Relation, ...]
    keep_duplicates: bool

    def __post_init__(self) -> None:
        assert len(self.inputs) >= 2
        types = {tuple(f.type for f in r.schema) for r in self.inputs}
        if len(types) != 1:
            raise BindError(f"inputs of a UNION differ in types: {sorted(map(str, types))}")

    @functools.cached_property
    def schema(self) -> Schema:  # type: ignore[override]
        return self.inputs[0].schema
