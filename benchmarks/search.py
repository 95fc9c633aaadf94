"""32 networks from one statement, against the usual ways to train them.

    python benchmarks/search.py --data bank_full.parquet [--quick] [--repeat 3] [--only 64-32/256]

8 learning rates x 4 weight decays, AdamW, 5 epochs, loss and ROC AUC on the evaluation rows after
each epoch; four shapes, one of them with a single trial too, and conv nets (`search_modules.py`).
Seconds of gradbase are those of the whole statement: reading the table,
statistics, encoding, training, storing the models. The others get encoded arrays for nothing, and a
pool of processes that has already started; they see the same rows in the same order, start from the
same weights, and validate after each epoch on the same rows.

floor       time of the matrix products alone: 2 FLOPs per weight, row and trial forward, 2 backward
            for the weights, 2 for the inputs (not in the first layer), at the speed of a large
            float32 product on all cores
agreement   largest and median difference of the trials' losses and ROC AUC to the sequential loop
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import search_modules
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.neural_network import MLPClassifier

import gradbase as gb

SHAPES = {
    "64-32/256": ([64, 32], 256),
    "64-32/64": ([64, 32], 64),
    "256-128/1024": ([256, 128], 1024),
    "512-256/256": ([512, 256], 256),
}
ALONE = "alone 64-32/256"
"""One trial by itself, of the first shape."""
RATES = [1e-4, 3e-4, 1e-3, 2e-3, 3e-3, 5e-3, 1e-2, 2e-2]
DECAYS = [0.0, 1e-4, 1e-3, 1e-2]
SEED, EVAL_FRACTION, CORES = 7, 0.2, os.cpu_count() or 1
NAMES = ("x", "y", "orders", "stops", "eval_x", "eval_y")


@dataclass(frozen=True)
class Job:
    """What every way has to train."""

    hidden: list
    batch: int
    epochs: int
    configurations: list
    weights: list


# -- gradbase ----------------------------------------------------------------------------------


def statement(job):
    rates, decays = ([c[i] for c in job.configurations] for i in (0, 1))
    return f"""
        CREATE OR REPLACE MODEL best OPTIONS (
            model_type = 'dnn_classifier', input_label_cols = ['y'], hidden_units = {job.hidden},
            batch_size = {job.batch}, optimizer = 'adamw', max_epochs = {job.epochs}, early_stop = FALSE,
            learn_rate = HPARAM_CANDIDATES({sorted(set(rates))}),
            l2_reg = HPARAM_CANDIDATES({sorted(set(decays))}), hparam_tuning_algorithm = 'grid',
            data_split_method = 'random', data_split_eval_fraction = {EVAL_FRACTION},
            data_split_test_fraction = 0.0, seed = {SEED}
        ) AS SELECT * FROM customers"""


def with_gradbase(db, job):
    started = time.perf_counter()
    db.sql(statement(job)).fetchall()
    seconds = time.perf_counter() - started
    results = {}
    for trial in db.store.record("best").trials:
        key = (trial.configuration["learn_rate"], trial.configuration["l2_reg"])
        results[key] = (trial.eval_loss, trial.metrics["roc_auc"])
    return seconds, results


def encoded(db, epochs):
    """The arrays that the alternatives get: rows, labels, the order of each epoch's batches."""
    from gradbase.ir.learning import Dataset, Split
    from gradbase.ir.relational import SqlFragment
    from gradbase.runtime.train.prepare import prepare
    from gradbase.runtime.train.split import epoch_order
    from gradbase.runtime.train.trainer import shard_order

    query = "SELECT * FROM customers"
    schema = db.engine.schema(query)
    features = tuple(n for n in schema.names if n != "y")
    dataset = Dataset(SqlFragment((query,), (), schema), features, "y", "binary",
                      Split("random", EVAL_FRACTION, 0.0), (), 0, SEED)  # fmt: skip
    data = prepare(dataset, db.context())
    orders, stops = [], []
    for epoch in range(epochs):
        shards = [
            epoch_order(data.ids, data.shards[s], SEED, epoch)
            for s in shard_order(epoch, len(data.shards))
        ]
        orders.append(np.concatenate(shards))
        stops.append(np.cumsum([len(s) for s in shards]))
    rows = data.parts.eval
    arrays = (data.x[:, :-1], data.target.y.astype(np.float32), np.array(orders), np.array(stops),
              data.x[rows, :-1], data.target.y[rows])  # fmt: skip
    return data, dict(zip(NAMES, map(np.ascontiguousarray, arrays), strict=True))


# -- a plain PyTorch loop ----------------------------------------------------------------------


