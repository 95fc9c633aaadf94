"""Users' modules as one stack: gradients as alone, and no dependence on who else is in it."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from given_networks import Given
from torch import nn
from training_tables import dataset_of, make_table, prepared

from gradbase.ir.learning import Fit, FusedFit, Optimizer, PythonNetwork
from gradbase.ir.stepping import Stepping
from gradbase.runtime.stacking.alike import likeness
from gradbase.runtime.stacking.pilot import pilot
from gradbase.runtime.train.trainer import make_trainer


class Branches(nn.Module):
    """What is no layer: branches, functions of all kinds, parameters of its own."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(inputs))
        self.register_buffer("offset", torch.rand(inputs))
        self.a, self.b = nn.Linear(inputs, 5), nn.Linear(inputs, 5, bias=False)
        self.out = nn.Linear(10, outputs)

    def forward(self, x):
        x = x * self.scale + self.offset
        both = torch.cat([torch.tanh(self.a(x)), F.relu(self.b(x)).square()], 1)
        return self.out(both - both.mean(1, keepdim=True))


class Attention(nn.Module):
    def __init__(self, inputs, outputs, dropout=0.1):
        super().__init__()
        self.widen = nn.Linear(inputs, 32)
        self.encode = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=dropout)
        self.out = nn.Linear(8, outputs)

    def forward(self, x):
        return self.out(self.encode(self.widen(x).view(-1, 4, 8)).mean(1))


