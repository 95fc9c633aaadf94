"""Steps under a budget: same numbers, load within the limit, everything restored."""

from __future__ import annotations

import copy
import io
import threading

import numpy as np
import pytest
import torch
from torch import nn
from training_steps import NETWORKS, training

import gradbase as gb
from gradbase.errors import BindError, ResourceError
from gradbase.runtime.memory import running
from gradbase.runtime.memory.orders import Orders
from gradbase.runtime.memory.tiers import FileTier

memory = gb.memory
FRACTIONS = (0.75, 0.5, 0.25, 0.0)


@pytest.fixture
def fresh(monkeypatch):
    """No order is known yet."""
    monkeypatch.setitem(running._LEARNT, "cpu", Orders())


def limit_of(trace, fraction):
    """`fraction` of what is above the least with which the step runs."""
    least = trace.persistent_bytes + trace.working_set
    return int(least + fraction * (trace.peak - least))


def state_of(network):
    gradients = [p.grad for p in network.parameters()]
    return [*network.state_dict().values(), *gradients]


def assert_same(a, b):
    for x, y in zip(state_of(a), state_of(b), strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize(
    "fraction", [FRACTIONS[0], *(pytest.param(f, marks=pytest.mark.slow) for f in FRACTIONS[1:])]
)
@pytest.mark.parametrize("name", NETWORKS)
def test_weights_and_gradients_are_bitwise_equal(name, fraction):
    """Three steps, a ``with`` around each: the same bits, a peak within the limit."""
    trace = memory.trace(training(name)[1])
    plain, plain_step = training(name)
    limited, limited_step = training(name)
    limit = limit_of(trace, fraction)
    for seed in range(3):
        torch.manual_seed(seed)
        expected = plain_step()
        torch.manual_seed(seed)
        with memory.budget(limit) as report:
            loss = limited_step()
        assert torch.equal(loss, expected)
        assert report.peak <= limit
    assert report.swapped > 0 or fraction > 0.5
    assert report.foreseen == report.operations  # by now the order is known
    assert_same(plain, limited)


@pytest.mark.parametrize("name", ["residual", "recurrent"])
def test_many_steps_in_one_budget(name):
    plain, plain_step = training(name)
    limited, limited_step = training(name)
    limit = limit_of(memory.trace(training(name)[1]), 0.5)
    torch.manual_seed(5)
    for _ in range(5):
        plain_step()
    torch.manual_seed(5)
    with memory.budget(limit) as report:
        for _ in range(5):
            limited_step()
    assert_same(plain, limited)
    assert report.peak <= limit
    assert report.iterations == 5


def test_a_limit_below_the_minimum_says_the_minimum():
    """With that minimum it runs; the step that found out is complete."""
    trace = memory.trace(training("dense", torch.optim.SGD)[1])
    network, step = training("dense", torch.optim.SGD)
    with (
        pytest.raises(ResourceError, match="too small for this step") as caught,
        memory.budget("1KB"),
    ):
        step()
    minimum = int(caught.value.hint.split("(")[1].split(")")[0])
    assert minimum == trace.persistent_bytes + trace.working_set
    with memory.budget(minimum) as report:
        step()
    assert report.peak <= minimum
    assert report.minimum == minimum
    expected, plain_step = training("dense", torch.optim.SGD)
    plain_step()
    plain_step()
    assert_same(network, expected)


def test_enough_room_swaps_nothing():
    with memory.budget("1GB") as report:
        training("mlp")[1]()
    assert (report.swapped, report.bytes_out, report.stall_s, report.notes) == (0, 0, 0.0, [])


def test_report_reads_well():
    _, step = training("mlp")
    limit = limit_of(memory.trace(step), 0.3)
    with memory.budget(limit) as report:
        step()
    assert "Budget of" in repr(report)
    assert "file tier" in repr(report)
    assert report.bytes_out > 0
    assert report.bytes_in > 0


def test_shapes_that_depend_on_data_fall_back(fresh):
    """The numbers are right, the limit holds, and the report says where the order was left."""

    def run(network, rows):
        network.zero_grad()
        network(torch.ones(rows, 64)).square().mean().backward()

    plain, limited = training("mlp")[0], training("mlp")[0]
    for rows in (256, 256, 200, 256, 131, 200):
        run(plain, rows)
    with memory.budget("500KB") as report:
        for rows in (256, 256, 200, 256, 131, 200):
            run(limited, rows)
    assert_same(plain, limited)
    assert report.peak <= 500_000
    assert (report.iterations, report.learnt) == (6, 3)
    assert any("shapes not seen before" in note for note in report.notes)


def test_a_step_that_branches_on_data_is_noted():
    layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(6))

    def step(depth):
        x = torch.ones(200, 64)
        for layer in layers[:depth]:
            x = layer(x).tanh()
        x.sum().backward()

    with memory.budget("400KB") as report:
        step(6)
        step(6)
        step(4)
    assert report.peak <= 400_000
    assert any("left the learnt order" in note for note in report.notes)
    expected = [p.grad.clone() for p in layers.parameters()]
    layers.zero_grad()
    for depth in (6, 6, 4):
        step(depth)
    assert all(torch.equal(p.grad, e) for p, e in zip(layers.parameters(), expected, strict=True))


