"""What SQL says about searches, taken apart; what is wrong is underlined."""

from __future__ import annotations

import pytest

from gradbase.errors import ParseError
from gradbase.frontend.search_statements import (
    AddTrial,
    AlterSearch,
    CloneTrial,
    ResumeSearch,
    ResumeTrials,
    SearchOf,
    ShowSearches,
    ShowTrials,
    StopTrials,
)
from gradbase.frontend.statements import Native, parse_statement

OWN, OTHER = SearchOf("churn"), SearchOf("a b", "it's.duckdb")
READ = [
    ("SHOW SEARCHES", ShowSearches()),
    ("show searches in 'x.duckdb';", ShowSearches("x.duckdb")),
    ("SHOW TRIALS OF SEARCH churn", ShowTrials(OWN)),
    ("""SHOW TRIALS OF SEARCH "a b" IN 'it''s.duckdb'""", ShowTrials(OTHER)),
    ("RESUME SEARCH churn", ResumeSearch("churn")),
    ("ALTER SEARCH churn STOP", AlterSearch(OWN, StopTrials(()))),
    ("ALTER SEARCH churn STOP TRIAL 3, 4", AlterSearch(OWN, StopTrials((3, 4)))),
    ("""ALTER SEARCH "a b" IN 'it''s.duckdb' RESUME TRIAL 3""", AlterSearch(OTHER, ResumeTrials((3,)))),
    (
        "ALTER SEARCH churn ADD TRIAL OPTIONS (max_epochs = 3, width = 8)",
        AlterSearch(OWN, AddTrial({"epochs": 3, "width": 8})),
    ),
    (
        "ALTER SEARCH churn CLONE TRIAL 3 OPTIONS (learn_rate = 1e-3) WITHOUT WEIGHTS",
        AlterSearch(OWN, CloneTrial(3, {"learn_rate": 1e-3}, weights=False)),
    ),
    ("ALTER SEARCH churn CLONE TRIAL 3", AlterSearch(OWN, CloneTrial(3, {}, weights=True))),
    ("SHOW trials", Native("SHOW trials")),
    ("ALTER TABLE search ADD COLUMN x INT", Native("ALTER TABLE search ADD COLUMN x INT")),
]  # fmt: skip
WRONG = [
    ("ALTER SEARCH churn", r"expected what to do, found the end(.|\n)*CLONE TRIAL n"),
    ("ALTER SEARCH churn STOP TRIAL", r"the number of a trial, found the end"),
    ("ALTER SEARCH churn STOP TRIAL x", r"the number of a trial, found `x`"),
    ("ALTER SEARCH churn STOP 3", r"should end here, found `3`"),
    ("ALTER SEARCH churn IN shop STOP", r"path of a database in quotes, found `shop`"),
    ("ALTER SEARCH churn ADD TRIAL", r"OPTIONS and its hyper-parameters"),
    ("ALTER SEARCH churn ADD TRIAL OPTIONS ()", r"expected a hyper-parameter"),
    ("ALTER SEARCH churn ADD TRIAL OPTIONS (a = 1, a = 2)", r"`a` is given twice"),
    (
        "ALTER SEARCH churn ADD TRIAL OPTIONS (a = HPARAM_RANGE(1, 2))",
        r"one value of `a`, found several",
    ),
    ("RESUME SEARCH churn TRIAL 3", r"ALTER SEARCH churn RESUME"),
]


@pytest.mark.parametrize(("sql", "expected"), READ, ids=[sql for sql, _ in READ])
def test_statements_are_taken_apart(sql, expected):
    assert parse_statement(sql) == expected


@pytest.mark.parametrize(("sql", "message"), WRONG, ids=[sql for sql, _ in WRONG])
def test_what_is_wrong_is_said(sql, message):
    with pytest.raises(ParseError, match=message):
        parse_statement(sql)
