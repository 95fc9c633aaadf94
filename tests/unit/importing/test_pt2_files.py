"""Exported programs of torch: read without torch.export.load."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

import gradbase as gb

from .files import program


class Small(torch.nn.Module):
    """Sizes from the batch, buffers, a normalisation, several views."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = torch.nn.Linear(12, 8), torch.nn.BatchNorm1d(8)
        self.register_buffer("shift", torch.arange(4.0))

    def forward(self, x):
        y = x.view(x.shape[0], 3, 4).transpose(1, 2).reshape(x.shape[0], -1)
        a, b = self.norm(self.first(y)).relu().chunk(2, dim=1)
        return a * b + self.shift


class Attention(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(50, 8)
        self.layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, ids):
        return self.layer(self.table(ids)).mean(1)


class Images(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.BatchNorm2d(4), torch.nn.ReLU(inplace=True),
            torch.nn.MaxPool2d(2), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 3),
        )  # fmt: skip

    def forward(self, x):
        return self.layers(x)


@pytest.fixture(scope="module")
def db():
    with gb.connect(progress=False) as session:
        yield session


EXAMPLES = {
    Small: torch.linspace(-2, 2, 36).reshape(3, 12),
    Attention: torch.arange(15).reshape(3, 5),
    Images: torch.linspace(-1, 1, 216).reshape(3, 2, 6, 6),
}


@pytest.mark.parametrize("kind", EXAMPLES, ids=lambda k: k.__name__)
def test_predicts_as_the_module(db, tmp_path, monkeypatch, kind):
    """Same numbers, without torch's loader."""
    torch.manual_seed(1)
    module, example = kind().eval(), EXAMPLES[kind]
    path = program(tmp_path, module, example)
    monkeypatch.setattr(torch.export, "load", None)
    monkeypatch.setattr(torch, "load", None)
    handle = db.import_model("m", path)
    flat = example.reshape(3, -1).numpy()
    column = pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), flat.shape[1])
    found = handle.predict(pa.table({handle.model.features[0].name: column}))
    expected = module(example).detach().numpy()
    np.testing.assert_allclose(np.array(np.asarray(found).tolist()), expected, atol=1e-6)


def test_columns_one_by_one(db, tmp_path):
    path = program(tmp_path, torch.nn.Sequential(torch.nn.Linear(2, 1)), torch.zeros(3, 2))
    db.sql(
        f"CREATE MODEL two OPTIONS (model_type = 'torch', model_path = '{path}', features = ['b', 'a'])"
    )
    assert db.sql("SELECT PREDICT(two, *) FROM (SELECT 1 AS a, 2 AS b)").fetchone()[0] is not None
    with pytest.raises(gb.errors.ShapeError, match="column `c` is left over"):
        db.sql(
            f"CREATE MODEL x OPTIONS (model_type = 'torch', model_path = '{path}', features = ['b', 'a', 'c'])"
        )


def test_operators_that_are_not_known(db, tmp_path):
    """Named, with why it cannot stay whole."""

    class Inverse(torch.nn.Module):
        def forward(self, x):
            return torch.linalg.inv(x.reshape(-1, 2, 2)).reshape(-1, 4)

    path = program(tmp_path, Inverse(), torch.eye(2).reshape(1, 4).repeat(3, 1))
    with pytest.raises(gb.errors.UnsupportedError, match=r"linalg_inv.*trust the file"):
        db.import_model("m", path)
