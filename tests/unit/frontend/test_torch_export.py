"""A trained module and its exported operators give the same numbers, for any batch size."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gradbase.errors import ShapeError, UnsupportedError
from gradbase.frontend.torch_export import Exporter
from gradbase.ir.aten import ALLOWED
from gradbase.ir.conversion import ToTensor, Vector
from gradbase.ir.node import walk
from gradbase.ir.tensor import (
    DTYPES,
    Binary,
    Concat,
    Const,
    Embedding,
    Linear,
    MatMul,
    Param,
    Reshape,
    Softmax,
    Tensor,
    TorchOp,
    Unary,
)

WIDTH = 64
X = ToTensor("v", Vector(WIDTH))
TORCH = {name: getattr(torch, name) for name in DTYPES}
FUNCTIONS = {"relu6": F.relu6, "elu": F.elu, "gelu": F.gelu, "silu": F.silu, "softplus": F.softplus}


def decoded(value, inputs, rows):
    """The meaning of one element of `TorchOp.arguments`."""
    match value:
        case list():
            return [decoded(v, inputs, rows) for v in value]
        case {"$": index}:
            return inputs[index]
        case {"B": times}:
            return (times or 1) * rows
        case {"dtype": name}:
            return TORCH[name]
    return value


def torch_op(op, inputs, rows):
    arguments, named = json.loads(op.arguments), {}
    if arguments and isinstance(arguments[-1], dict) and "**" in arguments[-1]:
        named = {k: decoded(v, inputs, rows) for k, v in arguments.pop()["**"].items()}
    packet, overload = op.target.split(".")
    found = getattr(getattr(torch.ops.aten, packet), overload)(
        *decoded(arguments, inputs, rows), **named
    )
    found = found[op.output] if isinstance(found, tuple | list) else found
    assert tuple(found.shape) == tuple(d if d >= 0 else -d * rows for d in op.dims)
    assert found.dtype == TORCH[op.kind]
    return found


def value_of(op, of, params, x):
    """A plain reading of each tensor operator's documentation."""
    rows = len(x)
    match op:
        case ToTensor():
            return x
        case Param():
            return torch.from_numpy(params[op.hash].copy())
        case Const():
            return torch.tensor(op.values, dtype=TORCH[op.kind]).reshape(op.dims)
        case Linear():
            return F.linear(of[op.x], of[op.weight], of[op.bias] if op.bias else None)
        case MatMul():
            return of[op.a] @ of[op.b]
        case Unary():
            return (FUNCTIONS.get(op.op) or getattr(torch, op.op))(of[op.x])
        case Binary():
            return getattr(torch, op.op)(of[op.a], of[op.b])
        case Softmax():
            return torch.softmax(of[op.x], -1)
        case Concat():
            return torch.cat([of[p] for p in op.parts], -1)
        case Embedding():
            return of[op.weight][of[op.codes][:, 0]]
        case Reshape():
            return of[op.x].reshape(rows, *op.dims[1:])
        case TorchOp():
            return torch_op(op, [of[i] for i in op.inputs_], rows)
    raise AssertionError(op)


def evaluate(root, params, x):
    of = {}
    for op in walk(root):
        if isinstance(op, Tensor):
            of[op] = value_of(op, of, params, x)
    return of[root]


def module(forward, **named):
    """A module with the parts `named` and that forward."""
    made = type("Net", (nn.Module,), {"forward": forward})()
    for name, part in named.items():
        setattr(made, name, part)
    return made


def conv_net():
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 3),
    )  # fmt: skip


def reshaped_conv():
    def forward(self, x):
        h = self.norm(self.conv(x.reshape(-1, 1, 8, 8)))
        h = h + F.pad(h, (1, 1, 1, 1))[:, :, 1:-1, 1:-1]
        return self.out(self.pool(self.up(h)).squeeze(-1).squeeze(-1))

    return module(
        conv=nn.Conv2d(1, 4, 3, padding=1), norm=nn.InstanceNorm2d(4),
        up=nn.ConvTranspose2d(4, 2, 2), pool=nn.AdaptiveAvgPool2d(1), out=nn.Linear(2, 1),
        forward=forward,
    )  # fmt: skip


def tabular():
    return nn.Sequential(
        nn.Linear(WIDTH, 8), nn.BatchNorm1d(8), nn.GELU(), nn.LayerNorm(8), nn.Dropout(0.3),
        nn.Linear(8, 1),
    )  # fmt: skip


def transformer():
    def forward(self, x):
        return self.out(self.encoder(self.inner(x.view(x.shape[0], 8, 8))).mean(1))

    encoder = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    return module(inner=nn.Linear(8, 16), encoder=encoder, out=nn.Linear(16, 1), forward=forward)


def attention_weights():
    def forward(self, x):
        places = torch.arange(8, device=x.device)
        h = self.inner(x.view(-1, 8, 8)) + self.place(places)
        return self.out((h + self.attend(h, h, h)[0]).flatten(1))

    return module(
        inner=nn.Linear(8, 16), place=nn.Embedding(8, 16), out=nn.Linear(128, 2),
        attend=nn.MultiheadAttention(16, 4, batch_first=True), forward=forward,
    )  # fmt: skip


