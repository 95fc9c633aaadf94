"""Training steps in less memory: placement, swapping on a modelled device, and real runs.

    python benchmarks/training_memory.py [--only placement|swap|arena|estimate|real] [--networks vgg-16,lstm]

See README.md beside this file for what is compared and how to read it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from estimates import estimates, modules
from networks import LARGE, SMALL, Workload
from pools import Served, caching_allocator, online_best_fit
from torch._subclasses.fake_tensor import FakeTensorMode

from gradbase import memory
from gradbase.resources.swapping.planner import Planner

MIB = 1 << 20
WORST_PLACEMENT = 1.005
BEST_OF_THE_PAPER = 0.34
WORST_ESTIMATE = 0.15
# The first is what the paper's figure is compared with; the others are nominal (gb.memory.LINKS).
LINKS = {"pcie3 at 12 GB/s": memory.Link(0, 12e9, 0, 12e9)} | {
    name: memory.LINKS[name] for name in ("pcie3", "pcie4", "pcie5", "nvme")
}
PARTS = (0.75, 0.5, 0.25)


def traced(workload: Workload) -> memory.Trace:
    """The step traced with tensors that have no data, so that its size costs nothing."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        return memory.trace(workload.make()[1])


def placement(traces: dict[str, memory.Trace], time_limit: float) -> list[dict[str, Any]]:
    """Height of one planned allocation against the largest load and against allocators."""
    print(
        "\nplacement: bytes over those alive at once, of the transient storages; weights stay apart"
    )
    print("best fit: one online pool that grows (CnMem); PyTorch: a model of its CUDA allocator")
    print(
        f"{'network':<20} {'rows':>6} {'bound MiB':>10} {'planned':>8} {'s':>6} {'best fit':>9} {'PyTorch':>8}"
    )
    rows: list[dict[str, Any]] = []
    for name, trace in traces.items():
        begin = time.perf_counter()
        plan = memory.plan(trace, time_limit=time_limit)
        seconds = time.perf_counter() - begin
        row = {
            "network": name,
            "rows": len(plan.intervals),
            "bound": trace.lower_bound,
            "planned": memory.verify(plan) / trace.lower_bound,
            "proved": plan.proved,
            "seconds": seconds,
            "best_fit": _served(online_best_fit, trace) / trace.lower_bound,
            "pytorch": _served(caching_allocator, trace) / trace.lower_bound,
        }
        rows.append(row)
        print(
            f"{name:<20} {row['rows']:>6} {trace.lower_bound / MIB:>10.1f} {row['planned']:>8.4f} "
            f"{seconds:>6.1f} {row['best_fit']:>9.4f} {row['pytorch']:>8.4f}",
            flush=True,
        )
    worst = max(row["planned"] for row in rows)
    _say(f"every plan at most {WORST_PLACEMENT} times the bound", worst <= WORST_PLACEMENT)
    return rows


def _served(allocator: Callable[..., Served], trace: memory.Trace) -> int:
    """Bytes that an allocator takes for some iterations of a trace; where it puts them is checked."""
    served = allocator(trace.intervals(), trace.period)
    top = max(served.offsets[i.id] + i.size for i in served.lives)
    memory.verify(memory.Plan(tuple(served.lives), served.offsets, top, 0, "", 0))
    return served.size


