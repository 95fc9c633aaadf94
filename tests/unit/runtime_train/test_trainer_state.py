"""A trainer's state is everything; failures stay with the fit that failed."""

from __future__ import annotations

import math
import threading

import pytest
import torch
from training_tables import dataset_of, fit_of, make_table, prepared

from gradbase.errors import CancelledError, TrainingError
from gradbase.ir.learning import FusedFit
from gradbase.runtime.train.threads import torch_threads
from gradbase.runtime.train.trainer import make_trainer, shard_order

OPTIMIZERS = [("sgd", 0.9), ("adam", 0.0), ("adamw", 0.0), ("rmsprop", 0.5), ("adagrad", 0.0)]


@pytest.fixture(scope="module")
def binary():
    table = make_table().drop_columns(["value"])
    return dataset_of(table), prepared(table)


def trainer_of(binary, *, fused, **options):
    node, data = binary
    fits = [fit_of(node, i, learn_rate=0.01 / i, dropout=0.2, **options) for i in (1, 2)]
    return make_trainer(FusedFit(tuple(fits)) if fused else fits[0], data)


def unit(trainer, number):
    epoch, at = divmod(number, 2)
    return trainer.run_unit(epoch, shard_order(epoch, 2)[at])


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(("optimizer", "momentum"), OPTIMIZERS)
def test_training_continues_from_a_state_bit_for_bit(binary, optimizer, momentum, fused):
    options = {"optimizer": optimizer, "momentum": momentum, "l2_reg": 0.01}
    first = trainer_of(binary, fused=fused, **options)
    for number in range(3):
        unit(first, number)
    states = [first.state(i) for i in first.active]
    resumed = trainer_of(binary, fused=fused, **options)
    for i, state in enumerate(states):
        resumed.load_state(i, state)
    for number in range(3, 6):
        assert unit(first, number) == unit(resumed, number)
    assert all(
        torch.equal(a, b)
        for i in first.active
        for a, b in zip(first.state(i).values(), resumed.state(i).values(), strict=True)
    )


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("lost", ["weights", "slot.mean", "slot.square", "steps"])
def test_no_part_of_a_state_can_be_left_out(binary, lost, fused):
    first = trainer_of(binary, fused=fused)
    for number in range(3):
        unit(first, number)
    fresh = trainer_of(binary, fused=fused)
    for i in first.active:
        fresh.load_state(i, {**first.state(i), lost: fresh.state(i)[lost]})
    unit(first, 3)
    unit(fresh, 3)
    assert not torch.equal(first.state(0)["weights"], fresh.state(0)["weights"])


def test_a_fit_whose_loss_explodes_fails_alone(binary):
    node, data = binary
    rates = [0.01, 1e30, 0.02]
    fits = [fit_of(node, i + 1, learn_rate=r, optimizer="sgd") for i, r in enumerate(rates)]
    mixed = make_trainer(FusedFit(tuple(fits)), data)
    sound = make_trainer(FusedFit((fits[0], fits[2])), data)
    for number in range(4):
        losses, expected = unit(mixed, number), unit(sound, number)
        assert [losses[0], losses[2]] == expected
    assert mixed.active == (0, 2)
    assert math.isnan(losses[1])
    assert mixed.evaluate()[1][1] == {}
    assert [mixed.evaluate()[i] for i in (0, 2)] == sound.evaluate()
    error = mixed.failed[1]
    assert isinstance(error, TrainingError)
    assert "loss of trial 2 became" in str(error)
    assert "lower learn_rate" in str(error)


def test_when_all_fits_fail_nothing_is_left(binary):
    node, data = binary
    trainer = make_trainer(fit_of(node, learn_rate=1e30, optimizer="sgd"), data)
    for number in range(2):
        unit(trainer, number)
    assert trainer.active == ()
    assert all(math.isnan(v) for v in trainer.run_unit(1, 0))


def test_cancelling_stops_within_a_unit():
    table = make_table().drop_columns(["value"])
    data = prepared(table)
    trainer = make_trainer(fit_of(dataset_of(table)), data)
    data.cancelled.set()
    with pytest.raises(CancelledError):
        trainer.run_unit(0, 0)


def test_threads_of_torch_are_set_for_the_calling_thread_only():
    before = torch.get_num_threads()
    seen = []

    def work():
        with torch_threads(3):
            seen.append(torch.get_num_threads())

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    assert seen == [3]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("fused", [True, False])
def test_two_trainers_in_two_threads_give_the_same_bits(binary, fused):
    def train(trainer):
        for number in range(4):
            unit(trainer, number)

    alone = trainer_of(binary, fused=fused)
    train(alone)
    trainers = [trainer_of(binary, fused=fused) for _ in range(2)]
    workers = [threading.Thread(target=train, args=(t,)) for t in trainers]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for trainer in trainers:
        assert torch.equal(trainer.state(0)["weights"], alone.state(0)["weights"])
