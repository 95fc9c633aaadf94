"""Preparation inside the model, two versions, an alias that moves, drift, and a file for others.

Data: made up, with gaps and categories. Run: ``python examples/04_life_of_a_model.py``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnxruntime

import gradbase as gb

CUSTOMERS = """
CREATE TABLE customers AS
SELECT i AS id, DATE '2024-01-01' + (i % 365)::INT AS joined, 18 + (i * 37) % 60 AS age,
       CASE WHEN i % 11 > 0 THEN (i * 7919) % 500 / 10.0 END AS fee,
       CASE WHEN i % 13 > 0 THEN ['north', 'south', 'east'][i % 3 + 1] END AS region,
       (i * 7919) % 500 / 10.0 + (i * 37) % 60 / 2 + (i * 31) % 17 > 45 AS churned
FROM range(3000) t(i)
"""
CREATE = """
CREATE OR REPLACE MODEL churn
TRANSFORM (
    ML.IMPUTER(fee, 'median') OVER () AS fee,
    ML.QUANTILE_BUCKETIZE(age, 5) OVER () AS age_group,
    ML.ONE_HOT_ENCODER(region, 'none', 100, 1) OVER () AS region,
    churned
)
OPTIONS (model_type = '{kind}', input_label_cols = ['churned'], max_epochs = 5, learn_rate = 0.02)
AS SELECT * EXCLUDE (joined) FROM customers
"""


def main() -> None:
    """Two versions of a model, from training to a file."""
    with gb.connect() as db, tempfile.TemporaryDirectory() as folder:
        db.sql(CUSTOMERS)
        db.sql(CREATE.format(kind="logistic_reg"))
        db.sql("ALTER MODEL churn SET ALIAS champion = 1")
        db.sql(CREATE.format(kind="dnn_classifier"))

        print("The new version against the one in use, on the same rows:")
        db.sql(
            "SELECT * FROM ML.COMPARE(MODEL churn@champion, MODEL churn, TABLE customers)"
        ).show()
        db.sql("ALTER MODEL churn SET ALIAS champion = latest")  # queries that name it follow

        print("Raw columns go in, gaps and new categories too; the row says who predicted:")
        db.sql("""
            SELECT * FROM ML.PREDICT(
                MODEL churn@champion,
                (SELECT 44 AS age, NULL::DOUBLE AS fee, 'west' AS region),
                STRUCT(TRUE AS with_version))
        """).show()

        print("What has changed since training?")
        db.sql("""
            SELECT column_name, status, null_share, trained_mean, mean FROM ML.SCHEMA_DRIFT(
                MODEL churn@champion, (SELECT age + 10 AS age, fee, region FROM customers))
        """).show()

        file = Path(folder, "churn.onnx")
        db.sql(f"EXPORT MODEL churn@champion TO '{file}'").show()
        session = onnxruntime.InferenceSession(file)
        rows = db.sql("SELECT age, fee, region FROM customers LIMIT 1000").arrow()
        (there,) = session.run(["predict_proba"], gb.onnx_inputs(session, rows))
        here = db.model("churn@champion").predict_proba(rows)[:, 1]
        print("largest difference to ONNX Runtime:", abs(there - here).max())


if __name__ == "__main__":
    main()
