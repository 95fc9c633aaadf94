"""The speeds of this machine, measured once per host in a few seconds."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from gradbase.engines import connect
from gradbase.engines.base import Function
from gradbase.ir.types import FLOAT32
from gradbase.resources.calibration import Calibration, default_path
from gradbase.runtime.layers.building import library
from gradbase.runtime.layers.chain import Calls, Layers
from gradbase.runtime.onnx_session import is_installed, layers_session
from gradbase.runtime.predict import one_thread

log = logging.getLogger("gradbase.runtime")

_BUDGET_S = 0.1
"""Seconds spent on one measurement of torch or memory."""
_ROWS, _COLUMNS = 200_000, 16
_LAYER_ROWS, _HIDDEN = 8192, 4
_ONNX_SIZE, _ONNX_LAYERS = 128, 3
_CACHE = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")
_lock = threading.Lock()


def load_or_calibrate(path: Path | None = None, engine: Any = None) -> Calibration:
    """This host's constants, from `path` or measured and written there.

    Parameters
    ----------
    path : Path, optional
        Default: `gradbase.resources.calibration.default_path`.
    engine : Engine, optional
        Whose scans and functions are measured; default: an embedded one in memory.
    """
    path = path or default_path()
    with _lock:
        found = Calibration.load(path)
        if found is None or found.cores != _cores():
            found = calibrate(engine)
            try:
                found.save(path)
            except OSError as error:  # a read-only home directory: measured again next time
                log.info("calibration is not kept: %s", error)
    return found


def calibrate(engine: Any = None) -> Calibration:
    """Measure this host; takes about two seconds."""
    start = time.perf_counter()
    with one_thread(), torch.inference_mode():
        speeds: dict[str, Any] = {
            "cores": _cores(),
            "cache_bytes": _cache_bytes(),
            "gemm_flops": _gemm_flops(512, 1),
            "stacked_flops": _gemm_flops(64, 32),
            "op_s": _op_s(),
            "copy_bytes_s": _copy_bytes_s(),
            "file_bytes_s": _file_bytes_s(),
            "layers_flops": _layers_flops(),
            "onnx_flops": _onnx_flops(),
        }
    opened = engine or connect(":memory:")
    try:
        speeds |= _engine_speeds(opened)
    finally:
        if engine is None:
            opened.close()
    found = Calibration(**speeds)
    log.info("calibrated in %.1f s: %s", time.perf_counter() - start, found)
    return found


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _cache_bytes() -> int:
    """Size of the second-level cache as Linux tells it (``1024K``), 1 MB where it does not."""
    try:
        text = _CACHE.read_text().strip()
        return int(text.rstrip("KM")) * {"K": 1 << 10, "M": 1 << 20}[text[-1]]
    except (OSError, ValueError, KeyError):
        return 1 << 20


def _seconds(run: Callable[[], Any], budget_s: float = _BUDGET_S) -> float:
    """Least time of one call in `budget_s` seconds of calls (others disturb, nothing speeds up)."""
    run()
    best, end = float("inf"), time.perf_counter() + budget_s
    while time.perf_counter() < end:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def _gemm_flops(size: int, stack: int) -> float:
    a, b, out = (torch.ones(stack, size, size) for _ in range(3))
    return 2.0 * stack * size**3 / _seconds(lambda: torch.bmm(a, b, out=out))


def _layers_flops() -> float:
    function = library()
    if function is None:
        return 0.0
    sizes = [(32, 64), (64, 64), (64, 1)]
    weights = [(torch.ones(o, i), None) for i, o in sizes]
    layers = Layers(function, weights, ("relu", "relu", ""))
    columns = torch.ones(sizes[0][0], _LAYER_ROWS)
    run = Calls(layers)
    return 2.0 * _LAYER_ROWS * sum(i * o for i, o in sizes) / _seconds(lambda: run.matrix(columns))


def _onnx_flops() -> float:
    """0 where ONNX Runtime is not installed."""
    if not is_installed():
        return 0.0
    run = layers_session(_ONNX_SIZE, _ONNX_LAYERS)
    rows = np.ones((_LAYER_ROWS, _ONNX_SIZE), np.float32)
    return 2.0 * _LAYER_ROWS * _ONNX_SIZE**2 * _ONNX_LAYERS / _seconds(lambda: run(rows))


def _op_s() -> float:
    small = torch.ones(8)
    return _seconds(lambda: [small.add_(1.0) for _ in range(100)]) / 100


def _copy_bytes_s() -> float:
    source, target = torch.ones(8 << 20), torch.empty(8 << 20)  # 32 MB: no cache holds it
    return 4.0 * len(source) / _seconds(lambda: target.copy_(source))


def _file_bytes_s() -> float:
    size = 16 << 20
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(b"\0" * size)
        into = bytearray(size)

        def read() -> None:
            file.seek(0)
            file.readinto(into)

        return size / _seconds(read)


# -- the engine --------------------------------------------------------------------------------


def _engine_speeds(engine: Any) -> dict[str, float]:
    """Seconds per value and per batch of a scan, per call and value of a function."""
    name = f"__gradbase_calibration_{os.getpid()}"
    random = np.random.default_rng(0)
    table = pa.table({f"c{i}": random.random(_ROWS, np.float32) for i in range(_COLUMNS)})
    views = {name: table}

    def scan(columns: int, batch_rows: int) -> float:
        chosen = ", ".join(f"c{i} * 1 AS c{i}" for i in range(columns))
        sql = f"SELECT {chosen} FROM {name}"
        return _stream_s(engine, sql, batch_rows, views)

    large, small = scan(_COLUMNS, 65_536), scan(_COLUMNS, 2_048)
    batches = _ROWS / 2_048 - _ROWS / 65_536
    rows: list[int] = []
    one, many = (_function_s(engine, name, views, n, rows) for n in (1, 8))
    calls = _ROWS / max(rows)
    value_s = max((many - one) / (7 * _ROWS), 1e-11)
    layers = _layers_sql(name)
    planned = _stream_s(engine, layers, 0, {name: table.slice(0, 1)})
    whole = _stream_s(engine, layers, 0, views)
    sql_s = max(whole - planned, 0.1 * whole)  # on a busy machine the one row may take longer
    return {
        "sql_term_s": sql_s * _cores() / (_ROWS * _COLUMNS * _HIDDEN),
        "sql_plan_s": planned / (_COLUMNS * _HIDDEN),
        "arrow_value_s": large / (_ROWS * _COLUMNS),
        "batch_s": max((small - large) / batches, 1e-6),
        "udf_value_s": value_s,
        "udf_call_s": max((one - value_s * _ROWS) / calls, 1e-6),
        "udf_rows": max(rows),
    }


def _layers_sql(table: str) -> str:
    """A network of two layers as models are written in SQL, and the largest of its results."""
    terms = " + ".join(f"c{i} * 0.{i + 1}e0" for i in range(_COLUMNS))
    first = ", ".join(f"CAST({terms} + {k} AS DOUBLE) AS h{k}" for k in range(_HIDDEN))
    relu = ", ".join(f"CAST(GREATEST(h{k}, 0) AS DOUBLE) AS r{k}" for k in range(_HIDDEN))
    last = " + ".join(f"r{k} * 0.{k + 1}e0" for k in range(_HIDDEN))
    return (
        f"WITH a AS (SELECT *, {first} FROM {table}), b AS (SELECT *, {relu} FROM a) "
        f"SELECT max({last}) AS m FROM b"
    )


def _stream_s(
    engine: Any, sql: str, batch_rows: int, views: dict[str, pa.Table], *functions: Function
) -> float:
    def run() -> None:
        with engine.stream(sql, batch_rows=batch_rows, views=views, functions=functions) as batches:
            for batch in batches:
                del batch

    return _seconds(run)


def _function_s(
    engine: Any, table: str, views: dict[str, pa.Table], arguments: int, rows: list[int]
) -> float:
    """Seconds of a query with a function of `arguments` columns that does nothing."""

    def call(columns: list[pa.Array]) -> pa.Array:
        rows.append(len(columns[0]))
        return columns[0]

    name = f"__gradbase_calibrate_{os.getpid()}_{arguments}"
    function = Function(name, [FLOAT32] * arguments, FLOAT32, call)
    columns = ", ".join(f"c{i}" for i in range(arguments))
    sql = f"SELECT max({name}({columns})) AS m FROM {table}"
    return _stream_s(engine, sql, 0, views, function)
