"""What `connect` opens, and what it refuses with words."""

from __future__ import annotations

import contextlib
import importlib
import subprocess
import sys

import pytest

from gradbase.engines import ENGINES, connect
from gradbase.errors import BindError, StoreError, UnsupportedError


@pytest.mark.parametrize(
    ("url", "error", "words"),
    [
        ("spark://host:7077", BindError, "store="),
        ("local[2]", BindError, "store="),
        ("mysql://host/db", BindError, "`mysql` is no engine; there are duckdb, postgresql"),
        ("duckbd://x.duckdb", BindError, "did you mean `duckdb`"),
        ("rows.parquet", UnsupportedError, "is a data file"),
    ],
)
def test_other_engines_are_refused_by_name(url, error, words):
    """The message names the engine; the hint has a way out."""
    with pytest.raises(error) as caught:
        connect(url)
    assert words in str(caught.value)


def test_every_engine_loads():
    """Each import string of the table leads to a class."""
    for name, place in ENGINES.items():
        module, _, attribute = place.partition(":")
        assert getattr(importlib.import_module(module), attribute).name == name


def test_file_is_made_and_found_again(tmp_path):
    """What one session wrote the next one reads; read-only changes nothing."""
    path = tmp_path / "shop.duckdb"
    first = connect(path)
    first.run("CREATE TABLE t AS SELECT 7 AS n")
    assert first.path == path
    first.close()
    second = connect(str(path), read_only=True)
    assert second.read_only
    assert second.run("SELECT n FROM t").fetchall() == [(7,)]
    with pytest.raises(StoreError, match="read-only"):
        second.run("CREATE TABLE u (i INTEGER)")
    with pytest.raises(StoreError, match="read-only"), second.transaction() as handle:
        handle.execute("CREATE TABLE u (i INTEGER)")
    second.close()


def test_missing_file_cannot_be_read_only(tmp_path):
    """Read-only makes no file."""
    with pytest.raises(StoreError, match="does not exist"):
        connect(tmp_path / "none.duckdb", read_only=True)
    with pytest.raises(StoreError, match="in memory is empty"):
        connect(":memory:", read_only=True)


def test_folder_that_is_missing(tmp_path):
    """The message has the path."""
    with pytest.raises(StoreError, match=r"none/x\.duckdb"):
        connect(tmp_path / "none" / "x.duckdb")


def test_file_of_another_kind(tmp_path):
    """Bytes that are no database are not touched."""
    path = tmp_path / "notes.duckdb"
    path.write_text("hello" * 4000)
    with pytest.raises(StoreError, match="not a valid DuckDB database"):
        connect(path)


def test_file_locked_by_another_process(tmp_path):
    """The other process is named by DuckDB, the way out by us."""
    path = tmp_path / "a.duckdb"
    code = (
        "import duckdb, sys\n"
        f"c = duckdb.connect({str(path)!r})\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(StoreError, match=r"lock[\s\S]*hint: close the other program") as caught:
            connect(path)
        assert caught.value.__cause__ is not None
    finally:
        other.communicate("", timeout=30)


def test_same_file_twice_with_other_options(tmp_path):
    """DuckDB shares a file within a process only if both ask for the same."""
    path = tmp_path / "a.duckdb"
    first = connect(path)
    with pytest.raises(StoreError, match="close that session"):
        connect(path, read_only=True)
    first.close()


def test_a_file_that_was_deleted_takes_no_more_models(tmp_path):
    """DuckDB would go on writing into a file that nobody can open again."""
    path = tmp_path / "d.duckdb"
    with contextlib.closing(connect(path)) as engine:
        with engine.transaction(writes=True):
            path.unlink()
        with (
            pytest.raises(StoreError, match=r"d\.duckdb was deleted or replaced"),
            engine.transaction(writes=True),
        ):
            pass
