"""A user's module stored by reference: the code is the function's, the state is ours."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from gradbase.errors import ShapeError
from gradbase.ir.tensor import Tensor, UserModule
from gradbase.runtime.context import Modules
from gradbase.runtime.operators import Operator, Values


def module_operator(
    node: UserModule, modules: Modules, weights: Mapping[Tensor, torch.Tensor]
) -> Operator:
    """The function of `node`, shared by threads; `weights` has the values of its state.

    Raises
    ------
    ShapeError
        The function makes a module with another state than the one that was trained.
    """
    module = modules(node)
    state = {n: weights[p] for n, p in zip(node.names, node.state, strict=True)}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ShapeError(
            f"the module of `{node.reference}` is not the one that was trained: {error}",
            at=f"configuration {node.configuration}",
            hint="put the function back as it was, or train again",
        ) from error
    module.eval()

    def run(values: Values, _rows: int) -> torch.Tensor:
        return module(values[0].contiguous())

    return run
