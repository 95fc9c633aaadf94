"""SQL without our words reaches the engine byte for byte, whatever it hides in quotes and comments.

Our words count only as bare words: in strings, comments, quoted identifiers and dollar quotes they
are text. What is hidden stays as it is also in statements that are ours.
"""

from __future__ import annotations

import types

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gradbase as gb
from gradbase.frontend.tokens import significant, split_statements
from gradbase.frontend.words import is_ours

OURS = (
    "PREDICT(m, *)", "predict_proba(m, a)", "ML.PREDICT(MODEL m, TABLE t)", "ml.transform(model m)",
    "CREATE MODEL m OPTIONS() AS SELECT 1", "DROP MODEL m;", "; SHOW MODELS", "gradbase.metrics",
    "SET gradbase.threads = 1", "ML.STANDARD_SCALER(x) OVER ()", "EXPORT MODEL m TO 'x'",
)  # fmt: skip
NOISE = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
SQL_NOISE = st.text(st.sampled_from("ab'\"`@$-/*\\; ()\n\t?1.é名xE,"), max_size=12)
HIDDEN = st.tuples(NOISE | SQL_NOISE, st.sampled_from(OURS), NOISE | SQL_NOISE).map("".join)


def _dollars(text):
    """A dollar quote with a tag that the text does not hold, nor half of."""
    tag = "q"
    while tag in text:
        tag += "q"
    return f"${tag}${text}${tag}$"


def _comment(text):
    """A block comment; edges inside would open or close it."""
    text = text.replace("*", "+").replace("/", "|")
    return f"/*{text}/* {text} */*/"


QUOTES = (
    lambda t: "'" + t.replace("'", "''") + "'",
    lambda t: "E'" + t.replace("\\", "\\\\").replace("'", "\\'") + "'",
    lambda t: '"' + t.replace('"', '""') + '"',
    lambda t: "`" + t.replace("`", "``") + "`",
    _dollars,
    _comment,
    lambda t: "--" + t.replace("\n", " ").replace("\r", " ") + "\n",
)
QUOTED = st.builds(lambda quote, text: quote(text), st.sampled_from(QUOTES), HIDDEN)
PLAIN = st.sampled_from(
    [
        "FROM",
        "t",
        "1.5e3",
        "+",
        ",",
        "(",
        ")",
        "::INT",
        "a.b",
        "$1",
        "?",
        "models",
        "ml",
        "[1]",
        "||",
    ]
)
SPACE = st.sampled_from([" ", "\n", "\t ", " \r\n"])
STATEMENT = st.lists(st.tuples(SPACE, QUOTED | PLAIN).map("".join), min_size=1, max_size=8).map(
    lambda pieces: "SELECT" + "".join(pieces)
)


@pytest.fixture(scope="module")
def asked():
    """A session, and the texts that its engine was asked to run."""
    texts = []
    with gb.connect(progress=False) as db:

        def run(sql, parameters=None, **_):
            texts.append(sql)
            return types.SimpleNamespace(stream=None, cancel=None)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(db.engine, "run", run)
            yield db, texts


@given(STATEMENT)
@settings(max_examples=400, deadline=None)
def test_our_words_inside_quotes_and_comments_are_left_alone(asked, sql):
    db, texts = asked
    assert not is_ours(sql)
    assert split_statements(sql) == [sql]
    texts.clear()
    db.sql(sql)
    assert texts == [sql]


@given(NOISE.map(lambda t: t * 3) | SQL_NOISE.map(lambda t: t * 4))
@settings(max_examples=400, deadline=None, derandomize=True)
def test_any_text_without_our_words_is_the_engine_s(asked, noise):
    """Nonsense too, with quotes and comments that never end; only semicolons cut it."""
    db, texts = asked
    sql = f"SELECT 1 {noise}"
    texts.clear()
    last = db.script(sql)
    for _ in last:
        pass
    assert texts == split_statements(sql)
    at = 0
    for text in texts:  # between two statements there is nothing that says anything
        start = sql.index(text, at)
        assert {token.text for token in significant(sql[at:start])} <= {";"}
        at = start + len(text)


@pytest.mark.parametrize("between", [";", ";;", "; -- a\n;", ";/* a */;", " ; \n"])
def test_what_says_nothing_between_two_statements_is_left_out(asked, between):
    db, texts = asked
    texts.clear()
    for _ in db.script(f"SELECT 1{between}SELECT 2"):
        pass
    assert [text.strip() for text in texts] == ["SELECT 1", "SELECT 2"]


@pytest.fixture(scope="module")
def predicting():
    with gb.connect(progress=False) as db:
        db.sql("""CREATE MODEL m OPTIONS (model_type = 'linear_reg', input_label_cols = ['y'])
                  AS SELECT i AS x, 2.0 * i AS y FROM range(40) r(i)""")
        yield db


@given(HIDDEN)
@settings(max_examples=60, deadline=None)
def test_texts_beside_our_words_stay_as_they_are(predicting, text):
    """Strings and names in a statement that is ours come back unchanged."""
    text = text.replace("\r", " ")
    string, dollars = QUOTES[0](text), _dollars(text)
    found = predicting.sql(
        f"SELECT {string} AS a, PREDICT(m, x) > 0 /*{text.replace('*', '').replace('/', '')}*/ AS p, "
        f"{dollars} AS b FROM (SELECT 3 AS x) q -- {_one_line(text)}\n"
    ).fetchall()
    assert found == [(text, True, text)]


def _one_line(text):
    return "".join(c for c in text if c not in "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
