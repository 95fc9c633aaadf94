"""Columns as numbers, each group by statistics of its own training rows.

A value becomes what the encodings of `runtime.encode` would make of it if the group were alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gradbase.errors import DataError
from gradbase.ir.types import SqlType
from gradbase.runtime.columns import category_text, kernels, numbers
from gradbase.runtime.encode import check_lengths, one_level
from gradbase.runtime.groups.statistics import GroupMoments, moments_by_group
from gradbase.runtime.train.features import ONE_HOT_CODES, ONE_HOT_ONLY_CODES, VOCABULARY

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Arrays = Mapping[str, npt.NDArray[Any]]


class GroupColumn(Protocol):
    """How one column (or a part of a date) becomes numbers in every group.

    `width` is how many columns of the input matrix it fills in each group, `offset` where the first
    of them is, or which embedding it is where `embedded`.
    """

    name: str
    width: Ints
    offset: Ints
    embedded: Bools
    codes: Ints

    def encode(self, column: pa.Array, group: Ints, x: Any, codes: Ints) -> None:
        """Write the values of rows of `group` (none is -1) into the input matrix and the codes."""
        ...

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Everything but what `facts` say."""
        ...

    def facts(self) -> dict[str, Any]:
        """JSON values."""
        ...


def values_of(column: pa.Array, name: str, part: str, size: int, first: int = 0) -> Floats:
    """float64[rows, size], NaN where missing; `size` 0 for numbers, else vectors of that length."""
    if not size:
        return _with_nan(column, numbers(column, part, name, first))[:, None]
    if pa.types.is_null(column.type):
        return np.full((len(column), size), np.nan)
    column = one_level(column, name, first)
    check_lengths(column, size, name, first)
    found = np.full((len(column), size), np.nan)
    flat = column.flatten()
    present = column.is_valid().to_numpy(zero_copy_only=False)
    found[present] = _with_nan(flat, numbers(flat, "value", name, first)).reshape(-1, size)
    return found