def test_a_step_that_changes_saved_tensors_fails_as_without():
    """Autograd's own check sees the version it would see anyway."""

    def step():
        w = torch.ones(1000, requires_grad=True)
        x = torch.exp(w * 2)
        y = [x * i for i in range(20)]
        x.add_(1)
        sum(y).sum().backward()

    with pytest.raises(RuntimeError, match="modified by an inplace operation") as plain:
        step()
    with (
        pytest.raises(RuntimeError, match="modified by an inplace operation") as limited,
        memory.budget("30KB"),
    ):
        step()
    assert str(plain.value) == str(limited.value)


def test_an_error_inside_restores_everything(tmp_path):
    """Tensors are whole, hooks and threads gone, no file is left."""
    threads = threading.active_count()
    wrapped = torch.Tensor.numpy
    kept = []

    def step():
        kept.extend(torch.full((10_000,), float(i)) for i in range(10))
        assert list(tmp_path.iterdir()) == []  # the file has no name
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), memory.budget("100KB", tmp_path) as report:
        step()
    assert report.swapped >= 7
    assert all(torch.equal(k, torch.full((10_000,), float(i))) for i, k in enumerate(kept))
    assert threading.active_count() == threads
    assert torch.Tensor.numpy is wrapped
    assert "numpy" not in vars(torch.Tensor)
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None
    with memory.budget("1MB"):
        pass  # none is active any more


def test_views_leave_once_and_come_back_whole():
    with memory.budget("200KB") as report:
        base = torch.arange(40_000.0).remainder_(64)  # their sum is exact in any order
        views = [base[i::4] for i in range(4)]
        other = torch.zeros(20_000)  # the base leaves
        assert report.swapped == 1
        assert [v.shape for v in views] == [(10_000,)] * 4
        total = sum(v.sum() for v in views)
        base[0] = 5  # what was written is not what the tier has
        other += 1
        again = torch.ones(20_000)
        del again
        assert base[0] == 5
    assert total == (torch.arange(40_000) % 64).sum()


@pytest.mark.parametrize(
    "reach",
    [
        lambda x: x.numpy().tolist(),
        lambda x: np.asarray(x).tolist(),
        lambda x: x.tolist(),
        lambda x: torch.from_dlpack(x.__dlpack__()).tolist(),
        lambda x: copy.deepcopy(x).tolist(),
        lambda x: [float(v) for v in x[:3]] * 3000,
        lambda x: [float(repr(x).split("[")[1].split(".")[0])] * 9000,
    ],
)
def test_memory_reached_past_the_dispatcher_is_there(reach):
    """numpy, printing, pickling and others read memory without an operator."""
    with memory.budget("150KB"):
        tensors = [torch.full((9_000,), float(i)) for i in range(6)]
        assert reach(tensors[0]) == [0.0] * 9_000
        assert reach(tensors[3])[0] == 3.0


def test_what_numpy_holds_never_leaves():
    with memory.budget("150KB"):
        first = torch.full((9_000,), 7.0)
        array = first.numpy()
        others = [torch.full((9_000,), float(i)) for i in range(6)]
        assert (array == 7).all()
    assert [int(o[0]) for o in others] == list(range(6))


