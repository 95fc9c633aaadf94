"""Exported models predict what they predict here, on tables as they are."""

from __future__ import annotations

import datetime as dt
import json

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pytest
import torch

import gradbase as gb
import shop
from gradbase.errors import BindError, ParseError, StoreError
from gradbase.runtime.columns import kernels, numbers
from gradbase.runtime.encode import category_codes
from gradbase.runtime.export.calendar import date_part
from gradbase.runtime.export.core import Exportable
from gradbase.runtime.export.feeding import onnx_inputs
from gradbase.runtime.export.onnx_file import null_text

METHODS = {"churn": ("predict", "predict_proba"), "plans": ("predict", "predict_proba"),
           "spend": ("predict",), "linear": ("predict", "predict_proba")}  # fmt: skip
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def messy():
    """Rows the models were not trained on: NULLs, NaN, unseen and empty texts, early and late dates."""
    rows = shop.customers(300, seed=99)

    def changed(name, values):
        nonlocal rows
        at, old = rows.column_names.index(name), rows.column(name)
        new = [*values, *old.to_pylist()[len(values) :]]
        rows = rows.set_column(at, name, pa.array(new, old.type))

    changed("region", ["never seen", "", None, "wést", "\u2400"])
    changed("fee", [float("nan"), None, -1e6, 1e6])
    changed("age", [None, -5, 2_000_000])
    changed("since", [dt.date(1969, 12, 31), dt.date(1900, 2, 28), dt.date(2400, 2, 29), None])
    changed("seen", [dt.datetime.fromisoformat("1969-12-31T23:59:59"), None])
    changed("taste", [None, [float("nan"), 1.0, 2.0]])
    return rows


def session_of(path):
    return onnxruntime.InferenceSession(str(path))


@pytest.mark.parametrize("name", METHODS)
def test_onnx_gives_the_same_predictions(trained, messy, tmp_path, name):
    path = trained.model(name).export(tmp_path / f"{name}.onnx")
    onnx.checker.check_model(str(path), full_check=True)
    session = session_of(path)
    assert [o.name for o in session.get_outputs()] == list(METHODS[name])
    assert {i.name for i in session.get_inputs()} == set(trained.model(name).features)
    found = session.run(None, onnx_inputs(session, messy))
    model = trained.model(name)
    _same(found[0], model.predict(messy))
    if len(found) > 1:
        proba = model.predict_proba(messy)
        _same(found[1], proba[:, 1] if proba.shape[1] == 2 else proba)


def _same(found, expected):
    if expected.dtype.kind == "f":
        assert np.abs(found - expected).max() <= TOLERANCE * max(1, np.abs(expected).max())
    else:
        assert found.tolist() == expected.tolist()


def test_a_program_of_torch_gives_the_same_predictions(trained, messy, tmp_path):
    path = trained.model("plans").export(tmp_path / "plans.pt2")
    extra = {"gradbase.json": ""}
    program = torch.export.load(path, extra_files=extra)
    facts = json.loads(extra["gradbase.json"])
    assert json.loads(facts["gradbase.outputs"]) == ["predict", "predict_proba"]
    module = Exportable(trained.model("plans").model, trained.store.blobs)
    columns = []
    for feature in module.features:
        column = messy.column(feature.name).combine_chunks()
        if feature.of.is_text:
            assert json.loads(facts["gradbase.vocabularies"])[feature.name][0] == "north"
            columns.append(
                torch.from_numpy(category_codes(column, module.categories[feature.name]))
            )
        elif feature.of.is_vector:
            columns.append(
                torch.tensor([v or [np.nan] * 3 for v in column.to_pylist()], dtype=torch.float64)
            )
        else:
            values = numbers(column, "value", feature.name).astype(np.float64)
            values[kernels.is_null(column).to_numpy(zero_copy_only=False)] = np.nan
            columns.append(torch.from_numpy(values))
    index, proba = program.module()(*columns)
    model = trained.model("plans")
    assert [model.classes[i] for i in index.tolist()] == model.predict(messy).tolist()
    assert np.abs(proba.numpy() - model.predict_proba(messy)).max() <= TOLERANCE


