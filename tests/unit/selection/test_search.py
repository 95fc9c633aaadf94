"""From what was asked for to the plan of a search."""

from __future__ import annotations

import dataclasses

import pytest

import gradbase as gb
from gradbase.errors import BindError
from gradbase.ir.learning import Mlp, PythonNetwork
from gradbase.ir.relational import Scan
from gradbase.ir.types import FLOAT64, INT64, TEXT, Schema, array_of
from gradbase.selection.configuring import configuration_of
from gradbase.selection.search import build
from gradbase.selection.solving import Counts

TABLE = Scan("t", "", Schema.of(id=INT64, a=FLOAT64, v=array_of(FLOAT64, 3), label=TEXT, y=FLOAT64))


def net(config):
    """A network nobody calls here."""


def planned(spec, counts=None, label="label"):
    spec = dataclasses.replace(spec, label=label)
    return build(spec, "m", TABLE, counts or Counts(rows=1000, classes=2))


def test_every_configuration_is_a_fit():
    spec = gb.search(gb.mlp(hidden=gb.choice([8], [16, 8])), lr=gb.choice(0.1, 0.2), seed=7)
    found = planned(spec)
    assert [f.trial for f in found.search.fits] == [1, 2, 3, 4]
    assert [configuration_of(f, found.tuned) for f in found.search.fits] == [
        {"hidden_units": [8], "learn_rate": 0.1},
        {"hidden_units": [8], "learn_rate": 0.2},
        {"hidden_units": [16, 8], "learn_rate": 0.1},
        {"hidden_units": [16, 8], "learn_rate": 0.2},
    ]
    assert found.search.metric == "roc_auc"
    assert found.spec.model_type == "dnn_classifier"
    assert (found.search.workers, found.search.threads) == (0, 0)
    assert {f.data for f in found.search.fits} == {found.search.fits[0].data}


@pytest.mark.parametrize(
    ("label", "classes", "task", "metric", "model_type"),
    [
        ("label", 2, "binary", "roc_auc", "dnn_classifier"),
        ("label", 3, "multiclass", "roc_auc", "dnn_classifier"),
        ("y", 900, "regression", "r2_score", "dnn_regressor"),
    ],
)
def test_the_label_decides_the_task(label, classes, task, metric, model_type):
    found = planned(gb.search(gb.mlp(hidden=[4])), Counts(1000, classes), label)
    data = found.search.fits[0].data
    assert (data.task, found.search.metric, found.spec.model_type) == (task, metric, model_type)
    assert label not in data.features


@pytest.mark.parametrize(
    ("rows", "classes", "hidden"), [(1000, 2, 16), (1000, 3, 12), (100_000, 2, 128), (10, 2, 1)]
)
def test_the_default_layer_follows_from_the_rows(rows, classes, hidden):
    """min(128, rows / (10 * (inputs + outputs))), at least 1; a vector counts its length."""
    found = planned(gb.search(gb.mlp(), row_key=["id"]), Counts(rows, classes))
    assert len(found.search.fits[0].data.features) == 3  # a, v (3 numbers), y
    network = found.search.fits[0].network
    assert isinstance(network, Mlp)
    assert network.hidden_units == (hidden,)


def test_a_function_s_configuration_is_its_own():
    """Trials that differ in training only share one network."""
    spec = gb.search(net, width=gb.choice(8, 16), depth=2, lr=gb.choice(0.1, 0.2))
    found = planned(spec)
    networks = [f.network for f in found.search.fits]
    assert len(set(networks)) == 2
    assert all(isinstance(n, PythonNetwork) and len(n.code_hash) == 64 for n in networks)
    assert networks[0].configuration == '{"depth": 2, "width": 8}'
    last = configuration_of(found.search.fits[3], found.tuned)
    assert last == {"learn_rate": 0.2, "width": 16}


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (gb.search(gb.mlp(hidden=[4]), trials=5), "nothing is searched over"),
        (gb.search(gb.mlp(hidden=[4]), metric="r2_score"), "no metric of binary models"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(spec, text):
    with pytest.raises(BindError, match=text):
        planned(dataclasses.replace(spec, task="classification"))
