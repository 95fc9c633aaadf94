"""Stacks: equal to torch's own training, and a member's numbers are its own."""

from __future__ import annotations

import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F
from training_tables import dataset_of, fit_of, make_table, prepared

from gradbase.ir.learning import ClassWeight, FusedFit
from gradbase.ir.networks import Autoencoder, optimizers_of
from gradbase.runtime.train.module import make_optimizer
from gradbase.runtime.train.networks import initial
from gradbase.runtime.train.sharded import open_shards, write_shards
from gradbase.runtime.train.stacked import _NAMES, shapes_of
from gradbase.runtime.train.trainer import make_trainer

TARGETS = {"binary": ("y", 2), "multiclass": ("y", 4), "regression": ("value", 2)}
OPTIMIZERS = [
    {"optimizer": "sgd"}, {"optimizer": "sgd", "momentum": 0.9}, {"optimizer": "adam"},
    {"optimizer": "adamw"}, {"optimizer": "rmsprop"}, {"optimizer": "rmsprop", "momentum": 0.5},
    {"optimizer": "adagrad"},
]  # fmt: skip
ACTIVATIONS = ("relu", "relu6", "elu", "selu", "gelu", "silu", "sigmoid", "tanh")
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def training(task, classes=None, **options):
    label, found = TARGETS[task]
    table = make_table(classes=classes or found)
    kept = [n for n in table.column_names if n not in {"y", "value"} - {label}]
    table = table.select(kept)
    if "weight" in options:
        weights = [(0.0, 0.5, 3.0)[i % 3] for i in range(table.num_rows)]
        table = table.append_column(options["weight"], pa.array(weights))
    found = prepared(table, label, task, **options)
    options.pop("centred", None)
    return dataset_of(table, label, task, **options), found


class Plain:
    """What the stack computes, as anybody would write it with torch.nn and torch.optim."""

    def __init__(self, fit, data, dtype):
        self.fit, self.data, self.dtype = fit, data, dtype
        self.shapes = shapes_of(fit.network, data, aligned=False)
        self.parts = [
            [layer.clone().requires_grad_() for layer in initial(shape, fit.seed, dtype, name)]
            for shape, name in zip(self.shapes, _NAMES, strict=False)
        ]
        self.optimizers = [
            make_optimizer(o, layers)
            for o, layers in zip(optimizers_of(fit), self.parts, strict=True)
        ]

    @property
    def layers(self):
        return [layer for layers in self.parts for layer in layers]

    def outputs(self, batch, masks):
        deep, *wide = zip(self.shapes, self.parts, strict=True)
        return self.output(batch, masks, *deep) + sum(self.output(batch, None, *w) for w in wide)

    def output(self, batch, masks, shape, layers):
        first, rest = layers[0], layers[shape.first_dense_layer :]
        z = batch.x @ first
        if batch.codes is not None:
            tables = layers[2 : shape.first_dense_layer]
            found = [F.embedding(batch.codes[:, j], t) for j, t in enumerate(tables)]
            z = z + torch.cat(found, 1) @ layers[1]
        for layer, (weight, bias) in enumerate(zip(rest[::2], rest[1::2], strict=True)):
            a = getattr(F, self.fit.network.activation)(z)
            if isinstance(self.fit.network, Autoencoder) and layer == self.fit.network.bottleneck:
                self.latent = a
            z = (a if masks is None else a * masks[layer]) @ weight + bias
        return z

    def losses(self, batch, masks=None):
        z, y, task = self.outputs(batch, masks), batch.y, self.data.task
        if task == "multiclass":
            losses = F.cross_entropy(z, y, reduction="none")
        elif task == "binary":
            losses = F.binary_cross_entropy_with_logits(z[:, 0], y, reduction="none")
        elif task == "reconstruction":
            losses = F.mse_loss(z, batch.x[:, :-1], reduction="none").mean(1)
            losses = losses + self.fit.network.l1_reg_activation * self.latent.abs().sum(1)
        else:
            losses = F.mse_loss(z[:, 0], y, reduction="none")
        if self.fit.auto_class_weights or self.data.target.class_weights:
            weights = torch.tensor(self.data.class_weights(self.fit), dtype=self.dtype)
            losses = losses * weights[y.long()]
        if batch.w is not None:
            losses = losses * batch.w
        return losses

    def step(self, batch, masks=None):
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        self.losses(batch, masks).mean().backward()
        if not self.fit.network.intercept:
            self.layers[0].grad[-1] = 0
        for found in zip(self.optimizers, optimizers_of(self.fit), self.parts, self.shapes,
                         strict=True):  # fmt: skip
            found[0].step()
            if found[1].l1_reg:
                self.shrink(*found)
        return flat([layer.grad for layer in self.layers])

    @torch.no_grad()
    def shrink(self, optimizer, spec, layers, shape):
        """Every weight but the biases nearer to 0 by rate * l1_reg."""
        start = shape.first_dense_layer
        for at, layer in enumerate(layers):
            if at > start and (at - start) % 2:
                continue
            rate = torch.full_like(layer, spec.learn_rate)
            if spec.name == "adagrad":
                rate /= optimizer.state[layer]["sum"].sqrt() + 1e-10
            if at == 0:
                rate[-1] = 0
            reach = rate * spec.l1_reg
            layer.copy_(layer.sign() * (layer.abs() - reach).clamp(min=0))


