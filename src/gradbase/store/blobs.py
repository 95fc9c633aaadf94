"""Immutable bytes named by their BLAKE3 hash, as files.

A blob above 1 MB is cut by content into chunks, which are blobs themselves; the file
``<hash>.chunks`` lists them, so blobs that differ little share most of their files.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from gradbase.errors import StoreError
from gradbase.ir.tensor import Param
from gradbase.store.chunks import cut
from gradbase.store.files import read_into, reported, write_files
from gradbase.store.folder import Folder, Lease

NUMPY_TYPES = {
    "float32": "<f4", "float64": "<f8", "int64": "<i8", "int32": "<i4", "bool": "|b1",
    "uint8": "|u1",
}  # fmt: skip
HEADER = "gradbase chunks 1"
LIST = ".chunks"

_HASH = re.compile(r"[0-9a-f]{64}\Z")


class Blobs:
    """Blobs of one store.

    Parameters
    ----------
    folder : Folder
    read_only : bool
        `put` is refused.
    users_of : callable
        Names of the models that a hash belongs to, for messages.
    """

    def __init__(
        self, folder: Folder, *, read_only: bool, users_of: Callable[[str], Sequence[str]]
    ) -> None:
        self.folder, self.read_only, self._users_of = folder, read_only, users_of
        self.lease = Lease()
        """Protects what is put outside of a commit, until this store names it or closes."""

    @property
    def path(self) -> Path:
        """Folder of the files."""
        return self.folder.blobs

    def put(self, data: bytes | bytearray | memoryview) -> str:
        """Store bytes durably; returns their BLAKE3 hash (hex). Storing twice costs a read."""
        return self.put_many([data])[0]

    def put_many(
        self, datas: Iterable[bytes | bytearray | memoryview], lease: Lease | None = None
    ) -> list[str]:
        """Store several blobs durably at once; returns their hashes in order.

        Raises
        ------
        StoreError
            The store is read-only, or the disk is full or not writable; nothing is half written.
        """
        if self.read_only:
            raise StoreError(
                "the database is open read-only: no blob can be stored",
                hint="connect without read_only=True",
            )
        self.folder.prepare()
        hashes: list[str] = []
        files: dict[Path, memoryview] = {}
        for data in datas:
            whole = memoryview(data).cast("B")
            hashes.append(hash_of(whole))
            files |= self._files(hashes[-1], whole)
        self._protect(files, self.lease if lease is None else lease)
        missing = [(p, d) for p, d in files.items() if not _is_there(p, d)]
        if missing:
            size = sum(len(d) for _, d in missing)
            with reported(f"writing {size:,} bytes of blobs to {self.path}"):
                write_files(missing, self.folder.halves)
        return hashes

    def get(self, blob_hash: str) -> memoryview:
        """The bytes of a blob, verified.

        Raises
        ------
        StoreError
            The blob, or the whole folder, is missing or damaged; names blob and models.
        """
        return memoryview(self._read(blob_hash)).toreadonly()

    def array(self, param: Param) -> NDArray[Any]:
        """A parameter as an array of ``param.dims``, the caller's own copy."""
        data = self._read(param.hash)
        if len(data) != param.size_bytes:
            raise StoreError(
                f"blob {param.hash} has {len(data):,} bytes; {param.kind}{list(param.dims)} "
                f"needs {param.size_bytes:,}{self._used_by(param.hash)}",
                hint="run `gradbase fsck`",
            )
        return np.frombuffer(data, NUMPY_TYPES[param.kind]).reshape(param.dims)

    def exists(self, blob_hash: str) -> bool:
        """Whether files for the hash are there (unverified)."""
        plain = self.path / checked(blob_hash)
        return plain.is_file() or plain.with_name(blob_hash + LIST).is_file()

    def chunks(self, blob_hash: str) -> list[str]:
        """Hashes of the chunks of a blob; () for one that is a single file or unreadable."""
        with contextlib.suppress(OSError, StoreError):
            return [h for h, _ in self._list(checked(blob_hash))]
        return []

    def damage(self, blob_hash: str) -> str | None:
        """What is wrong with a blob (``missing`` or ``damaged``, and where), None if nothing."""
        try:
            if not self.exists(blob_hash):
                return "missing"
            self._read(blob_hash)
        except StoreError as error:
            return error.message
        return None

    def _files(self, blob_hash: str, whole: memoryview) -> dict[Path, memoryview]:
        chunks = cut(whole)
        if len(chunks) == 1:
            return {self.path / blob_hash: whole}
        named = [(hash_of(chunk), chunk) for chunk in chunks]
        lines = [HEADER, *(f"{h} {len(chunk)}" for h, chunk in named)]
        text = memoryview(("\n".join(lines) + "\n").encode())
        return {self.path / h: c for h, c in named} | {self.path / (blob_hash + LIST): text}

    def _protect(self, files: Iterable[Path], lease: Lease) -> None:
        # Under the lock that deletion holds: after this, no file found to exist disappears.
        with self.folder.lock:
            self.folder.leases.add(lease)
            lease.hashes.update(p.name.removesuffix(LIST) for p in files)

    def _read(self, blob_hash: str) -> bytearray:
        plain = self.path / checked(blob_hash)
        try:
            if plain.is_file():
                parts = [(blob_hash, plain.stat().st_size)]
            else:
                parts = self._list(blob_hash)
            data = bytearray(sum(size for _, size in parts))
            start = 0
            for name, size in parts:
                if not read_into(self.path / name, memoryview(data)[start : start + size]):
                    raise self._damaged(blob_hash, f"chunk {name} has another size")
                start += size
        except FileNotFoundError as error:
            raise self._missing(blob_hash) from error
        except StoreError:
            raise
        except OSError as error:
            raise self._damaged(blob_hash, str(error)) from error
        if hash_of(memoryview(data)) != blob_hash:
            raise self._damaged(blob_hash, "its content has another hash")
        return data

    def _list(self, blob_hash: str) -> list[tuple[str, int]]:
        text = (self.path / (blob_hash + LIST)).read_bytes().decode("ascii", "replace")
        header, *lines = text.splitlines() or [""]
        parts = [line.split(" ") for line in lines]
        good = all(len(p) == 2 and _HASH.match(p[0]) and p[1].isdecimal() for p in parts)
        if header != HEADER or not good:
            raise self._damaged(blob_hash, "its list of chunks is unreadable")
        return [(name, int(size)) for name, size in parts]

    def _used_by(self, blob_hash: str) -> str:
        users = self._users_of(blob_hash)
        return f", used by {', '.join(users)}" if users else ""

    def _missing(self, blob_hash: str) -> StoreError:
        if not self.path.is_dir():
            return StoreError(
                f"the folder {self.folder.root} with the models' weights is missing; the database "
                f"was probably copied without it (wanted: blob {blob_hash}"
                f"{self._used_by(blob_hash)})",
                hint=f"copy the folder too, under the name {self.folder.root.name}",
            )
        return StoreError(
            f"blob {blob_hash} is missing in {self.path}{self._used_by(blob_hash)}",
            hint="run `gradbase fsck`; restore the file from a backup or train the model again",
        )

    def _damaged(self, blob_hash: str, why: str) -> StoreError:
        return StoreError(
            f"blob {blob_hash} in {self.path} is damaged: {why}{self._used_by(blob_hash)}",
            hint="run `gradbase fsck`; restore the file from a backup or train the model again",
        )


def checked(blob_hash: str) -> str:
    """The hash itself; StoreError where it is none (it becomes part of a path)."""
    if not _HASH.match(blob_hash):
        raise StoreError(
            f"`{blob_hash[:80]}` is no BLAKE3 hash (64 digits 0-9a-f)", hint="run `gradbase fsck`"
        )
    return blob_hash


def hash_of(data: memoryview) -> str:
    """BLAKE3 of `data`, hex."""
    return blake3(data).hexdigest()


def bytes_of(array: NDArray[Any]) -> memoryview:
    """The little-endian C-order bytes of an array, whose BLAKE3 is `Param.hash`."""
    plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return memoryview(plain.reshape(-1).view(np.uint8).data)


def _is_there(path: Path, data: memoryview) -> bool:
    """Whether `path` already holds `data`; a damaged file does not, and is written again."""
    found = bytearray(len(data))
    try:
        if not read_into(path, memoryview(found)) or memoryview(found) != data:
            return False
        os.utime(path)
    except OSError:
        return False
    return True
