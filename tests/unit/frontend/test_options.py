"""Options are checked against their table; what comes out is what a search is built from."""

from __future__ import annotations

import pytest

from gradbase.errors import BindError, UnsupportedError
from gradbase.frontend import option_table
from gradbase.frontend.cursor import OptionValue
from gradbase.frontend.options import resolve
from gradbase.frontend.space import Choice, IntUniform, LogUniform, Uniform, choice, loguniform
from gradbase.frontend.statements import CreateModel, parse_statement
from gradbase.frontend.training import (
    SolveSpec,
    SplitSpec,
    TrainingSpec,
    default_hidden_units,
    resolve_split,
)
from gradbase.ir.learning import PythonNetwork

NOWHERE = (
    "learn_rate_strategy", "category_encoding_method", "calculate_p_values",
    "enable_global_explain", "pca_solver",
)  # fmt: skip
"""Options that are checked and change nothing."""


def spec(options: str) -> TrainingSpec:
    found = parse_statement(f"CREATE MODEL m OPTIONS ({options}) AS FROM t")
    assert isinstance(found, CreateModel)
    return resolve(found.options)


def test_defaults_of_the_table_are_those_of_the_specification():
    made = TrainingSpec("dnn_classifier")
    parts = {"": made, "split": made.split, "solve": made.solve}
    for option in option_table.OPTIONS:
        if option.default is None or option.field == "label":
            continue
        owner, _, name = option.field.rpartition(".")
        if option.field:
            assert getattr(parts[owner], name) == option.default, option.name
    assert made.label == "label"


def test_every_option_has_a_field_and_a_line_of_documentation():
    parts = {"split": SplitSpec, "solve": SolveSpec}
    fields = set(TrainingSpec.__dataclass_fields__) | {
        f"{part}.{f}" for part, of in parts.items() for f in of.__dataclass_fields__
    }
    for option in option_table.OPTIONS:
        assert option.doc.endswith("."), option.name
        assert option.field in fields or option.name in NOWHERE
        assert bool(option.values) == (option.kind in ("choice", "objectives")), option.name


@pytest.mark.parametrize(
    ("options", "searched"),
    [
        (
            "model_type = 'dnn_classifier'",
            {
                "learn_rate": LogUniform(1e-5, 0.1),
                "optimizer": Choice(option_table.OPTIMIZERS),
                "batch_size": IntUniform(16, 1024, log=True),
                "dropout": Uniform(0.0, 0.8),
                "l2_reg": LogUniform(1e-14, 10.0),
            },
        ),
        (
            "model_type = 'dnn_regressor', learn_rate = 0.1, dropout = 0, optimizer = 'sgd'",
            {"batch_size": IntUniform(16, 1024, log=True), "l2_reg": LogUniform(1e-14, 10.0)},
        ),
        (
            "model_type = 'linear_reg'",
            {"l1_reg": LogUniform(1e-14, 10.0), "l2_reg": LogUniform(1e-14, 10.0)},
        ),
        ("model_type = 'logistic_reg', optimizer = 'adam'", {"l2_reg": LogUniform(1e-14, 10.0)}),
        (
            "model_type = 'linear_reg', optimize_strategy = 'normal_equation'",
            {"l2_reg": LogUniform(1e-14, 10.0)},
        ),
        (
            "model_type = 'logistic_reg', l2_reg = HPARAM_CANDIDATES([0, 1])",
            {"l2_reg": Choice((0.0, 1.0))},
        ),
        ("model_type = 'python:a:b'", {}),
    ],
)
def test_trials_alone_search_the_default_space(options, searched):
    """What is set is not searched; a space that is given is the whole space."""
    assert spec(f"{options}, num_trials = 2").space == searched


def test_one_trial_searches_nothing():
    assert spec("model_type = 'dnn_classifier', num_trials = 1").space == {}


def test_from_python_a_search_names_its_space():
    given = {"model_type": OptionValue("dnn_classifier"), "num_trials": OptionValue(3)}
    assert resolve(given).space == {}


