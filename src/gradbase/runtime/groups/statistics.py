"""Statistics of every group at once, equal to the last bit to those of a group by itself.

As in `runtime.train.statistics`, sums are of integers; rows of a group lie together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_BITS, _HALF = 52, 26


@dataclass(frozen=True)
class GroupMoments:
    """Of the present values of each group, [groups, width]; missing ones are counted."""

    count: Ints
    missing: Ints
    mean: Floats
    deviation: Floats


def moments_by_group(values: Floats, starts: Ints) -> GroupMoments:
    """Mean and standard deviation (of the population) of each group's rows.

    Parameters
    ----------
    values : float64[rows, width], NaN where missing
    starts : int64[groups]
        Where each group begins; none is empty.
    """
    missing = np.isnan(values)
    sizes = np.diff(np.append(starts, len(values)))[:, None]
    absent = np.add.reduceat(missing, starts, dtype=np.int64)
    count = sizes - absent
    low = np.minimum.reduceat(np.where(missing, np.inf, values), starts)
    high = np.maximum.reduceat(np.where(missing, -np.inf, values), starts)
    sizes_of = sizes[:, 0]
    exponents = _exponents(np.maximum(np.abs(low), np.abs(high)), count)
    totals = _totals(np.ldexp(values, np.repeat(_BITS - exponents, sizes_of, 0)), starts)
    means = _ratios(totals, count, exponents - _BITS)
    spread = np.maximum(np.abs(low - means), np.abs(high - means))
    exponents = _exponents(spread, count)
    scaled = values - np.repeat(means, sizes_of, 0)
    scaled = np.ldexp(scaled, np.repeat(-exponents, sizes_of, 0))
    squares = _ratios(_totals(np.ldexp(scaled * scaled, _BITS), starts), count, -_BITS)
    deviations = np.sqrt(squares) * np.ldexp(1.0, exponents)
    return GroupMoments(count, absent, means, np.where(count > 0, deviations, 0.0))


def _exponents(largest: Floats, count: Ints) -> Ints:
    """e with largest <= 2**e, 0 where there is nothing."""
    usable = (count > 0) & (largest > 0)
    return np.frexp(np.where(usable, largest, 1.0))[1].astype(np.int64)


def _totals(values: Floats, starts: Ints) -> list[int]:
    """Exact sums of the truncated values (below 2**52 each; NaN counts 0), group by group."""
    whole = np.where(np.isnan(values), 0.0, values).astype(np.int64)
    high = np.add.reduceat(whole >> _HALF, starts).ravel().tolist()
    low = np.add.reduceat(whole & ((1 << _HALF) - 1), starts).ravel().tolist()
    return [(h << _HALF) + s for h, s in zip(high, low, strict=True)]


def _ratios(totals: list[int], count: Ints, exponents: Ints | int) -> Floats:
    """total / count * 2**exponent, rounded once: Python divides integers so."""
    counts = np.maximum(count, 1).ravel().tolist()
    powers = np.broadcast_to(exponents, count.shape).ravel().tolist()
    found = [math.ldexp(t / c, e) for t, c, e in zip(totals, counts, powers, strict=True)]
    return np.array(found).reshape(count.shape)
