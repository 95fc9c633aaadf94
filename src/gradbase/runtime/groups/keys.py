"""Which group a row belongs to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gradbase.runtime.columns import category_text, kernels

Ints = npt.NDArray[np.int64]
Value = str | None


class GroupKeys:
    """The groups of a model, each a tuple of values as text (None: NULL, which is a group).

    Parameters
    ----------
    names : sequence of str
        The key columns.
    values : sequence of tuple of (str or None)
        In the order of the groups' numbers.
    """

    def __init__(self, names: Sequence[str], values: Sequence[tuple[Value, ...]]) -> None:
        self.names, self.values = tuple(names), list(values)
        columns = list(zip(*self.values, strict=True)) or [()] * len(self.names)
        self._known = [sorted({v for v in c if v is not None}) for c in columns]
        self._places = [{v: i for i, v in enumerate(k)} for k in self._known]
        codes = self._joined([self._codes_of(j, list(c)) for j, c in enumerate(columns)])
        self._order = np.argsort(codes, kind="stable")
        self._sorted = codes[self._order]

    def __len__(self) -> int:
        return len(self.values)

    def find(self, columns: Sequence[pa.Array]) -> Ints:
        """The group of each row, -1 where it is none of these."""
        codes = self._joined([self._codes(j, c) for j, c in enumerate(columns)])
        if not len(self._sorted):
            return np.full(len(codes), -1)
        at = np.minimum(np.searchsorted(self._sorted, codes), len(self._sorted) - 1)
        return np.where(self._sorted[at] == codes, self._order[at], -1)

    def _codes(self, place: int, column: pa.Array) -> Ints:
        """Each value's number among those of its column, from 1; NULL 0, unknown -1."""
        distinct = category_text(column).dictionary_encode()
        found = self._codes_of(place, distinct.dictionary.to_pylist())
        indices = kernels.fill_null(distinct.indices.cast(pa.int64()), len(found))
        return np.append(found, 0)[indices.to_numpy(zero_copy_only=False)]

    def _codes_of(self, place: int, values: list[Value]) -> Ints:
        places = self._places[place]
        found = [0 if v is None else places.get(v, -2) + 1 for v in values]
        return np.array(found, np.int64)

    def _joined(self, columns: list[Ints]) -> Ints:
        """One number for all columns; -1 where one is unknown."""
        code = np.zeros(len(columns[0]), np.int64)
        unknown = np.zeros(len(code), np.bool_)
        for known, found in zip(self._known, columns, strict=True):
            unknown |= found < 0
            code = code * (len(known) + 1) + np.maximum(found, 0)
        return np.where(unknown, -1, code)


def keys_of(names: Sequence[str], columns: Sequence[pa.Array]) -> GroupKeys:
    """The groups that are among these rows, in the order of their values, NULL last.

    Numbers are in the order of numbers, everything else by its text.
    """
    ranks: list[Ints] = []
    texts: list[list[Value]] = []
    for column in columns:
        distinct = category_text(column).dictionary_encode()
        values = distinct.dictionary.to_pylist()
        order = sorted(range(len(values)), key=lambda i, c=column, v=values: _rank(c.type, v[i]))
        rank = np.empty(len(values) + 1, np.int64)
        rank[order], rank[-1] = np.arange(len(values)), len(values)
        indices = kernels.fill_null(distinct.indices.cast(pa.int64()), len(values))
        ranks.append(rank[indices.to_numpy(zero_copy_only=False)])
        texts.append([*(values[i] for i in order), None])
    sizes = [len(t) for t in texts]
    codes = np.unique(np.ravel_multi_index(tuple(ranks), sizes))
    places = np.unravel_index(codes, sizes)
    rows = zip(*(p.tolist() for p in places), strict=True)
    found = [tuple(t[i] for t, i in zip(texts, row, strict=True)) for row in rows]
    return GroupKeys(names, found)


def _rank(of: pa.DataType, text: str) -> tuple[float, bytes]:
    is_number = pa.types.is_integer(of) or pa.types.is_floating(of) or pa.types.is_decimal(of)
    return (float(text) if is_number else 0.0, text.encode())
