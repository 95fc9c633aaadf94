"""Is the chosen plan the fastest one? Generated queries, each as chosen and with every form forced.

Tables of 100 to 1 M rows, with filters of any selectivity, below joins and groups; models linear, small,
wide, trees. A query's plan is good where it takes at most 15 % or 5 ms longer than the best of
the forced ones. All forms give the same answer, which is checked. Planning a query the first time is
timed too: it may take 1 % of the query, or 15 ms.

    python benchmarks/choice.py --queries 200

On a machine that is quiet for minutes only, `--resume FILE --seconds 60` measures a part and goes on
from FILE the next time.
"""

from __future__ import annotations

import argparse
import json
import random
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import gradbase as gb

FORMS = ("dl", "onnx", "udf", "sql")
ROWS = (100, 2_000, 30_000, 200_000, 1_000_000)
NEAR, NEAR_S = 1.15, 0.005
FAR = 2.0
PLANNING, PLANNING_S = 0.01, 0.015
BUDGET_S = 1200.0


@dataclass
class Outcome:
    """Least seconds of one query, by form; '' is as chosen."""

    sql: str
    chosen: str
    planning_s: float
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def best(self) -> float:
        return min(s for form, s in self.seconds.items() if form)

    @property
    def ratio(self) -> float:
        return self.seconds[""] / self.best

    @property
    def good(self) -> bool:
        return self.seconds[""] <= max(self.best * NEAR, self.best + NEAR_S)

    @property
    def far(self) -> bool:
        return self.seconds[""] > max(self.best * FAR, self.best + NEAR_S)


def prepare(db: Any) -> None:
    """Tables t100 … t1000000 of 12 floats, integers and a text; a dimension; models."""
    columns = ", ".join(f"(hash(i, {k}) % 2000 / 1000.0 - 1)::FLOAT AS x{k}" for k in range(12))
    for rows in ROWS:
        db.sql(
            f"CREATE TABLE t{rows} AS SELECT i AS id, i % 1000 AS seg, (hash(i, 99) % 50)::INT AS d, "
            f"['a', 'b', 'c', 'd'][1 + i % 4] AS word, {columns} FROM range({rows}) r(i)"
        ).fetchall()
    db.sql("CREATE TABLE dim AS SELECT i::INT AS d, i % 5 AS kind FROM range(50) r(i)").fetchall()
    names = ", ".join(f"x{k}" for k in range(12))
    few = ", ".join(f"x{k}" for k in range(4))
    label = "(x0 + x1 * x2 > 0.1) AS y"
    for name, kind, of, more in (
        ("linear", "logistic_reg", f"{few}, word", ""),
        ("slim", "linear_reg", names, ""),
        ("small", "dnn_classifier", names, ", hidden_units = [8]"),
        ("middle", "dnn_classifier", f"{names}, word", ", hidden_units = [64, 32]"),
        ("smooth", "dnn_classifier", names, ", hidden_units = [32], activation_fn = 'tanh'"),
        ("wide", "dnn_classifier", names, ", hidden_units = [512, 256]"),
    ):
        y = "x0 + x1 AS y" if kind == "linear_reg" else label
        db.sql(
            f"CREATE MODEL {name} OPTIONS (model_type = '{kind}', input_label_cols = ['y']{more}, "
            f"max_epochs = 1, seed = 1) AS SELECT {of}, {y} FROM t2000"
        ).fetchall()
    _trees(db, few.split(", "))


def _trees(db: Any, names: list[str]) -> None:
    from sklearn.ensemble import RandomForestClassifier

    rows = db.sql(f"SELECT {', '.join(names)}, x0 + x1 > 0 AS y FROM t2000").df()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        forest = RandomForestClassifier(8, max_depth=5, random_state=0)
        db.import_model("forest", forest.fit(rows[names], rows.y), label="y", features=names)


MODELS = ("linear", "slim", "small", "middle", "smooth", "wide", "forest")


def query(generator: random.Random) -> str:
    """One query of eight forms over a table, with a model and a filter."""
    model, rows = generator.choice(MODELS), generator.choice(ROWS)
    share = generator.choice((1, 10, 100, 500, 1000))
    where = f"seg < {share}" if share < 1000 else "TRUE"
    p = f"PREDICT({model}, *)" if model == "slim" else f"PREDICT_PROBA({model}, *)"
    if model == "forest":
        p = f"PREDICT_PROBA({model}, *)"
    t = f"t{rows}"
    bound = generator.choice((0.2, 0.5, 0.8))
    joined = f"(SELECT {t}.* FROM {t} JOIN dim USING (d) WHERE kind = {generator.randrange(5)})"
    return generator.choice(
        (
            f"SELECT id, {p} AS p FROM {t} WHERE {where}",
            f"SELECT count(*) FROM {t} WHERE {p} > {bound} AND {where}",
            f"SELECT seg % 7 AS g, avg({p}) AS p FROM {t} WHERE {where} GROUP BY g ORDER BY g",
            f"SELECT id, {p} AS p FROM {t} WHERE {where} ORDER BY p DESC, id LIMIT 10",
            f"SELECT avg({p}) AS p FROM {joined} AS j WHERE {where}",
            f"SELECT id, {p} AS p FROM {joined} AS j",
        )
    )


