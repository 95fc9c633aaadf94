"""`kill -9` at any moment leaves the old state or the new one, and a usable database."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# Limits that keep a child on a shared machine small.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def run(module, *args, limit=None):
    command = [sys.executable, "-W", "error", "-m", f"store.{module}", *map(str, args)]
    return subprocess.run(
        command,
        cwd=HERE.parent,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        preexec_fn=limit,
    )


@pytest.mark.parametrize("stride", [13, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("operation", ["first", "replace", "drop"])
def test_killed_at_any_step(tmp_path, operation, stride):
    """Every write, flush, rename, deletion and statement of making and dropping a model."""
    done = run("crash", tmp_path, operation, stride)
    assert done.returncode == 0, done.stderr
    states = [line.split()[1] for line in done.stdout.splitlines()]
    assert states == sorted(states, key=["before", "after"].index)
    assert {"before", "after"} == set(states)


def test_a_file_size_limit_is_a_full_disk(tmp_path):
    """A process that may write no more gets a StoreError; the models there stay usable."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))

    done = run("full", tmp_path / "shop.duckdb", limit=limit)
    assert done.returncode == 0, done.stderr
    assert "disk is full" in done.stdout
