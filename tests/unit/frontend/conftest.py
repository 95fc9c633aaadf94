"""A small database with macros that compute what the fake models compute."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from .fake import DuckRelations, FakeModels

_TABLES = """
CREATE TABLE t AS SELECT i id, (i * 7) % 5::DOUBLE x, i % 3 y, ['EU', 'US'][1 + i % 2] region,
 's' || (i % 4) s, DATE '2020-01-01' + i::INT d, i > 5 flag FROM range(20) r(i);
CREATE TABLE u AS SELECT i id, i * 1.5 w, 'n' || i AS name FROM range(0, 20, 2) r(i);
CREATE TABLE o AS SELECT i % 10 id, i * 1.0 amount, (i * 3) % 4 yy FROM range(30) r(i);
CREATE TABLE vip AS SELECT i id FROM range(0, 20, 3) r(i);
CREATE MACRO raw_(a, b) AS (a::DOUBLE + 2 * b::DOUBLE);
CREATE MACRO proba_(a, b) AS (raw_(a, b) / (1 + abs(raw_(a, b))));
CREATE MACRO label_(a, b) AS (CASE WHEN raw_(a, b) > 3 THEN 'yes' ELSE 'no' END);
"""


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as made:
        made.execute(_TABLES)
        yield made


@pytest.fixture
def relations(connection: duckdb.DuckDBPyConnection) -> DuckRelations:
    return DuckRelations(connection)


@pytest.fixture
def models() -> FakeModels:
    return FakeModels()
