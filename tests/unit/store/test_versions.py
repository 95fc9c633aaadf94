"""Versions of a model: addresses, aliases, going back, pruning, dropping, expiring."""

from __future__ import annotations

import datetime as dt
import threading

import numpy as np
import pytest

from gradbase.errors import BindError, StoreError

from .samples import FEATURES, record, trial


def versions_of(store, name="churn"):
    rows = store.engine.fetch(
        "SELECT v.version FROM gradbase.versions v JOIN gradbase.models m USING (model_id) "
        f"WHERE m.name = '{name}' ORDER BY 1"
    )
    return rows.column(0).to_pylist()


@pytest.fixture
def three(store):
    """Model churn in three versions of different weights."""
    for seed in (1, 5, 9):
        store.commit(record(trials=[trial(1, seed=seed)], best_trial=1), or_replace=True)
    return store


@pytest.mark.parametrize(
    ("version", "expected"), [(None, 3), (1, 1), ("latest", 3), ("champion", 2), ("blue-green", 2)]
)
def test_a_version_has_addresses(three, version, expected):
    """Its number and its aliases; the bare name is the current one."""
    assert three.versions.set_alias("churn", "champion", 2) == 2
    three.versions.set_alias("churn", "blue-green", "champion")
    assert three.model("churn", version).version == expected
    assert three.record("churn", version).features == FEATURES


def test_going_back_moves_what_the_name_means(three):
    """`latest` stays; the next version gets the next number and is current."""
    assert three.versions.set_current("churn", 1) == 1
    assert three.model("churn").version == 1
    assert three.model("churn", "latest").version == 3
    assert three.commit(record(), or_replace=True) == 4
    assert three.model("churn").version == 4


def test_a_number_is_never_given_twice(three):
    """Not even after the newest version is gone."""
    three.versions.set_current("churn", 1)
    assert three.versions.drop("churn", 3)
    assert three.commit(record(), or_replace=True) == 4


def test_an_alias_moves(three):
    """And is gone when dropped."""
    three.versions.set_alias("churn", "champion", 1)
    three.versions.set_alias("churn", "champion", 3)
    assert three.model("churn", "champion").version == 3
    assert three.engine.fetch("SELECT * FROM gradbase.aliases").num_rows == 1
    assert three.versions.drop_alias("churn", "champion")
    with pytest.raises(BindError, match="no alias `champion`; it has none"):
        three.model("churn", "champion")
    with pytest.raises(BindError, match="no alias `champion`"):
        three.versions.drop_alias("churn", "champion")
    assert not three.versions.drop_alias("churn", "champion", if_exists=True)


@pytest.mark.parametrize("alias", ["latest", "2", "a b", "", "-a", "a@b", "x;y"])
def test_some_words_are_no_aliases(three, alias):
    """Those that would be something else in an address."""
    with pytest.raises(BindError, match="cannot be"):
        three.versions.set_alias("churn", alias, 1)
    assert three.engine.fetch("SELECT * FROM gradbase.aliases").num_rows == 0


def test_unknown_versions_and_aliases_are_named(three):
    """With those there are."""
    three.versions.set_alias("churn", "champion", 2)
    with pytest.raises(BindError, match="no version 9; it has 1, 2, 3"):
        three.versions.set_alias("churn", "best", 9)
    with pytest.raises(BindError, match=r"`champon`; it has `champion` \(version 2\)") as caught:
        three.versions.set_current("churn", "champon")
    assert caught.value.hint == "did you mean `champion`?"
    with pytest.raises(BindError, match="no model `chrn`"):
        three.versions.set_current("chrn", 1)


def blobs(store):
    return {p.name for p in store.blobs.path.iterdir()}


