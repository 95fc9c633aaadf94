"""Linear regressions of groups that are solved exactly."""

from __future__ import annotations

import math
import time

import numpy as np
import torch

from gradbase.ir.learning import Mlp
from gradbase.runtime.groups.member import Member
from gradbase.runtime.groups.ragged import EpochOrders
from gradbase.runtime.groups.rows import GroupedData
from gradbase.runtime.train.losses import row_losses
from gradbase.runtime.train.normal_equation import ROWS, smallest_weights


def solve(member: Member, data: GroupedData, orders: EpochOrders) -> None:
    """The normal equation of one group; see `runtime.train.normal_equation`."""
    started = time.perf_counter()
    network, dense = member.fit.network, member.shape.dense
    assert isinstance(network, Mlp), network
    x, y, w = (torch.from_numpy(a) for a in (data.x, data.y, data.weights))
    begin = int(orders.starts[member.group.number])
    rows = orders.order(0)[begin : begin + len(member.group.parts.train)]

    def read(places: torch.Tensor) -> torch.Tensor:
        found = x[places, :dense].double()
        return torch.cat([found[:, 1:], found[:, :1]], 1)  # the constant column is the last

    chunks = [torch.from_numpy(rows[i : i + ROWS]) for i in range(0, len(rows), ROWS)]
    batches = ((read(c), y[c], w[c]) for c in chunks)
    free = dense - (not network.intercept)
    weight = smallest_weights(batches, dense, free, member.fit.optimizer.l2_reg)
    losses = [row_losses("regression", read(c) @ weight, y[c], None, w[c]) for c in chunks]
    member.train_losses.append(float(sum(v.sum() for v in losses)) / len(rows))
    member.layers = [weight.float()]

    def outputs(places: np.ndarray) -> np.ndarray:
        return (read(torch.from_numpy(places)).float() @ member.layers[0]).double().numpy()

    member.outputs = outputs(member.measured)
    if len(member.group.parts.eval):
        error = member.outputs[:, 0] - data.y[member.group.parts.eval]
        member.eval_losses.append(float(np.mean(error**2)))
    if len(member.group.parts.test):
        member.tested = outputs(member.group.parts.test)
    if not math.isfinite(member.losses[-1]):
        member.error = f"the loss became {member.losses[-1]:g}"
    member.seconds.append(time.perf_counter() - started)
