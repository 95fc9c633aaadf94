"""Names that are not there: the error says which, and offers those that are near."""

from __future__ import annotations

import pytest

import shop
from gradbase.errors import BindError, ParseError, UnsupportedError

MADE = shop.create_model("other")

# statement, error, what its text must say
STATEMENTS = {
    "unknown model": (
        "SELECT PREDICT(chrun, *) FROM customers",
        BindError, ["no model `chrun`", "did you mean `churn`?", "^^^^^", "line 1"],
    ),
    "unknown model in a table function": (
        "SELECT * FROM ML.PREDICT(MODEL plons, TABLE customers)",
        BindError, ["`plons`", "did you mean `plans`?"],
    ),
    "unknown model in TRIAL_INFO": (
        "SELECT * FROM ML.TRIAL_INFO(MODEL churm)", BindError, ["did you mean `churn`?"],
    ),
    "unknown model to drop": ("DROP MODEL chur", BindError, ["did you mean `churn`?"]),
    "unknown trial": (
        "SELECT * FROM ML.PREDICT(MODEL churn, TABLE customers, STRUCT(77 AS trial_id))",
        BindError, ["model `churn` has no trial 77", "1 to 6"],
    ),
    "unknown function": (
        "SELECT * FROM ML.PREDICTT(MODEL churn, TABLE customers)",
        BindError, ["ML.PREDICTT", "did you mean `PREDICT`"],
    ),
    "function of a later release": (
        "SELECT * FROM ML.EXPLAIN_PREDICT(MODEL churn, TABLE customers)",
        UnsupportedError, ["ML.EXPLAIN_PREDICT is not offered yet"],
    ),
    "unknown column beside a prediction": (
        "SELECT PREDICT(churn, *) FROM customers WHERE regin = 'north'", None, ["regin", "region"],
    ),
    "unknown table of a prediction": (
        "SELECT PREDICT(churn, *) FROM custmers", None, ["custmers", "customers"],
    ),
    "unknown setting": (
        "SET gradbase.memory_limt = '1GB'", BindError, ["memory_limt", "did you mean `memory_limit`?"],
    ),
    "unknown rule": (
        "SET gradbase.disabled_rules = 'fuse_fit'", BindError, ["did you mean `fuse_fits`"],
    ),
    "not a size": ("SET gradbase.memory_limit = 'lots'", BindError, ["`lots` is not a size", "500MB"]),
    "not an exactness": ("SET gradbase.exactness = 'bitwis'", BindError, ["did you mean `bitwise`?"]),
    "DROP without a name": ("DROP MODEL", ParseError, ["a model's name"]),
}  # fmt: skip

# options, error, what its text must say
OPTIONS = {
    "unknown option": ({"lern_rate": 0.1}, BindError, ["`lern_rate`", "did you mean `learn_rate`", "^^^"]),
    "unknown model type": (
        {"model_type": "dnn_clasifier"}, BindError, ["'dnn_clasifier'", "did you mean `dnn_classifier`"],
    ),
    "model type of a later release": (
        {"model_type": "boosted_tree_classifier"}, UnsupportedError, ["is not offered yet", "db.import_model"],
    ),
    "unknown optimizer": ({"optimizer": "adamm"}, BindError, ["did you mean `adam`"]),
    "refused optimizer": ({"optimizer": "ftrl"}, UnsupportedError, ["'ftrl'", "adagrad"]),
    "unknown metric": (
        {"hparam_tuning_objectives": ["roc_ac"]}, BindError, ["did you mean `roc_auc`?"],
    ),
    "metric of another task": (
        {"hparam_tuning_objectives": ["r2_score"]}, BindError, ["`r2_score` is no metric", "roc_auc"],
    ),
    "unknown label": ({"input_label_cols": ["chrned"]}, BindError, ["`chrned`", "did you mean `churned`?"]),
    "unknown key": ({"row_key": ["idd"]}, BindError, ["`idd`", "did you mean `id`?"]),
    "unknown split column": (
        {"data_split_method": "seq", "data_split_col": "sinse"}, BindError,
        ["`sinse`", "did you mean `since`"],
    ),
    "value out of range": ({"dropout": 1.0}, BindError, ["`dropout` must be in [0, 1)", "found 1"]),
    "value of another type": ({"max_epochs": "ten"}, BindError, ["`max_epochs` is a whole number", "'ten'"]),
    "percent for a fraction": ({"data_split_eval_fraction": 20}, BindError, ["not percent", "write 0.2"]),
    "range in a grid": (
        {"hparam_tuning_algorithm": "grid", "learn_rate": shop.Sql("HPARAM_RANGE(1e-4, 1e-1)")},
        BindError, ["learn_rate"],
    ),
}  # fmt: skip


def said(error, words):
    return [w for w in words if w not in str(error.value)]


@pytest.mark.parametrize("name", STATEMENTS)
def test_statement_says_what_it_does_not_know(trained, name):
    statement, kind, words = STATEMENTS[name]
    with pytest.raises(kind or Exception) as error:
        trained.sql(statement).fetchall()
    assert said(error, words) == []
    assert type(error.value).__module__ == "gradbase.errors"


@pytest.mark.parametrize("name", OPTIONS)
def test_create_model_says_which_option_is_wrong(db, name):
    options, kind, words = OPTIONS[name]
    with pytest.raises(kind) as error:
        db.sql(shop.create_model("m", **options))
    assert said(error, words) == []
    assert db.sql("SHOW MODELS").fetchall() == []
    assert shop.leftovers(db) == []


def test_existing_model_says_how_to_go_on(trained):
    with pytest.raises(BindError, match=r"`churn` exists already\n.*CREATE OR REPLACE MODEL"):
        trained.sql(shop.create_model("churn"))


def test_python_says_the_same(trained):
    """Handles and studies of unknown models, parameters nobody knows."""
    import gradbase as gb

    with pytest.raises(BindError, match="did you mean `churn`"):
        trained.model("chrn")
    with pytest.raises(BindError, match="did you mean `churn`"):
        trained.study("chrn")
    with pytest.raises(BindError, match="did you mean `epochs`"):
        gb.search(gb.mlp(), epoch=3)
    with pytest.raises(BindError, match=r"`churnd`.*\n.*did you mean `churned`"):
        trained.table("customers").fit(gb.mlp([4]), target="churnd", name="never")