def test_pruning_keeps_what_is_named(three):
    """The newest, the current one and aliased ones; blobs of the others are freed."""
    three.commit(record(trials=[trial(1, seed=20)], best_trial=1), or_replace=True)
    three.versions.set_alias("churn", "champion", 1)
    three.versions.set_current("churn", 2)
    assert three.versions.prune("churn", 1) == [3]
    assert versions_of(three) == [1, 2, 4]
    assert not blobs(three) & set(trial(1, seed=9).params)
    assert blobs(three) >= set(trial(1, seed=5).params)
    assert three.versions.prune("churn", 9) == []
    assert three.fsck().findings == []
    with pytest.raises(BindError, match="at least one version is kept, found 0"):
        three.versions.prune("churn", 0)


def test_one_version_can_be_dropped(three):
    """Unless it is current or has an alias; the hint says the way."""
    three.versions.set_alias("churn", "champion", 1)
    with pytest.raises(BindError, match="has the alias champion") as caught:
        three.versions.drop("churn", 1)
    assert "DROP ALIAS champion" in caught.value.hint
    with pytest.raises(BindError, match="version 3 is the current one") as caught:
        three.versions.drop("churn", "latest")
    assert "SET VERSION 2" in caught.value.hint
    assert three.versions.drop("churn", 2)
    assert not blobs(three) & set(trial(1, seed=5).params)
    assert versions_of(three) == [1, 3]
    assert not three.versions.drop("churn", 2, if_exists=True)
    with pytest.raises(BindError, match="no version 2; it has 1, 3"):
        three.versions.drop("churn", 2)
    assert three.fsck().findings == []


def test_the_only_version_is_dropped_with_its_model(store):
    """The hint says so."""
    store.commit(record())
    with pytest.raises(BindError) as caught:
        store.versions.drop("churn", 1)
    assert "DROP MODEL churn deletes" in caught.value.hint


def test_dropping_a_model_takes_everything(three):
    """Aliases, statistics, counts."""
    three.versions.set_alias("churn", "champion", 1)
    three.drop("churn")
    for table in ("models", "versions", "aliases", "features", "scores", "confusion", "trials"):
        assert three.engine.fetch(f"SELECT * FROM gradbase.{table}").num_rows == 0, table
    assert three.commit(record()) == 1


def test_what_is_said_of_a_model(three):
    """Is kept across versions, and can be taken back."""
    hour = dt.datetime.now(dt.UTC).replace(tzinfo=None) + dt.timedelta(hours=1)
    options = {"description": "who leaves", "labels": {"team": "crm"}, "expiration_timestamp": hour}
    three.versions.set_options("churn", options)
    three.commit(record(), or_replace=True)
    (row,) = three.engine.fetch("SELECT * FROM gradbase.models").to_pylist()
    assert (row["description"], row["labels"]) == ("who leaves", '{"team": "crm"}')
    assert row["expires"] == hour
    three.versions.set_options("churn", dict.fromkeys(options))
    (row,) = three.engine.fetch("SELECT * FROM gradbase.models").to_pylist()
    assert [row[c] for c in ("description", "labels", "expires")] == [None] * 3


PAST = dt.datetime(2020, 1, 1)  # noqa: DTZ001 (as the catalog keeps times)


def test_an_expired_model_cannot_be_used(three):
    """Although it was a moment ago; it can be kept."""
    assert three.model("churn").version == 3
    three.versions.set_options("churn", {"expiration_timestamp": PAST})
    for use in (three.model, three.record, three.lineage, three.trial_count):
        with pytest.raises(BindError, match="expired on 2020-01-01 00:00:00 UTC") as caught:
            use("churn")
    assert "expiration_timestamp = NULL" in caught.value.hint
    three.versions.set_options("churn", {"expiration_timestamp": None})
    assert three.model("churn").version == 3


def test_a_model_expires_while_it_is_known(three, monkeypatch):
    """What was read before is not used after its time."""
    later = dt.datetime(2100, 1, 1)  # noqa: DTZ001
    three.versions.set_options("churn", {"expiration_timestamp": later})
    assert three.model("churn").version == 3
    for module in ("reading", "store"):
        monkeypatch.setattr(f"gradbase.store.{module}.now", lambda: later)
    with pytest.raises(BindError, match="expired"):
        three.model("churn")


