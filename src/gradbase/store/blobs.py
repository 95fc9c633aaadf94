"""Immutable bytes named by their BLAKE3 hash.

A blob above 1 MB is cut by content into chunks, which are blobs themselves; the piece
``<hash>.chunks`` lists them, so blobs that differ little share most of them. Weights that
are imported as a stream, or read in parts, lie in ``<hash>.<shape>.tiles`` (`store.tiles`).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from gradbase.errors import StoreError
from gradbase.ir.shapes import Shape
from gradbase.ir.tensor import DTYPES, Param
from gradbase.resources.tiling import LARGEST_PAGE, weight_grid
from gradbase.store.chunks import cut
from gradbase.store.files import reported
from gradbase.store.folder import Folder, Lease
from gradbase.store.pieces import FilePieces, Pieces
from gradbase.store.tiles.ahead import ahead
from gradbase.store.tiles.copying import copy_pages
from gradbase.store.tiles.file import NUMPY_TYPES, TileFile, matrix_dims
from gradbase.store.tiles.new_file import SUFFIX, NewFile, file_name
from gradbase.store.tiles.origin import Origin
from gradbase.store.tiles.writing import TileWriter

HEADER = "gradbase chunks 1"
LIST = ".chunks"

_HASH = re.compile(r"[0-9a-f]{64}\Z")


class Blobs:
    """Blobs of one store.

    Parameters
    ----------
    folder : Folder
    pieces : Pieces
        Where the bytes lie; tiles are files of `folder` all the same.
    read_only : bool
        `put` is refused.
    users_of : callable
        Names of the models that a hash belongs to, for messages.
    """

    def __init__(
        self,
        folder: Folder,
        pieces: Pieces,
        read_only: bool,
        users_of: Callable[[str], Sequence[str]],
    ) -> None:
        self.folder, self.pieces = folder, pieces
        self.read_only, self._users_of = read_only, users_of
        self.lease = Lease()
        """Protects what is put outside of a commit, until this store names it or closes."""
        self.page_bytes = LARGEST_PAGE
        """Of the tiles of large weights; the session says how much memory there is."""
        self._origins: dict[str, Origin] = {}
        """Where files of tiles that were imported by this process came from, by their names."""
        self._aside: Folder | None = None
        """Where tiles are of a store that is only read."""

    @property
    def path(self) -> Path:
        """Folder of the files, where they are files."""
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
        self._check_writable()
        self.folder.prepare()
        hashes: list[str] = []
        pieces: dict[str, memoryview] = {}
        for data in datas:
            whole = memoryview(data).cast("B")
            hashes.append(hash_of(whole))
            pieces |= self._split(hashes[-1], whole)
        self._protect(pieces, self.lease if lease is None else lease)
        missing = [(p, d) for p, d in pieces.items() if not self.pieces.keep(p, d)]
        if missing:
            size = sum(len(d) for _, d in missing)
            with reported(f"writing {size:,} bytes of blobs to {self.pieces.where}"):
                self.pieces.write(missing)
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
        """Whether pieces for the hash are there (unverified)."""
        return self._has_pieces(blob_hash) or self._in_tiles(blob_hash) is not None

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
            self._verify(blob_hash)
        except StoreError as error:
            return error.message
        return None

    # -- tiles -------------------------------------------------------------------------------------

    def put_tiles(
        self, parts: Iterable[NDArray[Any]], dims: Shape, kind: str, page_bytes: int, *,
        by_content: bool = True,
    ) -> str:  # fmt: skip
        """Store a tensor that comes as a stream, as tiles; returns the hash that names it.

        Parameters
        ----------
        parts : iterable of arrays of one dimension
            The tensor's elements in C order; an array may be used again `IN_USE` arrays later.
        dims, kind : of the tensor
        page_bytes : int
        by_content : bool
            Whether the hash must be that of its bytes in C order.

        Raises
        ------
        StoreError
            The store is read-only, or the disk too small; nothing is half written.
        """
        self._check_writable()
        here = isinstance(self.pieces, FilePieces)
        made = self._put_tiles(
            self.folder, parts, dims, kind, page_bytes, by_content=by_content or not here
        )
        if not here:  # tiles are but a copy on this machine
            tiled = self.folder.blobs / file_name(made, dims, kind)
            self.put(TileFile(tiled).whole())
        return made

    def copy_tiles(
        self, path: Path, start: int, dims: Shape, kind: str, page_bytes: int
    ) -> str | None:
        """As `put_tiles` of what lies in a file, as it is, from byte `start` on.

        None where tiles are no ranges of it, or the store does not keep files: `put_tiles` cuts.
        """
        self._check_writable()
        grid = weight_grid(*matrix_dims(dims), DTYPES[kind], page_bytes)
        if grid.across > 1 or not isinstance(self.pieces, FilePieces):
            return None
        self.folder.prepare()
        with NewFile(self.folder.halves, dims, kind, page_bytes) as new:
            origin = copy_pages(new, path, start)
            made = self._finish(new, self.folder)
            self._origins[file_name(made, dims, kind)] = origin.copied(new.handle)
        return made

    def _finish(self, new: NewFile, to: Folder) -> str:
        with to.lock:
            made = new.finish(to.blobs)
            to.leases.add(self.lease)
            self.lease.hashes.add(made)
        return made

    def _put_tiles(
        self, to: Folder, parts: Iterable[NDArray[Any]], dims: Shape, kind: str, page_bytes: int,
        *, by_content: bool = True,
    ) -> str:  # fmt: skip
        to.prepare()
        with TileWriter(to.halves, dims, kind, page_bytes, by_content=by_content) as writer:
            for part in ahead(parts):
                writer.write(part)
            return self._finish(writer, to)

    def tiles(self, param: Param, page_bytes: int) -> TileFile:
        """The file of tiles of a parameter; one that lies in chunks is cut into `page_bytes` first.

        Raises
        ------
        StoreError
            The blob is missing or damaged, or cannot be cut as the database is read-only.
        """
        name = file_name(checked(param.hash), param.dims, param.kind)
        found = next((p for p in (f.blobs / name for f in self._folders()) if p.is_file()), None)
        path = self._tiled(param, page_bytes) if found is None else found
        return TileFile(path, self._origins.get(name))

    def _folders(self) -> list[Folder]:
        return [self.folder] if self._aside is None else [self.folder, self._aside]

    def _tiled(self, param: Param, page_bytes: int) -> Path:
        """Cut a blob that lies in chunks; a database that is only read has its tiles elsewhere."""
        if self.read_only and self._aside is None:
            self._aside = Folder.at(None)
        to = self._folders()[-1]
        try:
            parts = self._elements(param)
            made = self._put_tiles(to, parts, param.dims, param.kind, page_bytes)
        except FileNotFoundError as error:
            raise self._missing(param.hash) from error
        path = to.blobs / file_name(made, param.dims, param.kind)
        if made != param.hash:
            path.unlink(missing_ok=True)
            raise self._damaged(param.hash, "its content has another hash")
        return path

    def _elements(self, param: Param) -> Iterator[NDArray[Any]]:
        """A parameter's elements in C order, a few megabytes at a time."""
        kind = np.dtype(NUMPY_TYPES[param.kind])
        rest = b""
        for data in self._bytes(param.hash):
            joined = rest + data
            whole = len(joined) // kind.itemsize * kind.itemsize
            rest = joined[whole:]
            yield np.frombuffer(joined, kind, whole // kind.itemsize)

    def _bytes(self, blob_hash: str) -> Iterator[bytes]:
        tiled = self._in_tiles(blob_hash)
        if tiled is not None:
            yield from (strip.tobytes() for strip in TileFile(tiled).strips())
            return
        for name, size in self._parts(blob_hash):
            data = bytearray(size)
            if not self.pieces.read(name, memoryview(data)):
                raise self._damaged(blob_hash, f"chunk {name} has another size")
            yield bytes(data)

    def _parts(self, blob_hash: str) -> list[tuple[str, int]]:
        """The pieces that a blob's bytes are in, with their sizes."""
        size = self.pieces.size(checked(blob_hash))
        return self._list(blob_hash) if size is None else [(blob_hash, size)]

    def _has_pieces(self, blob_hash: str) -> bool:
        names = (checked(blob_hash), blob_hash + LIST)
        return any(self.pieces.size(name) is not None for name in names)

    def _verify(self, blob_hash: str) -> None:
        tiled = self._in_tiles(blob_hash)
        if tiled is not None:
            TileFile(tiled).verify()
        else:
            self._read(blob_hash)

    def _in_tiles(self, blob_hash: str) -> Path | None:
        """A file of tiles, where such are all there is of a blob."""
        if self._has_pieces(blob_hash):
            return None
        return next(self.path.glob(f"{blob_hash}.*{SUFFIX}"), None)

    def _check_writable(self) -> None:
        if self.read_only:
            raise StoreError(
                "the database is open read-only: no blob can be stored",
                hint="connect without read_only=True",
            )

    def _split(self, blob_hash: str, whole: memoryview) -> dict[str, memoryview]:
        chunks = cut(whole)
        if len(chunks) == 1:
            return {blob_hash: whole}
        named = [(hash_of(chunk), chunk) for chunk in chunks]
        lines = [HEADER, *(f"{h} {len(chunk)}" for h, chunk in named)]
        text = memoryview(("\n".join(lines) + "\n").encode())
        return dict(named) | {blob_hash + LIST: text}

    def _protect(self, names: Iterable[str], lease: Lease) -> None:
        # Under the lock that deletion holds: after this, no piece found to exist disappears.
        with self.folder.lock:
            self.folder.leases.add(lease)
            lease.hashes.update(map(hash_in, names))

    def _read(self, blob_hash: str) -> bytearray:
        try:
            tiled = self._in_tiles(blob_hash)
            if tiled is not None:
                return TileFile(tiled).whole()
            parts = self._parts(blob_hash)
            data = bytearray(sum(size for _, size in parts))
            start = 0
            for name, size in parts:
                if not self.pieces.read(name, memoryview(data)[start : start + size]):
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
        size = self.pieces.size(blob_hash + LIST)
        if size is None:
            raise FileNotFoundError(blob_hash + LIST)
        written = bytearray(size)
        self.pieces.read(blob_hash + LIST, memoryview(written))
        text = written.decode("ascii", "replace")
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
        missing = self.pieces.missing
        if missing:
            return StoreError(
                f"{missing} (wanted: blob {blob_hash}{self._used_by(blob_hash)})",
                hint=f"copy the folder too, under the name {self.folder.root.name}",
            )
        return StoreError(
            f"blob {blob_hash} is missing in {self.pieces.where}{self._used_by(blob_hash)}",
            hint="run `gradbase fsck`; restore it from a backup or train the model again",
        )

    def _damaged(self, blob_hash: str, why: str) -> StoreError:
        return StoreError(
            f"blob {blob_hash} in {self.pieces.where} is damaged: {why}{self._used_by(blob_hash)}",
            hint="run `gradbase fsck`; restore it from a backup or train the model again",
        )


def checked(blob_hash: str) -> str:
    """The hash itself; StoreError where it is none (it becomes part of a path)."""
    if not _HASH.match(blob_hash):
        raise StoreError(
            f"`{blob_hash[:80]}` is no BLAKE3 hash (64 digits 0-9a-f)", hint="run `gradbase fsck`"
        )
    return blob_hash


def hash_in(name: str) -> str:
    """The hash that a file or piece belongs to: its name up to the suffix."""
    return name.partition(".")[0]


def hash_of(data: memoryview) -> str:
    """BLAKE3 of `data`, hex."""
    return blake3(data).hexdigest()


def bytes_of(array: NDArray[Any]) -> memoryview:
    """The little-endian C-order bytes of an array, whose BLAKE3 is `Param.hash`."""
    plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return memoryview(plain.reshape(-1).view(np.uint8).data)
