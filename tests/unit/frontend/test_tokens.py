"""The tokenizer leaves nothing out, and our words count only where they are words."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradbase.frontend.parameters import normalise, parameter_values
from gradbase.frontend.statements import Native, parse_statement
from gradbase.frontend.tokens import significant, split_statements, tokenize
from gradbase.frontend.words import is_ours

OUR_TEXTS = (
    "PREDICT(m, *)", "predict_proba(m, a)", "ML.PREDICT(MODEL m, TABLE t)", "ML.EVALUATE(MODEL m)",
    "CREATE MODEL m OPTIONS() AS SELECT 1", "DROP MODEL m", "SHOW MODELS", "SET gradbase.threads = 1",
    "gradbase.leases",
)  # fmt: skip
_inside = st.sampled_from(OUR_TEXTS)
_text = st.text(st.sampled_from("ab'\"`@$-/*\\;() \n?1.é名xE"), max_size=30)


def _in_block_comment(text: str) -> str:
    return f"/* {text} /* nested {text} */ */"


HIDING = (
    lambda t: "'" + t.replace("'", "''") + "'",
    lambda t: "E'" + t.replace("'", "\\'") + "'",
    lambda t: '"' + t.replace('"', '""') + '"',
    lambda t: "`" + t.replace("`", "``") + "`",
    lambda t: f"$${t}$$",
    lambda t: f"$a1${t}$a1$",
    lambda t: f"-- {t}\n",
    _in_block_comment,
)


@given(_text)
@settings(max_examples=400, deadline=None)
def test_spans_cover_the_text_without_gaps(sql):
    tokens = tokenize(sql)

    assert "".join(t.text for t in tokens) == sql
    assert all(sql[t.start : t.end] == t.text for t in tokens)
    assert [t.start for t in tokens[1:]] == [t.end for t in tokens[:-1]]


@given(_text, _inside, st.sampled_from(HIDING))
@settings(max_examples=300, deadline=None)
def test_our_words_in_strings_comments_and_quotes_are_not_found(noise, inside, hide):
    plain = "".join(c for c in noise if c not in "'\"`$-/*\\;")
    hidden = hide(inside + plain.replace("\n", " "))
    sql = f"SELECT 1, {hidden} FROM t"

    assert not is_ours(sql)
    assert parse_statement(sql) == Native(sql)


@given(
    st.lists(
        st.sampled_from(["SELECT 1", "SELECT ';'", "SELECT $x$;$x$", "-- ; \n SELECT 2"]),
        max_size=5,
    )
)
@settings(deadline=None)
def test_statements_are_cut_at_their_semicolons_only(statements):
    assert split_statements(";".join(statements)) == statements


def test_a_comment_behind_the_last_semicolon_is_no_statement():
    assert split_statements("SELECT 1; -- done\n") == ["SELECT 1"]


@pytest.mark.parametrize(
    ("sql", "kinds"),
    [
        (
            "a1 \"B\" 'c' $1 ? 1.5e-3 .5 1_000 0x1F",
            "word quoted string param param number number number number",
        ),
        ("a::int <> $$x$$", "word op word op string"),
        ("'open", "string"),
        ("/* open", ""),
        ("1..2", "number op number"),
    ],
)
def test_kinds(sql, kinds):
    assert " ".join(t.kind for t in significant(sql)) == kinds


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1", "SELECT predict FROM t", "SELECT t.predict(1) FROM t", "CREATE TABLE predict (a INT)",
        "INSERT INTO predict (a) VALUES (1)", "CREATE MACRO predict(a) AS a + 1",
        "WITH predict (a) AS (SELECT 1) SELECT * FROM predict", "CREATE INDEX i ON predict (a)",
        "SELECT * FROM models", "DESCRIBE model", "SET threads = 2", "CREATE TABLE model (a INT)",
        "SELECT * FROM ml.mine(1)", "SELECT gradbase FROM t", "SELECT * FROM gradbase.models",
        "EXPLAIN SELECT 1", "DROP TABLE model", "SELECT ml.x FROM ml", "CREATE TABLE ml.predict (a INT)",
    ],
)  # fmt: skip
def test_names_of_the_users_own_are_not_ours(sql):
    assert not is_ours(sql)


@pytest.mark.parametrize(
    "sql",
    [*OUR_TEXTS, "select 1 + PREDICT ( m , * ) from t", "EXPLAIN SELECT PREDICT(m, *) FROM t",
     "RESET gradbase.threads", "create or replace model m options () as select 1",
     "DESCRIBE MODEL churn", "EXPORT MODEL m TO 'x'", "ALTER MODEL m SET OPTIONS ()",
     "SELECT * FROM ml /* */ . predict (model m, table t)", "SELECT * FROM gradbase.metrics",
     "SELECT * FROM t JOIN u ON PREDICT(m, *) > 1", "SELECT ML.NOPE(MODEL m)"],
)  # fmt: skip
def test_our_statements_are_ours(sql):
    assert is_ours(sql)


def test_parameters_are_named_without_touching_strings():
    assert normalise("SELECT ?, '?', $2, $x -- ?\n") == "SELECT $p1, '?', $p2, $x -- ?\n"
    assert parameter_values([1, "a"]) == {"p1": 1, "p2": "a"}
    assert parameter_values({"x": 1, "1": 2}) == {"x": 1, "p1": 2}
