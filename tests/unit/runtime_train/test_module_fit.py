"""Users' modules: equal to a plain loop, random numbers of their own, errors of their trial."""

from __future__ import annotations

import math
import threading

import pytest
import torch
from given_networks import Given
from torch import nn
from training_tables import dataset_of, make_table, prepared

from gradbase.errors import ShapeError, TrainingError
from gradbase.ir.learning import Fit, Optimizer, PythonNetwork
from gradbase.runtime.train import own_draws
from gradbase.runtime.train.module import make_optimizer
from gradbase.runtime.train.trainer import make_trainer

OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop", "adagrad")


def small(inputs, outputs):
    return nn.Sequential(
        nn.Linear(inputs, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, outputs)
    )


@pytest.fixture(scope="module")
def binary():
    table = make_table(200).drop_columns(["value"])
    return dataset_of(table), prepared(table, embeddings=False)


def trainer_of(binary, make=small, **changes):
    node, data = binary
    values = {"batch_size": 32, "epochs": 2, "early_stop": False, "min_rel_progress": 0.0,
              "auto_class_weights": False, "seed": 3, **changes}  # fmt: skip
    optimizer = values.pop("optimizer", Optimizer("adam", 0.01, 0.001))
    fit = Fit(node, 1, PythonNetwork("m:f", "{}", "h"), optimizer, **values)
    return make_trainer(fit, data, Given(make))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_module_trains_as_in_a_plain_loop(binary, name):
    _, data = binary
    spec = Optimizer(name, 0.01, 0.001, 0.9 if name in ("sgd", "rmsprop") else 0.0)
    make = lambda i, o: nn.Sequential(nn.Linear(i, 6), nn.Tanh(), nn.Linear(6, o))  # noqa: E731
    trainer = trainer_of(binary, make, optimizer=spec)
    trainer.run_unit(0, 0)
    module = Given(make).build(None, n_inputs=data.inputs.width, n_outputs=1, seed=3)
    optimizer = make_optimizer(spec, list(module.parameters()))
    for batch in data.batches(0, 0, 32):
        optimizer.zero_grad()
        z = module(batch.x[:, :-1].contiguous())[:, 0]
        nn.functional.binary_cross_entropy_with_logits(z, batch.y).backward()
        optimizer.step()
    for own, plain in zip(trainer._engine.module.parameters(), module.parameters(), strict=True):
        assert own.detach().numpy() == pytest.approx(plain.detach().numpy(), rel=1e-4, abs=1e-6)


def unit(trainer, number):
    return trainer.run_unit(*divmod(number, 2))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_continues_from_a_state_bit_for_bit(binary, name):
    """Batch norm's statistics, dropout's random numbers and the optimiser's slots included."""
    spec = Optimizer(name, 0.01, 0.0, 0.9 if name == "sgd" else 0.0)
    first, second = (trainer_of(binary, optimizer=spec) for _ in range(2))
    for number in range(3):
        unit(first, number)
    second.load_state(0, first.state(0))
    for number in range(3, 5):
        assert unit(first, number) == unit(second, number)
    assert first.evaluate() == second.evaluate()
    states = first.state(0), second.state(0)
    assert all(torch.equal(states[0][n], states[1][n]) for n in states[0])


def test_parts_of_a_state_matter(binary):
    first = trainer_of(binary)
    for number in range(3):
        unit(first, number)
    state = first.state(0)
    reference = None
    for lost in (
        None,
        "slot.0.exp_avg",
        "slot.0.exp_avg_sq",
        "slot.0.step",
        "module.1.running_mean",
    ):
        again = trainer_of(binary)
        fresh = again.state(0)
        unit(again, 0)
        fresh = {**again.state(0), **fresh}
        again.load_state(0, state if lost is None else {**state, lost: fresh[lost] * 0})
        unit(again, 3)
        result = torch.cat([t.double().reshape(-1) for t in again.state(0).values()])
        reference = result if reference is None else reference
        assert torch.equal(result, reference) == (lost is None)


def test_random_numbers_are_the_trials_own_whatever_runs_beside_it(binary):
    alone = trainer_of(binary)
    for number in range(4):
        unit(alone, number)
    trainers = [trainer_of(binary), trainer_of(binary, seed=4)]

    def train(trainer):
        for number in range(4):
            unit(trainer, number)

    torch.manual_seed(99)
    expected = torch.rand(1)
    torch.manual_seed(99)
    workers = [threading.Thread(target=train, args=(t,)) for t in trainers]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert torch.equal(torch.rand(1), expected)
    states = alone.state(0), trainers[0].state(0)
    assert all(torch.equal(states[0][n], states[1][n]) for n in states[0])


class Raising(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)

    def forward(self, x):
        raise ValueError(f"no use for {x.shape[1]} inputs")


class Wrapped(nn.Module):
    """Code that might draw anything."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.inside = dropping(inputs, outputs)

    def forward(self, x):
        return self.inside(x)


def dropping(inputs, outputs):
    return nn.Sequential(
        nn.Linear(inputs, 6), nn.Dropout(0.2, inplace=True), nn.ReLU(), nn.Dropout(0.3),
        nn.Dropout(0.0), nn.Linear(6, outputs),
    )  # fmt: skip


def test_layers_that_wait_for_nobody_draw_the_same_numbers(binary):
    """torch's own generator is left alone, and may be in use by others."""
    plain, wrapped = trainer_of(binary, dropping), trainer_of(binary, Wrapped)
    expected = [unit(wrapped, number) for number in range(3)]
    before = torch.get_rng_state()
    with own_draws.generator_lock:
        found = [unit(plain, number) for number in range(3)]
    assert not plain.failed
    assert found == expected
    assert torch.equal(torch.get_rng_state(), before)
    states = [list(t.state(0).values()) for t in (plain, wrapped)]
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def test_what_a_module_raises_is_the_trials_error_with_traceback(binary):
    trainer = trainer_of(binary, Raising)
    assert math.isnan(unit(trainer, 0)[0])
    error = trainer.failed[0]
    assert isinstance(error, TrainingError)
    assert "raised ValueError: no use for" in str(error)
    assert "in forward" in str(error)
    assert trainer.active == ()


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda i, o: nn.Linear(i, o + 1), r"\[32, 2\]"),
        (lambda i, o: nn.Sequential(nn.Linear(i, o), nn.Flatten(0)), r"\[32\]"),
    ],
)
def test_a_wrong_shape_says_what_was_expected(binary, make, found):
    trainer = trainer_of(binary, make)
    unit(trainer, 0)
    error = trainer.failed[0]
    assert isinstance(error, ShapeError)
    with pytest.raises(ShapeError, match=rf"must return Tensor\[32, 1\], it returned {found}"):
        raise error


def test_a_module_without_parameters_is_refused(binary):
    with pytest.raises(TrainingError, match="has no parameter to train"):
        trainer_of(binary, lambda i, o: nn.Flatten())


def test_a_finished_module_is_exported(binary):
    trainer = trainer_of(binary)
    unit(trainer, 0)
    outputs, params = trainer.finish(0)
    assert [o.method for o in outputs] == ["label", "proba", "probs"]
    assert {p.hash for p in outputs[0].params} <= set(params)
