"""``gradbase doctor``: what an operator asks first."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator

LIBRARIES = ("gradbase", "torch", "duckdb", "pyarrow", "numpy", "sqlglot", "pandas", "polars")

UNITS = (("_flops", "FLOP/s"), ("_bytes_s", "B/s"), ("_bytes", "B"), ("_s", "s"))
"""Ends of the names of constants."""
PREFIXES = (("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0), ("m", 1e-3), ("µ", 1e-6), ("n", 1e-9))


def examine(*, recalibrate: bool = False) -> Iterator[tuple[str, str]]:
    """Pairs of name and value: versions, machine, engines, calibration (measured if missing)."""
    yield "python", platform.python_version()
    for library in LIBRARIES:
        yield library, _version(library)
    yield from _machine()
    yield from _engines()
    yield from _calibration(recalibrate)


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _machine() -> Iterator[tuple[str, str]]:
    import psutil
    import torch

    memory = psutil.virtual_memory()
    yield "cores", str(len(os.sched_getaffinity(0)))
    yield "memory", f"{memory.total / 2**30:.1f} GiB, {memory.available / 2**30:.1f} GiB free"
    yield "disk free here", f"{shutil.disk_usage('.').free / 2**30:.1f} GiB"
    yield "processor", torch.backends.cpu.get_cpu_capability()
    yield "gpu", torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"


def _engines() -> Iterator[tuple[str, str]]:
    from gradbase.engines import ENGINES, readiness

    for name in ENGINES:
        yield f"engine {name}", readiness(name)


def _calibration(recalibrate: bool) -> Iterator[tuple[str, str]]:
    import dataclasses

    from gradbase.resources.calibration import default_path
    from gradbase.runtime.calibrate import load_or_calibrate

    path = default_path()
    if recalibrate:
        path.unlink(missing_ok=True)
    values = load_or_calibrate(path)
    yield "calibration", str(path)
    for field in dataclasses.fields(values):
        yield f"  {field.name}", with_unit(field.name, getattr(values, field.name))


def with_unit(name: str, value: float) -> str:
    """A constant with the unit that its name ends with.

    Examples
    --------
    >>> with_unit("gemm_flops", 1.03e11), with_unit("op_s", 2.1e-6), with_unit("udf_rows", 2048)
    ('103 GFLOP/s', '2.1 µs', '2,048')
    """
    unit = next((u for end, u in UNITS if name.endswith(end)), "")
    if not unit:
        return f"{value:,.0f}"
    for prefix, factor in PREFIXES:
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"
