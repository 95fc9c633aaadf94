"""A small shop: the table that the tests train on, and the text of CREATE MODEL."""

from __future__ import annotations

import datetime as dt
import json
import threading

import numpy as np
import pyarrow as pa

from gradbase.ir.printer import print_plan

ROWS = 240
LABELS = ("churned", "plan", "spent")
FEATURES = ("region", "age", "fee", "member", "since", "seen", "paid", "taste")


def customers(rows=ROWS, seed=11):
    """A column of every kind, some of it missing, and three labels that follow from them."""
    random = np.random.default_rng(seed)
    age, fee = random.integers(18, 80, rows), random.uniform(5, 60, rows).round(2)
    region = random.integers(0, 4, rows)
    days, member = random.integers(0, 3000, rows), random.random(rows) < 0.4
    taste = random.normal(size=(rows, 3)).astype(np.float32)
    risk = 0.1 * (fee - 30) + 1.5 * (region == 1) - 1.0 * member + taste[:, 0]
    noise = random.normal(size=rows)
    day = [dt.date(2015, 1, 1) + dt.timedelta(days=int(d)) for d in days]
    return pa.table(
        {
            "id": pa.array(range(rows), pa.int64()),
            "region": _with_gaps([["north", "south", "ost", "wést"][r] for r in region], 17),
            "age": _with_gaps([int(a) for a in age], 9, pa.int32()),
            "fee": fee,
            "member": member,
            "since": _with_gaps(day, 31, pa.date32()),
            "seen": pa.array(
                [1_577_838_600_000_000 + 3_600_000_000 * int(h % 24) for h in days],
                pa.timestamp("us"),
            ),
            "paid": pa.array(fee * 3).cast(pa.decimal128(10, 2), safe=False),
            "taste": pa.FixedSizeListArray.from_arrays(taste.ravel(), 3),
            "churned": [("no", "yes")[int(r)] for r in risk + 0.5 * noise > 0.2],
            "plan": [("A", "B", "C")[int(c)] for c in np.digitize(risk + noise, (-1, 1))],
            "spent": 20 * risk + 5 * noise + 100,
        }
    )


def _with_gaps(values, step, of=None):
    return pa.array([None if i % step == 3 else v for i, v in enumerate(values)], of)


def rows_for(label):
    """The training query of `label`: the other two labels are left out."""
    others = ", ".join(n for n in LABELS if n != label)
    return f"SELECT * EXCLUDE ({others}) FROM customers"


class Sql(str):
    """Text that stands in OPTIONS as it is."""

    __slots__ = ()


DEFAULTS = {
    "row_key": ["id"], "hidden_units": [8], "optimizer": "adamw", "learn_rate": 0.02,
    "batch_size": 32, "max_epochs": 3, "early_stop": False, "data_split_method": "random",
    "data_split_eval_fraction": 0.2, "seed": 7,
}  # fmt: skip
SIX = {
    "learn_rate": Sql("HPARAM_CANDIDATES([0.003, 0.01, 0.03])"),
    "l2_reg": Sql("HPARAM_CANDIDATES([0.0, 0.1])"),
}
"""Six trials, all of one shape."""


def create_model(name="churn", query=None, *, label="churned", verb="CREATE MODEL", **options):
    """The text of a CREATE MODEL; an option None is left out."""
    kind = "dnn_regressor" if label == "spent" else "dnn_classifier"
    given = {"model_type": kind, "input_label_cols": [label], **DEFAULTS, **options}
    text = ", ".join(f"{n} = {_literal(v)}" for n, v in given.items() if v is not None)
    return f"{verb} {name} OPTIONS ({text}) AS {rows_for(label) if query is None else query}"


def _literal(value):
    if isinstance(value, Sql):
        return str(value)
    return json.dumps(value).replace('"', "'").replace("true", "TRUE").replace("false", "FALSE")


def load(db, table=None, name="customers"):
    """Make the table of customers (or another) in a session's database."""
    db.register("loading", customers() if table is None else table)
    db.sql(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM loading")
    db.unregister("loading")


def weights(db, name, version=None):
    """Each trial's program, which names its weights by hash: equal text is equal bit for bit."""
    found = {}
    for trial in db.store.record(name, version).trials:
        if trial.status == "SUCCEEDED":
            model = db.store.model(name, version, trial.trial)
            found[trial.trial] = "\n".join(print_plan(output) for output in model.outputs)
    return found


def model_of(db, name):
    """The program of a model's best trial, without its name."""
    return [print_plan(output) for output in db.store.model(name).outputs]


def leftovers(db):
    """What a statement that failed must not leave: leases, spilled rows, half-written files."""
    leases = [g.purpose for g in db.broker.leases() if g.owner != db.engine.name]
    folder = db.store.path
    files = [str(p) for s in ("spill", "tmp") for p in folder.glob(f"{s}/*")]
    threads = [t.name for t in threading.enumerate() if t.name.startswith("gradbase")]
    return leases + files + threads
