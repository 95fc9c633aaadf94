"""The same rows and seed give the same model, bit for bit, on every engine."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal

import pyarrow as pa
import pytest

import gradbase as gb
from gradbase.testing.servers import postgres_url, spark

DAY = dt.date(2024, 2, 27)
EVENING = dt.datetime(1969, 12, 31, 23)  # noqa: DTZ001 (a time without a zone)


def rows():
    """Categories, NULLs, NaN, both zeros, dates, decimals; two thirds of the rows twice, no key."""
    n = [i % 120 if i < 200 else i for i in range(260)]
    return pa.table(
        {
            "word": pa.array([None if i % 11 == 0 else ["b", "ä", "a'\\", "", "Z"][i % 5] for i in n]),
            "flag": pa.array([None if i % 7 == 0 else i % 3 == 0 for i in n]),
            "whole": pa.array([None if i % 13 == 0 else (-1) ** i * 2**40 + i for i in n], pa.int64()),
            "small": pa.array([i % 5 - 2 for i in n], pa.int16()),
            "real": pa.array([math.nan if i % 17 == 0 else -0.0 if i % 4 == 0 else i / 7 for i in n]),
            "single": pa.array([1e-30 * i if i % 2 else 0.1 * i for i in n], pa.float32()),
            "price": pa.array(
                [None if i % 19 == 0 else Decimal(i * 37 - 900) / 1000 for i in n], pa.decimal128(12, 3)
            ),
            "day": pa.array([None if i % 23 == 0 else DAY + dt.timedelta(i) for i in n]),
            "moment": pa.array(
                [EVENING + dt.timedelta(hours=i, microseconds=i) for i in n]
            ),
            "pair": pa.array([[i / 3, -i] for i in n], pa.list_(pa.float64())),
            "y": [["no", "yes", "maybe"][(i * 7 + i // 5) % 3] for i in n],
            "z": pa.array([(i * 31 % 97) / 3 - i % 5 for i in n]),
        }
    )  # fmt: skip


def duckdb(_):
    return gb.connect(progress=False)


def postgres(_):
    return gb.connect(postgres_url(), progress=False)


def on_spark(folder):
    session = spark().newSession()
    session.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    return gb.connect(session, store=folder / "store", progress=False)


MODELS = {
    "classes": """CREATE MODEL m OPTIONS (model_type = 'dnn_classifier', input_label_cols = ['y'], hidden_units = [8],
max_epochs = 3, seed = 5, dropout = 0.1, learn_rate = HPARAM_CANDIDATES([0.1, 0.01])) AS SELECT * EXCLUDE (z) FROM given""",
    "transform": """CREATE MODEL m TRANSFORM (ML.STANDARD_SCALER(price) OVER () AS price,
ML.QUANTILE_BUCKETIZE(real, 4) OVER () AS real, ML.LABEL_ENCODER(word, 4, 1) OVER () AS word, whole, day, z)
OPTIONS (model_type = 'linear_reg', input_label_cols = ['z'], max_epochs = 3, seed = 5) AS SELECT * FROM given""",
    "clusters": """CREATE MODEL m OPTIONS (model_type = 'kmeans', num_clusters = 4, seed = 3, max_iterations = 3)
AS SELECT word, flag, small, price, day FROM given""",
}


def trained(connect, folder, statement):
    with connect(folder) as db:
        db.register("given", rows())
        db.sql(statement)
        found = db.store.model("m", None, None)
        # The SQL of a TRANSFORM is in the words of the engine; what it learnt is not.
        return found.replace(name="", version=0, columns=(), transform=())


@pytest.mark.slow
@pytest.mark.parametrize(
    "engine", [postgres, pytest.param(on_spark, marks=pytest.mark.xdist_group("spark"))]
)
@pytest.mark.parametrize("kind", MODELS)
def test_same_model(kind, engine, tmp_path):
    """A program names its weights by content: equal programs are equal bit for bit."""
    assert trained(engine, tmp_path, MODELS[kind]) == trained(duckdb, tmp_path, MODELS[kind])


@pytest.mark.slow
@pytest.mark.parametrize(
    "engine", [duckdb, postgres, pytest.param(on_spark, marks=pytest.mark.xdist_group("spark"))]
)
def test_nulls_are_ordered_as_the_engine_orders_them(engine, tmp_path):
    """With a prediction in the query as without one, whoever sorts."""
    with engine(tmp_path) as db:
        db.register("given", rows())
        db.sql(MODELS["clusters"])
        for order in ("whole", "whole DESC", "whole NULLS FIRST", "whole DESC NULLS LAST"):
            plain = db.sql(f"SELECT whole FROM given ORDER BY {order} LIMIT 30").fetchall()
            with_one = db.sql(
                f"SELECT whole, PREDICT(m, *) FROM given ORDER BY {order} LIMIT 30"
            ).fetchall()
            assert [row[:1] for row in with_one] == plain, order