class Codes(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.table = nn.Embedding(7, 3)
        self.out = nn.Linear(inputs + 3, outputs)

    def forward(self, x):
        codes = (x[:, 0].abs() * 2).clamp(max=6).long()
        return self.out(torch.cat([self.table(codes), x], 1))


NETWORKS = {
    "linear": lambda i, o: nn.Sequential(nn.Linear(i, 9), nn.Tanh(), nn.Linear(9, o)),
    "batch norm, dropout": lambda i, o: nn.Sequential(
        nn.Linear(i, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, o)
    ),
    "layer norm": lambda i, o: nn.Sequential(
        nn.Linear(i, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, o)
    ),
    "convolutions": lambda i, o: nn.Sequential(
        nn.Linear(i, 36), nn.Unflatten(1, (1, 6, 6)), nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout2d(0.2), nn.MaxPool2d(2), nn.Conv2d(4, 3, 2),
        nn.Flatten(), nn.Linear(12, o),
    ),
    "strided convolutions": lambda i, o: nn.Sequential(
        nn.Linear(i, 72), nn.Unflatten(1, (2, 6, 6)), nn.ReLU(inplace=True), nn.Dropout(0.2),
        nn.Conv2d(2, 4, 3, stride=(1, 2), dilation=(2, 1), bias=False), nn.ReLU(inplace=True),
        nn.Dropout(0.2), nn.Conv2d(4, 4, 1, groups=2), nn.Conv2d(4, 3, (2, 1)), nn.AvgPool2d(1), nn.Flatten(),
        nn.Dropout(0.2), nn.Linear(6, o),
    ),
    "one dimension": lambda i, o: nn.Sequential(
        nn.Linear(i, 16), nn.Unflatten(1, (4, 4)), nn.Conv1d(4, 6, 3), nn.GroupNorm(2, 6),
        nn.ConvTranspose1d(6, 2, 2), nn.AdaptiveAvgPool1d(2), nn.Flatten(), nn.Linear(4, o),
    ),
    "branches": Branches, "attention": Attention, "embedding": Codes,
}  # fmt: skip


@pytest.fixture(scope="module")
def rows():
    table = make_table(150).drop_columns(["value"])
    return dataset_of(table), prepared(table, embeddings=False)


def fits_of(node, optimizers, seeds=(3,), **changes):
    values = {"batch_size": 32, "epochs": 2, "early_stop": False, "min_rel_progress": 0.0,
              "auto_class_weights": False, **changes}  # fmt: skip
    pairs = zip(optimizers, itertools.cycle(seeds))
    return tuple(
        Fit(node, n, PythonNetwork("m:f", "{}", "h"), o, seed=s, **values)
        for n, (o, s) in enumerate(pairs, 1)
    )


def trained(rows, make, item, epochs=1):
    trainer = make_trainer(item, rows[1], Given(make))
    for epoch, shard in itertools.product(range(epochs), range(2)):
        losses = trainer.run_unit(epoch, shard)
    return trainer, losses


RATES = (0.01, 0.003, 0.02)
ADAMS = [Optimizer("adam", rate, 0.01 * n) for n, rate in enumerate(RATES)]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("outputs", [1, 3])
def test_gradients_are_those_of_a_module_alone(rows, name, outputs):
    """In batches that are padded and that are not, whoever else is in the stack."""
    node = rows[0].replace(task="binary" if outputs == 1 else "multiclass")
    fits = fits_of(node, ADAMS)
    modules = [NETWORKS[name](6, outputs) for _ in fits]
    assert len({likeness(m) for m in modules}) == 1
    assert pilot(fits, modules, (6, outputs)).reason == ""


@pytest.mark.parametrize("name", NETWORKS)
def test_a_member_depends_on_no_other(rows, name):
    """Bitwise: in a stack of one, two, three and five, and after others have left."""
    fits = fits_of(rows[0], [*ADAMS, *ADAMS[:2]], seeds=(3, 4, 3))
    make = NETWORKS[name]
    expected = trained(rows, make, FusedFit(fits), epochs=2)[0]
    for chosen in ((1,), (1, 4), (4, 0, 1)):
        found = trained(rows, make, FusedFit(tuple(fits[p] for p in chosen)), epochs=2)[0]
        assert_equal(found.state(chosen.index(1)), expected.state(1))
    trainer = trained(rows, make, FusedFit(fits))[0]
    trainer.drop(0)
    trainer.drop(3)
    for shard in range(2):
        trainer.run_unit(1, shard)
    assert_equal(trainer.state(1), expected.state(1))


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    assert [n for n in found if not torch.equal(found[n], expected[n])] == []


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw", "rmsprop", "adagrad"])
def test_every_optimiser_steps_as_alone(rows, kind):
    """Rates, regularisation, momentum, schedules and clipping differ within the stack."""
    momentum = 0.9 if kind in ("sgd", "rmsprop") else 0.0
    steppings = (Stepping(), Stepping("cosine", warmup=0.5), Stepping("linear", clip_norm=0.1))
    fits = fits_of(
        rows[0],
        [
            Optimizer(kind, rate, 0.01 * n, momentum * (n + 1) / 3, stepping=stepping)
            for n, (rate, stepping) in enumerate(zip(RATES, steppings, strict=True))
        ],
        seeds=(3, 5),
    )
    make = NETWORKS["linear"]
    stack, losses = trained(rows, make, FusedFit(fits))
    measured = stack.evaluate()
    for place, fit in enumerate(fits):
        alone, (loss,) = trained(rows, make, fit)
        assert losses[place] == pytest.approx(loss, rel=1e-4)
        assert measured[place][0] == pytest.approx(alone.evaluate()[0][0], rel=1e-4)


def test_dropout_rates_differ_within_a_stack(rows):
    """Each member drops what it drops alone."""
    rates = iter([0.1, 0.5, 0.1, 0.5])

    def make(inputs, outputs):
        layers = (nn.Linear(inputs, 8), nn.Dropout(next(rates)), nn.Linear(8, outputs))
        return nn.Sequential(*layers)

    fits = fits_of(rows[0], ADAMS[:2])
    losses = trained(rows, make, FusedFit(fits))[1]
    alone = [trained(rows, make, fit)[1][0] for fit in fits]
    assert losses == pytest.approx(alone, rel=1e-5)


def test_a_stack_goes_on_from_saved_states(rows):
    fits = fits_of(rows[0], ADAMS, seeds=(3, 4))
    make = NETWORKS["batch norm, dropout"]
    expected = trained(rows, make, FusedFit(fits), epochs=2)[0]
    before = trained(rows, make, FusedFit(fits))[0]
    again = make_trainer(FusedFit(fits), rows[1], Given(make))
    for place in range(3):
        again.load_state(place, before.state(place))
    for shard in range(2):
        again.run_unit(1, shard)
    assert_equal(again.state(2), expected.state(2))


def test_every_part_of_the_state_counts(rows):
    """Leaving any of it out makes another network."""
    fits = fits_of(rows[0], ADAMS[:2])
    make = NETWORKS["batch norm, dropout"]
    expected = trained(rows, make, FusedFit(fits), epochs=2)[0].state(0)
    state = trained(rows, make, FusedFit(fits))[0].state(0)
    fresh = make_trainer(FusedFit(fits), rows[1], Given(make)).state(0)
    for part in ("module.0.weight", "slot.mean.0.weight", "slot.square.4.bias", "steps",
                 "module.1.running_var"):  # fmt: skip
        again = make_trainer(FusedFit(fits), rows[1], Given(make))
        again.load_state(0, {**state, part: fresh[part]})
        for shard in range(2):
            again.run_unit(1, shard)
        assert any(not torch.equal(v, expected[n]) for n, v in again.state(0).items()), part


class Noise(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.out = nn.Linear(inputs, outputs)

    def forward(self, x):
        return self.out(x + torch.randn(x.shape[-1]))


class AcrossRows(Noise):
    def forward(self, x):
        return self.out(x - x.mean(0))


class LooksAtValues(Noise):
    def forward(self, x):
        return self.out(x) if self.out.weight.detach().sum() > 0 else -self.out(x)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Noise, "random numbers other than by dropout layers"),
        (AcrossRows, "gradients in a stack differ"),
        (LooksAtValues, "for several networks at once"),
    ],
)
def test_what_cannot_be_stacked_is_said(rows, make, reason):
    fits = fits_of(rows[0], ADAMS)
    assert reason in pilot(fits, [make(6, 1) for _ in fits], (6, 1)).reason


def test_networks_are_alike_in_everything_but_weights_and_dropout():
    def net(width=8, p=0.1, function=F.relu):
        made = nn.Sequential(nn.Linear(4, width), nn.Dropout(p), nn.Linear(width, 1))
        made.function = function
        return made

    assert likeness(net()) == likeness(net(p=0.7))
    for other in (net(9), net(function=F.gelu), nn.Sequential(nn.Linear(4, 8))):
        assert likeness(other) != likeness(net())
    assert likeness(net(function=lambda x: x)) is None
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    assert likeness(tied) is None
    assert likeness(nn.Sequential(nn.GRU(4, 4))) is None
