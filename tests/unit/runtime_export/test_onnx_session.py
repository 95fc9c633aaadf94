"""ONNX Runtime as the representation `onnx`: answers are those of torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import gradbase as gb
from gradbase.errors import UnsupportedError

MORE = {
    "deep": torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.GELU(), torch.nn.Linear(16, 3)),
    "conv": torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 8)), torch.nn.Conv1d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Linear(24, 1),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def db():
    columns = ", ".join(
        f"CASE WHEN i % 17 <> {k} THEN sin(i * {k + 1})::FLOAT END AS x{k}" for k in range(8)
    )
    with gb.connect(progress=False) as session:
        session.sql(
            f"CREATE TABLE t AS SELECT i AS id, {columns}, 'k' || i % 3 AS c FROM range(700) r(i)"
        )
        session.sql(
            "CREATE MODEL own OPTIONS (model_type = 'dnn_classifier', input_label_cols = ['y'], "
            "hidden_units = [8], activation_fn = 'tanh', max_epochs = 1, seed = 1) "
            "AS SELECT x0, x1, c, x2 > 0 AS y FROM t WHERE x2 IS NOT NULL"
        )
        for name, network in MORE.items():
            session.import_model(name, network, features=[f"x{k}" for k in range(8)])
        yield session


@pytest.mark.parametrize(
    "name", [pytest.param("own"), *(pytest.param(n, marks=pytest.mark.slow) for n in MORE)]
)
def test_onnx_runtime_gives_what_torch_gives(db, name):
    """NULL, categories, several batches; the second statement finds the program."""
    query = f"SELECT id, PREDICT{'_PROBA' * (name == 'own')}({name}, *) AS p FROM t ORDER BY id"
    wanted = db.sql(query).arrow()
    db.sql("SET gradbase.representation = 'onnx'")
    db.sql("SET gradbase.batch_rows = 256")
    try:
        found, plan = db.sql(query).arrow(), db.explain(query)
        assert "by onnx 256" in plan
        assert db.sql(query).arrow() == found
    finally:
        db.sql("RESET gradbase.representation")
        db.sql("RESET gradbase.batch_rows")
    assert found.schema == wanted.schema
    left, right = (
        np.array(
            [[np.nan] if v is None else np.atleast_1d(v)[:1] for v in t["p"].to_pylist()], float
        )
        for t in (found, wanted)
    )
    np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-5)


def test_onnx_runtime_evaluates_as_torch_does(db):
    query = "SELECT * FROM ML.EVALUATE(MODEL own, (SELECT *, x2 > 0 AS y FROM t))"
    (wanted,) = db.sql(query).fetchall()
    db.sql("SET gradbase.representation = 'onnx'")
    try:
        assert "by onnx" in db.explain(query)
        (found,) = db.sql(query).fetchall()
    finally:
        db.sql("RESET gradbase.representation")
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_onnx_runtime_that_is_missing_says_so(db, monkeypatch):
    """A plan names it and goes on without; a program asked for is an error."""
    from gradbase.optimizer.analyses import representations
    from gradbase.runtime import onnx_session

    monkeypatch.setattr(representations.importlib.util, "find_spec", lambda _: None)
    representations.has_onnx.cache_clear()
    db.sql("SET gradbase.representation = 'onnx'")
    try:
        plan = db.explain("SELECT PREDICT(own, *) FROM t")
    finally:
        db.sql("RESET gradbase.representation")
        monkeypatch.undo()
        representations.has_onnx.cache_clear()
    assert "onnx is asked for and cannot serve: ONNX Runtime is not installed" in plan
    monkeypatch.setattr(onnx_session.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UnsupportedError, match="ONNX Runtime is not installed"):
        onnx_session.OnnxSession([], None)
