"""Random queries with predictions over star schemas, and the tables and models they read.

One table of facts, up to four dimensions: keys that match none, one or several rows, declared or not,
NULL, NaN, duplicates. A query has one right answer: where a prediction decides which rows there are, it is
compared with a number in a gap between the predictions of all rows.
"""

from __future__ import annotations

import random
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

FACTS = 240
DIMENSIONS = {"d": 6, "e": 30, "g": 120}
"""Rows by dimension: fan-outs of 40, 8 and 2."""
KEYED = ("d", "g")
"""Dimensions with a declared key; of `h`, which has 7 rows, there is a foreign key too."""
_COLUMNS = {
    "f": ("x0", "x1", "n"),
    "d": ("z0", "z1"),
    "e": ("w0", "w1"),
    "g": ("u0",),
    "h": ("q0", "q1"),
}
OWN = {
    "line": "linear_reg",
    "deep": "dnn_regressor",
    "kind": "dnn_classifier",
    "sparse": "linear_reg",
}
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
    "onnx": ("x0", "n", "z1", "w0"),
    "stumps": ("x0", "n", "q0"),
    "idle": ("x0", "n", "q0"),
    "sparse": ("n", "q0", "q1"),
    "sides": ("x0", "n", "z0", "w0"),
    "three": ("x0", "x1", "n", "z0", "z1", "w0", "w1"),
    "bent": ("x0", "n", "z0", "w0"),
}
"""Models and the columns they read."""
PRECISE = ("double", "forest", "stumps", "sides")
"""Models that compute in float64."""


def load(db):
    """Tables and models."""
    db.sql("SELECT setseed(0.5)").fetchall()
    db.sql("CREATE TABLE h (k BIGINT PRIMARY KEY, q0 BIGINT NOT NULL, q1 DOUBLE, part BIGINT)")
    db.sql(
        "INSERT INTO h SELECT i, i * i % 5, CASE WHEN i <> 3 THEN sin(i) END, i % 2 FROM range(7) r(i)"
    )
    db.sql("CREATE TABLE f (id BIGINT, kd BIGINT, ke BIGINT, kg BIGINT, x0 DOUBLE, x1 DOUBLE, n BIGINT NOT NULL, "
           "town VARCHAR, v FLOAT[6], kh BIGINT NOT NULL REFERENCES h (k))")  # fmt: skip
    db.sql(f"""INSERT INTO f SELECT i AS id, (i * 7) % 9 AS kd, (i * 11) % 33 AS ke, (i * 13) % 140 AS kg,
      CASE WHEN i % 17 = 3 THEN NULL ELSE sin(i) END AS x0, cos(i * 3) AS x1, (i * 5) % 4 AS n,
      CASE i % 5 WHEN 0 THEN NULL WHEN 1 THEN 'A' WHEN 2 THEN 'B' ELSE 'never seen' END AS town,
      [sin(i), cos(i), sin(i * 2), cos(i * 2), 0.5, -0.5]::FLOAT[6] AS v, i % 6 AS kh FROM range({FACTS}) r(i)""")
    db.sql(
        "INSERT INTO f SELECT id + 1000, NULL, ke, kg, x0, 'nan'::DOUBLE, n, town, v, kh FROM f WHERE id < 6"
    )
    for name, rows in DIMENSIONS.items():
        columns = ", ".join(
            f"CASE WHEN i % {7 + k} = {2 + k} THEN NULL ELSE sin(i * {k + 2} + {len(name)}) END "
            f"AS {c}"
            for k, c in enumerate(_COLUMNS[name])
        )
        typed = ", ".join(f"{c} DOUBLE" for c in _COLUMNS[name])
        key = "PRIMARY KEY" if name in KEYED else ""
        db.sql(f"CREATE TABLE {name} (k BIGINT {key}, {typed}, part BIGINT)")
        db.sql(f"INSERT INTO {name} SELECT i, {columns}, i % 3 FROM range({rows}) r(i)")
    db.sql("INSERT INTO e SELECT k, w1, w0, part FROM e WHERE k < 3")  # keys twice
    db.sql("INSERT INTO e VALUES (777, 0.1, 'inf', 2), (778, '-inf', 0.2, 2)")  # of no fact
    _train(db)
    _import(db)


