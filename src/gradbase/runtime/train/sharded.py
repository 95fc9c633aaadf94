"""Training rows as Arrow IPC files, one per shard: what other processes map and train on.

Columns of a file are ``x`` (a list of float32 of fixed length), ``codes``, ``y``, ``w`` where there
are such, and ``id``, the rows' identities. Its rows are in the order of these. ``data.json`` says
what else trainers need to know.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from gradbase.errors import StoreError
from gradbase.ir.scalar import Literal
from gradbase.ir.types import INT64
from gradbase.runtime.train.data import Batch, TrainingData
from gradbase.runtime.train.features import Inputs
from gradbase.runtime.train.identity import Words
from gradbase.runtime.train.labels import Target
from gradbase.runtime.train.ordered import Ordered, ordered
from gradbase.runtime.train.rows import temporary_file
from gradbase.runtime.train.shard_files import Columns, Layout, fill, mapped, new_file
from gradbase.runtime.train.spill import MappedFile
from gradbase.runtime.train.split import Parts, Places, Rows, epoch_order, stretches

FORMAT = 2
MANIFEST = "data.json"
TRAIN, HELD_OUT = "train", ("eval", "test")
_CHUNK_ROWS = 4_096
_LEAST_PART = 1 << 20
_TARGET = ("task", "outputs", "mean", "scale", "balanced", "class_weights")


def write_shards(
    data: TrainingData,
    folder: Path,
    told: Callable[[str, int], None] = lambda _what, _rows: None,
    *,
    rows: bool = True,
) -> int:
    """Write the rows of `data` into the new `folder`, a file per shard and part; their bytes.

    Without `rows` workers make these files, and only what is said of them is written. Rows that are
    in files already are not written again.

    Raises
    ------
    StoreError
        The disk is full, or the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True)
        if isinstance(data, ShardedData):
            for path in data.folder.iterdir():
                _link(path, folder / path.name)
        else:
            layout = layout_of(data)
            parts = part_rows(data)
            for name, numbers in parts.items() if rows else ():
                _write(folder / f"{name}.arrow", layout, data, numbers)
                told("writing shards", len(numbers))
            describe(data, folder, layout, {name: len(numbers) for name, numbers in parts.items()})
    except OSError as error:
        raise shards_error(folder, error) from error
    return sum(path.stat().st_size for path in folder.iterdir())


def shards_error(folder: Path, error: OSError) -> StoreError:
    """What a user is told when the files of a search's rows cannot be written."""
    return StoreError(
        f"the rows for training could not be written to {folder}: {error}",
        hint="free space there and RESUME SEARCH, or use executor = 'in_process'",
    )


def describe(
    data: TrainingData, folder: Path, layout: Mapping[str, Layout], rows: Mapping[str, int]
) -> None:
    """Write what trainers need to know beside the rows themselves; `rows` of each file."""
    for number, array in enumerate(data.start):
        np.ascontiguousarray(array).astype("<f8").tofile(folder / f"start-{number}")
    target = {n: getattr(data.target, n) for n in _TARGET}
    manifest = {
        "format": FORMAT, "width": data.inputs.width, "embeddings": data.inputs.embeddings,
        "target": target | {"classes": len(data.target.classes)}, "seed": data.seed,
        "relation_hash": data.relation_hash, "layout": layout,
        "start": [list(a.shape) for a in data.start], "rows": rows,
    }  # fmt: skip
    (folder / MANIFEST).write_text(json.dumps(manifest))


def part_rows(data: TrainingData) -> dict[str, Places]:
    """Row numbers of each file: the shards, what is held out of training, and where nothing is
    held out to choose by, the training rows in the order in which they are evaluated.
    """
    found: dict[str, Places] = {f"shard-{n}": rows for n, rows in enumerate(data.shards)}
    found |= {part: getattr(data.parts, part) for part in HELD_OUT}
    return found if data.has("eval") else found | {TRAIN: data.parts.train}


def sums_of(hashes: Words) -> list[int]:
    """What tells a set of rows from another one, whatever their order."""
    return [int(total) for total in hashes.sum(0, dtype=np.uint64)]


def layout_of(data: TrainingData) -> dict[str, Layout]:
    """The columns of a file."""
    found = {"id": Layout("<u8", 2), "x": Layout("<f4", data.inputs.width + 1)}
    if data.task != "reconstruction":
        found["y"] = Layout(data.target.y.dtype.newbyteorder("<").str, 0)
    if data.inputs.embeddings:
        found["codes"] = Layout("<i8", len(data.inputs.embeddings))
    if data.weights is not None:
        found["w"] = Layout("<f8", 0)
    return found


def _write(path: Path, layout: dict[str, Layout], data: TrainingData, rows: Places) -> None:
    of = {"id": data.ids, "x": data.x, "y": data.target.y, "codes": data.codes, "w": data.weights}
    made = new_file(path, layout, len(rows))
    for start in range(0, len(rows), _CHUNK_ROWS):
        here = rows[start : start + _CHUNK_ROWS]
        there = {n: array for n, array in of.items() if n in layout and array is not None}
        columns = {name: array[here] for name, array in there.items()}
        fill(made, columns, start)


