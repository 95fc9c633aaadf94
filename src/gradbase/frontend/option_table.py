"""The options of CREATE MODEL as data: one row each, nothing else knows their names or ranges."""

from __future__ import annotations

from dataclasses import replace

from gradbase.frontend.option import Option
from gradbase.ir.grouping import NULL, UNSEEN
from gradbase.ir.learning import METRICS
from gradbase.ir.metrics import MAXIMIZE, MINIMIZE
from gradbase.ir.stepping import CONSTANT, LOSSES, OWN_LOSS, SCHEDULES

LINEAR = ("linear_reg", "logistic_reg")
WIDE = ("dnn_linear_combined_classifier", "dnn_linear_combined_regressor")
"""Wide and deep: a linear part beside hidden layers."""
NETWORKS = ("dnn_classifier", "dnn_regressor", *WIDE)
CLASSIFIERS = ("logistic_reg", "dnn_classifier", WIDE[0])
REGRESSORS = ("linear_reg", "dnn_regressor", WIDE[1])
PERCEPTRONS = (*LINEAR, "dnn_classifier", "dnn_regressor")
PYTHON = "python"
STEPPED = (*PERCEPTRONS, PYTHON)
"""What takes steps by gradients of a loss of one's choice."""
AUTOENCODER = "autoencoder"
SUPERVISED = ("linear_reg", "logistic_reg", *NETWORKS)
MODEL_TYPES = (*SUPERVISED, AUTOENCODER)
TRANSFORM_ONLY = "transform_only"
"""Stores what TRANSFORM learns and trains nothing; it knows no other option."""
KMEANS, PCA = "kmeans", "pca"
UNLABELLED = (KMEANS, PCA)
"""What is solved without a label."""
OFFERED = (*MODEL_TYPES, *UNLABELLED, TRANSFORM_ONLY)
"""Every model type but 'python:module:function'."""
ACTIVATIONS = ("relu", "relu6", "elu", "selu", "gelu", "silu", "sigmoid", "tanh")
OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop", "adagrad")
PROCEDURES = (
    "grid", "random", "tpe", "gp", "successive_halving", "hyperband", "asha", "pbt",
)  # fmt: skip
LINEAR_LEARN_RATE = 0.01
"""Default step of linear models and parts: convex, so a larger one is safe."""
STAGGERED = "staggered"
EXECUTORS = ("auto", "in_process", "processes", "ray")
ACCESS = ("auto", "direct", "targeted", "export")
NORMAL_EQUATION = "normal_equation"
"""How a linear regression is fitted, and the optimiser that does so in one step."""
AUTO_STRATEGY, GRADIENT_DESCENT = "auto_strategy", "batch_gradient_descent"
SPLITS = ("auto_split", "random", "seq", "custom", "no_split", "k_fold")
TASKS = ("classification", "regression")
CLUSTER_OBJECTIVE = METRICS["clusters"][0]
OWN_METRICS = (f"{MINIMIZE}{OWN_LOSS}", f"{MAXIMIZE}{OWN_LOSS}")
OBJECTIVES = (*METRICS["binary"], *METRICS["regression"], CLUSTER_OBJECTIVE)


_NO_CRELU = (("crelu", "it doubles the width of every layer; use relu, elu or selu"),)
_NO_FTRL = (("ftrl", "use adagrad, or adamw with l2_reg"),)

_TRAINED = (*MODEL_TYPES, PYTHON)