def test_categories_of_many_values_are_embedded(tmp_path):
    texts = [f"city {i % 200}" for i in range(4000)]
    rows = pa.table(
        {"city": texts, "x": np.arange(4000.0) % 7, "y": [i % 200 / 10 for i in range(4000)]}
    )
    with gb.connect(progress=False) as db:
        db.register("t", rows)
        db.sql("CREATE MODEL m OPTIONS (model_type = 'dnn_regressor', input_label_cols = ['y'], "
               "hidden_units = [8], max_epochs = 1) AS SELECT * FROM t")  # fmt: skip
        session = session_of(db.model("m").export(tmp_path / "m.onnx"))
        found = session.run(None, onnx_inputs(session, rows.slice(0, 300)))[0]
        _same(found, db.model("m").predict(rows.slice(0, 300)))


def test_a_network_of_one_s_own_with_odd_column_names(tmp_path):
    def net(config):
        return torch.nn.Sequential(
            torch.nn.Linear(config["n_inputs"], 16), torch.nn.BatchNorm1d(16), torch.nn.GELU(),
            torch.nn.Unflatten(1, (1, 4, 4)), torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(),
            torch.nn.Linear(8, config["n_outputs"]),
        )  # fmt: skip

    random = np.random.default_rng(3)
    rows = pa.table({'a "b"': random.normal(size=200), "gradbase/label": random.normal(size=200),
                     "predict": random.integers(0, 2, 200) > 0})  # fmt: skip
    with gb.connect(progress=False) as db:
        search = gb.search(net, epochs=1, seed=3)
        db.register("odd", rows)
        with pytest.raises(BindError, match="column `predict` has the name of an output"):
            db.table("SELECT *, 1.0 * row_number() OVER () AS y FROM odd").fit(
                search, target="y", name="m"
            ).best.export(tmp_path / "m.onnx")
        study = db.table("odd").fit(search, target="predict", name="m2")
        session = session_of(study.best.export(tmp_path / "m.onnx"))
        found = session.run(["predict_proba"], onnx_inputs(session, rows))[0]
        _same(found, study.best.predict_proba(rows)[:, 1])
        assert session.run(["predict"], onnx_inputs(session, rows))[0].dtype == np.bool_


def test_integer_labels_stay_integers(tmp_path):
    rows = pa.table({"x": np.arange(90.0), "y": [(7, 3, 5)[i // 30] for i in range(90)]})
    with gb.connect(progress=False) as db:
        db.register("t", rows)
        db.sql(
            "CREATE MODEL m OPTIONS (model_type = 'logistic_reg', input_label_cols = ['y'], max_epochs = 2) AS FROM t"
        )
        session = session_of(db.model("m").export(tmp_path / "m.onnx"))
        found = session.run(["predict"], onnx_inputs(session, rows))[0]
        assert found.dtype == np.int64
        assert found.tolist() == db.model("m").predict(rows).tolist()


@pytest.mark.parametrize(
    ("place", "kind", "words"),
    [
        ("m.txt", ParseError, "ends in .onnx or .pt2, found `m.txt`"),
        ("file/m.onnx", StoreError, "writing model churn@1#"),
    ],
)
def test_places_that_cannot_be_written(trained, tmp_path, place, kind, words):
    (tmp_path / "file").touch()
    with pytest.raises(kind, match=words):
        trained.model("churn").export(tmp_path / place)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_missing_folder_is_made(trained, tmp_path):
    assert trained.model("churn").export(tmp_path / "a" / "b" / "m.onnx").is_file()


def test_rows_without_a_column_of_the_model(trained, messy, tmp_path):
    session = session_of(trained.model("spend").export(tmp_path / "m.onnx"))
    with pytest.raises(BindError, match="the model reads column `fee`"):
        onnx_inputs(session, messy.drop_columns("fee"))


def test_the_text_for_null_is_no_category():
    assert [null_text(v) for v in ((), ("a",), ("",), ("", "\u2400"))] == [
        "",
        "",
        "\u2400",
        "\u2400\u2400",
    ]


PARTS = ("epoch_s", "year", "month", "day", "weekday", "hour", "minute")


@pytest.mark.parametrize("part", PARTS)
def test_parts_of_dates_are_those_of_training(part):
    random = np.random.default_rng(5)
    seconds = np.concatenate(
        [random.integers(-(10**11), 10**11, 2000), [0, -1, 951_782_400, 4_107_542_399]]
    )
    column = pa.array(seconds.astype(np.int64) * 1_000_000, pa.timestamp("us"))
    found = date_part(torch.from_numpy(seconds.astype(np.float64)), part)
    assert found.tolist() == numbers(column, part, "t").astype(np.float64).tolist()
