"""Placing storages in one block of memory: how low, how soon, against other ways.

    python benchmarks/placement.py --instances FOLDER [--generate 10000,100000] [--time-limit 60]

FOLDER holds files `id,lower,upper,size`. A number in a name (`A.1048576.csv`) is a capacity that a
plan has to fit; `--capacity` gives one for all. Each instance is planned twice: until it fits its
capacity, and as low as can be. Then, of the same lifetimes, in the same run:

size FF, BF  the largest first, each in the lowest hole, or in the smallest (SmartPool's order)
caching      an allocator that does not know the future: best fit, with the segments and the
             rounding of PyTorch's CUDA allocator
CP-SAT       OR-Tools, two-dimensional packing, the height minimised (where it is installed, up to
             --cp-sat-rows rows); 2 workers, told the load and the capacity

Heights are over the largest sum of sizes alive at once, which no placement is below. All placements
are checked by `gb.memory.verify`; a wrong one ends the run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pools import caching_allocator

from gradbase import memory
from gradbase.errors import ResourceError
from gradbase.memory import Interval
from gradbase.resources.placement.greedy import Greedy, keys, order_by
from gradbase.resources.placement.problem import arranged

COLUMNS = ("size FF", "size BF", "caching", "CP-SAT")


def checked(intervals: list[Interval], offsets: dict[Any, int], height: int | None = None) -> int:
    """The height of a placement, verified; bytes."""
    top = max(offsets[i.id] + i.size for i in intervals) if height is None else height
    return memory.verify(memory.Plan(tuple(intervals), offsets, top, 0, "", 0))


def by_size(intervals: list[Interval], *, best: bool) -> int:
    """Height of a fit in the order of sizes, bytes."""
    lower, upper, size = np.array([(i.lower, i.upper, i.size) for i in intervals], np.int64).T
    problem = arranged(lower, upper, size, None)
    offset = Greedy(problem).fit(order_by(keys(problem), "size"), best=best)
    assert offset is not None
    return checked(intervals, dict(zip((i.id for i in intervals), offset.tolist(), strict=True)))


def caching(intervals: list[Interval]) -> int:
    """Bytes that a caching allocator reserves."""
    served = caching_allocator(intervals, None)
    checked(served.lives, served.offsets)
    return served.size


def cp_sat(intervals: list[Interval], load: int, roof: int, seconds: float) -> int | None:
    """Height in [load, roof] that CP-SAT found in `seconds`, bytes; None where it found nothing."""
    from ortools.sat.python import cp_model

    unit = int(np.gcd.reduce([i.size for i in intervals]))
    load, roof = load // unit, roof // unit
    model = cp_model.CpModel()
    height = model.new_int_var(load, roof, "height")
    offsets, times, places = [], [], []
    for i in intervals:
        size = i.size // unit
        offset = model.new_int_var(0, roof - size, "")
        model.add(offset + size <= height)
        offsets.append(offset)
        times.append(model.new_fixed_size_interval_var(i.lower, i.length, ""))
        places.append(model.new_fixed_size_interval_var(offset, size, ""))
    model.add_no_overlap_2d(times, places)
    model.add_cumulative(times, [i.size // unit for i in intervals], height)
    model.minimize(height)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.num_workers = 2
    if solver.solve(model) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    found = {i.id: solver.value(o) * unit for i, o in zip(intervals, offsets, strict=True)}
    return checked(intervals, found)


def generated(kind: str, rows: int) -> list[tuple[int, int, int]]:
    """(lower, upper, size) of `rows` storages, the same each time."""
    random = np.random.default_rng(rows)
    if kind == "random":  # lives and sizes of all lengths, about a hundred alive
        lower = random.integers(0, 2 * rows, rows)
        length = np.ceil(random.lognormal(4, 1.5, rows)).astype(np.int64)
        size = 512 * np.ceil(random.lognormal(3, 1.5, rows)).astype(np.int64)
        return list(zip(lower.tolist(), (lower + length).tolist(), size.tolist(), strict=True))
    if kind == "cut":  # a rectangle cut into pieces: the lowest plan is the load
        return _cut(rows, random)
    return _step(rows, random)


def _cut(rows: int, random: np.random.Generator) -> list[tuple[int, int, int]]:
    width, height = 8 * rows, 1 << 20
    pieces = [(0, width, 0, height)]
    while len(pieces) < rows:
        k = int(random.integers(len(pieces)))
        a, b, low, high = pieces[k]
        if (b - a) / width > random.random() * (high - low) / height and b - a > 1:
            at = int(random.integers(a + 1, b))
            pieces[k] = (a, at, low, high)
            pieces.append((at, b, low, high))
        elif high - low > 1:
            at = int(random.integers(low + 1, high))
            pieces[k] = (a, b, low, at)
            pieces.append((a, b, at, high))
    return [(a, b, 512 * (high - low)) for a, b, low, high in pieces]


def _step(rows: int, random: np.random.Generator) -> list[tuple[int, int, int]]:
    """Activations until their layer's backward, gradients, and temporaries of both."""
    layers, found = rows // 6, []
    end = 8 * layers
    for layer in range(layers):
        size = 512 * int(random.lognormal(6, 1) + 1)
        back = end - 4 * layer
        found += [(4 * layer, back, size), (back - 2, back + 3, size)]
    while len(found) < rows:
        begin = int(random.integers(0, end))
        size = 512 * int(random.lognormal(5, 1.2) + 1)
        found.append((begin, begin + int(random.integers(1, 8)), size))
    return found