def causal_attention():
    def forward(self, x):
        b = x.shape[0]
        q, k, v = (
            t.reshape(b, 8, 2, 8).transpose(1, 2) for t in self.qkv(x.reshape(b, 8, 8)).chunk(3, -1)
        )
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(h.transpose(1, 2).reshape(b, 8, 16).mean(1))

    return module(qkv=nn.Linear(8, 48), out=nn.Linear(16, 3), forward=forward)


def embedding():
    def forward(self, x):
        codes = x[:, 0].long().clamp(0, 9)
        return self.out(torch.cat([self.table(codes), x[:, 1:]], 1))

    return module(table=nn.Embedding(10, 4), out=nn.Linear(67, 2), forward=forward)


def recurrent(cell):
    def forward(self, x):
        return self.out(self.cell(x.view(-1, 8, 8))[0][:, -1])

    return module(cell=cell(8, 5, batch_first=True), out=nn.Linear(5, 2), forward=forward)


def elementwise():
    def forward(self, x):
        h = self.norm(self.inner(x)) * 2.0 + 1
        h = torch.where(h > 0, h, h * 0.1) * self.frequencies
        h = torch.cat(
            [h.sin(), h.clamp(-1, 1), h.softmax(1), F.hardtanh(h), F.leaky_relu(h), F.mish(h),
             F.softplus(h), F.elu(h), F.relu6(h)], 1,
        )  # fmt: skip
        h = h / (1 + h.pow(2).sum(1, keepdim=True)).sqrt() - torch.tensor([1.0, 2.0]).repeat(36)
        return torch.einsum("bi,ij->bj", h, torch.ones(72, 3)) @ torch.arange(6.0).reshape(3, 2)

    made = module(inner=nn.Linear(WIDTH, 8), norm=nn.GroupNorm(2, 8), forward=forward)
    made.register_buffer("frequencies", torch.randn(8), persistent=False)
    return made


NETWORKS = {
    "conv net": conv_net,
    "conv net, reshaped inside": reshaped_conv,
    "batch norm, layer norm, dropout": tabular,
    "transformer layer": transformer,
    "attention with weights": attention_weights,
    "causal attention": causal_attention,
    "embedding": embedding,
    "lstm": lambda: recurrent(nn.LSTM),
    "gru": lambda: recurrent(nn.GRU),
    "elementwise": elementwise,
}


def trained(make):
    """A module whose batch statistics have moved, left in training mode."""
    torch.manual_seed(0)
    made = make().train()
    for _ in range(3):
        made(torch.rand(5, WIDTH) * 3)
    return made


@pytest.mark.parametrize("name", NETWORKS)
def test_exported_network_equals_the_module(name):
    """Parameters, buffers and constants arrive; the batch may have one row or many."""
    net = trained(NETWORKS[name])
    root, params = Exporter().export(net, X)
    assert net.training
    net.eval()
    for rows in (1, 2, 7):
        x = torch.rand(rows, WIDTH) * 3
        with torch.no_grad():
            torch.testing.assert_close(evaluate(root, params, x), net(x), atol=1e-6, rtol=1e-5)
    targets = {op.target for op in walk(root) if isinstance(op, TorchOp)}
    assert targets <= ALLOWED
    assert {p.hash for p in root.params} == set(params)


def test_layers_become_operators_of_their_own():
    """An MLP is Linear and Unary nodes only: the optimiser can see through it."""
    net = nn.Sequential(nn.Linear(WIDTH, 8), nn.ReLU(), nn.Linear(8, 2), nn.Softmax(1))
    root, _ = Exporter().export(net, X)
    kinds = [type(op) for op in walk(root) if isinstance(op, Tensor)]
    assert not {TorchOp, Reshape} & set(kinds)
    assert kinds.count(Linear) == 2
    assert isinstance(root, Softmax)


def test_small_constants_are_inline_and_large_ones_are_named():
    """At most 16 elements: Const; more: Param with the BLAKE3 of its bytes."""
    root, params = Exporter().export(nn.Linear(WIDTH, 2), X)
    assert isinstance(root.bias, Const)
    assert isinstance(root.weight, Param)
    assert params[root.weight.hash].shape == (2, WIDTH)


def test_same_key_is_traced_once_with_each_module_s_own_parameters(monkeypatch):
    """Trials that differ in weights only share one trace."""
    from gradbase.frontend import torch_export

    traces, real = [], torch_export.trace
    monkeypatch.setattr(torch_export, "trace", lambda *a: traces.append(1) or real(*a))
    exporter, nets = Exporter(), [trained(embedding), trained(causal_attention), trained(embedding)]
    nets[2].out.weight.data.mul_(2.0)
    found = [exporter.export(n, X, key) for n, key in zip(nets, "aba", strict=True)]
    assert len(traces) == 2
    x = torch.rand(3, WIDTH)
    for net, (root, params) in zip(nets, found, strict=True):
        with torch.no_grad():
            torch.testing.assert_close(evaluate(root, params, x), net.eval()(x))
    assert np.any(found[0][1][found[0][0].params[0].hash])


