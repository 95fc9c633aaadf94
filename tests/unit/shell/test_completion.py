"""What is proposed at a place: `|` is the cursor."""

from __future__ import annotations

import pytest

import gradbase as gb
import shop
from gradbase.shell.completion import candidates, place
from gradbase.shell.names import Names


@pytest.fixture(scope="module")
def names(trained):
    return Names(trained)


def proposed(names, text):
    cursor = text.index("|")
    at = place(text.replace("|", ""), cursor)
    return None if at is None else [c.text for c in candidates(at, names)]


MAKE = "CREATE MODEL m OPTIONS ("

CASES = [
    # statements and words, in the case they are typed in
    ("SEL|", ["SELECT"]),
    ("cre|", ["create model", "create or replace model", "create table", "create or replace table", "create view"]),
    ("SELECT 1; DROP MO|", ["MODEL"]),
    ("create or r|", ["replace model", "replace table", "replace(", "round(", "row_number("]),
    ("SELECT * FROM customers WH|", ["WHEN", "WHERE"]),
    # tables, models, versions
    ("SELECT * FROM cust|", ["customers"]),
    ("SELECT * FROM gradbase.mod|", ["models"]),
    ("INSERT INTO cus|", ["customers"]),
    ("DROP MODEL |", ["churn", "linear", "plans", "spend"]),
    ("SELECT PREDICT(ch|", ["churn"]),
    ("SELECT PREDICT_PROBA(|, *) FROM customers", ["churn", "linear", "plans", "spend"]),
    ("SELECT * FROM ML.EVALUATE(MODEL pl|", ["plans"]),
    ("SELECT PREDICT(churn@|", ["1"]),
    ("SELECT * FROM ML.PREDICT(MODEL churn, |", ["TABLE", "(SELECT"]),
    ("SELECT * FROM ML.PREDICT(MODEL churn, TABLE cu|", ["customers"]),
    # columns, also of a table that stands behind the cursor, and by alias
    ("SELECT reg| FROM customers", ["region"]),
    ("SELECT c.me| FROM customers AS c", ["member"]),
    ("SELECT x.pa| FROM customers x", ["paid"]),
    ("SELECT x.pa| FROM main.customers x WHERE 1 = 1", ["paid"]),
    ("SELECT * FROM customers WHERE ag|", ["age"]),
    ("SELECT * FROM customers c JOIN customers d ON c.id = d.i|", ["id"]),
    ("SELECT y.pa| FROM customers x", []),
    ("SELECT taste FROM customers GROUP BY tast|", ["taste"]),
    # options of CREATE MODEL and their values
    (f"{MAKE}early|", ["early_stop", "early_stop_patience"]),
    (f"{MAKE}model_type = 'dnn_c|", ["'dnn_classifier'"]),
    (f"{MAKE}model_type = 'dnn_classifier', model|", []),
    (f"{MAKE}model_type = 'x', optimizer = 'ada|", ["'adam'", "'adamw'", "'adagrad'"]),
    (f"{MAKE}early_stop = |", ["TRUE", "FALSE"]),
    (f"{MAKE}learn_rate = HP|", ["HPARAM_CANDIDATES(", "HPARAM_RANGE("]),
    (f"{MAKE}hidden_units = HP|", ["HPARAM_CANDIDATES("]),
    (f"{MAKE}input_label_cols = ['ch|']) AS SELECT * FROM customers", ["'churned'"]),
    (f"{MAKE}optimizer = HPARAM_CANDIDATES(['ad|", ["'adam'", "'adamw'", "'adagrad'"]),
    (f"{MAKE}seed = 1) AS SELECT * FROM cus|", ["customers"]),
    # settings
    ("SET gr|", ["gradbase."]),
    ("SET gradbase.ex|", ["exactness"]),
    ("RESET gradbase.th|", ["threads"]),
    # functions
    ("SELECT * FROM ML.TRI|", ["TRIAL_INFO"]),
    ("SELECT ML.STAND|", ["STANDARD_SCALER"]),
    ("SELECT PREDICT_P|", ["PREDICT_PROBA("]),
    ("SELECT coal|", ["coalesce("]),
    # nowhere
    ("SELECT 'cust|", []),
    ("SELECT 'a' |", None),
    ("SELECT 1 -- cust|", None),
    ("SELECT /* cust|", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), CASES, ids=[c[0] for c in CASES])
def test_proposed(names, text, expected):
    found = proposed(names, text)
    if expected is None:
        assert not found or "customers" not in found
    else:
        assert found == expected


def test_every_option_is_proposed(names):
    from gradbase.frontend.option_table import OPTIONS

    assert set(proposed(names, f"{MAKE}|")) == {o.name for o in OPTIONS}


def test_names_that_need_quotes_get_them():
    with gb.connect(progress=False) as db:
        db.sql('CREATE TABLE "Odd name" ("a b" INTEGER, c INTEGER)')
        names = Names(db)
        assert proposed(names, "SELECT * FROM Od|") == ['"Odd name"']
        assert proposed(names, 'SELECT * FROM "Od|') == ['"Odd name"']
        assert '"a b"' in proposed(names, 'SELECT | FROM "Odd name"')


def test_names_are_asked_for_again_after_a_statement():
    with gb.connect(progress=False) as db:
        names = Names(db)
        assert names.known.tables == {}
        shop.load(db)
        assert names.known.tables == {}
        names.forget()
        assert list(names.known.tables) == ["customers"]


def test_a_failed_transaction_proposes_nothing():
    with gb.connect(progress=False) as db:
        db.sql("CREATE TABLE t (i INTEGER PRIMARY KEY); BEGIN; INSERT INTO t VALUES (1)")
        with pytest.raises(gb.errors.EngineError):
            db.sql("INSERT INTO t VALUES (1)")
        assert Names(db).known.tables == {}
