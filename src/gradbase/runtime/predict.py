"""Prediction, in its three representations.

``dl``: rows stream out of the engine in batches, torch adds columns to them. Cheap networks run in
the thread that reads; dear ones in threads of their own while the engine goes on scanning.
``relational``: as ``dl``, with weights and results in tiles (`runtime.tiled`).
``udf``: a function inside the engine's process.
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, Protocol

import pyarrow as pa
import torch

from gradbase.engines.base import Function
from gradbase.errors import DataError, ResourceError
from gradbase.ir.factored import PredictJoined
from gradbase.ir.learning import Model, Predict
from gradbase.ir.scalar import PredictCall
from gradbase.ir.types import struct_of
from gradbase.optimizer.cost_predict import ONNX, piece_rows
from gradbase.runtime.context import RunContext
from gradbase.runtime.distinct import Repeats
from gradbase.runtime.joined import Joined
from gradbase.runtime.outputs import Output
from gradbase.runtime.preprocess.operator import Reads
from gradbase.runtime.program import Program, Runner, tile_rows
from gradbase.runtime.programs import compile_program
from gradbase.runtime.streams import Stream, cut, grouped, recut, watched
from gradbase.runtime.tiled.program import TiledProgram
from gradbase.runtime.tiled.sizes import TiledSizes
from gradbase.runtime.timing import Timing
from gradbase.store.tiles.ahead import ahead

RELATIONAL = "relational"
INLINE_ROWS, THREADED_ROWS = 16_384, 32_768
"""Rows per batch from the engine: small keeps a batch in cache, large feeds several threads."""
_SMALLEST_BATCH = 256
_MOST_THREADS = 8
_MEMORY_SHARE = 4
"""A prediction's batches take at most this part (one in …) of the memory for statements."""

_PATIENCE_S = 60.0

Work = Callable[[pa.RecordBatch, int], pa.RecordBatch]


@contextlib.contextmanager
def one_thread() -> Generator[None]:
    """Torch uses one thread inside; the caller's number of threads is put back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def leased(
    context: RunContext, purpose: str, *, threads: int = 0, size_bytes: int = 0
) -> Generator[int]:
    """A lease that is waited for until the statement is cancelled; of `threads` at least one.

    Threads come back when other statements pause; memory may be held for good (an engine's buffer
    pool), so waiting for it ends after a minute.
    """
    start = time.perf_counter()
    while True:
        context.check_cancelled()
        try:
            lease = context.broker.acquire(
                "query", purpose, threads=threads, size_bytes=size_bytes, least_threads=1,
                timeout_s=1.0,
            )  # fmt: skip
            break
        except ResourceError:
            waited = time.perf_counter() - start
            impossible = size_bytes > context.broker.memory_bytes
            if impossible or (size_bytes and waited > _PATIENCE_S):
                raise
    context.metrics.add("leases")
    context.metrics.add("lease_wait_seconds", time.perf_counter() - start)
    try:
        yield lease.threads
    finally:
        context.broker.release(lease)


# -- dl ----------------------------------------------------------------------------------------


class Sizes:
    """How a model's batches are cut and how many threads compute.

    Parameters
    ----------
    model : Model
    batch_rows : int
        The plan's choice for the rows of one tile, 0: what fits the cache.
    row_bytes : int
        Of the rows that pass by.
    context : RunContext
    onnx : bool
        Whether ONNX Runtime computes, which holds weights of its own.
    """

    def __init__(
        self, model: Model, batch_rows: int, row_bytes: int, context: RunContext,
        *, onnx: bool = False,
    ) -> None:  # fmt: skip
        calibration = context.calibration
        self.onnx = onnx
        self.tile_rows = batch_rows or tile_rows(model, calibration.cache_bytes)
        compute_s = model.flops / calibration.gemm_flops
        scan_s = len(model.features) * calibration.arrow_value_s
        threads = max(2, math.ceil(compute_s / scan_s)) if compute_s > scan_s / 2 else 0
        self.threads = min(threads, context.broker.threads, _MOST_THREADS)
        if self.threads < 2:
            self.threads = 0
        wanted = max(THREADED_ROWS if self.threads else INLINE_ROWS, self.tile_rows)
        per_row = 2 * row_bytes + 8 * model.widest
        allowed = context.memory_bytes // (_MEMORY_SHARE * per_row * (self.threads + 2))
        self.batch_rows = max(_SMALLEST_BATCH, min(wanted, allowed))
        self.tile_rows = min(self.tile_rows, self.batch_rows)
        self.piece_rows = min(piece_rows(model, calibration), self.batch_rows)
        self.size_bytes = (1 + onnx) * model.param_bytes + per_row * self.batch_rows * (
            self.threads + 2
        )


def sizes_of(node: Predict | PredictJoined, context: RunContext) -> Sizes | TiledSizes:
    """The sizes of a prediction."""
    row_bytes = node.child.schema.row_bytes
    if isinstance(node, Predict) and node.representation == RELATIONAL:
        return TiledSizes(node.model, node.methods, row_bytes, node.batch_rows, context)
    onnx = isinstance(node, Predict) and node.representation == ONNX
    return Sizes(node.model, node.batch_rows, row_bytes, context, onnx=onnx)


class Computing(Protocol):
    """A model's outputs, ready to be computed."""

    outputs: list[Output]
    imported: bool
    grouped: bool
    threads: int
    """Threads of the broker that a call can use."""

    def one(self, features: pa.RecordBatch, threads: int = 1) -> AbstractContextManager[Any]:
        """What computes columns of these types in `threads` threads: called, or its `run`."""
        ...

    def close(self) -> None:
        """Nothing is computed any more."""
        ...


