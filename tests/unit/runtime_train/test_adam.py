"""Adam's step: as torch.optim's, and the same bits with and without machine code."""

from __future__ import annotations

import logging

import pytest
import torch

from gradbase.runtime.train import adam

COUNT = 640


def vectors(decay, dtype=torch.float32):
    draw = torch.Generator().manual_seed(1)
    weights, gradients, mean, square, rate = torch.randn(5, COUNT, generator=draw, dtype=dtype)
    gradients[::3] = mean[::3] = square[::3] = 0
    decays = None if decay is None else torch.full((COUNT,), decay, dtype=dtype)
    room = torch.empty(COUNT, dtype=dtype)
    return adam.Vectors(weights, gradients, mean, square.square(), room, rate.abs(), decays)


def stepped(decay, decoupled):
    """Four steps with the same gradients."""
    of = vectors(decay)
    for steps in range(1, 5):
        own = of._replace(gradients=of.gradients.clone())
        adam.step(own, steps, decoupled=decoupled)
    return of


@pytest.mark.skipif(adam.machine_code() is None, reason="there is no C compiler")
@pytest.mark.parametrize(("decay", "decoupled"), [(None, True), (0.99, True), (0.1, False)])
def test_machine_code_has_the_bits_of_torch(decay, decoupled, monkeypatch):
    """So it is none of what a trial's result depends on."""
    found, expected = stepped(decay, decoupled), vectors(decay)
    assert not torch.equal(found.weights, expected.weights)
    monkeypatch.setattr(adam, "machine_code", lambda: None)
    expected = stepped(decay, decoupled)
    for name in ("weights", "mean", "square"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_steps_are_those_of_torch_optim(kind):
    """In float64, from empty slots."""
    decoupled = kind is torch.optim.AdamW
    found = vectors(1 - 0.01 * 0.1 if decoupled else 0.1, torch.float64)
    for slot in (found.mean, found.square):
        slot.zero_()
    found.rate.fill_(0.01)
    weights = found.weights.clone().requires_grad_()
    optimizer = kind([weights], lr=0.01, weight_decay=0.1)
    gradient = found.gradients.clone()
    for steps in range(1, 4):
        weights.grad = gradient * steps
        optimizer.step()
        found.gradients.copy_(gradient * steps)
        adam.step(found, steps, decoupled=decoupled)
    torch.testing.assert_close(found.weights, weights.detach(), rtol=1e-12, atol=1e-12)


def test_machine_code_that_rounds_otherwise_is_not_used(monkeypatch, caplog):
    adam.machine_code.cache_clear()
    monkeypatch.setattr(adam, "ADAM_EPS", 1e-3)  # torch's part keeps the first one it was given
    monkeypatch.setattr(adam, "_eps", lambda dtype: torch.tensor(1e-8, dtype=dtype))
    try:
        with caplog.at_level(logging.INFO, "gradbase.runtime"):
            assert adam.machine_code() is None
        assert "torch" in caplog.text
    finally:
        adam.machine_code.cache_clear()