def run(db: Any, sql: str, form: str) -> tuple[float, Any]:
    """Seconds of one run in a form, and the rows."""
    db.sql(f"SET gradbase.representation = '{form}'")
    start = time.perf_counter()
    found = db.sql(sql).arrow()
    return time.perf_counter() - start, found


def compare(db: Any, sql: str, repeat: int) -> Outcome:
    """Forms take turns, so that a busy moment hits all of them."""
    db.sql("RESET gradbase.representation")
    start = time.perf_counter()
    plan = db.explain(sql)
    planning = time.perf_counter() - start
    chosen = next((line for line in plan.splitlines() if "chosen: " in line), "?")
    outcome = Outcome(sql, chosen.strip().removeprefix("chosen: "), planning)
    expected: Any = None
    for turn in range(repeat):
        for form in ("", *FORMS):
            seconds, found = run(db, sql, form)
            outcome.seconds[form] = min(seconds, outcome.seconds.get(form, seconds))
            if not turn:
                expected = found if expected is None else expected
                same(expected, found, sql, form)
    db.sql("RESET gradbase.representation")
    return outcome


def same(expected: Any, found: Any, sql: str, form: str) -> None:
    """All columns equal, but for rounding; a count may differ by rows on the very border."""
    assert found.schema == expected.schema, (sql, form)
    assert abs(found.num_rows - expected.num_rows) <= 1, (sql, form)
    if found.num_rows != expected.num_rows or "LIMIT" in sql:
        return
    order = [("id", "ascending")] if "id" in found.column_names else []
    a, b = ((t.sort_by(order) if order else t) for t in (expected, found))
    for x, y in zip(a.columns, b.columns, strict=True):
        left, right = (np.asarray(c.to_numpy(), dtype=np.float64) for c in (x, y))
        atol = 3.0 if "count(*)" in sql else 1e-4
        assert np.allclose(left, right, rtol=1e-4, atol=atol, equal_nan=True), (sql, form)


def kept(path: Path | None) -> list[Outcome]:
    """Outcomes of earlier runs."""
    if path is None or not path.exists():
        return []
    return [Outcome(**json.loads(line)) for line in path.read_text().splitlines()]


def report(outcomes: list[Outcome]) -> dict[str, Any]:
    good = sum(o.good for o in outcomes)
    far = [o for o in outcomes if o.far]
    slow = [o for o in outcomes
            if o.planning_s > max(PLANNING_S, PLANNING * o.seconds[""])]  # fmt: skip
    print(f"\n{len(outcomes)} queries: {good} within 15 % or 5 ms of the best forced plan "
          f"({good / len(outcomes):.1%}), {len(far)} more than 2x off, worst "
          f"{max(o.ratio for o in outcomes):.2f}x")  # fmt: skip
    print(f"planning: median {1e3 * np.median([o.planning_s for o in outcomes]):.1f} ms, most "
          f"{1e3 * max(o.planning_s for o in outcomes):.1f} ms, {len(slow)} over the limit")  # fmt: skip
    best = Counter(min((s, f) for f, s in o.seconds.items() if f)[1] for o in outcomes)
    print(
        "best forms:", dict(best), "chosen:", dict(Counter(o.chosen.split()[0] for o in outcomes))
    )
    for o in sorted(outcomes, key=lambda o: o.ratio, reverse=True)[:10]:
        if not o.good:
            times = ", ".join(f"{f or 'chosen'} {1e3 * s:.1f}" for f, s in o.seconds.items())
            print(f"  {o.ratio:.2f}x  {o.sql}\n         {o.chosen}\n         ms: {times}")
    return {
        "queries": len(outcomes), "good": good, "far": len(far), "over_planning": len(slow),
        "outcomes": [o.__dict__ for o in outcomes],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=BUDGET_S, help="stop after so long")
    parser.add_argument("--json", type=Path, help="write the results there")
    parser.add_argument("--resume", type=Path, help="outcomes so far: read, and added to")
    options = parser.parse_args()
    generator = random.Random(options.seed)
    queries = [query(generator) for _ in range(options.queries)]
    outcomes = kept(options.resume)
    with gb.connect(progress=False) as db:
        prepare(db)
        started = time.perf_counter()
        for sql in queries[len(outcomes) :]:
            if time.perf_counter() - started > options.seconds:
                break
            outcomes.append(compare(db, sql, options.repeat))
            if options.resume:
                with options.resume.open("a") as file:
                    file.write(json.dumps(outcomes[-1].__dict__) + "\n")
    found = report(outcomes)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
