"""An example of every option of CREATE MODEL: (options, model type, rows).

An empty type stands for the first that knows the option, networks preferred; rows are those of
`documented.TABLES`, with the label left in.
"""

from __future__ import annotations

CHURN = "SELECT * EXCLUDE (note) FROM customers"
VISITS = "SELECT * FROM visits"

OPTION_EXAMPLES: dict[str, tuple[str, str, str]] = {
    "model_type": ("", "", CHURN),
    "num_clusters": ("num_clusters = HPARAM_RANGE(2, 4), num_trials = 2", "kmeans", VISITS),
    "kmeans_init_method": ("num_clusters = 3, kmeans_init_method = 'random'", "kmeans", VISITS),
    "kmeans_init_col": (
        "num_clusters = 3, kmeans_init_method = 'custom', kmeans_init_col = 'starts'",
        "kmeans", "SELECT *, id < 3 AS starts FROM visits",
    ),
    "distance_type": ("num_clusters = 3, distance_type = 'cosine'", "kmeans", VISITS),
    "standardize_features": ("num_clusters = 3, standardize_features = FALSE", "kmeans", VISITS),
    "num_principal_components": ("num_principal_components = 2", "pca", VISITS),
    "pca_explained_variance_ratio": ("pca_explained_variance_ratio = 0.9", "pca", VISITS),
    "scale_features": ("scale_features = FALSE", "pca", VISITS),
    "pca_solver": ("pca_solver = 'full'", "pca", VISITS),
    "input_label_cols": ("", "", CHURN),
    "task": ("task = 'classification'", "python:nets:small", "SELECT id, age, fee, churned FROM customers"),
    "hidden_units": ("hidden_units = HPARAM_CANDIDATES([STRUCT([8]), STRUCT([8, 4])])", "", CHURN),
    "activation_fn": ("activation_fn = 'gelu'", "", CHURN),
    "dropout": ("dropout = HPARAM_RANGE(0.0, 0.5), num_trials = 2", "", CHURN),
    "l1_reg_activation": ("hidden_units = [8, 2, 8], l1_reg_activation = 0.01", "autoencoder", VISITS),
    "optimizer": ("optimizer = 'adamw'", "", CHURN),
    "learn_rate": ("learn_rate = HPARAM_RANGE(0.001, 0.1), num_trials = 2", "", CHURN),
    "linear_optimizer": ("optimizer = [STRUCT('dnn', 'adam'), STRUCT('linear', 'sgd')]", "dnn_linear_combined_classifier", CHURN),
    "linear_learn_rate": (
        "linear_learn_rate = HPARAM_RANGE(0.01, 0.5), num_trials = 2", "dnn_linear_combined_classifier", CHURN,
    ),
    "l2_reg": ("l2_reg = 0.01", "", CHURN),
    "l1_reg": ("l1_reg = 0.1, optimizer = 'sgd'", "logistic_reg", CHURN),
    "fit_intercept": ("fit_intercept = FALSE", "linear_reg", VISITS),
    "optimize_strategy": ("optimize_strategy = 'normal_equation'", "linear_reg", VISITS),
    "learn_rate_strategy": ("learn_rate_strategy = 'constant', learn_rate = 0.1", "linear_reg", VISITS),
    "category_encoding_method": ("category_encoding_method = 'one_hot_encoding'", "logistic_reg", CHURN),
    "calculate_p_values": ("calculate_p_values = FALSE", "linear_reg", VISITS),
    "enable_global_explain": ("enable_global_explain = FALSE", "", CHURN),
    "loss": ("loss = 'focal'", "", CHURN),
    "clip_norm": ("clip_norm = 1.0", "", CHURN),
    "lr_schedule": ("lr_schedule = 'cosine', lr_warmup_epochs = 0.5", "", CHURN),
    "lr_warmup_epochs": ("lr_warmup_epochs = 1", "", CHURN),
    "lr_decay": ("lr_schedule = 'exponential', lr_decay = 0.8", "", CHURN),
    "lr_decay_epochs": ("lr_schedule = 'step', lr_decay = 0.5, lr_decay_epochs = 1", "", CHURN),
    "momentum": ("momentum = 0.9, optimizer = 'sgd'", "", CHURN),
    "batch_size": ("batch_size = HPARAM_CANDIDATES([32, 64])", "", CHURN),
    "max_epochs": ("max_epochs = 3", "", CHURN),
    "early_stop": ("early_stop = FALSE", "", CHURN),
    "min_rel_progress": ("min_rel_progress = 0.001", "", CHURN),
    "early_stop_patience": ("early_stop_patience = 2", "", CHURN),
    "warm_start": ("warm_start = TRUE, learn_rate = 0.001", "", CHURN),
    "class_weights": ("class_weights = [STRUCT('yes', 2.0), STRUCT('no', 1.0)]", "", CHURN),
    "instance_weight_col": ("instance_weight_col = 'trust'", "", "SELECT *, 1 + id % 3 AS trust FROM customers"),
    "auto_class_weights": ("auto_class_weights = TRUE", "", CHURN),
    "data_split_method": ("data_split_method = 'no_split'", "", CHURN),
    "data_split_eval_fraction": ("data_split_eval_fraction = 0.3", "", CHURN),
    "data_split_test_fraction": ("data_split_test_fraction = 0.1, data_split_eval_fraction = 0.1", "", CHURN),
    "data_split_col": (
        "data_split_col = 'joined', data_split_method = 'seq', data_split_eval_fraction = 0.2", "", CHURN,
    ),
    "num_folds": ("num_folds = 3", "", CHURN),
    "row_key": ("", "", CHURN),
    "group_by": ("group_by = ['region']", "", CHURN),
    "unseen_group": ("group_by = ['region'], unseen_group = 'pooled'", "", CHURN),
    "shards": ("shards = 2", "", CHURN),
    "seed": ("seed = 7", "", CHURN),
    "hparam_tuning_algorithm": (
        "hparam_tuning_algorithm = 'random', num_trials = 3, learn_rate = HPARAM_CANDIDATES([0.01, 0.03, 0.1])",
        "", CHURN,
    ),
    "hparam_tuning_objectives": (
        "hparam_tuning_objectives = ['log_loss'], learn_rate = HPARAM_CANDIDATES([0.01, 0.1])", "", CHURN,
    ),
    "num_trials": ("num_trials = 2", "logistic_reg", CHURN),
    "max_parallel_trials": (
        "max_parallel_trials = 2, hparam_tuning_algorithm = 'tpe', num_trials = 4, learn_rate = HPARAM_RANGE(0.001, 0.1)",
        "", CHURN,
    ),
    "reduction_factor": (
        "reduction_factor = 2, hparam_tuning_algorithm = 'asha', num_trials = 4, learn_rate = HPARAM_RANGE(0.001, 0.1)",
        "", CHURN,
    ),
    "min_epochs": (
        "min_epochs = 2, hparam_tuning_algorithm = 'asha', max_epochs = 6, num_trials = 3, learn_rate = HPARAM_RANGE(0.001, 0.1)",
        "", CHURN,
    ),
    "shard_order": ("shard_order = 'staggered', shards = 2, num_trials = 2", "logistic_reg", CHURN),
    "shard_access": ("shard_access = 'direct'", "", CHURN),
    "replicas": ("replicas = 2", "logistic_reg", CHURN),
    "executor": ("executor = 'in_process'", "", CHURN),
    "workers": ("workers = 2, num_trials = 2", "logistic_reg", CHURN),
    "threads_per_unit": ("threads_per_unit = 1", "", CHURN),
}  # fmt: skip
