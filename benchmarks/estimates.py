"""What a fit is said to hold before it starts, against what its step really holds."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from networks import SMALL, Workload

from gradbase import memory
from gradbase.runtime.train.step_memory import module_memory

MIB = 1 << 20


class Columns(torch.nn.Module):
    """A network of the benchmark as a user's module: it gets a row of numbers, gives one number."""

    def __init__(self, network: torch.nn.Module, shape: tuple[int, ...], words: int) -> None:
        super().__init__()
        self.network, self.shape, self.words = network, shape, words

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.unflatten(1, self.shape)
        z = self.network((x.abs() * self.words).long() % self.words if self.words else x)
        return z.unflatten(0, (len(x), -1)).mean((1, 2))[:, None] if self.words else z[:, :1]


def modules(wanted: list[str]) -> dict[str, tuple[Callable[[], torch.nn.Module], int, int]]:
    """Name: (makes the module, columns, rows of a batch)."""
    found: dict[str, tuple[Callable[[], torch.nn.Module], int, int]] = {}
    for name, load in SMALL.items():
        shape = (load.length,) if load.words else (3, load.side, load.side)

        def make(load: Workload = load, shape: tuple[int, ...] = shape) -> torch.nn.Module:
            return Columns(load.network(), shape, load.words)

        found[name] = (make, math.prod(shape), load.batch)
    for hidden in ((64, 32), (256, 128), (512, 256)):
        found[f"mlp-{hidden[0]}"] = (lambda h=hidden: _mlp(h), 50, 256)
    return {n: v for n, v in found.items() if not wanted or n in wanted}


def _mlp(hidden: tuple[int, int]) -> torch.nn.Module:
    linear, relu = torch.nn.Linear, torch.nn.ReLU
    first, second = hidden
    return torch.nn.Sequential(
        linear(50, first), relu(), linear(first, second), relu(), linear(second, 1)
    )


def estimates(wanted: list[str]) -> list[dict[str, Any]]:
    """What a fit is said to hold before it starts, against the traced peak of a step it takes."""
    print("\nestimate: peak of a fit's step as told before, against the peak of one really taken")
    print(f"{'module':<12} {'told MiB':>9} {'taken MiB':>10} {'off':>7} {'s':>6}")
    rows: list[dict[str, Any]] = []
    for name, (make, columns, batch) in modules(wanted).items():
        torch.manual_seed(0)
        module, updates = make(), functools.partial(torch.optim.AdamW, lr=1e-3)
        begin = time.perf_counter()
        told = module_memory(module, updates, inputs=columns, task="binary", batch=batch)
        seconds = time.perf_counter() - begin
        module.train()
        x, y, optimizer = (
            torch.rand(batch, columns),
            torch.zeros(batch),
            updates(module.parameters()),
        )

        def step(m: Any = module, x: Any = x, y: Any = y, optimizer: Any = optimizer) -> None:
            optimizer.zero_grad()
            loss = torch.nn.functional.binary_cross_entropy_with_logits
            loss(m(x)[:, 0], y, reduction="none").mean().backward()
            optimizer.step()

        taken = memory.trace(step, marks=True).peak
        off = told.peak / taken - 1 if told is not None else math.inf
        rows.append({"network": name, "told": told and told.peak, "taken": taken, "off": off})
        shown = told.peak / MIB if told is not None else math.nan
        print(
            f"{name:<12} {shown:>9.1f} {taken / MIB:>10.1f} {off:>+7.2%} {seconds:>6.2f}",
            flush=True,
        )
    return rows
