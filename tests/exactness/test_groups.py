"""The model of a group is the one that its rows alone would have given."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

import gradbase as gb
import shop

ROWS = {"a": 520, "b": 90, "c": 41, "d": 17, None: 25}


def table(seed=0):
    """Uneven groups; missing values, a rare category, dates and vectors."""
    draw = np.random.default_rng(seed)
    region = np.repeat(np.array(list(ROWS), object), list(ROWS.values()))
    n = len(region)
    x = draw.normal(size=n) * 10 + np.where(region == "a", 50, 5)
    z = draw.integers(0, 5, n)
    y = (x - np.where(region == "a", 50, 5)) / 10 + z + draw.normal(size=n)
    return pa.table(
        {
            "id": np.arange(n),
            "region": region.tolist(),
            "x": np.where(draw.random(n) < np.where(region == "b", 0.2, 0.0), np.nan, x),
            "z": [f"k{v}" if v else None for v in z],
            "shop": [f"s{v}" for v in draw.integers(0, 90, n)],
            "day": pa.array(draw.integers(15000, 15400, n).astype("int32")).view(pa.date32()),
            "v": pa.FixedSizeListArray.from_arrays(pa.array(draw.normal(size=3 * n)), 3),
            "w": draw.integers(1, 4, n) * 1.0,
            "y": y,
            "two": np.where(y > 2, "yes", "no").tolist(),
            "three": np.digitize(y, [1, 3]).tolist(),
        }
    ).take(draw.permutation(n))


COMMON = "row_key = ['id'], seed = 3, learn_rate = 0.02, batch_size = 16, max_epochs = 4"
CASES = {
    "two classes": ("two", "x, z, day", f"model_type = 'dnn_classifier', hidden_units = [12], {COMMON}"),
    "three classes": ("three", "x, z", f"model_type = 'dnn_classifier', hidden_units = [8, 5], {COMMON}"),
    "numbers": ("y", "x, z, v", f"model_type = 'dnn_regressor', hidden_units = [8], {COMMON}"),
    "embeddings": ("two", "x, shop", f"model_type = 'dnn_classifier', hidden_units = [8], {COMMON}"),
    "width by rows": ("two", "x, z", f"model_type = 'dnn_classifier', {COMMON}"),
    "sigmoid, width by rows": ("y", "x, z", f"model_type = 'dnn_regressor', activation_fn = 'sigmoid', {COMMON}"),
    "dropout": ("two", "x, z", f"model_type = 'dnn_classifier', hidden_units = [12, 6], dropout = 0.3, {COMMON}"),
    "shards": ("two", "x, z", f"model_type = 'dnn_classifier', hidden_units = [12], shards = 3, {COMMON}"),
    "adagrad and l1": ("y", "x, z", f"model_type = 'dnn_regressor', hidden_units = [8], optimizer = 'adagrad', l1_reg = 0.05, {COMMON}"),
    "sgd with momentum": ("y", "x, z", f"model_type = 'dnn_regressor', hidden_units = [8], optimizer = 'sgd', momentum = 0.9, l2_reg = 0.01, {COMMON}"),
    "rmsprop": ("y", "x, z", f"model_type = 'dnn_regressor', hidden_units = [8], optimizer = 'rmsprop', momentum = 0.5, {COMMON}"),
    "adamw": ("two", "x, z", f"model_type = 'dnn_classifier', hidden_units = [8], optimizer = 'adamw', l2_reg = 0.1, {COMMON}"),
    "a schedule and clipping": ("y", "x, z", f"model_type = 'dnn_regressor', hidden_units = [8], lr_schedule = 'cosine', lr_warmup_epochs = 1, clip_norm = 0.3, loss = 'huber', {COMMON}"),
    "focal": ("three", "x, z", f"model_type = 'dnn_classifier', hidden_units = [8], loss = 'focal', lr_schedule = 'step', lr_decay = 0.5, lr_decay_epochs = 1, {COMMON}"),
    "logistic": ("two", "x, z", f"model_type = 'logistic_reg', auto_class_weights = TRUE, {COMMON}"),
    "solved": ("y", "x, z", "model_type = 'linear_reg', row_key = ['id'], seed = 3"),
    "no constant term": ("y", "x, z", f"model_type = 'linear_reg', fit_intercept = FALSE, {COMMON}"),
    "weights of rows": ("y", "x, z, w", f"model_type = 'dnn_regressor', hidden_units = [8], instance_weight_col = 'w', {COMMON}"),
    "held out": ("two", "x, z", f"model_type = 'dnn_classifier', hidden_units = [8], data_split_eval_fraction = 0.2, data_split_test_fraction = 0.1, {COMMON}"),
    "no key": ("two", "x, z", "model_type = 'dnn_classifier', hidden_units = [8], max_epochs = 3, batch_size = 8"),
}  # fmt: skip


@pytest.fixture(scope="module")
def db():
    with gb.connect(progress=False) as session:
        shop.load(session, table(), "t")
        yield session


@pytest.mark.parametrize("case", CASES)
def test_a_group_is_trained_as_if_it_were_alone(db, case):
    label, columns, options = CASES[case]
    columns = f"id, {columns}, {label}" if "row_key" in options else f"{columns}, {label}"
    db.sql(
        f"CREATE OR REPLACE MODEL m OPTIONS ({options}, labels = ['{label}'], "
        f"group_by = ['region']) AS SELECT region, {columns} FROM t"
    )
    output = "PREDICT" if label == "y" else "PREDICT_PROBA"
    for number, region in ((0, "a"), (2, "c"), (4, None)):
        rows = f"SELECT {columns} FROM t WHERE region IS NOT DISTINCT FROM $region"
        db.sql(
            f"CREATE OR REPLACE MODEL alone OPTIONS ({options}, labels = ['{label}']) AS {rows}",
            params={"region": region},
        )
        for info in ("TRAINING_INFO", "EVALUATE"):
            [ours, theirs] = measured(db, info, number)
            np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-4)
        ours, theirs = (
            db.sql(
                f"SELECT {output}({model}, *) AS p FROM t "
                "WHERE region IS NOT DISTINCT FROM $region ORDER BY id",
                params={"region": region},
            ).fetchall()
            for model in ("m", "alone")
        )
        np.testing.assert_allclose(
            np.array(ours).astype(float), np.array(theirs).astype(float), rtol=5e-3, atol=2e-3
        )


def measured(db, info, number):
    """Losses or metrics of a group within all, and alone."""
    if info == "TRAINING_INFO":
        names = "loss, coalesce(eval_loss, 0)"
        ours = db.sql(
            f"SELECT {names} FROM ML.TRAINING_INFO(MODEL m) WHERE trial_id = {number + 1}"
        )
        return ours.fetchall(), db.sql(
            f"SELECT {names} FROM ML.TRAINING_INFO(MODEL alone)"
        ).fetchall()
    theirs = db.sql("SELECT * FROM ML.EVALUATE(MODEL alone)").arrow().to_pylist()[0]
    ours = (
        db.sql("SELECT * FROM ML.EVALUATE(MODEL m, STRUCT(TRUE AS by_group))").arrow().to_pylist()
    )
    return [[r[n] or 0.0 for n in theirs] for r in (ours[number], theirs)]


ALONE = {
    "dnn": f"model_type = 'dnn_classifier', hidden_units = [9], dropout = 0.2, labels = ['two'], {COMMON}",
    "embeddings": f"model_type = 'dnn_classifier', activation_fn = 'sigmoid', labels = ['two'], {COMMON}",
    "solved": "model_type = 'linear_reg', row_key = ['id'], labels = ['y']",
}


@pytest.mark.parametrize("case", ALONE)
def test_a_groups_model_does_not_depend_on_other_groups(db, case):
    """Bitwise: among all, beside one other, and by itself; whatever the order of rows."""
    label = "y" if case == "solved" else "two"
    found = []
    for which in ("TRUE", "region IN ('b', 'c')", "region = 'b'"):
        db.sql(
            f"CREATE OR REPLACE MODEL m OPTIONS ({ALONE[case]}, group_by = ['region']) AS "
            f"SELECT region, id, x, shop, {label} FROM t WHERE {which} ORDER BY hash(id + {len(found)})"
        )
        info = db.sql(
            "SELECT loss FROM ML.TRAINING_INFO(MODEL m) WHERE region = 'b' ORDER BY iteration"
        )
        output = "PREDICT" if label == "y" else "PREDICT_PROBA"
        db.sql("SET gradbase.exactness = 'bitwise'")
        rows = db.sql(f"SELECT {output}(m, *) FROM t WHERE region = 'b' ORDER BY id")
        found.append((info.fetchall(), rows.fetchall()))
        db.sql("RESET gradbase.exactness")
    assert found[0] == found[1] == found[2]


def test_where_results_must_be_bitwise_it_is_refused(db):
    db.sql("SET gradbase.exactness = 'bitwise'")
    with pytest.raises(gb.errors.UnsupportedError, match="group_by trains in stacks"):
        db.sql(
            f"CREATE OR REPLACE MODEL m OPTIONS ({ALONE['dnn']}, group_by = ['region']) AS SELECT region, id, x, two FROM t"
        )
    db.sql("RESET gradbase.exactness")
