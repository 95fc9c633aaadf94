"""Constants of an imported file: read where they lie, one at a time, never all at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gradbase.errors import DataError, UnsupportedError
from gradbase.importing.files.graph import Weight
from gradbase.ir.tensor import DTYPES, Const, Param, Tensor
from gradbase.store.blobs import bytes_of, hash_of

Array = npt.NDArray[Any]
Load = Callable[[], Array]
CONST_ELEMENTS = 16
_EXACT_INTEGERS = 2**53
KEPT_BYTES = 1 << 20
"""Arrays up to this size stay in memory; larger ones are made again when they are stored."""
WIDENED = {"float16": "float32", "int8": "int32", "int16": "int32", "uint16": "int32",
           "uint32": "int64"}  # fmt: skip
"""dtypes that plans do not have, and one that holds all their values."""


class Constants(Mapping[str, Array]):
    """The content of `Param`s by hash, made when asked for.

    Parameters
    ----------
    path : Path, optional
        The model's file, in which weights lie.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._loads: dict[str, Load] = {}

    def __getitem__(self, key: str) -> Array:
        return self._loads[key]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._loads)

    def __len__(self) -> int:
        return len(self._loads)

    def array(self, param: Param) -> Array:
        """As a store's blobs give it."""
        return self[param.hash].reshape(param.dims)

    def load(self, weight: Weight) -> Array:
        """The content of a weight of the file.

        Raises
        ------
        UnsupportedError
            Its dtype has no place in a plan.
        """
        if weight.values is not None and not isinstance(weight.values, tuple):
            return _widened(weight.values)
        if weight.dtype == "bfloat16":
            return (
                (self._bytes(weight).view("<u2").astype(np.uint32) << 16)
                .view(np.float32)
                .reshape(weight.dims)
            )
        if weight.dtype not in DTYPES and weight.dtype not in WIDENED:
            raise UnsupportedError(f"weight `{weight.name}` is of {weight.dtype}")
        return _widened(self._bytes(weight).view(np.dtype(weight.dtype)).reshape(weight.dims))

    def _bytes(self, weight: Weight) -> Array:
        assert self._path is not None
        path = self._path.parent / weight.file if weight.file else self._path
        with path.open("rb") as file:
            data = os.pread(file.fileno(), weight.size, weight.start)
            while len(data) < weight.size:  # one call reads 2 GB at most
                more = os.pread(file.fileno(), weight.size - len(data), weight.start + len(data))
                if not more:
                    raise DataError(f"`{path}` has changed while it was imported")
                data += more
        return np.frombuffer(data, np.uint8)

    def tensor(self, load: Load) -> Tensor:
        """What `load` gives, as a node: a `Const` where small, else a `Param`."""
        found = np.ascontiguousarray(load())
        kind = str(found.dtype)
        exact = kind != "int64" or not found.size or int(np.abs(found).max()) < _EXACT_INTEGERS
        if found.size <= CONST_ELEMENTS and exact:
            return Const(tuple(float(v) for v in found.ravel()), found.shape, kind)
        key = hash_of(bytes_of(found))
        if found.nbytes <= KEPT_BYTES:
            self._loads[key] = lambda: found
        else:
            self._loads[key] = load
        return Param(key, found.shape, kind)


def plan_dtype(name: str) -> str:
    """The dtype that a weight of the file's `name` has in a plan."""
    return "float32" if name == "bfloat16" else WIDENED.get(name, name)


def _widened(values: Array) -> Array:
    wider = WIDENED.get(str(values.dtype))
    return values if wider is None else values.astype(wider)
