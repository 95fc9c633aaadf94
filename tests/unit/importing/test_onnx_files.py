"""ONNX files: every operator gives what ONNX Runtime gives; what we lack stays whole."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import gradbase as gb
from gradbase.ir.imported import Opaque, Trees
from gradbase.ir.node import find

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto

from .files import NUMBERS, by_runtime, helper, model, port, saved

WEIGHT = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
ONES = np.ones(4, np.float32)


@pytest.fixture(scope="module")
def db():
    with gb.connect(progress=False) as session:
        yield session


def node(op, inputs=("x",), outputs=("y",), **attributes):
    return helper.make_node(op, list(inputs), list(outputs), **attributes)


def chain(*ops):
    """Nodes that feed each other: x -> 1 -> 2 -> … -> y."""
    names = ["x", *(str(i) for i in range(1, len(ops))), "y"]
    made = []
    for place, (op, extra, attributes) in enumerate(ops):
        made.append(node(op, (names[place], *extra), (names[place + 1],), **attributes))
    return made


I64 = np.int64
CASES = {
    "gemm": (chain(("Gemm", ("w", "b"), {"alpha": 0.5, "beta": 2.0})), {"w": WEIGHT, "b": ONES}),
    "gemm transposed": (chain(("Gemm", ("w",), {"transB": 1})), {"w": WEIGHT.T.copy()}),
    "layer": (
        chain(("MatMul", ("w",), {}), ("Add", ("b",), {}), ("Relu", (), {})),
        {"w": WEIGHT, "b": ONES},
    ),
    "clip": (chain(("Clip", ("lo", "hi"), {})), {"lo": np.float32(-0.5), "hi": np.float32(1)}),
    "softmax": (chain(("Softmax", (), {"axis": -1})), {}),
    "log softmax": (chain(("LogSoftmax", (), {"axis": 1})), {}),
    "gelu": (chain(("Erf", (), {}), ("Mul", ("x",), {})), {}),
    "activations": (
        chain(
            ("LeakyRelu", (), {"alpha": 0.1}),
            ("Elu", (), {}),
            ("Softsign", (), {}),
            ("HardSigmoid", (), {}),
        ),
        {},
    ),
    "prelu": (chain(("PRelu", ("s",), {})), {"s": np.array([0.1, 0.2, 0.3], np.float32)}),
    "pow": (chain(("Pow", ("two",), {})), {"two": np.float32(2)}),
    "where": (
        [node("Greater", ("x", "z"), ("c",)), node("Where", ("c", "x", "z"))],
        {"z": np.float32(0.1)},
    ),
    "reduce": (
        [node("ReduceMean", ("x", "axes"), ("m",), keepdims=1), node("Sub", ("x", "m"))],
        {"axes": np.array([1], I64)},
    ),
    "reduce old": ([node("ReduceMax", ("x",), ("y",), axes=[1], keepdims=1)], {}),
    "l2": ([node("ReduceL2", ("x",), ("y",), axes=[1], keepdims=1)], {}),
    "layer norm": (
        [node("LayerNormalization", ("x", "s", "b"), epsilon=1e-3)],
        {"s": np.ones(3, np.float32) * 2, "b": np.ones(3, np.float32)},
    ),
    "batch norm": (
        [node("BatchNormalization", ("x", "s", "b", "m", "v"))],
        {k: np.array([0.5, 1, 2], np.float32) for k in "sbmv"},
    ),
    "shapes": (
        [
            node("Shape", ("x",), ("s",)),
            node("Gather", ("s", "zero"), ("rows",), axis=0),
            node("Unsqueeze", ("rows", "first"), ("rows1",)),
            node("Concat", ("rows1", "rest"), ("to",), axis=0),
            node("Reshape", ("x", "to"), ("r",)),
            node("Transpose", ("r",), ("t",), perm=[0, 2, 1]),
            node("Flatten", ("t",), ("y",)),
        ],
        {"zero": np.array(0, I64), "first": np.array([0], I64), "rest": np.array([3, -1], I64)},
    ),
    "slice": (
        [node("Slice", ("x", "a", "e", "axes"), ("s",)), node("Concat", ("s", "x"), axis=1)],
        {"a": np.array([1], I64), "e": np.array([3], I64), "axes": np.array([1], I64)},
    ),
    "split": (
        [node("Split", ("x", "n"), ("p", "q"), axis=1), node("Concat", ("q", "p"), axis=1)],
        {"n": np.array([1, 2], I64)},
    ),
    "gather": ([node("Gather", ("x", "i"), axis=1)], {"i": np.array([2, 0], I64)}),
    "expand": (
        [node("Expand", ("one", "s"), ("e",)), node("Add", ("x", "e"))],
        {"one": np.ones((1, 3), np.float32), "s": np.array([1, 3], I64)},
    ),
    "one hot": (
        [node("ArgMax", ("x",), ("i",), axis=1, keepdims=0), node("OneHot", ("i", "d", "v"))],
        {"d": np.array(3, I64), "v": np.array([0, 1], np.float32)},
    ),
    "top k": ([node("TopK", ("x", "k"), ("y", "i"), axis=1)], {"k": np.array([2], I64)}),
    "cumsum": ([node("CumSum", ("x", "a"))], {"a": np.array(1, I64)}),
    "casts": (
        [
            node("Cast", ("x",), ("i",), to=TensorProto.INT64),
            node("Cast", ("i",), to=TensorProto.FLOAT),
        ],
        {},
    ),
    "pad": ([node("Pad", ("x", "p"))], {"p": np.array([0, 1, 0, 2], I64)}),
    "mean of several": ([node("Mean", ("x", "x", "w"))], {"w": np.ones((1, 3), np.float32)}),
    "einsum": ([node("Einsum", ("x", "w"), equation="bi,ij->bj")], {"w": WEIGHT}),
}


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.replace(" ", "_"))
def test_operators_as_onnx_runtime(db, tmp_path, case):
    """No part stays whole, and the numbers are the same."""
    nodes, weights = CASES[case]
    path = saved(tmp_path, model(nodes, weights, opset=18 if case == "reduce" else 17))
    handle = db.import_model("m", path, features=["a", "b", "c"])
    assert not list(find(handle.model, Opaque))
    rows = pd.DataFrame(NUMBERS, columns=["a", "b", "c"])
    expected = by_runtime(path, {"x": NUMBERS})
    np.testing.assert_allclose(
        _array(handle.predict(rows)), expected.reshape(5, -1), rtol=1e-5, atol=1e-6
    )


IMAGES = {
    "conv": [node("Conv", ("x", "w"), pads=[1, 1, 1, 1], strides=[2, 2])],
    "conv same": [node("Conv", ("x", "w"), auto_pad="SAME_UPPER")],
    "max pool": [node("MaxPool", ("x",), kernel_shape=[2, 2], strides=[2, 2])],
    "average pool": [node("AveragePool", ("x",), kernel_shape=[3, 3], pads=[1, 1, 1, 1])],
    "global": [node("GlobalAveragePool", ("x",))],
}


@pytest.mark.parametrize("case", IMAGES)
def test_images(db, tmp_path, case):
    """One vector column fills an input of several sizes."""
    weights = {"w": np.random.default_rng(0).normal(size=(4, 2, 3, 3)).astype(np.float32)}
    path = saved(tmp_path, model(IMAGES[case], weights, [port("x", ["n", 2, 6, 6])]))
    handle = db.import_model("m", path)
    assert str(handle.model.features[0].of) == "float32[72]"
    images = np.random.default_rng(1).normal(size=(4, 2, 6, 6)).astype(np.float32)
    expected = by_runtime(path, {"x": images})
    np.testing.assert_allclose(
        _array(handle.predict(_vectors("x", images))), expected.reshape(4, -1), atol=1e-5
    )


def test_tokens_through_an_embedding(db, tmp_path):
    """Integers of an array stay integers: the table is read by them."""
    nodes = [
        node("Gather", ("table", "ids"), ("e",)),
        node("ReduceMean", ("e",), axes=[1], keepdims=0),
    ]
    table = np.random.default_rng(0).normal(size=(1 << 15, 2)).astype(np.float32)
    path = saved(
        tmp_path, model(nodes, {"table": table}, [port("ids", ["n", 3], TensorProto.INT64)])
    )
    ids = np.array([[1, 2, (1 << 15) - 1], [0, 0, 7]])
    handle = db.import_model("m", path)
    expected = by_runtime(path, {"ids": ids})
    np.testing.assert_allclose(_array(handle.predict(_vectors("ids", ids))), expected, atol=1e-6)


def test_what_we_lack_stays_whole(db, tmp_path):
    """Alone an operator runs by ONNX Runtime, between operators of ours."""
    nodes = [
        node("Relu", ("x",), ("r",)),
        node("Hardmax", ("r",), ("h",), axis=1),
        node("MatMul", ("h", "w")),
    ]
    path = saved(tmp_path, model(nodes, {"w": WEIGHT}))
    handle = db.import_model("m", path, features=["a", "b", "c"])
    (found,) = find(handle.model, Opaque)
    assert found.operators == "Hardmax"
    rows = pd.DataFrame(NUMBERS, columns=["a", "b", "c"])
    np.testing.assert_allclose(
        _array(handle.predict(rows)), by_runtime(path, {"x": NUMBERS}), atol=1e-6
    )
    assert len(handle.predict(rows[:0])) == 0


def test_texts_at_least_whole(db, tmp_path):
    """A network that reads texts itself."""
    nodes = [
        helper.make_node("LabelEncoder", ["x"], ["lower"], domain="ai.onnx.ml",
                         keys_strings=["YES", "no"], values_strings=["yes", "no"]),
        helper.make_node("LabelEncoder", ["lower"], ["y"], domain="ai.onnx.ml",
                         keys_strings=["yes", "no"], values_floats=[1.0, -1.0], default_float=0.0),
    ]  # fmt: skip
    made = model(nodes, {}, [port("x", ["n"], TensorProto.STRING)], ai_onnx_ml=2)
    handle = db.import_model("m", saved(tmp_path, made))
    rows = pa.table({"x": ["YES", "no", "perhaps", None]})
    found = handle.predict(rows)
    np.testing.assert_array_equal(np.asarray(found, float), [1.0, -1.0, 0.0, np.nan])


def test_a_batch_of_one_row(db, tmp_path):
    """Files written for one row predict any number of them."""
    nodes = [node("Reshape", ("x", "s"), ("r",)), node("MatMul", ("r", "w"))]
    weights = {"s": np.array([1, 3], I64), "w": WEIGHT}
    path = saved(tmp_path, model(nodes, weights, [port("x", [1, 3])]))
    handle = db.import_model("m", path, features=["a", "b", "c"])
    rows = pd.DataFrame(NUMBERS, columns=["a", "b", "c"])
    np.testing.assert_allclose(_array(handle.predict(rows)), NUMBERS @ WEIGHT, atol=1e-6)


def test_trees_are_operators(db, tmp_path):
    """Comparisons of every kind, NaN on its side."""
    modes = ["BRANCH_LT", "BRANCH_GTE", "LEAF", "LEAF", "LEAF"]
    forest = helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_targets=1,
        nodes_treeids=[0] * 5, nodes_nodeids=[0, 1, 2, 3, 4], nodes_featureids=[0, 1, 0, 0, 0],
        nodes_values=[0.5, 0.25, 0, 0, 0], nodes_modes=modes, nodes_truenodeids=[1, 2, 0, 0, 0],
        nodes_falsenodeids=[4, 3, 0, 0, 0], nodes_missing_value_tracks_true=[1, 0, 0, 0, 0],
        target_treeids=[0, 0, 0], target_nodeids=[2, 3, 4], target_ids=[0, 0, 0],
        target_weights=[1.0, 2.0, 3.0],
    )  # fmt: skip
    path = saved(tmp_path, model([forest], {}, ai_onnx_ml=1))
    handle = db.import_model("m", path)
    assert len(list(find(handle.model, Trees))) == 1
    x = np.array(
        [[0.5, 0, 0], [0.49, 0.25, 0], [0, 0.2, 0], [np.nan, 0.25, 0], [0, np.nan, 0]], np.float32
    )
    found = _array(handle.predict(_vectors("x", x)))
    np.testing.assert_array_equal(found[:, 0], by_runtime(path, {"x": x})[:, 0])


def test_outputs_classes_and_labels(db, tmp_path):
    """The first output as it is, another one by name, logits of classes, a value of a label."""
    nodes = [
        node("MatMul", ("x", "w"), ("scores",)),
        node("ReduceSum", ("scores", "a"), ("total",)),
    ]
    weights = {"w": WEIGHT, "a": np.array([1], I64)}
    path = saved(tmp_path, model(nodes, weights, outputs=("scores", "total")))
    rows = pd.DataFrame(NUMBERS, columns=["a", "b", "c"])
    features = ["a", "b", "c"]
    assert _array(db.import_model("m", path, features=features).predict(rows)).shape == (5, 4)
    total = db.import_model("m", path, features=features, output="total", label="y")
    assert total.model.task == "regression"
    np.testing.assert_allclose(
        _array(total.predict(rows))[:, 0], (NUMBERS @ WEIGHT).sum(axis=1), atol=1e-5
    )
    kinds = db.import_model("m", path, features=features, classes=["p", "q", "r", "s"])
    assert list(kinds.predict(rows)) == ["pqrs"[i] for i in (NUMBERS @ WEIGHT).argmax(axis=1)]
    with pytest.raises(gb.errors.BindError, match="no output `totals`"):
        db.import_model("m", path, features=features, output="totals")
    with pytest.raises(gb.errors.ShapeError, match="4 numbers per row"):
        db.import_model("m", path, features=features, label="y")


def test_missing_values(db, tmp_path):
    """NULL in any feature gives NULL, NaN passes through."""
    path = saved(tmp_path, model(chain(("Relu", (), {}))))
    db.import_model("m", path, features=["a", "b", "c"])
    found = db.sql("""SELECT PREDICT(m, *) AS p FROM (VALUES (1.0::DOUBLE, 2.0, 3.0), (NULL, 2, 3), ('nan'::DOUBLE, -2, 3)) t(a, b, c)
                      ORDER BY a""").fetchall()
    assert list(found[0][0]) == [1.0, 2.0, 3.0]
    np.testing.assert_array_equal(found[1][0], [np.nan, 0.0, 3.0])
    assert found[2][0] is None


def test_numbers_for_a_vector_are_told_how_to_be_given(db, tmp_path):
    db.import_model("v", saved(tmp_path, model(chain(("Relu", (), {})))))
    assert db.sql("SELECT PREDICT(v, [1, -2, 3])").fetchall() == [([1.0, 0.0, 3.0],)]
    with pytest.raises(gb.errors.BindError, match=r"an array of 3 numbers.*PREDICT\(v, \[a, b"):
        db.sql("SELECT PREDICT(v, 1, -2, 3)")


def test_rows_that_mix_are_refused(db, tmp_path):
    """A prediction that depended on its neighbours would be none."""
    path = saved(tmp_path, model([node("Softmax", ("x",), axis=0)]))
    with pytest.raises(gb.errors.UnsupportedError, match="mixes the rows"):
        db.import_model("m", path, features=["a", "b", "c"])


def _array(found):
    values = np.asarray(found)
    return np.array(values.tolist(), float).reshape(len(values), -1)


def _vectors(name, values):
    flat = values.reshape(len(values), -1)
    return pa.table(
        {name: pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), flat.shape[1])}
    )
