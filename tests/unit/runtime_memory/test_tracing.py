"""What a step allocates and touches, for every kind of network, with and without marks."""

from __future__ import annotations

import gc
import json

import pytest
import torch
from torch import nn
from training_steps import NETWORKS, training

import gradbase as gb
from gradbase.errors import DataError

memory = gb.memory


def peak_by_profiler(step, tmp_path):
    """PyTorch's own record of the CPU allocator: the most that the step's allocations held."""
    with torch.profiler.profile(
        profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]
    ) as p:
        step()
    p.export_chrome_trace(str(tmp_path / "trace.json"))
    events = [
        e
        for e in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
        if e.get("name") == "[memory]"
    ]
    live, now, peak = {}, 0, 0
    for e in sorted(events, key=lambda e: e["ts"]):
        address, size = e["args"]["Addr"], e["args"]["Bytes"]
        if size > 0:
            live[address] = size
            now += size
        else:
            now -= live.pop(address, 0)
        peak = max(peak, now)
    return peak


@pytest.mark.parametrize("name", NETWORKS)
def test_peak_is_what_the_profiler_sees(name, tmp_path):
    """Storages alone come near it; with the workspace inside operators the peaks agree."""
    _, step = training(name)
    step()
    trace = memory.trace(step, workspace=True)
    expected = peak_by_profiler(step, tmp_path)
    assert trace.lower_bound == pytest.approx(expected, rel=0.02)
    assert memory.trace(step).lower_bound <= trace.lower_bound


@pytest.mark.parametrize("name", NETWORKS)
def test_a_trace_is_consistent(name):
    """Accesses lie in lives, a first access writes, persistent storages are never allocated."""
    trace = memory.trace(training(name)[1])
    storages = {s.id: s for s in trace.storages}
    first = {}
    for access in trace.accesses:
        storage = storages[access.storage]
        assert storage.allocated <= access.operation < storage.freed
        first.setdefault(access.storage, access.kind)
    made = [s for s in trace.storages if not s.persistent]
    assert all(first[s.id] == "write" for s in made)
    assert trace.notes == ()
    assert trace.period == len(trace.operations)
    assert [a.operation for a in trace.accesses] == sorted(a.operation for a in trace.accesses)


def test_persistent_storages_are_weights_state_and_inputs():
    """Adam's two moments beside each weight, the batch, and its labels; steps are small extras."""
    network, step = training("mlp")
    weights = sum(p.numel() * 4 for p in network.parameters())
    steps = 4 * len(list(network.parameters()))
    trace = memory.trace(step)
    assert trace.persistent_bytes == 3 * weights + 256 * 64 * 4 + 256 * 8 + steps


def test_trace_does_not_change_what_is_computed():
    plain, step = training("residual")
    for _ in range(3):
        step()
    traced, step = training("residual")
    memory.trace(step)
    for a, b in zip(plain.state_dict().values(), traced.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", ["mlp", pytest.param("recurrent", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("calls", "inside", "marks"),
    [(1, 5, None), (2, 3, None), (3, 2, None), (4, 1, False), (2, 3, False)],
)
def test_period_without_marks(name, calls, inside, marks):
    """Steps inside a call are told apart, an LSTM's cells are not taken for steps."""
    expected = memory.trace(training(name)[1])
    _, step = training(name)
    trace = memory.trace(lambda: [step() for _ in range(inside)], calls, marks=marks)
    assert trace.period == expected.period
    assert trace.peak == pytest.approx(expected.peak, rel=1e-3)  # a loss that the caller keeps
    assert trace.notes == () or "still there" in trace.notes[0]


def test_a_loop_with_other_work_around_it():
    """What comes before and after the loop is not part of the iteration."""
    expected = memory.trace(training("residual")[1])

    def run():
        network, step = training("residual")
        for _ in range(6):
            step()
        network(torch.randn(4, 3, 16, 16))

    assert memory.trace(run, 1).period == expected.period


def test_yields_of_a_generator_are_marks():
    _, step = training("mlp")
    expected = memory.trace(step).period

    def loop():
        while True:
            step()
            step()
            yield

    assert memory.trace(loop, marks=True).period == 2 * expected
    assert memory.trace(loop()).period == expected
    finite = (step() for _ in range(2))
    assert memory.trace(finite, 5).period == expected


def test_accumulated_gradients_are_one_iteration():
    """Micro-batches look alike, but the optimiser comes only after the last."""
    network, _ = training("mlp")
    updates = torch.optim.SGD(network.parameters(), 0.1)
    x = torch.randn(32, 64)

    def step():
        updates.zero_grad()
        for _ in range(4):
            network(x).square().mean().backward()
        updates.step()

    trace = memory.trace(step)
    assert sum(o.layer == "SGD.step" for o in trace.operations) == len(list(network.parameters()))
    assert sum(o.name == "aten.addmm" for o in trace.operations) == 4 * 5


def test_storages_that_live_on_are_circular():
    """Gradients freed after the next forward pass, and a state carried from step to step."""
    network = nn.Linear(64, 64, bias=False)
    state = [torch.zeros(8, 64)]

    def step():
        out = torch.tanh(network(state[0]))
        state[0] = out.detach()
        network.weight.grad = None  # the last step's gradient lived until here
        out.sum().backward()
        with torch.no_grad():
            network.weight.add_(network.weight.grad, alpha=-0.01)

    trace = memory.trace(step, 4)
    circular = {s.size: s for s in trace.storages if s.freed > trace.period}
    assert set(circular) == {64 * 64 * 4, 8 * 64 * 4}
    carried = circular[8 * 64 * 4]
    reads = [a.operation for a in trace.accesses if a.storage == carried.id and a.kind == "read"]
    assert max(reads) >= trace.period
    assert trace.load()[0] >= 64 * 64 * 4 * 2  # weight and the gradient of the step before
    assert all(i.upper > trace.period for i in trace.intervals() if i.id == carried.id)


