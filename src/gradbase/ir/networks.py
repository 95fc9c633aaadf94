"""Perceptrons that do more than predict a label from hidden layers."""

from __future__ import annotations

from gradbase.ir.learning import Fit, Mlp, Optimizer
from gradbase.ir.node import node


@node
class WideDeep(Mlp):
    """Hidden layers, and a linear model of the same columns whose output is added to theirs.

    The linear part is changed by `linear_optimizer` with `linear_learn_rate`; '' and None: as the
    hidden layers are. Source: Cheng et al. 2016, section 3.
    """

    linear_optimizer: str = ""
    linear_learn_rate: float | None = None


@node
class Autoencoder(Mlp):
    """Hidden layers that give their own input again; the middle one is narrow: the latent columns.

    `l1_reg_activation` times the mean over rows of the sum of absolute latent values is added to
    the loss.
    """

    l1_reg_activation: float = 0.0

    @property
    def bottleneck(self) -> int:
        """Index of the hidden layer whose values are the latent columns."""
        return len(self.hidden_units) // 2


def optimizers_of(fit: Fit) -> tuple[Optimizer, ...]:
    """The optimiser of each part of a perceptron: all of it, or hidden layers and linear part.

    Of both, `l1_reg` is of the linear part.
    """
    network, own = fit.network, fit.optimizer
    if not isinstance(network, WideDeep):
        return (own,)
    rate = network.linear_learn_rate
    linear = own.replace(learn_rate=own.learn_rate if rate is None else rate)
    if network.linear_optimizer:
        linear = linear.replace(name=network.linear_optimizer, momentum=0.0)
    return own.replace(l1_reg=0.0), linear