def compare(fits, data, dtype, steps=3, *, fused=True):
    """Gradients of each step, stack against plain torch, from the plain loop's own weights."""
    trainer = make_trainer(FusedFit(tuple(fits)) if fused else fits[0], data, dtype=dtype)
    stack = trainer._engine
    masks = stack._masks(0, 0)
    plain = [Plain(f, data, dtype) for f in fits]
    for _, batch in zip(range(steps), stack.batches(0, 0), strict=False):
        drawn = masks(len(batch.y))
        for k, reference in enumerate(plain):
            for tower, layers in zip(stack.towers, reference.parts, strict=True):
                tower.blocks.place(tower.weights, k, [layer.detach() for layer in layers])
        z = stack._forward(batch, drawn)
        stack._backward(stack.loss.gradient(z, batch.y, batch.w), len(batch.y))
        found = [gradients(stack, k) for k in range(len(fits))]
        for tower in stack.towers:
            tower.update.step()
        for k, reference in enumerate(plain):
            own = own_masks(drawn, k, len(batch.y), reference.shapes[0])
            with torch.enable_grad():
                expected = reference.step(batch, own)
            close(found[k], expected, dtype)
            own = [layer for _, layers in stack.layers(k) for layer in layers]
            close(flat(own), flat(reference.layers), dtype, 10)


def gradients(stack, k):
    return flat([g for t in stack.towers for g in t.blocks.layers(t.gradients, k)])


def flat(layers):
    return torch.cat([layer.detach().reshape(-1) for layer in layers])


def own_masks(drawn, k, rows, shape):
    """One member's dropout masks without the stack's padding."""
    if drawn is None:
        return None
    return [m[k, :rows, :width] for m, width in zip(drawn, shape.hidden, strict=True)]


def close(found, expected, dtype, times=1):
    difference = (found - expected).norm() / expected.norm()
    assert float(difference) < times * TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "alone"])
@pytest.mark.parametrize("options", OPTIMIZERS, ids=lambda o: "-".join(map(str, o.values())))
@pytest.mark.parametrize("task", TARGETS)
def test_a_step_is_torchs_own(task, options, fused, dtype):
    """Every optimiser and loss; members differ in learning rate, l2_reg and class weights."""
    node, data = training(task)
    fits = [
        fit_of(node, i, learn_rate=rate, l2_reg=l2, auto_class_weights=weighted, **options)
        for i, (rate, l2, weighted) in enumerate([(0.01, 0.0, False), (0.003, 0.1, task != "regression")])
    ]  # fmt: skip
    compare(fits if fused else fits[1:], data, dtype, fused=fused)


WEIGHTED = [
    {"weight": "w"},
    {"weight": "w", "auto_class_weights": True},
    {"class_weights": (ClassWeight("class1", 3.0), ClassWeight("class0", 0.5))},
]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "alone"])
@pytest.mark.parametrize("options", WEIGHTED, ids=str)
def test_weights_of_rows_and_classes_are_those_of_a_plain_loop(options, fused, dtype):
    """Rows of weight 0 among them; a shard's last batch is shorter, and padded in a stack."""
    options = dict(options)
    automatic = options.pop("auto_class_weights", False)
    node, data = training("binary", **options)
    fits = [fit_of(node, i, batch_size=45, auto_class_weights=automatic) for i in (1, 2)]
    compare(fits if fused else fits[:1], data, dtype, fused=fused)


@pytest.mark.parametrize("task", TARGETS)
def test_the_training_loss_is_weighted_like_its_gradient(task):
    node, data = training(task, weight="w")
    assert data.weights[data.parts.train].mean() == pytest.approx(1)
    trainer = make_trainer(fit_of(node, learn_rate=0.0, optimizer="sgd"), data, dtype=torch.float64)
    plain = Plain(trainer.fits[0], data, torch.float64)
    losses = [plain.losses(b) for b in data.batches(0, 0, 32, torch.float64)]
    unit = data.target.scale**2 if task == "regression" else 1.0
    expected = float(torch.cat(losses).detach().mean()) * unit
    assert trainer.run_unit(0, 0) == [pytest.approx(expected, rel=1e-12)]


