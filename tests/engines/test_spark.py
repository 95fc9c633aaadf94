"""Spark keeps the contract of engines."""

from __future__ import annotations

import pytest

from gradbase.engines.spark.engine import SparkEngine
from gradbase.errors import EngineError, UnsupportedError
from gradbase.testing.engines import EngineContract, Gap, TestConf
from gradbase.testing.servers import spark

POINTS = """CREATE TEMP VIEW points AS
SELECT id, CASE WHEN id % 10 <> 5 THEN id * 0.5D END AS x, id % 4 AS seg FROM range(1000)"""
NAMES = """CREATE TEMP VIEW names AS
SELECT * FROM VALUES (0L, 'b'), (1L, 'a'), (2L, 'Z'), (3L, 'é') AS v(seg, name)"""
NO_TRANSACTIONS = Gap("never", UnsupportedError, "Spark has no transactions")


@pytest.mark.xdist_group("spark")
class TestSpark(EngineContract):
    conf = TestConf(
        "spark",
        connect=lambda folder: SparkEngine(spark().newSession(), folder / "store"),
        # Spark asks between the rows of a range whether it was cancelled, in a join of two it does not.
        slow="SELECT count(*) AS n FROM range(1000000000000) WHERE id % 7 = 3",
        tables=(POINTS, NAMES),
        column="CREATE TEMP VIEW {table} AS SELECT 7L AS {column}",
        gaps={
            "transaction_commits": NO_TRANSACTIONS,
            "transaction_rolls_back": NO_TRANSACTIONS,
            "temporary_tables_and_open_transactions": Gap(
                "never", EngineError, "Spark has views of a session, and no transactions"
            ),
            "functions_of_one_statement": Gap(
                "never", UnsupportedError, "Spark's Python runs in processes of its own"
            ),
        },
    )
