"""Compiled programs equal the plain definition, on every path through them."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from small_models import Arrays, encoded, heads, logits, mlp

from gradbase.errors import DataError, UnsupportedError
from gradbase.ir import tensor as t
from gradbase.ir.conversion import Category, Numeric, ToTensor, Vector
from gradbase.ir.learning import Feature, Model
from gradbase.ir.types import FLOAT64, TEXT, SqlType, array_of
from gradbase.runtime.context import Metrics
from gradbase.runtime.program import Program, tile_rows


def batch_of(columns, names=None):
    arrays = [c if isinstance(c, pa.Array) else pa.array(c) for c in columns]
    return pa.RecordBatch.from_arrays(arrays, names or [f"f{i}" for i in range(len(arrays))])


def run(program, batch, tile=0, metrics=None):
    return program.runner([c.type for c in batch.columns], tile, metrics)(batch)


def numbers(rows, width, dtype=np.float32, seed=1):
    return [c.astype(dtype) for c in np.random.default_rng(seed).normal(0, 2, (width, rows))]


@pytest.mark.parametrize("indicator", [False, True])
@pytest.mark.parametrize("bitwise", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int64])
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("tile", [256, 8192])
def test_probabilities_equal_plain_numpy(indicator, bitwise, dtype, missing, tile):
    arrays = Arrays()
    model = mlp(arrays, indicator=indicator, hidden=(8, 5))
    columns = [pa.array(c) for c in numbers(700, 4, dtype)]
    if missing:
        columns[1] = pa.array(
            [None if i % 7 == 0 else v for i, v in enumerate(columns[1].to_pylist())],
            columns[1].type,
        )
    plain = [c.to_numpy(zero_copy_only=False) for c in columns]
    expected = 1 / (1 + np.exp(-logits(model, arrays, encoded(model, plain))[:, 0]))
    metrics = Metrics()
    found = run(
        Program(model, ["proba"], arrays, bitwise=bitwise), batch_of(columns), tile, metrics
    )[0]
    assert np.allclose(found.to_numpy(), expected, rtol=0, atol=2e-6)
    if not missing:
        assert metrics["slow_tiles"] == 0


def test_a_mean_far_from_zero_is_not_folded_into_weights():
    arrays = Arrays()
    model = mlp(arrays, mean=1e6, scale=1.0)
    columns = [1e6 + c for c in numbers(50, 4, np.float64)]
    expected = 1 / (1 + np.exp(-logits(model, arrays, encoded(model, columns))[:, 0]))
    found = run(Program(model, ["proba"], arrays), batch_of(columns))[0]
    assert np.allclose(found.to_numpy(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_infinity_is_found_even_where_relu_and_zero_weights_hide_it(value):
    arrays = Arrays()
    leaf = t.Concat((ToTensor("a", Numeric(0.0, 1.0, indicator=False)),) * 2)
    x = t.Linear(
        leaf, arrays.param(np.zeros((3, 2), np.float32)), arrays.param(np.full(3, -1.0, np.float32))
    )
    x = t.Linear(t.Unary("relu", x), arrays.param(np.ones((1, 3), np.float32)))
    model = Model("m", 1, 0, "binary", "y", (Feature("a", FLOAT64),), heads(x, "binary"))
    column = np.zeros(1000)
    column[700] = value
    with pytest.raises(DataError, match=r"column `a` holds -?inf in row 711"):
        Program(model, ["label"], arrays).runner([pa.float64()], 256)(
            batch_of([column]), first_row=10
        )


@pytest.mark.parametrize(
    ("kind", "labels", "expected"),
    [
        (TEXT, ("no", "yes"), ["no", "yes"]),
        (SqlType("bool"), (False, True), [False, True]),
        (SqlType("int32"), (3, 7), [3, 7]),
        (SqlType("decimal", size=(9, 2)), ("1.50", "2.25"), ["1.50", "2.25"]),
        (SqlType("date"), ("2024-01-01", "2024-01-02"), ["2024-01-01", "2024-01-02"]),
    ],
)
def test_labels_have_the_labels_own_type(kind, labels, expected):
    arrays = Arrays()
    model = mlp(arrays, kind=kind, labels=labels, seed=5)
    label, proba, probs = run(
        Program(model, ["label", "proba", "probs"], arrays), batch_of(numbers(40, 4))
    )
    positive = proba.to_numpy() > 0.5
    wanted = [expected[int(p)] for p in positive]
    assert [v if isinstance(v, (bool, int)) else str(v) for v in label.to_pylist()] == wanted
    assert 0 < positive.sum() < 40
    first = probs[0].as_py()
    assert [str(p["label"]) for p in first] == [str(e) for e in expected]
    assert first[1]["prob"] == proba[0].as_py()
    assert first[0]["prob"] + first[1]["prob"] == pytest.approx(1)


def test_multiclass_outputs():
    arrays = Arrays()
    model = mlp(arrays, task="multiclass", outputs=3, labels=("a", "b", "c"))
    columns = numbers(300, 4)
    z = logits(model, arrays, encoded(model, columns))
    expected = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    label, proba, probs = run(
        Program(model, ["label", "proba", "probs"], arrays), batch_of(columns), 256
    )
    assert np.allclose(np.stack(proba.to_pylist()), expected, atol=2e-6)
    assert label.to_pylist() == [("a", "b", "c")[i] for i in z.argmax(1)]
    assert [p["label"] for p in probs[0].as_py()] == ["a", "b", "c"]
    assert [p["prob"] for p in probs[5].as_py()] == proba[5].as_py()


def test_ties_take_the_lower_class():
    x = t.Concat(tuple(ToTensor("a", Numeric(0.0, 1.0, indicator=False)) for _ in range(3)))
    model = Model(
        "m",
        1,
        0,
        "multiclass",
        "y",
        (Feature("a", FLOAT64),),
        heads(x, "multiclass", ("a", "b", "c")),
    )
    assert run(Program(model, ["label"], None), batch_of([[1.0, 2.0]]))[0].to_pylist() == ["a", "a"]
    binary = Model("m", 1, 0, "binary", "y", (Feature("a", FLOAT64),), heads(x.parts[0], "binary"))
    assert run(Program(binary, ["label"], None), batch_of([[0.0, 1e-9]]))[0].to_pylist() == [
        "no",
        "yes",
    ]


def test_regression_values_are_scaled_back():
    arrays = Arrays()
    model = mlp(arrays, task="regression")
    columns = numbers(30, 4)
    expected = logits(model, arrays, encoded(model, columns))[:, 0] * 2 + 10
    found = run(Program(model, ["value"], arrays), batch_of(columns))[0]
    assert found.type == pa.float64()
    assert np.allclose(found.to_numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("outputs", [1, 3])
def test_imported_networks_give_null_for_null_and_pass_nan(outputs):
    arrays = Arrays()
    model = mlp(arrays, task="raw", outputs=outputs, mean=0.0, scale=1.0, hidden=())
    columns = [pa.array([1.0, None, math.nan, math.inf]), *(pa.array([1.0] * 4) for _ in range(3))]
    found = run(Program(model, ["raw"], arrays), batch_of(columns))[0].to_pylist()
    assert found[1] is None
    first, nan, inf = (np.atleast_1d(found[i]) for i in (0, 2, 3))
    assert np.isfinite(first).all()
    assert np.isnan(nan).all()
    assert np.isinf(inf).all()


def mixed(arrays):
    """A network over numbers, dates, categories and a vector."""
    random = np.random.default_rng(3)
    table = random.normal(size=(4, 2)).astype(np.float32)
    encodings = Category(("a", "b", "c"), 0), Category(("x",), 2)
    parts = (
        ToTensor("n", Numeric(1.0, 0.5, indicator=True)),
        t.Embedding(ToTensor("c", encodings[0]), arrays.param(table)),
        ToTensor("d", Numeric(2000.0, 0.1, indicator=True, part="year")),
        t.OneHot(ToTensor("e", encodings[1]), 3),
        ToTensor("v", Vector(2)),
        ToTensor("b", Numeric(0.0, 1.0, indicator=False)),
    )
    x = t.Concat(parts)
    weight = random.normal(size=(1, x.shape[-1])).astype(np.float32)
    names = {
        "n": FLOAT64,
        "c": TEXT,
        "d": SqlType("date"),
        "e": TEXT,
        "v": array_of(FLOAT64, 2),
        "b": SqlType("bool"),
    }
    features = tuple(Feature(n, k) for n, k in names.items())
    return (
        Model(
            "m",
            1,
            0,
            "regression",
            "y",
            features,
            heads(t.Linear(x, arrays.param(weight)), "regression"),
        ),
        weight,
        table,
    )


def test_columns_of_every_kind_side_by_side():
    arrays = Arrays()
    model, weight, table = mixed(arrays)
    columns = [
        pa.array([3.0, None]), pa.array(["b", "?"]), pa.array(["2010-05-05", None]).cast(pa.date32()),
        pa.array(["x", None]), pa.array([[1.0, 2.0], None], pa.list_(pa.float64(), 2)), pa.array([True, False]),
    ]  # fmt: skip
    x = np.array([
        [1.0, 0, *table[2], 1.0, 0, 1, 0, 1, 2, 1],
        [0.0, 1, *table[0], 0.0, 1, 0, 1, 0, 0, 0],
    ])  # fmt: skip
    found = run(Program(model, ["value"], arrays), batch_of(columns, list("ncdevb")))[0]
    assert np.allclose(found.to_numpy(), (x @ weight.T)[:, 0] * 2 + 10, atol=1e-5)


def every_operator(arrays):
    """Roots over leaf x Tensor[rows, 4], each with its torch meaning."""
    leaf = t.Concat(tuple(ToTensor(f"f{i}", Numeric(0.0, 1.0, indicator=False)) for i in range(4)))
    w = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    square, param = torch.from_numpy(w), arrays.param(w)
    positive = t.Unary("exp", leaf)
    cases = [(t.Unary(u, positive), lambda x, u=u: _unary(u)(x.exp())) for u in t.UNARY]
    for op, name in (
        ("add", "add"),
        ("sub", "sub"),
        ("mul", "mul"),
        ("div", "div"),
        ("maximum", "maximum"),
        ("minimum", "minimum"),
    ):
        cases.append(
            (
                t.Binary(op, leaf, t.Const((1.0, 2.0, 3.0, 4.0), (4,))),
                lambda x, n=name: getattr(torch, n)(x, torch.tensor([1.0, 2, 3, 4])),
            )
        )
    cube = t.Reshape(leaf, (-1, 2, 2))
    cases += [
        (t.MatMul(leaf, param), lambda x: x @ square),
        (t.Softmax(leaf), lambda x: torch.softmax(x, -1)),
        (t.Concat((t.Unary("relu", leaf), leaf)), lambda x: torch.cat((x.relu(), x), -1)),
        (t.Linear(t.Unary("tanh", t.Linear(leaf, param)), param), lambda x: torch.tanh(x @ square.T) @ square.T),
        (t.Reshape(t.Linear(cube, t.Const((1.0, 2.0, 3.0, 4.0), (2, 2))), (-1, 4)), lambda x: (x.view(-1, 2, 2) @ torch.tensor([[1.0, 3], [2, 4]])).reshape(-1, 4)),
        (aten("addmm.default", (arrays.param(w[0]), leaf, t.Unary("tanh", param)), [{"$": 0}, {"$": 1}, {"$": 2}], (-1, 4)), lambda x: square[0] + x @ square.tanh()),
        (aten("sum.dim_IntList", (leaf,), [{"$": 0}, [-1], True, {"**": {"dtype": {"dtype": "float32"}}}], (-1, 1)), lambda x: x.sum(-1, keepdim=True)),
        (aten("add.Tensor", (leaf, aten("ones.default", (), [[{"B": None}, 4]], (-1, 4))), [{"$": 0}, {"$": 1}], (-1, 4)), lambda x: x + 1),
        (aten("max.dim", (leaf,), [{"$": 0}, 1, True], (-1, 1)), lambda x: x.max(1, keepdim=True)[0]),
    ]  # fmt: skip
    return cases


def aten(target, inputs, arguments, dims):
    return t.TorchOp(target, inputs, json.dumps(arguments), dims)


def _unary(name):
    return getattr(torch, name, None) or getattr(torch.nn.functional, name)


def test_every_operator_means_what_torch_means():
    arrays = Arrays()
    columns = numbers(300, 4)
    x = torch.from_numpy(np.stack(columns, axis=1))
    features = tuple(Feature(f"f{i}", FLOAT64) for i in range(4))
    for root, reference in every_operator(arrays):
        model = Model("m", 1, 0, "raw", "", features, heads(root, "raw"), imported=True)
        found = run(Program(model, ["raw"], arrays), batch_of(columns), 256)[0]
        values = torch.tensor(found.to_pylist()).reshape(300, -1)
        assert torch.allclose(values, reference(x), rtol=1e-4, atol=1e-5), root


def test_a_value_with_two_readers_is_not_overwritten():
    arrays = Arrays()
    leaf = ToTensor("f0", Numeric(0.0, 1.0, indicator=False))
    layer = t.Linear(leaf, t.Const((1.0,), (1, 1)))
    both = t.Concat((t.Unary("relu", layer), layer))
    model = Model(
        "m", 1, 0, "raw", "", (Feature("f0", FLOAT64),), heads(both, "raw"), imported=True
    )
    assert run(Program(model, ["raw"], arrays), batch_of([[-1.0]]))[0].to_pylist() == [[0.0, -1.0]]


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (
            t.UserModule(
                "nets:deep", "{}", "", ToTensor("f0", Numeric(0.0, 1.0, indicator=False)), 1, (), ()
            ),
            "needs the Python function `nets:deep`",
        ),
        (
            aten("from_file.default", (), ["/etc/passwd"], (-1, 1)),
            "`from_file.default` is not among those",
        ),
    ],
)
def test_what_cannot_run_is_refused_by_name(node, message):
    model = Model(
        "m", 1, 0, "raw", "", (Feature("f0", FLOAT64),), heads(node, "raw"), imported=True
    )
    with pytest.raises(UnsupportedError, match=message):
        Program(model, ["raw"], None)


def test_no_rows_give_empty_columns_of_the_right_types():
    arrays = Arrays()
    model = mlp(arrays, labels=("no", "yes"))
    program = Program(model, ["label", "proba", "probs"], arrays)
    found = run(program, batch_of([pa.array([], pa.float32())] * 4))
    assert [len(c) for c in found] == [0, 0, 0]
    assert [c.type for c in found] == program.types


def test_results_do_not_alias_the_buffers_of_the_next_batch():
    arrays = Arrays()
    model = mlp(arrays, task="raw", outputs=2)
    batch = batch_of(numbers(10, 4))
    runner = Program(model, ["raw"], arrays).runner([c.type for c in batch.columns])
    first = runner(batch)[0]
    before = first.to_pylist()
    runner(batch_of(numbers(10, 4, seed=9)))
    assert first.to_pylist() == before


@pytest.mark.parametrize(("hidden", "expected"), [((16,), 8192), ((256,), 1024), ((100_000,), 256)])
def test_tiles_fit_the_cache(hidden, expected):
    assert tile_rows(mlp(Arrays(), width=28, hidden=hidden), 1 << 20) == expected
