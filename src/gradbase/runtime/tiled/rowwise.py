"""Operators that need to know something of a whole row: two passes over its parts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch

from gradbase.runtime.tiled.values import Lazy, Value, Workers, pairs


class _Rowwise(Lazy):
    def __init__(self, x: Value) -> None:
        super().__init__(x.shape, x.dtype)
        self.x = x

    def cuts(self, width: int) -> Sequence[int]:
        return self.x.cuts(width)

    def gather(self, width: int, workers: Workers, start: torch.Tensor) -> list[torch.Tensor]:
        """`state` of every thread after all its parts, each begun as `start`."""
        parts = pairs(self.x.cuts(width))
        states = [start.clone() for _ in range(min(workers.threads, len(parts)))]

        def add(i: int, thread: int) -> None:
            states[thread] = self.joined(states[thread], self.state(self.x.part(*parts[i])))

        workers.each(len(parts), add)
        return states

    def merged(self, states: list[torch.Tensor]) -> torch.Tensor:
        """The states of all threads as one."""
        total = states[0]
        for state in states[1:]:
            total = self.joined(total, state)
        return total

    @abstractmethod
    def state(self, part: torch.Tensor) -> torch.Tensor:
        """What a part says of its rows."""

    @abstractmethod
    def joined(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """What two parts together say."""


class Softmax(_Rowwise):
    """``softmax`` or, with `log`, ``log_softmax``: running maximum and running sum.

    Source: Milakov and Gimelshein, Online normalizer calculation for softmax, 2018.
    """

    def __init__(self, x: Value, width: int, workers: Workers, *, log: bool) -> None:
        super().__init__(x)
        self._log = log
        lead = x.shape[:-1]
        start = torch.stack([torch.full(lead, -torch.inf), torch.zeros(lead)]).to(x.dtype)
        self._most, self._sum = self.merged(self.gather(width, workers, start))[..., None]

    def state(self, part: torch.Tensor) -> torch.Tensor:
        most = part.amax(dim=-1)
        return torch.stack([most, (part - _finite(most)[..., None]).exp_().sum(dim=-1)])

    def joined(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        most = torch.maximum(a[0], b[0])
        by = _finite(most)
        return torch.stack([most, a[1] * (a[0] - by).exp() + b[1] * (b[0] - by).exp()])

    def part(self, start: int, stop: int) -> torch.Tensor:
        shifted = self.x.part(start, stop) - self._most
        return shifted - self._sum.log() if self._log else shifted.exp_().div_(self._sum)


def _finite(most: torch.Tensor) -> torch.Tensor:
    """A row of nothing but -inf so far adds nothing, whatever comes."""
    return most.masked_fill(most == -torch.inf, 0.0)


class LayerNorm(_Rowwise):
    """``(x - mean) / sqrt(variance + eps) * weight + bias``; mean and variance join as by Chan.

    Source: Chan, Golub, LeVeque, Updating formulae for sample variances, 1979.
    """

    def __init__(
        self, x: Value, width: int, workers: Workers, affine: Sequence[torch.Tensor | None],
        eps: float,
    ) -> None:  # fmt: skip
        super().__init__(x)
        self._weight, self._bias = affine
        start = torch.zeros((3, *x.shape[:-1]), dtype=torch.float64)
        count, mean, squares = self.merged(self.gather(width, workers, start))[..., None]
        self._mean = mean.to(x.dtype)
        self._scale = (squares / count + eps).rsqrt().to(x.dtype)

    def state(self, part: torch.Tensor) -> torch.Tensor:
        variance, mean = torch.var_mean(part, dim=-1, correction=0)
        count = torch.full_like(mean, part.shape[-1], dtype=torch.float64)
        return torch.stack([count, mean.double(), variance.double() * part.shape[-1]])

    def joined(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        count = a[0] + b[0]
        off = b[1] - a[1]
        share = b[0] / count
        return torch.stack([count, a[1] + off * share, a[2] + b[2] + off * off * a[0] * share])

    def part(self, start: int, stop: int) -> torch.Tensor:
        made = (self.x.part(start, stop) - self._mean).mul_(self._scale)
        if self._weight is not None:
            made *= self._weight[start:stop]
        if self._bias is not None:
            made += self._bias[start:stop]
        return made


class RmsNorm(_Rowwise):
    """``x / sqrt(mean of x² + eps) * weight``."""

    def __init__(
        self, x: Value, width: int, workers: Workers, weight: torch.Tensor | None, eps: float
    ) -> None:
        super().__init__(x)
        self._weight = weight
        start = torch.zeros(x.shape[:-1], dtype=torch.float64)
        total = self.merged(self.gather(width, workers, start))[..., None]
        self._scale = (total / x.shape[-1] + eps).rsqrt().to(x.dtype)

    def state(self, part: torch.Tensor) -> torch.Tensor:
        return part.square().sum(dim=-1).double()

    def joined(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a + b

    def part(self, start: int, stop: int) -> torch.Tensor:
        made = self.x.part(start, stop) * self._scale
        return made if self._weight is None else made.mul_(self._weight[start:stop])
