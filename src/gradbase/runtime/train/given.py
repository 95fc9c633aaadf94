"""What users give as functions: networks, losses, metrics, schedules, optimisers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from gradbase.ir.learning import Fit, Optimizer, PythonNetwork
from gradbase.ir.metrics import reference_of, shown
from gradbase.ir.stepping import OWN_LOSS
from gradbase.runtime.train.data import TrainingData
from gradbase.runtime.train.losses import RowLoss
from gradbase.runtime.train.schedules import Own, Schedules


class Networks(Protocol):
    """Makes users' modules."""

    def build(
        self, network: PythonNetwork, *, n_inputs: int, n_outputs: int, seed: int
    ) -> torch.nn.Module:
        """The module with initial weights that follow from `seed`."""
        ...

    def loss(self, reference: str) -> RowLoss:
        """A user's own loss."""
        ...

    def metric(self, reference: str) -> Callable[[Tensor, Tensor], float]:
        """A user's own metric."""
        ...

    def schedule(self, reference: str) -> Own:
        """A user's own schedule."""
        ...

    def optimizer(
        self, reference: str, spec: Optimizer, parameters: Sequence[Tensor]
    ) -> torch.optim.Optimizer:
        """A user's own optimiser."""
        ...


def loss_of(fit: Fit, networks: Networks | None) -> str | RowLoss:
    """What a fit minimises: by name, or a user's own."""
    if not fit.loss.startswith(OWN_LOSS):
        return fit.loss
    assert networks is not None, "a user's loss needs networks"
    return networks.loss(fit.loss.removeprefix(OWN_LOSS))


def build(fit: Fit, data: TrainingData, networks: Networks | None) -> torch.nn.Module:
    """A user's module with its first weights."""
    assert networks is not None, "a PythonNetwork needs networks"
    assert isinstance(fit.network, PythonNetwork), fit.network
    return networks.build(
        fit.network, n_inputs=data.inputs.width, n_outputs=data.outputs, seed=fit.seed
    )


def schedules_of(networks: Networks | None) -> Schedules:
    """Finds users' own schedules."""

    def find(reference: str) -> Own:
        assert networks is not None, "a user's schedule needs networks"
        return networks.schedule(reference)

    return find


def own_metric(
    fit: Fit, judged: Callable[[], tuple[Tensor, Tensor]], networks: Networks | None
) -> dict[str, float]:
    """A user's own metric of a fit by its name; {} where there is none.

    `judged` gives outputs and labels.
    """
    if not fit.metric or networks is None:
        return {}
    metric = networks.metric(reference_of(fit.metric).removeprefix(OWN_LOSS))
    return {shown(fit.metric): metric(*judged())}
