"""A PyTorch training step in 60 % of the memory that it takes, with the same numbers.

Data: random. Needs no database. Run: ``python examples/05_less_memory.py``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

import gradbase as gb


def training() -> Callable[[], torch.Tensor]:
    """A step of an eight-layer network with Adam; the same one each time."""
    torch.manual_seed(0)
    layers = [part for _ in range(8) for part in (nn.Linear(256, 256), nn.GELU())]
    network = nn.Sequential(*layers, nn.Linear(256, 10))
    updates = torch.optim.Adam(network.parameters(), lr=1e-3)
    x, y = torch.randn(2048, 256), torch.randint(10, (2048,))

    def step() -> torch.Tensor:
        updates.zero_grad()
        loss = functional.cross_entropy(network(x), y)
        loss.backward()
        updates.step()
        return loss.detach()

    return step


def main() -> None:
    """Trace a step, place it in one block, run it within a budget."""
    trace = gb.memory.trace(training())
    print(trace)
    print(gb.memory.plan(trace, time_limit=2))

    plain = training()
    expected = [plain() for _ in range(4)]
    step = training()
    limit = int(0.6 * trace.peak)
    with gb.memory.budget(limit) as report:
        found = [step() for _ in range(4)]
    print(report)
    losses = [round(float(loss), 4) for loss in found]
    print(f"limit {limit / 2**20:.1f} MiB, losses {losses}, the same: {found == expected}")


if __name__ == "__main__":
    main()
