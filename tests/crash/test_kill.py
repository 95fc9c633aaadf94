"""`kill -9` at random moments of CREATE MODEL and DROP MODEL leaves the old state or the new one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("attempts", [1, pytest.param(40, marks=pytest.mark.slow)])
@pytest.mark.parametrize("statement", ["create", "replace", "drop"])
def test_killed_at_random_moments(tmp_path, statement, attempts):
    """The database opens, fsck finds nothing that does not mend, the model is whole or absent."""
    command = [sys.executable, "-W", "error", HERE / "attack.py", tmp_path, statement, attempts, 5]
    path = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [str(c) for c in command], capture_output=True, text=True, timeout=250, check=False,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    states = done.stdout.split()
    assert len(states) == attempts
    assert set(states) <= {"before", "after"}
