"""Which part of the user's program an operator is called from."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as global_hooks
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

__all__ = ["Layers"]


class Layers:
    """Follows modules and optimisers while `following` is entered.

    A backward operator belongs to the layer whose forward operator made its autograd node: both
    carry the same sequence number.
    """

    def __init__(self) -> None:
        self._entered: list[tuple[nn.Module | None, str]] = []
        self._by_node: dict[int, str] = {}
        self._names: dict[int, dict[int, str]] = {}  # parent -> child -> name below the parent
        self._kept: list[nn.Module] = []  # ids above stay theirs

    @contextlib.contextmanager
    def following(self) -> Generator[None]:
        """Install the hooks; they are gone on exit."""
        handles = [
            global_hooks.register_module_forward_pre_hook(self._enter),
            global_hooks.register_module_forward_hook(self._leave, always_call=True),
            register_optimizer_step_pre_hook(self._enter_optimizer),
            register_optimizer_step_post_hook(self._leave_optimizer),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def current(self) -> str:
        """Layer of the operator being called now; "" where it is called from outside any."""
        node: Any = torch._C._current_autograd_node()
        if node is not None:
            return self._by_node.get(node._sequence_nr(), "")
        layer = self._entered[-1][1] if self._entered else ""
        if layer and torch.is_grad_enabled():
            self._by_node[torch.autograd._get_sequence_nr() - 1] = layer
        return layer

    def _enter(self, module: nn.Module, _args: Any) -> None:
        parent, path = self._entered[-1] if self._entered else (None, "")
        own = type(module).__name__
        name = own if parent is None else f"{path}.{self._name(parent, module)}"
        self._entered.append((module, name))

    def _leave(self, _module: nn.Module, _args: Any, _result: Any) -> None:
        if self._entered:
            self._entered.pop()

    def _name(self, parent: nn.Module, child: nn.Module) -> str:
        if id(parent) not in self._names:
            self._kept.append(parent)
            self._names[id(parent)] = {id(m): n for n, m in parent.named_modules()}
        return self._names[id(parent)].get(id(child)) or type(child).__name__

    def _enter_optimizer(self, optimizer: Any, _args: Any, _kwargs: Any) -> None:
        self._entered.append((None, f"{type(optimizer).__name__}.step"))

    def _leave_optimizer(self, _optimizer: Any, _args: Any, _kwargs: Any) -> None:
        if self._entered:
            self._entered.pop()
