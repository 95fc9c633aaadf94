"""What Python says it wants becomes the same TrainingSpec as SQL's."""

from __future__ import annotations

import pytest

import gradbase as gb
from gradbase.errors import BindError
from gradbase.frontend.space import Choice, IntUniform, LogUniform, Uniform


def net(config):
    """A network nobody calls here."""


def test_defaults_are_those_of_create_model():
    spec = gb.search(gb.mlp())
    found = (spec.learn_rate, spec.batch_size, spec.epochs, spec.optimizer, spec.seed)
    assert found == (0.001, 32, 20, "adam", 0)
    assert (spec.procedure, spec.num_trials, spec.space) == ("grid", None, {})


def test_dimensions_become_the_space_in_order():
    spec = gb.search(
        gb.mlp(hidden=gb.choice([64, 32], [128]), dropout=gb.uniform(0.0, 0.5)),
        trials=8, l2_reg=gb.loguniform(1e-6, 1e-2), lr=gb.uniform(0.0, 0.1),
        batch_size=gb.randint(16, 64), early_stop=False, row_key=["id"], split="random",
    )  # fmt: skip
    assert list(spec.space.items()) == [
        ("hidden_units", Choice(((64, 32), (128,)))),
        ("dropout", Uniform(0.0, 0.5)),
        ("learn_rate", Uniform(0.0, 0.1)),
        ("batch_size", IntUniform(16, 64)),
        ("l2_reg", LogUniform(1e-6, 1e-2)),
    ]
    assert (spec.procedure, spec.num_trials, spec.early_stop) == ("random", 8, False)
    assert (spec.row_key, spec.split.method) == (("id",), "random")


def test_every_option_of_create_model_is_a_keyword():
    spec = gb.search(
        gb.mlp(), folds=5, class_weights={"yes": 2, "no": 1.0}, patience=3, l1_reg=0.1,
        optimizer="sgd", min_rel_progress=0.0,
    )  # fmt: skip
    assert (spec.split.method, spec.split.folds) == ("k_fold", 5)
    assert spec.class_weights == (("yes", 2.0), ("no", 1.0))
    assert (spec.patience, spec.l1_reg, spec.min_rel_progress) == (3, 0.1, 0.0)
    found = gb.search(net, weight_column="w", eval_fraction=0.3, width=4)
    assert (found.weight_column, found.split.method, found.extra) == ("w", "random", {"width": 4})


def test_a_network_left_out_says_nothing():
    """So that a model that is continued keeps its own."""
    assert gb.search(gb.mlp(), warm_start=True).said == {"model_type", "warm_start"}
    assert gb.search(gb.mlp(hidden=[4])).said == {"model_type", "hidden_units"}


def test_a_function_has_its_own_configuration():
    spec = gb.search(net, width=gb.choice(8, 16), depth=2, dropout=0.1, lr=gb.choice(0.1, 0.2))
    assert spec.extra == {"depth": 2, "dropout": 0.1}
    assert dict(spec.space) == {"learn_rate": Choice((0.1, 0.2)), "width": Choice((8, 16))}
    assert spec.network.reference.startswith("net@")
    assert spec.model_type == f"python:{spec.network.reference}"
    assert spec.procedure == "grid"
    assert gb.search(net, width=gb.randint(1, 9), trials=3).procedure == "random"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"lr": 5.0}, r"`learn_rate` must be in \[0, 1\], found 5"),
        ({"batch_size": gb.choice(16, 0)}, "`batch_size` must be in"),
        ({"optimizer": "adma"}, "did you mean `adam`"),
        ({"batchsize": 32}, "did you mean `batch_size`"),
        ({"epochs": gb.choice(1, 2)}, "cannot be searched over"),
        ({"metric": "rocauc"}, "did you mean `roc_auc`"),
        ({"class_weights": [1.0, 2.0]}, r"is a list like \[STRUCT"),
        ({"class_weights": {"a": -1.0}}, "the weight of class 'a' must be finite"),
        ({"folds": 1}, r"`num_folds` must be in \[2, 1000\]"),
        ({"folds": 3, "eval_fraction": 0.2}, "found 'k_fold'"),
        ({"warm_start": True, "lr": gb.choice(0.1, 0.2)}, "does not go with a search"),
    ],
)
def test_bad_values_are_refused_with_the_way_out(arguments, text):
    with pytest.raises(BindError, match=text):
        gb.search(gb.mlp(), **arguments)


def test_what_is_no_network_is_refused():
    with pytest.raises(BindError, match=r"a function of the configuration or gb\.mlp"):
        gb.search(17)
