"""A batch in parts: the result depends on how many parts there are, not on who computes them."""

from __future__ import annotations

import json

import pytest
import torch
import worker_networks
from inline_workers import inline  # noqa: F401 (a fixture)
from test_workers import db, killing  # noqa: F401 (fixtures)

import gradbase as gb
from gradbase.errors import TrainingError
from gradbase.runtime.train import replicas
from gradbase.runtime.train.replicas import TeamLost, added

MLP = gb.mlp(hidden=[8, 4], dropout=0.2)


def trained(session, network, **options):
    study = session.table("t").fit(
        network, target="y", name="m", replace=True, lr=0.03, batch_size=16, epochs=2,
        early_stop=False, split="random", seed=3, shards=3, clip_norm=1.0, **options,
    )  # fmt: skip
    history = study.history.drop(columns="seconds").to_json()
    return history, db_predictions(session), study.report()


def db_predictions(session):
    return session.model("m").predict_proba("SELECT * FROM t ORDER BY a").tolist()


NETWORKS = [MLP, pytest.param(worker_networks.attending, marks=pytest.mark.slow)]


@pytest.mark.parametrize("network", NETWORKS, ids=["mlp", "transformer"])
def test_any_team_comes_to_the_same(db, inline, network):  # noqa: F811
    expected = trained(db, network, executor="in_process", replicas=4)[:2]
    for workers in (1, 2, 4):
        *found, report = trained(db, network, executor="processes", workers=workers, replicas=4)
        assert tuple(found) == expected, workers
        assert report.lost == 0


def test_parts_change_last_digits_only(db):  # noqa: F811
    def losses(**options):
        plain = gb.mlp(hidden=[8])
        return list(json.loads(trained(db, plain, **options)[0])["train_loss"].values())

    whole, cut = losses(), losses(replicas=4)
    assert whole != cut
    assert whole == pytest.approx(cut, rel=1e-5)


def test_a_team_that_lost_a_member_is_made_anew(db, inline, monkeypatch):  # noqa: F811
    expected = trained(db, MLP, replicas=2)[:2]
    gather, left = replicas.Gloo.gather, [2]

    def breaking(self, mine):
        if left[0] and self.size > 1:
            left[0] -= 1  # both members hear of it
            raise TeamLost("somebody died")
        return gather(self, mine)

    monkeypatch.setattr(replicas.Gloo, "gather", breaking)
    assert trained(db, MLP, executor="processes", workers=2, replicas=2)[:2] == expected
    assert left == [0]


@pytest.mark.slow
def test_a_member_that_is_killed_costs_a_unit(db, killing):  # noqa: F811
    expected = trained(db, MLP, replicas=2)[:2]
    killed = killing({9})
    assert trained(db, MLP, executor="processes", workers=2, replicas=2)[:2] == expected
    assert len(killed) == 1


@pytest.mark.parametrize(
    ("network", "count", "words"),
    [(MLP, 3, "power of two"), (worker_networks.normalised, 2, "keeps statistics of its batches")],
)
def test_what_cannot_be_cut_is_refused(db, network, count, words):  # noqa: F811
    with pytest.raises(TrainingError, match=words):
        trained(db, network, replicas=count)


def test_sums_are_of_pairs():
    parts = [torch.tensor(x, dtype=torch.float32) for x in (1e8, 1.0, -1e8, 1.0)]
    assert added(parts) == (parts[0] + parts[1]) + (parts[2] + parts[3])
    assert added(parts[:1]) == parts[0]
