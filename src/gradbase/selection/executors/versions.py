"""What must be equal for a worker to come to the same bits."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import blake3
import torch

import gradbase
from gradbase.errors import UnsupportedError


@functools.cache
def versions() -> dict[str, str]:
    """Of gradbase (with a hash of its source), torch and the instructions torch uses here."""
    digest, root = blake3.blake3(), Path(gradbase.__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return {
        "gradbase": f"{gradbase.__version__} ({digest.hexdigest()[:12]})",
        "torch": torch.__version__,
        "processor": torch.backends.cpu.get_cpu_capability(),
    }


def check_same(expected: Mapping[str, str]) -> None:
    """UnsupportedError where this process has other ones."""
    found = versions()
    other = [f"{n} {found[n]}, expected {v}" for n, v in expected.items() if found[n] != v]
    if other:
        raise UnsupportedError(
            f"a worker has {' and '.join(other)}: its results would differ",
            hint="install the same versions where workers run",
        )
