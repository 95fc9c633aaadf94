"""Machine code of ``layers.c``, built once per host and kept beside its calibration.

A processor's vectors are as wide as only the machine itself knows, so the code is built there, with
the C compiler that ``CC`` names or ``cc``. Without one, torch computes the layers.
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
from importlib.resources import files
from pathlib import Path
from typing import Any

from gradbase.resources.calibration import default_path

log = logging.getLogger("gradbase.runtime")

_OPTIONS = ("-O3", "-ffp-contract=fast", "-fPIC", "-shared")
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
    compiler = shutil.which(os.environ.get("CC") or "cc")
    if compiler is None:
        log.info("no C compiler: torch computes all layers")
        return None
    try:
        return _function(_kept(compiler))
    except (OSError, subprocess.SubprocessError) as error:
        log.info("layers cannot be built, torch computes them: %s", error)
        return None


def _kept(compiler: str) -> Path:
    """The library's file: that of before where it is ours, or made now."""
    source = files("gradbase.runtime.layers").joinpath("layers.c").read_text()
    name = hashlib.sha256("\0".join((source, compiler, *_OPTIONS, _machine())).encode())
    path = default_path().parent / f"layers-{name.hexdigest()[:16]}.so"
    if path.exists() and path.stat().st_uid == os.getuid():
        return path
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.parent if os.access(path.parent, os.W_OK) else Path(tempfile.mkdtemp())
    made = folder / f"{path.stem}.{os.getpid()}.so"
    _build(compiler, source, made)
    return made.replace(folder / path.name)


def _machine() -> str:
    """What tells processors apart that need other code."""
    try:
        lines = _CPU.read_text().splitlines()
    except OSError:
        return platform.processor() + platform.machine()
    return next((n for n in lines if n.startswith(("flags", "Features"))), platform.machine())


def _build(compiler: str, source: str, path: Path) -> None:
    failed: subprocess.CalledProcessError | None = None
    for machine in _MACHINES:
        command = [compiler, *_OPTIONS, *machine, "-x", "c", "-", "-o", str(path)]
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


def _function(path: Path) -> Any:
    function = ctypes.CDLL(str(path)).gradbase_layers
    address, number = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = (
        address, number, address, number, address, address, address, number,
    )  # fmt: skip
    function.restype = ctypes.c_float
    return function
