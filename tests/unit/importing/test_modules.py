"""Torch modules as models."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

import gradbase as gb
from gradbase.errors import BindError, ShapeError, UnsupportedError

ROWS = pd.DataFrame({"a": [1.0, -2.5, 3.0], "b": [0, 1, 2]})


def net(outputs):
    torch.manual_seed(3)
    return torch.nn.Sequential(
        torch.nn.Linear(2, 4), torch.nn.GELU(), torch.nn.Dropout(), torch.nn.Linear(4, outputs)
    ).eval()


def expected(module):
    with torch.no_grad():
        return module(torch.tensor(ROWS.to_numpy(np.float32)))


@pytest.fixture(scope="module")
def db():
    with gb.connect() as session:
        yield session


@pytest.mark.parametrize("outputs", [1, 3])
def test_predict_is_what_the_module_returns(db, outputs):
    module = net(outputs)
    found = db.import_model("n", module, features=["a", "b"]).predict(ROWS)
    np.testing.assert_allclose(found.reshape(3, -1), expected(module), rtol=0, atol=1e-6)


def test_null_gives_null_and_nan_passes_through(db):
    db.import_model("n", net(1), features=["a", "b"])
    query = "SELECT PREDICT(n, v, 1) FROM (VALUES (NULL), ('NaN'::DOUBLE), (1.0)) t(v)"
    null, nan, number = (v for (v,) in db.sql(query).fetchall())
    assert null is None
    assert math.isnan(nan)
    assert math.isfinite(number)


@pytest.mark.parametrize("outputs", [1, 2])
def test_logits_of_two_classes(db, outputs):
    module = net(outputs)
    z = expected(module).double()
    logit = z[:, 0] if outputs == 1 else z[:, 1] - z[:, 0]
    model = db.import_model("n", module, features=["a", "b"], classes=["no", "yes"])
    np.testing.assert_allclose(model.predict_proba(ROWS)[:, 1], logit.sigmoid(), atol=1e-6)
    assert model.predict(ROWS).tolist() == [["no", "yes"][v] for v in (logit > 0).int()]


def test_logits_of_more_classes(db):
    module = net(3)
    model = db.import_model("n", module, features=["a", "b"], classes=[1, 5, 9], label="y")
    found = model.predict_proba(ROWS)
    np.testing.assert_allclose(found, expected(module).softmax(dim=1), atol=1e-6)
    assert model.evaluate(ROWS.assign(y=[1, 5, 9]))["log_loss"] > 0


def test_one_number_with_a_label_is_a_regression(db):
    module = net(1)
    model = db.import_model("n", module, features=["a", "b"], label="y")
    rows = ROWS.assign(y=expected(module)[:, 0].numpy())
    assert model.evaluate(rows)["r2_score"] == pytest.approx(1.0)


def test_rows_give_names_and_types(db):
    rows = "SELECT [1.0, 2.0, 3.0]::FLOAT[3] AS v, 1 AS n"
    module = torch.nn.Linear(4, 1)
    model = db.import_model("n", module, features=rows)
    with torch.no_grad():
        wanted = module(torch.tensor([[1.0, 2.0, 3.0, 1.0]])).item()
    assert model.predict(rows)[0] == pytest.approx(wanted, abs=1e-6)


class Branches(torch.nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("module", "given", "error", "message"),
    [
        (net(1), {}, BindError, "which columns it reads"),
        (net(1), {"features": ["a", "a"]}, BindError, "given twice: a"),
        (net(3), {"features": ["a", "b"], "label": "y"}, ShapeError, "returns 3 numbers per row"),
        (net(3), {"features": ["a", "b"], "classes": [0, 1]}, ShapeError, "need 2 logits"),
        (net(1), {"features": ["a", "b"], "classes": [0]}, UnsupportedError, "nothing to decide"),
        (net(1), {"features": "SELECT 'x' AS a, 1 AS b"}, UnsupportedError, "cannot go into"),
        (net(1), {"features": ["a", "b", "c"]}, UnsupportedError, "cannot be exported"),
        (Branches(), {"features": ["a", "b"]}, UnsupportedError, "cannot be exported"),
    ],
)
def test_what_does_not_fit_is_said(db, module, given, error, message):
    with pytest.raises(error, match=message):
        db.import_model("refused", module, **given)
