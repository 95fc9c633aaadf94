"""A trained module that cannot be traced: its state is stored, its code stays with the user."""

from __future__ import annotations

import logging

import torch

from gradbase.errors import GradbaseError, UnsupportedError
from gradbase.ir.learning import Fit, PythonNetwork
from gradbase.ir.tensor import DTYPES, Tensor, UserModule
from gradbase.runtime.train.features import constant
from gradbase.runtime.train.finish import Params

log = logging.getLogger("gradbase.runtime")
_PROBE_ROWS = 8


def by_reference(
    fit: Fit, module: torch.nn.Module, x: Tensor, params: Params, reason: GradbaseError
) -> Tensor:
    """`module` over `x` as a node that calls the user's function again; its state goes to `params`.

    Raises
    ------
    UnsupportedError
        The module gives another result every time, or has state that no blob can hold.
    """
    network = fit.network
    assert isinstance(network, PythonNetwork)
    first, second = (_call(module, x.shape[-1]) for _ in range(2))
    if not torch.equal(first, second):
        raise reason
    names: list[str] = []
    state: list[Tensor] = []
    for name, value in module.state_dict().items():
        kind = str(value.dtype).removeprefix("torch.")
        if kind not in DTYPES:
            raise UnsupportedError(
                f"the module's `{name}` has type {kind}; stored can be {', '.join(DTYPES)}",
                hint=reason.message,
            )
        names.append(name)
        state.append(constant(value.detach().cpu().numpy(), params))
    log.warning(
        "trial %d is stored by reference to the function `%s`, which predicting will call: %s",
        fit.trial, network.reference, reason.message,
    )  # fmt: skip
    return UserModule(
        network.reference, network.configuration, network.code_hash, x, first.shape[1],
        tuple(names), tuple(state),
    )  # fmt: skip


def _call(module: torch.nn.Module, width: int) -> torch.Tensor:
    """What the module makes of a few rows in eval mode; its mode is left as it was."""
    modes = [(m, m.training) for m in module.modules()]
    rows = torch.linspace(-1, 1, _PROBE_ROWS * width).reshape(_PROBE_ROWS, width)
    try:
        module.eval()
        with torch.no_grad():
            return module(rows)
    finally:
        for part, mode in modes:
            part.training = mode
