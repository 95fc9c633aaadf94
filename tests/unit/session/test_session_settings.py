"""SET gradbase.…: what it takes, what it refuses, and that it is in force at once."""

from __future__ import annotations

import pytest

import gradbase as gb
from gradbase.errors import BindError
from gradbase.session.session import limits
from gradbase.session.settings import FIELDS, change_of, size_bytes

GIB = 2**30


@pytest.fixture
def plain():
    with gb.connect(progress=False, threads=2, memory_limit_bytes=GIB) as session:
        yield session


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("1.5GB", 1_500_000_000), ("2 KiB", 2048), (7, 7), ("512mb", 512_000_000), ("3B", 3)],
)
def test_sizes(text, bytes_):
    assert size_bytes(text) == bytes_


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1 XB", "1e3", "80%", True])
def test_what_is_no_size(text):
    with pytest.raises(BindError, match=r"is not a size\n.*'500MB'"):
        size_bytes(text)


GOOD = [
    ("exactness", "'BITWISE'", "exactness", "bitwise"),
    ("optimizer", "off", "optimizer", False),
    ("optimizer", "'on'", "optimizer", True),
    (
        "disabled_rules",
        "'fuse_fits, prune_columns'",
        "disabled_rules",
        {"fuse_fits", "prune_columns"},
    ),
    ("disabled_rules", "''", "disabled_rules", frozenset()),
    ("representation", "'udf'", "representation", "udf"),
    ("batch_rows", "512", "batch_rows", 512),
    ("threads", "1", "threads", 1),
    ("memory_limit", "'300MB'", "memory_limit_bytes", 300_000_000),
    ("progress", "true", "progress", True),
]


@pytest.mark.parametrize(("name", "value", "field", "expected"), GOOD)
def test_set_and_reset(plain, name, value, field, expected):
    before = gb.connect().settings
    assert plain.sql(f"SET gradbase.{name} = {value}").fetchall() == [(True,)]
    assert getattr(plain.settings, field) == expected
    plain.sql(f"RESET gradbase.{name}")
    assert getattr(plain.settings, field) == getattr(before, field)
    plain.sql(f"SET gradbase.{name} = {value}; SET gradbase.{name} = DEFAULT")
    assert getattr(plain.settings, field) == getattr(before, field)


BAD = [
    ("exactness", "'exact'", "knows 'bitwise', 'tolerance', 'approximate'"),
    ("optimizer", "'maybe'", "is on or off, found 'maybe'"),
    ("disabled_rules", "'fuse_fit'", "did you mean `fuse_fits`"),
    ("representation", "'slq'", "knows 'dl', 'onnx', 'udf'"),
    ("batch_rows", "-1", "."),
    ("batch_rows", "1.5", "whole number from 0, found 1.5"),
    ("threads", "'two'", "whole number from 0, found 'two'"),
    ("memory_limit", "'much'", "`much` is not a size"),
]


@pytest.mark.parametrize(("name", "value", "words"), BAD)
def test_wrong_values_change_nothing(plain, name, value, words):
    before = plain.settings
    with pytest.raises((BindError, gb.errors.ParseError)) as error:
        plain.sql(f"SET gradbase.{name} = {value}")
    assert words in str(error.value)
    assert plain.settings == before


def test_every_setting_has_a_field():
    """Names in SQL and fields of Settings are the same set."""
    import dataclasses

    fields = {f.name for f in dataclasses.fields(gb.connect().settings)}
    assert set(FIELDS.values()) == fields
    assert change_of("threads", None) == {"threads": 0}


def test_limits_reach_broker_and_engine(plain):
    plain.sql("SET gradbase.memory_limit = '400MB'; SET gradbase.threads = 1")
    assert (plain.broker.threads, plain.broker.memory_bytes) == (1, 400_000_000)
    leases = plain.sql("SELECT owner, purpose, bytes FROM gradbase.leases").fetchall()
    assert leases == [("duckdb", "buffer pool", 200_000_000)]
    (row,) = plain.sql(
        "SELECT current_setting('memory_limit'), current_setting('threads')"
    ).fetchall()
    assert row[1] == 1
    assert "190" in row[0] or "200" in row[0]  # MiB or MB


def test_limits_by_default():
    threads, size = limits(gb.connect().settings)
    assert threads >= 1
    assert size > GIB


def test_names_are_case_insensitive(plain):
    plain.sql("set GRADBASE.Batch_Rows to 64")
    assert plain.settings.batch_rows == 64


def test_settings_of_the_engine_are_the_engine_s(plain):
    plain.sql("SET threads = 1")
    assert plain.sql("SELECT current_setting('threads')").fetchall() == [(1,)]
    assert plain.settings.threads == 2
