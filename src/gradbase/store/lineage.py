"""Where results come from: what of the machine and the libraries may change their bits."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from dataclasses import dataclass
from pathlib import Path

_AVX512 = {"avx512f", "avx512vl", "avx512bw", "avx512dq", "fma"}
_AVX2 = {"avx2", "fma"}


@dataclass(frozen=True)
class Environment:
    """Build of torch and class of processor: equal ones give equal bits."""

    torch: str
    processor: str

    @classmethod
    @functools.cache
    def here(cls) -> Environment:
        """Of this process; torch is not loaded for it."""
        return cls(importlib.metadata.version("torch"), _processor())


def _processor() -> str:
    """Instruction set that torch's kernels use here, e.g. ``x86_64 AVX512``."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    flags = next((set(li.split()) for li in text.splitlines() if li.startswith("flags")), set())
    level = "AVX512" if flags >= _AVX512 else "AVX2" if flags >= _AVX2 else "DEFAULT"
    return f"{platform.machine()} {level}"


@dataclass(frozen=True)
class Lineage:
    """What made a model version. `options` is JSON; the others as in `ModelRecord`."""

    relation_hash: str
    query: str
    statement: str
    options: str
    seed: int
    code_version: str
    engine: str
    environment: Environment