def test_what_numpy_holds_counts_for_the_minimum():
    with pytest.raises(ResourceError, match="held by numpy"), memory.budget("100KB"):
        arrays = [torch.zeros(9_000).numpy() for _ in range(6)]
    assert len(arrays) == 6


def test_saving_a_model_inside():
    buffer = io.BytesIO()
    with memory.budget("100KB"):
        tensors = {str(i): torch.full((9_000,), float(i)) for i in range(6)}
        total = sum(t.sum() for t in tensors.values())
        assert total == 9_000 * 15
        torch.save(tensors["0"], buffer)
    buffer.seek(0)
    assert torch.equal(torch.load(buffer), torch.zeros(9_000))


def test_an_order_of_another_step_refuses_nothing():
    """What an earlier step handed to numpy is expected until this one goes another way."""
    for handed_out in (4, 0):
        with memory.budget("200KB" if handed_out else "100KB") as report:
            tensors = [torch.full((9_100,), float(i)) for i in range(6)]
            arrays = [t.numpy() for t in tensors[:handed_out]]
            total = sum(t.sum() for t in tensors[handed_out:])
        assert len(arrays) == handed_out
        assert total == 9_100 * sum(range(handed_out, 6))
        assert report.peak <= report.limit


def test_the_same_operators_of_other_dtypes_are_another_order():
    """Storages of twice the size: no limit is passed, no order is left."""
    for dtype in (torch.float32, torch.float64, torch.float32):
        network = nn.Sequential(*[m for _ in range(6) for m in (nn.Linear(64, 64), nn.Tanh())])
        network.to(dtype)
        x, limit = torch.ones(200, 64, dtype=dtype), 100_000 * dtype.itemsize
        with memory.budget(limit) as report:
            network(x).square().mean().backward()
        assert report.peak <= limit
        assert not any("made storages" in n or "over the limit" in n for n in report.notes)


def test_results_of_other_sizes_are_another_order(fresh):
    """The first operator looks the same; what it makes tells that the others are not known."""
    found = []
    for ones in (100, 200, 200):
        x = torch.arange(311) < ones
        with memory.budget("1MB") as report:
            for _ in range(8):
                x.nonzero()
        found.append(report.foreseen)
    assert found == [0, 1, 8]


def test_a_step_that_begins_like_another_is_noted_only_where_that_was_relied_on(fresh):
    def step(depth, limit):
        with memory.budget(limit) as report:
            x = [torch.full((9_300,), float(i)) for i in range(depth)]
            sum(t.sum() for t in x)
        return report

    step(9, "200KB")
    assert step(7, "1MB").notes == []
    step(9, "200KB")
    assert "left the learnt order" in step(6, "200KB").notes[0]


def test_a_step_that_ends_early_counts_nothing_that_was_expected():
    """The first six tensors went to numpy, where they stay; of the other step none does."""
    with memory.budget("1MB") as first:
        arrays = [torch.full((9_200,), float(i)).numpy() for i in range(6)]
    with memory.budget("1MB") as second:
        for i in range(5):
            torch.full((9_200,), float(i))
    assert len(arrays) == 6
    assert first.peak == 6 * 4 * 9_200
    assert second.peak == 4 * 9_200


