"""Classification in SQL from end to end: a table, 8 networks, the best one's metrics, predictions.

Data: scikit-learn's breast cancer set. Run: ``python examples/01_classification.py``.
"""

from __future__ import annotations

from sklearn.datasets import load_breast_cancer

import gradbase as gb

CREATE = """
CREATE MODEL malignancy
OPTIONS (model_type = 'dnn_classifier', input_label_cols = ['diagnosis'], row_key = ['id'],
         hidden_units = HPARAM_CANDIDATES([STRUCT([16]), STRUCT([32, 16])]),
         learn_rate = HPARAM_RANGE(0.001, 0.03), num_trials = 8, max_epochs = 10,
         data_split_method = 'random', data_split_eval_fraction = 0.2,
         data_split_test_fraction = 0.2, seed = 7)
AS SELECT * FROM tumours
"""


def load(db: gb.Session) -> None:
    """Make the table: one row per tumour, the diagnosis as text."""
    data = load_breast_cancer(as_frame=True)
    frame = data.frame.rename(columns=lambda name: name.replace(" ", "_"))
    frame["id"] = range(len(frame))
    frame["diagnosis"] = [str(data.target_names[t]) for t in frame.pop("target")]
    db.register("frame", frame)
    db.sql("CREATE TABLE tumours AS SELECT * FROM frame")


def main() -> None:
    """Load, train, look, predict."""
    with gb.connect() as db:
        load(db)
        db.sql(CREATE).show()

        print("The trials, best first:")
        db.sql("""
            SELECT trial_id, hyperparameters, hparam_tuning_evaluation_metrics.roc_auc, is_optimal
            FROM ML.TRIAL_INFO(MODEL malignancy) ORDER BY is_optimal DESC, roc_auc DESC
        """).show()

        print("The best one, on rows that it was not chosen by:")
        db.sql("""
            SELECT e.* FROM ML.EVALUATE(MODEL malignancy) e
            JOIN ML.TRIAL_INFO(MODEL malignancy) t USING (trial_id) WHERE t.is_optimal
        """).show()

        print("Predictions are expressions, beside any other SQL:")
        db.sql("""
            SELECT radius, count(*) AS tumours,
                   round(avg(PREDICT_PROBA(malignancy, *)), 3) AS mean_probability,
                   count(*) FILTER (PREDICT(malignancy, *) = diagnosis) AS right_ones
            FROM (SELECT *, floor(mean_radius / 5) * 5 AS radius FROM tumours)
            GROUP BY radius ORDER BY radius
        """).show()

        print("What will be read, and where the network runs:")
        print(db.explain("SELECT id FROM tumours WHERE PREDICT_PROBA(malignancy, *) > 0.9"))


if __name__ == "__main__":
    main()
