"""What BigQuery ML knows and gradbase does not offer: said by name, with a way out."""

from __future__ import annotations

LATER_MODEL_TYPES = (
    "arima_plus", "arima_plus_xreg", "automl_classifier", "automl_regressor",
    "boosted_tree_classifier", "boosted_tree_regressor", "contribution_analysis",
    "matrix_factorization", "random_forest_classifier", "random_forest_regressor", "tensorflow",
    "tensorflow_lite", "xgboost",
)  # fmt: skip
_TREES = "fit it with scikit-learn, and db.import_model(name, it) makes a model of it"
INSTEAD = {
    **dict.fromkeys((t for t in LATER_MODEL_TYPES if t.startswith(("boosted", "random"))), _TREES),
}
"""What to do today instead of a type that is not offered."""
LATER_OPTIONS = (
    "booster_type", "integrated_gradients_num_steps", "ls_init_learn_rate", "metric",
    "model_path",
)  # fmt: skip
CLOUD_OPTIONS = (
    "kms_key_name", "model_registry", "tf_version", "vertex_ai_model_id",
    "vertex_ai_model_version_aliases", "xgboost_version",
)  # fmt: skip
RESERVED = (*LATER_OPTIONS, *CLOUD_OPTIONS)
"""Names that no network's own option may have."""
