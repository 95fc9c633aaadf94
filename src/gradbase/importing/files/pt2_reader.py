"""An exported program of torch (``.pt2``) as a `Graph`: its archive's JSON and raw weights.

``torch.export.load`` evaluates the text of symbols and unpickles: it is never called. Here a
symbol is a text that matches a pattern, weights are bytes at a place in the file, and nothing else
is read.
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from gradbase.errors import DataError, UnsupportedError
from gradbase.importing.files.graph import (
    INLINE_BYTES,
    MOST_NODES,
    Graph,
    Port,
    Step,
    Weight,
    check_size,
    checked_dims,
)

DTYPES = {1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32",
          8: "float64", 12: "bool", 13: "bfloat16"}  # fmt: skip
"""torch's ScalarType in its export schema."""
_ITEM = {"uint8": 1, "int8": 1, "int16": 2, "int32": 4, "int64": 8, "float16": 2, "float32": 4,
         "float64": 8, "bool": 1, "bfloat16": 2}  # fmt: skip
SCHEMA = 8
"""The major version of torch's export schema that is read."""
_MOST_JSON = 1 << 28
_LOCAL_HEADER = 30
_SYMBOL = re.compile(r"(?:Symbol\(')?[su]\d{1,9}(?:'(?:, (?:positive|integer)=True){0,2}\))?\Z")
_RESAVE = "save it again: torch.export.save(program, 'model.pt2') of torch 2.9 or later"


