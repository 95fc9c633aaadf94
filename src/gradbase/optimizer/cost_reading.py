"""Seconds until the rows of a training are here: as a stream, or through files of the engine's.

A stream comes through one process, and what is too large to be collected at once is computed a
partition after another, the next while one is on its way. Files are written by all cores of the
engine side by side, which costs a start, and one more copy of every byte.
"""

from __future__ import annotations

from gradbase.ir.learning import Dataset
from gradbase.optimizer.context import Context

STREAM, PARQUET = "stream", "parquet"
AT_ONCE_BYTES = 64 << 20
"""Results expected to be smaller are collected by one job, all partitions side by side."""
_START_S = 0.5
_COMPUTED_BYTES_S, _WRITTEN_BYTES_S = 500e6, 90e6
"""Of a core: a partition's rows computed; handed to Python and written as Parquet. These and the
next two were measured on two cores, with 3 million rows of 240 MB (orders of magnitude)."""
_SENT_BYTES_S, _READ_BYTES_S = 210e6, 1.5e9
"""As Arrow through a socket into this process; from Parquet."""
_AHEAD = 2
"""Partitions of a stream that are computed at a time."""


def reading_seconds(data: Dataset, context: Context) -> dict[str, float]:
    """Seconds of each way to have the rows of `data` here; it has been estimated."""
    size, cores = context.estimates[data].bytes, context.capabilities.writers
    at_a_time = cores if size < AT_ONCE_BYTES else min(_AHEAD, cores)
    written = size / cores * (1 / _COMPUTED_BYTES_S + 1 / _WRITTEN_BYTES_S)
    return {
        STREAM: max(size / _SENT_BYTES_S, size / _COMPUTED_BYTES_S / at_a_time),
        PARQUET: _START_S + written + size / _READ_BYTES_S,
    }