def computing(
    model: Model, methods: tuple[str, ...], sizes: Sizes | TiledSizes, context: RunContext
) -> Computing:
    """What computes the outputs `methods` of a model."""
    if isinstance(sizes, TiledSizes):
        return TiledProgram(sizes, methods, context)
    program = compile_program(model, methods, context, onnx=sizes.onnx)
    return Runners(program, sizes.tile_rows, context)


def predict_stream(
    node: Predict | PredictJoined,
    source: Stream,
    sizes: Sizes | TiledSizes,
    context: RunContext,
    runners: Computing | None = None,
) -> Stream:
    """`source` with one more column per output; other columns pass by untouched.

    `runners` compute them; if left out, as `computing` says.

    Raises
    ------
    DataError
        A feature is ±Inf.
    """
    runners = runners or computing(node.model, node.methods, sizes, context)
    added = [pa.field(n, o.type) for n, o in zip(node.names, runners.outputs, strict=True)]
    schema = pa.schema([*source.schema, *added])
    read = node.reads if isinstance(node, PredictJoined) else node.features
    positions = [source.schema.get_field_index(f) for f in read]
    reads = Reads(node.model, context)
    repeats = Repeats(context) if isinstance(node, Predict) and node.distinct else None
    told = ""
    if isinstance(sizes, Sizes) and repeats is None:
        told = ONNX if sizes.onnx else "dl"
    timing = Timing(node, told, context)

    def work(batch: pa.RecordBatch, first_row: int) -> pa.RecordBatch:
        lease = leased(context, f"predict {node.model.name}", threads=runners.threads)
        with lease as threads, timing.of(batch.num_rows):
            features = reads(batch.select(positions))
            with runners.one(features, threads) as runner:
                run = runner if repeats is None else functools.partial(repeats, runner)
                columns = run(features, first_row)
        context.metrics.add("predicted_rows", batch.num_rows)
        for field, column in zip(added, columns, strict=True):
            batch = batch.append_column(field, column)  # old columns do not pass through Python
        return batch

    batches = watched(source.batches, context)
    if isinstance(sizes, TiledSizes):  # every batch reads all weights
        batches = ahead(recut(batches, sizes.batch_rows))
    elif source.recut:
        batches = grouped(batches, sizes.batch_rows)
    if isinstance(sizes, Sizes) and sizes.threads:
        batches = cut(batches, sizes.piece_rows)
    run = _threaded(batches, work, sizes.threads) if sizes.threads else _inline(batches, work)
    return Stream(schema, _closing(run, runners, timing))


def _closing(
    batches: Generator[pa.RecordBatch], runners: Computing, timing: Timing
) -> Generator[pa.RecordBatch]:
    try:
        yield from batches
    finally:
        runners.close()
        timing.tell()


