"""Conv nets from one statement, and one trial alone; `search.py` runs it.

Conv nets: 8 learning rates x 2 rates of dropout, AdamW, 5 epochs, batches of 64, images of 8 x 8 or
28 x 28 pixels made here. All ways see the same rows with as many steps; those of the alternatives
are in memory already, as tensors of the right shape, in processes that have started.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

import gradbase as gb

SIZES = {"conv 8x8": (8, 6000), "conv 28x28": (28, 3000)}
RATES, DROPOUTS = [3e-4, 1e-3, 2e-3, 3e-3, 5e-3, 1e-2, 2e-2, 3e-2], [0.1, 0.3]
EPOCHS, BATCH, EVAL, SEED = 5, 64, 0.2, 7

_shared = {}


def network(config):
    """Two convolutions, a norm, pooling, dropout, a linear layer."""
    size = int(config["n_inputs"] ** 0.5)
    last = (size - 4) // 2
    return torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, size, size)), torch.nn.Conv2d(1, 8, 3), torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(), torch.nn.Conv2d(8, 16, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Flatten(), torch.nn.Dropout(config["p"]),
        torch.nn.Linear(16 * last * last, config["n_outputs"]),
    )  # fmt: skip


def images(size, rows):
    draw = np.random.default_rng(SEED)
    kind = draw.integers(0, 4, rows)
    x = draw.normal(size=(rows, size, size)).astype(np.float32)
    for k in range(4):
        x[kind == k, k::4, :] += 0.7
    return x, kind


def train_one(x, y, rate, p):
    """A plain loop; the accuracy after the last epoch."""
    torch.manual_seed(SEED)
    held = int(len(x) * EVAL)
    net = network({"n_inputs": x.shape[1], "n_outputs": 4, "p": p})
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate)
    criterion = torch.nn.CrossEntropyLoss()
    for epoch in range(EPOCHS):
        net.train()
        order = torch.randperm(len(x) - held, generator=torch.Generator().manual_seed(epoch)) + held
        for rows in order.split(BATCH):
            optimizer.zero_grad()
            criterion(net(x[rows]), y[rows]).backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            accuracy = float((net(x[:held]).argmax(1) == y[:held]).float().mean())
    return accuracy


def start_worker(folder):
    torch.set_num_threads(1)
    for name in ("x", "y"):
        _shared[name] = torch.from_numpy(np.load(Path(folder) / f"{name}.npy"))


def _work(task):
    return train_one(_shared["x"], _shared["y"], *task)


def ours(db, size):
    started = time.perf_counter()
    study = db.table("pictures").fit(
        gb.search(network, lr=gb.choice(*RATES), p=gb.choice(*DROPOUTS), optimizer="adamw", epochs=EPOCHS,
                  batch_size=BATCH, metric="accuracy", eval_fraction=EVAL, early_stop=False,
                  row_key=["id"], seed=SEED),
        target="kind", name=f"conv{size}", replace=True,
    )  # fmt: skip
    return time.perf_counter() - started, study


def floor_seconds(size, rows, flops):
    """Time of the products alone, counted as for perceptrons: a convolution's at every place."""
    first, second = 9 * 8 * (size - 2) ** 2, 9 * 8 * 16 * (size - 4) ** 2
    linear = 4 * 16 * ((size - 4) // 2) ** 2
    steps = EPOCHS * len(RATES) * len(DROPOUTS) * rows * (1 - EVAL)
    return (4 * first + 6 * (second + linear)) * steps / flops


def convolutions(name, context, repeat, flops):
    """Seconds of each way, and the best accuracies, of gradbase and of the loop."""
    size, rows = SIZES[name]
    x, kind = images(size, rows)
    tasks = list(itertools.product(RATES, DROPOUTS))
    seconds = {}
    with gb.connect(progress=False) as db, tempfile.TemporaryDirectory() as folder:
        flat = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), size * size)
        db.register("drawn", pa.table({"id": np.arange(rows), "kind": kind, "pixels": flat}))
        db.sql("CREATE TABLE pictures AS SELECT * FROM drawn")
        assert db.calibration
        found = [ours(db, size) for _ in range(repeat)]
        seconds["gradbase"] = min(s for s, _ in found)
        plan = db.last_plan.text().split("\n")[1:4]
        np.save(Path(folder) / "x.npy", x.reshape(rows, -1))
        np.save(Path(folder) / "y.npy", kind)
        with context.Pool(2, start_worker, (folder,)) as pool:
            pool.map(abs, range(8))
            for _ in range(repeat):
                started = time.perf_counter()
                accuracies = pool.map(_work, tasks, chunksize=1)
                taken = time.perf_counter() - started
                seconds["two processes"] = min(taken, seconds.get("two processes", taken))
    best = found[0][1].trials["accuracy"].max()
    print("\n".join(plan))
    ratio = seconds["two processes"] / seconds["gradbase"]
    floor = floor_seconds(size, rows, flops)
    of_floor = seconds["gradbase"] / floor
    print(f"{name:14} gradbase {seconds['gradbase']:.2f} s, two processes "
          f"{seconds['two processes']:.2f} s ({ratio:.2f}x); best accuracy {best:.3f}, "
          f"{max(accuracies):.3f}; floor {floor:.2f} s, "
          f"gradbase takes {of_floor:.2f}x of it", flush=True)  # fmt: skip
    return {"shape": name, "seconds": seconds, "ratio": {"two processes": ratio},
            "floor": floor, "of_floor": of_floor}  # fmt: skip