_ROWS = (
    Option(
        "model_type", "model_type", "text", None, "What is trained; or 'python:module:name'.",
        models=(*_TRAINED, *UNLABELLED),
    ),
    Option(
        "num_clusters", "solve.clusters", "int", None,
        "Clusters; log10 of the rows, from 2 to 100, if left out.",
        low=2, high=10_000, search="linear", models=(KMEANS,),
    ),
    Option(
        "kmeans_init_method", "solve.init", "choice", "kmeans++",
        "Where centroids start: far from each other, at random rows, at the rows of "
        "kmeans_init_col.", values=("kmeans++", "random", "custom"), models=(KMEANS,),
    ),
    Option(
        "kmeans_init_col", "solve.init_column", "text", "",
        "BOOL column that is TRUE for the rows that are the first centroids.", models=(KMEANS,),
    ),
    Option(
        "distance_type", "solve.distance", "choice", "euclidean",
        "euclidean, or cosine: 1 - the cosine of the angle.", values=("euclidean", "cosine"),
        models=(KMEANS,),
    ),
    Option(
        "standardize_features", "solve.standardize", "bool", True,
        "Whether numbers get mean 0 and deviation 1.", models=(KMEANS,),
    ),
    Option(
        "num_principal_components", "solve.components", "int", None,
        "Components that are kept; all if left out.", low=1, models=(PCA,),
    ),
    Option(
        "pca_explained_variance_ratio", "solve.share", "float", None,
        "As many components as explain this share of the variance.", low=0.0, high=1.0,
        open_low=True, open_high=True, models=(PCA,),
    ),
    Option(
        "scale_features", "solve.standardize", "bool", True,
        "Whether numbers get deviation 1.", models=(PCA,),
    ),
    Option(
        "pca_solver", "", "choice", "full", "Components are exact.", values=("full", "auto"),
        refused=(("randomized", "use 'full'"),), models=(PCA,),
    ),
    Option(
        "input_label_cols", "label", "names", ("label",), "The column to predict.", ("labels",),
        models=(*SUPERVISED, PYTHON),
    ),
    Option(
        "task", "task", "choice", "", "What a python: model does; by the label's type if left out.",
        values=TASKS, models=(PYTHON,),
    ),
    Option(
        "hidden_units", "hidden_units", "layers", None,
        "Sizes of the hidden layers; one layer by the number of rows if left out. Of autoencoders "
        "an odd number of them, the middle one has the latent columns; if left out one of half as "
        "many as there are columns.",
        low=1, search="candidates", models=(*NETWORKS, AUTOENCODER),
    ),
    Option(
        "activation_fn", "activation", "choice", "relu",
        "What stands between layers.", ("activation",),
        values=ACTIVATIONS, refused=_NO_CRELU, search="candidates",
        models=(*NETWORKS, AUTOENCODER),
    ),
    Option(
        "dropout", "dropout", "float", 0.0, "Share of hidden values dropped in training.",
        low=0.0, high=1.0, open_high=True, search="linear", models=(*NETWORKS, AUTOENCODER),
    ),
    Option(
        "l1_reg_activation", "l1_reg_activation", "float", 0.0,
        "Times the sum of absolute latent values of a row, on average: added to the loss.",
        low=0.0, search="log", models=(AUTOENCODER,),
    ),
    Option(
        "optimizer", "optimizer", "choice", "adam",
        "The method that changes the weights; of python: models also 'python:module:function'.",
        values=OPTIMIZERS, refused=_NO_FTRL, search="candidates", prefix=OWN_LOSS,
    ),
    Option(
        "learn_rate", "learn_rate", "float", 0.001, "Step; a range is searched on a log scale.",
        low=0.0, high=1.0, search="log",
    ),
    Option(
        "linear_optimizer", "linear_optimizer", "choice", "adagrad",
        "The optimizer of the linear part; that of `optimizer` if only that is given.",
        values=OPTIMIZERS, refused=_NO_FTRL, search="candidates", models=WIDE,
    ),
    Option(
        "linear_learn_rate", "linear_learn_rate", "float", LINEAR_LEARN_RATE,
        "Step of the linear part; that of `learn_rate` if only that is given.",
        low=0.0, high=1.0, search="log", models=WIDE,
    ),
    Option(
        "l2_reg", "l2_reg", "float", 0.0, "Weight decay; a range is searched on a log scale.",
        low=0.0, search="log",
    ),
    Option(
        "l1_reg", "l1_reg", "float", 0.0,
        "Sets small weights to 0, by a proximal step behind that of sgd or adagrad; of wide and "
        "deep models those of the linear part.",
        low=0.0, search="log",
    ),
    Option(
        "fit_intercept", "fit_intercept", "bool", True,
        "Whether a linear model has a constant term.", models=LINEAR,
    ),
    Option(
        "optimize_strategy", "strategy", "choice", AUTO_STRATEGY,
        "The exact solution, or steps of gradient descent; auto: exact, unless an option speaks of "
        "steps or there are fewer than 10 rows a column.",
        values=(AUTO_STRATEGY, GRADIENT_DESCENT, NORMAL_EQUATION), models=("linear_reg",),
    ),
    Option(
        "learn_rate_strategy", "", "choice", None, "The learning rate of a trial stays the same.",
        values=("constant",),
        refused=(("line_search", "search learn_rate: HPARAM_RANGE(1e-3, 1e-1)"),), models=LINEAR,
    ),
    Option(
        "category_encoding_method", "", "choice", None,
        "Every category has a weight of its own.", values=("one_hot_encoding",),
        refused=(("dummy_encoding", "leave it out: with l2_reg no category must be dropped"),),
        models=LINEAR,
    ),
    Option(
        "calculate_p_values", "", "bool", None, "Standard errors are not computed.",
        refused=(("true", "leave it out; ML.WEIGHTS has the weights"),), models=LINEAR,
    ),
    Option(
        "enable_global_explain", "", "bool", None, "Attributions are not computed.",
        refused=(("true", "of a linear model: ML.WEIGHTS(MODEL m, STRUCT(TRUE AS standardize))"),),
        models=(*SUPERVISED, PYTHON),
    ),
    Option(
        "loss", "loss", "choice", "",
        "Of classes cross_entropy (if left out) or focal, of standardised numbers squared_error "
        "(if left out), absolute_error, huber or log_cosh; or 'python:module:function'.",
        values=LOSSES, models=STEPPED, prefix=OWN_LOSS,
    ),
    Option(
        "clip_norm", "clip_norm", "float", 0.0, "The largest norm of a step's gradients; 0: any.",
        low=0.0, search="log",
    ),
    Option(
        "lr_schedule", "schedule", "choice", CONSTANT,
        "How the learning rate changes from step to step; or 'python:module:function'.",
        values=SCHEDULES, search="candidates", prefix=OWN_LOSS,
    ),
    Option(
        "lr_warmup_epochs", "warmup", "float", 0.0,
        "Epochs in which the learning rate rises to its value.", low=0.0, search="linear",
    ),
    Option(
        "lr_decay", "decay", "float", 0.1, "Factor by epoch (exponential), or by lr_decay_epochs.",
        low=0.0, high=1.0, open_low=True, search="linear",
    ),
    Option(
        "lr_decay_epochs", "decay_epochs", "int", 10, "Epochs between changes (step).", low=1,
        search="linear",
    ),
    Option(
        "momentum", "momentum", "float", 0.0, "Momentum of sgd and rmsprop.",
        low=0.0, high=1.0, open_high=True, search="linear",
    ),
    Option(
        "batch_size", "batch_size", "int", 32, "Rows a step.", low=1, high=65_536, search="log",
    ),
    Option(
        "max_epochs", "epochs", "int", 20, "Passes over the rows.", ("max_iterations",), low=1,
        models=(*_TRAINED, KMEANS),
    ),
    Option(
        "early_stop", "early_stop", "bool", True, "Stop when the loss no longer improves.",
        models=(*_TRAINED, KMEANS),
    ),
    Option(
        "min_rel_progress", "min_rel_progress", "float", 0.01,
        "Relative improvement of the loss below which early_stop ends a trial.", low=0.0,
        models=(*_TRAINED, KMEANS),
    ),
    Option(
        "early_stop_patience", "patience", "int", 1,
        "So many epochs in a row without that improvement end a trial.", ("patience",), low=1,
    ),
    Option(
        "warm_start", "warm_start", "bool", False,
        "Continue the present model; its options hold where none are given.",
    ),
    Option(
        "class_weights", "class_weights", "class_weights", (),
        "What the loss of each class is multiplied by: [STRUCT('yes', 2.0), STRUCT('no', 1.0)].",
        models=(*CLASSIFIERS, PYTHON),
    ),
    Option(
        "instance_weight_col", "weight_column", "text", "",
        "Column with the rows' weights in the training loss; only their ratios matter.",
        models=(*SUPERVISED, PYTHON),
    ),
    Option(
        "auto_class_weights", "auto_class_weights", "bool", False,
        "Weigh classes by rows / (rows of the class * classes).", models=(*CLASSIFIERS, PYTHON),
    ),
    Option(
        "data_split_method", "split.method", "choice", "auto_split",
        "How evaluation and test rows are chosen.", values=SPLITS,
    ),
    Option(
        "data_split_eval_fraction", "split.eval_fraction", "fraction", None,
        "Share of evaluation rows (0.2 with random and seq); alone it means random.",
        low=0.0, high=1.0, open_high=True,
    ),
    Option(
        "data_split_test_fraction", "split.test_fraction", "fraction", None,
        "Share of rows for the final report of a search.", low=0.0, high=1.0, open_high=True,
    ),
    Option(
        "data_split_col", "split.column", "text", "",
        "seq: sort by it; custom: TRUE/NULL is evaluation, or 'TRAIN', 'EVAL', 'TEST'.",
    ),
    Option(
        "num_folds", "split.folds", "int", 0,
        "k_fold: parts that evaluate one after the other (5 if left out); alone it means k_fold.",
        ("folds",), low=2, high=1000,
    ),
    Option(
        "row_key", "row_key", "names", (), "Columns that identify a row.",
        models=(*_TRAINED, *UNLABELLED),
    ),
    Option(
        "group_by", "groups", "names", (),
        "Columns: a model for every group of rows with equal values, NULL being one.",
        models=PERCEPTRONS,
    ),
    Option(
        "unseen_group", "unseen", "choice", NULL,
        "Prediction for rows of a group without a model: NULL, an error, or that of a model over "
        "all rows.", values=UNSEEN, models=PERCEPTRONS,
    ),
    Option(
        "shards", "shards", "int", 0, "Parts of the training rows; 0: rows // 8192, from 1 to 8.",
        low=0, high=4096,
    ),
    Option(
        "seed", "seed", "int", 0, "All random choices follow it.", low=0, search="linear",
        models=(*_TRAINED, *UNLABELLED),
    ),
    Option(
        "hparam_tuning_algorithm", "procedure", "choice", None,
        "How trials are chosen, and which go on; if left out grid where only lists are searched, "
        "else random.",
        values=PROCEDURES,
        synonyms=(
            ("grid_search", "grid"), ("random_search", "random"), ("vizier_default", "gp"),
        ),
        models=(*_TRAINED, KMEANS),
    ),
    Option(
        "hparam_tuning_objectives", "metric", "objectives", None,
        "Chooses the best trial; roc_auc, r2_score or mean_squared_error if left out. Or a "
        "function: 'minimize python:module:function', 'maximize …'.",
        values=OBJECTIVES, prefix=OWN_METRICS,
        models=(*_TRAINED, KMEANS),
    ),
    Option(
        "num_trials", "num_trials", "int", None,
        "Trials; alone it searches the default space; a grid without it is the whole product.",
        low=1, high=100_000, models=(*_TRAINED, KMEANS),
    ),
    Option(
        "max_parallel_trials", "parallel", "int", 8,
        "tpe, gp and asha: trials chosen without knowing of each other's results; how many train "
        "at once is the plan's business.",
        low=1, high=10_000, models=(*_TRAINED, KMEANS),
    ),
    Option(
        "reduction_factor", "reduction_factor", "int", 3,
        "successive_halving, hyperband and asha: one of so many trials goes on at each rung.",
        low=2, high=1000,
    ),
    Option(
        "min_epochs", "min_epochs", "int", 1,
        "successive_halving, hyperband and asha: epochs to the first rung. pbt: epochs between two "
        "changes.",
        low=1, high=100_000,
    ),
    Option(
        "shard_order", "shard_order", "choice", "shared",
        "shared: all trials visit shards in one order; staggered: trial k begins k shards further "
        "on, so that each of several workers can hold other shards.", values=("shared", STAGGERED),
    ),
    Option(
        "executor", "executor", "choice", "auto",
        "Where units train: in this process, in worker processes of this machine, or on Ray, which "
        "is found by RAY_ADDRESS, by an address 'ray://host:port', or started here; auto: in this "
        "process or in others, whichever is expected to be faster.",
        values=EXECUTORS, prefix="ray://",
    ),
    Option(
        "shard_access", "shard_access", "choice", "auto",
        "How other processes get at their rows. direct: they map files that the search wrote "
        "beside the database; targeted: they ask the database for their shards, by row_key and a "
        "side table (PostgreSQL); export: files are sent to them; auto: the fastest of these.",
        values=ACCESS,
    ),
    Option(
        "replicas", "replicas", "int", 0,
        "Parts of each batch (1, 2, 4, …) whose gradients up to so many workers compute for one "
        "trial, added in a fixed order: the result depends on this number, not on the workers. "
        "0: one.", low=0, high=64,
    ),
    Option(
        "workers", "workers", "int", 0, "Units that train at once; 0: as many as pay.",
        low=0, high=1024,
    ),
    Option(
        "threads_per_unit", "threads_per_unit", "int", 0,
        "Threads of a unit; convolutions and attention round otherwise with others. 0: one.",
        low=0, high=256,
    ),
)  # fmt: skip

OPTIONS = tuple(o if o.models else replace(o, models=(*MODEL_TYPES, PYTHON)) for o in _ROWS)
BY_NAME = {n: option for option in OPTIONS for n in (option.name, *option.aliases)}
