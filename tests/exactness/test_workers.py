"""Trials come to the same bits in this process and in any number of workers that may die."""

from __future__ import annotations

import os
import random

import psutil
import pytest
import worker_networks

import gradbase as gb
from gradbase.errors import CancelledError, UnsupportedError
from gradbase.selection.executors import processes
from gradbase.selection.watch import Watch

MLP = gb.mlp(hidden=gb.choice([8], [6, 4]), dropout=0.2)


def trained(db, network, optimizer="adam", trials=3, **options):
    momentum = {"momentum": 0.9} if optimizer == "sgd" else {}
    db.table("t").fit(
        network, target="y", name="m", replace=True, lr=gb.loguniform(1e-3, 0.1), batch_size=16,
        optimizer=optimizer, epochs=3, trials=trials, early_stop=False, split="random", seed=3,
        shards=3, **momentum, **options,
    )  # fmt: skip


def outcome(db, trials=3):
    """Everything that a search comes to, except how long it took."""
    history = db.study("m").history.drop(columns="seconds")
    history = history[history.trial <= trials]
    models = [db.model("m", trial=t) for t in range(1, trials + 1)]
    predicted = [m.predict_proba("SELECT * FROM t ORDER BY a").tolist() for m in models]
    return history.to_json(), predicted


@pytest.fixture
def db():
    with gb.connect(":memory:", progress=False) as session:
        session.sql(
            "CREATE TABLE t AS SELECT sin(i) AS a, cos(i * i) AS b, sin(2 * i) AS c, "
            "(sin(i) + cos(3 * i) > 0)::INT AS y FROM range(151) r(i)"
        )
        session.sql("SET gradbase.disabled_rules = 'fuse_fits'")
        yield session


@pytest.fixture
def killing(monkeypatch):
    """Kills a worker at these looks at whether to go on; says whom."""
    killed = []

    def at(numbers):
        looks, ask = iter(range(10**6)), processes.ProcessLink.ask

        def asked(self, message, check):
            if next(looks) in numbers:
                psutil.Process(self.pid).kill()
                killed.append(self.pid)
            return ask(self, message, check)

        monkeypatch.setattr(processes.ProcessLink, "ask", asked)
        return killed

    return at


def test_a_search_survives_its_workers_and_comes_to_the_same(db, killing):
    trained(db, MLP)
    expected = outcome(db)
    killed = killing({6})
    trained(db, MLP, executor="processes", workers=1)
    assert len(killed) == 1
    assert outcome(db) == expected
    assert not [c for c in psutil.Process().children() if c.pid in killed]


SLOW = [
    ("mlp", MLP, "sgd"),
    ("mlp", MLP, "adam"),
    ("batch norm", worker_networks.normalised, "sgd"),
    ("batch norm", worker_networks.normalised, "adam"),
    ("convolution", worker_networks.convolutional, "adam"),
    ("transformer", worker_networks.attending, "adam"),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW, ids=[f"{c[0]}-{c[2]}" for c in SLOW])
def test_alone_among_others_with_any_workers_and_after_kills(db, killing, case):
    _, network, optimizer = case
    trained(db, network, optimizer)
    expected = outcome(db)
    for workers in (1, 2, 4):
        trained(db, network, optimizer, trials=6, executor="processes", workers=workers)
        assert outcome(db) == expected, workers
    killed = killing(set(random.Random(optimizer).sample(range(4, 30), 3)))
    trained(db, network, optimizer, executor="processes", workers=2)
    assert len(killed) == 3
    assert outcome(db) == expected


def test_a_search_in_processes_is_resumed(db, monkeypatch):
    trained(db, MLP)
    expected = outcome(db)
    db.sql("DROP MODEL m")
    looks = iter(range(10**6))

    def check(_self):
        if next(looks) > 12:
            raise CancelledError("stopped by the test")

    monkeypatch.setattr(Watch, "check", check)
    with pytest.raises(CancelledError):
        trained(db, MLP, executor="processes", workers=1)
    monkeypatch.undo()
    db.resume("m")
    assert outcome(db) == expected


@pytest.mark.slow
def test_a_network_that_kills_its_workers_fails_alone(db, monkeypatch):
    monkeypatch.setenv("GRADBASE_TEST_COORDINATOR", str(os.getpid()))
    with pytest.raises(gb.errors.TrainingError, match="3 workers died while they trained it"):
        trained(db, worker_networks.deadly, trials=1, executor="processes", workers=1)


def test_functions_of_this_process_alone_cannot_go_elsewhere(db):
    def local(configuration):
        return worker_networks.normalised(configuration)

    with pytest.raises(UnsupportedError, match="other processes cannot import it"):
        trained(db, local, executor="processes")
    trained(db, local)


@pytest.mark.parametrize(
    ("executor", "workers"),
    [("in_process", 2), pytest.param("processes", 2, marks=pytest.mark.slow)],
)
def test_in_a_staggered_order_trials_hop_and_come_to_the_same(db, executor, workers):
    """Trial k begins k shards further on, also alone."""
    trained(db, MLP, shard_order="staggered")
    staggered = outcome(db)
    trained(db, MLP, shard_order="staggered", executor=executor, workers=workers)
    assert outcome(db) == staggered
    units = db.sql("SELECT trial, epoch, list(shard ORDER BY rowid), run_id FROM gradbase.units "
                   "GROUP BY ALL ORDER BY ALL").fetchall()  # fmt: skip
    assert {tuple(s) for t, e, s, _ in units if (t, e) == (2, 1)} == {(0, 1, 2)}
    if executor == "processes":
        held = db.sql(
            "SELECT shard, list(DISTINCT worker) FROM gradbase.units JOIN gradbase.runs "
            "USING (run_id) WHERE version = 2 GROUP BY ALL"
        )
        assert all(len(workers) == 1 for _, workers in held.fetchall())
    trained(db, MLP)
    assert outcome(db) != staggered