def arenas(names: list[str], calls: int = 2) -> list[dict[str, Any]]:
    """Steps run inside one planned allocation, against the same steps as they are."""
    print("\narena: steps inside one allocation on CPU; storages that lay in it, over all calls")
    print(
        f"{'network':<12} {'height MiB':>10} {'of bound':>9} {'inside':>7} {'copied':>7} {'outside':>8} equal"
    )
    rows: list[dict[str, Any]] = []
    for name in names:
        plain, plain_step = SMALL[name].make()
        torch.manual_seed(1)
        for _ in range(3 + calls):
            plain_step()
        network, step = SMALL[name].make()
        torch.manual_seed(1)
        run = memory.arena(step)
        for _ in range(calls):
            run()
        report = run.report
        row = {"network": name, "height": report.height, "bound": run.trace.lower_bound}
        row |= {"inside": report.inside, "copied": report.copied, "outside": report.outside}
        row["equal"] = _digest(network) == _digest(plain)
        rows.append(row)
        print(
            f"{name:<12} {report.height / MIB:>10.1f} {report.height / row['bound']:>9.4f} "
            f"{report.inside:>7} {report.copied:>7} {report.outside:>8} {row['equal']}",
            flush=True,
        )
    whole = all(row["equal"] and not row["outside"] for row in rows)
    _say("arena: same bits, every storage at its planned place", whole)
    return rows


def swap(traces: dict[str, memory.Trace], tries: int) -> list[dict[str, Any]]:
    """What can be saved without overhead on several links, and what a limit costs."""
    rows: list[dict[str, Any]] = []
    print(
        "\nswapping, operators at max(FLOPs / 14 TFLOP/s, bytes / 900 GB/s): peak saved without overhead"
    )
    print("best score and combined: the paper's ways; floor: no copies without overhead save more")
    print("+ weights: persistent storages may leave too")
    header = f"{'network':<20} {'link':<17} {'peak MiB':>9} {'score':>7} {'combined':>9} {'gradbase':>9} {'floor':>7}"
    print(f"{header} {'+ weights':>10} {'floor':>7}")
    for name, trace in traces.items():
        modelled = memory.roofline(trace)
        for link_name, link in LINKS.items():
            row = {"network": name, "link": link_name, "peak": trace.peak}
            row |= _without_overhead(modelled, link, tries)
            rows.append(row)
            print(
                f"{name:<20} {link_name:<17} {trace.peak / MIB:>9.1f} {row['score']:>7.1%} "
                f"{row['combined']:>9.1%} {row['auto']:>9.1%} {row['floor']:>7.1%} "
                f"{row['weights']:>10.1%} {row['weights_floor']:>7.1%}",
                flush=True,
            )
    first = [row for row in rows if row["link"] == next(iter(LINKS))]
    best = max(first, key=lambda row: row["auto"])
    print(f"largest on {best['link']}: {best['auto']:.1%} ({best['network']}), weights staying")
    if len(traces) == len(LARGE) or best["auto"] >= BEST_OF_THE_PAPER:
        _say(f"at least {BEST_OF_THE_PAPER:.0%} on one network", best["auto"] >= BEST_OF_THE_PAPER)
    else:
        print(f"not judged: {BEST_OF_THE_PAPER:.0%} on one network, as only some were run")
    return rows + _at_limits(traces, tries)


def _without_overhead(trace: memory.Trace, link: memory.Link, tries: int) -> dict[str, float]:
    planner = Planner(trace, link)
    moving = Planner(trace, link, persistent=True)

    def saved(planner: Planner, method: str) -> float:
        plan = planner.plan(None, mode="no overhead", method=method, tries=tries)
        memory.check_swaps(plan)
        return plan.reduction

    return {
        "score": max(saved(planner, method) for method in ("doa", "aoa", "wdoa", "swdoa")),
        "combined": saved(planner, "combined"),
        "auto": saved(planner, "auto"),
        "floor": 1 - planner.least_peak / trace.peak,
        "weights": saved(moving, "auto"),
        "weights_floor": 1 - moving.least_peak / trace.peak,
    }


