"""Two workers against one: trials that hop or stay, against data-parallel and averaged training.

``python benchmarks/hop.py [--rows 200000] [--trials 16] [--epochs 4]``
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.functional import binary_cross_entropy_with_logits as entropy

import gradbase as gb

FEATURES, HIDDEN, BATCH, SHARDS = 28, (256, 128), 256, 8
RATES = np.geomspace(3e-4, 3e-2, 64)
STATE_COPIES = 3
"""Weights and Adam's two slots."""


def table(db, rows):
    columns = ", ".join(f"sin(i * {k + 1}.37)::FLOAT AS x{k}" for k in range(FEATURES))
    db.sql(
        f"CREATE TABLE t AS SELECT {columns}, (x0 + x1 * x2 + 0.3 * sin(i * i) > 0)::INT AS y "
        f"FROM range({rows}) r(i)"
    )


def with_gradbase(db, args, **options):
    """Seconds, report, history and best evaluation loss of a search whose trials are not fused."""
    db.sql("SET gradbase.disabled_rules = 'fuse_fits'")
    started = time.perf_counter()
    study = db.table("t").fit(
        gb.mlp(hidden=list(HIDDEN)), target="y", name="m", replace=True, optimizer="adam",
        lr=gb.choice(*[float(r) for r in RATES[:: 64 // args.trials][: args.trials]]),
        batch_size=BATCH, epochs=args.epochs, shards=SHARDS, split="random", early_stop=False,
        seed=1, **options,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    history = study.history.drop(columns="seconds").sort_values(["trial", "epoch"])
    return seconds, study.report(), history.to_json(), history.eval_loss.min()


# -- what one would otherwise do: every trial over both processes ------------------------------


def network():
    layers, width = [], FEATURES
    for hidden in HIDDEN:
        layers += [torch.nn.Linear(width, hidden), torch.nn.ReLU()]
        width = hidden
    return torch.nn.Sequential(*layers, torch.nn.Linear(width, 1))


def together(rank, folder, args, how, given):
    """One of two processes: halves of each batch (``parallel``), or half the rows (``averaged``)."""
    torch.set_num_threads(1)
    (x, y, held), queue = given
    store = dist.FileStore(str(Path(folder) / how), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    mine = slice(rank, None, 2)
    best, moved = 1e9, 0
    for rate in RATES[:: 64 // args.trials][: args.trials]:
        torch.manual_seed(0)
        net = network()
        optimizer = torch.optim.Adam(net.parameters(), lr=float(rate))
        for epoch in range(args.epochs):
            order = torch.from_numpy(np.random.default_rng(epoch).permutation(len(x)))
            batches = order.split(BATCH) if how == "parallel" else order[mine].split(BATCH)
            for batch in batches:
                own = batch[mine] if how == "parallel" else batch
                optimizer.zero_grad()
                loss = entropy(net(x[own])[:, 0], y[own])
                loss.backward()
                if how == "parallel":
                    flat = torch.cat([p.grad.flatten() for p in net.parameters()])
                    dist.all_reduce(flat)
                    moved += 2 * flat.nbytes
                    at = 0
                    for p in net.parameters():
                        p.grad.copy_(flat[at : at + p.numel()].view_as(p) / 2)
                        at += p.numel()
                optimizer.step()
            if how == "averaged":
                for p in net.parameters():
                    dist.all_reduce(p.data)
                    p.data /= 2
                    moved += 2 * p.nbytes
        with torch.no_grad():
            best = min(best, float(entropy(net(held[0])[:, 0], held[1])))
    if rank == 0:
        queue.put((best, moved))
    dist.destroy_process_group()


def over_both(args, how, rows):
    context = mp.get_context("spawn")
    queue = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        workers = [
            context.Process(target=together, args=(r, folder, args, how, (rows, queue)))
            for r in range(2)
        ]
        for worker in workers:
            worker.start()
        best, moved = queue.get()
        for worker in workers:
            worker.join()
        return time.perf_counter() - started, best, moved


def line(name, seconds, one, sizes, loss):
    print(
        f"{name:<30}{seconds:>8.1f} s {one / seconds:>6.2f}x {sizes[0]:>9.1f} MB{sizes[1]:>10.1f} MB"
        f"{loss:>10.4f}"
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=4)
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with gb.connect(":memory:", progress=False) as db:
        table(db, args.rows)
        rows = db.sql("SELECT * FROM t").arrow()
        values = torch.from_numpy(np.stack([rows[f"x{k}"].to_numpy() for k in range(FEATURES)], 1))
        labels = torch.from_numpy(rows["y"].to_numpy().astype(np.float32))
        cut = int(0.8 * len(values))
        parts = values[:cut], labels[:cut], (values[cut:], labels[cut:])
        print(f"{args.trials} trials {HIDDEN}, {args.epochs} epochs of {args.rows:,} rows")
        print(f"{'':<30}{'time':>10} {'':>7} {'rows/worker':>12}{'states/worker':>13}{'loss':>10}")
        found = {}
        ways = {
            "one worker": {"executor": "processes", "workers": 1},
            "two workers, trials stay": {"executor": "processes", "workers": 2},
            "two workers, trials hop": {
                "executor": "processes", "workers": 2, "shard_order": "staggered"
            },
            "in this process, staggered": {"executor": "in_process", "shard_order": "staggered"},
        }  # fmt: skip
        for name, options in ways.items():
            found[name] = with_gradbase(db, args, **options)
            seconds, report, _, loss = found[name]
            hop = name.endswith("hop")
            held = report.shard_bytes / (2 if hop else 1) / 1e6
            moved = report.moved_bytes / max(report.workers, 1) / 1e6
            line(name, seconds, found["one worker"][0], (held, moved), loss)
        assert found["one worker"][2] == found["two workers, trials stay"][2]
        assert found["two workers, trials hop"][2] == found["in this process, staggered"][2]
        for how in ("parallel", "averaged"):
            seconds, best, moved = over_both(args, how, parts)
            size = values.nbytes / 1e6 / (1 if how == "parallel" else 2)
            one = found["one worker"][0]
            line(f"each trial over both, {how}", seconds, one, (size, moved / 1e6), best)
        weights = sum(p.numel() * 4 for p in network().parameters())
        formula = args.epochs * SHARDS * args.trials * weights * STATE_COPIES / 1e6
        print(
            f"states, there and back: epochs x shards x trials x state x 2 / workers: {formula:.1f} MB"
        )
        report = found["two workers, trials hop"][1]
        print(f"\n{report}")


if __name__ == "__main__":
    sys.exit(main())
