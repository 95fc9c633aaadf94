"""The exact solution of a linear regression, against NumPy's least squares."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from training_tables import dataset_of, fit_of, make_table, prepared

from gradbase.errors import UnsupportedError
from gradbase.runtime.train import normal_equation
from gradbase.runtime.train.trainer import make_trainer


def trained(rows, *, intercept=True, l2_reg=0.0, **options):
    data = prepared(rows, "value", "regression", embeddings=False, centred=intercept, **options)
    fit = fit_of(
        dataset_of(rows, "value", "regression", **options),
        hidden=(), optimizer="normal_equation", l2_reg=l2_reg, intercept=intercept,
    )  # fmt: skip
    trainer = make_trainer(fit, data, dtype=torch.float64)
    losses = [trainer.run_unit(0, shard) for shard in range(len(data.shards))]
    return data, trainer, losses


@pytest.fixture
def rows():
    table = make_table(300).drop_columns(["y"])
    return table.append_column("w", pa.array([float(i % 3) for i in range(300)]))


@pytest.mark.parametrize("weight", ["", "w"])
@pytest.mark.parametrize("l2_reg", [0.0, 0.1])
@pytest.mark.parametrize("intercept", [True, False])
def test_the_solution_is_that_of_least_squares(rows, intercept, l2_reg, weight):
    """One-hot columns and the constant depend on each other: the smallest solution is taken."""
    rows = rows if weight else rows.drop_columns(["w"])
    data, trainer, _ = trained(rows, intercept=intercept, l2_reg=l2_reg, weight=weight)
    train = np.concatenate(data.shards)
    x, y = data.x[train].astype(float), data.target.y[train]
    x = x if intercept else x[:, :-1]
    root = np.sqrt(data.weights[train] if weight else np.ones(len(y)))[:, None]
    penalty = np.sqrt(l2_reg * len(y) / 2) * np.eye(x.shape[1])
    expected = np.linalg.lstsq(
        np.concatenate([x * root, penalty]),
        np.concatenate([y * root[:, 0], np.zeros(len(penalty))]),
        rcond=1e-12,
    )[0]
    found = trainer._engine.layers(0)[0][1][0][:, 0].numpy()
    assert found[: len(expected)] == pytest.approx(expected, rel=1e-6, abs=1e-8)
    if not intercept:
        assert found[-1] == 0


def test_it_is_where_gradient_descent_goes(rows):
    rows = rows.drop_columns(["w", "code"])
    data, exact, losses = trained(rows)
    node = dataset_of(rows, "value", "regression")
    steps = make_trainer(fit_of(node, hidden=(), optimizer="adam", learn_rate=0.03), data)
    for epoch in range(60):
        for shard in range(2):
            steps.run_unit(epoch, shard)
    assert exact.evaluate()[0][0] == pytest.approx(steps.evaluate()[0][0], rel=0.03)
    size = [len(s) for s in data.shards]
    total = sum(loss * n for (loss,), n in zip(losses, size, strict=True)) / sum(size)
    assert total <= exact.data.target.scale**2 * 1.01


def test_the_order_of_rows_in_the_table_does_not_matter(rows):
    shuffled = rows.take(np.random.default_rng(5).permutation(rows.num_rows))
    layers = [trained(t, weight="w")[1]._engine.layers(0)[0][1][0] for t in (rows, shuffled)]
    assert torch.equal(*layers)


def test_its_state_is_everything(rows):
    _, first, _ = trained(rows, weight="w")
    _, second, _ = trained(rows, weight="w", l2_reg=9.0)
    second.load_state(0, first.state(0))
    assert second.evaluate() == first.evaluate()


def test_a_wide_system_is_refused_with_the_way_out(rows, monkeypatch):
    monkeypatch.setattr(normal_equation, "MAX_COLUMNS", 20)
    with pytest.raises(UnsupportedError, match=r"up to 20 encoded columns(.|\n)*gradient_descent"):
        trained(rows, weight="w")
