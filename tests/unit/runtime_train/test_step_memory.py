"""What a step will hold is told before it is taken."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

import gradbase as gb
from gradbase.ir.learning import Dataset, Fit, Mlp, Optimizer, Split
from gradbase.ir.relational import Scan
from gradbase.ir.types import FLOAT64, Schema
from gradbase.optimizer.cost_memory import stack_bytes
from gradbase.runtime.train import adam
from gradbase.runtime.train.kernel import Kernel
from gradbase.runtime.train.module import make_optimizer
from gradbase.runtime.train.networks import Blocks, MlpShape
from gradbase.runtime.train.step_memory import StepMemory, _step, bounded_memory, module_memory
from gradbase.runtime.train.updates import FlatUpdate, LoneUpdate

ADAMW = Optimizer("adamw", 0.01, 0.1)
DATA = Dataset(Scan("t", "", Schema.of(x=FLOAT64, y=FLOAT64)), ("x",), "y", "regression",
               Split("none", 0, 0), (), 1, 0)  # fmt: skip


def fits(network, optimizer, count):
    return [Fit(DATA, k, network, optimizer, 64, 1, False, 0.0, False, 1) for k in range(count)]


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True)
        self.last = nn.Linear(64, 1)

    def forward(self, x):
        return self.last(self.inside(x.unflatten(1, (4, 16))).flatten(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside, self.last = nn.LSTM(16, 32, batch_first=True), nn.Linear(32, 1)

    def forward(self, x):
        return self.last(self.inside(x.unflatten(1, (4, 16)))[0][:, -1])


MODULES = {
    "perceptron": lambda: nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 1)),
    "convolutions": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 1),
    ),
    "attention": Attention,
    "recurrent": Recurrent,
}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_a_module_holds_what_was_told(name):
    """Within 15 % of the peak of a step that is really taken."""

    def update(parameters):
        return make_optimizer(ADAMW, parameters)

    module = MODULES[name]()
    before = [p.detach().clone() for p in module.parameters()]
    told = module_memory(module, update, inputs=64, task="binary", batch=32)
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    taken = gb.memory.trace(_step(module, update, torch.zeros(32, 64), "binary"))
    assert told.peak == pytest.approx(taken.peak, rel=0.15)
    assert told.persistent == pytest.approx(taken.persistent_bytes, rel=0.15)
    assert any("statistics" in r for r in told.reasons) == (name == "convolutions")
    sizes = {"inputs": 64, "task": "binary", "batch": 32}
    bound = bounded_memory(module, **sizes, limit=1 << 30)
    assert taken.peak <= bound.peak <= 6 * taken.peak
    assert bounded_memory(module, **sizes, limit=2 * taken.peak) is None


def test_a_module_that_looks_at_values_tells_nothing():
    class Looking(nn.Linear):
        def forward(self, x):
            return super().forward(x) * (2 if float(x.sum()) > 0 else 1)

    assert module_memory(Looking(4, 1), torch.optim.SGD, inputs=4, task="binary", batch=8) is None


def test_dropout_stands_against_cutting_a_batch():
    module = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    told = module_memory(module, torch.optim.SGD, inputs=8, task="binary", batch=8)
    assert any("random" in r for r in told.reasons)


@pytest.mark.parametrize(
    ("limit", "parts"), [(1000, 1), (600, 2), (300, 8), (201, None), (100, None)]
)
def test_into_how_many_parts_a_batch_is_cut(limit, parts):
    assert StepMemory(1000, 200, 50).parts(limit, 32) == parts


STACKS = [
    (51, (64, 32), 1, 32, 256, ADAMW), (51, (128, 64), 1, 1, 256, Optimizer("adam", 0.1)),
    (51, (64, 32), 3, 16, 512, Optimizer("sgd", 0.1, 0.0, 0.9)), (100, (64,), 1, 64, 64, ADAMW),
    (20, (32, 32, 32), 5, 8, 512, Optimizer("rmsprop", 0.1)),
]  # fmt: skip


@pytest.mark.parametrize("stack", STACKS)
def test_a_stack_holds_what_was_told(stack, monkeypatch):
    monkeypatch.setattr(adam, "machine_code", lambda: None)  # of which no trace sees anything
    inputs, hidden, outputs, count, batch, optimizer = stack
    alone = count == 1
    shape = MlpShape(inputs + 1, (), hidden, outputs, "relu", not alone)
    blocks = Blocks(shape, count)
    weights = torch.zeros(blocks.total)
    gradients = torch.zeros_like(weights)
    kernel = Kernel(shape, count, blocks.views(weights), blocks.views(gradients))
    members = fits(Mlp(hidden), optimizer, count)
    if alone:
        update = LoneUpdate(blocks, optimizer, weights, gradients)
    else:
        update = FlatUpdate(blocks, [f.optimizer for f in members], weights, gradients)
    x = torch.zeros(batch, shape.columns[0])

    def step():
        kernel.backward(kernel.forward(x, None, None).clone())
        update.step()

    sizes = list(itertools.pairwise((inputs, *hidden, outputs)))
    assert stack_bytes(sizes, members, batch) == pytest.approx(gb.memory.trace(step).peak, rel=0.15)
