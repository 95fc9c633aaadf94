"""Random queries with predictions over star schemas, and the tables and models they read.

One table of facts, up to three dimensions: keys that match none, one or several rows, NULL, NaN,
duplicates. A query has one right answer: where a prediction decides which rows there are, it is
compared with a number in a gap between the predictions of all rows.
"""

from __future__ import annotations

import random
import warnings
from dataclasses import dataclass

import numpy as np
import torch

FACTS = 240
DIMENSIONS = {"d": 6, "e": 30, "g": 120}
"""Rows by dimension: fan-outs of 40, 8 and 2."""
_COLUMNS = {"f": ("x0", "x1", "n"), "d": ("z0", "z1"), "e": ("w0", "w1"), "g": ("u0",)}
OWN = {"line": "linear_reg", "deep": "dnn_regressor", "kind": "dnn_classifier"}
READS = {
    "line": ("x0", "n", "z0", "town"),
    "deep": ("x0", "x1", "n", "z0", "z1", "w0", "town"),
    "kind": ("x0", "n", "w0", "w1", "town"),
    "net": ("x0", "x1", "z0", "z1", "w0", "w1", "u0"),
    "fact": ("x0", "x1", "n"),
    "alone": ("z0", "z1"),
    "double": ("x0", "n", "z0", "w1"),
    "forest": ("x0", "n", "z0", "w0"),
    "scaled": ("x0", "n", "z0", "w0"),
    "towers": ("x0", "x1", "z0", "z1"),
    "conv": ("v",),
}
"""Models and the columns they read."""


def load(db):
    """Tables and models."""
    db.sql("SELECT setseed(0.5)").fetchall()
    db.sql(f"""CREATE TABLE f AS SELECT i AS id, (i * 7) % 9 AS kd, (i * 11) % 33 AS ke, (i * 13) % 140 AS kg,
      CASE WHEN i % 17 = 3 THEN NULL ELSE sin(i) END AS x0, cos(i * 3) AS x1, (i * 5) % 4 AS n,
      CASE i % 5 WHEN 0 THEN NULL WHEN 1 THEN 'A' WHEN 2 THEN 'B' ELSE 'never seen' END AS town,
      [sin(i), cos(i), sin(i * 2), cos(i * 2), 0.5, -0.5]::FLOAT[6] AS v FROM range({FACTS}) r(i)""")
    db.sql(
        "INSERT INTO f SELECT id + 1000, NULL, ke, kg, x0, 'nan'::DOUBLE, n, town, v FROM f WHERE id < 6"
    )
    for name, rows in DIMENSIONS.items():
        columns = ", ".join(
            f"CASE WHEN i % {7 + k} = {2 + k} THEN NULL ELSE sin(i * {k + 2} + {len(name)}) END "
            f"AS {c}"
            for k, c in enumerate(_COLUMNS[name])
        )
        db.sql(
            f"CREATE TABLE {name} AS SELECT i AS k, {columns}, i % 3 AS part FROM range({rows}) r(i)"
        )
    db.sql("INSERT INTO e SELECT k, w1, w0, part FROM e WHERE k < 3")  # keys twice
    _train(db)
    _import(db)


def _train(db):
    everything = "f JOIN d ON f.kd = d.k JOIN e ON f.ke = e.k"
    label = {"kind": "CASE WHEN x0 > 0.3 THEN 'up' WHEN x0 > -0.4 THEN 'mid' ELSE 'down' END"}
    for name, model_type in OWN.items():
        what = label.get(name, "coalesce(x0, 0) + n * 0.5 - coalesce(z0, 0)")
        db.sql(
            f"CREATE MODEL {name} OPTIONS (model_type = '{model_type}', input_label_cols = "
            "['y'], seed = 3, "
            "max_epochs = 4, learn_rate = 0.05, data_split_method = 'no_split'"
            + (", hidden_units = [8]" if "dnn" in model_type else "")
            + f") AS SELECT {', '.join(READS[name])}, {what} AS y FROM {everything} "
            "WHERE NOT isnan(x1) LIMIT 160"
        )


class Scaled(torch.nn.Module):
    """Standardises its columns."""

    def __init__(self, width):
        super().__init__()
        self.register_buffer("mean", torch.linspace(-1, 1, width))
        self.register_buffer("deviation", torch.linspace(0.5, 2, width))

    def forward(self, x):
        return (x - self.mean) / self.deviation


class Towers(torch.nn.Module):
    """Two towers and their dot product."""

    def __init__(self):
        super().__init__()
        self.one, self.other = torch.nn.Linear(2, 4), torch.nn.Linear(2, 4)

    def forward(self, x):
        return (torch.relu(self.one(x[:, :2])) * torch.relu(self.other(x[:, 2:]))).sum(
            1, keepdim=True
        )


