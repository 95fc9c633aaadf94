"""Every operator in tiles gives what torch gives, with pages and limits so small that all splits."""

from __future__ import annotations

import functools

import pyarrow as pa
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gradbase.engines import connect
from gradbase.errors import ResourceError
from gradbase.importing.models import imported
from gradbase.ir.types import FLOAT32, array_of
from gradbase.resources.broker import Broker
from gradbase.resources.tiled_plan import Planner
from gradbase.runtime.context import RunContext
from gradbase.runtime.tiled.program import TiledProgram
from gradbase.runtime.tiled.sizes import TiledSizes
from gradbase.store import Store, bytes_of
from gradbase.store.tiles.pool import Pool


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    engine = connect(str(tmp_path_factory.mktemp("tiled") / "db.duckdb"))
    store = Store.open(engine)
    yield store.blobs
    store.close()
    engine.close()


@functools.cache  # tracing takes most of the time
def case(name, blobs):
    """A module of `CASES`, and the model that it makes."""
    width, make = CASES[name]
    torch.manual_seed(5)
    module = make().eval()
    return module, width, model_of(module, width, blobs)


def model_of(module, width, blobs):
    """The module as a model over one column of `width` numbers, its weights stored."""
    model, params = imported("m", module, {"x": array_of(FLOAT32, width)}, None, None)
    blobs.put_many(bytes_of(a) for a in params.values())
    return model


def column(x):
    flat = pa.array(x.numpy().ravel())
    return pa.record_batch([pa.FixedSizeListArray.from_arrays(flat, x.shape[1])], names=["x"])


def run(model, x, blobs, *, memory, page, threads=2, rows=0, free=2):
    """Outputs, and what was read and written for them."""
    context = RunContext(None, blobs, Broker(threads, memory))
    context.pool = pool = Pool(context.broker)
    sizes = TiledSizes(model, ["raw"], 4 * x.shape[1], rows, context, page_bytes=page)
    features = column(x)
    with (
        context.broker.lease("query", "q", size_bytes=sizes.size_bytes),
        TiledProgram(sizes, ["raw"], context) as program,
        program.one(features, free) as runner,
    ):
        (found,) = runner.run(features)
        assert pool.held_bytes <= context.broker.memory_bytes
    pool.close()
    return found, context.metrics, sizes.plan


