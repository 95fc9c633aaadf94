"""Rows ready for training: encoded once, dealt out the same way to every trial."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from gradbase.errors import CancelledError
from gradbase.ir.learning import Fit
from gradbase.runtime.train.features import Inputs
from gradbase.runtime.train.identity import Words
from gradbase.runtime.train.labels import Target
from gradbase.runtime.train.split import Parts, Places, Rows, epoch_order, stretches
from gradbase.store.records import FeatureRecord

EVAL_ROWS = 512
"""Rows evaluated at a time. Fixed, so that no result depends on who is evaluated together."""
KEPT_SHARDS = 3
_ORDER_BYTES = 48
"""Of each row while a shard is put in order."""


class Batch(NamedTuple):
    """Rows as tensors: x [B, dense] (last column 1), codes [B, embeddings] int64 or None, y [B].

    To be reconstructed is y [B, dense - 1], the columns of x. `w` [B] are the rows' weights in the
    training loss, or None.
    """

    x: torch.Tensor
    codes: torch.Tensor | None
    y: torch.Tensor
    w: torch.Tensor | None = None

    def split(self, size: int) -> list[Batch]:
        """Consecutive batches of `size` rows, the last one shorter; they share memory."""
        xs, ys = self.x.split(size), self.y.split(size)
        codes, ws = (
            [None] * len(ys) if part is None else part.split(size) for part in (self.codes, self.w)
        )
        return [Batch(*parts) for parts in zip(xs, codes, ys, ws, strict=True)]


class Keyed(NamedTuple):
    """What targeted queries need of each row.

    Parameters
    ----------
    keys : Table
        The columns of the row key; no two rows are equal, none is NULL.
    content : uint64[rows, 2]
        Hashes, by which a worker sees that it reads the same rows.
    """

    keys: pa.Table
    content: Words


@dataclass
class TrainingData:
    """Everything that trainers need to know of a `Dataset`. Close it to free memory and files.

    Parameters
    ----------
    inputs : Inputs
    target : Target
    x : float32[rows, inputs.width + 1]
        Last column 1.
    codes : int64[rows, embeddings] or None
    ids : uint64[rows, 2]
        Row identities.
    parts : Parts
    shards : sequence of int64[n] or range
        Training rows by shard, in the order of their identities.
    seed : int
    without_label : int
        Rows left out because their label is NULL.
    relation_hash : str
        BLAKE3 of the rows' identities and the columns' names and types: the relation's content.
    weights : float64[rows] or None
        Instance weights, 1 on average over the training rows.
    summaries : tuple of FeatureRecord
        Columns of the query over the training rows; () for a fold.
    start : tuple of float32 arrays
        Where perceptrons start, in the order of ``MlpShape.true_blocks``; () at random.
    read_s : float, seconds
        Spent so far on making batches of the rows.
    keyed : Keyed, optional
        Keys of the rows, where workers may ask the database for them.
    """

    inputs: Inputs
    target: Target
    x: npt.NDArray[np.float32]
    codes: npt.NDArray[np.int64] | None
    ids: Words
    parts: Parts
    shards: Sequence[Places]
    seed: int
    without_label: int
    relation_hash: str
    cache_bytes: int = 1 << 30
    resources: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    cancelled: threading.Event = field(default_factory=threading.Event)
    weights: npt.NDArray[np.float64] | None = None
    summaries: tuple[FeatureRecord, ...] = ()
    start: tuple[npt.NDArray[Any], ...] = ()
    read_s: float = 0.0
    keyed: Keyed | None = None
    _ready: OrderedDict[Any, Batch] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def task(self) -> str:
        """``binary``, ``multiclass``, ``regression`` or ``reconstruction``."""
        return self.target.task

    @property
    def outputs(self) -> int:
        """Outputs that a network must have: 1, or one per class."""
        return self.target.outputs

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know about the data."""
        return self.inputs.warnings

    def class_weights(self, fit: Fit) -> tuple[float, ...]:
        """What a fit's losses are multiplied by, by class; () where by nothing."""
        return self.target.class_weights or (self.target.balanced if fit.auto_class_weights else ())

    def steps(self, size: int) -> int:
        """Batches of `size` rows in an epoch."""
        return sum(-(-len(shard) // size) for shard in self.shards)

    def has(self, part: str) -> bool:
        """Whether there are rows in ``eval`` or ``test``."""
        return len(getattr(self.parts, part)) > 0

    def batches(
        self, epoch: int, shard: int, size: int, dtype: torch.dtype = torch.float32
    ) -> Iterator[Batch]:
        """The batches of a unit, of `size` rows; the last may be shorter.

        They are the same for every trial, and shared: do not write to them.
        """
        rows = len(self.shards[shard])
        if not rows:
            return
        whole = self._shard(epoch, shard, dtype)
        streamed = whole is None
        for batch in self._streamed(epoch, shard, size, dtype) if streamed else whole.split(size):
            self._check_cancelled()
            yield batch

    def evaluation(self, part: str, dtype: torch.dtype = torch.float32) -> Iterator[Batch]:
        """The rows of ``eval`` or ``test`` in the order of their identities, `EVAL_ROWS` each."""
        rows: Places = getattr(self.parts, part)
        if self._row_bytes * len(rows) > self.cache_bytes:
            for start in range(0, len(rows), EVAL_ROWS):
                yield self._read(rows[start : start + EVAL_ROWS], dtype)
            return
        whole = self._cached((part, dtype), rows, dtype)
        yield from whole.split(EVAL_ROWS)

    def labels(self, part: str, places: range | None = None) -> npt.NDArray[Any]:
        """What the rows of ``eval`` or ``test`` are judged by, in the order of `evaluation`.

        Only those at `places` in this order, where given.
        """
        rows = self._judged(part, places)
        return self.x[rows, :-1] if self.task == "reconstruction" else self.target.y[rows]

    def _judged(self, part: str, places: range | None) -> Any:
        rows = getattr(self.parts, part)
        return rows if places is None else rows[places.start : places.stop]

    def room(self, fits: int, rows: int, width: int, dtype: torch.dtype) -> torch.Tensor:
        """For outputs of many rows: Tensor[fits, rows, width]."""
        return torch.empty(fits, rows, width, dtype=dtype)

    def release(self) -> None:
        """Let go of memory that is in a file too."""

    def close(self) -> None:
        """Free memory, files and leases."""
        with self._lock:
            self._ready.clear()
        self.resources.close()

    def _check_cancelled(self) -> None:
        if self.cancelled.is_set():
            raise CancelledError("training was cancelled")

    @property
    def _row_bytes(self) -> int:
        return (
            self.x.shape[1] * 4
            + (0 if self.codes is None else self.codes.shape[1] * 8)
            + 8
            + _ORDER_BYTES
        )

    def _shard(self, epoch: int, shard: int, dtype: torch.dtype) -> Batch | None:
        """A shard in the order of an epoch; None where that would not fit."""
        rows = self.shards[shard]
        if self._row_bytes * len(rows) * KEPT_SHARDS > self.cache_bytes:
            return None
        key = (epoch, shard, dtype)
        with self._lock:
            if key in self._ready:
                return self._ready[key]
        return self._cached(key, self._order(epoch, shard), dtype)

    def _streamed(self, epoch: int, shard: int, size: int, dtype: torch.dtype) -> Iterator[Batch]:
        """The batches of a shard that does not fit as a whole."""
        order = self._order(epoch, shard)
        for rows in stretches(len(order), size):
            yield self._read(order[rows.start : rows.stop], dtype)

    def _order(self, epoch: int, shard: int) -> Rows:
        """Rows of a shard in the order of an epoch."""
        return epoch_order(self.ids, np.asarray(self.shards[shard]), self.seed, epoch)

    def _cached(self, key: Any, rows: Places, dtype: torch.dtype) -> Batch:
        with self._lock:
            found = self._ready.get(key)
            if found is None:
                found = self._ready[key] = self._read(rows, dtype)
                passing = [k for k in self._ready if len(k) == 3]
                if len(passing) > KEPT_SHARDS:
                    del self._ready[passing[0]]
            return found

    def _read(self, rows: Places, dtype: torch.dtype) -> Batch:
        started = time.perf_counter()
        found = self._gather(rows, dtype)
        self.read_s += time.perf_counter() - started
        return found

    def _gather(self, rows: Places, dtype: torch.dtype) -> Batch:
        # Made by torch, whose memory is aligned: products round by the alignment of their operands.
        places = torch.from_numpy(np.asarray(rows))
        x = torch.from_numpy(self.x).index_select(0, places)
        codes = None
        if self.codes is not None:
            codes = torch.from_numpy(self.codes).index_select(0, places)
        x = x.to(dtype)
        y = x[:, :-1] if self.task == "reconstruction" else torch.from_numpy(self.target.y[rows])
        if y.dtype != torch.int64:
            y = y.to(dtype)
        w = None if self.weights is None else torch.from_numpy(self.weights[rows]).to(dtype)
        return Batch(x, codes, y, w)