def _with_nan(column: pa.Array, values: npt.NDArray[Any]) -> Floats:
    found = values.astype(np.float64)
    if column.null_count:
        found[column.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return found


class NumberColumn:
    """Standardised numbers or vectors, and a column that says 'was missing' where it ever was."""

    def __init__(self, name: str, part: str, size: int, arrays: Arrays) -> None:
        self.name, self.part, self.size = name, part, size
        self.mean, self.scale = arrays["mean"], arrays["scale"]
        self.used, self.indicator = arrays["used"], arrays["indicator"]
        self.offset = arrays["offset"]
        self.width = np.where(self.used, self.mean.shape[1] + self.indicator, 0)
        self.embedded = np.zeros(len(self.width), np.bool_)
        self.codes = np.zeros(len(self.width), np.int64)

    @classmethod
    def learnt(cls, name: str, part: str, size: int, values: Floats, starts: Ints) -> NumberColumn:
        """From the training rows, those of a group together."""
        found = moments_by_group(values, starts)
        used: Bools = found.count.max(axis=1) > 0
        plain = part in ("value", "epoch_s")
        if not plain:
            used &= found.deviation[:, 0] > 0
        indicator = np.zeros(len(starts), np.bool_)
        if plain and not size:
            indicator = used & (found.missing[:, 0] > 0)
        arrays: dict[str, npt.NDArray[Any]] = {
            "mean": found.mean, "scale": _scale(found), "used": used, "indicator": indicator,
            "offset": np.zeros(len(starts), np.int64),
        }  # fmt: skip
        return cls(name, part, size, arrays)

    def encode(self, column: pa.Array, group: Ints, x: Any, codes: Ints) -> None:
        """See `GroupColumn`."""
        del codes
        values = values_of(column, self.name, self.part, self.size)
        missing = np.isnan(values)
        with np.errstate(over="ignore", invalid="ignore"):
            standard = (values - self.mean[group]) * self.scale[group]
            standard[missing] = 0.0
            narrow = standard.astype(np.float32)
        used = self.used[group]
        self._check(narrow, values, used)
        rows, at = np.flatnonzero(used), self.offset[group]
        wide = np.arange(narrow.shape[1])
        x[rows[:, None], at[rows, None] + wide] = narrow[rows]
        rows = np.flatnonzero(self.indicator[group])
        x[rows, at[rows] + 1] = missing[rows, 0]

    def _check(self, narrow: Any, values: Floats, used: Bools) -> None:
        wrong = ~np.isfinite(narrow).all(1) & used
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            value = values[row][~np.isfinite(narrow[row])][0]
            what = "infinite" if np.isinf(value) else "too large for float32 once standardised"
            raise DataError(
                f"column `{self.name}` holds {value:g}, which is {what}",
                at=f"column {self.name}",
                hint=f"leave such rows out (WHERE isfinite({self.name})) or make the value NULL",
            )

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """See `GroupColumn`."""
        names = ("mean", "scale", "used", "indicator", "offset")
        return {n: getattr(self, n) for n in names}

    def facts(self) -> dict[str, Any]:
        """See `GroupColumn`."""
        return {"name": self.name, "part": self.part, "size": self.size}


def _scale(found: GroupMoments) -> Floats:
    with np.errstate(divide="ignore", over="ignore"):
        inverse = 1.0 / found.deviation
    return np.where((found.deviation > 0) & np.isfinite(inverse), inverse, 1.0)


class TextColumn:
    """Categories: one column of the matrix for each value of the group, or an embedding.

    `pairs` are group * texts + text of all known values, ascending, `code` their codes.
    """

    def __init__(self, name: str, texts: list[str], arrays: Arrays) -> None:
        self.name, self.texts = name, texts
        self.pairs, self.code = arrays["pairs"], arrays["code"]
        self.missing_code, self.embedded = arrays["missing_code"], arrays["embedded"]
        self.offset, self.codes = arrays["offset"], arrays["codes"]
        self.width = np.where(self.embedded | (self.codes == 0), 0, self.codes - 1)
        self._places = {t: i for i, t in enumerate(texts)}

    @classmethod
    def learnt(
        cls, name: str, column: pa.Array, group: Ints, trains: Bools, embeds: Bools
    ) -> TextColumn:
        """From the rows that train; `embeds` says in which groups embeddings may be learnt."""
        groups = len(embeds)
        distinct = category_text(column).dictionary_encode()
        values = distinct.dictionary.to_pylist()
        order = sorted(range(len(values)), key=lambda i: values[i].encode())
        rank = np.full(len(values) + 1, -1)
        rank[order] = np.arange(len(values))
        indices = kernels.fill_null(distinct.indices.cast(pa.int64()), len(values))
        text = rank[indices.to_numpy(zero_copy_only=False)]
        known = trains & (text >= 0)
        seen, count = np.unique(group[known] * len(values) + text[known], return_counts=True)
        limit = np.where(embeds, VOCABULARY, ONE_HOT_ONLY_CODES - 2)
        seen = _most_frequent(seen, count, seen // max(len(values), 1), limit)
        of = seen // max(len(values), 1)
        first = np.searchsorted(of, np.arange(groups))
        size = np.bincount(of, minlength=groups)
        missing = np.bincount(group[trains & (text < 0)], minlength=groups) > 0
        missing_code = np.where(missing & (size > 0), size + 1, 0)
        codes = np.where(size > 0, size + 1 + (missing_code > 0), 0)
        arrays = {
            "pairs": seen, "code": np.arange(len(seen)) - first[of] + 1,
            "missing_code": missing_code, "codes": codes,
            "embedded": embeds & (codes > ONE_HOT_CODES), "offset": np.zeros(groups, np.int64),
        }  # fmt: skip
        return cls(name, [values[i] for i in order], arrays)

    def encode(self, column: pa.Array, group: Ints, x: Any, codes: Ints) -> None:
        """See `GroupColumn`."""
        found = self._found(column, group)
        at, embedded = self.offset[group], self.embedded[group]
        rows = np.flatnonzero((found > 0) & ~embedded)
        x[rows, at[rows] + found[rows] - 1] = 1.0
        rows = np.flatnonzero(embedded)
        codes[rows, at[rows]] = found[rows]

    def _found(self, column: pa.Array, group: Ints) -> Ints:
        """The code of each row in its group."""
        distinct = category_text(column).dictionary_encode()
        places = [self._places.get(t, -1) for t in distinct.dictionary.to_pylist()]
        indices = kernels.fill_null(distinct.indices.cast(pa.int64()), len(places))
        text = np.array([*places, -2])[indices.to_numpy(zero_copy_only=False)]
        wanted = group * len(self.texts) + text
        if len(self.pairs):
            at = np.minimum(np.searchsorted(self.pairs, wanted), len(self.pairs) - 1)
            found = np.where((self.pairs[at] == wanted) & (text >= 0), self.code[at], 0)
        else:
            found = np.zeros(len(group), np.int64)
        return np.where(text == -2, self.missing_code[group], found)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """See `GroupColumn`."""
        names = ("pairs", "code", "missing_code", "embedded", "offset", "codes")
        return {n: getattr(self, n) for n in names}

    def facts(self) -> dict[str, Any]:
        """See `GroupColumn`."""
        return {"name": self.name, "texts": self.texts}


def _most_frequent(seen: Ints, count: Ints, of: Ints, limit: Ints) -> Ints:
    """The `limit` most frequent values of each group, ties to the first."""
    if not (np.bincount(of, minlength=len(limit)) > limit).any():
        return seen
    order = np.lexsort((seen, -count, of))
    first = np.searchsorted(of[order], np.arange(len(limit)))
    rank = np.arange(len(order)) - first[of[order]]
    return np.sort(seen[order][rank < limit[of[order]]])


def column_of(facts: Mapping[str, Any], arrays: Arrays) -> NumberColumn | TextColumn:
    """Inverse of `facts` and `arrays`."""
    if "texts" in facts:
        return TextColumn(facts["name"], facts["texts"], arrays)
    return NumberColumn(facts["name"], facts["part"], facts["size"], arrays)


def is_groupable(of: SqlType) -> bool:
    """Whether a column of this type can be a feature of one model per group."""
    plain = of.is_numeric or of.kind in ("bool", "null") or of.is_text or of.is_temporal
    return plain or of.is_vector or of.is_nested
