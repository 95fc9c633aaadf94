"""Networks written in Python: which may be called, with what, and what they must return."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from torch import nn

from gradbase.errors import BindError, TrainingError
from gradbase.ir.learning import PythonNetwork
from gradbase.selection.networks import Networks, register


def linear(config):
    return nn.Linear(config["n_inputs"], config["n_outputs"])


def built(function, seed=7, configuration="{}"):
    network = register(function).replace(configuration=configuration)
    return Networks().build(network, n_inputs=6, n_outputs=2, seed=seed)


def test_initial_weights_follow_from_the_seed_and_disturb_no_generator():
    before = torch.random.get_rng_state()
    first, again, other = built(linear), built(linear), built(linear, seed=8)
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)
    assert torch.equal(before, torch.random.get_rng_state())
    assert first.training


def test_the_configuration_arrives_with_sizes():
    seen = []

    def net(config):
        seen.append(config)
        return linear(config)

    built(net, configuration='{"width": 8, "sizes": [1, 2]}')
    assert seen == [{"width": 8, "sizes": [1, 2], "n_inputs": 6, "n_outputs": 2}]


def test_functions_are_told_apart():
    """Same function, same name; same source with other values closed over, another name."""

    def make(width):
        def net(config):
            return nn.Sequential(nn.Linear(config["n_inputs"], width), nn.Linear(width, 2))

        return net

    small, large = make(3), make(5)
    assert register(small) is register(small)
    assert register(small).code_hash == register(large).code_hash
    assert built(small)[0].out_features == 3
    assert built(large)[0].out_features == 5


class Mixing(nn.Module):
    def forward(self, x):
        return (x - x.mean(0))[:, :2]


def wrong_width(config):
    return nn.Linear(config["n_inputs"], config["n_outputs"] + 1)


def raising(config):
    return nn.Linear(config["width"], 1)


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda config: {"a": 1}, "must return a torch.nn.Module, it returned dict"),
        (wrong_width, r"must return Tensor\[4, 2\] for 4 rows, it returned \[4, 3\]"),
        (raising, "raised KeyError: 'width'"),
        (lambda config: nn.Linear(99, 2), r"raised RuntimeError on a Tensor\[4, 6\]"),
        (lambda config: Mixing(), "another result when other rows are beside it"),
        (lambda config: nn.Flatten(0), "it returned"),
    ],
)
def test_a_network_that_cannot_train_says_why(function, text):
    with pytest.raises(TrainingError, match=text):
        built(function)


@pytest.fixture
def module(monkeypatch):
    made = types.ModuleType("nets_of_a_user")
    made.linear = linear
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made


def test_modules_named_when_connecting_may_be_called(module):
    network = PythonNetwork("nets_of_a_user:linear", "{}")
    networks = Networks(["nets_of_a_user"])
    assert len(networks.resolve(network).code_hash) == 64
    assert networks.build(network, n_inputs=3, n_outputs=1, seed=0).in_features == 3


@pytest.mark.parametrize(
    ("modules", "reference", "text"),
    [
        ([], "nets_of_a_user:linear", r'python_modules=\["nets_of_a_user"\]'),
        (["nets"], "nets_of_a_user:linear", "was not named when connecting"),
        (["nets_of_a_user"], "nets_of_a_user:lnear", "did you mean `linear`"),
        (["no_such_module_here"], "no_such_module_here:net", "cannot be imported"),
        ([], "net@0123456789ab", "was given in another process"),
    ],
)
def test_what_may_not_be_called_is_refused(module, modules, reference, text):
    with pytest.raises(BindError, match=text):
        Networks(modules).resolve(PythonNetwork(reference, "{}"))
