"""A fold is nothing but a split, and the model of cross-validation nothing but one without."""

from __future__ import annotations

import json

import numpy as np
import pytest

import gradbase as gb
import shop
from gradbase.runtime.train.reading import read_rows
from gradbase.runtime.train.rows import RowStore
from gradbase.runtime.train.split import divide

FOLDED = {
    "num_folds": 3, "data_split_method": None, "data_split_eval_fraction": None, "shards": 2,
}  # fmt: skip


def folds_of(db):
    """id -> fold, from the last plan."""
    nodes = dict.fromkeys(f.data for f in db.last_plan.logical.fits)
    first = next(iter(nodes))
    rows = read_rows(first, db.context(), RowStore(1 << 30, lambda: None), lambda *_: None)
    ids = np.concatenate([b.rows.column("id").to_numpy() for b in rows.store.blocks()])
    found = {}
    for node in nodes:
        parts = divide(node.split, *rows.identified, node.seed, None)
        found |= dict.fromkeys(ids[parts.eval].tolist(), node.split.fold)
    return found


@pytest.fixture
def folded(db):
    db.sql("SET gradbase.disabled_rules = 'fuse_fits'")
    db.sql(shop.create_model("folded", **{**shop.SIX, **FOLDED}))
    return db


def test_a_fold_is_a_custom_split_of_the_same_rows(folded):
    """Losses and metrics to the last bit: nothing of the other rows came in."""
    db, of_row = folded, folds_of(folded)
    db.sql("CREATE TABLE fold_of (id BIGINT, fold BIGINT)")
    db.sql("INSERT INTO fold_of SELECT unnest($ids), unnest($folds)",
           {"ids": list(of_row), "folds": list(of_row.values())})  # fmt: skip
    record = db.store.record("folded")
    for fold in (1, 3):
        query = (f"SELECT c.*, f.fold = {fold} AS held FROM ({shop.rows_for('churned')}) c "
                 "JOIN fold_of f USING (id)")  # fmt: skip
        options = {
            **shop.SIX, "shards": 2, "data_split_method": "custom", "data_split_col": "held",
            "data_split_eval_fraction": None,
        }  # fmt: skip
        db.sql(shop.create_model("split", query, verb="CREATE OR REPLACE MODEL", **options))
        for trial in db.store.record("split").trials:
            found = record.trial(trial.trial).folds[fold - 1]
            assert (found.train_loss, found.eval_loss) == (trial.train_loss, trial.eval_loss)
            assert found.metrics == trial.metrics


def test_the_final_model_is_that_of_all_rows(folded):
    best = folded.store.record("folded").best_trial
    configuration = folded.store.record("folded").trial(best).configuration
    folded.sql(shop.create_model("whole", **configuration, data_split_method="no_split",
                                 data_split_eval_fraction=None, shards=2))  # fmt: skip
    assert shop.model_of(folded, "whole") == shop.model_of(folded, "folded")


def results(db, name):
    record = db.store.record(name)
    return [(t.folds, t.metrics) for t in record.trials], shop.model_of(db, name)


@pytest.mark.parametrize("fused", [True, False])
def test_cross_validation_does_not_depend_on_order_threads_or_engine_state(tmp_path, fused):
    found = []
    table = shop.customers()
    shuffled = table.take(np.random.default_rng(3).permutation(table.num_rows))
    for number, (rows, threads) in enumerate(((table, 0), (shuffled, 1))):
        with gb.connect(str(tmp_path / f"{number}.duckdb"), progress=False, threads=threads) as db:
            shop.load(db, rows)
            if not fused:
                db.sql("SET gradbase.disabled_rules = 'fuse_fits'")
            db.sql(shop.create_model("m", **{**shop.SIX, **FOLDED}))
            found.append(results(db, "m"))
            assert ("fuse_fits" in db.last_plan.rules) is fused
            assert shop.leftovers(db) == []
    assert found[0] == found[1]


def test_sql_and_python_cross_validate_the_same(db):
    db.sql(shop.create_model("sql", **{**shop.SIX, **FOLDED}))
    search = gb.search(
        gb.mlp(hidden=[8]), lr=gb.choice(0.003, 0.01, 0.03), l2_reg=gb.choice(0.0, 0.1), optimizer="adamw",
        batch_size=32, epochs=3, early_stop=False, seed=7, folds=3, shards=2, row_key=["id"],
    )  # fmt: skip
    study = db.table(shop.rows_for("churned")).fit(search, target="churned", name="python")
    assert results(db, "sql") == results(db, "python")
    assert len(study.folds) == 18
    assert {"roc_auc_stddev", "roc_auc"} <= set(study.trials.columns)
    assert json.loads(json.dumps(study.curves[0]))["epoch"] == 1
