"""The pages of docs/reference are those that the code makes, and nothing lacks words."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from gradbase.frontend import words
from gradbase.frontend.documented import STATEMENTS, Entry
from gradbase.frontend.documented_functions import FUNCTIONS
from gradbase.testing import reference
from gradbase.testing.reference import commands, create_model, docstrings, sql

pytestmark = pytest.mark.xdist_group("reference")  # the pages are made once
FOLDER = Path(__file__).parents[2] / "docs" / "reference"


@pytest.fixture(scope="module")
def made():
    return reference.pages()


@pytest.mark.parametrize("file", ["README.md", *reference.PAGES])
def test_page_is_what_the_code_makes(file, made):
    """`make reference` would change nothing."""
    assert (FOLDER / file).read_text("utf-8") == made[file], "run `make reference`"


def test_no_other_pages():
    """Every page of the folder is made."""
    assert {p.name for p in FOLDER.iterdir()} == {"README.md", *reference.PAGES}


def test_a_function_without_words_stops_the_pages(monkeypatch):
    """A name the parser knows is either described or an error."""
    monkeypatch.setattr(words, "TABLE_FUNCTIONS", (*words.TABLE_FUNCTIONS, "NEWS"))
    with pytest.raises(reference.Undocumented, match=r"ML\.NEWS"):
        next(sql.functions())


def test_a_statement_without_words_stops_the_pages(monkeypatch):
    monkeypatch.setattr(sql, "STATEMENTS", tuple(s for s in STATEMENTS if s.name != "DROP MODEL"))
    with pytest.raises(reference.Undocumented, match="DropModel"):
        next(sql.statements())


def test_an_option_without_example_stops_the_pages(monkeypatch):
    examples = {k: v for k, v in create_model.OPTION_EXAMPLES.items() if k != "dropout"}
    monkeypatch.setattr(create_model, "OPTION_EXAMPLES", examples)
    with pytest.raises(reference.Undocumented, match="dropout"):
        next(create_model.options())


def test_a_command_without_words_stops_the_pages(monkeypatch):
    monkeypatch.setattr(commands.cli.sql, "__doc__", "")
    with pytest.raises(reference.Undocumented, match="sql"):
        list(commands.command_line())


def test_columns_must_be_those_of_the_example():
    """Described columns that the result does not have are an error."""
    entry = Entry("X", "X", "Does.", "SELECT 1", (("predicted_<label>", "it"), ("…", "others")))
    found = pa.schema([("predicted_y", pa.string()), ("a", pa.int64())])
    assert list(sql.columns(entry, found)) == [
        ("`predicted_<label>`", "VARCHAR", "it"),
        ("…", "", "others"),
    ]
    for wrong in ([("other", pa.string())], [("predicted_", pa.string())], []):
        with pytest.raises(reference.Undocumented, match="has columns"):
            list(sql.columns(entry, pa.schema(wrong)))


def test_an_example_that_fails_names_its_function():
    entry = Entry("ML.X", "ML.X()", "Does.", "SELECT * FROM ML.WEIGHTS(MODEL nowhere)")
    with (
        sql.session() as db,
        pytest.raises(reference.Undocumented, match=r"example of ML\.X fails: .*nowhere"),
    ):
        sql.run(db, entry)


def test_names_are_described_once():
    names = [e.name for e in (*STATEMENTS, *FUNCTIONS)]
    assert len(names) == len(set(names))


def test_docstrings_become_markdown():
    """Sections become lists, examples sessions of Python."""
    doc = "Short.\n\nParameters\n----------\na, b : int\n    Two\n    numbers.\n\nExamples\n--------\n>>> 1\n1"
    assert docstrings.as_markdown(doc) == [
        "Short.",
        "*Parameters*\n\n- `a`, `b` (int): Two numbers.",
        "```pycon\n>>> 1\n1\n```",
    ]
