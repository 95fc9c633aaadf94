"""An ONNX file as a `Graph`, by our own reader of its wire format (onnx.proto of ONNX 1.x)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gradbase.errors import DataError, UnsupportedError
from gradbase.importing.files.graph import (
    INLINE_BYTES,
    MOST_NODES,
    MOST_WEIGHTS,
    Graph,
    Port,
    Step,
    Weight,
    check_size,
    checked_dims,
)
from gradbase.importing.files.wire import BYTES, FIXED32, Span, Wire, float_of, signed, varints

DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
    8: "text", 9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64",
    16: "bfloat16",
}  # fmt: skip
"""TensorProto.DataType; the rest (complex, 8 and 4 bits) stays opaque."""
_ITEM = {"float32": 4, "uint8": 1, "int8": 1, "uint16": 2, "int16": 2, "int32": 4, "int64": 8,
         "bool": 1, "float16": 2, "float64": 8, "uint32": 4, "uint64": 8,
         "bfloat16": 2}  # fmt: skip
_MOST_LIST = 1 << 28
"""Bytes of one attribute, and of numbers written into the graph itself."""
STANDARD = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "ai.onnx.training")
"""Domains of operators that ONNX Runtime has without a library from elsewhere."""


class OnnxReader:
    """Reads one file.

    Parameters
    ----------
    path : str
    """

    def __init__(self, path: str) -> None:
        self.wire = Wire(path)
        self.folder = Path(path).resolve().parent

    def graph(self) -> Graph:
        """What the file says.

        Raises
        ------
        DataError
            The file is damaged, or weights lie outside of its folder.
        """
        graphs: list[Span] = []
        opsets: dict[str, int] = {}
        for number, kind, value in self.wire.fields(self.wire.whole):
            if number == 7 and kind == BYTES and not isinstance(value, int):
                graphs.append(value)
            elif number == 8 and kind == BYTES:
                domain, version = self._opset(value)
                opsets[domain] = version
        if len(graphs) != 1 or not opsets:
            raise DataError("the file holds no ONNX model: a graph and a version of its operators")
        return self._graph(graphs[0], opsets)

    def _opset(self, span: Any) -> tuple[str, int]:
        domain, version = "", 1
        for number, _, value in self.wire.fields(span):
            if number == 1:
                domain = self.wire.text(value)
            elif number == 2 and isinstance(value, int):
                version = signed(value)
        return "" if domain == "ai.onnx" else domain, version

    def _graph(self, span: Span, opsets: dict[str, int]) -> Graph:
        steps: list[Step] = []
        weights: list[Weight] = []
        inputs: list[Port] = []
        outputs: list[Port] = []
        for number, kind, value in self.wire.fields(span):
            if kind != BYTES or isinstance(value, int):
                continue
            match number:
                case 1:
                    steps.append(self._step(value))
                case 5:
                    weights.append(self.tensor(value))
                case 11:
                    inputs.append(self._port(value))
                case 12:
                    outputs.append(self._port(value))
                case 15:
                    raise UnsupportedError("sparse weights have no place in a plan")
                case _:
                    pass
            if len(steps) > MOST_NODES or len(weights) > MOST_WEIGHTS:
                raise DataError(f"the file has more than {MOST_NODES:,} operators or weights")
        named = {w.name for w in weights}
        asked = tuple(p for p in inputs if p.name not in named)
        return Graph(asked, tuple(outputs), tuple(steps), tuple(weights), opsets)

    # -- nodes -------------------------------------------------------------------------------------

    def _step(self, span: Span) -> Step:
        inputs: list[str] = []
        outputs: list[str] = []
        texts = {3: "", 4: "", 7: ""}
        attributes: dict[str, Any] = {}
        for number, kind, value in self.wire.fields(span):
            if kind != BYTES or isinstance(value, int):
                continue
            if number in (1, 2):
                (inputs if number == 1 else outputs).append(self.wire.text(value))
            elif number in texts:
                texts[number] = self.wire.text(value)
            elif number == 5:
                name, found = self._attribute(value)
                attributes[name] = found
        domain = "" if texts[7] == "ai.onnx" else texts[7]
        return Step(texts[4], domain, texts[3], tuple(inputs), tuple(outputs), attributes, span)

    def _attribute(self, span: Span) -> tuple[str, Any]:
        name, found = "", None
        lists: dict[int, list[Any]] = {}
        fields = self.wire.fields(span)
        for number, kind, value in fields:
            match number:
                case 1:
                    name = self.wire.text(value)
                case 2 if kind == FIXED32:
                    found = float_of(self.wire.read(value, 4))
                case 3 if isinstance(value, int):
                    found = signed(value)
                case 4:
                    found = self.wire.text(value)
                case 5 if not isinstance(value, int):
                    found = self.tensor(value)
                case 6 | 11:
                    found = {"graph": ""}  # kept whole: its node says where it lies
                case 7 | 8 if kind != BYTES:
                    fields.close()
                    return self._numbers(span)
                case 7 | 8:
                    data = self.wire.read(value, _MOST_LIST)
                    found = np.frombuffer(data, "<f4") if number == 7 else varints(data)
                case 9:
                    lists.setdefault(number, []).append(self.wire.text(value))
                case 10 if not isinstance(value, int):
                    lists.setdefault(number, []).append(self.tensor(value))
                case _:
                    pass
        return name, next(iter(lists.values()), found)

    def _numbers(self, span: Span) -> tuple[str, Any]:
        """An attribute whose list is written element by element: ONNX files have millions."""
        data = self.wire.read(span, _MOST_LIST)
        name, at = "", 0
        for number, kind, value in self.wire.fields(span):
            if number == 1:
                name = self.wire.text(value)
            elif number in (7, 8) and kind != BYTES:
                size = 5 if number == 7 else None
                tag = bytes([number << 3 | kind])
                start = (
                    (value[0] - span[0] - 1) if not isinstance(value, int) else data.index(tag, at)
                )
                return name, _run(data[start:], tag[0], size)
            if not isinstance(value, int):
                at = value[1] - span[0]
        return name, None

    # -- tensors -----------------------------------------------------------------------------------

    def tensor(self, span: Span) -> Weight:
        """A TensorProto: where its content lies."""
        dims: list[int] = []
        kind, name, outside = 0, "", False
        raw: Span | None = None
        listed: list[tuple[int, int, Any]] = []
        external: dict[str, str] = {}
        for number, wire, value in self.wire.fields(span):
            match number:
                case 1:
                    dims += self._sizes(value)
                case 2 if isinstance(value, int):
                    kind = value
                case 8:
                    name = self.wire.text(value)
                case 9 if not isinstance(value, int):
                    raw = value
                case 13:
                    external |= self._entry(value)
                case 14:
                    outside = value == 1
                case 4 | 5 | 6 | 7 | 10 | 11:
                    listed.append((number, wire, value))
                case _:
                    pass
        dtype = DTYPES.get(kind, f"type {kind}")
        shape = checked_dims(dims, name)
        if outside:
            return self._outside(Weight(name, dtype, shape), external)
        if raw is not None:
            found = Weight(name, dtype, shape, "", raw[0], raw[1] - raw[0])
            check_size(found, _ITEM.get(dtype, found.size), self.wire.size)
            return self._inlined(found)
        return Weight(name, dtype, shape, values=self._listed(listed, dtype, shape, name))

    def _sizes(self, value: int | Span) -> list[int]:
        if isinstance(value, int):
            return [signed(value)]
        return [int(v) for v in varints(self.wire.read(value, 1 << 10))]

    def _inlined(self, found: Weight) -> Weight:
        if found.size > INLINE_BYTES or found.dtype not in _ITEM or found.dtype == "bfloat16":
            return found
        data = self.wire.read((found.start, found.start + found.size), INLINE_BYTES)
        values = np.frombuffer(data, found.dtype).reshape(found.dims)
        return Weight(found.name, found.dtype, found.dims, "", found.start, found.size, values)

    def _listed(
        self, parts: list[tuple[int, int, Any]], dtype: str, dims: tuple[int, ...], name: str
    ) -> Any:
        """Content that is written as numbers or texts of the message itself."""
        if dtype == "text":
            return tuple(self.wire.text(value) for number, _, value in parts if number == 6)
        found: list[Any] = []
        for number, kind, value in parts:
            if isinstance(value, int):
                found.append(np.array([signed(value)]))
                continue
            data = self.wire.read(value, _MOST_LIST)
            if number in (4, 10):
                found.append(np.frombuffer(data, "<f4" if number == 4 else "<f8"))
            elif kind == BYTES:
                found.append(varints(data))
        flat = np.concatenate(found) if found else np.zeros(0)
        if len(flat) != int(np.prod(dims, dtype=np.int64)) or dtype not in _ITEM:
            raise DataError(f"weight `{name[:80]}` {dtype}{list(dims)} has {len(flat):,} elements")
        if dtype in ("float16", "bfloat16"):  # as their bits
            return flat.astype(np.uint16).view(np.float16).reshape(dims)
        return flat.astype(dtype).reshape(dims)

    def _entry(self, span: Any) -> dict[str, str]:
        parts = {number: self.wire.text(value) for number, _, value in self.wire.fields(span)}
        return {parts.get(1, ""): parts.get(2, "")}

    def _outside(self, weight: Weight, said: dict[str, str]) -> Weight:
        """A weight in a file of its own, which lies in the model's folder."""
        location = said.get("location", "")
        named = location if "\0" not in location else ""
        path = (self.folder / named).resolve()
        inside = self.folder in path.parents
        if not named or Path(named).is_absolute() or not inside:
            raise DataError(
                f"weight `{weight.name[:80]}` lies in `{location[:200]}`, outside of the folder of "
                "the model",
                hint="weights of a model stand beside its file",
            )
        if not path.is_file():
            raise DataError(
                f"weight `{weight.name[:80]}` lies in the file `{location[:200]}`, which is not "
                "there",
                hint="keep the files of a model together",
            )
        numbers = [said.get(k, "0") or "0" for k in ("offset", "length")]
        if not all(n.isdecimal() and len(n) < 19 for n in numbers):
            raise DataError(f"weight `{weight.name[:80]}` lies at byte {numbers[0][:40]}")
        start, size = (int(n) for n in numbers)
        item = _ITEM.get(weight.dtype)
        if item is None:
            raise UnsupportedError(f"weights of {weight.dtype} in a file of their own")
        size = size or int(np.prod(weight.dims, dtype=np.int64)) * item
        found = Weight(weight.name, weight.dtype, weight.dims, location, start, size)
        return check_size(found, item, path.stat().st_size)

    # -- inputs and outputs ------------------------------------------------------------------------

    def _port(self, span: Span) -> Port:
        name, kind = "", None
        for number, _, value in self.wire.fields(span):
            if number == 1:
                name = self.wire.text(value)
            elif number == 2:
                kind = value
        if kind is None:
            return Port(name, "", None)
        for number, _, value in self.wire.fields(kind):  # type: ignore[arg-type]
            if number == 1 and not isinstance(value, int):
                return self._tensor_port(name, value)
        return Port(name, "other", None)

    def _tensor_port(self, name: str, span: Span) -> Port:
        dtype, dims = "", None
        for number, _, value in self.wire.fields(span):
            if number == 1 and isinstance(value, int):
                dtype = DTYPES.get(value, f"type {value}")
            elif number == 2 and not isinstance(value, int):
                sizes = [d for n, _, d in self.wire.fields(value) if n == 1]
                dims = tuple(self._size(d) for d in sizes)
        return Port(name, dtype, dims)

    def _size(self, span: Any) -> int | None:
        for number, _, value in self.wire.fields(span):
            if number == 1 and isinstance(value, int):
                return signed(value) if signed(value) > 0 else None
        return None


def _run(data: bytes, tag: int, item: int | None) -> Any:
    """A run of ``tag value``: `item` bytes each (floats), None: varints."""
    if item is None:
        numbers = varints(data)
        stop = _stop(numbers[0::2] != tag, len(numbers) // 2)
        return numbers[1::2][:stop]
    rows = len(data) // item
    table = np.frombuffer(data, np.uint8, rows * item).reshape(rows, item)
    stop = _stop(table[:, 0] != tag, rows)
    return np.frombuffer(table[:stop, 1:].tobytes(), "<f4")


def _stop(other: Any, rows: int) -> int:
    found = np.flatnonzero(other[:rows])
    return int(found[0]) if len(found) else rows