def network(inputs, hidden, weights):
    widths = [inputs, *hidden, 1]
    layers = [torch.nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
    with torch.no_grad():
        for layer, (weight, bias) in zip(layers, weights, strict=True):
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.copy_(torch.from_numpy(bias))
    between = [torch.nn.ReLU() for _ in hidden]
    return torch.nn.Sequential(
        *[m for pair in zip(layers, [*between, None], strict=True) for m in pair if m]
    )


def initial_weights(data, hidden):
    """(weight (out, in), bias) of each layer, as gradbase's trials start."""
    from gradbase.runtime.train.networks import MlpShape, initial

    shape = MlpShape(data.inputs.width + 1, (), tuple(hidden), 1)
    blocks = [b.numpy() for b in initial(shape, SEED, torch.float32)]
    first = (blocks[0][:-1], blocks[0][-1])
    pairs = [first, *zip(blocks[1::2], blocks[2::2], strict=True)]
    return [(np.ascontiguousarray(w.T), b) for w, b in pairs]


def train_one(arrays, job, configuration):
    """One trial; (loss, ROC AUC) after the last epoch."""
    tensors = {n: torch.from_numpy(arrays[n]) for n in NAMES}
    x, y, eval_x = tensors["x"], tensors["y"], tensors["eval_x"]
    net = network(x.shape[1], job.hidden, job.weights)
    rate, decay = configuration
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=decay)
    criterion = torch.nn.BCEWithLogitsLoss()
    result = None
    for epoch in range(job.epochs):
        start = 0
        for stop in arrays["stops"][epoch]:
            for at in range(start, stop, job.batch):
                rows = tensors["orders"][epoch][at : min(at + job.batch, stop)]
                optimizer.zero_grad()
                criterion(net(x[rows]).squeeze(1), y[rows]).backward()
                optimizer.step()
            start = stop
        with torch.no_grad():
            probability = torch.sigmoid(net(eval_x).squeeze(1)).double().numpy()
        result = (
            log_loss(arrays["eval_y"], probability),
            roc_auc_score(arrays["eval_y"], probability),
        )
    return result


def sequential(arrays, job):
    started = time.perf_counter()
    found = {c: train_one(arrays, job, c) for c in job.configurations}
    return time.perf_counter() - started, found


_shared = {}


def _start_worker(folder):
    torch.set_num_threads(1)
    for name in NAMES:
        _shared[name] = np.load(Path(folder) / f"{name}.npy")


def _work(task):
    return train_one(_shared, *task)


def pooled(pool, job):
    tasks = [(job, c) for c in job.configurations]
    started = time.perf_counter()
    found = pool.map(_work, tasks, chunksize=1)
    return time.perf_counter() - started, dict(zip(job.configurations, found, strict=True))


def with_ray(arrays, job):
    try:
        import ray
        from ray import tune
    except ImportError:
        return "ray is not installed", {}
    ray.init(num_cpus=CORES, include_dashboard=False, log_to_driver=False)
    held = ray.put(arrays)

    def trial(config):
        torch.set_num_threads(1)
        own = {n: np.array(v) for n, v in ray.get(held).items()}
        loss, auc = train_one(own, job, tuple(config["c"]))
        tune.report({"loss": loss, "auc": auc})

    started = time.perf_counter()
    tuner = tune.Tuner(
        tune.with_resources(trial, {"cpu": 1}),
        param_space={"c": tune.grid_search(job.configurations)},
    )
    grid = tuner.fit()
    seconds = time.perf_counter() - started
    ray.shutdown()
    return seconds, {tuple(r.config["c"]): (r.metrics["loss"], r.metrics["auc"]) for r in grid}


class Epochwise(ClassifierMixin, BaseEstimator):
    """MLPClassifier that is scored on the evaluation rows after each epoch."""

    def __init__(self, rate=0.001, decay=0.0, job=None, validation=None):
        self.rate, self.decay, self.job, self.validation = rate, decay, job, validation

    def fit(self, x, y):
        self.classes_ = np.unique(y)
        self.net_ = MLPClassifier(
            tuple(self.job.hidden), learning_rate_init=self.rate, alpha=self.decay,
            batch_size=self.job.batch, random_state=SEED,
        )  # fmt: skip
        for _ in range(self.job.epochs):
            self.net_.partial_fit(x, y, classes=self.classes_)
            probability = self.net_.predict_proba(self.validation[0])[:, 1]
            log_loss(self.validation[1], probability)
            self.auc_ = roc_auc_score(self.validation[1], probability)
        return self

    def score(self, x, y):
        del x, y  # the evaluation rows: already scored
        return self.auc_


def with_sklearn(arrays, job):
    train = arrays["orders"][0]
    x = np.concatenate([arrays["x"][train], arrays["eval_x"]])
    y = np.concatenate([arrays["y"][train], arrays["eval_y"]])
    fold = np.repeat([-1, 0], [len(train), len(arrays["eval_x"])])
    rates, decays = (sorted({c[i] for c in job.configurations}) for i in (0, 1))
    grid = {"rate": rates, "decay": decays}
    model = Epochwise(job=job, validation=(arrays["eval_x"], arrays["eval_y"]))
    search = GridSearchCV(model, grid, cv=PredefinedSplit(fold), refit=False, n_jobs=CORES)
    started = time.perf_counter()
    search.fit(x, y)
    return time.perf_counter() - started, {}


# -- the table ---------------------------------------------------------------------------------


def gemm_flops():
    """FLOP/s of a large float32 product on all cores."""
    a = torch.rand(2048, 2048)
    best = min(_timed(lambda: a @ a) for _ in range(5))
    return 2 * 2048**3 / best