def test_bigquerys_defaults():
    found = spec("model_type = 'DNN_Classifier'")

    assert (found.label, found.task, found.metric) == ("label", "classification", "roc_auc")
    assert (found.epochs, found.batch_size, found.learn_rate) == (20, 32, 0.001)
    assert (found.optimizer, found.activation, found.early_stop) == ("adam", "relu", True)
    assert (found.hidden_units, found.split.method, found.tuned) == (None, "auto_split", False)
    assert spec("model_type = 'linear_reg'").hidden_units == ()
    assert spec("model_type = 'linear_reg'").metric == "r2_score"


@pytest.mark.parametrize(
    ("options", "field", "expected"),
    [
        ("max_iterations = 3", "epochs", 3),
        ("labels = ['y']", "label", "y"),
        ("input_label_cols = 'y'", "label", "y"),
        ("hidden_units = [64, 32]", "hidden_units", (64, 32)),
        ("hidden_units = STRUCT([64])", "hidden_units", (64,)),
        ("OPTIMIZER = 'AdamW'", "optimizer", "adamw"),
        ("activation_fn = 'TANH'", "activation", "tanh"),
        ("row_key = ['a', 'b']", "row_key", ("a", "b")),
        ("hparam_tuning_algorithm = 'RANDOM_SEARCH'", "procedure", "random"),
        ("hparam_tuning_algorithm = 'GRID_SEARCH'", "procedure", "grid"),
        ("num_trials = 8", "procedure", "random"),
        ("batch_size = HPARAM_CANDIDATES([16, 32])", "procedure", "grid"),
        ("batch_size = HPARAM_RANGE(16, 32)", "procedure", "random"),
        ("hparam_tuning_objectives = ['LOG_LOSS']", "metric", "log_loss"),
        (
            "data_split_method = 'SEQ', data_split_col = 'd', data_split_eval_fraction = 0.3",
            "split",
            SplitSpec("seq", 0.3, None, "d"),
        ),
        ("max_parallel_trials = 3", "parallel", 3),
        ("hparam_tuning_algorithm = 'vizier_default'", "procedure", "gp"),
        ("data_split_eval_fraction = 0.3", "split", SplitSpec("random", 0.3)),
        ("patience = 3", "patience", 3),
        (
            "class_weights = [STRUCT('yes' AS label, 2), STRUCT(FALSE, 0.5), STRUCT(3, 1)]",
            "class_weights",
            (("yes", 2.0), ("false", 0.5), ("3", 1.0)),
        ),
        ("instance_weight_col = 'w'", "weight_column", "w"),
        ("optimizer = 'sgd', l1_reg = 0.1", "l1_reg", 0.1),
        ("l1_reg = 0", "optimizer", "adam"),
    ],
)
def test_values(options, field, expected):
    assert getattr(spec(f"model_type = 'dnn_classifier', {options}"), field) == expected


def test_a_sparse_linear_model_takes_the_optimizer_that_has_a_proximal_step():
    assert spec("model_type = 'linear_reg', l1_reg = 0.1").optimizer == "sgd"
    assert (
        spec("model_type = 'linear_reg', l1_reg = HPARAM_RANGE(1e-4, 1), num_trials = 3").optimizer
        == "sgd"
    )
    assert (
        spec("model_type = 'linear_reg', l1_reg = 0.1, optimizer = 'adagrad'").optimizer
        == "adagrad"
    )


def test_what_was_said_is_remembered():
    assert spec("model_type = 'linear_reg', max_iterations = 20").said == {"model_type", "epochs"}


