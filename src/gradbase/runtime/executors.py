"""Predictions where an engine's rows are: in Python processes of its executors.

What travels is text: the model's plan, and where its store is. Each process reads the weights there
once and keeps the program for the batches to come.
"""

from __future__ import annotations

import functools
import gc
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from gradbase.engines.base import Mapped, View
from gradbase.engines.objects import Objects, scheme_of
from gradbase.errors import InternalError
from gradbase.ir.facts import Settings
from gradbase.ir.learning import Model, Predict
from gradbase.ir.parser import parse_plan
from gradbase.ir.printer import print_plan
from gradbase.resources.broker import Broker
from gradbase.runtime.arrow_types import arrow_type
from gradbase.runtime.context import RunContext
from gradbase.runtime.predict import INLINE_ROWS, one_thread
from gradbase.runtime.preprocess.operator import Reads
from gradbase.runtime.program import Program, tile_rows
from gradbase.runtime.streams import grouped
from gradbase.store.blobs import Blobs
from gradbase.store.folder import Folder
from gradbase.store.object_pieces import ObjectPieces
from gradbase.store.pieces import FilePieces

Work = Callable[[pa.RecordBatch, int], pa.RecordBatch]


def reachable(context: RunContext) -> bool:
    """Whether executors may read the weights themselves."""
    if "executors" not in context.engine.capabilities.representations:
        return False
    pieces = context.blobs.pieces if isinstance(context.blobs, Blobs) else None
    remote = isinstance(pieces, ObjectPieces) and pieces.objects.is_shared
    return remote or isinstance(pieces, FilePieces)


def mapped_view(
    node: Predict,
    sql: str,
    views: Mapping[str, View | Mapped],
    context: RunContext,
    read: Collection[str],
    *,
    shared: bool,
) -> Mapped:
    """`node` over the rows of `sql` as a view of the engine's; of its columns those in `read`."""
    columns = node.child.schema.names
    kept = tuple(i for i, name in enumerate(columns) if name in read)
    types = [_plain(arrow_type(node.model.output(m).type)) for m in node.methods]
    task = {
        "model": print_plan(node.model),
        "methods": node.methods,
        "features": [columns.index(f) for f in node.features],
        "kept": kept,
        "store": _address(context.blobs),
        "batch_rows": node.batch_rows,
        "exactness": context.settings.exactness,
    }
    added = pa.schema([pa.field(n, t) for n, t in zip(node.names, types, strict=True)])
    return Mapped(sql, views, predict_batches, (json.dumps(task),), kept, added, shared)


def predict_batches(batches: Iterable[pa.RecordBatch], task: str) -> Iterator[pa.RecordBatch]:
    """Of batches what a task keeps, and what it adds; runs in a process of an executor."""
    work, first_row = _prepared(task), 0
    for batch in grouped(batches, INLINE_ROWS):
        with one_thread():
            made = work(batch, first_row)
        first_row += batch.num_rows
        yield made


@functools.lru_cache(maxsize=8)
def _prepared(task: str) -> Work:
    """The work of a task, weights and program ready; kept by the process."""
    _settle()
    given: dict[str, Any] = json.loads(task)
    model = parse_plan(given["model"])
    if not isinstance(model, Model):
        raise InternalError(f"an executor was asked to predict with {type(model).__name__}")
    blobs = _opened(given["store"])
    settings = Settings(exactness=given["exactness"])
    context = RunContext(None, blobs, Broker(1, 1 << 62), settings=settings)
    bitwise = settings.exactness == "bitwise"
    program = Program(model, given["methods"], blobs, bitwise=bitwise)
    tile = given["batch_rows"] or tile_rows(model, context.calibration.cache_bytes)
    reads, places, kept = Reads(model, context), given["features"], given["kept"]
    names = [f.name for f in model.features]

    def work(batch: pa.RecordBatch, first_row: int) -> pa.RecordBatch:
        columns = [batch.column(place) for place in places]
        read = reads(pa.RecordBatch.from_arrays(columns, names))
        runner = program.runner(read.schema.types, tile)
        made = runner(read, first_row)
        program.give_back(runner)
        back = {batch.schema.names[place]: batch.column(place) for place in kept}
        back |= {f"added{i}": column.cast(_plain(column.type)) for i, column in enumerate(made)}
        return pa.RecordBatch.from_pydict(back)

    return work


def _address(blobs: Blobs) -> str:
    """Where executors find what `blobs` holds: a path or a URL."""
    pieces = blobs.pieces
    return pieces.objects.url if isinstance(pieces, ObjectPieces) else str(blobs.folder.root)


def _opened(address: str) -> Blobs:
    if scheme_of(address):
        return Blobs(Folder.at(None), ObjectPieces(Objects(address)), True, lambda _: [])
    folder = Folder.at(Path(address))
    return Blobs(folder, FilePieces(folder), True, lambda _: [])


@functools.cache
def _settle() -> None:
    """Keep what is loaded by now out of garbage collections, once in a process.

    Spark's Python collects garbage after each task: with torch loaded that took 0.2 s.
    """
    gc.collect()
    gc.freeze()


def _plain(of: pa.DataType) -> pa.DataType:
    """A type that every engine's Python processes hand back: lists have no fixed length."""
    if pa.types.is_fixed_size_list(of) or pa.types.is_list(of):
        return pa.list_(_plain(of.value_type))
    if pa.types.is_dictionary(of):
        return of.value_type
    if pa.types.is_struct(of):
        return pa.struct([pa.field(f.name, _plain(f.type)) for f in of.fields])
    return of
