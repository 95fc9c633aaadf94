"""The examples run, and what they print holds what they promise."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples"
PROMISES = {
    "01_classification": ["is_optimal", "right_ones", r"chosen: (dl|udf)"],
    "02_own_network": [r"never seen: 0\.9", "read_as"],
    "03_search": [
        "INTERRUPTED",
        r"trained: \[(1, )+.*3\]",
        r"interrupted (-?\d\.\d+)\nstraight \1\n",
    ],
    "04_life_of_a_model": ["different_predictions", "model_version", r"Runtime: \d\.\d+e-(0[6-9]|1\d)"],
    "05_less_memory": ["proved lowest", "the same: True"],
}


@pytest.mark.parametrize("name", sorted(PROMISES))
def test_example_does_what_it_says(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    printed = capsys.readouterr().out
    for promise in PROMISES[name]:
        assert re.search(promise, printed), promise


def test_every_example_is_listed():
    """Each file has its promises here, and its line in the folder's page."""
    files = {p.stem for p in FOLDER.glob("*.py")}
    assert files == set(PROMISES)
    page = (FOLDER / "README.md").read_text()
    assert all(f"({name}.py)" in page for name in files)
