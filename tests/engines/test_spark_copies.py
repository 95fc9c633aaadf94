"""Rows of a training through Parquet files that Spark's executors write: the same model."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pyarrow as pa
import pytest

import gradbase as gb
from gradbase.engines.spark import copies
from gradbase.errors import EngineError
from gradbase.optimizer import cost_reading
from gradbase.testing.servers import spark

pytestmark = pytest.mark.xdist_group("spark")
N = range(300)
ROWS = pa.table(
    {
        "word": [None if i % 11 == 0 else ["b", "ä\n", "a'\\", "", "日本"][i % 5] for i in N],
        "price": pa.array([Decimal(i * 37 - 900) / 1000 for i in N], pa.decimal128(12, 3)),
        # Before 1582 writers of Parquet that follow Spark's settings refuse or move days.
        "day": [None if i % 23 == 0 else dt.date(1500, 2, 27) + dt.timedelta(i) for i in N],
        "moment": [dt.datetime(1, 1, 1) + dt.timedelta(days=900 * i, microseconds=i) for i in N],  # noqa: DTZ001
        "pair": pa.array([[i / 3, -i] for i in N], pa.list_(pa.float64())),
        "a.b `c`": [i % 7 for i in N],
        "y": [(i * 31 % 97) / 3 - i % 5 for i in N],
    }
)
MODEL = """CREATE OR REPLACE MODEL m OPTIONS (model_type = 'linear_reg', input_label_cols = ['y'], max_epochs = 2,
seed = 5) AS SELECT * FROM given"""


@pytest.fixture
def db(tmp_path):
    with gb.connect(spark().newSession(), store=tmp_path / "store", progress=False) as session:
        session.register("given", ROWS)
        yield session


@pytest.mark.slow
def test_a_training_from_files_is_the_same_as_from_a_stream(db, tmp_path, monkeypatch):
    """Bit for bit, of any type and name; EXPLAIN names the way, and no file is left."""
    assert "rows by stream" in str(db.explain(MODEL))
    db.sql(MODEL)
    streamed = db.store.model("m", None, None)
    monkeypatch.setattr(cost_reading, "_SENT_BYTES_S", 1e3)
    said = str(db.explain(MODEL))
    assert "rows by parquet" in said
    assert "stream" in said
    monkeypatch.setattr(db.engine, "stream", None)  # so that nothing is streamed
    db.sql(MODEL)
    assert db.store.model("m", None, None).replace(version=1) == streamed
    assert not list((tmp_path / "store" / "spill").iterdir())


def test_a_copy_that_fails_leaves_nothing(db, tmp_path):
    """The query's own error, and the executor's; files that only executors see."""
    for at, sql in enumerate(("SELECT 1 / (id - 1) FROM range(3)", "SELECT id FROM nowhere")):
        with (
            pytest.raises(EngineError, match=r"DIVIDE_BY_ZERO|TABLE_OR_VIEW_NOT_FOUND"),
            db.engine.copied(sql, None, tmp_path / f"rows-{at}", batch_rows=10),
        ):
            pass
        assert not (tmp_path / f"rows-{at}").exists()
    with pytest.raises(EngineError, match="does not find 1 of 2 files") as caught:
        copies._check([tmp_path, tmp_path / "gone"])
    assert "store= must name a folder" in caught.value.hint
