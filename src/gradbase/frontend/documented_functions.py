"""What the reference says of functions: scalars, table functions, tables of the schema."""

from __future__ import annotations

from gradbase.frontend.documented import REST, Entry

_ROWS = "{TABLE t | (query)}"
_TRIAL = ("trial_id", "of each trial, best or not")
_JUDGED = (
    ("threshold", "probability above which a row is predicted positive"),
    ("recall", "share of the positive rows that are predicted positive"),
    ("false_positive_rate", "share of the negative rows that are predicted positive"),
    ("true_positives", "positive rows predicted positive"),
    ("false_positives", "negative rows predicted positive"),
    ("true_negatives", "negative rows predicted negative"),
    ("false_negatives", "positive rows predicted negative"),
)
_QUALITY = (
    (
        "precision",
        "share of what is predicted positive that is positive; several classes: the mean",
    ),
    ("recall", "share of the positive that is predicted positive; several classes: the mean"),
    ("accuracy", "share of the rows predicted right"),
    ("f1_score", "harmonic mean of precision and recall"),
    ("log_loss", "mean negative logarithm of the true class's probability"),
    ("roc_auc", "area under the ROC curve"),
)

FUNCTIONS = (
    Entry(
        "PREDICT",
        "PREDICT(model[@version], {* | t.* | expression [AS feature]}, … [, STRUCT(number AS trial_id)])",
        "The class, in the label's type, the value, or the centroid of a row; anywhere an expression "
        "may stand. Columns bind by name; what the model does not read is ignored.",
        "SELECT id, PREDICT(churn, *) AS leaves, PREDICT(churn@1, * , 30 AS age) AS at_30\n"
        "FROM customers WHERE PREDICT(churn, *) = 'yes' LIMIT 3",
        (("id", "of the table"), ("leaves", "type of the label"), ("at_30", "type of the label")),
    ),
    Entry(
        "PREDICT_PROBA",
        "PREDICT_PROBA(model[@version], {* | t.* | expression [AS feature]}, … [, STRUCT(number AS trial_id)])",
        "The probability of the higher of two classes; of several classes an array, in ascending "
        "order of the classes.",
        "SELECT region, avg(PREDICT_PROBA(churn, *)) AS risk FROM customers GROUP BY region ORDER BY risk",
        (("region", "of the table"), ("risk", "in [0, 1]")),
    ),
    Entry(
        "ML.PREDICT",
        f"ML.PREDICT(MODEL m, {_ROWS} [, STRUCT(0.5 AS threshold, number AS trial_id,\n"
        "           TRUE AS with_version, TRUE AS keep_original_columns)])",
        "The rows with predictions. With `threshold` a row is the higher of two classes above it. "
        "`with_version` adds `model_version`, a `trial_id` of several trials adds `trial_id`. k-means "
        "gives `centroid_id`, `nearest_centroids_distance`, PCA `principal_component_1`, ….",
        "SELECT * FROM ML.PREDICT(MODEL churn@1, TABLE customers, STRUCT(0.3 AS threshold))",
        (
            ("predicted_<label>", "type of the label; DOUBLE for regressions"),
            ("predicted_<label>_probs", "of classifiers: every class, ascending"),
            (REST, "all columns of the rows"),
        ),
    ),
    Entry(
        "ML.EVALUATE",
        f"ML.EVALUATE(MODEL m [, {_ROWS}] [, STRUCT(0.5 AS threshold, number AS trial_id,\n"
        "            TRUE AS by_group)])",
        "Metrics on rows that hold the label; without rows those of training: of the test rows where "
        "there are some, else of the evaluation rows. Regressions have `mean_absolute_error`, "
        "`mean_squared_error`, `mean_squared_log_error`, `median_absolute_error`, `r2_score`, "
        "`explained_variance`; k-means `davies_bouldin_index`, `mean_squared_distance`; PCA `total_explained_variance_ratio`. Of several "
        "trials `trial_id` comes first. Of one model per group the metrics are over the rows of all "
        "groups; `by_group` gives a row per group, with its columns.",
        "SELECT * FROM ML.EVALUATE(MODEL churn@1, TABLE customers)",
        _QUALITY,
    ),
    Entry(
        "ML.CONFUSION_MATRIX",
        f"ML.CONFUSION_MATRIX(MODEL m [, {_ROWS}] [, STRUCT(0.5 AS threshold, number AS trial_id)])",
        "A row per class that was expected, a column per class that was predicted, in ascending order; "
        "without rows of the evaluation rows of training.",
        "SELECT * FROM ML.CONFUSION_MATRIX(MODEL churn@1, TABLE customers)",
        (("expected_label", "type of the label"), (REST, "a class: how many rows")),
    ),
    Entry(
        "ML.ROC_CURVE",
        f"ML.ROC_CURVE(MODEL m [, {_ROWS}]\n"
        "             [, {GENERATE_ARRAY(start, end, step) | [number, …]}] [, STRUCT(number AS trial_id)])",
        "A row per threshold, of two classes; thresholds left out: 0 and the percentiles of the scores.",
        "SELECT * FROM ML.ROC_CURVE(MODEL churn@1, TABLE customers, GENERATE_ARRAY(0.2, 0.8, 0.2))",
        _JUDGED,
    ),
    Entry(
        "ML.TRIAL_INFO",
        "ML.TRIAL_INFO(MODEL m [, STRUCT(number AS trial_id)])",
        "The trials of a search. With cross-validation the metric has a second, `<metric>_stddev`. "
        "One model per group: the columns of the group and its rows stand behind `trial_id`, "
        "`is_optimal` is by group, and CONSTANT is the status of a group with one class or value.",
        "SELECT * FROM ML.TRIAL_INFO(MODEL churn)",
        (
            ("trial_id", "from 1"),
            ("hyperparameters", "what was searched over; NULL where nothing was"),
            ("hparam_tuning_evaluation_metrics", "the metric that chooses the best"),
            ("training_loss", "at the end"),
            ("eval_loss", "at the end; NULL without evaluation rows"),
            ("status", "SUCCEEDED, STOPPED (by the procedure) or FAILED"),
            ("error_message", "of a trial that failed"),
            ("is_optimal", "whether it is the model"),
        ),
    ),
    Entry(
        "ML.TRAINING_INFO",
        "ML.TRAINING_INFO(MODEL m [, STRUCT(number AS trial_id)])",
        "The epochs of training; of a search those of every trial.",
        "SELECT * FROM ML.TRAINING_INFO(MODEL churn)",
        (
            _TRIAL,
            ("training_run", "from 0: folds, and runs of a warm start"),
            ("iteration", "epoch, from 1"),
            ("loss", "of the training rows"),
            ("eval_loss", "of the evaluation rows; NULL without them"),
            ("learning_rate", "of the epoch"),
            ("duration_ms", "milliseconds"),
        ),
    ),
    Entry(
        "ML.FOLD_INFO",
        "ML.FOLD_INFO(MODEL m [, STRUCT(number AS trial_id)])",
        "The folds of a cross-validation, with every metric.",
        "CREATE OR REPLACE MODEL steady\n"
        "OPTIONS (model_type = 'logistic_reg', input_label_cols = ['churned'], num_folds = 3, max_epochs = 2)\n"
        "AS SELECT age, fee, region, churned FROM customers;\n"
        "SELECT * FROM ML.FOLD_INFO(MODEL steady)",
        (
            _TRIAL,
            ("fold", "from 1"),
            ("rows", "that it is evaluated on"),
            ("epochs", "trained"),
            ("training_loss", "at the end"),
            ("eval_loss", "at the end"),
            *_QUALITY,
        ),
    ),
    Entry(
        "ML.FEATURE_INFO",
        "ML.FEATURE_INFO(MODEL m)",
        "The columns of the training query, over the training rows.",
        "SELECT * FROM ML.FEATURE_INFO(MODEL churn)",
        (
            ("input", "column"),
            ("min", "of numbers; of dates in seconds since 1970"),
            ("max", "as min"),
            ("mean", "as min"),
            ("median", "as min"),
            ("stddev", "as min"),
            ("category_count", "distinct values of a text"),
            ("null_count", "rows without a value"),
            ("dimension", "length of a vector"),
        ),
    ),
    Entry(
        "ML.WEIGHTS",
        "ML.WEIGHTS(MODEL m [, STRUCT(TRUE AS standardize, number AS trial_id)])",
        "The weights of a linear model in the units of its columns; standardised, of inputs of mean 0 "
        "and deviation 1. Of several classes a row per input and class (`class_label`), of several "
        "trials all of them (`trial_id`).",
        "SELECT * FROM ML.WEIGHTS(MODEL churn@1, STRUCT(TRUE AS standardize))",
        (
            ("processed_input", "column, or `__INTERCEPT__`"),
            ("weight", "of a number"),
            ("category_weights", "of a text: each category's"),
        ),
    ),
    Entry(
        "ML.DESCRIBE",
        "ML.DESCRIBE(MODEL m)",
        "The rows of `DESCRIBE MODEL`, to be filtered.",
        "SELECT name, type, value FROM ML.DESCRIBE(MODEL churn) WHERE section = 'feature'",
        (("name", "of the feature"), ("type", "of the column"), ("value", "how it is used")),
    ),
    Entry(
        "ML.COMPARE",
        f"ML.COMPARE(MODEL a, MODEL b, {_ROWS} [, STRUCT(0.5 AS threshold)])",
        "Two models, or versions of one, on the same rows, which are read once. Without the label in "
        "the rows only what says how much predictions differ.",
        "SELECT * FROM ML.COMPARE(MODEL churn@1, MODEL churn@2, TABLE customers)",
        (
            ("metric", "of `ML.EVALUATE`, `different_predictions`, `mean_absolute_difference`"),
            ("first", "its value for a"),
            ("second", "its value for b"),
            ("difference", "second - first"),
        ),
    ),
    Entry(
        "ML.SCHEMA_DRIFT",
        f"ML.SCHEMA_DRIFT(MODEL m, {_ROWS})",
        "What has changed in the rows since training, column by column.",
        "SELECT * FROM ML.SCHEMA_DRIFT(MODEL churn, (SELECT age::VARCHAR AS age, fee, 'west' AS region FROM customers))",
        (
            ("column_name", "of training, or of the rows"),
            ("status", "ok, converted, type changed, missing or extra"),
            ("trained_type", "in training"),
            ("found_type", "in the rows"),
            ("trained_null_share", "missing values in training"),
            ("null_share", "missing values in the rows"),
            ("unseen_share", "values that training had not seen, of those present"),
            ("trained_mean", "of numbers in training"),
            ("mean", "of numbers in the rows"),
        ),
    ),
    Entry(
        "ML.TRANSFORM",
        f"ML.TRANSFORM(MODEL m, {_ROWS})",
        "What the model's TRANSFORM makes of rows; the label where it is there.",
        "CREATE MODEL prepared TRANSFORM (id, ML.MIN_MAX_SCALER(age) OVER () AS age)\n"
        "OPTIONS (model_type = 'transform_only') AS SELECT * FROM customers;\n"
        "SELECT * FROM ML.TRANSFORM(MODEL prepared, TABLE customers)",
        ((REST, "the columns of TRANSFORM"),),
    ),
    Entry(
        "ML.RECONSTRUCTION_LOSS",
        f"ML.RECONSTRUCTION_LOSS(MODEL m, {_ROWS} [, STRUCT(number AS trial_id)])",
        "How far an [autoencoder](../clusters.md) is off for each row: means over its columns as it reads them.",
        "CREATE MODEL squeezed OPTIONS (model_type = 'autoencoder', hidden_units = [8, 2, 8], row_key = ['id'], max_epochs = 2)\n"
        "AS SELECT * FROM visits;\n"
        "SELECT * FROM ML.RECONSTRUCTION_LOSS(MODEL squeezed, TABLE visits)",
        (
            ("mean_absolute_error", "of standardised numbers, and 0 or 1 for each category"),
            ("mean_squared_error", "as training minimises it"),
            ("mean_squared_log_error", "of their logarithms; below 0 counts as 0"),
            (REST, "all columns of the rows"),
        ),
    ),
    Entry(
        "ML.CENTROIDS",
        "ML.CENTROIDS(MODEL m [, STRUCT(number AS trial_id)])",
        "The centroids of a [k-means model](../clusters.md), a row per centroid and column.",
        "CREATE MODEL groups OPTIONS (model_type = 'kmeans', num_clusters = 3, row_key = ['id']) AS SELECT * FROM visits;\n"
        "SELECT * FROM ML.CENTROIDS(MODEL groups)",
        (
            ("centroid_id", "from 1"),
            ("feature", "column"),
            ("numerical_value", "of a number, in its units"),
            ("categorical_value", "of a text: share of each category"),
        ),
    ),
    Entry(
        "ML.PRINCIPAL_COMPONENTS",
        "ML.PRINCIPAL_COMPONENTS(MODEL m)",
        "The components of a PCA, a row per component and column.",
        "CREATE MODEL directions OPTIONS (model_type = 'pca', row_key = ['id']) AS SELECT * FROM visits;\n"
        "SELECT * FROM ML.PRINCIPAL_COMPONENTS(MODEL directions)",
        (
            ("principal_component_id", "from 1, by falling eigenvalue"),
            ("feature", "column"),
            ("numerical_value", "of a number"),
            ("categorical_value", "of a text: each category's"),
        ),
    ),
    Entry(
        "ML.PRINCIPAL_COMPONENT_INFO",
        "ML.PRINCIPAL_COMPONENT_INFO(MODEL m)",
        "How much of the variance each component of a PCA explains.",
        "SELECT * FROM ML.PRINCIPAL_COMPONENT_INFO(MODEL directions)",
        (
            ("principal_component_id", "from 1, by falling eigenvalue"),
            ("eigenvalue", "variance along the component"),
            ("explained_variance_ratio", "its share of the whole"),
            ("cumulative_explained_variance_ratio", "with those before it"),
        ),
    ),
)  # fmt: skip

SYSTEM = (
    Entry(
        "gradbase.leases",
        "SELECT … FROM gradbase.leases",
        "Who holds threads and memory of this process now.",
        "SELECT * FROM gradbase.leases",
        (
            ("id", "of the lease"),
            ("owner", "which part of gradbase"),
            ("purpose", "what for"),
            ("threads", "held"),
            ("bytes", "held"),
            ("since", "when it was given"),
        ),
    ),
    Entry(
        "gradbase.metrics",
        "SELECT … FROM gradbase.metrics",
        "Counters of this process: rows predicted, bytes read, seconds; see [operations](../operations.md).",
        "SELECT * FROM gradbase.metrics",
        (("metric", "its name"), ("value", "since the session began")),
    ),
)  # fmt: skip
"""Tables of the schema that live in the process."""
