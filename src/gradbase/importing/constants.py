"""Constants of an imported file: read where they lie, one at a time, never all at once."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gradbase.errors import DataError, UnsupportedError
from gradbase.importing.files.graph import Weight
from gradbase.ir.tensor import DTYPES, Const, Param, Tensor
from gradbase.resources.tiling import SMALLEST_PAGE
from gradbase.store.blobs import Blobs, bytes_of, hash_of
from gradbase.store.tiles.writing import IN_USE

Array = npt.NDArray[Any]
Load = Callable[[], Array]
CONST_ELEMENTS = 16
_EXACT_INTEGERS = 2**53
KEPT_BYTES = 1 << 20
"""Arrays up to this size stay in memory; larger ones are made again when they are stored."""
_KEPT_SHARE = 16
"""All that stay are at most this part (one in …) of the memory."""
_PIECES = (256 << 10, 4 << 20)
_MEMORY_SHARE = 32
"""A piece of a large weight is at most this part (one in …) of the memory."""
_WHOLE_PIECES = 2
"""Weights of so many pieces are read as a whole, larger ones never."""
LEASED_PIECES = 8
"""What importing has in memory at once."""
WIDENED = {"float16": "float32", "int8": "int32", "int16": "int32", "uint16": "int32",
           "uint32": "int64"}  # fmt: skip
"""dtypes that plans do not have, and one that holds all their values."""
_KNOWN = (*DTYPES, *WIDENED, "bfloat16")


@dataclass(frozen=True, eq=False)
class FileWeight:
    """A weight of a file: called, its content as a whole; or piece by piece.

    Parameters
    ----------
    path : Path
        The model's file.
    weight : Weight
    """

    path: Path
    weight: Weight

    def __call__(self) -> Array:
        weight = self.weight
        if weight.values is not None and not isinstance(weight.values, tuple):
            return _widened(weight.values)
        flat = np.empty(math.prod(weight.dims), plan_dtype(weight.dtype))
        at = 0
        for part in self.parts(max(weight.size, 1)):
            flat[at : at + len(part)] = part
            at += len(part)
        return flat.reshape(weight.dims)

    @property
    def file(self) -> Path:
        """Where its bytes are."""
        return self.path.parent / self.weight.file if self.weight.file else self.path

    def parts(self, step_bytes: int) -> Iterator[Array]:
        """Its elements in C order, `step_bytes` of the file at a time.

        An array is there until `IN_USE` more have been asked for.

        Raises
        ------
        DataError
            The file has changed meanwhile.
        """
        weight, path = self.weight, self.file
        kind = np.dtype("<u2" if weight.dtype == "bfloat16" else weight.dtype)
        step = max(step_bytes // kind.itemsize * kind.itemsize, kind.itemsize)
        starts = range(0, weight.size, step)
        # New memory for each piece would cost more than reading it.
        buffers = [bytearray(min(step, weight.size)) for _ in starts[:IN_USE]]
        with path.open("rb", buffering=0) as file:
            for number, start in enumerate(starts):
                data = memoryview(buffers[number % IN_USE])[: weight.size - start]
                _fill(file.fileno(), data, weight.start + start, path)
                found = np.frombuffer(data, kind)
                if weight.dtype == "bfloat16":
                    yield (found.astype(np.uint32) << 16).view(np.float32)
                else:
                    yield _widened(found)


def _fill(handle: int, target: memoryview, start: int, path: Path) -> None:
    done = 0
    while done < len(target):  # one call reads 2 GB at most
        count = os.preadv(handle, [target[done:]], start + done)
        if not count:
            raise DataError(f"`{path}` has changed while it was imported")
        done += count


class Constants(Mapping[str, Array]):
    """The content of `Param`s by hash, made when asked for.

    Parameters
    ----------
    path : Path, optional
        The model's file, in which weights lie.
    blobs : Blobs, optional
        Where large weights go as soon as they are read, piece by piece.
    memory_bytes : int
        What importing may use.
    """

    def __init__(
        self, path: Path | None = None, blobs: Blobs | None = None, memory_bytes: int = 1 << 32
    ) -> None:
        self.path, self._blobs, self.memory_bytes = path, blobs, memory_bytes
        self.piece_bytes = max(_PIECES[0], min(_PIECES[1], memory_bytes // _MEMORY_SHARE))
        self._kept_bytes = 0
        self._loads: dict[str, Load] = {}
        self.weight_bytes = 0
        """Of all weights of the file."""

    def __getitem__(self, key: str) -> Array:
        return self._loads[key]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._loads)

    def __len__(self) -> int:
        return len(self._loads)

    def array(self, param: Param) -> Array:
        """As a store's blobs give it."""
        if param.hash in self._loads or self._blobs is None:
            return self[param.hash].reshape(param.dims)
        return self._blobs.array(param)

    def of(self, weight: Weight) -> FileWeight:
        """The content of a weight of the file.

        Raises
        ------
        UnsupportedError
            Its dtype has no place in a plan.
        """
        assert self.path is not None
        if weight.dtype not in _KNOWN:
            raise UnsupportedError(f"weight `{weight.name}` is of {weight.dtype}")
        return FileWeight(self.path, weight)

    def load(self, weight: Weight) -> Array:
        """As `of`, now and as a whole."""
        return self.of(weight)()

    def tensor(self, load: Load) -> Tensor:
        """What `load` gives, as a node: a `Const` where small, else a `Param`."""
        if isinstance(load, FileWeight) and self._is_large(load.weight):
            return self._stored(load)
        found = np.ascontiguousarray(load())
        kind = str(found.dtype)
        exact = kind != "int64" or not found.size or int(np.abs(found).max()) < _EXACT_INTEGERS
        if found.size <= CONST_ELEMENTS and exact:
            return Const(tuple(float(v) for v in found.ravel()), found.shape, kind)
        key = hash_of(bytes_of(found))
        if found.nbytes <= KEPT_BYTES and self._kept_bytes < self.memory_bytes // _KEPT_SHARE:
            self._loads[key] = lambda: found
            self._kept_bytes += found.nbytes
        else:
            self._loads[key] = load
        return Param(key, found.shape, kind)

    def _is_large(self, weight: Weight) -> bool:
        large = weight.size > _WHOLE_PIECES * self.piece_bytes or self._in_tiles(weight)
        return self._blobs is not None and large

    def _stored(self, load: FileWeight) -> Param:
        """A large weight, on its way from the file into the store."""
        assert self._blobs is not None
        blobs, page_bytes = self._blobs, self._blobs.page_bytes
        weight, kind = load.weight, plan_dtype(load.weight.dtype)
        made: str | None = None
        if kind == weight.dtype:
            made = blobs.copy_tiles(load.file, weight.start, weight.dims, kind, page_bytes)
        if made is None:
            parts = load.parts(self.piece_bytes)
            made = blobs.put_tiles(parts, weight.dims, kind, page_bytes, by_content=False)
        return Param(made, weight.dims, kind)

    def _in_tiles(self, weight: Weight) -> bool:
        """Whether a smaller weight will be read in tiles, as all of them together do not fit."""
        return (
            weight.size > SMALLEST_PAGE
            and len(weight.dims) > 1
            and weight.values is None
            and self.weight_bytes > self.memory_bytes
        )


def plan_dtype(name: str) -> str:
    """The dtype that a weight of the file's `name` has in a plan."""
    return "float32" if name == "bfloat16" else WIDENED.get(name, name)


def _widened(values: Array) -> Array:
    wider = WIDENED.get(str(values.dtype))
    return values if wider is None else values.astype(wider)
