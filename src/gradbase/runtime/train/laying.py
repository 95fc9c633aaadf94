"""Encoded rows that do not fit into memory, laid out as the files that workers map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gradbase.ir.learning import Dataset
from gradbase.runtime.train.data import TrainingData
from gradbase.runtime.train.encode_rows import encode_block
from gradbase.runtime.train.features import Inputs
from gradbase.runtime.train.identity import Words, leading, order_of
from gradbase.runtime.train.instance_weights import checked_weights
from gradbase.runtime.train.labels import Scheme, Target
from gradbase.runtime.train.rows import Block, RowStore
from gradbase.runtime.train.shard_files import Layout, fill, new_file, record_of
from gradbase.runtime.train.sharded import (
    HELD_OUT,
    TRAIN,
    ShardedData,
    describe,
    layout_of,
    open_shards,
)
from gradbase.runtime.train.spill import Buckets, bits_for
from gradbase.runtime.train.split import Parts, shard_count, shard_of, stretches

if TYPE_CHECKING:
    from gradbase.runtime.train.on_disk import Dealt
    from gradbase.runtime.train.reading import Progress


class _File(NamedTuple):
    """A file to be laid out: its buckets begin at `first`, named by `bits` of identities."""

    name: str
    first: int
    bits: int


@dataclass(frozen=True)
class Laying:
    """How rows become files.

    Parameters
    ----------
    data : Dataset
    inputs : Inputs
    target : Target
        Without labels.
    scheme : Scheme, optional
        How labels are encoded, where there are.
    mean_weight : float
        Of the training rows, where rows have weights.
    common : mapping
        Fields of the `TrainingData`.
    folder : Path
        Where the files go.
    part_bytes : int, bytes
        Of rows that are in memory at a time.
    """

    data: Dataset
    inputs: Inputs
    target: Target
    scheme: Scheme | None
    mean_weight: float
    common: Mapping[str, Any]
    folder: Path
    part_bytes: int

    def lay(self, labelled: RowStore, store: RowStore, dealt: Dealt, told: Progress) -> ShardedData:
        """Encode the rows of `store`, and write them in the order of their identities.

        Parameters
        ----------
        labelled : RowStore
            The same rows with label and weight.
        """
        embedded = len(self.inputs.embedded)
        header = TrainingData(
            self.inputs, self.target, np.zeros((0, self.inputs.width + 1), np.float32),
            np.zeros((0, embedded), np.int64) if embedded else None, np.zeros((0, 2), np.uint64),
            Parts(*[range(0)] * 3), [], weights=np.zeros(0) if self.data.weight else None,
            **self.common,
        )  # fmt: skip
        layout = layout_of(header)
        record = record_of(layout)
        count = shard_count(dealt.counts[0], self.data.shards)
        files = self._files(dealt.counts, count, record.itemsize)
        buckets = Buckets(record, files[-1].first + (1 << files[-1].bits), self.folder)
        for block, of_labels in zip(store.blocks(), labelled.blocks(), strict=True):
            for rows in stretches(block.rows.num_rows, max(1, self.part_bytes // record.itemsize)):
                piece = block.part(rows.start, len(rows))
                records = np.empty(len(rows), record)
                self._encode(records, piece, of_labels.part(rows.start, len(rows)), dealt)
                self._deal(records, piece.start, dealt, files, buckets)
            told("encoding", block.start + block.rows.num_rows)
        rows = {f.name: self._write(f, layout, buckets) for f in files}
        describe(header, self.folder, layout, rows)
        made = open_shards(self.folder, header.cache_bytes)
        told_by = ("without_label", "resources", "cancelled", "summaries")
        kept = {name: getattr(header, name) for name in told_by}
        return replace(made, inputs=self.inputs, target=self.target, **kept)

    def _files(self, counts: tuple[int, int, int], shards: int, row_bytes: int) -> list[_File]:
        train, *held = counts
        expected = {f"shard-{n}": train // shards for n in range(shards)}
        expected |= dict(zip(HELD_OUT, held, strict=True))
        if not held[0]:
            expected[TRAIN] = train
        found: list[_File] = []
        first = 0
        for name, rows in expected.items():
            bits = bits_for(rows * row_bytes, self.part_bytes)
            found.append(_File(name, first, bits))
            first += 1 << bits
        return found

    def _encode(
        self, records: npt.NDArray[Any], block: Block, labelled: Block, dealt: Dealt
    ) -> None:
        rows = len(records)
        x = np.empty((rows, self.inputs.width + 1), np.float32)
        codes = np.empty((rows, len(self.inputs.embedded)), np.int64)
        encode_block(block, self.inputs, x, codes if self.inputs.embedded else None)
        records["x"] = x
        records["id"] = dealt.ids.read(block.start, block.start + rows)
        if self.inputs.embedded:
            records["codes"] = codes
        if self.scheme is not None:
            label = labelled.rows.column(self.data.label)
            records["y"] = self.scheme.encode(label, block.start)
        if self.data.weight:
            weights = checked_weights(
                labelled.rows.column(self.data.weight), self.data.weight, 0, None
            )
            records["w"] = weights / self.mean_weight

    def _deal(
        self, records: npt.NDArray[Any], start: int, dealt: Dealt, files: list[_File],
        buckets: Buckets,
    ) -> None:  # fmt: skip
        part = dealt.part.read(start, start + len(records)).astype(np.int64)
        names = [f.name for f in files]
        shards = names.index(HELD_OUT[0])
        file = shards - 1 + part
        trains = part == 0
        file[trains] = shard_of(records["id"][trains], shards, self.data.seed)
        buckets.add(_bucket(records["id"], file, files), records)
        if TRAIN in names:
            mine = records[trains]
            buckets.add(_bucket(mine["id"], np.full(len(mine), names.index(TRAIN)), files), mine)

    def _write(self, file: _File, layout: Mapping[str, Layout], buckets: Buckets) -> int:
        """The rows of a file, which is written."""
        numbers = range(file.first, file.first + (1 << file.bits))
        rows = sum(map(buckets.size, numbers))
        made = new_file(self.folder / f"{file.name}.arrow", layout, rows)
        start = 0
        for number in numbers:
            records = buckets.take(number)
            records = records[order_of(np.ascontiguousarray(records["id"]))]
            fill(made, {n: records[n] for n in layout}, start)
            start += len(records)
        return rows


def _bucket(ids: Words, file: npt.NDArray[np.int64], files: list[_File]) -> npt.NDArray[np.int64]:
    """The bucket of each row, by its file and identity."""
    found = np.empty(len(ids), np.int64)
    for number in np.unique(file):
        here, of = file == number, files[number]
        found[here] = of.first + leading(ids[here, 0], of.bits)
    return found