class Pt2Reader:
    """Reads one archive.

    Parameters
    ----------
    path : str
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.size = self.path.stat().st_size
        try:
            self.archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise DataError(f"the file is no archive of torch: {error}") from error
        self.entries = {i.filename.partition("/")[2]: i for i in self.archive.infolist()}

    def graph(self) -> Graph:
        """What the file says.

        Raises
        ------
        DataError
            It is damaged or no exported program.
        UnsupportedError
            It holds what is not read: pickles, compressed parts, another version.
        """
        if "models/model.json" not in self.entries:
            raise UnsupportedError("the archive has no models/model.json", hint=_RESAVE)
        if self._text("byteorder", 16).strip() not in ("little", ""):
            raise UnsupportedError("its weights are not little-endian")
        try:
            program = json.loads(self._text("models/model.json", _MOST_JSON))
            version = program["schema_version"]["major"]
            if version != SCHEMA:
                raise UnsupportedError(
                    f"the program has version {str(version)[:20]} of torch's schema, {SCHEMA} is "
                    "read",
                    hint=_RESAVE,
                )
            return self._program(program["graph_module"])
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"models/model.json is not as torch writes it: {error!r}"[:300]
            ) from error

    def _program(self, module: Any) -> Graph:
        graph, signature = module["graph"], module["signature"]
        if len(graph["nodes"]) > MOST_NODES:
            raise DataError(f"the program has more than {MOST_NODES:,} operators")
        inputs: list[Port] = []
        weights: list[Weight] = []
        stored = self._stored("data/weights/model_weights_config.json", "data/weights/")
        stored |= self._stored("data/constants/model_constants_config.json", "data/constants/")
        for spec in signature["input_specs"]:
            ((kind, body),) = spec.items()
            if kind == "user_input":
                inputs.append(self._port(body["arg"], graph["tensor_values"]))
                continue
            source = next((v for k, v in body.items() if k.endswith("_name")), None)
            if kind not in ("parameter", "buffer", "tensor_constant") or source not in stored:
                raise UnsupportedError(f"the program needs `{str(source or kind)[:80]}`, no tensor")
            found = stored[source]
            name = body["arg"]["name"]
            weights.append(Weight(name, *list(vars(found).values())[1:]))
        outputs = [self._output(spec) for spec in signature["output_specs"]]
        steps = tuple(_step(node) for node in graph["nodes"])
        return Graph(tuple(inputs), tuple(outputs), steps, tuple(weights))

    def _output(self, spec: Any) -> Port:
        ((kind, body),) = spec.items()
        if kind != "user_output":
            raise UnsupportedError(
                f"the program changes its buffers or its input when it predicts ({str(kind)[:40]})",
                hint="keep state out of forward(), and export the module in eval mode",
            )
        return Port(body["arg"]["as_tensor"]["name"], "", None)

    def _port(self, arg: Any, values: Any) -> Port:
        if "as_tensor" not in arg:
            raise UnsupportedError(f"an input of the program is no tensor but {str(arg)[:60]}")
        name = arg["as_tensor"]["name"]
        meta = values[name]
        return Port(name, _dtype(meta["dtype"]), tuple(_size(s) for s in meta["sizes"]))

    # -- weights -----------------------------------------------------------------------------------

    def _stored(self, config: str, folder: str) -> dict[str, Weight]:
        if config not in self.entries:
            return {}
        found: dict[str, Weight] = {}
        for name, entry in json.loads(self._text(config, _MOST_JSON))["config"].items():
            if entry["use_pickle"]:
                raise UnsupportedError(
                    f"`{name[:80]}` is stored as a pickle, which would run code when it is read",
                    hint=_RESAVE,
                )
            found[name] = self._weight(name, folder + entry["path_name"], entry["tensor_meta"])
        return found

    def _weight(self, name: str, path: str, meta: Any) -> Weight:
        dims = checked_dims([_plain_size(s) for s in meta["sizes"]], name)
        dtype = _dtype(meta["dtype"])
        strides = [_plain_size(s) for s in meta["strides"]]
        if strides != _row_major(dims, strides) or _plain_size(meta["storage_offset"]):
            raise UnsupportedError(
                f"weight `{name[:80]}` is not stored row by row (strides {strides})",
                hint="make it contiguous() before the export",
            )
        start, size = self._place(path)
        needed = math.prod(dims) * _ITEM[dtype]
        if size < needed:
            raise DataError(f"weight `{name[:80]}` needs {needed:,} bytes, {path} has {size:,}")
        found = check_size(Weight(name, dtype, dims, "", start, needed), _ITEM[dtype], self.size)
        if needed > INLINE_BYTES or dtype == "bfloat16":
            return found
        with self.path.open("rb") as file:
            data = os.pread(file.fileno(), needed, start)
        values = np.frombuffer(data, dtype).reshape(dims)
        return Weight(name, dtype, dims, "", start, needed, values)

    def _place(self, path: str) -> tuple[int, int]:
        """Where the bytes of an entry lie, which is stored as it is."""
        entry = self.entries.get(path)
        if entry is None:
            raise DataError(f"the archive has no {path[:100]}")
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise UnsupportedError(f"{path[:100]} is compressed", hint=_RESAVE)
        with self.path.open("rb") as file:
            header = os.pread(file.fileno(), _LOCAL_HEADER, entry.header_offset)
        if len(header) < _LOCAL_HEADER or header[:4] != b"PK\x03\x04":
            raise DataError(f"{path[:100]} is not where the archive says")
        names, extra = struct.unpack("<HH", header[26:30])
        start = entry.header_offset + _LOCAL_HEADER + names + extra
        if start + entry.file_size > self.size:
            raise DataError(f"{path[:100]} ends behind the end of the file")
        return start, entry.file_size

    def _text(self, path: str, most: int) -> str:
        if path not in self.entries:
            return ""
        start, size = self._place(path)
        if size > most:
            raise DataError(f"{path} has {size:,} bytes, at most {most:,} are read")
        with self.path.open("rb") as file:
            return os.pread(file.fileno(), size, start).decode("utf-8", "replace")


def _row_major(dims: tuple[int, ...], strides: list[int]) -> list[int]:
    """Strides of a contiguous tensor; those of sizes 0 and 1 may be any."""
    found: list[int] = []
    step = 1
    for size, own in zip(reversed(dims), reversed(strides), strict=True):
        found.append(own if size <= 1 or 0 in dims else step)
        step *= size
    return found[::-1]


def _dtype(code: Any) -> str:
    if code not in DTYPES:
        raise UnsupportedError(f"tensors of torch's type {str(code)[:20]} have no place in a plan")
    return DTYPES[code]


def _plain_size(size: Any) -> int:
    found = size.get("as_int")
    if not isinstance(found, int):
        raise DataError(f"the size of a weight is a number, found {str(size)[:80]}")
    return found


def _size(size: Any) -> int | None:
    """A number, or None for a symbol; any other text is refused, not evaluated."""
    if isinstance(size.get("as_int"), int):
        return int(size["as_int"])
    text = size["as_expr"]["expr_str"]
    if not isinstance(text, str) or not _SYMBOL.match(text):
        raise UnsupportedError(f"a size is a number or a plain symbol, found `{str(text)[:80]}`")
    return None


# -- operators -------------------------------------------------------------------------------------


def _step(node: Any) -> Step:
    args: list[Any] = []
    named: dict[str, Any] = {}
    for item in node["inputs"]:
        value = _argument(item["arg"])
        if item["kind"] == 2:
            named[str(item["name"])] = value
        else:
            args.append(value)
    outputs = tuple(name for out in node["outputs"] for name in _names(out))
    several = any(k.endswith("tensors") for out in node["outputs"] for k in out)
    layers = str(node.get("metadata", {}).get("nn_module_stack", "")).split(";")[-1].split(",")[0]
    path = layers.removeprefix("L__self___").removeprefix("L__self__") or str(node.get("name", ""))
    attributes = {"args": args, "kwargs": named, "several": several or len(outputs) > 1}
    return Step(str(node["target"]), "aten", path[:200], (), outputs, attributes)


def _names(out: Any) -> list[str]:
    ((kind, body),) = out.items()
    match kind:
        case "as_tensor":
            return [str(body["name"])]
        case "as_sym_int" | "as_sym_bool" | "as_sym_float":
            return [str(body["as_name"])]
        case "as_tensors":
            return [str(t["name"]) for t in body]
        case "as_optional_tensors":
            return [str(t["as_tensor"]["name"]) if "as_tensor" in t else "" for t in body]
        case "as_none":
            return [""]
        case _:
            raise UnsupportedError(
                f"an operator gives {str(kind)[:40]}, which has no place in a plan"
            )


def _argument(arg: Any) -> Any:
    """Plain data; ``("tensor", name)``, ``("size", name)`` and ``("dtype", name)`` refer."""
    ((kind, body),) = arg.items()
    match kind:
        case "as_tensor":
            return ("tensor", str(body["name"]))
        case "as_tensors":
            return [("tensor", str(t["name"])) for t in body]
        case "as_optional_tensor" | "as_sym_int" | "as_sym_float" | "as_sym_bool":
            return _argument(body) if "as_name" not in body else ("size", str(body["as_name"]))
        case "as_optional_tensors" | "as_sym_ints" | "as_sym_floats":
            return [("size", str(t["as_name"])) if "as_name" in t else _argument(t) for t in body]
        case "as_int" | "as_float" | "as_bool" | "as_string" | "as_ints" | "as_floats" | "as_bools":
            return body
        case "as_scalar_type":
            return ("dtype", _dtype(body))
        case "as_none" | "as_device" | "as_layout" | "as_memory_format":
            return None
        case _:
            raise UnsupportedError(f"an argument {str(kind)[:40]} has no place in a plan")
