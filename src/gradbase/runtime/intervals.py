"""Between which numbers the values of a network lie, by what is known of its columns.

Interval arithmetic: sound, not tight. Sums are of float64; a network of float32 may miss them by
its rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from gradbase.ir.conversion import Category, Numeric, ToTensor
from gradbase.ir.facts import Range
from gradbase.ir.node import walk
from gradbase.ir.tensor import Concat, Embedding, Linear, OneHot, Tensor, Unary

Array = npt.NDArray[np.float64]
Interval = tuple[Array, Array]
"""The lowest and the highest value by place, [width] each."""

_MONOTONE: Mapping[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0.0),
    "relu6": lambda x: np.clip(x, 0.0, 6.0),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1.0 / (1.0 + np.exp(-x)),
    "softplus": lambda x: np.logaddexp(x, 0.0),
}


class Intervals:
    """Intervals of the tensors [rows, width] of a network.

    Parameters
    ----------
    ranges : mapping of column to Range
        Columns that are not there may hold anything.
    constant : callable
        The value of a tensor that no row is below; None: not looked at.
    imported : bool
        Whether NaN and infinite values reach the network.
    """

    def __init__(
        self,
        ranges: Mapping[str, Range],
        constant: Callable[[Tensor], Array | None],
        *,
        imported: bool,
    ) -> None:
        self._ranges, self._constant, self._imported = ranges, constant, imported

    def of(self, roots: Iterable[Tensor]) -> dict[Tensor, Interval]:
        """By tensor, children first; those of which nothing is known are left out."""
        found: dict[Tensor, Interval] = {}
        with np.errstate(all="ignore"):
            for root in roots:
                for t in walk(root):
                    if isinstance(t, Tensor) and t not in found and t.inputs:
                        made = self._one(t, found)
                        if made is not None:
                            found[t] = made
        return found

    def _one(self, t: Tensor, found: Mapping[Tensor, Interval]) -> Interval | None:
        match t:
            case ToTensor(column=column, encoding=Numeric(part="value") as encoding):
                return self._numeric(encoding, self._ranges.get(column, Range()))
            case OneHot(count=count):
                return np.zeros(count - 1), np.ones(count - 1)
            case Embedding(weight=weight):
                table = self._constant(weight)
                return None if table is None else (table.min(axis=0), table.max(axis=0))
            case Concat(parts=parts):
                known = [found[p] for p in parts if p in found]
                if len(known) < len(parts):
                    return None
                lows, highs = zip(*known, strict=True)
                return np.concatenate(lows), np.concatenate(highs)
            case Linear():
                return self._linear(t, found)
            case Unary(op=op, x=x) if op in _MONOTONE and x in found:
                low, high = found[x]
                return _MONOTONE[op](low), _MONOTONE[op](high)
            case _:
                return None

    def _numeric(self, of: Numeric, known: Range) -> Interval | None:
        if of.scale == 0.0:
            known = Range(of.mean, of.mean, known.missing)
        ends = sorted((end - of.mean) * of.scale for end in (known.low, known.high))
        if self._imported and (known.missing or not np.isfinite(ends).all()):
            return None
        low, high = ends
        if known.missing:
            low, high = min(low, 0.0), max(high, 0.0)
        flag = [float(known.missing)] if of.indicator else []
        return np.array([low, *(0.0 for _ in flag)]), np.array([high, *flag])

    def _linear(self, layer: Linear, found: Mapping[Tensor, Interval]) -> Interval | None:
        """A column that is one of several is added as a whole: only one of its places is 1."""
        weight = self._constant(layer.weight)
        bias = self._constant(layer.bias) if layer.bias is not None else np.zeros(1)
        parts: Sequence[Tensor] = layer.x.parts if isinstance(layer.x, Concat) else (layer.x,)
        if weight is None or bias is None or len(layer.shape) != 2 or len(bias.shape) != 1:
            return None
        low = high = bias + np.zeros(len(weight))
        at = 0
        for part in parts:
            if part not in found:
                return None
            own = weight[:, at : at + part.shape[-1]]
            at += part.shape[-1]
            least, most = self._product(part, own, found[part])
            low, high = low + least, high + most
        return low, high

    def _product(self, part: Tensor, weight: Array, known: Interval) -> Interval:
        match part:
            case OneHot(codes=ToTensor(encoding=Category())):
                return weight.min(axis=1, initial=0.0), weight.max(axis=1, initial=0.0)
            case Embedding(weight=table):
                content = self._constant(table)
                assert content is not None  # it has an interval
                products = weight @ content.T
                return products.min(axis=1), products.max(axis=1)
            case _:
                # A weight of 0 lets nothing through: infinite ends only bound finite values.
                ends = [np.where(weight == 0.0, 0.0, weight * end) for end in known]
                least, most = np.minimum(*ends), np.maximum(*ends)
                return least.sum(axis=1), most.sum(axis=1)
