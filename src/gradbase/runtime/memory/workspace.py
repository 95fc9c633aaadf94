"""What operators allocate inside themselves, which no tensor shows.

PyTorch's profiler reports each allocation of the CPU allocator. A mark around each operator tells
which allocations happen inside it.
"""

from __future__ import annotations

import bisect
import itertools
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from gradbase.errors import DataError
from gradbase.runtime.memory.recorder import Recorder

__all__ = ["workspaces_of"]

_MARK = "gradbase:"


class _Marker(Recorder):
    """Puts a named range around every operator."""

    def run(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call the operator inside a range named by its place among the calls."""
        with torch.profiler.record_function(f"{_MARK}{len(self.calls)}"):
            return func(*args, **kwargs)


def workspaces_of(run: Callable[[], Any], names: Sequence[str]) -> dict[int, int]:
    """Run an iteration under the profiler; bytes of workspace of operation i, where there are any.

    Parameters
    ----------
    run : callable
        Runs one or more iterations.
    names : sequence of str
        Operators of an iteration.

    Raises
    ------
    DataError
        The iteration that ran has other operators.
    """
    marker = _Marker()
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(profile_memory=True, activities=activities) as profile, marker:
        run()
    ran = [call.name for call in marker.calls]
    start = len(ran) - len(names)
    if ran[max(start, 0) :] != list(names):
        raise DataError(
            f"workspace could not be measured: under the profiler {len(ran)} operators ran, the "
            f"traced iteration has {len(names)}, or others",
            hint="trace without workspace=True",
        )
    inside = _allocations(_events(profile))
    found = {i: _workspace(inside.get(start + i, [])) for i in range(len(names))}
    return {i: size for i, size in found.items() if size}


def _events(profile: torch.profiler.profile) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        profile.export_chrome_trace(str(path))
        return json.loads(path.read_text())["traceEvents"]


def _allocations(events: list[dict[str, Any]]) -> dict[int, list[int]]:
    """Bytes taken (positive) and given back (negative) inside each mark, in order."""
    marks = [e for e in events if e.get("name", "").startswith(_MARK) and "dur" in e]
    marks.sort(key=lambda e: e["ts"])
    starts = [mark["ts"] for mark in marks]
    found: dict[int, list[int]] = {}
    memory = [e for e in events if e.get("name") == "[memory]"]
    for event in sorted(memory, key=lambda e: e["ts"]):
        at = bisect.bisect_right(starts, event["ts"]) - 1
        if at >= 0 and event["ts"] <= starts[at] + marks[at]["dur"]:
            number = int(marks[at]["name"].removeprefix(_MARK))
            found.setdefault(number, []).append(int(event["args"]["Bytes"]))
    return found


def _workspace(changes: list[int]) -> int:
    """How much more than at its end an operator had at its peak."""
    levels = list(itertools.accumulate(changes, initial=0))
    return max(levels) - max(levels[-1], 0)
