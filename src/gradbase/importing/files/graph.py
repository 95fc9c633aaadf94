"""What a file says, as plain data: nodes, their attributes, and where the weights lie."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gradbase.errors import DataError

MOST_NODES = 200_000
MOST_WEIGHTS = 200_000
MOST_DIMENSIONS = 16
MOST_ELEMENTS = 1 << 48
"""Elements of one tensor: beyond, sizes overflow."""
INLINE_BYTES = 1 << 12
"""Weights up to this size come with the graph itself."""


@dataclass(frozen=True)
class Weight:
    """A constant: `size` bytes (little-endian, C order) of `file` from `start` on.

    `dtype` is NumPy's name (``text`` for strings); `file` is relative to the model's folder, ''
    the model itself; `values` has the content where it comes with the graph.
    """

    name: str
    dtype: str
    dims: tuple[int, ...]
    file: str = ""
    start: int = 0
    size: int = 0
    values: npt.NDArray[Any] | tuple[str, ...] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Step:
    """An operator: its inputs and outputs by name ('' where left out)."""

    op: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    at: tuple[int, int] = (0, 0)
    """Where it stands in the file."""


@dataclass(frozen=True)
class Port:
    """An input or output: `dims` None where unknown, a size None where it varies."""

    name: str
    dtype: str
    dims: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Graph:
    """A network as its file has it. `opsets` is the version of each domain of operators."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    steps: tuple[Step, ...]
    weights: tuple[Weight, ...]
    opsets: Mapping[str, int] = field(default_factory=dict[str, int])


def checked_dims(dims: list[int], name: str) -> tuple[int, ...]:
    """Sizes of a tensor; DataError where they are none."""
    if len(dims) > MOST_DIMENSIONS or any(d < 0 for d in dims) or math.prod(dims) > MOST_ELEMENTS:
        raise DataError(
            f"tensor `{name[:80]}` of sizes {dims[:MOST_DIMENSIONS]} cannot be: sizes are 0 or "
            "more, at "
            f"most {MOST_DIMENSIONS} of them and {MOST_ELEMENTS:,} elements"
        )
    return tuple(dims)


def check_size(weight: Weight, item_bytes: int, there: int) -> Weight:
    """`weight` itself, if its place has as many bytes as its sizes need."""
    needed = math.prod(weight.dims) * item_bytes
    if weight.size != needed:
        raise DataError(
            f"weight `{weight.name[:80]}` {weight.dtype}{list(weight.dims)} needs {needed:,} "
            "bytes, "
            f"the file has {weight.size:,}"
        )
    if weight.start < 0 or weight.start + weight.size > there:
        raise DataError(
            f"weight `{weight.name[:80]}` ends at byte {weight.start + weight.size:,} of a file of "
            f"{there:,}"
        )
    return weight


# -- as JSON -----------------------------------------------------------------------------------


def to_plain(value: Any) -> Any:
    """A graph, or a part of one, for json.dumps."""
    match value:
        case np.ndarray():
            text = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
            return {"array": str(value.dtype), "dims": list(value.shape), "data": text}
        case Graph() | Step() | Port() | Weight():
            kind = type(value).__name__.lower()
            return {kind: [to_plain(v) for v in vars(value).values()]}
        case dict():
            return {"map": [[str(k), to_plain(v)] for k, v in value.items()]}
        case list():
            return [to_plain(v) for v in value]
        case tuple():
            return {"tuple": [to_plain(v) for v in value]}
        case float() if not math.isfinite(value):
            return {"float": repr(value)}
    return value


_CLASSES = {"graph": Graph, "step": Step, "port": Port, "weight": Weight}


def from_plain(value: Any) -> Any:
    """Inverse of `to_plain`."""
    match value:
        case {"array": kind, "dims": dims, "data": data}:
            return np.frombuffer(base64.b64decode(data), kind).reshape(dims)
        case {"map": pairs}:
            return {k: from_plain(v) for k, v in pairs}
        case {"tuple": items}:
            return tuple(from_plain(v) for v in items)
        case {"float": text}:
            return float(text)
        case dict():
            ((name, parts),) = value.items()
            return _CLASSES[name](*(from_plain(p) for p in parts))
        case list():
            return [from_plain(v) for v in value]
    return value