def _link(path: Path, to: Path) -> None:
    """The same file under another name; a copy where the file system has no links."""
    try:
        os.link(path, to)
    except OSError:
        shutil.copyfile(path, to)


# -- reading -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Widths(Inputs):
    """Inputs of which only the sizes are known."""

    sizes: tuple[int, tuple[tuple[int, int], ...]] = (0, ())

    @property
    def width(self) -> int:
        return self.sizes[0]

    @property
    def embeddings(self) -> tuple[tuple[int, int], ...]:
        return self.sizes[1]


@dataclass
class ShardedData(TrainingData):
    """Training data whose rows lie in the files of a folder, in the order of their identities.

    Row numbers count through the files. Of a shard that is too large to be decoded as a whole, the
    rows are written once more, in the order of an epoch, when that begins: dealt into buckets by
    the first bits of what they are sorted by, and these sorted one by one. Then every trial reads
    them from the first to the last.
    """

    files: list[Columns | None] = field(default_factory=list)
    offsets: Rows = field(default_factory=lambda: np.zeros(1, np.int64))
    folder: Path = field(default_factory=Path)
    _orders: OrderedDict[tuple[int, int], Ordered] = field(default_factory=OrderedDict)
    _rooms: dict[int, MappedFile] = field(default_factory=dict)

    def missing(self, parts: Sequence[str]) -> list[str]:
        """Which of these parts are not here; files that came since are taken up."""
        manifest = _manifest(self.folder)
        layout = {name: Layout(*column) for name, column in manifest["layout"].items()}
        left: list[str] = []
        for number, (name, rows) in enumerate(manifest["rows"].items()):
            if name in parts and rows and self.files[number] is None:
                path = self.folder / f"{name}.arrow"
                if path.exists():
                    self.files[number] = mapped(path, layout, rows, writable=False)
                    path.unlink()  # it is this process's own, and ends with it
                else:
                    left.append(name)
        return left

    def labels(self, part: str, places: range | None = None) -> npt.NDArray[Any]:
        rows: range = self._judged(part, places)
        if self.task == "reconstruction":
            return self._take("x", rows)[:, :-1]
        return self._take("y", rows)

    def room(self, fits: int, rows: int, width: int, dtype: torch.dtype) -> torch.Tensor:
        like = torch.empty(0, dtype=dtype).numpy().dtype
        size_bytes = fits * rows * width * like.itemsize
        if size_bytes <= self.cache_bytes // 4:
            return super().room(fits, rows, width, dtype)
        path = temporary_file(self._scratch, ".rows", size_bytes)
        file = self._rooms[threading.get_ident()] = MappedFile(path, writable=True)
        path.unlink()
        return torch.from_numpy(file.array(like, (fits, rows, width)))

    def release(self) -> None:
        file = self._rooms.get(threading.get_ident())
        if file is not None:
            file.release()

    def close(self) -> None:
        self._rooms.clear()
        with self._lock:
            self._orders.clear()
        super().close()

    def _order(self, epoch: int, shard: int) -> Rows:
        rows = self.shards[shard]
        places = np.arange(len(rows))
        return epoch_order(self._take("id", rows), places, self.seed, epoch) + rows[0]

    def _streamed(self, epoch: int, shard: int, size: int, dtype: torch.dtype) -> Iterator[Batch]:
        ordered = self._ordered(epoch, shard)
        for stretch in stretches(len(self.shards[shard]), size):
            started = time.perf_counter()
            batch = self._batch(partial(ordered.read, stretch), len(stretch), dtype)
            self.read_s += time.perf_counter() - started
            yield batch

    def _ordered(self, epoch: int, shard: int) -> Ordered:
        with self._lock:
            found = self._orders.get((epoch, shard))
            if found is None:
                started = time.perf_counter()
                file = self._file_of(self.shards[shard])
                part_bytes = max(_LEAST_PART, self.cache_bytes // 4)
                found = ordered(file, self.seed, epoch, self._scratch, part_bytes)
                self._orders[epoch, shard] = found
                if len(self._orders) > len(self.shards):
                    self._orders.popitem(last=False)
                self.read_s += time.perf_counter() - started
            return found

    @property
    def _scratch(self) -> Path:
        """Where files for the time of a training go."""
        is_own = os.access(self.folder, os.W_OK)
        return self.folder if is_own else Path(tempfile.gettempdir())

    def _gather(self, rows: Places, dtype: torch.dtype) -> Batch:
        return self._batch(partial(self._read_into, rows), len(rows), dtype)

    def _batch(
        self, read: Callable[[str, npt.NDArray[Any]], None], rows: int, dtype: torch.dtype
    ) -> Batch:
        """Rows as tensors, in torch's memory as `TrainingData` has them."""

        def column(name: str, like: npt.NDArray[Any]) -> torch.Tensor:
            found = torch.empty(rows, *like.shape[1:], dtype=torch.from_numpy(like).dtype)
            read(name, found.numpy())
            return found

        x = column("x", self.x).to(dtype)
        codes = None if self.codes is None else column("codes", self.codes)
        y = x[:, :-1] if self.task == "reconstruction" else column("y", self.target.y)
        if y.dtype != torch.int64:
            y = y.to(dtype)
        w = None if self.weights is None else column("w", self.weights).to(dtype)
        return Batch(x, codes, y, w)

    def _take(self, name: str, rows: Places) -> npt.NDArray[Any]:
        like = next((f.arrays[name] for f in self.files if f), self.target.y)
        found = np.empty((len(rows), *like.shape[1:]), like.dtype)
        self._read_into(rows, name, found)
        return found

    def _read_into(self, rows: Places, name: str, out: npt.NDArray[Any]) -> None:
        """A column of some rows, all of one file."""
        if len(rows):
            first = self.offsets[self._number_of(rows)]
            file = self._file_of(rows)
            if isinstance(rows, range):
                file.read(name, range(rows.start - first, rows.stop - first), out)
            else:
                np.take(file.arrays[name], rows - first, 0, out=out, mode="clip")
                file.file.release()

    def _number_of(self, rows: Places) -> int:
        return int(np.searchsorted(self.offsets, rows[0], "right")) - 1

    def _file_of(self, rows: Places) -> Columns:
        number = self._number_of(rows)
        found = self.files[number]
        assert found is not None, f"rows of file {number} are not here"
        return found


def open_shards(folder: Path, cache_bytes: int, *, partly: bool = False) -> ShardedData:
    """What `write_shards` wrote, its rows left where they are until they are used.

    Parameters
    ----------
    folder : Path
    cache_bytes : int, bytes
        Of decoded shards that may be kept.
    partly : bool
        Whether files may come later.

    Raises
    ------
    StoreError
        A file is not there, or another version wrote it.
    """
    try:
        made = _manifest(folder)
        layout = {name: Layout(*column) for name, column in made["layout"].items()}
        counts: dict[str, int] = made["rows"]
        files: list[Columns | None] = []
        for name, rows in counts.items():
            path = folder / f"{name}.arrow"
            is_here = not partly or path.exists()
            files.append(mapped(path, layout, rows, writable=False) if rows and is_here else None)
        start = tuple(
            np.fromfile(folder / f"start-{n}", "<f8").reshape(shape)
            for n, shape in enumerate(made["start"])
        )
    except (OSError, ValueError, KeyError, pa.ArrowInvalid) as error:
        raise StoreError(
            f"the shards in {folder} cannot be read: {error}", hint="start the search again"
        ) from error
    return _assembled(made, files, start, folder, cache_bytes)


def _manifest(folder: Path) -> dict[str, Any]:
    made = json.loads((folder / MANIFEST).read_text())
    if made["format"] != FORMAT:
        raise ValueError(f"format {made['format']}, expected {FORMAT}")
    return made


def _assembled(
    made: dict[str, Any],
    files: list[Columns | None],
    start: tuple[Any, ...],
    folder: Path,
    cache_bytes: int,
) -> ShardedData:
    offsets = np.concatenate([[0], np.cumsum(list(made["rows"].values()))]).astype(np.int64)
    ends = itertools.pairwise(offsets.tolist())
    rows = {name: range(*ends) for name, ends in zip(made["rows"], ends, strict=True)}
    shards = [rows[name] for name in rows if name not in (TRAIN, *HELD_OUT)]
    parts = Parts(rows.get(TRAIN, range(shards[-1].stop)), *(rows[n] for n in HELD_OUT))
    embeddings = tuple((codes, width) for codes, width in made["embeddings"])
    given = made["target"]
    y = Layout(*made["layout"].get("y", ("<f8", 0)))
    target = Target(
        np.zeros(0, y.dtype), given["task"], given["outputs"],
        tuple(Literal(n, INT64) for n in range(given["classes"])), given["mean"], given["scale"],
        tuple(given["balanced"]), tuple(given["class_weights"]),
    )  # fmt: skip
    width = made["width"]
    codes = np.zeros((0, len(embeddings)), np.int64) if embeddings else None
    ids: Words = np.zeros((0, 2), np.uint64)
    return ShardedData(
        Widths((), (), (), {}, (), sizes=(width, embeddings)), target,
        np.zeros((0, width + 1), np.float32), codes, ids,
        parts, shards, made["seed"], 0,
        made["relation_hash"], cache_bytes, weights=_weights(made), start=start, files=files,
        offsets=offsets, folder=folder,
    )  # fmt: skip


def _weights(made: dict[str, Any]) -> npt.NDArray[np.float64] | None:
    return np.zeros(0) if "w" in made["layout"] else None