def _timed(work):
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def floor_seconds(data, job, flops):
    widths = [data.inputs.width, *job.hidden, 1]
    weights = [a * b for a, b in itertools.pairwise(widths)]
    per_row = 4 * weights[0] + 6 * sum(weights[1:])
    return per_row * len(data.parts.train) * job.epochs * len(job.configurations) / flops


def agreement(found, reference):
    losses, aucs = ([abs(found[c][i] - reference[c][i]) for c in reference] for i in (0, 1))
    best = [max(results, key=lambda c: results[c][1]) for results in (found, reference)]
    return {
        "loss_largest": max(losses), "loss_median": statistics.median(losses),
        "auc_largest": max(aucs), "auc_median": statistics.median(aucs),
        "best_auc": abs(found[best[0]][1] - reference[best[1]][1]),
    }  # fmt: skip


def measure(name, ways, job, args, floor):
    seconds, results = {}, {}
    for way in [w for w in ways if w not in args.skip]:
        runs = [ways[way](job) for _ in range(args.repeat)]
        if isinstance(runs[0][0], str):
            print(f"{name:14} {way:14} skipped: {runs[0][0]}", flush=True)
            continue
        results[way] = runs[0][1]
        seconds[way] = min(r[0] for r in runs)
        print(f"{name:14} {way:14} {seconds[way]:8.2f} s", flush=True)
    others = {w: s for w, s in seconds.items() if w != "gradbase"}
    line = {"shape": name, "seconds": seconds, "floor": floor}
    line["of_floor"] = seconds["gradbase"] / floor
    line["ratio"] = {w: s / seconds["gradbase"] for w, s in others.items()}
    reference = results.get("sequential") or results.get("two processes")
    if reference:
        line["agreement"] = agreement(results["gradbase"], reference)
    ratios = ", ".join(f"{r:.2f}x {w}" for w, r in line["ratio"].items())
    print(
        f"{name:14} floor {floor:.2f} s, gradbase takes {line['of_floor']:.2f}x of it; it is {ratios}"
    )
    print(f"{name:14} agreement {line.get('agreement')}\n", flush=True)
    return line


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", required=True, help="Parquet file with a label `y`")
    parser.add_argument("--drop", default="duration", help="columns to leave out, by comma")
    parser.add_argument("--only", action="append", choices=[*SHAPES, ALONE, *search_modules.SIZES],
                        help="shapes to run")  # fmt: skip
    parser.add_argument("--skip", action="append", default=[], help="ways to leave out")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=1, help="runs of each; the best counts")
    parser.add_argument(
        "--quick", action="store_true", help="8 trials, 1 epoch, no scikit-learn, no Ray"
    )
    parser.add_argument("--out", help="write the results as JSON")
    args = parser.parse_args()
    if args.quick:
        args.epochs, args.skip = 1, [*args.skip, "scikit-learn", "Ray Tune"]
    return args


def open_data(args):
    db = gb.connect(progress=False)
    columns = db.engine.types(f"FROM '{args.data}'")
    dropped = [n for n, _ in columns if n in args.drop.split(",")]
    exclude = f"EXCLUDE ({', '.join(dropped)})" if dropped else ""
    db.sql(f"CREATE TABLE customers AS SELECT * {exclude} FROM '{args.data}'")
    return db


def ways_of(db, arrays, pool):
    return {
        "gradbase": lambda job: with_gradbase(db, job),
        "two processes": lambda job: pooled(pool, job),
        "sequential": lambda job: sequential(arrays, job),
        "scikit-learn": lambda job: with_sklearn(arrays, job),
        "Ray Tune": lambda job: with_ray(arrays, job),
    }


def main():
    args = arguments()
    configurations = list(itertools.product(RATES[::4] if args.quick else RATES, DECAYS))
    flops = gemm_flops()
    print(
        f"{CORES} cores, {flops / 1e9:.0f} GFLOP/s; {len(configurations)} trials, {args.epochs} epochs\n"
    )
    db = open_data(args)
    assert db.calibration  # measured once per machine, before the clock starts
    data, arrays = encoded(db, args.epochs)
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for name, array in arrays.items():
            np.save(Path(folder) / f"{name}.npy", array)
        context = multiprocessing.get_context("spawn")
        with context.Pool(2, _start_worker, (folder,)) as pool:
            pool.map(abs, range(8))
            ways = ways_of(db, arrays, pool)
            for name in [n for n in args.only or (*SHAPES, ALONE) if n not in search_modules.SIZES]:
                hidden, batch = SHAPES[name.removeprefix("alone ")]
                weights = initial_weights(data, hidden)
                tried = [(1e-3, 1e-2)] if name == ALONE else configurations
                job = Job(hidden, batch, args.epochs, tried, weights)
                lines.append(measure(name, ways, job, args, floor_seconds(data, job, flops)))
    db.close()
    conv = [n for n in args.only or search_modules.SIZES if n in search_modules.SIZES]
    lines += [search_modules.convolutions(name, context, args.repeat, flops) for name in conv]
    if args.out:
        report = {"cores": CORES, "gflops": flops / 1e9, "torch": torch.__version__, "lines": lines}
        Path(args.out).write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
