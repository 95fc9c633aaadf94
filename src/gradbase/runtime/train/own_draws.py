"""Random numbers of a user's module, from a stream of its own.

torch's generator is one for the process. A module that may draw from it in any way has it for
itself while it is called, so modules in other threads wait. One that consists of `_PLAIN` layers
draws in its dropouts only: these get numbers of a generator of their own, and nobody waits.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

generator_lock = threading.Lock()
"""Held around everything that draws from torch's own generator, or saves and restores it."""
_PLAIN = frozenset((
    nn.Sequential, nn.Identity, nn.Flatten, nn.Unflatten, nn.Linear, nn.Bilinear, nn.Embedding,
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.BatchNorm1d,
    nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm2d, nn.RMSNorm,
    nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.GELU,
    nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Hardswish, nn.Hardtanh, nn.Softmax,
    nn.LogSoftmax, nn.Upsample, nn.ZeroPad2d, nn.Dropout,
))  # fmt: skip


class _Drops(TorchFunctionMode):
    """Dropout as torch computes it, with the draws of another generator."""

    def __init__(self, draws: torch.Generator) -> None:
        super().__init__()
        self.draws = draws

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is not nn.functional.dropout:
            return func(*args, **(kwargs or {}))
        return self._dropped(*args, **(kwargs or {}))

    def _dropped(
        self, x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> torch.Tensor:
        if not training or p in {0, 1} or not x.numel():
            return nn.functional.dropout(x, p, training, inplace)
        return x * torch.empty_like(x).bernoulli_(1 - p, generator=self.draws).div_(1 - p)


class OwnDraws:
    """What a module draws from; `start` it anew for every unit."""

    def __init__(self, module: nn.Module) -> None:
        self._waits = not all(
            type(m) in _PLAIN
            and not (m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m))  # noqa: SLF001
            for m in module.modules()
        )
        self._draws = torch.Generator()

    def start(self, seed: int) -> None:
        """The next draws are those of `seed`."""
        self._draws.manual_seed(seed)

    @contextlib.contextmanager
    def used(self) -> Generator[None]:
        """Around calls of the module."""
        if not self._waits:
            with _Drops(self._draws):
                yield
            return
        with generator_lock:
            others = torch.get_rng_state()
            torch.set_rng_state(self._draws.get_state())
            try:
                yield
            finally:
                self._draws.set_state(torch.get_rng_state())
                torch.set_rng_state(others)
