"""Inputs of a file's network: which columns of a table each one reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradbase.errors import BindError, ShapeError, UnsupportedError, near
from gradbase.importing.building import Builder, Value
from gradbase.importing.files.graph import Port
from gradbase.importing.onnx_learners import Texts
from gradbase.ir.conversion import Numeric, ToTensor, Vector
from gradbase.ir.imported import Text
from gradbase.ir.learning import Feature
from gradbase.ir.tensor import Concat, Tensor
from gradbase.ir.types import BOOL, FLOAT32, FLOAT64, INT64, TEXT, SqlType, array_of

Given = Mapping[str, SqlType | None] | None
_TYPES = {"float32": FLOAT32, "float64": FLOAT64, "int64": INT64, "int32": SqlType("int32"),
          "uint8": SqlType("uint8"), "bool": BOOL, "text": TEXT}  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """What is said of a file: see `Session.import_model`."""

    features: Given = None
    label: str | None = None
    classes: Sequence[Any] | None = None
    output: str | None = None


class Entries:
    """The columns that a network reads, input by input.

    Parameters
    ----------
    ports : sequence of Port
        The network's inputs.
    given : mapping of column to type, optional
        The columns to read, in order; a type that is None follows from the input.
    """

    def __init__(self, ports: Sequence[Port], given: Given) -> None:
        if not ports:
            raise UnsupportedError("the network has no input")
        for port in ports:
            if port.dtype not in _TYPES or port.dims is None or len(port.dims) == 0:
                raise UnsupportedError(
                    f"input `{port.name}` is {port.dtype or 'no tensor'}"
                    f"{list(port.dims or ())}; an input is a tensor of rows of numbers or texts"
                )
        self.ports = tuple(ports)
        self.of: dict[str, tuple[Feature, ...]] = {}
        self._place(given)

    @property
    def features(self) -> tuple[Feature, ...]:
        """All columns, in order."""
        return tuple(dict.fromkeys(f for found in self.of.values() for f in found))

    @property
    def batch(self) -> int:
        """Rows that the file asks for, 0 where any number will do."""
        return max((next(iter(p.dims or ()), None) or 0 for p in self.ports), default=0)

    def _place(self, given: Given) -> None:
        if given is None:
            self.of = {p.name: (Feature(p.name, self._own_type(p)),) for p in self.ports}
            return
        names = [p.name for p in self.ports]
        if set(names) <= set(given):
            chosen = {n: given[n] for n in names}
        elif any(n in given for n in names):
            missing = [n for n in names if n not in given]
            raise BindError(f"input `{missing[0]}` has no column", hint=near(missing[0], given))
        else:
            chosen = dict(given)
        rest = list(chosen.items())
        for port in self.ports:
            self.of[port.name], rest = self._columns(port, rest, alone=len(self.ports) == 1)
        if rest:
            raise ShapeError(
                f"the network reads {', '.join(map(_shown, self.ports))}; column `{rest[0][0]}` "
                "is left over"
            )

    def _columns(
        self, port: Port, rest: list[tuple[str, SqlType | None]], *, alone: bool
    ) -> tuple[tuple[Feature, ...], list[tuple[str, SqlType | None]]]:
        """The first of `rest` that fill an input, and the others."""
        wanted = _width(port)
        if wanted is None:
            wanted = sum(_elements(t) for _, t in rest) if alone else 1
        found: list[Feature] = []
        filled = 0
        while filled < wanted and rest:
            (name, kind), rest = rest[0], rest[1:]
            only = kind is None and filled == 0 and not rest and wanted > 1
            of = kind or (array_of(_TYPES[port.dtype], wanted) if only else _TYPES[port.dtype])
            self._check(port, name, of)
            found.append(Feature(name, of))
            filled += _elements(of)
        if filled != wanted:
            raise ShapeError(
                f"input {_shown(port)} is filled by {wanted} numbers per row, the columns "
                f"{', '.join(f.name for f in found) or '(none)'} have {filled}",
                hint="features=[…] names columns in their order; an array of n numbers fills n",
            )
        return tuple(found), rest

    def _check(self, port: Port, name: str, of: SqlType) -> None:
        text = port.dtype == "text"
        fits = of.is_text if text else of.is_numeric or of.is_vector or of.kind == "bool"
        if not fits:
            raise BindError(
                f"column `{name}` of type {of} cannot fill input {_shown(port)}",
                hint="numbers, booleans and arrays of fixed length become tensors; texts where the "
                "network reads texts",
            )

    def _own_type(self, port: Port) -> SqlType:
        width = _width(port)
        if width is None:
            raise BindError(
                f"input {_shown(port)} does not say how many numbers it reads per row",
                hint="features=[…] names the columns, or gives rows with an array of fixed length",
            )
        scalar = _TYPES[port.dtype]
        return scalar if width == 1 else array_of(scalar, width)

    # -- as tensors --------------------------------------------------------------------------------

    def value(self, builder: Builder, port: Port) -> Value | Texts:
        """What the network's operators read."""
        features = self.of[port.name]
        if port.dtype == "text":
            return Texts(tuple(f.name for f in features))
        kind = port.dtype if port.dtype in ("float32", "float64") else "float64"
        parts = tuple(_number(f, kind, port.dtype) for f in features)
        node = parts[0] if len(parts) == 1 else Concat(parts)
        found = builder.input(node)
        if node.dtype != port.dtype:
            found = builder.call("_to_copy.default", found, dtype=("dtype", port.dtype))
        sizes = self.sizes(port)
        if len(sizes) != 2:
            shape = [builder_batch(found), *sizes[1:]]
            found = builder.call("reshape.default", found, shape)
        return found

    def sizes(self, port: Port) -> tuple[int, ...]:
        """The input's sizes, -1 the batch."""
        assert port.dims is not None
        unknown = [i for i, d in enumerate(port.dims[1:], 1) if d is None]
        width = sum(_elements(f.of) for f in self.of[port.name])
        if len(unknown) > 1:
            raise BindError(f"input {_shown(port)} has several sizes that vary")
        known = math.prod(d for d in port.dims[1:] if d)
        return (-1, *(width // known if d is None else d for d in port.dims[1:]))

    def raw(self, port: Port) -> Tensor:
        """The texts of an input as they are."""
        feature, *others = self.of[port.name]
        if others:
            raise UnsupportedError(
                f"input {_shown(port)} of several texts; one per input can be read"
            )
        return ToTensor(feature.name, Text())


def builder_batch(value: Value) -> Any:
    """The batch of a value, as a size."""
    from gradbase.importing.building import Size

    a, b = (int(p.shape[0]) for p in value.pair)
    return Size((a, b))


def _number(feature: Feature, kind: str, wanted: str) -> Tensor:
    if feature.of.is_vector:
        exact = wanted if wanted in ("int64", "int32", "float64") else kind
        return ToTensor(feature.name, Vector(feature.of.size[0], None, None, exact))
    return ToTensor(feature.name, Numeric(0.0, 1.0, indicator=False, kind=kind))


def _elements(of: SqlType | None) -> int:
    return of.size[0] if of is not None and of.kind == "array" else 1


def _width(port: Port) -> int | None:
    sizes = (port.dims or ())[1:]
    return None if any(s is None for s in sizes) else math.prod(s for s in sizes if s is not None)


def _shown(port: Port) -> str:
    sizes = ", ".join("?" if d is None else str(d) for d in port.dims or ())
    return f"`{port.name}` {port.dtype}[{sizes}]"
