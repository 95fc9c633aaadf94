"""Constants of the machine, as values.

`runtime.calibrate` measures them; the optimiser reads them.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Calibration:
    """Speeds of this host. Defaults: a 2-core AMD EPYC (see ``gradbase doctor``).

    Parameters
    ----------
    cores : int
    gemm_flops : float, FLOP/s
        Large float32 matrix product on one core.
    stacked_flops : float, FLOP/s
        Batched products of small matrices (64 x 64) on one core.
    op_s : float, seconds
        Fixed time of one small torch call.
    copy_bytes_s : float, bytes/s
        Copying memory, one core.
    file_bytes_s : float, bytes/s
        Reading a cached file.
    arrow_value_s : float, seconds
        One value from the engine's scan to an Arrow batch.
    batch_s : float, seconds
        Fixed time to hand over one Arrow batch.
    udf_call_s : float, seconds
        Fixed time of one call of a function inside the engine.
    udf_value_s : float, seconds
        One value handed to such a function.
    udf_rows : int
        Rows the engine hands to a function at once.
    cache_bytes : int
        Second-level cache of a core.
    layers_flops : float, FLOP/s
        Chains of layers in machine code of ours on one core; 0: it cannot be built here.
    sql_term_s : float, seconds
        A number of a model's SQL for one row, on one core; 0: not known.
    sql_plan_s : float, seconds
        The engine reading and planning a number of a model's SQL.
    onnx_flops : float, FLOP/s
        Layers in ONNX Runtime on one core; 0: it is not installed, or not known.
    """

    cores: int = 2
    gemm_flops: float = 1.0e11
    stacked_flops: float = 3.0e10
    op_s: float = 4.0e-6
    copy_bytes_s: float = 8.0e9
    file_bytes_s: float = 2.0e9
    arrow_value_s: float = 2.3e-9
    batch_s: float = 2.0e-4
    udf_call_s: float = 3.0e-4
    udf_value_s: float = 4.0e-9
    udf_rows: int = 2048
    cache_bytes: int = 1 << 20
    layers_flops: float = 0.0
    sql_term_s: float = 0.0
    sql_plan_s: float = 1.0e-4
    onnx_flops: float = 0.0

    def save(self, path: Path) -> None:
        """Write as JSON, replacing the file in one step."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(dataclasses.asdict(self), indent=1))
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> Calibration | None:
        """Read `path`; None where it is missing, damaged or does not hold all of them."""
        try:
            values = json.loads(path.read_text())
            return cls(**values) if len(values) == len(dataclasses.fields(cls)) else None
        except (OSError, ValueError, TypeError):
            return None


def default_path() -> Path:
    """Where this host's constants are kept (``$XDG_CACHE_HOME/gradbase/calibration.json``)."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "gradbase" / "calibration.json"