def test_search_spaces():
    found = spec(
        "model_type = 'dnn_regressor', learn_rate = HPARAM_RANGE(0, 0.1), dropout = HPARAM_RANGE(0, 0.5),"
        "l2_reg = HPARAM_RANGE(1e-6, 1), batch_size = HPARAM_RANGE(16, 64), seed = HPARAM_CANDIDATES([1, 2]),"
        "hidden_units = HPARAM_CANDIDATES([STRUCT([64, 32]), [128]]), num_trials = 4"
    )

    assert found.space == {
        "learn_rate": LogUniform(1e-14, 0.1),
        "dropout": Uniform(0.0, 0.5),
        "l2_reg": LogUniform(1e-6, 1.0),
        "batch_size": IntUniform(16, 64, log=True),
        "seed": Choice((1, 2)),
        "hidden_units": Choice(((64, 32), (128,))),
    }
    assert found.tuned


def test_a_python_model_takes_options_of_its_own():
    found = spec(
        "model_type = 'python:pkg.mod:net', width = HPARAM_RANGE(2, 9), Depth = 3, seed = 5"
    )

    assert found.network == PythonNetwork("pkg.mod:net", "{}")
    assert (found.space, found.extra, found.seed) == ({"width": IntUniform(2, 9)}, {"depth": 3}, 5)
    assert (found.model_type, found.task, found.metric) == ("python:pkg.mod:net", "", "")


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ("seed = 1", BindError, r"needs the option model_type"),
        ("model_type = 'dnn_clasifier'", BindError, r"did you mean `dnn_classifier`"),
        ("model_type = 'matrix_factorization'", UnsupportedError, r"is not offered yet"),
        ("{a}, hidden_units = [4, 2]", BindError, r"odd number of layers, found \[4, 2\]"),
        ("{a}, hidden_units = HPARAM_CANDIDATES([[3], [4, 2]])", BindError, r"found \[4, 2\]"),
        ("{a}, input_label_cols = ['y']", BindError, "not one of autoencoder models"),
        ("{a}, hparam_tuning_objectives = ['r2_score']", BindError, "no metric of autoencoder"),
        ("{a}, l1_reg_activation = -1", BindError, "at least 0"),
        ("model_type = 'random_forest_regressor'", UnsupportedError, "import_model"),
        (
            "{w}, optimizer = [STRUCT('dnn', 'adam'), STRUCT('linear', 'ftrl')]",
            UnsupportedError,
            "adagrad",
        ),
        (
            "{w}, optimizer = [STRUCT('deep', 'adam')]",
            BindError,
            "no part 'deep'; there are dnn, linear",
        ),
        (
            "{w}, learn_rate = [STRUCT('dnn', 0.1), STRUCT('DNN', 0.1)]",
            BindError,
            "part 'DNN' twice",
        ),
        ("{w}, learn_rate = [0.1]", BindError, r"one value, or a list like \[STRUCT\('dnn', …\)"),
        (
            "{w}, learn_rate = [STRUCT('linear', 2.0)]",
            BindError,
            r"`linear_learn_rate` must be in \[0, 1\]",
        ),
        (
            "{w}, linear_optimizer = 'sgd', optimizer = [STRUCT('linear', 'sgd')]",
            BindError,
            "`linear_optimizer` is given twice",
        ),
        ("{w}, linear_optimizer = 'adam', l1_reg = 0.1", BindError, "set linear_optimizer = 'sgd'"),
        ("{w}, optimizer = 'adam', l1_reg = 0.1", BindError, "set optimizer = 'sgd'"),
        ("{d}, linear_optimizer = 'adam'", BindError, "not one of dnn_classifier models"),
        ("model_type = 'python:nofunction'", BindError, r"python:package.module:function"),
        ("{d}, learn_rat = 1", BindError, r"`learn_rat`(.|\n)*\^{{9}}(.|\n)*`learn_rate`"),
        (
            "model_type = 'linear_reg', hidden_units = [3]",
            BindError,
            r"not one of linear_reg models",
        ),
        ("{d}, class_weights = ['a']", BindError, r"is a list like \[STRUCT"),
        ("{d}, class_weights = []", BindError, r"is a list like \[STRUCT"),
        ("{d}, class_weights = [STRUCT('a', -1)]", BindError, r"class 'a' must be finite and at"),
        ("{d}, class_weights = [STRUCT('a', 1), STRUCT('a', 2)]", BindError, r"names 'a' twice"),
        ("{d}, class_weights = [STRUCT('a', 0)]", BindError, r"are all 0"),
        (
            "{d}, class_weights = [STRUCT('a', 1)], auto_class_weights = TRUE",
            BindError,
            r"class_weights and auto_class_weights exclude each other",
        ),
        (
            "{d}, instance_weight_col = 'w', class_weights = [STRUCT('a', 1)]",
            BindError,
            r"exclude each other(.|\n)*multiply the class's weight",
        ),
        (
            "model_type = 'linear_reg', auto_class_weights = TRUE",
            BindError,
            r"not one of linear_reg models",
        ),
        ("{d}, l1_reg = 0.1", BindError, r"goes with optimizer sgd or adagrad, found adam"),
        (
            "{d}, l1_reg = HPARAM_CANDIDATES([0.0, 0.1]), optimizer = HPARAM_CANDIDATES(['sgd', 'rmsprop'])",
            BindError,
            r"l1_reg goes with optimizer sgd or adagrad, found rmsprop",
        ),
        ("{d}, fit_intercept = FALSE", BindError, r"not one of dnn_classifier models"),
        ("{d}, early_stop_patience = 0", BindError, r"must be at least 1, found 0"),
        ("{d}, min_rel_progress = -1", BindError, r"must be at least 0, found -1"),
        ("{d}, patience = 2, early_stop_patience = 3", BindError, r"is given twice"),
        (
            "model_type = 'linear_reg', optimize_strategy = 'normal_equation', learn_rate = 0.1",
            BindError,
            r"solves in one step, `learn_rate` is of gradient descent",
        ),
        (
            "model_type = 'linear_reg', learn_rate_strategy = 'line_search'",
            UnsupportedError,
            r"'line_search' is not offered",
        ),
        (
            "{d}, data_split_method = 'no_split', data_split_eval_fraction = 0.2",
            BindError,
            r"goes with data_split_method 'random' or 'seq', found 'no_split'",
        ),
        (
            "{d}, data_split_test_fraction = 0.85",
            BindError,
            r"take 1\.05 of all rows",
        ),
        ("{d}, ls_init_learn_rate = 0.1", UnsupportedError, r"is not offered yet"),
        (
            "{d}, enable_global_explain = TRUE",
            UnsupportedError,
            r"'true' is not offered\n(.|\n)*ML.WEIGHTS",
        ),
        ("{d}, kms_key_name = 'k'", UnsupportedError, r"cloud"),
        ("{d}, optimizer = 'FTRL'", UnsupportedError, r"'ftrl'(.|\n)*adagrad"),
        ("{d}, optimizer = 'adma'", BindError, r"did you mean `adam`"),
        ("{d}, activation_fn = 'crelu'", UnsupportedError, r"doubles the width"),
        ("{d}, learn_rate = 2", BindError, r"in \[0, 1\], found 2"),
        ("{d}, learn_rate = 'x'", BindError, r"is a number, found 'x'"),
        ("{d}, dropout = 1", BindError, r"in \[0, 1\)"),
        ("{d}, batch_size = 1.5", BindError, r"a whole number"),
        ("{d}, batch_size = 0", BindError, r"in \[1, 65536\]"),
        ("{d}, early_stop = 1", BindError, r"TRUE or FALSE"),
        ("{d}, hidden_units = [0]", BindError, r"layer sizes"),
        ("{d}, labels = ['a', 'b']", BindError, r"one label column, found 2"),
        ("{d}, data_split_eval_fraction = 20", BindError, r"not percent(.|\n)*write 0\.2"),
        (
            "{d}, data_split_eval_fraction = 0.6, data_split_test_fraction = 0.4",
            BindError,
            r"nothing is left to train on",
        ),
        ("{d}, data_split_method = 'custom'", BindError, r"needs data_split_col"),
        ("{d}, data_split_col = 'a'", BindError, r"goes with data_split_method"),
        ("{d}, hparam_tuning_algorithm = 'annealing'", BindError, r"grid"),
        (
            "{d}, hparam_tuning_algorithm = 'grid', dropout = HPARAM_RANGE(0, 0.5)",
            BindError,
            r"a grid needs listed values, `dropout` is a range",
        ),
        (
            "{d}, hidden_units = HPARAM_RANGE(1, 8)",
            BindError,
            r"has no range(.|\n)*HPARAM_CANDIDATES",
        ),
        ("{d}, max_epochs = HPARAM_RANGE(1, 8)", BindError, r"cannot be searched"),
        ("{d}, learn_rate = HPARAM_RANGE(0.1, 0.01)", BindError, r"from a smaller to a larger"),
        ("{d}, hparam_tuning_objectives = ['r2_score']", BindError, r"no metric of dnn_classifier"),
        ("{d}, hparam_tuning_objectives = ['a', 'b']", BindError, r"takes one metric"),
        ("{d}, num_trials = 0", BindError, r"in \[1, 100000\]"),
    ],
)
def test_errors_name_the_option_and_the_way_out(options, error, text):
    kinds = {"{d}": "dnn_classifier", "{w}": "dnn_linear_combined_classifier", "{a}": "autoencoder"}
    for short, kind in kinds.items():
        options = options.replace(short, f"model_type = '{kind}'")
    with pytest.raises(error, match=text.replace("{{", "{").replace("}}", "}")):
        spec(options)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", ("adam", 0.001, "adagrad", 0.01)),
        ("learn_rate = 0.1, optimizer = 'sgd'", ("sgd", 0.1, "", None)),
        ("linear_learn_rate = 0.2, optimizer = 'sgd'", ("sgd", 0.001, "", 0.2)),
        ("learn_rate = [STRUCT('linear', 0.2)]", ("adam", 0.001, "adagrad", 0.2)),
        (
            "optimizer = [STRUCT('dnn', 'adamw'), STRUCT('linear', 'SGD')]",
            ("adamw", 0.001, "sgd", 0.01),
        ),
    ],
)
def test_each_part_of_a_wide_and_deep_model_has_its_step(options, expected):
    found = spec(f"model_type = 'DNN_LINEAR_COMBINED_REGRESSOR', {options}".rstrip(", "))
    both = (found.linear_optimizer, found.linear_learn_rate)
    assert (found.optimizer, found.learn_rate, *both) == expected


