"""Trials that go wrong: alone they fail visibly, together they fail the statement."""

from __future__ import annotations

import importlib
import sys

import pytest
import torch
from torch import nn

import gradbase as gb
import shop
from gradbase.errors import BindError, ShapeError, TrainingError, UnsupportedError

WILD = {
    "optimizer": "sgd", "momentum": 0.9, "max_epochs": 8, "hidden_units": [8],
    "learn_rate": shop.Sql("HPARAM_CANDIDATES([0.01, 1.0])"),
    "l2_reg": shop.Sql("HPARAM_CANDIDATES([0.0, 1e6])"),
}  # fmt: skip


@pytest.mark.parametrize("disabled", ["", "fuse_fits"])
def test_losses_that_are_not_finite_fail_their_trials_only(db, disabled):
    db.sql(f"SET gradbase.disabled_rules = '{disabled}'")
    (row,) = db.sql(shop.create_model("m", **WILD)).fetchall()
    rows = db.sql(
        "SELECT trial_id, status, error_message, is_optimal FROM ML.TRIAL_INFO(MODEL m) ORDER BY 1"
    ).fetchall()
    failed = [r[0] for r in rows if r[1] == "FAILED"]
    assert 0 < len(failed) < 4
    assert (row[2], row[3]) == (4, len(failed))
    assert all("loss of trial" in r[2] and "learn_rate" in r[2] for r in rows if r[1] == "FAILED")
    assert not any(r[3] for r in rows if r[1] == "FAILED")
    with pytest.raises(BindError, match=f"trial {failed[0]} of model `m` cannot be used: FAILED"):
        db.sql(
            f"SELECT * FROM ML.PREDICT(MODEL m, TABLE customers, STRUCT({failed[0]} AS trial_id))"
        ).arrow()


def test_losses_that_are_never_finite_make_no_model(db):
    options = {**WILD, "learn_rate": 1.0, "l2_reg": 1e6}
    with pytest.raises(TrainingError, match=r"(?s)all 1 trials of `m` failed.*learn_rate"):
        db.sql(shop.create_model("m", **options))
    assert db.sql("SHOW MODELS").fetchall() == []
    assert shop.leftovers(db) == []
    (run,) = db.sql("SELECT status, error FROM gradbase.runs").fetchall()
    assert run[0] == "FAILED"
    assert "became" in run[1]


# -- Python models -----------------------------------------------------------------------------


def raises(config):
    raise ValueError("no such width")


def no_module(config):
    return 7


def wrong_shape(config):
    return nn.Linear(config["n_inputs"], config["n_outputs"] + 2)


def wrong_input(config):
    return nn.Linear(3, config["n_outputs"])


class Late(nn.Linear):
    """Fails while it trains."""

    def forward(self, x):
        if self.training:
            raise RuntimeError("only fit for prediction")
        return super().forward(x)


def late(config):
    return Late(config["n_inputs"], config["n_outputs"])


class Noisy(nn.Linear):
    """Cannot be stored."""

    def forward(self, x):
        return super().forward(x) + 1e-6 * torch.rand(1)


def noisy(config):
    return Noisy(config["n_inputs"], config["n_outputs"])


MODULES = {
    raises: (TrainingError, "raised ValueError: no such width"),
    no_module: (TrainingError, "must return a torch.nn.Module, it returned int"),
    wrong_shape: (TrainingError, "must return Tensor[4, 1] for 4 rows, it returned [4, 3]"),
    wrong_input: (TrainingError, "it is given every feature as one row of"),
    late: (TrainingError, "raised RuntimeError: only fit for prediction"),
    noisy: (UnsupportedError, "cannot be stored"),
}


@pytest.mark.parametrize("function", MODULES, ids=lambda f: f.__name__)
def test_a_module_that_cannot_be_used(db, function):
    kind, words = MODULES[function]
    search = gb.search(function, epochs=1, seed=3)
    with pytest.raises(kind) as error:
        db.table(shop.rows_for("churned")).fit(search, target="churned", name="m")
    assert words in str(error.value)
    assert db.store.names() == ()
    assert shop.leftovers(db) == []


def test_a_module_that_fails_for_some_configurations(db):
    def net(config):
        if config["width"] == 3:
            raise ValueError("three is unlucky")
        return nn.Sequential(
            nn.Linear(config["n_inputs"], config["width"]), nn.ReLU(),
            nn.Linear(config["width"], config["n_outputs"]),
        )  # fmt: skip

    search = gb.search(net, width=gb.choice(3, 4), epochs=1, seed=3)
    study = db.table(shop.rows_for("churned")).fit(search, target="churned", name="m")
    assert [r["status"] for r in study.rows] == ["FAILED", "SUCCEEDED"]
    assert "three is unlucky" in study.rows[0]["error"]
    assert study.best_trial == 2


def test_the_global_generator_of_torch_is_left_alone(db):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    db.sql(shop.create_model("m", dropout=0.2))
    assert torch.equal(torch.get_rng_state(), before)


# -- python: in SQL ----------------------------------------------------------------------------

