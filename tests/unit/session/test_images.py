"""Columns of arrays of arrays: images as features, of users' modules and of perceptrons."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

import gradbase as gb
from gradbase.errors import DataError, UnsupportedError

ROWS = 60


def net(config):
    return torch.nn.Sequential(
        torch.nn.Unflatten(1, (4, 4, 3)), torch.nn.Flatten(), torch.nn.Linear(48, config["n_outputs"])
    )  # fmt: skip


@pytest.fixture(scope="module")
def db():
    draw = np.random.default_rng(0)
    pixels = draw.normal(size=(ROWS, 4, 4, 3)) + np.arange(ROWS)[:, None, None, None] % 2
    with gb.connect(progress=False) as session:
        session.register("drawn", pa.table({"id": range(ROWS), "y": np.arange(ROWS) % 2,
                                            "image": pixels.tolist()}))  # fmt: skip
        session.sql(
            "CREATE TABLE pictures AS SELECT id, y, image::FLOAT[3][4][4] AS image FROM drawn"
        )
        session.sql("""CREATE TABLE flat AS
                       SELECT id, y, flatten(flatten(image))::FLOAT[48] AS image FROM drawn""")
        yield session


@pytest.mark.parametrize("what", [net, gb.mlp(hidden=[3])])
def test_images_are_what_their_flat_arrays_are(db, what):
    options = {"lr": 0.01, "epochs": 2, "row_key": ["id"], "seed": 1}
    pictures, flat = (
        db.table(name).fit(gb.search(what, **options), target="y", name=name, replace=True)
        for name in ("pictures", "flat")
    )
    found = pictures.best.predict_proba(db.table("pictures"))
    assert found == pytest.approx(flat.best.predict_proba(db.table("flat")))
    assert db.sql("SELECT count(PREDICT(pictures, *)) FROM pictures").fetchall() == [(ROWS,)]


def test_missing_images_count_as_missing(db):
    query = "SELECT id, y, CASE WHEN id > 2 THEN image END AS image FROM pictures"
    study = db.table(query).fit(
        gb.mlp(hidden=[2]), target="y", name="holes", epochs=1, row_key=["id"]
    )
    assert len(study.best.predict(db.table(query))) == ROWS


NULL_ROW = (
    "CASE WHEN id = 4 THEN [NULL, image[1], image[2], image[3]] ELSE image END::FLOAT[3][4][4]"
)


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (NULL_ROW, "array inside column `image` is NULL in row 5"),
        ("image::FLOAT[3][4][]", "cannot be a feature"),
    ],
)
def test_what_is_no_image_is_said_with_its_row(db, image, told):
    query = f"SELECT id, y, {image} AS image FROM pictures ORDER BY id"
    with pytest.raises((DataError, UnsupportedError), match=told):
        db.table(query).fit(gb.mlp(hidden=[2]), target="y", name="wrong", epochs=1, row_key=["id"])


def test_another_size_in_a_prediction_is_an_error(db):
    db.table("pictures").fit(gb.mlp(hidden=[2]), target="y", name="sized", epochs=1, row_key=["id"])
    with pytest.raises((DataError, gb.errors.BindError), match="image"):
        db.sql(
            "SELECT PREDICT(sized, *) FROM (SELECT id, [image[1]]::FLOAT[3][4][1] AS image FROM pictures)"
        ).fetchall()
