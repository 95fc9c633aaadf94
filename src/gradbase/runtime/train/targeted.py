"""Shards that a worker makes by itself: rows asked of the database, encoded as the search says."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gradbase.engines import connect, quote_identifier
from gradbase.errors import EngineError, UnsupportedError
from gradbase.ir.conversion import ToTensor
from gradbase.ir.learning import Dataset
from gradbase.ir.node import walk
from gradbase.ir.parser import parse_plan
from gradbase.ir.printer import print_plan
from gradbase.ir.relational import Project
from gradbase.ir.scalar import Column
from gradbase.runtime.train.encode_rows import encode_block
from gradbase.runtime.train.features import Inputs
from gradbase.runtime.train.identity import Words, row_hashes
from gradbase.runtime.train.reading import OURS
from gradbase.runtime.train.rows import Block
from gradbase.runtime.train.shard_files import Layout
from gradbase.runtime.train.sharded import MANIFEST, ShardedData, part_rows, sums_of

if TYPE_CHECKING:
    from gradbase.engines.base import Engine, SideTable
    from gradbase.runtime.context import RunContext
    from gradbase.runtime.train.data import Keyed, TrainingData

_OWN = "gradbase "
"""Begins the names of a side table's columns: none of the query's is called so."""
Query = dict[str, Any]


def refused(dataset: Dataset, data: TrainingData, context: RunContext) -> str:
    """Why workers cannot ask the database for their shards; '' where they can."""
    able = context.engine.capabilities
    if not able.side_tables:
        return able.unsupported.get("targeted", f"{able.engine} has no side tables")
    if not dataset.row_key:
        return "the query has no row_key"
    if data.keyed is None:
        in_files = isinstance(data, ShardedData)
        return (
            "rows do not fit into memory"
            if in_files
            else "row_key is not unique, or NULL in some rows"
        )
    if context.parameters:
        return "the query has parameters"
    if dataset.prepared or any(isinstance(n, OURS) for n in walk(dataset.relation)):
        return "columns are computed here before they are encoded"
    return context.engine.why_not_targeted(context.engine.compile(dataset.relation))


def side_rows(data: TrainingData, keyed: Keyed) -> pa.Table:
    """The side table: keys, the file of each row and its place there, label, weight, identity."""
    rows = np.concatenate(list(part_rows(data).values()))
    counts = [len(part) for part in part_rows(data).values()]
    own: dict[str, npt.NDArray[Any]] = {
        "shard": np.repeat(np.arange(len(counts)), counts),
        "place": np.concatenate([np.arange(n) for n in counts]),
        "a": data.ids[rows, 0].view(np.int64), "b": data.ids[rows, 1].view(np.int64),
    }  # fmt: skip
    if data.task != "reconstruction":
        y = data.target.y[rows]
        own["y"] = y.astype(np.int64 if y.dtype.kind == "i" else np.float64)
    if data.weights is not None:
        own["w"] = data.weights[rows]
    found = keyed.keys.take(pa.array(rows))
    for name, values in own.items():
        found = found.append_column(_OWN + name, pa.array(values))
    return found


def query_of(
    data: TrainingData, dataset: Dataset, engine: Engine, side: SideTable, keyed: Keyed
) -> tuple[Query, dict[str, npt.NDArray[Any]]]:
    """What workers are told once, as JSON and arrays: where to ask, what, and how to encode it."""
    schema = dataset.relation.schema
    columns = tuple(Column(n, schema.type_of(n)) for n in dataset.columns)
    inner = engine.compile(Project(dataset.relation, dataset.columns, columns))
    q = quote_identifier
    on = " AND ".join(f"q.{q(k)} = s.{q(k)}" for k in dataset.row_key)
    own = [n for n in side_rows_names(data) if n not in dataset.row_key]
    chosen = ", ".join([*(f"q.{q(c)}" for c in dataset.columns), *(f"s.{q(n)}" for n in own)])
    sql = (
        f"SELECT {chosen} FROM ({inner}) q JOIN {side.name} s ON {on} "
        f"WHERE s.{q(_OWN + 'shard')} = $p1 ORDER BY s.{q(_OWN + 'place')}"
    )
    told = {
        "address": side.address, "sql": sql, "content": list(dataset.content),
        "dense": [print_plan(t) for t in data.inputs.dense],
        "embedded": [print_plan(t) for t in data.inputs.embedded],
        "checks": [sums_of(keyed.content[rows]) for rows in part_rows(data).values()],
    }  # fmt: skip
    return told, data.inputs.params


def side_rows_names(data: TrainingData) -> list[str]:
    """Columns of `side_rows` beside the keys."""
    names = ["shard", "place", "a", "b"]
    names += ["y"] * (data.task != "reconstruction") + ["w"] * (data.weights is not None)
    return [_OWN + n for n in names]


def make_part(told: Query, params: Mapping[str, npt.NDArray[Any]], folder: Path, name: str) -> None:
    """Ask for the rows of the part `name`, and write its file.

    Raises
    ------
    EngineError
        The rows are not those that the search began with, or the database cannot be reached.
    """
    made = json.loads((folder / MANIFEST).read_text())
    number, expected = list(made["rows"]).index(name), made["rows"][name]
    with contextlib.closing(connect(told["address"], read_only=True)) as engine:
        rows = engine.fetch(told["sql"], {"p1": number}).combine_chunks()
    batches = rows.to_batches()
    found = sums_of(np.concatenate([row_hashes(b, told["content"]) for b in batches] or [_NONE]))
    if rows.num_rows != expected or found != told["checks"][number]:
        raise EngineError(
            f"the rows of the training query have changed: {name} has {rows.num_rows:,} rows, "
            f"expected {expected:,}, or others",
            hint="start the search again; executor = 'in_process' reads rows once",
        )
    inputs = Inputs((), _tensors(told["dense"]), _tensors(told["embedded"]), dict(params), ())
    layout = {n: Layout(*column) for n, column in made["layout"].items()}
    arrays = _encoded(inputs, layout, batches[0]) if batches else {}
    _write(folder / f"{name}.arrow", layout, arrays)


_NONE: Words = np.empty((0, 2), np.uint64)


def _tensors(texts: Sequence[str]) -> tuple[ToTensor, ...]:
    found = tuple(parse_plan(text) for text in texts)
    if not all(isinstance(t, ToTensor) for t in found):
        raise UnsupportedError("an encoding was sent that is none")
    return tuple(t for t in found if isinstance(t, ToTensor))


def _encoded(
    inputs: Inputs, layout: Mapping[str, Layout], batch: pa.RecordBatch
) -> dict[str, npt.NDArray[Any]]:
    def own(name: str) -> npt.NDArray[Any]:
        return batch.column(_OWN + name).to_numpy(zero_copy_only=False)

    rows = batch.num_rows
    x = np.empty((rows, layout["x"].width), np.float32)
    codes = np.empty((rows, layout["codes"].width), np.int64) if "codes" in layout else None
    encode_block(Block(batch, 0, None, 0), inputs, x, codes)
    found: dict[str, npt.NDArray[Any]] = {
        "id": np.stack([own("a").view(np.uint64), own("b").view(np.uint64)], 1), "x": x
    }  # fmt: skip
    if codes is not None:
        found["codes"] = codes
    return found | {n: own(n).astype(layout[n].dtype) for n in ("y", "w") if n in layout}


def _write(
    path: Path, layout: Mapping[str, Layout], arrays: Mapping[str, npt.NDArray[Any]]
) -> None:
    columns: list[pa.Array] = []
    for name, (dtype, width) in layout.items():
        values = arrays.get(name, np.empty((0, width) if width else 0, dtype))
        flat = pa.array(np.ascontiguousarray(values, dtype).reshape(-1))
        columns.append(pa.FixedSizeListArray.from_arrays(flat, width) if width else flat)
    batch = pa.RecordBatch.from_arrays(columns, names=list(layout))
    half = path.with_suffix(".half")
    with pa.ipc.new_file(str(half), batch.schema) as file:
        file.write_batch(batch)
    half.rename(path)