@pytest.mark.parametrize("hidden", [(), (6,)], ids=str)
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "alone"])
@pytest.mark.parametrize("options", [{"optimizer": "sgd"}, {"optimizer": "sgd", "momentum": 0.9},
                                     {"optimizer": "adagrad"}], ids=str)  # fmt: skip
def test_l1_reg_is_a_proximal_step_behind_each_step(options, fused, hidden):
    """Biases are left alone; members differ in how much."""
    node, data = training("binary")
    fits = [
        fit_of(node, i, hidden=hidden, learn_rate=rate, l1_reg=l1, **options)
        for i, (rate, l1) in enumerate([(0.1, 0.5), (0.05, 0.02)])
    ]
    compare(fits if fused else fits[:1], data, torch.float64, fused=fused)


def test_l1_reg_sets_useless_weights_to_exactly_zero():
    node, data = training("binary")
    plain, sparse = (
        make_trainer(fit_of(node, 1, hidden=(), optimizer="sgd", learn_rate=0.1, l1_reg=l1), data)
        for l1 in (0.0, 0.05)
    )
    for trainer in (plain, sparse):
        results(trainer)
    zeros = [int((t.state(0)["weights"] == 0).sum()) for t in (plain, sparse)]
    assert zeros[0] == 0
    assert zeros[1] > 5


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "alone"])
@pytest.mark.parametrize("task", TARGETS)
def test_a_linear_model_without_intercept_has_none(task, fused):
    node, data = training(task, centred=False)
    fits = [fit_of(node, i, hidden=(), intercept=False, l2_reg=0.1) for i in (1, 2)]
    trainer = make_trainer(FusedFit(tuple(fits)) if fused else fits[0], data)
    results(trainer)
    [(_, layers)] = trainer._engine.layers(0)
    assert torch.equal(layers[0][-1], torch.zeros(data.outputs))
    assert layers[0][:-1].abs().min() > 0
    assert data.target.mean == 0.0


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_every_activation_with_and_without_dropout(activation, dropout):
    node, data = training("binary")
    fits = [
        fit_of(node, 1, activation=activation, dropout=dropout),
        fit_of(node, 2, activation=activation, dropout=dropout / 2),
    ]
    compare(fits, data, torch.float64)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "alone"])
@pytest.mark.parametrize("task", TARGETS)
def test_a_wide_and_deep_step_changes_each_part_in_its_own_way(task, fused, dtype):
    """The linear part has optimiser, rate and l1_reg of its own; dropout is of hidden layers."""
    node, data = training(task)
    options = {"optimizer": "adam", "l1_reg": 0.05, "l2_reg": 0.01, "dropout": 0.2}
    fits = [
        fit_of(node, i, learn_rate=rate, wide=("adagrad", wide), **options)
        for i, (rate, wide) in enumerate([(0.01, 0.05), (0.003, 0.2)])
    ]
    compare(fits if fused else fits[1:], data, dtype, fused=fused)


def test_a_linear_part_without_its_own_optimiser_is_changed_as_hidden_layers_are():
    node, data = training("binary")
    fits = [fit_of(node, i, optimizer="sgd", momentum=0.9, wide=("", None)) for i in (1, 2)]
    compare(fits, data, torch.float64)


@pytest.mark.parametrize("hidden", [(), (6,), (8, 5, 4)], ids=str)
def test_any_depth(hidden):
    node, data = training("multiclass")
    compare([fit_of(node, 1, hidden=hidden), fit_of(node, 2, hidden=hidden)], data, torch.float64)


def results(trainer, epochs=2):
    losses = [
        trainer.run_unit(e, s) for e in range(epochs) for s in range(len(trainer.data.shards))
    ]
    return losses, trainer.evaluate()


