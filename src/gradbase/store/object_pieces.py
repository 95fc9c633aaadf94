"""Blobs as objects below a URL, for a store that belongs to no database."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager

from gradbase.engines.objects import Objects
from gradbase.store.pieces import Piece

FOLDER = "blobs"


class ObjectPieces:
    """As `store.pieces.Pieces`: one object each."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects

    @property
    def where(self) -> str:
        """The URL."""
        return f"{self.objects.url}/{FOLDER}"

    @property
    def missing(self) -> str | None:
        """Nothing: the first blob makes the place."""
        return None

    def size(self, name: str) -> int | None:
        """Bytes of an object, None where there is none."""
        return self.objects.size(_path(name))

    def read(self, name: str, target: memoryview) -> bool:
        """Fill `target` from an object."""
        data = self.objects.read(_path(name))
        if len(data) != len(target):
            return False
        target[:] = data
        return True

    def keep(self, name: str, data: memoryview) -> bool:  # noqa: ARG002
        """No: an object is as old as its last writing, so it is written again."""
        return False

    def write(self, pieces: Sequence[tuple[str, memoryview]]) -> None:
        """Put objects."""
        for name, data in pieces:
            self.objects.put(_path(name), bytes(data))

    def listing(self) -> Iterator[Piece]:
        """The objects."""
        for name, size_bytes in self.objects.names(FOLDER).items():
            yield Piece(name, size_bytes, self.objects.age_s(_path(name)))

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects."""
        self.objects.delete(map(_path, names))

    def halves(self) -> list[Piece]:
        """An object is put as a whole."""
        return []

    def delete_halves(self, names: Iterable[str]) -> None:
        """An object is put as a whole."""

    @contextmanager
    def alone(self) -> Generator[bool]:
        """Other sessions may create blobs at any time."""
        yield False


def _path(name: str) -> str:
    return f"{FOLDER}/{name}"