class Runners:
    """Runners of a program, each used by one thread at a time.

    They are handed out and taken back rather than kept per thread: an engine's threads have a new
    Python thread state in every call, and clearing one that holds tensors crashes.
    """

    def __init__(self, program: Program, tile: int, context: RunContext) -> None:
        self._program, self._tile, self._context = program, tile, context
        self.outputs, self.threads = program.outputs, 1
        self.imported, self.grouped = program.imported, program.grouped

    def close(self) -> None:
        """The program is kept for the next statement."""
        return

    @contextlib.contextmanager
    def one(
        self,
        features: pa.RecordBatch,
        threads: int = 1,  # noqa: ARG002 (always one)
    ) -> Generator[Runner]:
        """A runner for columns of these types; torch has one thread while it is out."""
        types = features.schema.types
        runner = self._program.runner(types, self._tile, self._context.metrics)
        with one_thread():
            yield runner
        self._program.give_back(runner)


class JoinedRunners(Runners):
    """Runners of what is left of a network whose first layer is looked up in other tables."""

    def __init__(self, joined: Joined, sizes: Sizes | TiledSizes, context: RunContext) -> None:
        tile = sizes.tile_rows if isinstance(sizes, Sizes) else 0
        super().__init__(joined.program, tile, context)
        self._joined = joined

    @contextlib.contextmanager
    def one(self, features: pa.RecordBatch, threads: int = 1) -> Generator[Any]:
        """As of any program, with NULL where what is looked up is NULL."""
        with super().one(features, threads) as runner:
            yield functools.partial(self._joined.computed, runner)


def _inline(batches: Iterator[pa.RecordBatch], work: Work) -> Generator[pa.RecordBatch]:
    first_row = 0
    for batch in batches:
        made = work(batch, first_row)
        first_row += batch.num_rows
        yield made


def _threaded(
    batches: Iterator[pa.RecordBatch], work: Work, threads: int
) -> Generator[pa.RecordBatch]:
    """As `_inline`, `threads` batches at once; results keep the order of the rows."""
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, "gradbase-predict", lambda: torch.set_num_threads(1))
    waiting: deque[Future[pa.RecordBatch]] = deque()
    first_row = 0
    try:
        for batch in batches:
            waiting.append(pool.submit(work, batch, first_row))
            first_row += batch.num_rows
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        # New threads start with the number set last in any thread.
        torch.set_num_threads(before)


# -- udf ---------------------------------------------------------------------------------------


def call_function(call: PredictCall, name: str, context: RunContext, timing: Timing) -> Function:
    """A function for the engine that computes `call` from its features."""
    compute = _in_engine(call.model, (call.output,), context, timing)
    types = [f.type for f in call.features]
    kind = call.model.output(call.output).type
    return Function(name, types, kind, lambda columns: compute(columns)[0])


def predict_function(node: Predict, name: str, context: RunContext, timing: Timing) -> Function:
    """A function that returns the outputs of `node` as a struct with the methods as fields."""
    compute = _in_engine(node.model, node.methods, context, timing)
    types = [node.child.schema.type_of(f) for f in node.features]
    kind = struct_of(**{m: node.model.output(m).type for m in node.methods})

    def run(columns: list[pa.Array]) -> pa.Array:
        return pa.StructArray.from_arrays(compute(columns), list(node.methods))

    return Function(name, types, kind, run)


def _in_engine(
    model: Model, methods: tuple[str, ...], context: RunContext, timing: Timing
) -> Callable[[list[pa.Array]], list[pa.Array]]:
    program = compile_program(model, methods, context)
    runners = Runners(program, tile_rows(model, context.calibration.cache_bytes), context)
    names, reads = [f.name for f in model.features], Reads(model, context)

    def run(columns: list[pa.Array]) -> list[pa.Array]:
        context.check_cancelled()
        try:
            with timing.of(len(columns[0])):
                features = reads(pa.RecordBatch.from_arrays(columns, names))
                with runners.one(features) as runner:
                    made = runner(features)
        except DataError as error:
            hint = f"rows are counted within one call of the engine; {error.hint}"
            raise DataError(error.message, at=error.at, hint=hint) from None
        context.metrics.add("predicted_rows", features.num_rows)
        return made

    return run
