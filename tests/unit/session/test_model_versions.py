"""Versions of a model through the session: SQL statements and handles."""

from __future__ import annotations

import numpy as np
import pytest

import gradbase as gb
import shop
from gradbase.errors import BindError, ParseError, StoreError


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A session with model churn in two versions; tests put back what they change."""
    path = tmp_path_factory.mktemp("versions") / "shop.duckdb"
    with gb.connect(str(path), progress=False) as session:
        shop.load(session)
        for seed in (7, 8):
            made = shop.create_model("churn", verb="CREATE OR REPLACE MODEL", max_epochs=2)
            session.sql(made.replace("seed = 7", f"seed = {seed}"))
        yield session


def probabilities(session, model):
    return session.sql(f"SELECT PREDICT_PROBA({model}, *) FROM customers ORDER BY id").fetchall()


def test_versions_predict_side_by_side(two):
    """In one statement, by number and alias; the bare name is the current one."""
    first, second = probabilities(two, "churn@1"), probabilities(two, "churn@2")
    assert first != second == probabilities(two, "churn") == probabilities(two, "`churn@latest`")
    both = "SELECT PREDICT_PROBA(churn@1, *), PREDICT_PROBA(churn@2, *) FROM customers ORDER BY id"
    assert two.sql(both).fetchall() == [a + b for a, b in zip(first, second, strict=True)]


def test_going_back_and_forth(two):
    """Prepared plans of the session follow at once."""
    first, second = probabilities(two, "churn@1"), probabilities(two, "churn")
    assert two.sql("ALTER MODEL churn SET VERSION 1").fetchall() == [(True,)]
    assert probabilities(two, "churn") == first
    assert two.sql("SHOW MODELS").arrow()["version"].to_pylist() == [1]
    two.sql("ALTER MODEL churn SET VERSION = latest")
    assert probabilities(two, "churn") == second


def test_aliases_in_sql_and_python(two):
    """Are the same; a plan made for one version is not used for another."""
    two.sql("ALTER MODEL churn SET ALIAS champion = 1")
    assert two.model("churn@champion").version == 1
    before = probabilities(two, "churn@champion")
    assert two.model("churn").alias("champion").version == 2
    assert probabilities(two, "churn@champion") != before
    assert two.model("churn").alias("champion", 1).version == 1
    assert two.study("churn@champion").version == 1
    assert two.study("churn@champion").best.version == 1
    two.model("churn").drop_alias("champion")
    with pytest.raises(BindError, match="no alias `champion`") as caught:
        two.sql("SELECT PREDICT(churn@champion, *) FROM customers")
    assert "^^^^^^^^^^^^^^" in str(caught.value)


def test_a_handle_knows_its_version(two):
    """And stays with it whatever becomes current."""
    handle = two.model("churn", version=1)
    assert (handle.name, handle.version) == ("churn", 1)
    predicted, version = handle.predict("customers", with_version=True)
    assert version == 1
    assert np.array_equal(predicted, handle.predict("customers"))
    assert handle.rollback().version == 1
    assert two.model("churn").version == 1
    assert handle.rollback(2).version == 2
    assert handle.version == 1


def test_listing_versions(two):
    """One row each."""
    rows = two.model("churn").alias("old", 1).versions.arrow().to_pylist()
    two.model("churn").drop_alias("old")
    assert [(r["version"], r["current"], r["aliases"]) for r in rows] == [
        (1, False, "old"), (2, True, None),
    ]  # fmt: skip
    assert list(rows[0]) == [
        "version", "created", "model_type", "trials", "metric", "value", "best_trial", "current",
        "aliases",
    ]  # fmt: skip


def test_predictions_name_their_version(two):
    """In a column, on request."""
    rows = two.sql(
        "SELECT DISTINCT model_version FROM "
        "ML.PREDICT(MODEL churn@1, TABLE customers, STRUCT(TRUE AS with_version))"
    )
    assert rows.fetchall() == [(1,)]


def test_describing(two):
    """The same facts from SQL and Python, in columns that stay."""
    found = two.sql("DESCRIBE MODEL churn@1").arrow()
    assert found.column_names == ["section", "position", "name", "type", "value", "details"]
    assert found.equals(two.model("churn@1").describe().arrow())
    facts = {(r["section"], r["name"]): r for r in found.to_pylist()}
    assert facts["model", "version"]["value"] == "1"
    assert facts["model", "version"]["details"] == "the current one is 2"
    assert facts["label", "churned"]["type"] == "text"
    assert [r["name"] for r in found.to_pylist() if r["section"] == "class"] == ["no", "yes"]
    assert facts["class", "yes"]["details"] == "positive"
    names = [r["name"] for r in found.to_pylist() if r["section"] == "feature"]
    assert names == two.model("churn").features
    assert "one-hot" in facts["feature", "region"]["value"]
    assert facts["lineage", "seed"]["value"] == "7"
    assert facts["version", "2"]["details"].endswith("current")


def test_pruning_and_dropping(own_shop):
    """DROP MODEL name@n takes one version, PRUNE the old ones, DROP MODEL all."""
    with gb.connect(str(own_shop), progress=False) as session:
        for _ in range(3):
            session.sql(
                shop.create_model("linear", verb="CREATE OR REPLACE MODEL",
                                  model_type="logistic_reg", hidden_units=None, max_epochs=1)
            )  # fmt: skip
        assert session.sql("DROP MODEL linear@2").fetchall() == [(True,)]
        session.sql("DROP MODEL IF EXISTS linear@2")
        with pytest.raises(BindError, match="has no version 2; it has 1, 3, 4") as caught:
            session.sql("DROP MODEL linear@2")
        assert "^^^^^^^^" in caught.value.at
        with pytest.raises(BindError, match="version 4 is the current one"):
            session.sql("DROP MODEL linear@latest")
        pruned = session.sql("ALTER MODEL linear PRUNE VERSIONS KEEP 2")
        assert pruned.arrow().to_pydict() == {"version": [1]}
        assert session.model("linear").prune(keep=1) == [3]
        assert session.fsck().findings == []
        session.sql("DROP MODEL linear")
        session.sql("ALTER MODEL IF EXISTS linear SET VERSION 1")
        with pytest.raises(BindError, match="no model `linear`") as caught:
            session.sql("ALTER MODEL linear SET VERSION 1")
        assert "^^^^^^" in caught.value.at


def test_options_of_a_model(own_shop):
    """Description and labels show; an expired model is refused until it is kept."""
    with gb.connect(str(own_shop), progress=False) as session:
        session.sql(
            "ALTER MODEL plans SET OPTIONS (description = 'which plan', labels = [STRUCT('a', 'b')], "
            "expiration_timestamp = TIMESTAMPTZ '2020-01-01 02:00:00+02')"
        )
        shown = session.sql("SHOW MODELS").arrow().to_pylist()
        (row,) = (r for r in shown if r["model"] == "plans")
        assert row["description"] == "which plan"
        assert str(row["expires"]) == "2020-01-01 00:00:00"
        with pytest.raises(BindError, match="expired on 2020-01-01 00:00:00 UTC"):
            session.sql("SELECT PREDICT(plans, *) FROM customers")
        with pytest.raises(BindError, match="expired on"):
            session.sql("DESCRIBE MODEL plans")
        session.sql("ALTER MODEL plans SET OPTIONS (expiration_timestamp = NULL)")
        facts = session.sql("DESCRIBE MODEL plans").arrow().to_pylist()
        assert {"label a": "b", "description": "which plan"}.items() <= {
            f["name"]: f["value"] for f in facts if f["section"] == "model"
        }.items()
        for time, text in (("'soon'", "cannot be read"), ("'infinity'", "is infinite")):
            with pytest.raises(BindError, match=f"expiration_timestamp {text}"):
                session.sql(f"ALTER MODEL plans SET OPTIONS (expiration_timestamp = {time})")


def test_names_of_new_models_hold_no_version(two):
    """Neither in SQL nor from Python."""
    with pytest.raises(ParseError, match="cannot be a model's name"):
        two.table("customers").fit(gb.mlp(hidden=[4]), target="churned", name="churn@3")


def test_nothing_changes_read_only(own_shop):
    """The statements say why."""
    with gb.connect(str(own_shop), read_only=True, progress=False) as session:
        for change in ("SET VERSION 1", "SET ALIAS a = 1", "PRUNE VERSIONS KEEP 1"):
            with pytest.raises(StoreError, match="read-only"):
                session.sql(f"ALTER MODEL churn {change}")
        assert session.sql("DESCRIBE MODEL churn").arrow().num_rows > 20