def write(folder: Path, kinds: list[str], counts: list[int]) -> list[Path]:
    """Generated instances as files."""
    paths: list[Path] = []
    for rows in counts:
        for kind in kinds:
            lines = (f"{k},{a},{b},{s}" for k, (a, b, s) in enumerate(generated(kind, rows)))
            paths.append(folder / f"{kind}-{rows}.csv")
            paths[-1].write_text("\n".join(("id,lower,upper,size", *lines)) + "\n")
    return paths


def measured(path: Path, capacity: int | None, arguments: argparse.Namespace) -> dict[str, Any]:
    """All ways on one instance."""
    limit = arguments.time_limit
    row: dict[str, Any] = {"instance": path.stem, "capacity": capacity}
    if capacity is not None:
        begin = time.perf_counter()
        try:
            row["fits"] = memory.verify(memory.plan(path, capacity, time_limit=limit)) <= capacity
        except ResourceError as error:
            row["fits"], row["why"] = False, str(error)
        row["fit_seconds"] = time.perf_counter() - begin
    begin = time.perf_counter()
    plan = memory.plan(path, time_limit=limit)
    row |= {"seconds": time.perf_counter() - begin, "proved": plan.proved, "gap": plan.gap}
    memory.verify(plan)
    intervals = list(plan.intervals)
    load = memory.plan(intervals, method="greedy").lower_bound
    row |= {"rows": len(intervals), "load": load, "method": plan.method}

    def ratio(way: Callable[[], int | None]) -> float | None:
        height = way()
        return None if height is None else height / load

    row["gradbase"] = plan.height / load
    row["size FF"] = ratio(lambda: by_size(intervals, best=False))
    row["size BF"] = ratio(lambda: by_size(intervals, best=True))
    row["caching"] = ratio(lambda: caching(intervals))
    if arguments.cp_sat and len(intervals) <= arguments.cp_sat_rows:
        begin = time.perf_counter()
        roof = capacity or by_size(intervals, best=False)
        row["CP-SAT"] = ratio(lambda: cp_sat(intervals, load, roof, arguments.cp_sat))
        row["cp_sat_seconds"] = time.perf_counter() - begin
    return row


def show(row: dict[str, Any]) -> None:
    """One line of the table."""
    fits = "-" if row["capacity"] is None else f"{row['fit_seconds']:.2f} s"
    fits = f"NO, {fits}" if row.get("fits") is False else fits
    gap = "proved" if row["proved"] else f"{row['gap']:.3%}"
    others = " ".join(f"{row[c]:>8.3f}" if row.get(c) else f"{'-':>8}" for c in COLUMNS)
    seconds = f"{row['cp_sat_seconds']:>6.1f}" if "cp_sat_seconds" in row else f"{'-':>6}"
    print(
        f"{row['instance']:<20} {row['rows']:>7} {row['load']:>14,} {fits:>9} "
        f"{row['gradbase']:>8.4f} {gap:>8} {row['seconds']:>6.1f} {others} {seconds}",
        flush=True,
    )


