"""Parts of an ONNX network that stay whole, written as ONNX models of their own."""

from __future__ import annotations

import importlib.util
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradbase.errors import UnsupportedError
from gradbase.importing.building import BATCHES, Builder, Value, size_of
from gradbase.importing.files.child import MEMORY_BYTES
from gradbase.importing.files.graph import Step
from gradbase.importing.files.limited import ask
from gradbase.ir.imported import Opaque
from gradbase.ir.shapes import Shape
from gradbase.ir.tensor import DTYPES, Tensor

_CODES = {"float32": 1, "uint8": 2, "int32": 6, "int64": 7, "text": 8, "bool": 9, "float64": 11}
_IR_VERSION = 8
WHOLE_BYTES = 1 << 30
"""A file above this size cannot stay whole: its program would be loaded at once."""


def available() -> bool:
    """Whether ONNX Runtime is installed."""
    return importlib.util.find_spec("onnxruntime") is not None


def require(what: str, why: str) -> None:
    """UnsupportedError where there is nothing to run `what` with."""
    if not available():
        raise UnsupportedError(
            f"{what} has no operator of ours ({why}), and ONNX Runtime, which could run it, is "
            "not installed",
            hint="pip install 'gradbase[onnx]'",
        )


# -- writing ---------------------------------------------------------------------------------------


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    made = bytearray()
    while value >= 0x80:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])


def _field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _port(name: str, dtype: str, rank: int) -> bytes:
    sizes = b"".join(_field(1, _field(2, f"{name}_{i}")) for i in range(rank))
    tensor = _field(1, _CODES[dtype]) + _field(2, sizes)
    return _field(1, name) + _field(2, _field(1, tensor))


def _tensor(name: str, content: Any) -> bytes:
    dims = b"".join(_field(1, int(n)) for n in content.shape)
    kind = _field(2, _CODES[str(content.dtype)])
    return dims + kind + _field(8, name) + _field(9, np.ascontiguousarray(content).tobytes())


def one_operator(
    data: bytes,
    step: Step,
    opsets: Mapping[str, int],
    values: Mapping[str, Value],
    builder: Builder,
) -> bytes:
    """The operator at `step` (`data`: as it stands in the file) as a model of its own."""
    graph = _field(1, data) + _field(2, "part")
    for name in dict.fromkeys(n for n in step.inputs if n):
        value = values[name]
        if builder.is_constant(value):
            graph += _field(5, _tensor(name, builder.content(value)))
        else:
            graph += _field(11, _port(name, value.dtype, value.rank))
    for name in step.outputs:
        if name:
            graph += _field(12, _field(1, name))
    versions = b"".join(
        _field(8, _field(1, domain) + _field(2, version)) for domain, version in opsets.items()
    )
    return _field(1, _IR_VERSION) + _field(7, graph) + versions


# -- what comes out --------------------------------------------------------------------------------


Feeds = Sequence[tuple[str, str, tuple[int, ...]]]


def asked_shapes(
    program: bytes, feeds: tuple[Feeds, Feeds], outputs: Sequence[str]
) -> dict[str, Any]:
    """(dtype, shape) of each output for both batch sizes, found by running it once in a child."""
    with tempfile.TemporaryDirectory() as folder:
        model, request = Path(folder, "part.onnx"), Path(folder, "request.json")
        model.write_bytes(program)
        asked = {"path": os.fspath(model), "feeds": feeds, "outputs": list(outputs)}
        request.write_text(json.dumps(asked))
        found = ask("shapes", request, MEMORY_BYTES + 4 * len(program))
    names = list(outputs) or found["names"]
    return {n: pair for n, *pair in zip(names, *found["shapes"], strict=True)}


@dataclass(frozen=True)
class Part:
    """A part that stays whole.

    `inputs` says what each input of `program` reads, `dims` its dtype and shape (-k: k times the
    batch); `batch` is the rows of every call, 0 for any number.
    """

    program: bytes
    inputs: Mapping[str, Tensor]
    dims: Mapping[str, tuple[str, Shape]]
    operators: str
    batch: int = 0

    def feeds(self, rows: int) -> Feeds:
        """Names, dtypes and sizes of the inputs for `rows` rows."""
        return [
            (name, kind, tuple(-d * rows if d < 0 else d for d in shape))
            for name, (kind, shape) in self.dims.items()
        ]


def kept_whole(builder: Builder, part: Part, outputs: Sequence[str]) -> dict[str, Tensor]:
    """An `Opaque` for each of `outputs` (none named: all) that is a tensor."""
    sizes = (part.batch, part.batch) if part.batch else BATCHES
    found = asked_shapes(part.program, (part.feeds(sizes[0]), part.feeds(sizes[1])), outputs)
    blob = builder.constants.tensor(lambda: np.frombuffer(part.program, np.uint8))
    made: dict[str, Tensor] = {}
    for name, (one, other) in found.items():
        if one is None or other is None or one[0] not in DTYPES:
            continue
        pairs = list(zip(one[1], other[1], strict=True))
        if part.batch:
            shape = tuple(-1 if i == 0 and a == part.batch else a for i, (a, _) in enumerate(pairs))
        else:
            shape = tuple(size_of(a, b) for a, b in pairs)
        inputs, names = tuple(part.inputs.values()), tuple(part.inputs)
        made[name] = Opaque(blob, inputs, names, name, shape, one[0], part.operators, part.batch)
    return made
