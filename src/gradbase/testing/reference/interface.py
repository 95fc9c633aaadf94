"""The page of the Python interface: signatures and docstrings."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from gradbase.testing.reference.docstrings import as_markdown
from gradbase.testing.reference.markdown import fenced, need

MODULES = ("gradbase", "gradbase.memory", "gradbase.sklearn", "gradbase.dbapi")
CLASSES = (
    ("gradbase.session", "Session"),
    ("gradbase.session.handles", "Table"),
    ("gradbase.selection.study", "Study"),
    ("gradbase.session.handles", "ModelHandle"),
    ("gradbase.session.results", "Result"),
)
"""What `connect`, `table`, `fit`, `model` and `sql` give."""


def python() -> Iterator[str]:
    """The page of modules and classes."""
    yield (
        "`connect` gives a `Session`; its `table` a `Table`, `fit` a `Study`, `model` a `ModelHandle`, "
        "`sql` a `Result`. Errors are on [their own page](errors.md)."
    )
    classes = [getattr(importlib.import_module(home), name) for home, name in CLASSES]
    for module in MODULES[:1]:
        yield from _module(importlib.import_module(module), skip=classes)
    yield "## Classes of the session"
    for kind in classes:
        yield from _member(kind.__name__, kind, "###")
    for module in MODULES[1:]:
        yield from _module(importlib.import_module(module))


def _module(module: ModuleType, skip: list[Any] | None = None) -> Iterator[str]:
    yield f"## {module.__name__}"
    yield from as_markdown(module.__doc__ or "")
    for name in sorted(module.__all__, key=str.casefold):
        value = getattr(module, name)
        if inspect.ismodule(value) or value in (skip or []):
            continue
        yield from _member(name, value, "###")


def _member(name: str, value: Any, level: str) -> Iterator[str]:
    if not callable(value):
        yield f"{level} {name}"
        yield f"A constant: {type(value).__name__}."
        return
    need([] if inspect.getdoc(value) else [name], "names", "their docstrings")
    yield f"{level} {name}"
    if inspect.isclass(value):
        yield from as_markdown(value.__doc__ or "")
        for own, member in _members(value):
            yield from _method(f"{name}.{own}", member)
        return
    yield fenced("text", _signature(name, value))
    yield from as_markdown(inspect.getdoc(value) or "")


def _method(name: str, member: Any) -> Iterator[str]:
    is_property = isinstance(member, property)
    function = member.fget if is_property else getattr(member, "__func__", member)
    shown = name if is_property else _signature(name, function)
    yield f"**`{name}`**"
    yield fenced("text", shown)
    yield from as_markdown(inspect.getdoc(function) or "")


def _members(kind: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that are ours, in the order of the source."""
    seen: set[str] = set()
    for base in kind.__mro__:
        if not base.__module__.startswith("gradbase"):
            continue
        for name, member in vars(base).items():
            known = inspect.isfunction(member) or isinstance(member, property | classmethod)
            function = member.fget if isinstance(member, property) else member
            if known and not name.startswith("_") and name not in seen and inspect.getdoc(function):
                seen.add(name)
                yield name, member


def _signature(name: str, function: Any) -> str:
    signature = inspect.signature(function)
    parameters = [
        p.replace(annotation=_as_written(p.annotation))
        for n, p in signature.parameters.items()
        if n not in ("self", "cls")
    ]
    shown = signature.replace(
        parameters=parameters, return_annotation=_as_written(signature.return_annotation)
    )
    return f"{name}{shown}"


class _Written(str):
    """An annotation as it stands in the source: without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _as_written(annotation: Any) -> Any:
    return _Written(annotation) if isinstance(annotation, str) else annotation
