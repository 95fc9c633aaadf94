"""Models larger than the limit: imported in pieces, predicted in tiles."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

import gradbase as gb
from gradbase.errors import BindError, ResourceError, StoreError

QUERY = "SELECT id, PREDICT(m, x) AS p FROM t ORDER BY id"


def net():
    torch.manual_seed(4)
    return torch.nn.Sequential(
        torch.nn.Linear(128, 40_000), torch.nn.ReLU(), torch.nn.Linear(40_000, 3)
    ).eval()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """An exported program with 21 MB of weights."""
    path = tmp_path_factory.mktemp("large") / "m.pt2"
    batch = torch.export.Dim("batch", min=1)
    example = (torch.zeros(3, 128),)
    torch.export.save(torch.export.export(net(), example, dynamic_shapes=({0: batch},)), path)
    return path


@pytest.fixture
def db(file, tmp_path):
    """A session whose statements may use 16 MB, with the file as model `m`."""
    with gb.connect(
        str(tmp_path / "shop.duckdb"), progress=False, memory_limit_bytes=32 << 20
    ) as db:
        x = torch.randn(60, 128, generator=torch.Generator().manual_seed(1)).numpy()
        flat = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), 128)
        db.register("given", pa.table({"id": range(60), "x": flat}))
        db.sql("CREATE TABLE t AS SELECT * FROM given")
        db.sql(f"CREATE MODEL m OPTIONS (model_type = 'torch', model_path = '{file}')")
        yield db


def expected(db):
    x = np.stack(db.sql("SELECT x FROM t ORDER BY id").df()["x"])
    with torch.no_grad():
        return net()(torch.from_numpy(x)).numpy()


def test_a_model_larger_than_the_limit_predicts_as_torch_does(db):
    found = np.array([p for _, p in db.sql(QUERY).fetchall()])
    np.testing.assert_allclose(found, expected(db), rtol=1e-4, atol=1e-5)
    assert db.broker.leases()[0].owner == db.engine.name
    assert len(db.broker.leases()) == 1  # nothing is held by statements that have ended


def test_explain_says_why_and_what_is_read(db):
    text = str(db.explain(QUERY, analyze=True))
    assert "by relational" in text
    assert "exceed the 16.8 MB that statements may use" in text
    assert "every weight once per batch" in text
    assert "128 -> 40000 outputs in parts; 40000 -> 3 sums kept, inputs in parts" in text
    assert "pages: " in text


def test_weights_lie_in_tiles_and_go_with_their_model(db):
    folder = db.store.blobs.path
    assert sum(p.stat().st_size for p in folder.glob("*.tiles")) > 20e6
    assert db.fsck().ok
    db.sql("DROP MODEL m")
    assert list(folder.glob("*.tiles")) == []


def test_a_damaged_page_is_an_error_that_names_it(db):
    path = max(db.store.blobs.path.glob("*.tiles"), key=lambda p: p.stat().st_size)
    data = bytearray(path.read_bytes())
    data[100] ^= 255
    path.write_bytes(data)
    with pytest.raises(StoreError, match="page 0 of"):
        db.sql(QUERY).fetchall()
    assert not db.fsck().ok


def test_a_limit_too_small_for_the_tiles_says_how_much_is_needed(db, file):
    db.sql("SET gradbase.memory_limit = '4GB'")
    db.sql(f"CREATE OR REPLACE MODEL m OPTIONS (model_type = 'torch', model_path = '{file}')")
    db.sql("SET gradbase.memory_limit = '16MB'")
    with pytest.raises(ResourceError, match=r"in tiles of 4.00 MiB: [\d.]+ MiB are needed"):
        db.sql(QUERY).fetchall()


@pytest.fixture(scope="module")
def small():
    with gb.connect(progress=False) as db:
        db.sql(
            "CREATE TABLE r AS SELECT i AS id, (i % 13)::DOUBLE AS a, CASE WHEN i % 7 > 0 THEN i % 5 "
            "END AS b, CASE WHEN i % 3 = 0 THEN 'x' ELSE 'y' END AS c, i % 2 = 0 AS y FROM range(300) t(i)"
        )
        db.sql(
            "CREATE MODEL d OPTIONS (model_type = 'dnn_classifier', input_label_cols = ['y'], "
            "hidden_units = [16, 8], max_epochs = 1, row_key = ['id']) AS SELECT * FROM r"
        )
        yield db


@pytest.mark.parametrize(
    "query",
    [
        "SELECT id, PREDICT_PROBA(d, *) FROM r ORDER BY id",
        "SELECT count(*) FROM r WHERE PREDICT_PROBA(d, *) > 0.5",
        "SELECT * FROM ML.EVALUATE(MODEL d, TABLE r)",
        "SELECT id, PREDICT_PROBA(d, *) FROM r WHERE id < 0",
    ],
)
def test_forced_on_a_small_model_it_gives_the_same(small, query):
    found = {}
    for representation in ("dl", "relational"):
        small.sql(f"SET gradbase.representation = '{representation}'")
        found[representation] = small.sql(query).fetchall()
    small.sql("RESET gradbase.representation")
    flat = {k: [v for row in rows for v in row] for k, rows in found.items()}
    assert flat["relational"] == pytest.approx(flat["dl"], rel=1e-5, abs=1e-6)


def test_a_representation_that_is_not_there_is_an_error(small):
    with pytest.raises(BindError, match="'relational'"):
        small.sql("SET gradbase.representation = 'relation'")