def member(trainer, i):
    return {n: t.clone() for n, t in trainer.state(i).items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def group(node, count, **options):
    rates = [0.001 * 1.3**i for i in range(count)]
    return [
        fit_of(node, i + 1, learn_rate=r, dropout=0.1 * (i % 3), **options)
        for i, r in enumerate(rates)
    ]


NETWORKS = [
    {"hidden": (8, 5)}, {"hidden": (64, 32)}, {"hidden": ()},
    {"hidden": (8, 5), "wide": ("adagrad", 0.1)},
]  # fmt: skip


@pytest.mark.parametrize("network", NETWORKS, ids=str)
@pytest.mark.parametrize("task", TARGETS)
def test_a_fused_fit_does_not_depend_on_its_group(task, network):
    """Bit for bit: groups of 1, 2, 3, 8, 16 and 32, at any place."""
    node, data = training(task)
    fits = group(node, 32, **network, auto_class_weights=task != "regression")
    reference = make_trainer(FusedFit(tuple(fits)), data)
    losses, evaluated = results(reference)
    for count in (1, 2, 3, 8, 16):
        trainer = make_trainer(FusedFit(tuple(fits[5 : 5 + count])), data)
        found, scores = results(trainer)
        for k in range(count):
            assert same(member(trainer, k), member(reference, 5 + k)), (count, k)
            assert scores[k] == evaluated[5 + k]
            assert [u[k] for u in found] == [u[5 + k] for u in losses]


def test_dropping_a_member_changes_nothing_for_the_others():
    node, data = training("binary")
    fits = group(node, 5)
    whole, thinned = (make_trainer(FusedFit(tuple(fits)), data) for _ in range(2))
    for trainer in (whole, thinned):
        trainer.run_unit(0, 0)
    for gone in (1, 3, 0):
        thinned.drop(gone)
    for trainer in (whole, thinned):
        trainer.run_unit(0, 1)
    assert thinned.active == (2, 4)
    assert all(same(member(whole, k), member(thinned, k)) for k in (2, 4))
    thinned.drop(2)
    for trainer in (whole, thinned):
        trainer.run_unit(1, 0)
    assert same(member(whole, 4), member(thinned, 4))
    assert thinned.evaluate()[4] == whole.evaluate()[4]


def test_members_may_have_seeds_of_their_own():
    node, data = training("binary")
    fits = [fit_of(node, i, seed=i, dropout=0.2) for i in (1, 2, 1)]
    trainer = make_trainer(FusedFit(tuple(fits)), data)
    results(trainer)
    assert same(member(trainer, 0), member(trainer, 2))
    assert not torch.equal(trainer.state(0)["weights"], trainer.state(1)["weights"])


def test_alone_is_the_same_whoever_else_trains():
    """Two fits interleaved, in threads of their own or one after the other: the same bits."""
    node, data = training("binary")
    fits = group(node, 2)
    apart = [make_trainer(f, data) for f in fits]
    for trainer in apart:
        results(trainer)
    together = [make_trainer(f, data) for f in fits]
    for epoch in range(2):
        for shard in range(2):
            for trainer in together:
                trainer.run_unit(epoch, shard)
    assert all(same(member(a, 0), member(t, 0)) for a, t in zip(apart, together, strict=True))


def test_fused_and_alone_agree_after_training():
    node, data = training("binary")
    fits = [fit_of(node, i, learn_rate=0.003 * i) for i in (1, 2, 3)]
    fused = make_trainer(FusedFit(tuple(fits)), data)
    _, scores = results(fused, 3)
    for fit, (loss, metrics) in zip(fits, scores, strict=True):
        _, [(expected, others)] = results(make_trainer(fit, data), 3)
        assert loss == pytest.approx(expected, abs=1e-3)
        assert metrics["roc_auc"] == pytest.approx(others["roc_auc"], abs=2e-3)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "alone"])
def test_an_autoencoder_learns_its_input_and_few_latent_values(fused, dtype):
    """Members differ in how much latent values cost; the last batch is padded."""
    node, data = reconstruction()
    fits = [
        fit_of(node, i, hidden=(6, 3, 6), activation="tanh", batch_size=45, latent=cost)
        for i, cost in enumerate([0.5, 0.0, 0.1])
    ]
    compare(fits if fused else fits[2:], data, dtype, fused=fused)


def test_an_autoencoder_does_not_depend_on_its_group():
    node, data = reconstruction()
    fits = [fit_of(node, i, hidden=(6, 3, 6), latent=0.1 * i) for i in range(5)]
    reference, pair = (make_trainer(FusedFit(tuple(f)), data) for f in (fits, fits[2:4]))
    for trainer in (reference, pair):
        results(trainer)
    assert all(same(member(pair, k), member(reference, 2 + k)) for k in range(2))
    assert pair.evaluate()[0] == reference.evaluate()[2]


def reconstruction():
    table = make_table().drop_columns(["y", "value"])
    data = prepared(table, "", "reconstruction", embeddings=False)
    return dataset_of(table, "", "reconstruction"), data


def test_an_autoencoder_learns_the_same_from_files_of_shards(tmp_path):
    node, data = reconstruction()
    write_shards(data, tmp_path / "rows")
    fits = [fit_of(node, 1, hidden=(6, 3, 6), latent=0.1)]
    here, there = (
        make_trainer(fits[0], d) for d in (data, open_shards(tmp_path / "rows", 1 << 20))
    )
    assert results(here) == results(there)
    assert same(member(here, 0), member(there, 0))
