"""Exported models with TRANSFORM: what it computes is inside the file."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pytest
import torch

import gradbase as gb
from gradbase.errors import UnsupportedError

TOLERANCE = 1e-5
MESSY = pa.table(
    {
        "a": [None, float("nan"), -1e6, 50.0, 1e9],
        "b": pa.array([None, 99, -5, 3, 3], pa.int32()),
        "c": [None, "zebra", "␀", "x", "y"],
        "d": [None, "", "never", "red", ""],
        "day": pa.array([None, -7300, 200_000, 19_800, 0], pa.date32()),
        "vec": [None, [0.0, 0.0, 0.0], [None, 3.0, 4.0], [1.0, 2.0, 3.0], [-1.0, 0.0, 0.0]],
        "words": [None, [], ["p"], ["q", None], ["never"]],
    }
)
SUPPORTED = (
    "ML.STANDARD_SCALER(a) OVER ()",
    "ML.MIN_MAX_SCALER(b) OVER ()",
    "ML.MAX_ABS_SCALER(ML.IMPUTER(b, 'mean') OVER ()) OVER ()",
    "ML.ROBUST_SCALER(b, [10, 90], FALSE) OVER ()",
    "ML.NORMALIZER(vec)",
    "ML.NORMALIZER(vec, 3)",
    "ML.NORMALIZER(vec, 0)",
    "ML.NORMALIZER(vec, 'inf'::DOUBLE)",
    "ML.BUCKETIZE(a, [10, 50, 90])",
    "ML.LABEL_ENCODER(ML.BUCKETIZE(a, [1, 50])) OVER ()",
    "ML.QUANTILE_BUCKETIZE(b, 4, 'bucket_ranges') OVER ()",
    "ML.ONE_HOT_ENCODER(d) OVER ()",
    "ML.ONE_HOT_ENCODER(c, 'most_frequent') OVER ()",
    "ML.LABEL_ENCODER(d) OVER ()",
    "ML.IMPUTER(d, 'most_frequent') OVER ()",
    "ML.FEATURE_CROSS(STRUCT(c, d, ML.BUCKETIZE(a, [50]) AS e), 3)",
    "ML.POLYNOMIAL_EXPAND(STRUCT(a, b), 3)",
    "day",
    "vec",
)


@pytest.fixture(scope="module")
def db():
    with gb.connect(progress=False) as session:
        session.sql("""CREATE TABLE t AS SELECT (i * 37 % 101)::DOUBLE AS a,
            CASE WHEN i % 7 > 0 THEN i % 13 END::INT AS b, ['x', 'y', 'z', 'w'][1 + i % 4] AS c,
            ['red', 'blue', NULL, ''][1 + i % 4] AS d, DATE '2024-01-01' + (i % 400)::INT AS day,
            [i % 3, i % 5, 1.5]::DOUBLE[] AS vec, [['p', 'q'], ['q'], NULL][1 + i % 3] AS words,
            i * 37 % 101 + 10 * (i % 4) > 60 AS y FROM range(400) r(i)""")
        yield session


def trained(db, transform):
    db.sql(f"""CREATE OR REPLACE MODEL m TRANSFORM ({transform}, y) OPTIONS (
        model_type = 'logistic_reg', input_label_cols = ['y'], max_epochs = 2, seed = 1,
        learn_rate = 0.1) AS SELECT * FROM t""")
    return db.model("m")


def test_every_function_is_inside_the_file(db, tmp_path):
    """One model of all functions: raw columns in, the predictions of here out."""
    columns = ", ".join(f"{f} AS o{i}" for i, f in enumerate(SUPPORTED))
    model = trained(db, columns)
    path = model.export(tmp_path / "m.onnx")
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(str(path))
    assert [i.name for i in session.get_inputs()] == ["a", "b", "c", "d", "day", "vec"]
    for rows in (MESSY, db.sql("SELECT * FROM t LIMIT 50").arrow(), MESSY.slice(2, 1)):
        (found,) = session.run(["predict_proba"], gb.onnx_inputs(session, rows))
        assert np.abs(found - model.predict_proba(rows)[:, 1]).max() <= TOLERANCE


def test_a_column_may_replace_the_one_it_is_computed_from(db, tmp_path):
    """A text that becomes a vector of its own name is still one text a row."""
    model = trained(db, "ML.ONE_HOT_ENCODER(c) OVER () AS c, ML.IMPUTER(a, 'median') OVER () AS a")
    session = onnxruntime.InferenceSession(str(model.export(tmp_path / "m.onnx")))
    assert [len(i.shape) for i in session.get_inputs()] == [1, 1]
    (found,) = session.run(["predict_proba"], gb.onnx_inputs(session, MESSY))
    assert np.abs(found - model.predict_proba(MESSY)[:, 1]).max() <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("function", SUPPORTED)
def test_each_function_alone(db, tmp_path, function):
    model = trained(db, f"{function} AS o")
    session = onnxruntime.InferenceSession(str(model.export(tmp_path / "m.onnx")))
    (found,) = session.run(["predict_proba"], gb.onnx_inputs(session, MESSY))
    assert np.abs(found - model.predict_proba(MESSY)[:, 1]).max() <= TOLERANCE


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("upper(c)", r"column `o` of TRANSFORM .* `upper\(c\)` is computed by the engine"),
        ("ML.HASH_BUCKETIZE(c, 5)", "column `o` of TRANSFORM .* HashBucket has no form"),
        ("ML.TF_IDF(words, 9, 1) OVER ()", "column `words` is list<text>"),
    ],
)
def test_what_has_no_form_is_named_and_no_file_is_left(db, tmp_path, expression, message):
    with pytest.raises(UnsupportedError, match=message):
        trained(db, f"{expression} AS o").export(tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_a_program_of_torch_takes_what_transform_gives(db, tmp_path):
    model = trained(db, "upper(c) AS c, ML.BAG_OF_WORDS(words, 9, 1) OVER () AS w, a")
    program = torch.export.load(model.export(tmp_path / "m.pt2"))
    counts = torch.tensor([[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    codes, numbers = torch.tensor([2, 0]), torch.tensor([50.0, np.nan], dtype=torch.float64)
    _, proba = program.module()(codes, counts, numbers)
    rows = pa.table({"c": ["x", "?"], "words": [["p", "q"], ["q"]], "a": [50.0, None]})
    assert np.abs(proba.numpy() - model.predict_proba(rows)[:, 1]).max() <= TOLERANCE
