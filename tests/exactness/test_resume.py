"""A search that was stopped anywhere goes on to bitwise what it would have come to."""

from __future__ import annotations

import errno
import itertools

import pytest
import torch

import gradbase as gb
from gradbase.errors import BindError, DataError, StoreError
from gradbase.selection import states
from gradbase.selection.watch import Watch
from gradbase.store import journal

NETWORKS = {
    "stacked": gb.mlp(hidden=gb.choice([8], [6, 4]), dropout=0.2),
    "alone": gb.mlp(hidden=[8]),
}


class Killed(BaseException):
    """As if the process had died."""


def normalised(configuration):
    """Buffers, dropout and parameters of several shapes."""
    inputs, outputs = configuration["n_inputs"], configuration["n_outputs"]
    return torch.nn.Sequential(
        torch.nn.Linear(inputs, 6), torch.nn.BatchNorm1d(6), torch.nn.ReLU(),
        torch.nn.Dropout(0.3), torch.nn.Linear(6, outputs),
    )  # fmt: skip


def trained(db, network, procedure, optimizer):
    rate = gb.loguniform(1e-3, 0.3)
    momentum = {"momentum": 0.9} if optimizer == "sgd" else {}
    db.table("t").fit(
        network, target="y", name="m", replace=True, lr=rate, batch_size=16, optimizer=optimizer,
        epochs=5, trials=5, procedure=procedure, early_stop=False, split="random", seed=3,
        shards=3, parallel=2, min_epochs=2, lr_schedule="cosine", clip_norm=0.5, **momentum,
    )  # fmt: skip


def outcome(db):
    """Everything that a search comes to, except how long it took."""
    history = db.study("m").history.drop(columns="seconds")
    models = [db.model("m", trial=t) for t in range(1, 6)]
    predicted = [m.predict_proba("SELECT * FROM t ORDER BY a").tolist() for m in models]
    return history.to_json(), db.study("m").best_trial, predicted


@pytest.fixture
def db():
    with gb.connect(":memory:") as session:
        session.sql(
            "CREATE TABLE t AS SELECT sin(i) AS a, cos(i * i) AS b, "
            "(sin(i) + cos(3 * i) > 0)::INT AS y FROM range(120) r(i)"
        )
        yield session


@pytest.fixture
def killing(monkeypatch):
    """Makes the nth look at whether to stop the last one; states are saved whenever they may be."""

    def at(number):
        numbers = itertools.count(1)

        def check(self):
            if self._abandoned.is_set() or next(numbers) >= number:
                raise Killed

        monkeypatch.setattr(Watch, "check", check)
        monkeypatch.setattr(states.Pace, "is_due", lambda self, size: True)

    return at


CASES = [
    ("stacked", "random", "adam"),
    ("stacked", "asha", "sgd"),
    ("stacked", "pbt", "rmsprop"),
    ("alone", "tpe", "adamw"),
    ("alone", "hyperband", "adagrad"),
    ("module", "random", "sgd"),
    ("module", "asha", "adam"),
]


@pytest.mark.parametrize("moments", [(9,), pytest.param((1, 2, 4, 13), marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_a_resumed_search_is_bitwise_the_same(db, killing, monkeypatch, case, moments):
    kind, procedure, optimizer = case
    network = NETWORKS.get(kind, normalised)
    if kind == "alone":
        db.sql("SET gradbase.disabled_rules = 'fuse_fits'")
    trained(db, network, procedure, optimizer)
    expected = outcome(db)
    for number in moments:
        db.sql("DROP MODEL m")
        killing(number)
        with pytest.raises(Killed):
            trained(db, network, procedure, optimizer)
        monkeypatch.undo()
        db.resume("m")
        assert outcome(db) == expected


PARTS = [
    (NETWORKS["alone"], "adam", ("weights", "slot.mean", "slot.square", "steps")),
    (
        normalised,
        "sgd",
        ("module.0.weight", "module.1.running_mean", "slot.", "steps"),
    ),
]


@pytest.mark.parametrize("case", PARTS, ids=["perceptron", "module"])
def test_every_part_of_a_state_counts(db, killing, monkeypatch, case):
    """With any part of the state gone a resumed search comes to something else."""
    network, optimizer, parts = case
    trained(db, network, "random", optimizer)
    expected = outcome(db)
    for part in parts:
        db.sql("DROP MODEL m")
        killing(9)
        with pytest.raises(Killed):
            trained(db, network, "random", optimizer)
        monkeypatch.undo()
        load = states.States.load

        def without(self, *place, load=load, part=part):
            found = load(self, *place)
            return {n: torch.zeros_like(t) if n.startswith(part) else t for n, t in found.items()}

        monkeypatch.setattr(states.States, "load", without)
        db.resume("m")
        assert outcome(db) != expected
        monkeypatch.undo()


def test_rows_that_changed_are_not_gone_on_with(db, killing, monkeypatch):
    killing(9)
    with pytest.raises(Killed):
        trained(db, NETWORKS["alone"], "random", "adam")
    monkeypatch.undo()
    db.sql("UPDATE t SET a = a + 1 WHERE b > 0.9")
    with pytest.raises(DataError, match="the rows of the training query of `m` have changed"):
        db.resume("m")


def test_a_damaged_state_is_said_and_can_be_done_without(tmp_path, killing, monkeypatch):
    with gb.connect(str(tmp_path / "d.duckdb"), progress=False) as db:
        db.sql("CREATE TABLE t AS SELECT sin(i) AS a, cos(i) AS b, i % 2 AS y FROM range(120) r(i)")
        trained(db, NETWORKS["alone"], "random", "adam")
        expected = outcome(db)
        db.sql("DROP MODEL m")
        killing(9)
        with pytest.raises(Killed):
            trained(db, NETWORKS["alone"], "random", "adam")
        monkeypatch.undo()
        *_, last = sorted(tmp_path.glob("d.duckdb.gradbase/runs/*/states/*"))
        last.write_bytes(b"no state")
        for _ in range(2):  # once said, it is said again
            with pytest.raises(StoreError, match=r"training state .* is damaged"):
                db.resume("m")
        last.unlink()
        db.resume("m")
        assert outcome(db) == expected


@pytest.mark.parametrize("which", ["never", "ended"])
def test_there_must_be_something_to_resume(db, which):
    if which == "ended":
        trained(db, NETWORKS["alone"], "random", "adam")
    with pytest.raises(BindError, match=f"nothing to resume.*{which.replace('ended', 'its end')}"):
        db.sql("RESUME SEARCH m")


def test_a_full_disk_pauses_a_search(db, monkeypatch):
    """It says what to do, and the same session goes on with the search once there is room."""
    trained(db, NETWORKS["alone"], "random", "adam")
    expected = outcome(db)
    db.sql("DROP MODEL m")
    left, write = itertools.count(), journal.write_all

    def full(handle, data):
        if next(left) > 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(handle, data)

    monkeypatch.setattr(journal, "write_all", full)
    with pytest.raises(StoreError, match="the disk is full") as error:
        trained(db, NETWORKS["alone"], "random", "adam")
    assert 'RESUME SEARCH "m" goes on' in error.value.hint
    monkeypatch.undo()
    db.resume("m")
    assert outcome(db) == expected
