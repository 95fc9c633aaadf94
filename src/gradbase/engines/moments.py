"""Statistics that enter a training: equal bit for bit whatever the order of rows and threads.

An engine's own sums of floats differ from run to run. Here every value is scaled by a power of two
taken from the column's largest magnitude, truncated to an integer and added as HUGEINT or NUMERIC,
so the sum is exact and order-free; the same again for the squared distances from the mean. All
engines give the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from gradbase.engines.base import Moments, quote_identifier
from gradbase.errors import UnsupportedError
from gradbase.ir.types import Schema, SqlType

Ask = Callable[[str], list[tuple[Any, ...]]]
"""Runs a query over one snapshot and gives its rows."""

BITS = 62
"""Integers of at most this many bits are added: BIGINT holds them, HUGEINT 2^64 of them."""

_LEAST = -1000
"""Where a product may count as 0 beside numbers of about 1, as an exponent."""

_FAR = 500
"""Exponents beyond which a column is scaled before anything else, so that no square overflows."""


class Spelling:
    """How an engine writes what the sums need; this is DuckDB's way."""

    double = "DOUBLE"
    infinite_times = True
    """Whether a date or a time may be infinite."""

    def is_nan(self, value: str) -> str:
        """Whether a double is NaN."""
        return f"isnan({value})"

    def is_infinite(self, value: str) -> str:
        """Whether a double, a date or a time is infinite."""
        return f"isinf({value})"

    def is_finite(self, value: str) -> str:
        """Whether it is neither."""
        return f"isfinite({value})"

    def whole(self, value: str) -> str:
        """A double without its fraction, of a type whose sums are exact."""
        return f"CAST(trunc({value}) AS BIGINT)"

    def epoch(self, value: str, of: SqlType) -> str:  # noqa: ARG002
        """Seconds since 1970 as a double, of a date or time."""
        return f"epoch({value})"

    def element(self, column: str, number: int) -> str:
        """An element of a vector, from 1."""
        return f"{column}[{number}]"

    def bytes_of(self, value: str) -> str:
        """The UTF-8 bytes of a value as text."""
        return f"encode(CAST({value} AS VARCHAR))"

    def times(self, value: str, factor: str, least: float) -> str:  # noqa: ARG002
        """A product of doubles; that of a value below `least` in magnitude may be 0."""
        return f"{value} * {factor}"


DUCKDB = Spelling()


@dataclass(frozen=True)
class _Item:
    """A column, or an element of a vector column.

    `raw` is its SQL as stored, `value` as double. Both NaN and infinity are possible where
    `floating`, infinity alone where `temporal`.
    """

    key: str
    raw: str
    value: str
    spelling: Spelling
    floating: bool = False
    temporal: bool = False

    @property
    def finite(self) -> str:
        """The value, NULL where it is NaN or infinite."""
        if not (self.floating or self.temporal):
            return self.value
        return f"CASE WHEN {self.spelling.is_finite(self.raw)} THEN {self.value} END"


@dataclass(frozen=True)
class _Extent:
    count: int
    nulls: int
    nan: int
    inf: int
    minimum: float
    maximum: float

    @property
    def largest(self) -> float:
        return max(abs(self.minimum), abs(self.maximum))


def exact_moments(
    ask: Ask,
    sql: str,
    schema: Schema,
    columns: Sequence[str],
    spelling: Spelling = DUCKDB,
) -> dict[str, Moments]:
    """Moments of numeric, boolean and temporal columns (epoch seconds) of the query `sql`.

    A vector column ``v`` of n elements gives the keys ``v[1]`` … ``v[n]``. Three passes over `sql`,
    whatever the number of columns.

    Raises
    ------
    UnsupportedError
        A column of another type.
    """
    items = [item for name in columns for item in _items(name, schema.type_of(name), spelling)]
    extents = _extents(ask, sql, items)
    scales = {i.key: _scale(extents[i.key].largest) for i in items if extents[i.key].largest > 0}
    means = _means(ask, sql, items, extents, scales)
    variances = _variances(ask, sql, items, extents, means)
    return {
        i.key: Moments(
            **vars(extents[i.key]),
            mean=means[i.key],
            variance=variances.get(i.key, 0.0),
            largest=extents[i.key].largest,
        )
        for i in items
    }


def _items(name: str, kind: SqlType, spelling: Spelling) -> list[_Item]:
    column = quote_identifier(name)
    if kind.is_vector and kind.element is not None:
        parts = ((f"{name}[{i}]", spelling.element(column, i)) for i in range(1, kind.size[0] + 1))
        return [_item(key, text, kind.element, spelling) for key, text in parts]
    return [_item(name, column, kind, spelling)]


def _item(key: str, column: str, kind: SqlType, spelling: Spelling) -> _Item:
    if kind.is_temporal:
        return _Item(
            key, column, spelling.epoch(column, kind), spelling, temporal=spelling.infinite_times
        )
    if not (kind.is_numeric or kind.kind in ("bool", "null")):
        raise UnsupportedError(f"column `{key}` is {kind}: it has no mean", hint="CAST it")
    if kind.kind == "bool":  # not every engine casts it
        column = f"CASE WHEN {column} THEN 1 WHEN NOT {column} THEN 0 END"
    value = f"CAST({column} AS {spelling.double})"
    return _Item(key, value, value, spelling, floating=kind.is_float)


