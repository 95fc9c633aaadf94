"""References that share no code with what is tested: a model in NumPy, training in plain PyTorch."""

from __future__ import annotations

import datetime as dt
import math

import numpy as np
import torch

from gradbase.ir.conversion import Category, Numeric, ToTensor
from gradbase.ir.node import walk
from gradbase.ir.tensor import Concat, Const, Embedding, Linear, OneHot, Param, Unary

# -- a trained model in NumPy ------------------------------------------------------------------


def logits(model, rows, blobs):
    """The network's output float64[rows, outputs] for rows given as a dict of Python lists."""
    values = {}
    for node in walk(model.outputs[0].x):  # children first
        values[node] = _value(node, values, rows, blobs)
    return values[model.outputs[0].x]


def _value(node, values, rows, blobs):
    match node:
        case Param():
            return blobs.array(node).astype(np.float64)
        case Const():
            return np.array(node.values, np.float64).reshape(node.dims)
        case ToTensor(column, encoding):
            return _encoded(encoding, rows[column], values)
        case OneHot(codes, count):
            return (values[codes] == np.arange(1, count)).astype(np.float64)
        case Embedding(codes, weight):
            return values[weight][values[codes][:, 0]]
        case Concat(parts):
            return np.concatenate([values[p] for p in parts], axis=1)
        case Linear(x, weight, bias):
            return values[x] @ values[weight].T + (0 if bias is None else values[bias])
        case Unary(op, x):
            return FUNCTIONS[op](values[x])


FUNCTIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "gelu": lambda x: x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
}


def _encoded(encoding, column, values):
    match encoding:
        case Numeric():
            numbers = [None if v is None else _part(v, encoding.part) for v in column]
            missing = np.array([v is None or math.isnan(v) for v in numbers])
            filled = np.array(
                [encoding.mean if m else v for v, m in zip(numbers, missing, strict=True)]
            )
            standard = (filled - encoding.mean) * encoding.scale
            return np.stack([standard, missing] if encoding.indicator else [standard], axis=1)
        case Category():
            codes = {v: i + 1 for i, v in enumerate(encoding.vocabulary)}
            codes[None] = encoding.missing_code
            return np.array([[codes.get(v, 0)] for v in column])
    empty = [math.nan] * encoding.size
    table = np.array([empty if v is None else v for v in column], np.float64)
    standard = (table - values[encoding.mean]) * values[encoding.scale]
    return np.where(np.isnan(standard), 0.0, standard)


def _part(value, part):
    if part == "value":
        return float(value)
    if not isinstance(value, dt.datetime):
        value = dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
    if part == "epoch_s":
        return value.replace(tzinfo=dt.UTC).timestamp()
    return value.weekday() if part == "weekday" else getattr(value, part)


# -- training in plain PyTorch -----------------------------------------------------------------


def module(x, params):
    """The perceptron of a plan as an ``nn.Sequential`` with the same parameters."""
    layers = []
    for node in walk(x):
        if isinstance(node, Linear):
            linear = torch.nn.Linear(node.weight.shape[1], node.weight.shape[0])
            with torch.no_grad():
                linear.weight.copy_(_array(node.weight, params))
                linear.bias.copy_(_array(node.bias, params))
            layers += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def _array(node, params):
    if isinstance(node, Const):
        return torch.tensor(node.values).view(node.dims)
    return torch.from_numpy(np.array(params[node.hash])).view(node.dims)


OPTIMIZERS = {
    "sgd": lambda p, o: torch.optim.SGD(p, o.learn_rate, o.momentum, weight_decay=o.l2_reg),
    "adam": lambda p, o: torch.optim.Adam(p, o.learn_rate, weight_decay=o.l2_reg),
    "adamw": lambda p, o: torch.optim.AdamW(p, o.learn_rate, weight_decay=o.l2_reg),
}


def train(fit, data, net, class_weights=(1.0, 1.0)):
    """Train `net` as a textbook would, on the batches of `data`; returns the evaluation loss.

    A row's loss is multiplied by its weight and that of its class; evaluation is not weighted.
    """
    optimizer = OPTIMIZERS[fit.optimizer.name](net.parameters(), fit.optimizer)
    loss_of = torch.nn.BCEWithLogitsLoss()
    for epoch in range(fit.epochs):
        count = len(data.shards)
        for shard in [(i + epoch) % count for i in range(count)]:
            for batch in data.batches(epoch, shard, fit.batch_size):
                optimizer.zero_grad()
                weight = torch.tensor(class_weights)[batch.y.long()]
                if batch.w is not None:
                    weight = weight * batch.w
                z = net(batch.x[:, :-1])[:, 0]
                torch.nn.functional.binary_cross_entropy_with_logits(z, batch.y, weight).backward()
                optimizer.step()
    with torch.no_grad():
        pairs = [(net(b.x[:, :-1])[:, 0], b.y) for b in data.evaluation("eval")]
        z, y = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        return float(loss_of(z, y)), z.numpy(), y.numpy()
