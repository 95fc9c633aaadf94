"""Losses, schedules and clipping are those of a plain PyTorch loop, in a stack, alone, of a module."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from test_stacked import Plain, flat, training
from torch.optim import lr_scheduler
from training_tables import fit_of

import gradbase as gb
from gradbase.ir.learning import FusedFit
from gradbase.ir.stepping import Stepping
from gradbase.runtime.train.losses import gradient_of, row_losses
from gradbase.runtime.train.module import ModuleFit
from gradbase.runtime.train.schedules import factor
from gradbase.runtime.train.trainer import make_trainer

PER_EPOCH, EPOCHS = 4, 6
SCHEDULERS = {
    "linear": lambda o, total: lr_scheduler.LinearLR(o, 1.0, 0.0, total),
    "cosine": lr_scheduler.CosineAnnealingLR,
    "exponential": lambda o, _: lr_scheduler.ExponentialLR(o, 0.5 ** (1 / PER_EPOCH)),
    "step": lambda o, _: lr_scheduler.StepLR(o, 2 * PER_EPOCH, 0.5),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_schedule_is_torchs_step_by_step(name):
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], 1.0)
    scheduler = SCHEDULERS[name](optimizer, PER_EPOCH * EPOCHS)
    of = Stepping(name, decay=0.5, decay_epochs=2)
    for step in range(PER_EPOCH * EPOCHS):
        expected = optimizer.param_groups[0]["lr"]
        assert factor(of, step, PER_EPOCH, EPOCHS) == pytest.approx(expected, abs=1e-12)
        optimizer.step()
        scheduler.step()


def test_warming_up_comes_first():
    of = Stepping("linear", warmup=1.5)
    found = [factor(of, step, PER_EPOCH, 3) for step in range(12)]
    assert found[:6] == [(t + 1) / 6 for t in range(6)]
    assert found[6:] == [1 - t / 6 for t in range(6)]


LOSSES = {
    "": {"binary": F.binary_cross_entropy_with_logits, "multiclass": F.cross_entropy, "regression": F.mse_loss},
    "absolute_error": {"regression": F.l1_loss},
    "huber": {"regression": F.huber_loss},
    "log_cosh": {"regression": lambda z, y, reduction: torch.cosh(z - y).log()},
    "focal": {
        "binary": lambda z, y, reduction: focal(F.binary_cross_entropy_with_logits(z, y, reduction=reduction)),
        "multiclass": lambda z, y, reduction: focal(F.cross_entropy(z, y, reduction=reduction)),
    },
}  # fmt: skip


def focal(surprise):
    return (1 - (-surprise).exp()) ** 2 * surprise


@pytest.mark.parametrize(("loss", "task"), [(n, t) for n, of in LOSSES.items() for t in of])
def test_a_loss_and_its_gradient(loss, task):
    draw = torch.Generator().manual_seed(3)
    z = torch.randn(2, 64, 3 if task == "multiclass" else 1, generator=draw, dtype=torch.float64)
    y = torch.randn(2, 64, generator=draw, dtype=torch.float64)
    if task != "regression":
        y = (torch.rand(2, 64, generator=draw) * z.shape[2] + (task == "binary") * 0.5).floor()
        y = y.long() if task == "multiclass" else y.double()
    leaf = z.clone().requires_grad_()
    expected = [
        LOSSES[loss][task](a if task == "multiclass" else a[:, 0], b, reduction="none")
        for a, b in zip(leaf, y, strict=True)
    ]
    found = [row_losses(task, a, b, loss=loss) for a, b in zip(z.clone(), y, strict=True)]
    torch.testing.assert_close(torch.stack(found), torch.stack(expected).detach())
    torch.stack(expected).sum().backward()
    torch.testing.assert_close(gradient_of(task, z.clone(), y, loss), leaf.grad)


CASES = {
    "cosine": Stepping("cosine", warmup=0.5),
    "step, clipped": Stepping("step", decay=0.3, decay_epochs=1, clip_norm=0.05),
    "clipped": Stepping(clip_norm=0.02),
}
OPTIMIZERS = [("sgd", 0.9), ("adam", 0.0), ("adamw", 0.0), ("rmsprop", 0.0), ("adagrad", 0.0)]


class Loop(Plain):
    """A plain loop with torch's own clipping and a learning rate by hand."""

    def train(self, epochs, stepping):
        steps = itertools.count()
        per_epoch = self.data.steps(self.fit.batch_size)
        for epoch in range(epochs):
            for batch in self.batches(epoch):
                for optimizer in self.optimizers:
                    optimizer.zero_grad()
                    times = factor(stepping, next(steps), per_epoch, self.fit.epochs)
                    optimizer.param_groups[0]["lr"] = self.fit.optimizer.learn_rate * times
                with torch.enable_grad():
                    self.losses(batch).mean().backward()
                if stepping.clip_norm:
                    torch.nn.utils.clip_grad_norm_(self.layers, stepping.clip_norm)
                for optimizer in self.optimizers:
                    optimizer.step()
        return flat(self.layers)

    def batches(self, epoch):
        return self.data.batches(epoch, 0, self.fit.batch_size, self.dtype)