def _at_limits(traces: dict[str, memory.Trace], tries: int) -> list[dict[str, Any]]:
    link_name, link = next(iter(LINKS.items()))
    print(f"\noverhead at a limit on {link_name}, part of the operators' time")
    print("limit: persistent + largest operator's working set + this part of the rest of the peak")
    print(
        f"{'network':<20} {'limit':>6} {'MiB':>9} {'score':>8} {'combined':>9} {'copying':>8} "
        f"{'floor':>8} {'with recomputation':>19}"
    )
    rows: list[dict[str, Any]] = []
    for name, trace in traces.items():
        copying = Planner(memory.roofline(trace), link, recompute=False)
        both = Planner(memory.roofline(trace), link)
        for part in PARTS:
            limit = int(copying.minimum + part * (trace.peak - copying.minimum))

            def cost(planner: Planner, method: str, limit: int = limit) -> float:
                plan = planner.plan(limit, method=method, tries=tries)
                memory.check_swaps(plan)
                return plan.overhead_s / planner.seconds

            row: dict[str, Any] = {"network": name, "limit": limit, "part": part}
            row["score"] = min(cost(copying, m) for m in ("doa", "aoa", "wdoa", "swdoa"))
            row |= {"combined": cost(copying, "combined"), "copying": cost(copying, "auto")}
            row |= {"floor": copying.least_overhead(limit) / copying.seconds}
            row["recompute"] = cost(both, "auto")
            rows.append(row)
            print(
                f"{name:<20} {part:>6.0%} {limit / MIB:>9.1f} {row['score']:>8.2%} "
                f"{row['combined']:>9.2%} {row['copying']:>8.2%} {row['floor']:>8.2%} {row['recompute']:>19.2%}",
                flush=True,
            )
    return rows


def real(names: list[str], directory: str, repeat: int) -> list[dict[str, Any]]:
    """Run steps under a budget, each in a process of its own."""
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    rows: list[dict[str, Any]] = []
    for device in devices:
        where = "a file" if device == "cpu" else "pinned memory"
        print(
            f"\nreal runs on {device}, lower tier {where}; resident memory is the process's high-water mark"
        )
        print(
            f"{'network':<12} {'limit':>6} {'limit MiB':>10} {'peak MiB':>9} {'resident':>9} {'of plain':>9} "
            f"{'s/step':>7} {'slower':>7} {'out MiB':>8} {'floor MiB':>10} equal"
        )
        for name in names:
            plain = _child(name, device, None, directory, repeat)
            rows.append({"network": name, "part": 1.0, **plain})
            _print_real(name, "plain", plain, plain)
            least = plain["persistent"] + plain["working_set"]
            for part in PARTS:
                limit = int(least + part * (plain["traced"] - least))
                ran = _child(name, device, limit, directory, repeat)
                rows.append({"network": name, "part": part, "limit": limit, **ran})
                _print_real(name, f"{part:.0%}", {**ran, "limit": limit}, plain)
    _say("real runs: same bits, within the limit", all(_right(r, rows) for r in rows))
    return rows


def _right(row: dict[str, Any], rows: list[dict[str, Any]]) -> bool:
    plain = next(
        r
        for r in rows
        if r["part"] == 1.0 and (r["network"], r["device"]) == (row["network"], row["device"])
    )
    return row["digest"] == plain["digest"] and row["peak"] <= row.get("limit", row["peak"])


def _print_real(name: str, limit: str, ran: dict[str, Any], plain: dict[str, Any]) -> None:
    print(
        f"{name:<12} {limit:>6} {ran.get('limit', 0) / MIB:>10.1f} {ran['peak'] / MIB:>9.1f} "
        f"{ran['resident'] / MIB:>9.1f} {ran['resident'] / plain['resident']:>9.2f} {ran['seconds']:>7.3f} "
        f"{ran['seconds'] / plain['seconds']:>6.2f}x {ran['bytes_out'] / MIB:>8.1f} "
        f"{(plain['persistent'] + plain['working_set']) / MIB:>10.1f} {ran['digest'] == plain['digest']}",
        flush=True,
    )


