"""Weights of rows and classes, l1_reg and patience: exact as everything else."""

from __future__ import annotations

import numpy as np
import pytest
import reference

import gradbase as gb
import shop
from gradbase.runtime.train.prepare import prepare
from gradbase.runtime.train.trainer import make_trainer

ROWS = f"SELECT *, age % 3 AS w FROM ({shop.rows_for('churned')}) WHERE age IS NOT NULL"
WAYS = {
    "rows": {"instance_weight_col": "w"},
    "classes": {"class_weights": shop.Sql("[STRUCT('no', 0.5), STRUCT('yes', 2.0)]")},
    "balanced": {"auto_class_weights": True},
    "l1_reg": {
        "optimizer": "sgd",
        "l1_reg": 0.02,
        "learn_rate": shop.Sql("HPARAM_CANDIDATES([0.05, 0.1, 0.2])"),
    },
    "patience": {"early_stop": True, "early_stop_patience": 2, "max_epochs": 6},
}


def statement(way, name="m", **changes):
    options = {**shop.SIX, "shards": 2, "dropout": 0.1, **WAYS[way], **changes}
    return shop.create_model(name, ROWS, **options)


@pytest.mark.parametrize("disabled", ["", "fuse_fits"])
@pytest.mark.parametrize("way", WAYS)
def test_the_same_weights_in_any_physical_order(tmp_path, way, disabled):
    table, found = shop.customers(), []
    shuffled = table.take(np.random.default_rng(3).permutation(table.num_rows))
    for number, (rows, threads) in enumerate(((table, 0), (shuffled, 1))):
        with gb.connect(str(tmp_path / f"{number}.duckdb"), progress=False, threads=threads) as db:
            shop.load(db, rows)
            db.sql(f"SET gradbase.disabled_rules = '{disabled}'")
            db.sql(statement(way))
            found.append(shop.weights(db, "m"))
    assert found[0] == found[1]
    assert len(set(found[0].values())) == 6


@pytest.mark.parametrize("way", WAYS)
def test_a_trial_alone_is_what_it_is_among_others(db, way):
    db.sql("SET gradbase.disabled_rules = 'fuse_fits'")
    db.sql(statement(way))
    together = shop.weights(db, "m")
    configuration = db.store.record("m").trial(4).configuration
    db.sql(statement(way, "alone", **configuration))
    assert shop.weights(db, "alone") == {1: together[4]}


@pytest.mark.parametrize("way", ["rows", "classes", "balanced"])
def test_fused_agrees_with_a_plain_loop(db, way):
    """Losses within 0.01, their median within 0.002."""
    db.sql(statement(way, dropout=None, max_epochs=5))
    assert "fuse_fits" in db.last_plan.rules
    record, fits = db.store.record("m"), db.last_plan.logical.fits
    data = prepare(fits[0].data, db.context())
    outputs, params = make_trainer(fits[0], data).finish(0)
    classes = data.class_weights(fits[0]) or (1.0, 1.0)
    assert (way == "rows") == (classes == (1.0, 1.0))
    plain = [
        reference.train(f, data, reference.module(outputs[0].x, params), classes)[0] for f in fits
    ]
    data.close()
    found = [record.trial(f.trial).eval_loss for f in fits]
    difference = np.abs(np.array(found) - np.array(plain))
    assert difference.max() <= 0.01
    assert np.median(difference) <= 0.002


@pytest.mark.parametrize("way", WAYS)
def test_python_and_sql_say_the_same(db, way):
    db.sql(statement(way, "sql"))
    given = {
        "rows": {"weight_column": "w"},
        "classes": {"class_weights": {"yes": 2.0, "no": 0.5}},
        "balanced": {"auto_class_weights": True},
        "l1_reg": {"optimizer": "sgd", "l1_reg": 0.02, "lr": gb.choice(0.05, 0.1, 0.2)},
        "patience": {"early_stop": True, "patience": 2, "epochs": 6},
    }[way]
    options = {
        "lr": gb.choice(0.003, 0.01, 0.03), "l2_reg": gb.choice(0.0, 0.1), "optimizer": "adamw",
        "batch_size": 32, "epochs": 3, "early_stop": False, "seed": 7, "split": "random",
        "eval_fraction": 0.2, "shards": 2, "row_key": ["id"],
    }  # fmt: skip
    search = gb.search(gb.mlp(hidden=[8], dropout=0.1), **{**options, **given})
    db.table(ROWS).fit(search, target="churned", name="python")
    assert shop.weights(db, "python") == shop.weights(db, "sql")
