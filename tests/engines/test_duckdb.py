"""DuckDB keeps the contract of engines, in a file and in memory."""

from __future__ import annotations

from gradbase.engines import connect
from gradbase.testing.engines import EngineContract, TestConf


class TestDuckDBFile(EngineContract):
    conf = TestConf("duckdb", connect=lambda folder: connect(folder / "contract.duckdb"))


class TestDuckDBMemory(EngineContract):
    conf = TestConf("duckdb", connect=lambda _: connect(":memory:"))
