"""How well the members of one model per group do, all of them at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gradbase.runtime.groups.member import Member
from gradbase.runtime.groups.metrics import metrics_by_group
from gradbase.runtime.groups.rows import GroupedData

Floats = npt.NDArray[np.float64]


def measure(data: GroupedData, members: Sequence[Member]) -> None:
    """Fill in the metrics of members whose legs have ended, from their outputs."""
    done = [m for m in members if not m.error]
    for tested in (False, True):
        parts = [m for m in done if not tested or m.tested is not None]
        for task in {m.group.target.task for m in parts}:
            mine = [m for m in parts if m.group.target.task == task]
            outputs, targets = zip(*(_measured(m, data, tested=tested) for m in mine), strict=True)
            for member, values in zip(mine, metrics_by_group(task, outputs, targets), strict=True):
                if tested:
                    member.test_metrics = values
                else:
                    member.metrics = values


def _measured(member: Member, data: GroupedData, *, tested: bool) -> tuple[Floats, Floats]:
    """A member's outputs in units of the label, and the true values."""
    outputs = member.tested if tested else member.outputs
    assert outputs is not None
    rows = member.group.parts.test if tested else member.measured
    target = member.group.target
    if target.task != "regression":
        return outputs, data.y[rows]
    return outputs * target.scale + target.mean, data.true[rows]
