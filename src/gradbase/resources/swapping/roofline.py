"""Operator times of a device that is not here."""

from __future__ import annotations

from dataclasses import replace

from gradbase.errors import DataError
from gradbase.resources.lifetimes import Trace


def roofline(trace: Trace, flops_per_s: float = 14e12, bytes_per_s: float = 900e9) -> Trace:
    """The trace with each operation taking max(FLOPs / flops_per_s, bytes / bytes_per_s) seconds.

    The defaults are the peak speeds of a V100 in float32. Real operators are slower, which leaves
    more time for copies.

    Raises
    ------
    DataError
        A speed is not above 0.
    """
    if not (flops_per_s > 0 and bytes_per_s > 0):
        raise DataError(
            f"speeds must be above 0, found flops_per_s={flops_per_s}, bytes_per_s={bytes_per_s}"
        )
    operations = (
        replace(o, seconds=max(o.flops / flops_per_s, o.bytes_moved / bytes_per_s))
        for o in trace.operations
    )
    return replace(trace, operations=tuple(operations))
