"""One model for each of 1,000 groups of uneven size, against loops over the groups.

    python benchmarks/groups.py [--groups 1000] [--sample 40] [--epochs 10] [--only boost]

Groups have 10 to 2,000 rows (log-normal, median about 60); two classes or numbers, from six numbers,
one of them missing now and then, and a category. Seconds of gradbase are those of the whole
statement: reading the table, each group's split, statistics and encoding, training, storing.

torch loop     a plain PyTorch loop: one network after the other, the rows already encoded and
               standardised (for nothing), same sizes, batches, optimiser, epochs
statements     CREATE MODEL ... WHERE shop = ... once per group
sklearn loop   MLPClassifier / LinearRegression on the same encoded rows

Loops run over a sample of the groups and are scaled up by rows. Answers are checked: the groups of
the sample must give the losses that their own statement gives.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
import warnings

import numpy as np
import pyarrow as pa
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression
from sklearn.neural_network import MLPClassifier

import gradbase as gb

SEED, BATCH = 7, 32
SHAPES = {
    "dnn 16/32": ("dnn_classifier", "again", "hidden_units = [16],"),
    "logistic": ("logistic_reg", "again", ""),
    "linear, solved": ("linear_reg", "spent", ""),
}


def table(groups):
    draw = np.random.default_rng(SEED)
    sizes = np.clip(np.exp(draw.normal(4.1, 1.1, groups)).astype(int), 10, 2000)
    shop = np.repeat(np.arange(groups), sizes)
    n = len(shop)
    x = draw.normal(size=(n, 6)) * draw.uniform(1, 9, 6) + draw.normal(size=(groups, 6))[shop] * 20
    weights = draw.normal(size=(groups, 6))[shop]
    kind = draw.integers(0, 4, n)
    score = ((x - x.mean(0)) / x.std(0) * weights).sum(1) + kind * 0.5 + draw.normal(size=n)
    score -= (np.bincount(shop, score) / sizes)[shop]
    columns = {
        f"x{i}": np.where((draw.random(n) < 0.02) & (i == 0), np.nan, x[:, i]) for i in range(6)
    }
    return pa.table(
        {"id": np.arange(n), "shop": shop, **columns, "kind": [f"k{k}" for k in kind],
         "again": np.where(score > 0, "yes", "no").tolist(), "spent": score}
    )  # fmt: skip


def statement(shape, epochs, rows, group_by=""):
    kind, label, options = SHAPES[shape]
    steps = f"batch_size = {BATCH}, max_epochs = {epochs}, early_stop = FALSE, optimizer = 'adam',"
    steps = "" if kind == "linear_reg" else steps
    other = "spent" if label == "again" else "again"
    return f"""CREATE OR REPLACE MODEL {"whole" if group_by else "alone"} OPTIONS (model_type = '{kind}',
        input_label_cols = ['{label}'], {options} {steps} {group_by} row_key = ['id'],
        data_split_method = 'no_split', seed = {SEED}) AS SELECT * EXCLUDE ({other}) FROM {rows}"""


def ours(db, shape, epochs):
    started = time.perf_counter()
    db.sql(statement(shape, epochs, "sales", "group_by = ['shop'],")).fetchall()
    return time.perf_counter() - started


def one_by_one(db, shape, epochs, sample):
    """Seconds of a statement per group, and each group's last loss."""
    losses, started = {}, time.perf_counter()
    for shop in sample:
        rows = f"(SELECT * EXCLUDE (shop) FROM sales WHERE shop = {shop})"
        try:
            db.sql(statement(shape, epochs, rows)).fetchall()
        except gb.errors.DataError:  # one class: our one statement has a constant there
            continue
        losses[shop] = db.store.record("alone").trials[0].train_loss
    return time.perf_counter() - started, losses


def encoded(rows):
    """The rows of one group as a user would encode them."""
    x = np.stack([np.nan_to_num(rows[f"x{i}"].to_numpy(), nan=0.0) for i in range(6)], 1)
    kinds = np.array(rows["kind"].to_pylist())
    hot = np.stack([kinds == k for k in np.unique(kinds)], 1)
    x = np.concatenate([(x - x.mean(0)) / (x.std(0) + 1e-9), hot], 1).astype(np.float32)
    return x, np.array(rows["again"].to_pylist()) == "yes", rows["spent"].to_numpy()


def torch_loop(arrays, shape, epochs):
    hidden = [16] if "dnn" in shape else []
    started = time.perf_counter()
    for x, again, _ in arrays:
        rows, y = torch.from_numpy(x), torch.from_numpy(again.astype(np.float32))[:, None]
        widths = [x.shape[1], *hidden, 1]
        layers = [torch.nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
        net = torch.nn.Sequential(*([layers[0], torch.nn.ReLU(), layers[1]] if hidden else layers))
        optimizer = torch.optim.Adam(net.parameters(), lr=0.001)
        criterion = torch.nn.BCEWithLogitsLoss()
        for epoch in range(epochs):
            order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(epoch))
            for at in range(0, len(rows), BATCH):
                batch = order[at : at + BATCH]
                optimizer.zero_grad()
                criterion(net(rows[batch]), y[batch]).backward()
                optimizer.step()
    return time.perf_counter() - started


def sklearn_loop(arrays, shape, epochs):
    started = time.perf_counter()
    for x, again, spent in arrays:
        if shape == "linear, solved":
            LinearRegression().fit(x, spent)
        elif "dnn" in shape and again.any() and not again.all():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                MLPClassifier((16,), batch_size=min(BATCH, len(x)), max_iter=epochs).fit(x, again)
    return time.perf_counter() - started


def check(db, losses):
    """Each group's loss within the whole is that of its own statement."""
    info = db.sql("SELECT shop, training_loss FROM ML.TRIAL_INFO(MODEL whole)").fetchall()
    whole = dict(info)
    gaps = [abs(whole[shop] - loss) / max(abs(loss), 1e-6) for shop, loss in losses.items()]
    assert statistics.median(gaps) < 1e-3, gaps
    assert max(gaps) < 0.02, max(gaps)
    return max(gaps)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=1000)
    parser.add_argument("--sample", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = table(options.groups)
    shops = data["shop"].to_numpy()
    sample = np.random.default_rng(1).choice(options.groups, options.sample, replace=False).tolist()
    scale = len(shops) / np.isin(shops, sample).sum()
    counts = np.bincount(shops)
    print(
        f"{options.groups:,} groups of {counts.min()} to {counts.max():,} rows, {len(shops):,} rows"
    )
    with gb.connect(progress=False) as db:
        db.register("loading", data)
        db.sql("CREATE TABLE sales AS SELECT * FROM loading")
        arrays = [encoded(data.filter(pa.array(shops == s))) for s in sample]
        for shape in SHAPES:
            if options.only not in shape:
                continue
            seconds = min(ours(db, shape, options.epochs) for _ in range(2))
            alone, losses = one_by_one(db, shape, options.epochs, sample)
            loops = {"statements": alone * options.groups / len(sample)}
            if shape != "linear, solved":
                torch_loop(arrays[:1], shape, 1)  # what is loaded at first use is nobody's business
                loops["torch loop"] = torch_loop(arrays, shape, options.epochs) * scale
            if shape != "logistic":
                loops["sklearn loop"] = sklearn_loop(arrays, shape, options.epochs) * scale
            gap = check(db, losses)
            told = ", ".join(f"{n} {s:.1f} s ({s / seconds:.0f}x)" for n, s in loops.items())
            print(f"{shape}: gradbase {seconds:.2f} s; {told}; largest gap of losses {gap:.1e}")


if __name__ == "__main__":
    main()
