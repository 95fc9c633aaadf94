"""Steps run inside one planned allocation: the same bits, and plans that do not hold are noticed."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from training_steps import NETWORKS, training

import gradbase as gb
from gradbase.errors import BindError, DataError
from gradbase.runtime.memory.slots import Slots

memory = gb.memory
SGD = (torch.optim.SGD, {"momentum": 0.9})
ADAM = (torch.optim.Adam, {})


def state_of(network):
    return [*network.state_dict().values(), *(p.grad for p in network.parameters())]


def both(name="mlp", optimizer=SGD):
    """A network trained as usual three times, and one that is to be, with its trace taken."""
    (plain, plain_step), (placed, step) = (
        training(name, optimizer[0], **optimizer[1]) for _ in range(2)
    )
    torch.manual_seed(1)
    trace = memory.trace(step, marks=True)
    random = torch.get_rng_state()
    torch.manual_seed(1)
    for _ in range(3):
        plain_step()
    torch.set_rng_state(random)
    return (plain, plain_step), (placed, step), trace


def planned(trace, method="greedy"):
    return memory.plan(trace, method=method, alignment=64)


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(state_of(first), state_of(second), strict=True))


CASES = [(n, SGD) for n in NETWORKS] + [("residual", ADAM), ("attention", ADAM)]


@pytest.mark.parametrize(("name", "optimizer"), CASES)
def test_results_are_bitwise_equal(name, optimizer):
    """Loss, weights, statistics and gradients; every storage lies at its planned place."""
    (plain, plain_step), (network, step), trace = both(name, optimizer)
    run = memory.arena(step, trace, planned(trace))
    for _ in range(2):
        random = torch.get_rng_state()
        expected = plain_step().item()
        torch.set_rng_state(random)
        assert run().item() == expected
    assert same(plain, network)
    report = run.report
    assert (report.outside, report.displaced, report.notes) == (0, 0, [])
    made = sum(bool(s.size) and not s.persistent for s in trace.storages)
    assert report.inside == 2 * made
    assert report.written > 0
    assert report.operators == 2 * trace.period
    assert 0 < report.top <= report.height == run.plan.height
    start = run._slots.block.data_ptr()
    for parameter in network.parameters():
        assert start <= parameter.grad.data_ptr() < start + report.height


def test_traces_and_plans_by_itself():
    (plain, plain_step), _, _ = both()
    network, step = training("mlp", SGD[0], **SGD[1])
    run = memory.arena(step, time_limit=1)
    run()
    plain_step()
    assert same(plain, network)
    assert run.report.outside == 0
    assert "outside      0, 0" in repr(run.report)


def test_a_trace_of_rounded_sizes_and_with_workspace():
    _, (_, step), _ = both("residual")
    trace = memory.trace(step, marks=True, granularity=512, workspace=True)
    run = memory.arena(step, trace, planned(trace))
    for _ in range(2):
        run()
    assert run.report.outside == 0
    assert run.report.written > 0


def test_places_that_overlap_in_time_would_change_results(monkeypatch):
    """Storages do share memory: with all at offset 0 and nobody looking, results are others."""
    (plain, plain_step), (network, step), trace = both()
    plan = planned(trace)
    wrong = replace(plan, offsets=dict.fromkeys(plan.offsets, 0))
    with pytest.raises(DataError, match="overlap"):
        memory.arena(step, trace, wrong)
    monkeypatch.setattr("gradbase.runtime.memory.arena.verify", lambda plan: plan.height)
    monkeypatch.setattr(Slots, "free", lambda *_: True)
    memory.arena(step, trace, wrong)()
    plain_step()
    assert not same(plain, network)


def test_a_plan_of_shorter_lives_is_noticed():
    """Such a plan is consistent in itself; what it would overwrite lies outside instead."""
    (plain, plain_step), (network, step), trace = both()
    short = [replace(i, upper=i.lower + 1) for i in trace.intervals()]
    plan = memory.plan(short, period=trace.period, alignment=64)
    run = memory.arena(step, trace, plan)
    for _ in range(2):
        run()
        plain_step()
    assert run.report.displaced > 0
    assert run.report.outside == run.report.displaced
    assert same(plain, network)


def test_a_result_that_is_kept_is_not_overwritten():
    (_, plain_step), (_, step), trace = both()
    run = memory.arena(step, trace, planned(trace))
    losses = [run() for _ in range(3)]
    assert [float(x) for x in losses] == [float(plain_step()) for _ in range(3)]
    assert run.report.displaced > 0


def test_an_error_in_the_step_leaves_everything_usable():
    (plain, plain_step), (network, step), trace = both()
    fails = [True]

    def sometimes():
        if fails:
            nn.functional.mse_loss(network.head.weight, network.head.weight * 2).backward()
            raise KeyError("in the step")
        return step()

    run = memory.arena(sometimes, trace, planned(trace))
    with pytest.raises(KeyError, match="in the step"):
        run()
    fails.clear()
    run()
    plain_step()
    assert same(plain, network)
    step()
    plain_step()
    assert same(plain, network)


def test_shapes_that_depend_on_data():
    """What has another size than planned lies outside, and the report says which operator."""
    torch.manual_seed(0)
    weight, x = torch.randn(8, requires_grad=True), torch.randn(50, 8)

    def step_with(shift):
        def step():
            weight.grad = None
            z = x @ weight
            (z[z > shift[0]] ** 2).sum().backward()
            return weight.grad.clone()

        return step

    shift = [0.0]
    step = step_with(shift)
    run = memory.arena(step)
    assert torch.equal(run(), step())
    assert run.report.outside == 0
    for shift[0] in (0.7, -0.3):
        assert torch.equal(run(), step())
    assert run.report.outside > 0
    assert any("planned were" in note for note in run.report.notes)


def test_a_step_that_is_not_the_traced_one():
    trace = both()[2]
    (plain, plain_step), (network, other), _ = both("residual")
    run = memory.arena(other, trace, planned(trace))
    run()
    plain_step()
    assert same(plain, network)
    assert "call 1 left the trace" in run.report.notes[0]
    early = memory.arena(lambda: torch.zeros(4), memory.trace(lambda: torch.zeros(4) + 1))
    early()
    assert "it ended before operator 1" in early.report.notes[0]


def test_storages_that_live_for_several_iterations():
    kept = deque(maxlen=3)

    def step():
        kept.append(torch.arange(100.0) * (len(kept) + 1))
        return kept[0].sum().item()

    expected = [step() for _ in range(9)][3:]
    kept.clear()
    run = memory.arena(step, memory.trace(step, 6, marks=True))
    kept.clear()
    for _ in range(3):
        step()
    assert [run() for _ in range(6)] == expected
    assert run.report.inside > 0


def test_an_exported_graph():
    """Forward, backward and update as one graph of ATen operators."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 1))
    values = {k: v.detach() for k, v in network.named_parameters()}
    x, y = torch.randn(64, 16), torch.randn(64, 1)

    def update(values):
        leaves = {k: v.detach().requires_grad_() for k, v in values.items()}
        loss = nn.functional.mse_loss(torch.func.functional_call(network, leaves, (x,)), y)
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        return [v - 0.1 * g for v, g in zip(values.values(), gradients, strict=True)]

    graph = make_fx(update)(values)
    expected = update(values)
    run = memory.arena(lambda: graph(values))
    for _ in range(2):
        found = [v.clone() for v in run()]
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert run.report.outside == 0


def step_by_step():
    yield


def test_what_is_refused():
    _, (_, step), trace = both()
    with pytest.raises(BindError, match="which storage"):
        memory.arena(step, plan=planned(trace))
    with pytest.raises(BindError, match="multiples of 1, operators expect 64"):
        memory.arena(step, trace, memory.plan(trace, method="greedy"))
    with pytest.raises(BindError, match="'cpu' or 'cuda'"):
        memory.arena(step, device="tpu")
    for wrong in (3, step_by_step):
        with pytest.raises(BindError, match="a function that is one iteration"):
            memory.arena(wrong)
    with pytest.raises(DataError, match="no tensor operator"):
        memory.arena(lambda: None)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda():
    def made():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 1)).cuda()
        updates = torch.optim.Adam(network.parameters())
        x = torch.randn(256, 64, device="cuda")

        def step():
            updates.zero_grad()
            network(x).square().mean().backward()
            updates.step()

        return network, step

    (plain, plain_step), (network, step) = made(), made()
    run = memory.arena(step, device="cuda")
    for _ in range(2):
        run()
    for _ in range(5):
        plain_step()
    assert same(plain, network)
    assert run.report.inside > 0
