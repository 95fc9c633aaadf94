"""Asks a child process with limits what is in a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from gradbase import errors
from gradbase.errors import DataError, UnsupportedError
from gradbase.importing.files.child import MEMORY_BYTES
from gradbase.importing.files.graph import Graph, from_plain

KINDS = {".onnx": "onnx", ".pt2": "pt2"}
_PATIENCE_S = 300.0


def read_graph(path: Path, kind: str, memory_bytes: int = MEMORY_BYTES) -> Graph:
    """The network in a file of `kind`; its weights stay there.

    Raises
    ------
    DataError
        The file is missing, damaged or hostile.
    UnsupportedError
        It holds what no plan has a place for.
    """
    if not path.is_file():
        raise DataError(f"there is no file `{path}`", hint="paths are of the process that asks")
    found = from_plain(ask(kind, path, memory_bytes))
    assert isinstance(found, Graph)
    return found


def ask(kind: str, path: Path, memory_bytes: int = MEMORY_BYTES) -> Any:
    """The answer of the child of `gradbase.importing.files.child`."""
    command = [sys.executable, "-m", "gradbase.importing.files.child", kind, str(path)]
    source = str(Path(errors.__file__).parents[1])
    known = os.environ.get("PYTHONPATH")
    environment = {
        "PYTHONPATH": source + (os.pathsep + known if known else ""),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PATH": os.environ.get("PATH", ""),
    }
    try:
        done = subprocess.run(  # noqa: S603 (this interpreter, a module of ours, a path as an argument)
            [*command, str(memory_bytes)], capture_output=True, timeout=_PATIENCE_S, check=False,
            env=environment, cwd=path.parent,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise DataError(f"`{path}`: reading it takes more than {_PATIENCE_S:.0f} s") from None
    if done.returncode or not done.stdout:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it was killed"]
        raise DataError(
            f"`{path}`: the process that reads it ended with {done.returncode} "
            f"({last[0][:200]}): the "
            f"file needs more than {memory_bytes >> 20:,} MB or {_PATIENCE_S:.0f} s, or is hostile"
        )
    answer = json.loads(done.stdout)
    if "error" in answer:
        kind_of_error, message, at, hint = answer["error"]
        made = UnsupportedError if kind_of_error == "UnsupportedError" else DataError
        shown = message if kind == "shapes" else f"`{path}`: {message}"
        raise made(shown, at=at, hint=hint)
    return answer["found"]
