"""Random queries with predictions over two small tables, and the tables.

Every query has one right answer: it sorts by a total order where it cuts, and what it groups,
sorts or filters by stands clear of the rounding of a prediction (see `Edges`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

import shop

ITEMS, SHOPS = 120, 14
CALLS = {
    "p": "PREDICT_PROBA(risky, i.a, i.b)",
    "label": "PREDICT(risky, i.*)",
    "v": "PREDICT(worth, i.*)",
}
"""Predictions from `items i`: all numbers, and with a category."""
JOINED = {"q": "PREDICT_PROBA(risky, i.a, s.w)"}
"""One that reads both sides of a join."""
NUMBERS = ("p", "v", "q")
LEAST_GAP = 1e-4
"""Farther than this from all predictions lies an edge."""


def load(db):
    """`items` and `shops`: NULL, NaN, rows twice but for `id`, keys that match none or several."""
    shop.load(db, _items(), "items")
    shop.load(db, _shops(), "shops")
    shop.load(db, _training(), "past")
    options = {"max_epochs": 4, "learn_rate": 0.05}
    db.sql(shop.create_model("risky", "SELECT id, a, b, risky FROM past", label="risky", **options))
    query = "SELECT id, a, b, kind, spent FROM past"
    db.sql(shop.create_model("worth", query, label="spent", **options))


def _items():
    random = np.random.default_rng(5)
    half = ITEMS // 2
    a = random.normal(size=half).round(1)
    a[::11] = np.nan
    once = {
        "a": [None if n % 7 == 2 else v for n, v in enumerate(a.tolist())],
        "b": [None if n % 9 == 4 else int(v) for n, v in enumerate(random.integers(-3, 4, half))],
        "kind": [(None, "x", "y", "never seen", "")[v] for v in random.integers(0, 5, half)],
        "k": [None if n % 13 == 6 else int(v) for n, v in enumerate(random.integers(0, 12, half))],
    }
    types = {"a": pa.float64(), "b": pa.int32(), "kind": pa.string(), "k": pa.int64()}
    twice = {n: pa.array(v * 2, types[n]) for n, v in once.items()}
    return pa.table({"id": pa.array(range(ITEMS), pa.int64()), **twice})


def _shops():
    random = np.random.default_rng(6)
    w = [None if n % 5 == 1 else float(v) for n, v in enumerate(random.normal(size=SHOPS).round(1))]
    w[3] = float("nan")
    k = [None if n == 7 else n % 9 + 4 for n in range(SHOPS)]
    return pa.table({
        "sid": pa.array(range(SHOPS), pa.int64()),
        "k": pa.array(k, pa.int64()),
        "w": pa.array(w, pa.float64()),
        "town": [("A", "B", None)[n % 3] for n in range(SHOPS)],
    })  # fmt: skip


def _training():
    random = np.random.default_rng(7)
    a, b = random.normal(size=160), random.integers(-3, 4, 160)
    kind = random.integers(0, 3, 160)
    z = a - 0.5 * b + (kind == 1) + 0.3 * random.normal(size=160)
    return pa.table({
        "id": range(160),
        "a": [None if n % 10 == 0 else v for n, v in enumerate(a.tolist())],
        "b": pa.array(b, pa.int32()),
        "kind": [(None, "x", "y")[n] for n in kind],
        "risky": [("no", "yes")[int(v)] for v in z > 0],
        "spent": 10 * z + 5,
    })  # fmt: skip


@dataclass(frozen=True)
class Edges:
    """Thresholds in the gaps between all values that a prediction has over the tables.

    `levels` are such thresholds by prediction; `label` and the bins of `binned` are cut there too.
    """

    levels: dict[str, tuple[float, ...]]

    @classmethod
    def of(cls, db):
        """Found by predicting for every row, and every pair of rows."""
        everything = "items i LEFT JOIN shops s ON true"
        found = {}
        for name in NUMBERS:
            call = {**CALLS, **JOINED}[name]
            text = f"SELECT DISTINCT {call} AS v FROM {everything}"
            values = np.array([r[0] for r in db.sql(text).fetchall() if r[0] is not None])
            found[name] = tuple(_gaps(np.sort(values)))
        probabilities = db.sql(f"SELECT {CALLS['p']} AS p FROM items i").arrow()["p"].to_numpy()
        assert np.nanmin(np.abs(probabilities - 0.5)) > LEAST_GAP
        return cls(found)

    def binned(self, name, value):
        """A whole number from the prediction `value`: how many levels lie below."""
        cases = " ".join(
            f"WHEN {value} < {level!r} THEN {n}" for n, level in enumerate(self.levels[name])
        )
        return f"CASE {cases} ELSE {len(self.levels[name])} END"


def _gaps(values):
    """The middles of the widest gap in each quarter of the values."""
    for part in np.array_split(values, 4):
        gaps = np.diff(part)
        widest = int(gaps.argmax())
        assert gaps[widest] > 2 * LEAST_GAP
        yield float(part[widest : widest + 2].mean())


# -- parts of queries --------------------------------------------------------------------------

BASE = (
    "i.a > 0.3", "i.a <= 0.5", "i.b = 1", "i.b <> 2", "i.b IS NULL", "i.a IS NOT NULL",
    "isnan(i.a)", "i.kind = 'x'", "i.kind IN ('y', '')", "i.id % 3 = 1", "i.id < 40",
    "i.a > i.b", "coalesce(i.kind, 'none') <> 'y'", "i.k BETWEEN 3 AND 8", "false", "NULL",
)  # fmt: skip
OF_SHOP = ("s.w > 0.0", "s.town = 'A'", "s.sid IS NULL", "s.town IS DISTINCT FROM 'B'", "s.w < i.a")
FROM = {
    "items": "items i",
    "filtered": "(SELECT * FROM items WHERE b > -2 OR b IS NULL) i",
    "inner": "items i JOIN shops s ON i.k = s.k",
    "left": "items i LEFT JOIN shops s ON i.k = s.k",
    "cross": "items i, shops s",
}


@dataclass(frozen=True)
class Source:
    """FROM and WHERE, with the names that may be used over them."""

    text: str
    calls: dict[str, str]
    joined: bool

    @property
    def keys(self):
        """Columns that together tell every row from every other."""
        return ("i.id", "s.sid") if self.joined else ("i.id",)

    @property
    def plain(self):
        """Columns to show or group by."""
        return ("i.kind", "i.b", "s.town") if self.joined else ("i.kind", "i.b")


@st.composite
def conjuncts(draw, edges, calls, base):
    """A condition on columns, on a prediction, or on both."""
    kind = draw(st.sampled_from(("base", "base", "number", "number", "label", "or", "not")))
    if kind == "base":
        return draw(st.sampled_from(base))
    if kind == "label":
        return f"{calls['label']} = '{draw(st.sampled_from(('yes', 'no')))}'"
    name = draw(st.sampled_from([n for n in NUMBERS if n in calls]))
    level = draw(st.sampled_from(edges.levels[name]))
    compared = f"{calls[name]} {draw(st.sampled_from(('>', '<=')))} {level!r}"
    other = draw(st.sampled_from(base))
    return {
        "number": compared, "or": f"({compared} OR {other})", "not": f"NOT ({compared} AND {other})"
    }[kind]  # fmt: skip


@st.composite
def sources(draw, edges):
    """Tables, joined or not, filtered by up to four conditions in any order."""
    kind = draw(st.sampled_from(tuple(FROM)))
    joined = kind in ("inner", "left", "cross")
    calls, base = ({**CALLS, **JOINED}, BASE + OF_SHOP) if joined else (CALLS, BASE)
    found = draw(st.lists(conjuncts(edges, calls, base), max_size=4, unique=True))
    if kind == "cross":
        found.insert(draw(st.integers(0, len(found))), "i.k = s.k")
    where = f" WHERE {' AND '.join(found)}" if found else ""
    return Source(FROM[kind] + where, calls, joined)


@dataclass(frozen=True)
class Query:
    """A query whose first `exact` columns hold no rounding and tell rows apart."""

    sql: str
    exact: int
    ordered: bool = False


@st.composite
def rows(draw, edges, *, raw):
    """Keys, columns and predictions; perhaps the first few by a total order."""
    source = draw(sources(edges))
    names = draw(st.lists(st.sampled_from(tuple(source.calls)), min_size=1, max_size=3))
    plain = draw(st.lists(st.sampled_from((*source.plain, "i.a")), max_size=2))
    shown = [*source.keys, *(f"{c} AS c{n}" for n, c in enumerate(plain))]
    exact = len(shown)
    shown += [f"{source.calls[n]} AS {n}{k}" for k, n in enumerate(names)]
    text = f"SELECT {', '.join(shown)} FROM {source.text}"
    cut = draw(st.sampled_from(("LIMIT 7", "LIMIT 3 OFFSET 4", "", "unsorted", "LIMIT 0")))
    if cut == "unsorted":
        return Query(text, exact)
    by = draw(st.sampled_from(("base", "label", "binned", "raw" if raw else "binned")))
    name = draw(st.sampled_from([n for n in NUMBERS if n in source.calls]))
    value = source.calls[name]
    first = {
        "base": "i.b", "label": source.calls["label"], "binned": edges.binned(name, value), "raw": value
    }[by]  # fmt: skip
    order = draw(st.sampled_from(("ASC", "DESC", "DESC NULLS FIRST", "NULLS LAST")))
    text += f" ORDER BY {first} {order}, {', '.join(source.keys)} {cut}"
    return Query(text, exact, ordered=True)


@st.composite
def groups(draw, edges, *, raw):
    """GROUP BY columns, a label or a binned prediction; sums only where rounding is allowed."""
    source = draw(sources(edges))
    name = draw(st.sampled_from([n for n in NUMBERS if n in source.calls]))
    value = source.calls[name]
    possible = (*source.plain, source.calls["label"], edges.binned(name, value))
    keys = draw(st.lists(st.sampled_from(possible), max_size=2, unique=True))
    functions = ("min", "max") if raw else ("min", "max", "avg", "sum")
    function = draw(st.sampled_from(functions))
    shown = [f"{k} AS k{n}" for n, k in enumerate(keys)]
    shown += ["count(*) AS n", f"{function}({value}) AS found"]
    text = f"SELECT {', '.join(shown)} FROM {source.text}"
    if keys:
        text += f" GROUP BY {', '.join(f'k{n}' for n in range(len(keys)))}"
    if keys and draw(st.booleans()):
        text += " HAVING count(*) > 2"
    return Query(text, len(keys) + 1)


@st.composite
def distinct(draw, edges, *, raw):
    """DISTINCT over columns and labels."""
    source = draw(sources(edges))
    shown = draw(
        st.lists(st.sampled_from((*source.plain, source.calls["label"])), min_size=1, max_size=3)
    )
    named = ", ".join(f"{c} AS c{n}" for n, c in enumerate(shown))
    return Query(f"SELECT DISTINCT {named} FROM {source.text}", len(shown))


@st.composite
def nested(draw, edges, *, raw):
    """A query over another one's predictions, read once or twice, filtered or counted."""
    source = draw(sources(edges))
    name = draw(st.sampled_from([n for n in NUMBERS if n in source.calls]))
    level = draw(st.sampled_from(edges.levels[name]))
    inner = f"SELECT {source.keys[0]} AS id, i.k AS k, i.kind AS kind, {source.calls[name]} AS p FROM {source.text}"
    kind = draw(st.sampled_from(("filter", "count", "twice", "in")))
    if kind == "filter":
        return Query(f"SELECT id, kind, p FROM ({inner}) t WHERE p > {level!r} AND id > 20", 2)
    if kind == "count":
        cut = draw(st.sampled_from((10, 1, 0, 1000)))
        return Query(f"SELECT count(*) AS n FROM (SELECT p FROM ({inner}) t LIMIT {cut}) u", 1)
    if kind == "twice":
        text = f"WITH t AS ({inner}) SELECT x.id, y.id AS other, x.p, y.p AS o FROM t x JOIN t y ON x.id = y.id + 1"
        return Query(f"{text} WHERE x.p > {level!r}", 2)
    return Query(
        f"SELECT id, b FROM items WHERE id IN (SELECT id FROM ({inner}) t WHERE p > {level!r})", 2
    )


def queries(edges, *, raw=False):
    """Any of the above; `raw`: no rounding is expected, so nothing need stand clear of it."""
    kinds = (rows, rows, groups, distinct, nested)
    return st.one_of(*(kind(edges, raw=raw) for kind in kinds))
