"""Golden plans: what EXPLAIN says of each `<workload>.sql`, with fixed statistics and constants.

A `.sql` file holds one statement, after any number of ``SET gradbase.…`` that hold for it alone.
``GRADBASE_GOLDEN=1`` rewrites the `.plan` files; read the difference. That results are right is
checked elsewhere (`tests/slt`, `tests/properties`, `tests/exactness`).
"""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

import pytest

import gradbase as gb
import shop
from gradbase.frontend.statements import CreateModel, parse_statement
from gradbase.frontend.tokens import split_statements
from gradbase.ir.facts import ColumnStatistics, TableStatistics
from gradbase.optimizer.cost import FixedStatistics

HERE = Path(__file__).parent
WORKLOADS = sorted(path.stem for path in HERE.glob("*.sql"))
REWRITE = os.environ.get("GRADBASE_GOLDEN") == "1"

CUSTOMERS = TableStatistics(
    1_000_000,
    {
        "id": ColumnStatistics(1_000_000, minimum=0, maximum=999_999),
        "region": ColumnStatistics(4, null_fraction=0.06),
        "fee": ColumnStatistics(5_500, minimum=5.0, maximum=60.0),
        "plan": ColumnStatistics(3),
    },
)
ORDERS = TableStatistics(
    5_000_000,
    {
        "id": ColumnStatistics(1_000_000, minimum=0, maximum=999_999),
        "amount": ColumnStatistics(1_000, minimum=0, maximum=999),
    },
)
TRAINING_ROWS = 45_211
"""Rows of every training query: those of a table like `bank_marketing`."""


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """Small models of one trial each, so that no name in a plan depends on what was learnt."""
    path = tmp_path_factory.mktemp("plans") / "shop.duckdb"
    with (
        gb.connect(str(path), threads=2, memory_limit_bytes=8 << 30, progress=False) as db,
        pytest.MonkeyPatch.context() as patch,
    ):
        shop.load(db)
        db.sql("CREATE TABLE orders (order_id BIGINT, id BIGINT, amount INTEGER)")
        db.sql(shop.create_model("churn", max_epochs=1))
        db.sql(shop.create_model("spend", label="spent", hidden_units=[256, 64], max_epochs=1))
        tables = {"customers": CUSTOMERS, "orders": ORDERS}
        queries = {q: TRAINING_ROWS for w in WORKLOADS if (q := training_query(w)) is not None}
        patch.setattr(db.engine, "_statistics", FixedStatistics(tables, queries))
        yield db


def statements(workload):
    return split_statements((HERE / f"{workload}.sql").read_text())


def training_query(workload):
    """The query of a CREATE MODEL, None of another statement."""
    statement = parse_statement(statements(workload)[-1])
    return statement.query if isinstance(statement, CreateModel) else None


def explained(db, workload):
    """The plan of the workload's last statement, under the settings before it."""
    *settings, statement = statements(workload)
    before = dataclasses.asdict(db.settings)
    try:
        for text in settings:
            db.sql(text)
        return db.explain(statement) + "\n"
    finally:
        db.change_settings(**before)


@pytest.mark.parametrize("workload", WORKLOADS)
def test_plan_is_the_golden_one(session, workload):
    """The plan, its estimates and its choices are those that were reviewed."""
    golden = HERE / f"{workload}.plan"
    found = explained(session, workload)
    if REWRITE:
        golden.write_text(found)
    assert golden.read_text() == found


@pytest.mark.parametrize("workload", WORKLOADS)
def test_plan_is_the_same_the_second_time(session, workload):
    """Planning leaves nothing behind that changes the next plan."""
    assert explained(session, workload) == explained(session, workload)


def test_each_golden_plan_belongs_to_a_workload():
    """No file is left behind, and none names what differs between runs."""
    plans = sorted(HERE.glob("*.plan"))
    assert [p.stem for p in plans] == WORKLOADS
    changing = re.compile(r"0x[0-9a-f]{6,}|[0-9a-f]{32,}|/tmp/")
    assert [p.name for p in plans if changing.search(p.read_text())] == []