def test_shapes_that_depend_on_data_are_said():
    """The trace is of the last iteration, and names the first operator that differed."""
    sizes = iter([8, 9, 10])
    layer = nn.Linear(4, 4)
    trace = memory.trace(lambda: layer(torch.ones(next(sizes), 4)).sum().backward())
    assert "iterations differ" in trace.notes[0]
    assert "[10, 4]" in trace.notes[0]
    assert "[9, 4]" in trace.notes[0]
    assert "iterations differ" in repr(trace)


def test_one_iteration_says_what_it_cannot_know():
    trace = memory.trace(training("mlp")[1], 1)
    assert "cannot be told" in trace.notes[0]


def test_what_is_kept_for_ever_is_said():
    kept = []
    layer = nn.Linear(16, 16)
    trace = memory.trace(lambda: kept.append(layer(torch.ones(4, 16)).detach()))
    assert "256 B" in trace.notes[0]
    assert "still there" in trace.notes[0]


def test_in_place_out_and_foreach_operators():
    """`out=` and list arguments are writes; what grows in place is freed and made anew."""
    weights, grads = [torch.ones(100) for _ in range(3)], [torch.ones(100) for _ in range(3)]
    sink = torch.empty(100)

    def step():
        torch._foreach_add_(weights, grads, alpha=0.1)
        torch.mul(weights[0], 2, out=sink)
        grown = torch.empty(0)
        torch.add(weights[0], weights[1], out=grown)

    trace = memory.trace(step)
    written = [
        {a.storage for a in trace.accesses if a.operation == i and a.kind == "write"}
        for i in range(4)
    ]
    persistent = {s.id for s in trace.storages if s.persistent}
    assert len(written[0] & persistent) == 3
    assert len(written[1] & persistent) == 1
    assert {s.size for s in trace.storages if s.allocated == 3 and not s.persistent} == {400}
    assert trace.peak == 7 * 400 + 400


def test_views_are_no_operations():
    x = torch.ones(10, 10)
    trace = memory.trace(lambda: x.t().reshape(5, 20)[1:].view(-1).detach().add(1))
    assert [o.name for o in trace.operations] == ["aten.clone", "aten.add"]


def test_operations_know_layer_flops_and_bytes():
    _, step = training("mlp")
    trace = memory.trace(step)
    layers = [o for o in trace.operations if o.layer == "Mlp.layers.1"]
    assert [o.flops for o in layers if o.name == "aten.addmm"] == [2 * 256 * 64 * 64]
    assert sum(o.name == "aten.mm" for o in layers) == 2  # its backward: weight and input
    assert layers[0].bytes_moved == 4 * (64 + 2 * 256 * 64 + 64 * 64)
    assert any(o.layer == "Adam.step" for o in trace.operations)
    assert all(o.seconds > 0 for o in trace.operations)


def test_recurrent_layers_have_flops():
    lstm = nn.LSTM(8, 16)
    trace = memory.trace(lambda: lstm(torch.ones(5, 3, 8))[0].sum().backward())
    assert sum(o.flops for o in trace.operations) == 3 * 2 * 15 * 4 * 16 * (8 + 16)


def test_sparse_gradients_are_seen():
    """The parts of a sparse tensor are storages as others are."""
    table = nn.Embedding(1000, 16, sparse=True)
    updates = torch.optim.SGD(table.parameters(), 0.1)

    def step():
        updates.zero_grad()
        table(torch.arange(10)).sum().backward()
        updates.step()

    trace = memory.trace(step)
    update = next(o.index for o in trace.operations if o.layer == "SGD.step")
    sizes = {
        s.size
        for s in trace.storages
        for a in trace.accesses
        if a.storage == s.id and a.operation == update
    }
    assert {10 * 16 * 4, 10 * 8, 1000 * 16 * 4} <= sizes


def test_granularity_rounds_sizes_up():
    trace = memory.trace(training("mlp")[1], granularity=512)
    assert all(s.size % 512 == 0 for s in trace.storages)


def test_an_error_in_the_step_passes_and_leaves_no_hooks():
    def step():
        nn.Linear(2, 2)(torch.ones(3))

    with pytest.raises(RuntimeError):
        memory.trace(step)
    gc.collect()
    assert not torch.nn.modules.module._global_forward_pre_hooks
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None


def test_nothing_to_trace():
    with pytest.raises(DataError, match="no tensor operator"):
        memory.trace(lambda: None)
    with pytest.raises(DataError, match="iterations=0"):
        memory.trace(lambda: None, 0)


def test_workspace_of_iterations_that_differ_is_refused():
    sizes = iter([4, 3, 2, 1])
    layer = nn.Linear(4, 4)

    def step():
        for _ in range(next(sizes)):
            layer(torch.ones(2, 4)).relu().sum().backward()

    with pytest.raises(DataError, match="workspace could not be measured"):
        memory.trace(step, marks=True, workspace=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_step_on_cuda():
    network = nn.Linear(64, 64, device="cuda")
    x = torch.ones(32, 64, device="cuda")

    def step():
        network.zero_grad()
        network(x).sum().backward()

    trace = memory.trace(step, granularity=512)
    assert trace.peak > 0
    assert sum(o.seconds for o in trace.operations) > 0
