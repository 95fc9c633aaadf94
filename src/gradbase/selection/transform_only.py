"""A model that is nothing but a TRANSFORM: learnt from all rows, stored, used by ML.TRANSFORM."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import numpy as np

from gradbase import __version__
from gradbase.ir.learning import Feature, Learn, Model
from gradbase.runtime.train.prepare import blocks_of
from gradbase.runtime.train.reading import ReadRows, read_rows
from gradbase.runtime.train.rows import RowStore
from gradbase.runtime.train.spill import spill_folder
from gradbase.runtime.train.summaries import summary
from gradbase.runtime.train.transforming import Learnt, learn_transform
from gradbase.selection.outcome import RunResult
from gradbase.selection.run import RunInfo
from gradbase.store.records import SUCCEEDED, ModelRecord, TrialRecord

if TYPE_CHECKING:
    from gradbase.runtime.context import RunContext
    from gradbase.store import Store

TASK = "transform"


def run(plan: Learn, context: RunContext, store: Store, info: RunInfo) -> RunResult:
    """Learn the transform of a dataset without a label and commit it as a version of its model.

    Raises
    ------
    DataError
        The query returns no rows, or a number to be learnt from is ±Inf.
    """
    started = time.perf_counter()
    rows = RowStore(context.broker.free()[1] // 2, lambda: spill_folder(context))
    with contextlib.closing(rows):
        read = read_rows(plan.data, context, rows, lambda _what, _rows: None)
        learnt = learn_transform(plan.data, rows, None, context)
        record = _record(plan, read, learnt, context, info)
    version = store.commit(record, or_replace=info.or_replace, if_not_exists=info.if_not_exists)
    return RunResult(version, record, time.perf_counter() - started)


def _record(
    plan: Learn, read: ReadRows, learnt: Learnt, context: RunContext, info: RunInfo
) -> ModelRecord:
    data = plan.data
    schema = data.relation.schema
    features = tuple(Feature(n, schema.type_of(n)) for n in data.features)
    model = Model(plan.name, 0, 1, TASK, "", features, (), (), learnt.transform)
    blocks = blocks_of(read.store, np.ones(read.store.rows, np.bool_))
    return ModelRecord(
        name=plan.name,
        model_type=info.model_type,
        task=TASK,
        label="",
        query=info.query,
        options=info.options,
        seed=info.seed,
        relation_hash=read.relation_hash,
        code_version=f"gradbase {__version__}",
        engine=context.engine.name,
        trials=(TrialRecord(1, SUCCEEDED, model=model, params=learnt.params),),
        metric="",
        best_trial=1,
        sql=info.sql,
        features=tuple(summary(f.name, f.of, blocks) for f in features),
        train_rows=read.store.rows,
        eval_rows=0,
        test_rows=0,
    )
