"""Machine code of files in C, built once per host and kept beside its calibration.

A processor's vectors are as wide as only the machine itself knows, so the code is built there, with
the C compiler that ``CC`` names or ``cc``. Without one, torch computes what they would.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from gradbase.resources.calibration import default_path

log = logging.getLogger("gradbase.runtime")

_OPTIONS = ("-O3", "-fPIC", "-shared")
_MACHINES = (("-march=native",), ("-mcpu=native",), ())
"""Compilers call this machine by one of these; the last is any machine of its kind."""
_PATIENCE_S = 60.0
_CPU = Path("/proc/cpuinfo")


class Layer(ctypes.Structure):
    """``struct layer`` of ``layers.c``."""

    _fields_ = (
        ("inputs", ctypes.c_int64),
        ("outputs", ctypes.c_int64),
        ("activation", ctypes.c_int64),
        ("weight", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
    )


@functools.lru_cache(maxsize=1)
def library() -> Any:
    """The function ``gradbase_layers``, built if need be; None where it cannot be."""
    found = compiled("gradbase.runtime.layers", "layers.c", "-ffp-contract=fast")
    return None if found is None else _function(found)


def compiled(package: str, name: str, *options: str) -> ctypes.CDLL | None:
    """The file `name` of `package`, built with these options besides the usual; None: it cannot be.

    Callers keep the answer.
    """
    compiler = shutil.which(os.environ.get("CC") or "cc")
    if compiler is None:
        log.info("no C compiler: torch computes what %s would", name)
        return None
    try:
        source = files(package).joinpath(name).read_text()
        return ctypes.CDLL(str(_kept(compiler, source, name.removesuffix(".c"), options)))
    except (OSError, subprocess.SubprocessError) as error:
        log.info("%s cannot be built, torch computes what it would: %s", name, error)
        return None


def _kept(compiler: str, source: str, stem: str, options: Sequence[str]) -> Path:
    """The library's file: that of before where it is ours, or made now."""
    parts = (source, compiler, *_OPTIONS, *options, _machine())
    name = hashlib.sha256("\0".join(parts).encode())
    path = default_path().parent / f"{stem}-{name.hexdigest()[:16]}.so"
    if path.exists() and path.stat().st_uid == os.getuid():
        return path
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.parent if os.access(path.parent, os.W_OK) else Path(tempfile.mkdtemp())
    made = folder / f"{path.stem}.{os.getpid()}.so"
    _build(compiler, source, made, options)
    return made.replace(folder / path.name)


def _machine() -> str:
    """What tells processors apart that need other code."""
    try:
        lines = _CPU.read_text().splitlines()
    except OSError:
        return platform.processor() + platform.machine()
    return next((n for n in lines if n.startswith(("flags", "Features"))), platform.machine())


def _build(compiler: str, source: str, path: Path, options: Sequence[str]) -> None:
    failed: subprocess.CalledProcessError | None = None
    for machine in _MACHINES:
        command = [compiler, *_OPTIONS, *options, *machine, "-x", "c", "-", "-o", str(path)]
        try:
            subprocess.run(  # noqa: S603 (the user's compiler, our source)
                command, input=source, text=True, capture_output=True, check=True,
                timeout=_PATIENCE_S,
            )  # fmt: skip
        except subprocess.CalledProcessError as error:
            failed = error
        else:
            return
    assert failed is not None
    raise OSError(failed.stderr)


def _function(made: ctypes.CDLL) -> Any:
    function = made.gradbase_layers
    address, number = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = (
        address, number, address, number, address, address, address, number,
    )  # fmt: skip
    function.restype = ctypes.c_float
    return function
