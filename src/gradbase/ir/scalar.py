"""Scalar expressions over the columns of one relation.

Only what lets work move past a model has an operator; everything else stays as the user's own text
in `SqlScalar`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

from gradbase.errors import BindError
from gradbase.ir.node import Node, node
from gradbase.ir.types import BOOL, SqlType

if TYPE_CHECKING:
    from gradbase.ir.learning import Model

S = TypeVar("S", bound="Scalar")
Value = bool | int | float | str | bytes | None
COMPARISONS = ("=", "<>", "<", "<=", ">", ">=")


class Scalar(Node):
    """An expression with one value per row."""

    @property
    def type(self) -> SqlType:
        raise AssertionError(f"{type(self).__name__} has no type")

    @functools.cached_property
    def columns(self) -> frozenset[str]:
        """Names of the columns read."""
        return frozenset(c.name for c in scalars(self, Column))

    @functools.cached_property
    def predictions(self) -> tuple[PredictCall, ...]:
        """The predictions inside, children first."""
        return tuple(scalars(self, PredictCall))

    @functools.cached_property
    def volatile(self) -> bool:
        """Whether two evaluations may differ (a `random()` inside)."""
        return not all(n.deterministic for n in scalars(self, Scalar))


def scalars(root: Scalar, kind: type[S]) -> Iterator[S]:
    """The scalars of class `kind` at or below `root`, children first.

    Models are not looked into: their columns are other ones than those that `root` reads.
    """
    return (n for n in _order(root) if isinstance(n, kind))


def substituted(root: Scalar, mapping: Mapping[Scalar, Scalar]) -> Scalar:
    """`root` with each key of `mapping` replaced by its value; models stay as they are."""
    done: dict[Node, Node] = {}
    for old in _order(root):
        if old in mapping:
            done[old] = mapping[old]
            continue
        children = tuple(done.get(c, c) for c in old.children)
        done[old] = old if children == old.children else old.with_children(children)
    found = done[root]
    assert isinstance(found, Scalar)
    return found


def _order(root: Scalar) -> Iterator[Scalar]:
    """Scalars below and including `root` once, children first."""
    done: set[Node] = set()
    stack: list[tuple[Scalar, bool]] = [(root, False)]
    while stack:
        current, expanded = stack.pop()
        if current in done:
            continue
        if expanded:
            done.add(current)
            yield current
            continue
        stack.append((current, True))
        stack.extend((c, False) for c in reversed(current.children) if isinstance(c, Scalar))


def _expect_bool(*args: Scalar) -> None:
    for arg in args:
        if arg.type.kind not in ("bool", "null"):
            raise BindError(f"a condition must be bool, `{arg!r}` is {arg.type}")


@node
class Column(Scalar):
    """A column of the input relation.  SQL: ``name``."""

    name: str
    of: SqlType

    @property
    def type(self) -> SqlType:
        return self.of


@node
class Literal(Scalar):
    """A constant.  SQL: ``value`` cast to its type."""

    value: Value
    of: SqlType

    @property
    def type(self) -> SqlType:
        return self.of


@node
class Parameter(Scalar):
    """A value bound when the statement runs.  SQL: ``$name``."""

    name: str
    of: SqlType

    @property
    def type(self) -> SqlType:
        return self.of


@node
class Compare(Scalar):
    """SQL: ``left op right`` with NULL where either side is NULL; op in = <> < <= > >=."""

    op: str
    left: Scalar
    right: Scalar

    def __post_init__(self) -> None:
        if self.op not in COMPARISONS:
            raise BindError(f"`{self.op}` is no comparison; there are {', '.join(COMPARISONS)}")

    @property
    def type(self) -> SqlType:
        return BOOL


@node
class And(Scalar):
    """SQL: ``a AND b AND …`` (three-valued); two or more arguments, evaluated in order."""

    args: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        assert len(self.args) >= 2
        _expect_bool(*self.args)

    @property
    def type(self) -> SqlType:
        return BOOL


@node
class Or(Scalar):
    """SQL: ``a OR b OR …`` (three-valued); two or more arguments."""

    args: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        assert len(self.args) >= 2
        _expect_bool(*self.args)

    @property
    def type(self) -> SqlType:
        return BOOL


@node
class Not(Scalar):
    """SQL: ``NOT arg``."""

    arg: Scalar

    def __post_init__(self) -> None:
        _expect_bool(self.arg)

    @property
    def type(self) -> SqlType:
        return BOOL


@node
class IsNull(Scalar):
    """SQL: ``arg IS NULL``."""

    arg: Scalar

    @property
    def type(self) -> SqlType:
        return BOOL


@node
class SqlScalar(Scalar):
    """The user's own expression text, with our expressions in its gaps.

    SQL: ``parts[0] args[0] parts[1] … parts[n]``.  `of` is what the engine says its type is.
    """

    parts: tuple[str, ...]
    args: tuple[Scalar, ...]
    of: SqlType
    is_volatile: bool = False

    def __post_init__(self) -> None:
        assert len(self.parts) == len(self.args) + 1

    @property
    def type(self) -> SqlType:
        return self.of

    @property
    def deterministic(self) -> bool:
        return not self.is_volatile


UNTYPED = SqlScalar(("NULL",), (), SqlType("null"))
"""A NULL as it stands in a query: it has the type that is asked for."""


@node
class PredictCall(Scalar):
    """One output of a model for a row.  SQL: ``PREDICT(model, feature AS name, …)`` and kin.

    `output` names one of the model's outputs (`Model.output`); `features[i]` is the expression for
    the model's i-th feature (`Model.features`).
    """

    model: Model
    output: str
    features: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        if len(self.features) != len(self.model.features):
            raise BindError(
                f"model `{self.model.name}` has {len(self.model.features)} features, "
                f"found {len(self.features)}"
            )

    @property
    def type(self) -> SqlType:
        return self.model.output(self.output).type


def conjuncts(predicate: Scalar) -> tuple[Scalar, ...]:
    """The arguments of a (nested) AND, in order."""
    found: list[Scalar] = []
    stack = [predicate]
    while stack:
        top = stack.pop()
        if isinstance(top, And):
            stack.extend(reversed(top.args))
        else:
            found.append(top)
    return tuple(found)


def conjunction(args: tuple[Scalar, ...]) -> Scalar:
    """AND of one or more conditions."""
    return args[0] if len(args) == 1 else And(args)