def _import(db):
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.neural_network import MLPRegressor

    torch.manual_seed(2)
    for name in ("net", "fact", "alone"):
        layers = [torch.nn.Linear(len(READS[name]), 16), torch.nn.ReLU(), torch.nn.Linear(16, 1)]
        db.import_model(name, torch.nn.Sequential(*layers), features=list(READS[name]))
    scaled = torch.nn.Sequential(Scaled(4), torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(),
                                 torch.nn.Linear(8, 6), torch.nn.Linear(6, 1))  # fmt: skip
    db.import_model("scaled", scaled, features=list(READS["scaled"]))
    db.import_model("towers", Towers(), features=list(READS["towers"]))
    conv = torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 6)),
        torch.nn.Conv1d(1, 3, 3),
        torch.nn.Flatten(),
        torch.nn.Linear(12, 1),
    )
    db.import_model("conv", conv, features=db.sql("SELECT v FROM f LIMIT 1").arrow())
    numbers = np.random.default_rng(1).normal(size=(200, 4))
    y = numbers[:, 0] - numbers[:, 1] * numbers[:, 3]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few iterations
        double = MLPRegressor(hidden_layer_sizes=(8,), max_iter=5, random_state=0).fit(numbers, y)
    db.import_model("double", double, features=list(READS["double"]), label="y")
    forest = RandomForestRegressor(10, max_depth=6, random_state=0).fit(numbers, y)
    db.import_model("forest", forest, features=list(READS["forest"]), label="y")


# -- queries ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Star:
    """A query; its first `exact` columns hold no prediction."""

    sql: str
    exact: int


_CONDITIONS = {
    "f": ("f.n = 2", "f.x0 > 0.2", "f.id % 3 = 1", "f.town = 'A'", "f.n >= 1 AND f.x1 < 0.9", "f.x0 IS NOT NULL",
          "f.id < 0", "f.n = 1 AND f.town = 'B'"),
    "d": ("d.part = 1", "d.z0 > 0", "d.z1 <= 0.5", "d.z0 = 0.5"),
    "e": ("e.part <> 2", "e.w0 > -0.5", "e.w1 IS NULL"),
    "g": ("g.part = 0", "g.u0 < 0.3"),
}  # fmt: skip
_KEYS = {"d": "kd", "e": "ke", "g": "kg"}


def star(seed, gap_of):
    """A query by its seed; `gap_of` gives a number between the values of a query's one column."""
    pick = random.Random(seed)
    name = pick.choice(list(READS))
    of = {c: t for t, columns in _COLUMNS.items() for c in columns} | {"town": "f", "v": "f"}
    needed = {of[c] for c in READS[name]} - {"f"}
    others = [t for t in _KEYS if t not in needed and pick.random() < 0.3]
    tables = sorted(needed) + others
    text = "f"
    for table in tables:
        kind = pick.choices(
            ("JOIN", "LEFT JOIN", "SEMI JOIN"), (6, 2, 1 if table in others else 0)
        )[0]
        text += f" {kind} {table} ON f.{_KEYS[table]} = {table}.k"
    free = [t for t in tables if f"SEMI JOIN {t} " not in text]
    call = f"PREDICT({name}, {', '.join(f'{of[c]}.{c}' for c in READS[name])})"
    parts = [pick.choice(_CONDITIONS[t]) for t in ["f", *free] if pick.random() < 0.4]
    where = f" WHERE {' AND '.join(parts)}" if parts else ""
    if name == "kind":
        return Star(f"SELECT f.id, {call} AS p FROM {text}{where}", 1)
    return _shaped(pick, call, f"{text}{where}", free, gap_of)


def _shaped(pick, call, text, free, gap_of):
    """The prediction in one of the clauses."""
    join = " AND " if " WHERE " in text else " WHERE "
    match pick.randrange(6):
        case 0:
            return Star(f"SELECT f.id, {call} AS p, {call} * 2 AS twice FROM {text}", 1)
        case 1:
            edge = gap_of(f"SELECT {call} FROM {text}")
            return Star(f"SELECT f.id, {call} AS p FROM {text}{join}{call} > {edge!r}", 1)
        case 2:
            edge = gap_of(f"SELECT {call} FROM {text}")
            return Star(f"SELECT count(*) AS c FROM {text}{join}{call} <= {edge!r}", 1)
        case 3:
            group = f"{pick.choice(free)}.part" if free else "f.n"
            return Star(
                f"SELECT {group} AS part, count(*) AS c, sum({call}) AS s, max({call}) AS m FROM "
                f"{text} "
                f"GROUP BY {group}",
                2,
            )
        case 4:
            return Star(f"SELECT f.id, {call} AS p FROM {text} ORDER BY f.id, p LIMIT 7", 1)
        case _:
            inner = f"SELECT f.id AS id, f.n AS n, {call} AS p FROM {text}"
            return Star(f"SELECT id, p, n FROM ({inner}) WHERE n < 3 AND p IS NOT NULL", 1)