def fits(node, name, momentum, stepping):
    made = [
        fit_of(node, i, learn_rate=rate, l2_reg=0.01, optimizer=name, momentum=momentum, epochs=3,
               batch_size=33)
        for i, rate in enumerate((0.01, 0.003))
    ]  # fmt: skip
    return [f.replace(optimizer=f.optimizer.replace(stepping=stepping)) for f in made]


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "alone"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: o[0])
@pytest.mark.parametrize("case", CASES)
def test_training_is_that_of_a_plain_loop(case, optimizer, fused):
    node, data = training("binary")
    stepping = CASES[case]
    made = fits(node, *optimizer, stepping)
    trainer = make_trainer(FusedFit(tuple(made)) if fused else made[0], data, dtype=torch.float64)
    for epoch in range(2):
        trainer.run_unit(epoch, 0)
    for k, fit in enumerate(made if fused else made[:1]):
        expected = Loop(fit, data, torch.float64).train(2, stepping)
        found = flat([layer for _, layers in trainer._engine.layers(k) for layer in layers])
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("case", CASES)
def test_members_with_schedules_of_their_own_do_not_disturb_each_other(case):
    """In a stack beside others, bitwise what they are beside nobody."""
    node, data = training("binary")
    one, other = fits(node, "adam", 0.0, CASES[case])
    other = other.replace(optimizer=other.optimizer.replace(stepping=Stepping("linear")))
    states = []
    for members in ((one,), (one, other)):
        trainer = make_trainer(FusedFit(members), data)
        for epoch in range(2):
            trainer.run_unit(epoch, 0)
        states.append(trainer.state(0))
    assert all(torch.equal(states[0][n], states[1][n]) for n in states[0])


@pytest.mark.parametrize("case", CASES)
def test_a_module_trains_by_schedule_and_within_its_norm(case):
    node, data = training("binary")
    stepping = CASES[case]
    (fit, _) = fits(node, "sgd", 0.9, stepping)
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(data.inputs.width, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1)
    )
    plain = torch.nn.Sequential(
        torch.nn.Linear(data.inputs.width, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1)
    )
    plain.load_state_dict(net.state_dict())
    engine = ModuleFit(fit.replace(network=python_network()), data, net, "focal")
    engine.run_unit(0, 0)
    saved = engine.state(0)
    engine.steps = 0
    engine.load_state(0, saved)
    engine.run_unit(1, 0)
    optimizer = torch.optim.SGD(plain.parameters(), 0.01, momentum=0.9, weight_decay=0.01)
    steps, per_epoch = itertools.count(), data.steps(33)
    for epoch in range(2):
        for batch in data.batches(epoch, 0, 33):
            optimizer.zero_grad()
            optimizer.param_groups[0]["lr"] = 0.01 * factor(stepping, next(steps), per_epoch, 3)
            surprise = F.binary_cross_entropy_with_logits(
                plain(batch.x[:, :-1])[:, 0], batch.y, reduction="none"
            )
            focal(surprise).mean().backward()
            if stepping.clip_norm:
                torch.nn.utils.clip_grad_norm_(plain.parameters(), stepping.clip_norm)
            optimizer.step()
    for found, expected in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def python_network():
    from gradbase.ir.learning import PythonNetwork

    return PythonNetwork("nets:any", "{}", "")


def own_huber(outputs, targets):
    return F.huber_loss(outputs[:, 0], targets, reduction="none")


def wrong(outputs, targets):
    return (outputs[:, 0] - targets).mean()


def net(configuration):
    return torch.nn.Linear(configuration["n_inputs"], configuration["n_outputs"])


@pytest.fixture
def db():
    with gb.connect(progress=False) as session:
        session.sql(
            "CREATE TABLE t AS SELECT sin(i) AS a, cos(i) AS b, sin(i) * 3 + i % 5 AS y FROM range(200) r(i)"
        )
        yield session


@pytest.mark.parametrize("network", [gb.mlp(hidden=[4]), net], ids=["perceptron", "module"])
def test_a_users_loss_trains_as_the_same_one_by_name(db, network):
    """In a stack of two trials, and a module by itself."""
    found = []
    for loss in (own_huber, "huber"):
        search = gb.search(
            network, lr=gb.choice(0.01, 0.03), loss=loss, epochs=2, metric="r2_score", seed=3
        )
        study = db.table("t").fit(search, target="y", name="m")
        found.append(study.history["train_loss"].tolist())
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_a_wrong_loss_fails_its_trials_with_words(db):
    with pytest.raises(
        gb.errors.TrainingError, match=r"must return Tensor\[32\], the loss of each row"
    ):
        db.table("t").fit(gb.search(gb.mlp(hidden=[4]), loss=wrong), target="y", name="m")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loss": "focal", "metric": "r2_score"}, "loss 'focal' is not of a regression"),
        ({"loss": "hubr"}, "option `loss` has no value 'hubr'"),
        ({"lr_decay": 0.5}, "lr_decay goes with lr_schedule exponential or step, found constant"),
        ({"clip_norm": -1}, "option `clip_norm` must be at least 0"),
        ({"loss": own_huber, "group_by": ["a"]}, "group_by takes loss by name"),
    ],
    ids=lambda v: str(v)[:20],
)
def test_what_contradicts_is_said(options, words):
    with pytest.raises(gb.errors.GradbaseError, match=words):
        gb.search(gb.mlp(hidden=[4]), **options)
