"""Rows for workers that do not see the search's folder: sent to them, or asked for by themselves.

The search writes what a worker needs to know of its rows into a folder. A worker that sees the
folder maps the shards in it (*direct*). One that does not is sent the files that it lacks
(*export*), or the query that gives it their rows (*targeted*), when it first needs them.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gradbase.runtime.train.sharded import MANIFEST, ShardedData, open_shards
from gradbase.runtime.train.targeted import Query, make_part
from gradbase.selection.executors.messages import Message

DIRECT, TARGETED, EXPORT = "direct", "targeted", "export"
_FILE, _CONSTANT, _ROWS = "file:", "constant:", ".arrow"


class Absent(Exception):  # noqa: N818 (never reaches a user)
    """A worker lacks files of these names."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(", ".join(names))
        self.names = list(names)


@dataclass(frozen=True)
class Supply:
    """What the search has for workers that lack files of a dataset.

    Parameters
    ----------
    folder : Path
    query : Query, optional
        For targeted queries; None: files are sent.
    constants : mapping
        Of the encodings, by hash.
    """

    folder: Path
    query: Query | None = None
    constants: Mapping[str, npt.NDArray[np.generic]] = field(
        default_factory=dict[str, npt.NDArray[np.generic]]
    )

    def of(self, names: Sequence[str]) -> tuple[Message, dict[str, Tensor]]:
        """A part of a message, and tensors, that give a worker these files."""
        whole = MANIFEST in names
        files = [p for p in self.folder.iterdir() if whole and p.suffix != _ROWS]
        message: Message = {}
        if self.query is None:
            files += [self.folder / f"{name}{_ROWS}" for name in names if name != MANIFEST]
        else:
            message = {"query": self.query}
        tensors = {f"{_FILE}{p.name}": torch.from_numpy(np.fromfile(p, np.uint8)) for p in files}
        if self.query is not None:
            tensors |= {
                f"{_CONSTANT}{h}": torch.from_numpy(np.array(a)) for h, a in self.constants.items()
            }
        return message, tensors


class Supplied:
    """The rows of a search in one worker."""

    def __init__(self) -> None:
        self._data: dict[str, ShardedData] = {}
        self._folders: dict[str, Path] = {}
        self._queries: dict[str, tuple[Query, dict[str, npt.NDArray[np.generic]]]] = {}

    def take(self, message: Message, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Keep what a message brings of rows; its other tensors."""
        mine = {n: t for n, t in tensors.items() if n.startswith((_FILE, _CONSTANT))}
        if mine:
            folder = self._folder(message["data"])
            for name, tensor in mine.items():
                if name.startswith(_FILE):
                    tensor.numpy().tofile(folder / Path(name.removeprefix(_FILE)).name)
            if "query" in message:
                constants = {
                    n.removeprefix(_CONSTANT): t.numpy()
                    for n, t in mine.items() if n.startswith(_CONSTANT)
                }  # fmt: skip
                self._queries[message["data"]] = message["query"], constants
        return {n: t for n, t in tensors.items() if n not in mine}

    def opened(self, message: Message, cache_bytes: int) -> ShardedData:
        """The rows of a message's group: where the search wrote them, or what is here of them.

        Raises
        ------
        Absent
            Nothing is here yet.
        """
        key = message["data"]
        found = self._data.get(key)
        if found is None:
            folder, partly = Path(key), message["access"] != DIRECT
            if partly or not (folder / MANIFEST).exists():
                folder, partly = self._folder(key), True
                if not (folder / MANIFEST).exists():
                    raise Absent([MANIFEST])
            for other in self._data.values():  # one fold at a time
                other.close()
            found = open_shards(folder, cache_bytes, partly=partly)
            self._data = {key: found}
        return found

    def check(self, message: Message, data: ShardedData, parts: Sequence[str]) -> None:
        """Absent where these parts of the rows are neither here nor can be asked for."""
        missing = data.missing(parts)
        if missing and message["data"] in self._queries:
            query, constants = self._queries[message["data"]]
            for name in missing:
                make_part(query, constants, data.folder, name)
            missing = data.missing(parts)
        if missing:
            raise Absent(missing)

    def _folder(self, key: str) -> Path:
        """Of this worker's own; gone with it."""
        if key not in self._folders:
            made = tempfile.mkdtemp(prefix="gradbase-rows-")
            weakref.finalize(self, shutil.rmtree, made, ignore_errors=True)
            self._folders[key] = Path(made)
        return self._folders[key]