def _train(db):
    everything = "f JOIN d ON f.kd = d.k JOIN e ON f.ke = e.k JOIN h ON f.kh = h.k"
    label = {"kind": "CASE WHEN x0 > 0.3 THEN 'up' WHEN x0 > -0.4 THEN 'mid' ELSE 'down' END"}
    for name, model_type in OWN.items():
        sparse = ", optimizer = 'sgd', l1_reg = 0.4" if name == "sparse" else ""
        what = (
            "2.0 * n" if sparse else label.get(name, "coalesce(x0, 0) + n * 0.5 - coalesce(z0, 0)")
        )
        db.sql(
            f"CREATE MODEL {name} OPTIONS (model_type = '{model_type}', input_label_cols = "
            "['y'], seed = 3, "
            f"max_epochs = {40 if sparse else 4}, learn_rate = 0.05, data_split_method = 'no_split'"
            + (", hidden_units = [8]" if "dnn" in model_type else "")
            + sparse
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


class Three(torch.nn.Module):
    """Three towers of two layers, one of which what follows reads twice."""

    def __init__(self):
        super().__init__()
        self.towers = torch.nn.ModuleList(
            torch.nn.Sequential(torch.nn.Linear(n, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4), torch.nn.Tanh())
            for n in (3, 2, 2)
        )  # fmt: skip
        self.head = torch.nn.Sequential(
            torch.nn.Linear(12, 6), torch.nn.ReLU(), torch.nn.Linear(6, 1)
        )

    def forward(self, x):
        one, two, three = (
            t(part) for t, part in zip(self.towers, x.split((3, 2, 2), 1), strict=True)
        )
        return self.head(torch.cat([one, two, three], 1)) + (one * two).sum(1, keepdim=True)


def _bent():
    """ReLUs of which ranges of columns settle many."""
    first = torch.nn.Linear(4, 24)
    with torch.no_grad():
        first.bias[:] = torch.linspace(-4, 4, 24)
    return torch.nn.Sequential(first, torch.nn.ReLU(), torch.nn.Linear(24, 8), torch.nn.ReLU(),
                               torch.nn.Linear(8, 1))  # fmt: skip


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
    db.import_model("three", Three(), features=list(READS["three"]))
    db.import_model("bent", _bent(), features=list(READS["bent"]))
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
    _import_idle(db)
    _import_onnx(db, double)
    db.import_model("forest", forest, features=list(READS["forest"]), label="y")


def _import_idle(db):
    """Of some features the weights are 0, or nothing is split by them."""
    from sklearn.ensemble import GradientBoostingRegressor

    idle = torch.nn.Linear(3, 8)
    with torch.no_grad():
        idle.weight[:, 2] = 0
    db.import_model(
        "idle", torch.nn.Sequential(idle, torch.nn.Tanh(), torch.nn.Linear(8, 1)), features=list(READS["idle"])
    )  # fmt: skip
    numbers = np.random.default_rng(4).normal(size=(200, 3))
    numbers[:, 2] = 0
    y = (numbers[:, 0] > 0.2) + 0.5 * (numbers[:, 1] > 1)
    stumps = GradientBoostingRegressor(n_estimators=12, max_depth=1, random_state=0)
    db.import_model("stumps", stumps.fit(numbers, y), features=list(READS["stumps"]), label="y")
    numbers = np.random.default_rng(5).normal(size=(200, 4))
    y = (numbers > (0.2, 1, 0, -0.3)).sum(1) + (numbers[:, 0] > 0) * numbers[:, 2]
    sides = GradientBoostingRegressor(n_estimators=40, max_depth=2, random_state=0)
    db.import_model("sides", sides.fit(numbers, y), features=list(READS["sides"]), label="y")


def _import_onnx(db, model):
    """The same perceptron as a file, each column an input of its own."""
    import tempfile

    from skl2onnx import to_onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.onnx"
        path.write_bytes(to_onnx(model, np.zeros((1, 4), np.float32)).SerializeToString())
        db.import_model("onnx", str(path), features=list(READS["onnx"]))


# -- queries ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Star:
    """A query; its first `exact` columns hold no prediction; `model` is whose predictions."""

    sql: str
    exact: int
    model: str = ""


_CONDITIONS = {
    "f": ("f.n = 2", "f.x0 > 0.2", "f.id % 3 = 1", "f.town = 'A'", "f.n >= 1 AND f.x1 < 0.9", "f.x0 IS NOT NULL",
          "f.id < 0", "f.n = 1 AND f.town = 'B'", "f.n >= 2 AND f.x0 BETWEEN 0.2 AND 0.7"),
    "d": ("d.part = 1", "d.z0 > 0", "d.z1 <= 0.5", "d.z0 = 0.5", "d.z0 BETWEEN -0.6 AND 0.4"),
    "e": ("e.part <> 2", "e.w0 > -0.5", "e.w1 IS NULL"),
    "g": ("g.part = 0", "g.u0 < 0.3"),
    "h": ("h.part = 0", "h.q1 < 0.3", "h.q0 >= 0"),
}  # fmt: skip
_KEYS = {"d": "kd", "e": "ke", "g": "kg", "h": "kh"}


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
        return _labelled(pick, call, f"{text}{where}")
    made = _shaped(pick, call, f"{text}{where}", free, gap_of)
    return replace(made, model=name)


def _labelled(pick, call, text):
    """A label in one of the clauses."""
    match pick.randrange(4):
        case 0:
            return Star(f"SELECT f.id, {call} AS p FROM {text}", 1)
        case 1:
            return Star(f"SELECT {call} AS p, count(*) AS c FROM {text} GROUP BY p", 2)
        case 2:
            return Star(f"SELECT DISTINCT {call} AS p, f.n FROM {text}", 2)
        case _:
            where = " AND " if " WHERE " in text else " WHERE "
            return Star(f"SELECT f.id FROM {text}{where}{call} IN ('up', 'down')", 1)


def _shaped(pick, call, text, free, gap_of):
    """The prediction in one of the clauses."""
    join = " AND " if " WHERE " in text else " WHERE "
    match pick.randrange(12):
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
        case 5:
            return Star(f"SELECT {call} AS p FROM {text} ORDER BY p DESC LIMIT 5", 0)
        case 6:
            edge = gap_of(f"SELECT {call} FROM {text}")
            inner = f"SELECT f.id AS id, {call} AS p FROM {text}"
            return Star(
                f"SELECT a.id, o.q0 FROM ({inner}) a JOIN h o ON a.p > {edge!r} AND o.k < 2", 2
            )
        case 7:
            edge = gap_of(f"SELECT {call} FROM {text}")
            grouped = f"{text} GROUP BY f.n HAVING max({call}) > {edge!r}"
            return Star(f"SELECT f.n, count(*) AS c FROM {grouped}", 2)
        case 8:
            one = f"SELECT f.id AS id, {call} AS p FROM {text}"
            return Star(f"{one} UNION ALL SELECT id, p FROM ({one}) WHERE id < 20", 1)
        case 9:
            edge = gap_of(f"SELECT {call} FROM {text}")
            case = f"CASE WHEN {call} > {edge!r} THEN 'high' ELSE 'low' END"
            return Star(f"SELECT {case} AS level, count(*) AS c FROM {text} GROUP BY level", 2)
        case 10:
            return Star(f"SELECT f.id, sum({call}) OVER (PARTITION BY f.n) AS s FROM {text}", 1)
        case _:
            inner = f"SELECT f.id AS id, f.n AS n, {call} AS p FROM {text}"
            return Star(f"SELECT id, p, n FROM ({inner}) WHERE n < 3 AND p IS NOT NULL", 1)
