"""CSV files of lifetimes and plans, and the verifier."""

from __future__ import annotations

import dataclasses

import pytest

import gradbase as gb
from gradbase.errors import DataError
from gradbase.memory import Interval

INTERVALS = [Interval("a", 0, 4, 3), Interval("b", 2, 6, 2), Interval("c", 4, 8, 4)]


def written(tmp_path, text):
    path = tmp_path / "lives.csv"
    path.write_text(text)
    return path


def test_a_plan_goes_through_a_file(tmp_path):
    plan = gb.memory.plan(INTERVALS)
    plan.to_csv(tmp_path / "plan.csv")
    lines = (tmp_path / "plan.csv").read_text().splitlines()
    assert lines[0] == "id,lower,upper,size,offset"
    assert lines[1] == f"a,0,4,3,{plan.offsets['a']}"
    assert gb.memory.verify(tmp_path / "plan.csv") == plan.height
    again = gb.memory.plan(tmp_path / "plan.csv")
    assert (again.intervals, again.offsets) == (plan.intervals, plan.offsets)


def test_files_may_look_a_little_different(tmp_path):
    """Columns in any order, others beside them, spaces, empty lines, a byte order mark."""
    path = written(tmp_path, "﻿Size, id ,upper,lower,note\n 3,1, 4, 0,x\n\n2,2,6,2,\n")
    plan = gb.memory.plan(path)
    assert plan.intervals == (Interval(1, 0, 4, 3), Interval(2, 2, 6, 2))


def test_ids_are_integers_only_where_all_are(tmp_path):
    path = written(tmp_path, "id,lower,upper,size\n7,0,1,1\n07,1,2,1\n")
    assert set(gb.memory.plan(path).offsets) == {"7", "07"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("id,lower,upper\n", "column `size` is missing"),
        ("id,lower,upper,size,size\n", "column `size` is there twice"),
        ("id,lower,upper,size,alignment\n1,0,1,1,8\n", "column `alignment` has no meaning"),
        ("id,lower,upper,size\n1,0,1\n", r"line 2.*3 values, expected 4|3 values, expected 4"),
        ("id,lower,upper,size\n1,0,1,1\n2,0,x,1\n", "upper `x` is not an integer"),
        ("id,lower,upper,size\n1,0,1,1.5\n", "size `1.5` is not an integer"),
        ("id,lower,upper,size\n1,3,3,1\n", "lower 3 is not below upper 3"),
        ("id,lower,upper,size\n1,0,1,0\n", "size 0 is not above 0"),
        ("id,lower,upper,size\n1,0,1,-4\n", "size -4 is not above 0"),
        ("id,lower,upper,size\n,0,1,1\n", "the id is empty"),
        ("id,lower,upper,size\n1,0,1,1\n1,1,2,1\n", "id `1` is there already: .*line 2"),
        ("id,lower,upper,size,offset\n1,0,1,1,-1\n", "offset -1 is negative"),
    ],
)
def test_malformed_files_are_refused_by_line(tmp_path, text, words):
    with pytest.raises(DataError, match=words):
        gb.memory.plan(written(tmp_path, text))


def test_a_row_is_named_by_its_line(tmp_path):
    with pytest.raises(DataError, match=r"lives\.csv, line 3"):
        gb.memory.plan(written(tmp_path, "id,lower,upper,size\n1,0,1,1\n2,5,4,1\n"))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        gb.memory.plan(tmp_path / "nowhere.csv")


def test_a_file_without_offsets_is_no_plan(tmp_path):
    with pytest.raises(DataError, match="no column `offset`"):
        gb.memory.verify(written(tmp_path, "id,lower,upper,size\n1,0,1,1\n"))


@pytest.mark.parametrize(
    ("offsets", "period", "words"),
    [
        (
            {"a": 0, "b": 2, "c": 5},
            None,
            r"`a` and `b` overlap: bytes \[0, 3\) and \[2, 4\) at time 2",
        ),
        ({"a": 0, "b": 9, "c": 1}, 6, r"`a` and `c` overlap"),  # c goes on until 2
        ({"a": 0, "b": 3, "c": -1}, None, "`c` lies at -1"),
        ({"a": 0, "b": 3}, None, "`c` has no offset"),
        ({"a": 0, "b": 3, "c": 5}, 3, "`a` lives 4 of 3"),
    ],
)
def test_the_verifier_finds_what_is_wrong(offsets, period, words):
    plan = gb.memory.plan(INTERVALS, method="greedy")
    with pytest.raises(DataError, match=words):
        gb.memory.verify(dataclasses.replace(plan, offsets=offsets, period=period))


def test_the_verifier_reads_periods_and_alignment(tmp_path):
    path = written(tmp_path, "id,lower,upper,size,offset\n1,0,4,3,0\n2,4,7,3,0\n")
    assert gb.memory.verify(path) == gb.memory.verify(path, period=7) == 3
    with pytest.raises(DataError, match="overlap"):
        gb.memory.verify(path, period=6)
    path = written(tmp_path, "id,lower,upper,size,offset\n1,0,4,3,2\n")
    with pytest.raises(DataError, match="multiple of 4"):
        gb.memory.verify(path, alignment=4)


def test_a_height_that_is_too_low_is_no_plan():
    plan = gb.memory.plan(INTERVALS)
    with pytest.raises(DataError, match="above the height"):
        gb.memory.verify(dataclasses.replace(plan, height=plan.height - 1))