@pytest.mark.parametrize(
    ("split", "rows", "tuned", "expected"),
    [
        (SplitSpec(), 499, True, ("none", 0, 0)),
        (SplitSpec(), 500, False, ("random", 0.2, 0)),
        (SplitSpec(), 100_000, False, ("random", 0.1, 0)),
        (SplitSpec(), 100_000, True, ("random", 0.1, 0.1)),
        (SplitSpec("random"), 100, True, ("none", 0, 0)),
        (SplitSpec("random", 0.3), 100, True, ("random", 0.3, 0)),
        (SplitSpec("random", None, 0.1), 100, True, ("random", 0.2, 0.1)),
        (SplitSpec("no_split"), 1000, True, ("none", 0, 0)),
        (SplitSpec("custom", column="c"), 1000, True, ("custom", 0, 0)),
        (SplitSpec("seq", column="c"), 1000, False, ("seq", 0.2, 0)),
    ],
)
def test_splits_follow_bigquery(split, rows, tuned, expected):
    found = resolve_split(split, rows, tuned=tuned)

    assert (found.method, found.eval_fraction, found.test_fraction) == expected
    assert found.column == split.column


def test_hidden_units_left_out_follow_the_rows():
    assert default_hidden_units(10, 4, 1) == (1,)
    assert default_hidden_units(10**7, 9, 1) == (128,)


def test_spaces_refuse_what_cannot_be_sampled():
    with pytest.raises(BindError, match="above 0"):
        loguniform(0, 1)
    with pytest.raises(BindError, match="at least one value"):
        choice()