def test_gradients_of_gradients():
    """The graph is kept and differentiated again."""

    def penalty(limit):
        torch.manual_seed(0)
        network = nn.Sequential(*[m for _ in range(4) for m in (nn.Linear(64, 64), nn.Tanh())])
        x = torch.randn(200, 64, requires_grad=True)
        with memory.budget(limit) as report:
            (gradient,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
            gradient.square().sum().backward()
        return report, [p.grad for p in network.parameters()]

    plain, limited = penalty("1GB"), penalty("450KB")
    assert limited[0].swapped > 0
    assert limited[0].peak <= 450_000
    assert all(torch.equal(a, b) for a, b in zip(plain[1], limited[1], strict=True))


def test_users_own_saved_tensor_hooks_work():
    def run(limit):
        torch.manual_seed(0)
        w = torch.randn(64, 64, requires_grad=True)
        with (
            memory.budget(limit),
            torch.autograd.graph.saved_tensors_hooks(lambda t: t * 2, lambda t: t / 2),
        ):
            x = torch.ones(200, 64)
            for _ in range(5):
                x = torch.tanh(x @ w)
            x.sum().backward()
        return w.grad

    assert torch.equal(run("1GB"), run("400KB"))


def test_sparse_gradients():
    def run(limit):
        torch.manual_seed(0)
        table = nn.Embedding(500, 64, sparse=True)
        updates = torch.optim.SGD(table.parameters(), 0.1)
        for _ in range(2):
            with memory.budget(limit):
                updates.zero_grad()
                x = table(torch.arange(300) % 200)
                y = [torch.tanh(x * i) for i in range(1, 6)]
                sum(y).sum().backward()
                updates.step()
        return table.weight

    assert torch.equal(run("1GB"), run("600KB"))


def test_tensors_that_are_resized_in_place():
    with memory.budget("200KB") as report:
        grown = torch.empty(0)
        torch.add(torch.ones(10_000), torch.ones(10_000), out=grown)
        grown.resize_(20_000)
        parts = [torch.full((10_000,), float(i)) for i in range(5)]
        assert grown[5] == 2
        assert sum(p[0] for p in parts) == 10
    assert report.peak <= 200_000


def test_budgets_do_not_nest():
    with (
        memory.budget("1MB"),
        pytest.raises(BindError, match="already active"),
        memory.budget("1MB"),
    ):
        pass


@pytest.mark.parametrize(
    ("given", "found"),
    [({"limit": "many"}, "not a size"), ({"limit": "1MB", "device": "tpu"}, "tpu")],
)
def test_arguments_are_checked(given, found):
    with pytest.raises(BindError, match=found), memory.budget(**given):
        pass


def test_operators_of_a_compiled_function_run_one_by_one():
    """torch.compile steps aside while a budget is active; its kernels would bypass the pager."""
    calls = []

    def backend(graph, _inputs):
        def run(*args):
            calls.append(1)
            return graph(*args)

        return run

    compiled = torch.compile(lambda x: torch.tanh(x).sin(), backend=backend)
    x = torch.ones(100)
    expected = compiled(x)
    with memory.budget("1MB"):
        assert torch.equal(compiled(x), expected)
    assert len(calls) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("fraction", [0.75, 0.25])
def test_a_step_on_cuda(fraction):
    def make():
        torch.manual_seed(0)
        network = nn.Sequential(
            *[m for _ in range(8) for m in (nn.Linear(512, 512), nn.Tanh())]
        ).cuda()
        x = torch.randn(4096, 512, device="cuda")

        def step():
            network.zero_grad()
            network(x).square().mean().backward()

        return network, step

    trace = memory.trace(make()[1])
    (plain, plain_step), (limited, limited_step) = make(), make()
    limit = limit_of(trace, fraction)
    for _ in range(3):
        plain_step()
        with memory.budget(limit, device="cuda") as report:
            limited_step()
        assert report.peak <= limit
    assert report.swapped > 0
    assert_same(plain, limited)


def test_what_is_needed_is_fetched_before():
    """From the second iteration on the order is known, planned for, and returns are begun early."""
    _, step = training("dense")
    limit = limit_of(memory.trace(step), 0.4)
    with memory.budget(limit) as first:
        step()
    with memory.budget(limit) as second:
        step()
    assert second.hits > 0
    assert second.misses <= second.hits
    assert second.learnt == 0
    assert first.peak <= limit
    assert second.peak <= limit


class Stubborn(FileTier):
    """Refuses the first storage that is brought to it."""

    refuses = 1

    def out(self, storage):
        if self.refuses:
            self.refuses -= 1
            raise ResourceError("no room at present")
        return super().out(storage)


def test_a_planned_copy_that_fails_is_no_error_while_there_is_room(tmp_path):
    """The storage stays; when its room is needed it is tried again."""
    (plain, plain_step), (limited, step) = training("dense"), training("dense")
    limit = limit_of(memory.trace(training("dense")[1]), 0.4)
    for _ in range(2):  # to learn and to plan
        with memory.budget(limit, tmp_path):
            step()
    with memory.budget(limit, tier=Stubborn(tmp_path)) as report:
        step()
    for _ in range(3):
        plain_step()
    assert report.notes == ["no room at present"]
    assert report.peak <= limit
    assert_same(plain, limited)
