"""Rows of a shard in the order of an epoch, where they do not fit into memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gradbase.runtime.train.identity import keyed, leading
from gradbase.runtime.train.shard_files import Columns, Layout, fill, plain_file, record_of
from gradbase.runtime.train.spill import Buckets, bits_for
from gradbase.runtime.train.split import stretches

_NARROW_BYTES = 2_048
"""Rows up to this are written once more in their order; wider ones are read one by one."""
_KEY, _PLACE = "key", "place"
_CHUNK_ROWS = 1 << 14


class Ordered(NamedTuple):
    """Rows in an order.

    Parameters
    ----------
    made : Columns
        What was written in that order: all columns, or the places of wide rows in `shard`.
    """

    made: Columns
    shard: Columns

    def read(self, rows: range, name: str, out: npt.NDArray[Any]) -> None:
        """Fill `out` with a column of consecutive rows of the order."""
        if name in self.made.arrays:
            self.made.read(name, rows, out)
            return
        places = np.empty(len(rows), np.int64)
        self.made.read(_PLACE, rows, places)
        self.shard.file.read_rows(out, places, self.shard.offsets[name])


def ordered(shard: Columns, seed: int, epoch: int, folder: Path, part_bytes: int) -> Ordered:
    """The rows of a shard's file as `split.epoch_order` has them, in a file without a name.

    Rows are dealt into buckets by the first bits of what they are sorted by, which are sorted one
    by one.
    """
    ids, columns = shard.arrays["id"], {n: a for n, a in shard.arrays.items() if n != "id"}
    layout = {n: Layout(a.dtype.str, (*a.shape, 0)[1]) for n, a in columns.items()}
    if sum(a.strides[0] for a in columns.values()) > _NARROW_BYTES:
        layout = {n: of for n, of in layout.items() if n not in ("x", "codes")}
        layout[_PLACE] = Layout("<i8", 0)
    record = record_of({_KEY: Layout("<u8", 0), **layout})
    bits = bits_for(len(ids) * record.itemsize, part_bytes)
    dealt = Buckets(record, 1 << bits, folder)
    for rows in stretches(len(ids), _CHUNK_ROWS):
        here = slice(rows.start, rows.stop)
        records = np.empty(len(rows), record)
        records[_KEY] = keyed(ids[here], seed, epoch)
        for name in layout:
            records[name] = (
                np.arange(rows.start, rows.stop) if name == _PLACE else columns[name][here]
            )
        dealt.add(leading(records[_KEY], bits), records)
        shard.file.release()
    made = plain_file(folder, layout, len(ids))
    start = 0
    for number in range(dealt.count):
        records = dealt.take(number)
        records = records[np.argsort(records[_KEY], kind="stable")]
        fill(made, {n: records[n] for n in layout}, start)
        start += len(records)
    return Ordered(made, shard)