class Flat(nn.Module):
    """Images as rows of numbers, and back."""

    def __init__(self, dims, *layers):
        super().__init__()
        self.dims, self.layers = dims, nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x.reshape(-1, *self.dims)).flatten(1)


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class TwoWays(nn.Module):
    """A wide result that two operators read."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(20, 200), nn.Linear(200, 200)

    def forward(self, x):
        wide = torch.tanh(self.first(x))
        return torch.cat([wide + self.second(wide), wide * 0.5], dim=1)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.project = nn.LayerNorm(12), nn.Linear(12, 36)
        self.out = nn.Linear(12, 12)

    def forward(self, x):
        q, k, v = self.project(self.norm(x)).chunk(3, dim=-1)
        return x + self.out(torch.softmax(q @ k.transpose(1, 2) / 3.0, -1) @ v)


class Product(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(30, 70))

    def forward(self, x):
        return torch.relu(x @ self.weight) @ self.weight.T


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(50, 24)

    def forward(self, x):
        return self.table((x * 7).to(torch.int64).abs() % 50).flatten(1)


class Heads(nn.Module):
    """The batch second, and merged with another size."""

    def __init__(self):
        super().__init__()
        self.project, self.out = nn.Linear(12, 48), nn.Linear(48, 12)
        self.norm = nn.LayerNorm(48)

    def forward(self, x):
        steps = torch.softmax(self.norm(self.project(x.transpose(0, 1))), -1) * 3
        merged = steps.transpose(0, 1).flatten(0, 1)
        return self.out(torch.relu(merged)).reshape(x.shape[0], 7, 12)


WIDE = nn.Linear(30, 170)
CASES = {
    "linear": (30, lambda: nn.Sequential(WIDE)),
    "no bias": (30, lambda: nn.Linear(30, 90, bias=False)),
    "mlp": (30, lambda: nn.Sequential(WIDE, nn.ReLU(), nn.Linear(170, 60), nn.GELU(), nn.Linear(60, 5))),
    "wide in the middle": (30, lambda: nn.Sequential(WIDE, nn.Sigmoid(), nn.Linear(170, 180), nn.ReLU(), nn.Linear(180, 3))),
    "softmax": (30, lambda: nn.Sequential(WIDE, nn.Softmax(-1))),
    "log softmax": (30, lambda: nn.Sequential(WIDE, nn.LogSoftmax(-1))),
    "layer norm": (30, lambda: nn.Sequential(WIDE, nn.LayerNorm(170), nn.Linear(170, 4))),
    "layer norm plain": (170, lambda: nn.LayerNorm(170, elementwise_affine=False)),
    "rms norm": (30, lambda: nn.Sequential(WIDE, nn.RMSNorm(170))),
    "batch norm": (30, lambda: nn.Sequential(WIDE, nn.BatchNorm1d(170), nn.Linear(170, 4))),
    "pointwise": (60, lambda: Lambda(lambda x: F.leaky_relu(x.abs().sqrt() - 1, 0.1) * 2 + x.clamp(-1, 1))),
    "broadcast": (60, lambda: Lambda(lambda x: x - x[:, :1] * torch.arange(60.0))),
    "two readers": (20, TwoWays),
    "product": (30, Product),
    "embedding": (9, Words),
    "conv": (2 * 9 * 11, lambda: Flat((2, 9, 11), nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, (3, 5), stride=2, dilation=1))),
    "conv groups": (4 * 8 * 8, lambda: Flat((4, 8, 8), nn.Conv2d(4, 8, 3, groups=2, stride=(1, 2), padding=(0, 1)))),
    "conv dilated": (1 * 8 * 20, lambda: Flat((1, 8, 20), nn.Conv2d(1, 3, 3, dilation=2, padding=2))),
    "conv 1d": (3 * 40, lambda: Flat((3, 40), nn.Conv1d(3, 5, 4, stride=3, padding=2))),
    "pools": (2 * 8 * 13, lambda: Flat((2, 8, 13), nn.MaxPool2d(3, 2, padding=1), nn.AvgPool2d(2, 1, padding=1))),
    "conv net": (1 * 12 * 12, lambda: Flat((1, 12, 12), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(100, 20))),
    "heads": (7 * 12, lambda: Flat((7, 12), Heads())),
    "attention": (7 * 12, lambda: Flat((7, 12), Attention())),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    ("memory", "page", "threads"), [(1 << 20, 256, 1), (96 << 10, 256, 2), (1 << 24, 4096, 2)]
)
def test_tiles_give_what_torch_gives(blobs, name, memory, page, threads):
    module, width, model = case(name, blobs)
    x = torch.randn(37, width)
    found, metrics, plan = run(model, x, blobs, memory=memory, page=page, threads=threads)
    with torch.no_grad():
        torch.testing.assert_close(found, module(x), rtol=2e-5, atol=2e-5)
    assert metrics["pages_read"] > 0 or not plan.tiled


def test_the_answer_does_not_depend_on_how_many_threads_are_free(blobs):
    _, width, model = case("wide in the middle", blobs)
    x = torch.randn(17, width)
    found = [run(model, x, blobs, memory=1 << 20, page=256, free=n)[0] for n in (2, 1)]
    assert torch.equal(*found)


def test_weights_are_read_in_tiles_where_the_batch_is_not_first(blobs):
    _, width, model = case("heads", blobs)
    _, metrics, plan = run(model, torch.randn(9, width), blobs, memory=96 << 10, page=256)
    assert len(plan.tiled) == 2
    assert metrics["page_bytes"] >= 2 * 12 * 48 * 4


def test_each_weight_is_read_once_for_each_batch_of_rows(blobs):
    module = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 10))
    model = model_of(module, 64, blobs)
    x = torch.randn(64, 64)
    size = sum(p.numel() * 4 for p in module.parameters() if p.dim() > 1)
    for rows, batches in ((16, 4), (8, 8)):
        found, metrics, plan = run(model, x, blobs, memory=100 << 10, page=1024, rows=rows)
        assert plan.rows == rows
        assert size * batches * 0.3 < metrics["page_bytes"] <= size * batches
        torch.testing.assert_close(found, module(x).detach(), rtol=2e-5, atol=2e-5)


@pytest.mark.slow
def test_results_that_do_not_fit_go_to_disk(blobs):
    module = nn.Sequential(nn.Linear(8, 3000), nn.Softmax(-1), nn.Linear(3000, 3000), nn.Tanh(), nn.LayerNorm(3000), nn.Linear(3000, 2))  # fmt: skip
    model = model_of(module, 8, blobs)
    x = torch.randn(5, 8)
    found, metrics, plan = run(model, x, blobs, memory=80 << 10, page=1024, threads=1)
    assert plan.disk_bytes > 0
    assert metrics["pages_written"] > 0
    torch.testing.assert_close(found, module(x).detach(), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("special", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinity_pass_as_in_torch(blobs, special):
    module = nn.Sequential(nn.Softmax(-1))
    x = torch.randn(4, 90)
    x[0, 50] = special
    x[1, :] = special
    found, _, _ = run(model_of(module, 90, blobs), x, blobs, memory=64 << 10, page=256)
    torch.testing.assert_close(found, module(x), equal_nan=True)


def test_float64_stays_float64(blobs):
    module = nn.Sequential(Lambda(lambda x: x.double()), nn.Linear(30, 80).double(), nn.LayerNorm(80).double())  # fmt: skip
    x = torch.randn(11, 30)
    found, _, _ = run(model_of(module, 30, blobs), x, blobs, memory=64 << 10, page=256)
    torch.testing.assert_close(found, module(x).detach(), rtol=1e-12, atol=1e-12)


def test_a_limit_too_small_for_one_tile_says_how_much_is_needed(blobs):
    model = model_of(nn.Linear(300, 300), 300, blobs)
    with pytest.raises(ResourceError, match=r"1,000 B are too little .* at least [\d.]+ KiB") as e:
        Planner(model, 1200, 1000, 2, page_bytes=1024).plan()
    assert "gradbase.memory_limit" in str(e.value)
