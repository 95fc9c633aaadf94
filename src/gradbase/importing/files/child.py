"""The child process that reads a file: ``python -m gradbase.importing.files.child kind path``.

It limits itself before it opens the file, and answers with one line of JSON. As `shapes` it runs an
ONNX program that stays opaque once, on zeros, and says what comes out.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

from gradbase.errors import DataError, GradbaseError

MEMORY_BYTES = 1 << 30
"""Address space that reading may take beyond what the process starts with."""
CPU_SECONDS = 120
_MOST_ANSWER = 128 << 20
"""Characters of an answer: the process that asks has it in memory."""


def limit(memory_bytes: int) -> None:
    """No files are written, no processes started; memory and time have an end."""
    with Path("/proc/self/statm").open() as file:  # pages of the address space now
        own = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (own + memory_bytes, own + memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def read(kind: str, path: str) -> Any:
    """The graph of a file, as plain data."""
    from gradbase.importing.files.graph import to_plain

    if kind == "onnx":
        from gradbase.importing.files.onnx_reader import OnnxReader

        return to_plain(OnnxReader(path).graph())
    from gradbase.importing.files.pt2_reader import Pt2Reader

    return to_plain(Pt2Reader(path).graph())


def shapes(request: Any) -> Any:
    """What an ONNX program gives for each batch: sizes and dtypes of its outputs."""
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(request["path"], options, providers=["CPUExecutionProvider"])
    found: list[Any] = []
    for feeds in request["feeds"]:
        values = {
            name: np.full(dims, "", object) if kind == "text" else np.zeros(dims, kind)
            for name, kind, dims in feeds
        }
        made = session.run(request["outputs"] or None, values)
        parts: list[Any] = []
        for value in made:
            array = value if isinstance(value, np.ndarray) else None
            parts.append(None if array is None else [str(array.dtype), list(array.shape)])
        found.append(parts)
    return {"names": [o.name for o in session.get_outputs()], "shapes": found}


def _text(answer: dict[str, Any]) -> str:
    text = json.dumps(answer)
    if len(text) > _MOST_ANSWER:
        raise DataError(
            f"the network and the numbers written into it take {len(text):,} bytes as text, at "
            f"most {_MOST_ANSWER:,} are read",
            hint="save it with its weights as raw data",
        )
    return text


def main(kind: str, path: str, memory_bytes: int) -> None:
    """Answer one request."""
    answer: dict[str, Any]
    try:
        if kind == "shapes":
            request = json.loads(Path(path).read_text())
            importlib.import_module("onnxruntime")  # its own start is not the file's

            limit(memory_bytes)
            answer = {"found": shapes(request)}
        else:
            importlib.import_module("numpy")

            limit(memory_bytes)
            answer = {"found": read(kind, path)}
        text = _text(answer)
    except GradbaseError as error:
        parts = [type(error).__name__, error.message, error.at, error.hint]
        text = json.dumps({"error": parts})
    except (MemoryError, RecursionError) as error:
        reason = "memory" if isinstance(error, MemoryError) else "nesting"
        text = json.dumps(
            {"error": [DataError.__name__, f"reading it takes too much {reason}", None, None]}
        )
    except OSError as error:
        text = json.dumps(
            {"error": [DataError.__name__, f"it cannot be read: {error}", None, None]}
        )
    except Exception as error:  # noqa: BLE001 (whatever a library says of a hostile file)
        text = json.dumps({"error": [DataError.__name__, str(error)[:500], None, None]})
    sys.stdout.write(text)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