def dense_layers():
    activations = (nn.ReLU(), nn.GELU(), nn.Tanh(), nn.Sigmoid(), nn.ELU(), nn.SELU(), nn.SiLU(),
                   nn.LeakyReLU(), nn.ReLU6(), nn.Hardtanh(), nn.Softplus(), nn.Mish(),
                   nn.Hardswish(), nn.GELU(approximate="tanh"), nn.LogSoftmax(1), nn.Softmax(1),
                   nn.SiLU(inplace=True))  # fmt: skip
    norms = (nn.BatchNorm1d(8), nn.LayerNorm(8), nn.RMSNorm(8), nn.GroupNorm(2, 8))
    drops = (nn.Dropout(0.1), nn.AlphaDropout(0.1), nn.Identity())
    return nn.Sequential(nn.Linear(WIDTH, 8, bias=False), *norms, *drops, *activations)


def residual():
    def forward(self, x):
        h = F.relu(self.widen(x.view(x.shape[0], 1, 8, 8)), inplace=True)
        h = self.pool(h + self.inner(h) * 2.0 - 1.0)
        return self.out(h.mean((2, 3)).reshape(x.size(0), -1) / 3.0)

    inner = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4),
                          nn.Dropout2d(0.1))  # fmt: skip
    pool = nn.Sequential(nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(2))
    return module(widen=nn.Conv2d(1, 4, 3, padding=1), inner=inner, pool=pool,
                  out=nn.Linear(4, 2), forward=forward)  # fmt: skip


@pytest.mark.parametrize("make", [dense_layers, residual])
def test_what_is_recorded_is_what_tracing_finds(make):
    """Operator by operator, so that nothing depends on how a network was looked at."""
    from gradbase.frontend.torch_export import Translation, trace

    net = trained(make)
    traced = Translation(trace(net, X), net, X).run()
    root, params = Exporter().export(net, X)
    assert root == traced[0]
    assert params.keys() == traced[1].keys()
    assert recorded(net) == root


def recorded(net):
    from gradbase.frontend.torch_export import constant_of
    from gradbase.frontend.torch_recording import record

    return record(net.eval(), X, lambda value: constant_of(value, {}))


LOOKS = {
    "at the batch size": lambda s, x: s.out(x) * (2 if x.shape[0] > 100 else 1),
    "at the number of elements": lambda s, x: s.out(x) * (2 if x.numel() > 100 else 1),
    "at len": lambda s, x: s.out(x) * (2 if len(x) > 100 else 1),
    "at values": lambda s, x: s.out(x) * (2 if x.sum() > 0 else 1),
    "at values by numpy": lambda s, x: s.out(x) * float(x.numpy().sum() > 0),
    "at a list": lambda s, x: s.out(x) * (2 if x.tolist()[0][0] > 0 else 1),
    "at weights": lambda s, x: s.out(x) * float(s.out.weight.sum()),
    "and changes a view": lambda s, x: s.out(x).view(-1, 2).relu_(),
    "and changes its input": lambda s, x: s.out(x.relu_()),
    "and draws": lambda s, x: F.dropout(s.out(x), 0.5, training=True),
    "and adds what it made": lambda s, x: s.out(x) + torch.ones(2),
}


@pytest.mark.parametrize("name", LOOKS)
def test_a_module_that_looks_is_not_recorded(name):
    """What two runs cannot tell is left to tracing."""
    assert recorded(module(out=nn.Linear(WIDTH, 2), forward=LOOKS[name])) is None


@pytest.mark.parametrize(
    ("forward", "error", "text"),
    [
        (lambda s, x: s.out(x) + torch.rand(2), UnsupportedError, "`rand.default`"),
        (lambda s, x: s.out(x) + torch.randn_like(s.out(x)), UnsupportedError, "randn_like"),
        (lambda s, x: s.out(x).double(), UnsupportedError, None),
        (lambda s, x: s.out(x).half(), UnsupportedError, "float16"),
        (
            lambda s, x: s.out(x) if x.sum() > 0 else x[:, :2],
            UnsupportedError,
            "cannot be exported",
        ),
        (lambda s, x: s.out(x)[:, 0], ShapeError, "must return one Tensor"),
        (lambda s, x: torch.cat([s.out(x), s.out(x)[:1]]), UnsupportedError, "batch size"),
    ],
)
def test_what_cannot_be_stored_is_named(forward, error, text):
    """Random numbers, other dtypes, control flow on values, row counts that change."""
    net = module(out=nn.Linear(WIDTH, 2), forward=forward)
    if text is None:
        root, _ = Exporter().export(net, X)
        assert root.dtype == "float64"
        return
    with pytest.raises(error, match=text):
        Exporter().export(net, X)