def _extents(ask: Ask, sql: str, items: Sequence[_Item]) -> dict[str, _Extent]:
    parts: list[str] = ["count(*)"]
    for i in items:
        nan = _number_of(i.spelling.is_nan(i.raw)) if i.floating else "0"
        inf = _number_of(i.spelling.is_infinite(i.raw)) if i.floating or i.temporal else "0"
        parts += [f"count({i.raw})", nan, inf, f"min({i.finite})", f"max({i.finite})"]
    (row,) = _select(ask, sql, parts)
    found: dict[str, _Extent] = {}
    for k, i in enumerate(items):
        known, nan, inf, low, high = (v or 0 for v in row[1 + 5 * k : 6 + 5 * k])
        finite = known - nan - inf
        found[i.key] = _Extent(finite, row[0] - known, nan, inf, low + 0.0, high + 0.0)
    return found


def _number_of(condition: str) -> str:
    return f"count(*) FILTER (WHERE {condition})"


def _scale(largest: float) -> int:
    """The k for which ``largest * 2**k`` just fits `BITS` bits."""
    return BITS - math.frexp(largest)[1]


def _means(
    ask: Ask,
    sql: str,
    items: Sequence[_Item],
    extents: dict[str, _Extent],
    scales: dict[str, int],
) -> dict[str, float]:
    scaled = [i for i in items if i.key in scales]
    values = ((i, _times(i, _clean(i, extents), scales[i.key], 0)) for i in scaled)
    sums = _sums(ask, sql, (i.spelling.whole(v) for i, v in values))
    means = dict.fromkeys((i.key for i in items), 0.0)
    for i, total in zip(scaled, sums, strict=True):
        exact = Fraction(total, extents[i.key].count) / Fraction(2) ** scales[i.key]
        means[i.key] = float(exact)
    return means


def _variances(
    ask: Ask,
    sql: str,
    items: Sequence[_Item],
    extents: dict[str, _Extent],
    means: dict[str, float],
) -> dict[str, float]:
    spread: list[_Item] = []
    powers: list[int] = []
    squares: list[str] = []
    for i in items:
        extent = extents[i.key]
        first = _first_scale(extent.largest)
        centre = math.ldexp(means[i.key], first)
        ends = (math.ldexp(extent.minimum, first), math.ldexp(extent.maximum, first))
        distance = max(abs(e - centre) for e in ends)
        if distance == 0:
            continue
        second = BITS // 2 - math.frexp(distance)[1]
        double = i.spelling.double
        moved = _times(i, _clean(i, extents), first, _LEAST)
        scaled = _times(i, f"({moved} - {_double(centre, double)})", second, _LEAST)
        spread.append(i)
        squares.append(i.spelling.whole(i.spelling.times(scaled, scaled, 1.0)))
        powers.append(2 * (first + second))
    sums = _sums(ask, sql, squares)
    return {
        i.key: _as_float(Fraction(total, extents[i.key].count) / Fraction(2) ** power)
        for i, total, power in zip(spread, sums, powers, strict=True)
    }


def _first_scale(largest: float) -> int:
    exponent = math.frexp(largest)[1]
    return -exponent - 1 if abs(exponent) > _FAR else 0


def _as_float(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _clean(item: _Item, extents: dict[str, _Extent]) -> str:
    """The finite values, without a test for NaN and infinity where there are none."""
    extent = extents[item.key]
    return item.finite if extent.nan or extent.inf else item.value


def _sums(ask: Ask, sql: str, values: Iterable[str]) -> list[int]:
    parts = [f"sum({v})" for v in values]
    if not parts:
        return []
    (row,) = _select(ask, sql, parts)
    return [int(total) for total in row]


def _select(ask: Ask, sql: str, parts: Sequence[str]) -> list[tuple[Any, ...]]:
    return ask(f"SELECT {', '.join(parts)} FROM ({sql}\n) AS __gb_rows")


def _times(item: _Item, value: str, power: int, least: int) -> str:
    """``value * 2**power``, in two steps where one factor would leave the doubles.

    A product below ``2**least`` in magnitude may be 0.
    """
    half = power // 2 if abs(power) > 1000 else 0
    for done, step in ((0, half), (half, power - half)):
        if step:
            below = math.ldexp(1.0, min(least - power + done, 1023))
            factor = _double(math.ldexp(1.0, step), item.spelling.double)
            value = f"({item.spelling.times(value, factor, below)})"
    return value


def _double(value: float, name: str) -> str:
    return f"CAST('{value!r}' AS {name})"


# -- categories --------------------------------------------------------------------------------


def vocabulary(
    ask: Ask, sql: str, columns: Sequence[str], limit: int, spelling: Spelling = DUCKDB
) -> dict[str, list[tuple[str, int]]]:
    """The `limit` most frequent values of each column as text, with counts; NULL is left out.

    Grouped and ordered as bytes, so that no collation of the database plays a part.
    """
    found: dict[str, list[tuple[str, int]]] = {}
    for name in columns:
        value = spelling.bytes_of(quote_identifier(name))
        counted = f"SELECT {value} AS v, count(*) AS n FROM ({sql}\n) AS __gb_rows GROUP BY 1"
        rows = ask(
            f"SELECT v, n FROM ({counted}) AS __gb_counted WHERE v IS NOT NULL "
            f"ORDER BY n DESC, v LIMIT {limit:d}"
        )
        found[name] = [(bytes(v).decode(), n) for v, n in rows]
    return found


def distinct_counts(
    ask: Ask, sql: str, schema: Schema, columns: Sequence[str], spelling: Spelling = DUCKDB
) -> dict[str, int]:
    """Distinct values of each column, NULL not counted; texts are told apart by their bytes."""
    parts: list[str] = []
    for name in columns:
        value = quote_identifier(name)
        if schema.type_of(name).is_text:
            value = spelling.bytes_of(value)
        parts.append(f"count(DISTINCT {value})")
    (row,) = _select(ask, sql, parts) if parts else ((),)
    return dict(zip(columns, row, strict=True))
