"""``gradbase demo``: the main job on real data, from a table to the best of 32 networks to SQL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from gradbase.session.session import Session

CREATE = """\
CREATE OR REPLACE MODEL malignancy
OPTIONS (model_type = 'dnn_classifier', input_label_cols = ['diagnosis'], row_key = ['id'],
         hidden_units = HPARAM_CANDIDATES([[16], [32, 16]]), optimizer = 'adamw',
         learn_rate = HPARAM_RANGE(3e-4, 3e-2), l2_reg = HPARAM_RANGE(1e-5, 1e-1),
         batch_size = HPARAM_CANDIDATES([16, 32]), hparam_tuning_algorithm = 'random',
         num_trials = 32, max_epochs = 20, early_stop = FALSE,
         data_split_method = 'random', data_split_eval_fraction = 0.2,
         data_split_test_fraction = 0.2, seed = 7)
AS SELECT * EXCLUDE (clinic_id) FROM tumours"""

QUERIES = (
    (
        "The trials, best first",
        """\
SELECT trial_id, hyperparameters, round(eval_loss, 4) AS eval_loss,
       round(hparam_tuning_evaluation_metrics.roc_auc, 4) AS roc_auc, status, is_optimal
FROM ML.TRIAL_INFO(MODEL malignancy) ORDER BY is_optimal DESC, roc_auc DESC LIMIT 5""",
    ),
    (
        "How good is the best on rows it was not chosen by?",
        """\
SELECT e.* FROM ML.EVALUATE(MODEL malignancy) e
JOIN ML.TRIAL_INFO(MODEL malignancy) t ON e.trial_id = t.trial_id WHERE t.is_optimal""",
    ),
    (
        "Table function: every row with its prediction",
        """\
SELECT id, diagnosis, predicted_diagnosis, predicted_diagnosis_probs
FROM ML.PREDICT(MODEL malignancy, (SELECT * FROM tumours WHERE id < 4)) ORDER BY id""",
    ),
    (
        "Scalar functions, with a filter and a join: whom should each clinic call first?",
        """\
SELECT c.clinic, t.id, PREDICT(malignancy, t.*) AS diagnosis,
       round(PREDICT_PROBA(malignancy, t.*), 3) AS p
FROM tumours t JOIN clinics c ON t.clinic_id = c.clinic_id
WHERE c.region = 'north' AND t.mean_radius < 14 AND PREDICT_PROBA(malignancy, t.*) > 0.5
ORDER BY p DESC LIMIT 5""",
    ),
    (
        "The same, as it is planned",
        """\
EXPLAIN SELECT c.clinic, count(*) AS suspicious
FROM tumours t JOIN clinics c ON t.clinic_id = c.clinic_id
WHERE c.region = 'north' AND PREDICT_PROBA(malignancy, t.*) > 0.5 GROUP BY c.clinic""",
    ),
)


def tables() -> dict[str, pa.Table]:
    """Wisconsin breast cancer (569 real tumours, from scikit-learn) and four made-up clinics."""
    from sklearn.datasets import load_breast_cancer

    data: Any = load_breast_cancer()
    names = [n.replace(" ", "_") for n in data.feature_names]
    rows = len(data.target)
    tumours = {
        "id": pa.array(range(rows)),
        "clinic_id": pa.array([i % 4 for i in range(rows)]),
        "diagnosis": pa.array([str(data.target_names[t]) for t in data.target]),
        **{n: pa.array(data.data[:, i]) for i, n in enumerate(names)},
    }
    clinics = {
        "clinic_id": [0, 1, 2, 3],
        "clinic": ["Aalto", "Birch", "Cedar", "Delta"],
        "region": ["north", "south", "north", "south"],
    }
    return {"tumours": pa.table(tumours), "clinics": pa.table(clinics)}


def run(session: Session, folder: Path, say: Callable[[str], None]) -> None:
    """Load the tables, train, show and predict; the learning curves go to `folder`."""
    for name, table in tables().items():
        session.register("_loading", table)
        session.sql(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM _loading")
        session.unregister("_loading")
    say("569 tumours of scikit-learn's breast cancer data are table `tumours`.\n")
    say(CREATE + ";")
    say(session.sql(CREATE).text())
    picture = folder / "learning_curves.png"
    session.study("malignancy").plot("curves", path=picture)
    say(f"Learning curves of all 32 trials: {picture}\n")
    for title, query in QUERIES:
        say(f"-- {title}\n{query};")
        say(session.sql(query).text() + "\n")
