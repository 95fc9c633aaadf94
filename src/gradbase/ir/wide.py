"""Wide and deep networks: a linear part beside hidden layers, their outputs added up."""

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


def optimizers_of(fit: Fit) -> tuple[Optimizer, ...]:
    """The optimiser of each part of a perceptron: all of it, or hidden layers and linear part.

    `l1_reg` is of linear parts.
    """
    network, own = fit.network, fit.optimizer
    if not isinstance(network, WideDeep):
        return (own,)
    rate = network.linear_learn_rate
    linear = own.replace(learn_rate=own.learn_rate if rate is None else rate)
    if network.linear_optimizer:
        linear = linear.replace(name=network.linear_optimizer, momentum=0.0)
    return own.replace(l1_reg=0.0), linear
