"""The base of every IR node: interning, children, traversal, replacement.

Equal nodes are one object, so identity is equality and shared parts of a DAG are visited once.
Nothing here recurses: networks are deeper than Python's stack.
"""

from __future__ import annotations

import dataclasses
import functools
import struct
import threading
import weakref
from collections.abc import Callable, Container, Hashable, Iterator
from typing import Any, ClassVar, Self, TypeVar, dataclass_transform

T = TypeVar("T")
N = TypeVar("N", bound="Node")

_pool: weakref.WeakValueDictionary[Hashable, Node] = weakref.WeakValueDictionary()
_pool_lock = threading.Lock()


def _key(value: object) -> Hashable:
    """A hashable that is equal only for values of the same type and bit pattern."""
    match value:
        case Node():
            return value
        case tuple():
            return (tuple, *(_key(v) for v in value))
        case float():
            return (float, struct.pack("<d", value))
        case bool() | int() | str() | bytes() | None:
            return (type(value), value)
    return (type(value), str(value), value)


def same(a: object, b: object) -> bool:
    """Whether two field values have the same type and bit pattern."""
    return _key(a) == _key(b)


class _Interned(type):
    """Makes calling a node class return the pooled object where an equal one exists."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__call__(*args, **kwargs)
        fields = (_key(getattr(made, name)) for name in cls.field_names())  # type: ignore[attr-defined]
        key = (cls, *fields)
        with _pool_lock:
            found = _pool.get(key)
        if found is not None:
            return found
        for name in cls.derived:  # type: ignore[attr-defined]
            getattr(made, name)  # cached, so that it never recurses down a deep chain
        with _pool_lock:
            return _pool.setdefault(key, made)


@dataclass_transform(frozen_default=True, eq_default=False)
def node(cls: type[T]) -> type[T]:
    """Class decorator of every operator: a frozen dataclass compared by identity."""
    return dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)


class Node(metaclass=_Interned):
    """An immutable, interned operator. Fields that are nodes, or tuples of nodes, are children."""

    __slots__ = ("__dict__", "__weakref__")
    row_independent: ClassVar[bool] = True
    """Whether a row's result depends on that row alone."""
    derived: ClassVar[tuple[str, ...]] = ()
    """Cached properties that follow from the children's; settled when the node is built."""

    @classmethod
    @functools.cache
    def field_names(cls) -> tuple[str, ...]:
        """Names of the operator's fields, in order."""
        return tuple(f.name for f in dataclasses.fields(cls))  # type: ignore[arg-type]

    @functools.cached_property
    def children(self) -> tuple[Node, ...]:
        """Child nodes in field order, tuples flattened."""
        found: list[Node] = []
        for name in self.field_names():
            value = getattr(self, name)
            if isinstance(value, Node):
                found.append(value)
            elif isinstance(value, tuple):
                found.extend(v for v in value if isinstance(v, Node))
        return tuple(found)

    @functools.cached_property
    def stands_on(self) -> tuple[Node, ...]:
        """The steps of a plan among the children."""
        return tuple(c for c in self.children if isinstance(c, Step))

    def with_children(self, children: tuple[Node, ...]) -> Self:
        """The same operator over other children (as many as `self.children`)."""
        rest = iter(children)
        changes: dict[str, Any] = {}
        for name in self.field_names():
            value = getattr(self, name)
            if isinstance(value, Node):
                changes[name] = next(rest)
            elif isinstance(value, tuple) and any(isinstance(v, Node) for v in value):
                changes[name] = tuple(next(rest) if isinstance(v, Node) else v for v in value)
        return self.replace(**changes) if changes else self

    def replace(self, **changes: Any) -> Self:
        """The same operator with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    @property
    def deterministic(self) -> bool:
        """Whether evaluating this operator (not its children) twice gives the same result."""
        return True

    def __repr__(self) -> str:
        from gradbase.ir.printer import print_plan

        return print_plan(self)


class Step(Node):
    """A step of a plan: a relation, a dataset or a fit; no expression, no part of a network."""


def walk(root: Node, leaves: Container[Node] = ()) -> Iterator[Node]:
    """Every node below and including `root` once, children before parents.

    What is below a node of `leaves` is left out.
    """
    done: set[Node] = set()
    stack: list[tuple[Node, bool]] = [(root, False)]
    while stack:
        current, expanded = stack.pop()
        if current in done:
            continue
        if expanded or current in leaves:
            done.add(current)
            yield current
            continue
        stack.append((current, True))
        stack.extend((c, False) for c in reversed(current.children) if c not in done)


def find(root: Node, kind: type[N]) -> Iterator[N]:
    """The nodes of class `kind` at or below `root`, children first."""
    return (n for n in walk(root) if isinstance(n, kind))


def transform(root: Node, change: Callable[[Node], Node | None]) -> Node:
    """Rewrite bottom-up: `change` sees each node with its children already rewritten.

    `change` returns the node's replacement, or None to keep it. Each distinct node is seen once.
    """
    done: dict[Node, Node] = {}
    for old in walk(root):
        rebuilt = _rebuild(old, done)
        done[old] = change(rebuilt) or rebuilt
    return done[root]


def _rebuild(old: Node, done: dict[Node, Node]) -> Node:
    new_children = tuple(done[c] for c in old.children)
    return old if new_children == old.children else old.with_children(new_children)
