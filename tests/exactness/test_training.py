"""A trial's result follows from program, relation content, configuration and seed; nothing else."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import reference

import gradbase as gb
import shop
from gradbase.runtime.train.prepare import prepare
from gradbase.runtime.train.trainer import make_trainer

SIX = {**shop.SIX, "shards": 2}


def trained_in(folder, table, statement, *, threads=0, **settings):
    """Weights of every trial of a statement run in a database of its own."""
    with gb.connect(str(folder / "d.duckdb"), progress=False, threads=threads) as db:
        shop.load(db, table)
        for name, value in settings.items():
            db.sql(f"SET gradbase.{name} = '{value}'")
        db.sql(statement)
        return shop.weights(db, "churn"), db.store.record("churn").relation_hash


@pytest.fixture
def folders(tmp_path_factory):
    def fresh():
        return tmp_path_factory.mktemp("x")

    return fresh


def shuffled(table, seed=3):
    return table.take(np.random.default_rng(seed).permutation(table.num_rows))


def doubled(table):
    """Some rows twice, some three times, and no key to tell them apart."""
    plain = table.drop(["id"])
    return pa.concat_tables([plain, plain.slice(0, 60), plain.slice(30, 40)])


TABLES = {
    "with a key": (shop.customers(), ["id"]),
    "without a key": (shop.customers().drop(["id"]), None),
    "with duplicates": (doubled(shop.customers()), None),
    "with a key that is not unique": (shop.customers(), ["region"]),
}


@pytest.mark.parametrize("which", TABLES)
@pytest.mark.parametrize("disabled", ["", "fuse_fits"])
def test_same_seed_same_weights_in_any_physical_order(folders, which, disabled):
    table, key = TABLES[which]
    statement = shop.create_model(row_key=key, **SIX)
    settings = {"disabled_rules": disabled}
    one = trained_in(folders(), table, statement, **settings)
    assert len(one[0]) == 6
    assert len(set(one[0].values())) == 6
    assert trained_in(folders(), shuffled(table), statement, threads=1, **settings) == one
    other = shop.create_model(row_key=key, **{**SIX, "seed": 8})
    assert trained_in(folders(), table, other, **settings)[0] != one[0]


def test_another_row_is_another_relation(folders):
    statement = shop.create_model()
    table = shop.customers()
    one, fewer = (trained_in(folders(), t, statement) for t in (table, table.slice(1)))
    assert one[0] != fewer[0]
    assert one[1] != fewer[1]


# -- alone, among others, in SQL, in Python ----------------------------------------------------

ALONE = [(lr, l2) for lr in (0.003, 0.01, 0.03) for l2 in (0.0, 0.1)]


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """A session with a search whose trials were not fused, and its weights."""
    folder = tmp_path_factory.mktemp("together")
    with gb.connect(str(folder / "d.duckdb"), progress=False) as session:
        shop.load(session)
        session.sql("SET gradbase.disabled_rules = 'fuse_fits'")
        session.sql(shop.create_model("together", dropout=0.1, **SIX))
        yield session, shop.weights(session, "together")


@pytest.mark.parametrize("trial", [1, 2, 3, 4, 5, 6])
def test_each_trial_equals_its_own_create_model(together, trial):
    db, weights = together
    learn_rate, l2_reg = ALONE[trial - 1]
    options = {"learn_rate": learn_rate, "l2_reg": l2_reg, "shards": 2, "dropout": 0.1}
    db.sql(shop.create_model("alone", verb="CREATE OR REPLACE MODEL", **options))
    assert shop.weights(db, "alone") == {1: weights[trial]}


@pytest.mark.parametrize("given", ["grid", "alone"])
def test_python_and_sql_train_the_same(together, given):
    db, weights = together
    options = {
        "optimizer": "adamw", "batch_size": 32, "epochs": 3, "early_stop": False, "seed": 7,
        "split": "random", "eval_fraction": 0.2, "shards": 2, "row_key": ["id"],
    }  # fmt: skip
    net = gb.mlp(hidden=[8], dropout=0.1)
    if given == "grid":
        search = gb.search(
            net, lr=gb.choice(0.003, 0.01, 0.03), l2_reg=gb.choice(0.0, 0.1), **options
        )
        expected = weights
    else:
        search = gb.search(net, lr=0.01, l2_reg=0.1, **options)
        expected = {1: weights[4]}
    db.table(shop.rows_for("churned")).fit(search, target="churned", name="py")
    assert shop.weights(db, "py") == expected


def test_bitwise_exactness_does_not_fuse(db):
    db.sql("SET gradbase.exactness = 'bitwise'")
    db.sql(shop.create_model("a", **SIX))
    assert "fuse_fits" not in db.last_plan.rules
    db.sql("RESET gradbase.exactness; SET gradbase.disabled_rules = 'fuse_fits'")
    db.sql(shop.create_model("b", **SIX))
    assert shop.weights(db, "a") == shop.weights(db, "b")


def test_off_means_plain(db):
    """`SET gradbase.optimizer = off` trains each trial alone, to the same bits."""
    db.sql("SET gradbase.optimizer = off")
    db.sql(shop.create_model("a", **SIX))
    assert "fuse_fits" not in db.last_plan.rules
    db.sql("SET gradbase.optimizer = on; SET gradbase.disabled_rules = 'fuse_fits'")
    db.sql(shop.create_model("b", **SIX))
    assert shop.weights(db, "a") == shop.weights(db, "b")


# -- fused, against plain PyTorch --------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_fused_agrees_with_a_plain_loop(db, optimizer):
    """Every trial's loss and metric within 0.01, their median and the best's within 0.002."""
    rate = "[0.01, 0.03, 0.1]" if optimizer == "sgd" else "[0.003, 0.01, 0.03]"
    options = {**SIX, "learn_rate": shop.Sql(f"HPARAM_CANDIDATES({rate})"), "optimizer": optimizer}
    db.sql(shop.create_model("m", max_epochs=5, hidden_units=[16, 8], **options))
    assert "fuse_fits" in db.last_plan.rules
    record, fits = db.store.record("m"), db.last_plan.logical.fits
    data = prepare(fits[0].data, db.context())
    try:
        outputs, params = make_trainer(fits[0], data).finish(0)  # all start from the same weights
        plain = [reference.train(f, data, reference.module(outputs[0].x, params)) for f in fits]
    finally:
        data.close()
    assert [f.trial for f in fits] == [t.trial for t in record.trials]
    loss = np.array([t.eval_loss - p[0] for t, p in zip(record.trials, plain, strict=True)])
    area = np.array([auc(z, y) for _, z, y in plain])
    metric = np.array([t.metrics["roc_auc"] for t in record.trials]) - area
    for difference in (np.abs(loss), np.abs(metric)):
        assert difference.max() <= 0.01
        assert np.median(difference) <= 0.002
    assert abs(record.trial(record.best_trial).metrics["roc_auc"] - area.max()) <= 0.002


def auc(scores, labels):
    """Area under the ROC curve by counting pairs."""
    of_pairs = np.sign(scores[labels == 1][:, None] - scores[labels == 0][None, :])
    return (of_pairs.mean() + 1) / 2
