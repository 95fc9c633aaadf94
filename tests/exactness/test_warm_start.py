"""Continuing a model is training on from its weights, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import reference

import gradbase as gb
import shop
from gradbase.runtime.train.prepare import Preparation

PLAIN = {"optimizer": "sgd", "learn_rate": 0.05, "max_epochs": 2, "shards": 2}
AGAIN = "CREATE OR REPLACE MODEL m OPTIONS (warm_start = TRUE{}) AS " + shop.rows_for("churned")


def test_it_goes_on_from_the_weights_as_a_plain_loop_does(db):
    """SGD keeps no state but the weights; the second run has its own learning rate."""
    db.sql(shop.create_model("m", **PLAIN))
    db.sql(AGAIN.format(", learn_rate = 0.02, max_epochs = 3"))
    fit, record = db.last_plan.logical.fits[0], db.store.record("m")
    assert (fit.start.version, fit.optimizer.learn_rate, fit.epochs) == (1, 0.02, 3)
    preparation = Preparation(fit.data, db.context(), start=fit.start)
    data = preparation.deal(fit.data)
    net = reference.module(fit.start.outputs[0].x, Params(db.store.blobs, fit.start))
    loss, _, _ = reference.train(fit, data, net)
    preparation.close()
    data.close()
    trial = record.trial(1)
    assert trial.eval_loss == pytest.approx(loss, rel=1e-4)
    assert [(e.run, e.epoch) for e in trial.epochs] == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]


class Params:
    """The weights of a model by hash."""

    def __init__(self, blobs, model):
        self.by_hash = {p.hash: p for o in model.outputs for p in o.params}
        self.blobs = blobs

    def __getitem__(self, key):
        return self.blobs.array(self.by_hash[key])


def test_a_run_that_takes_no_step_changes_nothing(db):
    """A learning rate of 0: the new version is the old one, bit for bit, encodings included."""
    db.sql(shop.create_model("m", **PLAIN))
    db.sql(AGAIN.format(", learn_rate = 0.0, max_epochs = 1"))
    assert shop.weights(db, "m", 1) == shop.weights(db, "m", 2)


def test_encodings_stay_those_of_the_first_rows(db):
    """New rows do not move means or vocabularies, though they would have given others."""
    db.sql(shop.create_model("m", **PLAIN))
    db.sql(AGAIN.format("") + " WHERE id % 3 = 0 AND region <> 'south'")
    old, new = (db.store.model("m", v) for v in (1, 2))
    assert old.features == new.features
    assert encodings(old) == encodings(new)
    assert shop.weights(db, "m", 1) != shop.weights(db, "m", 2)


def encodings(model):
    from gradbase.ir.conversion import ToTensor
    from gradbase.ir.node import walk

    return [n for n in walk(model) if isinstance(n, ToTensor)]


def test_the_physical_order_of_rows_does_not_matter(tmp_path):
    table, found = shop.customers(), []
    shuffled = table.take(np.random.default_rng(3).permutation(table.num_rows))
    for number, (rows, threads) in enumerate(((table, 0), (shuffled, 1))):
        with gb.connect(str(tmp_path / f"{number}.duckdb"), progress=False, threads=threads) as db:
            shop.load(db, rows)
            db.sql(shop.create_model("m", **PLAIN))
            db.sql(AGAIN.format(", optimizer = 'adamw', learn_rate = 0.01"))
            found.append(shop.weights(db, "m", 2))
            assert shop.leftovers(db) == []
    assert found[0] == found[1]


def test_sql_and_python_continue_the_same(db):
    db.sql(shop.create_model("m", **PLAIN))
    db.sql(AGAIN.format(", learn_rate = 0.02"))
    db.sql("ALTER MODEL m SET VERSION 1")
    study = db.table(shop.rows_for("churned")).fit(
        gb.mlp(), target="churned", name="m", warm_start=True, lr=0.02
    )
    assert study.version == 3
    assert shop.weights(db, "m", 2) == shop.weights(db, "m", 3)
    assert study.history["run"].tolist() == [0, 0, 1, 1]
    assert [row["epoch"] for row in study.curves] == [1, 2, 3, 4]