def _child(
    name: str, device: str, limit: int | None, directory: str, repeat: int
) -> dict[str, Any]:
    task = json.dumps(
        {"name": name, "device": device, "limit": limit, "directory": directory, "repeat": repeat}
    )
    done = subprocess.run(
        [sys.executable, __file__, "--child", task], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{task} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def child(task: dict[str, Any]) -> dict[str, Any]:
    """One run: seconds of a step, memory, and a digest of the weights after it."""
    torch.set_num_threads(1)
    device, limit = task["device"], task["limit"]
    network, step = SMALL[task["name"]].make(device)
    found: dict[str, Any] = {"device": device, "bytes_out": 0}
    before = _resident(device)
    if limit is None:
        # Not under a budget: what ran is what a user runs.
        seconds = _timed(step, task["repeat"], device)
        resident = _high_water(device) - before
        digest = _digest(network)
        trace = memory.trace(step)
        found |= {"traced": trace.peak, "peak": trace.peak, "persistent": trace.persistent_bytes}
        found["working_set"] = trace.working_set
    else:
        options = {"directory": task["directory"]} if device == "cpu" else {"device": "cuda"}
        with memory.budget(limit, **options) as report:
            seconds = _timed(step, task["repeat"], device)
        resident = _high_water(device) - before
        digest = _digest(network)
        found |= {"peak": report.peak, "bytes_out": report.bytes_out // (task["repeat"] + 2)}
    return {**found, "seconds": seconds, "resident": resident, "digest": digest}


def _timed(step: Any, repeat: int, device: str) -> float:
    """Median seconds of a step, after two that learn."""
    times: list[float] = []
    for _ in range(repeat + 2):
        begin = time.perf_counter()
        step()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return sorted(times[2:])[repeat // 2]


def _resident(device: str) -> int:
    """Bytes before the first step that are not the step's: imports, code; not the weights."""
    return 0 if device == "cuda" else _status("VmRSS")


def _high_water(device: str) -> int:
    return torch.cuda.max_memory_allocated() if device == "cuda" else _status("VmHWM")


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/self/status has no {key}: real runs need Linux")


def _digest(network: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for value in network.state_dict().values():
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _say(what: str, holds: bool) -> None:
    print(f"{'ok' if holds else 'FALLS SHORT'}: {what}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", choices=("placement", "swap", "arena", "estimate", "real"))
    parser.add_argument("--networks", default="", help="names with commas between; all by default")
    parser.add_argument("--tries", type=int, default=1000, help="schedules of the local search")
    parser.add_argument("--time-limit", type=float, default=60, help="seconds for a placement")
    parser.add_argument("--directory", default=tempfile.gettempdir(), help="of the file tier")
    parser.add_argument("--repeat", type=int, default=3, help="timed steps of a real run")
    parser.add_argument("--json", help="write all rows there")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(child(json.loads(arguments.child))))
        return
    wanted = [n for n in arguments.networks.split(",") if n]
    known = list(dict.fromkeys((*LARGE, *SMALL, *modules([]))))
    unknown = [n for n in wanted if n not in known]
    if unknown:
        parser.error(f"no network {', '.join(unknown)}; there are {', '.join(known)}")
    print(f"torch {torch.__version__}, {platform.processor() or platform.machine()}")
    parts = (
        (arguments.only,) if arguments.only else ("placement", "swap", "arena", "estimate", "real")
    )
    results: dict[str, Any] = {}
    large = [n for n in LARGE if not wanted or n in wanted]
    traces = {n: traced(LARGE[n]) for n in large} if {"placement", "swap"} & {*parts} else {}
    if traces and "placement" in parts:
        results["placement"] = placement(traces, arguments.time_limit)
    if traces and "swap" in parts:
        results["swap"] = swap(traces, arguments.tries)
    small = [n for n in SMALL if not wanted or n in wanted]
    if small and "arena" in parts:
        results["arena"] = arenas(small)
    if modules(wanted) and "estimate" in parts:
        results["estimate"] = estimates(wanted)
        worst = max(abs(row["off"]) for row in results["estimate"])
        _say(f"every estimate within {WORST_ESTIMATE:.0%}", worst <= WORST_ESTIMATE)
    if small and "real" in parts:
        results["real"] = real(small, arguments.directory, arguments.repeat)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