MODULE = """
import torch
def net(config):
    return torch.nn.Linear(config["n_inputs"], config["n_outputs"])
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder on Python's path with the module `my_networks`."""
    (tmp_path / "my_networks.py").write_text(MODULE)
    (tmp_path / "broken_networks.py").write_text("import nothing_of_that_name")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("my_networks", "broken_networks"):
        sys.modules.pop(name, None)


def python_model(reference):
    return shop.create_model("m", model_type=f"python:{reference}", hidden_units=None, max_epochs=1)


def test_a_module_that_was_not_named_is_not_imported(home, tmp_path):
    with gb.connect(progress=False) as db:
        shop.load(db)
        with pytest.raises(BindError, match=r"(?s)`my_networks` was not named.*python_modules="):
            db.sql(python_model("my_networks:net"))
        assert "my_networks" not in sys.modules
        assert shop.leftovers(db) == []


REFERENCES = {
    "my_networks:nett": r"has no function `nett`\n.*did you mean `net`",
    "broken_networks:net": "cannot be imported: ModuleNotFoundError",
    "my_networks": "names no function",
}


@pytest.mark.parametrize("reference", REFERENCES)
def test_a_function_that_cannot_be_found(home, reference):
    with gb.connect(progress=False, python_modules=["my_networks", "broken_networks"]) as db:
        shop.load(db)
        with pytest.raises(BindError, match=REFERENCES[reference]):
            db.sql(python_model(reference))


def test_predicting_needs_the_module_no_more(home, tmp_path):
    """The trained program is stored; another session predicts without user code."""
    path = str(tmp_path / "p.duckdb")
    with gb.connect(path, progress=False, python_modules=["my_networks"]) as db:
        shop.load(db)
        db.sql(python_model("my_networks:net"))
    sys.modules.pop("my_networks")
    with gb.connect(path, progress=False) as db:
        rows = db.sql("SELECT count(PREDICT(m, *)) FROM customers").fetchall()
    assert rows == [(shop.ROWS,)]
    assert "my_networks" not in sys.modules


# -- modules that cannot be traced -----------------------------------------------------------------

BRANCHING = """
import torch

class Branching(torch.nn.Sequential):
    def forward(self, x):
        y = super().forward(x)
        return y * 2 if float(y.detach().sum()) > 1e30 else y

def net(config):
    inner = torch.nn.BatchNorm1d(config["n_inputs"])
    return Branching(inner, torch.nn.Linear(config["n_inputs"], config["n_outputs"]))
"""
PROBA = "SELECT id, PREDICT_PROBA(m, *) AS p FROM customers ORDER BY id"


@pytest.fixture
def untraced(home, tmp_path, caplog):
    """The path of a database whose model `m` is stored by reference, and what it predicted."""
    (home / "my_networks.py").write_text(BRANCHING)
    path = str(tmp_path / "p.duckdb")
    with gb.connect(path, progress=False, python_modules=["my_networks"]) as db:
        shop.load(db)
        db.sql(python_model("my_networks:net"))
        expected = db.sql(PROBA).fetchall()
    assert "stored by reference to the function `my_networks:net`" in caplog.text
    return path, expected


def test_a_module_that_cannot_be_traced_is_called_again(untraced):
    path, expected = untraced
    with gb.connect(path, progress=False, python_modules=["my_networks"]) as db:
        for representation in ("dl", "udf"):
            db.sql(f"SET gradbase.representation = '{representation}'")
            found = db.sql(PROBA).fetchall()
            assert [r[0] for r in found] == [r[0] for r in expected]
            assert [r[1] for r in found] == pytest.approx([r[1] for r in expected], abs=1e-6)
        assert 0 < expected[0][1] < 1


def test_without_the_module_such_a_model_cannot_predict(untraced):
    with (
        gb.connect(untraced[0], progress=False) as db,
        pytest.raises(BindError, match=r"(?s)`my_networks` was not named.*python_modules="),
    ):
        db.sql(PROBA).fetchall()


def test_a_function_that_changed_since_is_refused(untraced, home):
    changed = BRANCHING.replace("inner = ", "inner = None or ")
    (home / "my_networks.py").write_text(changed)
    sys.modules.pop("my_networks")
    importlib.invalidate_caches()
    with (
        gb.connect(untraced[0], progress=False, python_modules=["my_networks"]) as db,
        pytest.raises(BindError, match="`my_networks:net` has changed since"),
    ):
        db.sql(PROBA).fetchall()


def test_a_module_of_another_shape_than_the_trained_one(untraced, home):
    changed = BRANCHING.replace("x)\n        return y * 2", "x)\n        return y * 3").replace(
        "class Branching(torch.nn.Sequential):",
        "class Branching(torch.nn.Sequential):\n    def __init__(self, *parts):\n        super().__init__(torch.nn.Identity(), *parts)\n",
    )
    (home / "my_networks.py").write_text(changed)
    sys.modules.pop("my_networks")
    importlib.invalidate_caches()
    with (
        gb.connect(untraced[0], progress=False, python_modules=["my_networks"]) as db,
        pytest.raises(ShapeError, match="is not the one that was trained"),
    ):
        db.sql(PROBA).fetchall()
