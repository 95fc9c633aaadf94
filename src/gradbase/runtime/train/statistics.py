"""Statistics of columns that do not depend on the order of rows, to the last bit.

Sums are of integers: values are scaled by a power of two taken from the largest magnitude,
truncated, and added exactly.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gradbase.runtime.columns import array_lengths, category_text, kernels

Floats = npt.NDArray[np.float64]
Values = Callable[[], Iterator[Floats]]
"""A column's training values, again and again: float64[rows, width] with NaN where missing."""
_BITS = 52
_HALF = 26


@dataclass(frozen=True)
class Moments:
    """Of the present values of one position: count and missing rows; mean; standard deviation.

    `low` and `high` are the least and greatest value (inf and -inf where there is none).
    """

    count: int
    missing: int
    mean: float
    deviation: float
    low: float
    high: float


def moments(values: Values, *, sample: bool = False) -> list[Moments]:
    """One `Moments` for each position (column of the arrays); [] where there are no arrays.

    The deviation is that of the population, or of a `sample`: squares over count - 1.
    """
    low: Floats | None = None
    high: Floats | None = None
    counts: Any = 0
    rows = 0
    for chunk in values():
        present = ~np.isnan(chunk)
        counts = counts + present.sum(0)
        rows += len(chunk)
        least = np.min(chunk, 0, where=present, initial=np.inf)
        most = np.max(chunk, 0, where=present, initial=-np.inf)
        low = least if low is None else np.minimum(low, least)
        high = most if high is None else np.maximum(high, most)
    if low is None or high is None:
        return []
    means = _means(values, counts, np.maximum(np.abs(low), np.abs(high)))
    spread = np.maximum(np.abs(low - means), np.abs(high - means))
    deviations = _deviations(values, counts, means, spread, less=int(sample))
    each = zip(counts, means, deviations, low, high, strict=True)
    return [
        Moments(int(c), rows - int(c), float(m), float(d), float(least), float(most))
        for c, m, d, least, most in each
    ]


def _means(values: Values, counts: Any, largest: Floats) -> Floats:
    exponents = _exponents(largest, counts)
    totals = _total(np.ldexp(chunk, _BITS - exponents) for chunk in values())
    return np.array(
        [
            float(Fraction(t, max(int(c), 1)) * Fraction(2) ** int(e - _BITS))
            for t, c, e in zip(totals, counts, exponents, strict=True)
        ]
    )


def _deviations(values: Values, counts: Any, means: Floats, spread: Floats, *, less: int) -> Floats:
    """Standard deviation from squares of values centred and scaled to below 1, over n - `less`."""
    exponents = _exponents(spread, counts)

    def squares() -> Iterator[Floats]:
        for chunk in values():
            scaled = np.ldexp(chunk - means, -exponents)
            yield np.ldexp(scaled * scaled, _BITS)

    found = [
        math.sqrt(Fraction(t, max(int(c) - less, 1) << _BITS)) * 2.0 ** int(e)
        for t, c, e in zip(_total(squares()), counts, exponents, strict=True)
    ]
    return np.array(found)


def _exponents(largest: Floats, counts: Any) -> npt.NDArray[np.int64]:
    """e with largest <= 2**e, 0 where there is nothing."""
    usable = (np.asarray(counts) > 0) & (largest > 0)
    return np.frexp(np.where(usable, largest, 1.0))[1].astype(np.int64)


def _total(chunks: Iterable[Floats]) -> list[int]:
    """Exact sums over rows of the truncated values (below 2**52 each; NaN counts 0)."""
    totals: list[int] | None = None
    for chunk in chunks:
        whole = np.where(np.isnan(chunk), 0.0, chunk).astype(np.int64)
        high, low = (whole >> _HALF).sum(0), (whole & ((1 << _HALF) - 1)).sum(0)
        sums = [(int(h) << _HALF) + int(s) for h, s in zip(high, low, strict=True)]
        totals = sums if totals is None else [t + s for t, s in zip(totals, sums, strict=True)]
    return totals or []


def count_texts(columns: Iterable[pa.Array]) -> Counter[str | None]:
    """How often each value occurs, by its canonical text; None for missing."""
    found: Counter[str | None] = Counter()
    for column in columns:
        counted = category_text(column).value_counts()
        texts, counts = counted.field("values").to_pylist(), counted.field("counts").to_pylist()
        for text, count in zip(texts, counts, strict=True):
            found[text] += count
    return found


def count_texts_by_row(columns: Iterable[pa.Array]) -> Counter[str | None]:
    """In how many rows of arrays each text occurs; None for NULL elements."""
    found: Counter[str | None] = Counter()
    for column in columns:
        rows = np.repeat(np.arange(len(column)), array_lengths(column))
        distinct = category_text(column.flatten()).dictionary_encode()
        texts = [*distinct.dictionary.to_pylist(), None]
        codes = kernels.fill_null(distinct.indices, len(texts) - 1).to_numpy(zero_copy_only=False)
        once = np.unique(rows * len(texts) + codes) % len(texts)
        for text, count in zip(texts, np.bincount(once, minlength=len(texts)), strict=True):
            found[text] += int(count)
    return found


def vocabulary(counted: Counter[str | None], limit: int) -> tuple[str, ...]:
    """The `limit` most frequent values, sorted by their UTF-8 bytes (which also break ties)."""
    known = [(-n, t.encode()) for t, n in counted.items() if t is not None]
    kept = sorted(known)[:limit]
    return tuple(text.decode() for text in sorted(t for _, t in kept))
