"""Training rows as Arrow IPC files, one per shard: what other processes map and train on.

A file holds one record batch, so that each of its columns is one stretch of memory: ``x`` (a list
of float32 of fixed length), ``codes``, ``y``, ``w`` where there are such, and ``id``, the rows'
identities. Its rows are in the order of these. ``data.json`` says what else trainers need to know.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from gradbase.errors import StoreError
from gradbase.ir.scalar import Literal
from gradbase.ir.types import INT64
from gradbase.runtime.train.data import KEPT_SHARDS, Batch, TrainingData
from gradbase.runtime.train.features import Inputs
from gradbase.runtime.train.identity import Words
from gradbase.runtime.train.labels import Target
from gradbase.runtime.train.spill import MappedFile
from gradbase.runtime.train.split import Parts, Rows, epoch_order

FORMAT = 1
MANIFEST, ORDER = "data.json", "train-order"
HELD_OUT = ("eval", "test")
_CHUNK_ROWS = 4_096
_TARGET = ("task", "outputs", "mean", "scale", "balanced", "class_weights")


class Layout(NamedTuple):
    """A column of a shard: its type, and how many values a row has (0: one, no list)."""

    dtype: str
    width: int


class Columns(NamedTuple):
    """A file of rows, its columns, and where they begin."""

    file: MappedFile
    arrays: dict[str, npt.NDArray[Any]]
    offsets: dict[str, int]


def write_shards(
    data: TrainingData,
    folder: Path,
    told: Callable[[str, int], None] = lambda _what, _rows: None,
    *,
    rows: bool = True,
) -> int:
    """Write the rows of `data` into the new `folder`, a file per shard and part; their bytes.

    Without `rows` workers make these files, and only what is said of them is written.

    Raises
    ------
    StoreError
        The disk is full, or the folder cannot be written to.
    """
    layout = _layout(data)
    parts = part_rows(data)
    start = [list(a.shape) for a in data.start]
    try:
        folder.mkdir(parents=True)
        for name, numbers in parts.items() if rows else ():
            _write(folder / f"{name}.arrow", layout, data, numbers)
            told("writing shards", len(numbers))
        if not data.has("eval"):  # then the training rows are evaluated, in their own order
            _train_order(data).tofile(folder / ORDER)
        for number, array in enumerate(data.start):
            np.ascontiguousarray(array).astype("<f8").tofile(folder / f"start-{number}")
        target = {n: getattr(data.target, n) for n in _TARGET}
        manifest = {
            "format": FORMAT, "width": data.inputs.width, "embeddings": data.inputs.embeddings,
            "target": target | {"classes": len(data.target.classes)}, "seed": data.seed,
            "relation_hash": data.relation_hash, "layout": layout, "start": start,
            "rows": {name: len(numbers) for name, numbers in parts.items()},
        }  # fmt: skip
        (folder / MANIFEST).write_text(json.dumps(manifest))
    except OSError as error:
        raise StoreError(
            f"the rows for training could not be written to {folder}: {error}",
            hint="free space there and RESUME SEARCH, or use executor = 'in_process'",
        ) from error
    return sum(path.stat().st_size for path in folder.iterdir())


def part_rows(data: TrainingData) -> dict[str, Rows]:
    """Row numbers of each file: the shards, and what is held out of training."""
    shards = {f"shard-{number}": rows for number, rows in enumerate(data.shards)}
    return shards | {part: getattr(data.parts, part) for part in HELD_OUT}


def sums_of(hashes: Words) -> list[int]:
    """What tells a set of rows from another one, whatever their order."""
    return [int(total) for total in hashes.sum(0, dtype=np.uint64)]


def _train_order(data: TrainingData) -> Rows:
    """Where each training row, in the order of identities, lies among the rows of all shards."""
    places = np.empty(len(data.x), np.int64)
    together = np.concatenate(data.shards)
    places[together] = np.arange(len(together))
    return places[data.parts.train]


def _layout(data: TrainingData) -> dict[str, Layout]:
    found = {"id": Layout("<u8", 2), "x": Layout("<f4", data.x.shape[1])}
    if data.task != "reconstruction":
        found["y"] = Layout(data.target.y.dtype.newbyteorder("<").str, 0)
    if data.codes is not None:
        found["codes"] = Layout("<i8", data.codes.shape[1])
    if data.weights is not None:
        found["w"] = Layout("<f8", 0)
    return found


def _write(path: Path, layout: dict[str, Layout], data: TrainingData, rows: Rows) -> None:
    """A file of the right size first, then the rows into it, some at a time."""
    zeros = [_zeros(column, len(rows)) for column in layout.values()]
    batch = pa.RecordBatch.from_arrays(zeros, names=list(layout))
    with pa.ipc.new_file(str(path), batch.schema) as file:
        file.write_batch(batch)
    of = {"id": data.ids, "x": data.x, "y": data.target.y, "codes": data.codes, "w": data.weights}
    if not len(rows):
        return
    file, arrays, _ = _mapped(path, layout, len(rows), writable=True)
    for start in range(0, len(rows), _CHUNK_ROWS):
        here = rows[start : start + _CHUNK_ROWS]
        for name, column in arrays.items():
            source = of[name]
            assert source is not None, name
            of_map = data.mapped.get(name)
            if of_map is None:
                column[start : start + _CHUNK_ROWS] = source[here]
            else:
                of_map.read_rows(column[start : start + _CHUNK_ROWS], here, 0)
        for mapped in (file, *data.mapped.values()):
            mapped.release()


def _zeros(column: Layout, rows: int) -> pa.Array:
    flat = pa.array(np.zeros(rows * max(column.width, 1), column.dtype))
    return pa.FixedSizeListArray.from_arrays(flat, column.width) if column.width else flat


def _mapped(path: Path, layout: dict[str, Layout], rows: int, *, writable: bool) -> Columns:
    """Each column of a shard's file as a map of its bytes."""
    file = MappedFile(path, writable=writable)
    whole = pa.py_buffer(file.map)
    batch = pa.ipc.open_file(whole).get_batch(0)
    found = Columns(file, {}, {})
    for name, (dtype, width) in layout.items():
        values: Any = batch.column(name)
        values = values.values if width else values
        found.offsets[name] = values.buffers()[1].address - whole.address
        shape = (rows, width) if width else (rows,)
        found.arrays[name] = file.array(dtype, shape, found.offsets[name])
    return found


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
    """Training data whose rows lie in the files of a folder: row numbers count through them."""

    files: list[Columns | None] = field(default_factory=list)
    offsets: Rows = field(default_factory=lambda: np.zeros(1, np.int64))
    folder: Path = field(default_factory=Path)

    def missing(self, parts: Sequence[str]) -> list[str]:
        """Which of these parts are not here; files that came since are taken up."""
        manifest = _manifest(self.folder)
        layout = {name: Layout(*column) for name, column in manifest["layout"].items()}
        left: list[str] = []
        for number, (name, rows) in enumerate(manifest["rows"].items()):
            if name in parts and rows and self.files[number] is None:
                path = self.folder / f"{name}.arrow"
                if path.exists():
                    self.files[number] = _mapped(path, layout, rows, writable=False)
                    path.unlink()  # it is this process's own, and ends with it
                else:
                    left.append(name)
        return left

    def labels(self, part: str) -> npt.NDArray[Any]:
        rows = getattr(self.parts, part)
        if self.task == "reconstruction":
            return self._take("x", rows)[:, :-1]
        return self._take("y", rows)

    def _order(self, epoch: int, shard: int) -> Rows:
        rows = self.shards[shard]
        if not len(rows):
            return rows
        return epoch_order(self._take("id", rows), np.arange(len(rows)), self.seed, epoch) + rows[0]

    def _gather(self, rows: Rows, dtype: torch.dtype) -> Batch:
        x = torch.empty(len(rows), self.x.shape[1])  # torch's memory, as `TrainingData._gather`
        self._take("x", rows, x.numpy())
        codes = None if self.codes is None else torch.from_numpy(self._take("codes", rows))
        x = x.to(dtype)
        y = x[:, :-1] if self.task == "reconstruction" else torch.from_numpy(self._take("y", rows))
        if y.dtype != torch.int64:
            y = y.to(dtype)
        w = None if self.weights is None else torch.from_numpy(self._take("w", rows)).to(dtype)
        return Batch(x, codes, y, w)

    def _take(self, name: str, rows: Rows, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """A column of some rows; those of an epoch's or a part's order lie in one file mostly."""
        like = next((f.arrays[name] for f in self.files if f), self.target.y)
        if out is None:
            out = np.empty((len(rows), *like.shape[1:]), like.dtype)
        number = np.searchsorted(self.offsets, rows, "right") - 1
        for at in np.unique(number):
            here, file = number == at, self.files[at]
            assert file is not None, f"rows of file {at} are not here"
            within = rows[here] - self.offsets[at]
            if not here.all():
                out[here] = file.arrays[name][within]
            elif self._is_tight and name in ("x", "codes"):
                file.file.read_rows(out, within, file.offsets[name])
            else:
                np.take(file.arrays[name], within, 0, out=out, mode="clip")
            file.file.release()
        return out

    @property
    def _is_tight(self) -> bool:
        """Whether shards are too large to be decoded as a whole."""
        rows = max((len(s) for s in self.shards), default=0)
        return self._row_bytes * rows * KEPT_SHARDS > self.cache_bytes


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
            files.append(_mapped(path, layout, rows, writable=False) if rows and is_here else None)
        start = tuple(
            np.fromfile(folder / f"start-{n}", "<f8").reshape(shape)
            for n, shape in enumerate(made["start"])
        )
        order = folder / ORDER
        train = np.fromfile(order, np.int64) if order.exists() else np.zeros(0, np.int64)
    except (OSError, ValueError, KeyError, pa.ArrowInvalid) as error:
        raise StoreError(
            f"the shards in {folder} cannot be read: {error}", hint="start the search again"
        ) from error
    found = _assembled(made, files, start, train, cache_bytes)
    found.folder = folder
    return found


def _manifest(folder: Path) -> dict[str, Any]:
    made = json.loads((folder / MANIFEST).read_text())
    if made["format"] != FORMAT:
        raise ValueError(f"format {made['format']}, expected {FORMAT}")
    return made


def _assembled(
    made: dict[str, Any],
    files: list[Columns | None],
    start: tuple[Any, ...],
    train: Rows,
    cache_bytes: int,
) -> ShardedData:
    counts = list(made["rows"].values())
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    stretches = [np.arange(a, b) for a, b in itertools.pairwise(offsets)]
    shards, (held, tested) = stretches[:-2], stretches[-2:]
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
        Parts(train, held, tested), shards, made["seed"], 0,
        made["relation_hash"], cache_bytes, weights=_weights(made), start=start, files=files,
        offsets=offsets,
    )  # fmt: skip


def _weights(made: dict[str, Any]) -> npt.NDArray[np.float64] | None:
    return np.zeros(0) if "w" in made["layout"] else None