def test_a_new_version_of_an_expired_model_can_be_used(three):
    """Its time starts again."""
    three.versions.set_options("churn", {"expiration_timestamp": PAST})
    assert three.commit(record(), or_replace=True) == 4
    assert three.model("churn").version == 4


def test_expired_models_are_collected(three, opened, close):
    """By gc, and by the first training of a session."""
    three.versions.set_options("churn", {"expiration_timestamp": PAST})
    three.gc()
    assert three.names() == ()
    three.commit(record("a"))
    three.versions.set_options("a", {"expiration_timestamp": PAST})
    close(three)
    again = opened()
    again.commit(record("b"))
    assert again.names() == ("b",)
    assert again.fsck().findings == []


def test_numbers_of_training_are_kept(three):
    """As plain tables."""
    features = three.engine.fetch("SELECT * FROM gradbase.features WHERE name = 'x'").to_pylist()
    assert [f["null_count"] for f in features] == [2, 2, 2]
    three.commit(
        record("many", [trial(1, scores=None, confusion=np.array([[0, 1, 4], [2, 2, 7]]))],
               best_trial=1)
    )  # fmt: skip
    counts = three.engine.fetch("SELECT expected, predicted, cases FROM gradbase.confusion")
    assert counts.to_pylist()[1] == {"expected": 2, "predicted": 2, "cases": 7}
    scores = three.engine.fetch("SELECT DISTINCT logit, positives FROM gradbase.scores ORDER BY 1")
    assert [tuple(r.values()) for r in scores.to_pylist()] == [(-1.5, 0), (0.0, 1), (0.25, 3)]


def test_show_lists_versions_and_aliases(three):
    """One row a model, of its current version."""
    three.versions.set_alias("churn", "champion", 2)
    three.versions.set_alias("churn", "baseline", 1)
    three.versions.set_current("churn", 2)
    (row,) = three.engine.fetch(three.show_sql()).to_pylist()
    assert (row["version"], row["versions"]) == (2, 3)
    assert row["aliases"] == "baseline = 1, champion = 2"


def test_aliases_move_whole_whoever_moves_them(three, opened, database):
    """Threads with stores of their own: each alias names one version at the end."""
    stores = [three, opened(database), opened(database)]
    errors = []

    def work(store, version):
        for _ in range(5):
            try:
                store.versions.set_alias("churn", "champion", version)
                assert store.model("churn", "champion").version in (1, 2, 3)
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=work, args=(s, i)) for i, s in enumerate(stores, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert three.engine.fetch("SELECT * FROM gradbase.aliases").num_rows == 1


def test_nothing_changes_read_only(three, opened, close):
    """Every change says why."""
    close(three)
    reader = opened(read_only=True)
    for change in (
        lambda: reader.versions.set_alias("churn", "a", 1),
        lambda: reader.versions.drop_alias("churn", "a"),
        lambda: reader.versions.set_current("churn", 1),
        lambda: reader.versions.prune("churn", 1),
        lambda: reader.versions.drop("churn", 1),
        lambda: reader.versions.set_options("churn", {"description": "x"}),
    ):
        with pytest.raises(StoreError, match="open read-only"):
            change()


def test_fsck_mends_pointers(three):
    """A name that means no version, an alias of two versions or of another model's."""
    three.commit(record("other"))
    with three.catalog.write() as handle:
        handle.execute("UPDATE gradbase.models SET current_version = 8 WHERE name = 'churn'")
        handle.execute("UPDATE gradbase.models SET last_version = 0 WHERE name = 'other'")
        ids = "SELECT version_id FROM gradbase.versions"
        handle.execute(f"INSERT INTO gradbase.aliases SELECT 1, 'champion', v FROM ({ids}) t(v)")
    with pytest.raises(StoreError, match="current version 8 of model `churn` is not"):
        three.model("churn")
    report = three.fsck()
    assert not report.ok
    assert "model churn: current_version is 8" in str(report)
    assert "model other: last_version is 0" in str(report)
    three.fsck(repair=True)
    assert three.fsck().findings == []
    assert three.model("churn").version == 3
    assert three.model("churn", "champion").version == 3