def conclude(rows: list[dict[str, Any]], limit: float) -> None:
    """What holds, and how much higher the other ways are."""
    asked = [row for row in rows if row["capacity"] is not None]
    if asked:
        good = sum(row["fits"] and row["fit_seconds"] <= limit for row in asked)
        _say(good == len(asked), f"{good} of {len(asked)} fit their capacity within {limit:g} s")
    proved = sum(row["proved"] for row in rows)
    print(f"{proved} of {len(rows)} proved lowest; largest gap {max(r['gap'] for r in rows):.3%}")
    _say(all(row["seconds"] <= limit for row in rows), f"every plan within {limit:g} s")
    for column in COLUMNS:
        ratios = [row[column] / row["gradbase"] for row in rows if row.get(column)]
        if ratios:
            mean, least = statistics.geometric_mean(ratios), min(ratios)
            print(f"{column:<8} {mean:.3f} times our height ({least:.3f} to {max(ratios):.3f})")
    nothing = [row["instance"] for row in rows if "CP-SAT" in row and row["CP-SAT"] is None]
    if nothing:
        print(f"CP-SAT found nothing for {', '.join(nothing)}")


def _say(holds: bool, what: str) -> None:
    print(f"{'ok' if holds else 'FALLS SHORT'}: {what}")


def _capacity(path: Path, given: int | None) -> int | None:
    named = re.search(r"\.(\d+)$", path.stem)
    return int(named[1]) if given is None and named else given


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--instances", type=Path, help="folder of CSV files")
    parser.add_argument("--capacity", type=int, help="bytes, of all files")
    parser.add_argument("--generate", default="10000,100000", help="rows, with commas; 0: none")
    parser.add_argument("--kinds", default="step,random,cut", help="what is generated")
    parser.add_argument("--time-limit", type=float, default=60, help="seconds for a plan")
    parser.add_argument("--cp-sat", type=float, default=60, help="seconds for CP-SAT; 0: not run")
    parser.add_argument("--cp-sat-rows", type=int, default=2000)
    parser.add_argument("--json", type=Path, help="write all rows there")
    arguments = parser.parse_args()
    if arguments.instances and not any(arguments.instances.glob("*.csv")):
        parser.error(f"there is no .csv file in {arguments.instances}")
    return arguments


def main() -> None:
    """Measure all instances and print a table."""
    arguments = _arguments()
    if arguments.cp_sat:
        try:
            import ortools  # noqa: F401
        except ImportError:
            print("CP-SAT is left out: pip install ortools")
            arguments.cp_sat = 0
    begin = time.perf_counter()
    tiny = [Interval(k, k % 3, k % 3 + k % 4 + 1, 1 + k % 3) for k in range(9)]
    memory.plan(tiny, method="exact")
    by_size([*tiny, Interval("long", 0, 900, 1)], best=True)
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; searches ", end=""
    )
    print(f"compiled or loaded in {time.perf_counter() - begin:.1f} s, not counted below")
    print(
        f"{'instance':<20} {'rows':>7} {'load, bytes':>14} {'fits in':>9} {'gradbase':>8} "
        f"{'gap':>8} {'s':>6} {' '.join(f'{c:>8}' for c in COLUMNS)} {'s':>6}"
    )
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        paths = sorted(arguments.instances.glob("*.csv")) if arguments.instances else []
        given = [(path, _capacity(path, arguments.capacity)) for path in paths]
        counts = [int(n) for n in arguments.generate.split(",") if int(n)]
        made = write(Path(folder), arguments.kinds.split(","), counts)
        for path, capacity in [*given, *((path, None) for path in made)]:
            rows.append(measured(path, capacity, arguments))
            show(rows[-1])
    if rows:
        conclude(rows, arguments.time_limit)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
