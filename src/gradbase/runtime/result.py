"""Rows of a plan on their way to whoever asked for them."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Self

import pyarrow as pa

from gradbase.runtime.context import RunContext
from gradbase.runtime.streams import Stream, watched

log = logging.getLogger("gradbase.runtime")


class Result:
    """Rows of a plan as they come; read once.

    Attributes
    ----------
    schema : pa.Schema
    """

    def __init__(
        self, stream: Stream, stack: contextlib.ExitStack, context: RunContext, started: float
    ) -> None:
        self.schema = stream.schema
        self._stack, self._context, self._started = stack, context, started
        self._batches = self._counted(stream.batches)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self._batches

    def read_all(self) -> pa.Table:
        """All rows; then close."""
        with self:
            return pa.Table.from_batches(list(self._batches), schema=self.schema)

    def close(self) -> None:
        """Stop and give everything back; twice is allowed."""
        self._batches.close()
        self._stack.close()

    def _counted(self, batches: Iterator[pa.RecordBatch]) -> Generator[pa.RecordBatch]:
        metrics, rows, size = self._context.metrics, 0, 0
        try:
            for batch in watched(batches, self._context):
                rows += batch.num_rows
                size += batch.get_total_buffer_size()
                yield batch
        except BaseException as error:
            if not isinstance(error, GeneratorExit):
                metrics.add("failures")
                log.info("statement failed after %d rows: %s", rows, error)
            raise
        finally:
            seconds = time.perf_counter() - self._started
            for name, value in (("rows", rows), ("bytes", size), ("seconds", seconds)):
                metrics.add(name, value)
            log.info("%d rows, %d bytes in %.3f s", rows, size, seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
