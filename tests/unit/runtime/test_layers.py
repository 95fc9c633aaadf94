"""Chains of layers in machine code: values, missing values, sizes, machines without a compiler."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
import torch
from small_models import Arrays

from gradbase.errors import DataError
from gradbase.ir.chains import chain_of
from gradbase.ir.conversion import Numeric, ToTable, ToTensor
from gradbase.ir.learning import Feature, Model
from gradbase.ir.tensor import Concat, Linear, Unary
from gradbase.ir.types import FLOAT32, FLOAT64
from gradbase.runtime.layers import building
from gradbase.runtime.layers.chain import Calls, Layers
from gradbase.runtime.program import Program

pytestmark = pytest.mark.skipif(building.library() is None, reason="there is no C compiler")


@pytest.fixture(scope="module")
def random():
    return np.random.default_rng(5)


def exact(x, weights, activations):
    for (weight, bias), activation in zip(weights, activations, strict=True):
        x = weight.double().numpy() @ x + (0 if bias is None else bias.double().numpy()[:, None])
        x = np.maximum(x, 0) if activation == "relu" else x
    return x


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 256, 257, 1000])
@pytest.mark.parametrize(
    "sizes", [(1, 1), (3, 5, 4, 2), (28, 16, 1), (7, 13, 3), (300, 12, 9)], ids=str
)
def test_layers_give_what_float64_gives(random, rows, sizes):
    weights = [
        (torch.from_numpy((random.standard_normal((o, i)) / i**0.5).astype(np.float32)), bias)
        for i, o in itertools.pairwise(sizes)
        for bias in (None if i % 2 else torch.ones(o),)
    ]
    activations = ["relu"] * (len(weights) - 1) + [""]
    columns = torch.from_numpy(random.standard_normal((sizes[0], rows)).astype(np.float32))
    found, check = Calls(Layers(building.library(), weights, activations)).matrix(columns)
    expected = exact(columns.double().numpy(), weights, activations)
    assert np.isfinite(check)
    assert np.allclose(found.numpy().T, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 64, 299])
def test_a_value_that_is_not_finite_is_told(value, row):
    columns = torch.ones(2, 300)
    columns[1, row] = value
    layers = Layers(building.library(), [(torch.ones(9, 2), None)], ["relu"])
    found, check = Calls(layers).matrix(columns)
    assert not np.isfinite(check)
    assert np.isnan(found.numpy()).any() == np.isnan(value)


# -- in programs -------------------------------------------------------------------------------

NAMES = ("a", "b", "c")


def model(arrays, *, imported=False, shift=0.5):
    encodings = [Numeric(0.0, 1.0, False)] * 3 if imported else [
        Numeric(shift, 2.0, False), Numeric(0.0, 1.0, True), Numeric(-1.0, 0.5, False)
    ]  # fmt: skip
    x = Concat(tuple(ToTensor(n, e) for n, e in zip(NAMES, encodings, strict=True)))
    generator = np.random.default_rng(1)

    def param(*shape):
        return arrays.param(generator.standard_normal(shape).astype(np.float32))

    hidden = Unary("relu", Linear(x, param(20, x.shape[1]), param(20)))
    out = ToTable(Linear(hidden, param(1, 20), param(1)), "value", FLOAT64)
    features = tuple(Feature(n, FLOAT32) for n in NAMES)
    return Model("m", 1, 0, "regression", "y", features, (out,), imported=imported)


def predictions(model, arrays, columns, *, native):
    batch = pa.record_batch(columns, list(NAMES))
    program = Program(model, ["value"], arrays, native=native)
    assert (program.chain is not None) == native
    (found,) = program.runner(batch.schema.types, 64)(batch)
    return found


ROWS = 500
COLUMNS = {
    "float32": [pa.array(np.linspace(-3, 3, ROWS, dtype=np.float32))] * 3,
    "other types": [
        pa.array(np.arange(ROWS) % 7), pa.array(np.linspace(-3, 3, ROWS)),
        pa.array((np.arange(ROWS) % 5).astype(np.int8)),
    ],
    "NULL": [pa.array([None, 1.0] * 250, pa.float32())] * 3,
    "NaN": [pa.array([float("nan"), 1.0] * 250, pa.float32())] * 3,
    "a slice": [pa.array(np.linspace(-3, 3, ROWS + 9, dtype=np.float32)).slice(9)] * 3,
}  # fmt: skip


@pytest.mark.parametrize("imported", [False, True])
@pytest.mark.parametrize("shift", [0.5, 400.0])
@pytest.mark.parametrize("name", COLUMNS)
def test_programs_predict_as_by_torch(name, imported, shift):
    arrays = Arrays()
    made = model(arrays, imported=imported, shift=shift)
    with_code, by_torch = (
        predictions(made, arrays, COLUMNS[name], native=n).to_numpy(zero_copy_only=False)
        for n in (True, False)
    )
    assert np.allclose(with_code, by_torch, rtol=1e-5, atol=1e-4, equal_nan=True)
    assert np.isnan(by_torch).any() == (imported and name in ("NULL", "NaN"))


def test_an_infinite_value_is_named():
    arrays = Arrays()
    columns = [pa.array([1.0, 2.0], pa.float32())] * 2 + [pa.array([1.0, np.inf], pa.float32())]
    with pytest.raises(DataError, match="column `c` holds inf in row 2"):
        predictions(model(arrays), arrays, columns, native=True)


def test_only_chains_of_layers_are_chains():
    x = ToTensor("a", Numeric(0.0, 1.0, False))
    arrays = Arrays()
    weight = arrays.param(np.ones((1, 1), np.float32))
    layer = Linear(x, weight)
    assert chain_of(layer).layers == (layer,)
    assert chain_of(Unary("relu", layer)).activations == ("relu",)
    assert chain_of(Unary("tanh", layer)) is None
    assert chain_of(x) is None
    assert chain_of(Linear(layer, Linear(layer, weight))) is None


def test_without_a_compiler_torch_computes(monkeypatch):
    building.library.cache_clear()
    monkeypatch.setenv("CC", "no-such-compiler")
    try:
        assert building.library() is None
        arrays = Arrays()
        assert Program(model(arrays), ["value"], arrays).chain is None
    finally:
        building.library.cache_clear()
