"""How the columns of a training query become numbers: chosen by type and by training rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import blake3
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gradbase.errors import DataError, UnsupportedError
from gradbase.ir.conversion import (
    Category,
    Encoding,
    MultiHot,
    Numeric,
    Sparse,
    ToTensor,
    Vector,
)
from gradbase.ir.derived import Derived
from gradbase.ir.learning import Feature
from gradbase.ir.tensor import Const, Param, Tensor
from gradbase.ir.types import SqlType
from gradbase.runtime.columns import array_lengths, numbers
from gradbase.runtime.encode import check_lengths, encode, one_level, sparse_pairs
from gradbase.runtime.train.rows import Blocks
from gradbase.runtime.train.statistics import (
    Floats,
    Moments,
    Values,
    count_texts,
    count_texts_by_row,
    moments,
    vocabulary,
)

ONE_HOT_CODES = 65
"""Categories of up to so many codes (the unknown one included) become one column each."""
ONE_HOT_ONLY_CODES = 257
"""The same where embeddings are not possible; rarer values are then unknown."""
VOCABULARY = 10_000
MOST_POSITIONS = 10_000
"""Columns of the input matrix that an array of words or of (index, value) pairs may fill."""
DATE_PARTS = ("epoch_s", "month", "day", "weekday")
TIME_PARTS = (*DATE_PARTS, "hour")


@dataclass(frozen=True)
class Inputs:
    """What networks read.

    Parameters
    ----------
    features : tuple of Feature
        Columns of the query that are read, in its order.
    dense : tuple of ToTensor
        Parts of the input matrix, in order; a `Category` is one column per known value.
    embedded : tuple of ToTensor
        Categories of many values.
    params : dict
        Constants of the encodings by hash.
    warnings : tuple of str
    columns, transform : tuple of Derived
        As of a `Model`: what is read, computed from the features; what TRANSFORM gives.
    """

    features: tuple[Feature, ...]
    dense: tuple[ToTensor, ...]
    embedded: tuple[ToTensor, ...]
    params: dict[str, npt.NDArray[Any]]
    warnings: tuple[str, ...]
    columns: tuple[Derived, ...] = ()
    transform: tuple[Derived, ...] = ()

    @property
    def width(self) -> int:
        """Columns of the input matrix (without the constant one)."""
        return sum(columns_of(t.encoding) for t in self.dense)

    @property
    def embeddings(self) -> tuple[tuple[int, int], ...]:
        """(codes, width) of each embedded category."""
        sizes = [t.encoding.codes for t in self.embedded if isinstance(t.encoding, Category)]
        return tuple((n, embedding_width(n)) for n in sizes)

    def array(self, param: Param) -> npt.NDArray[np.float64]:
        """Content of a constant, for the encoder."""
        return self.params[param.hash].reshape(param.dims)


def _pairs(column: pa.Array, name: str, first: int) -> tuple[npt.NDArray[np.int64], Floats]:
    rows = np.repeat(np.arange(len(column)), array_lengths(column))
    return sparse_pairs(column, rows, name, first)


def is_sparse(of: SqlType) -> bool:
    """Whether a type is an array of (index, value) pairs."""
    element = of.element
    if of.kind != "list" or element is None or element.kind != "struct":
        return False
    match [(n.lower(), t) for n, t in element.fields]:
        case [("index", index), ("value", value)]:
            return index.is_integer and value.is_numeric
    return False


def columns_of(encoding: Encoding) -> int:
    """Columns of the input matrix that a dense encoding fills."""
    return encoding.codes - 1 if isinstance(encoding, Category) else encoding.width


def embedding_width(codes: int) -> int:
    """Numbers per category.

    Examples
    --------
    >>> [embedding_width(n) for n in (66, 1_000, 10_001)]
    [17, 32, 32]
    """
    return min(32, math.ceil(1.6 * codes**0.56))


@dataclass(frozen=True)
class Numbers:
    """How numbers are encoded: moved to mean 0, divided by their deviation; whether one more column
    says that a value was missing.
    """

    centred: bool = True
    scaled: bool = True
    indicators: bool = True


class Chooser:
    """Collects the encodings of one column after the other."""

    def __init__(
        self, blocks: Blocks, *, embeddings: bool, fits_memory: bool, how: Numbers | None = None
    ) -> None:
        self._blocks, self._embeddings, self._fits_memory = blocks, embeddings, fits_memory
        self._how = how or Numbers()
        self._features: list[Feature] = []
        self._dense: list[ToTensor] = []
        self._embedded: list[ToTensor] = []
        self._params: dict[str, npt.NDArray[Any]] = {}
        self._warnings: list[str] = []
        self.moments: dict[str, Moments] = {}
        """Of columns of numbers and dates, as they are."""

    def inputs(self) -> Inputs:
        """What was chosen; DataError where no column is left."""
        if not self._features:
            raise DataError(
                "no column is left to learn from", at="; ".join(self._warnings) or None,
                hint="the query must return at least one column beside the label",
            )  # fmt: skip
        return Inputs(
            tuple(self._features), tuple(self._dense), tuple(self._embedded), self._params,
            tuple(self._warnings),
        )  # fmt: skip

    def add(self, name: str, of: SqlType) -> None:
        """Choose how column `name` is encoded.

        Raises
        ------
        DataError
            A training row holds ±Inf.
        UnsupportedError
            Values of this type cannot be encoded.
        """
        if of.is_numeric or of.kind == "bool":
            found = self._numeric(name, "value")
        elif of.is_text:
            found = self._category(name)
        elif of.is_temporal:
            parts = DATE_PARTS if of.kind == "date" else TIME_PARTS
            found = [t for p in parts for t in self._numeric(name, p)]
        elif of.is_vector or of.is_nested:
            found = self._vector(name, of.length)
        elif is_sparse(of):
            found = self._sparse(name)
        elif of.kind in ("list", "array") and of.element is not None and of.element.is_text:
            found = self._multi_hot(name)
        elif of.kind == "list" and of.element is not None and of.element.is_numeric:
            found = self._list(name)
        elif of.kind == "null":
            found = []
        else:
            raise UnsupportedError(
                f"column `{name}` of type {of} cannot be a feature", hint=_instead(name, of)
            )
        if found:
            self._features.append(Feature(name, of))
        else:
            self._warnings.append(f"column `{name}` is NULL in all training rows and was left out")

    def _numeric(self, name: str, part: str) -> list[ToTensor]:
        found = moments(self._held(self._numbers(name, part)))
        if not found or found[0].count == 0:
            return []
        first, mean, deviation = found[0], found[0].mean, found[0].deviation
        if part not in ("value", "epoch_s") and deviation == 0:
            return []
        indicator = first.missing > 0 and part in ("value", "epoch_s") and self._how.indicators
        if part in ("value", "epoch_s"):
            self.moments[name] = first
        mean, scale = self._moved(mean, deviation)
        chosen = ToTensor(name, Numeric(mean, scale, indicator, part))
        self._dense.append(chosen)
        return [chosen]

    def _moved(self, mean: float, deviation: float) -> tuple[float, float]:
        """What is subtracted and what is multiplied by."""
        scale = _scale(deviation) if self._how.scaled else 1.0
        return (mean if self._how.centred else 0.0), scale

    def _category(self, name: str) -> list[ToTensor]:
        counted = count_texts(
            block.rows.column(name).filter(pa.array(train)) for block, train in self._blocks()
        )
        distinct = len(counted) - (None in counted)
        if not distinct:
            return []
        limit = VOCABULARY if self._embeddings else ONE_HOT_ONLY_CODES - 2
        values = vocabulary(counted, limit)
        if distinct > limit:
            rest = 1 - sum(counted[v] for v in values) / (sum(counted.values()) - counted[None])
            self._warnings.append(
                f"column `{name}` has {distinct:,} distinct values; the {limit:,} most frequent "
                f"are known to the model, {rest:.1%} of the training rows have others"
            )
        encoding = Category(values, len(values) + 1 if counted[None] else 0)
        chosen = ToTensor(name, encoding)
        is_dense = encoding.codes <= ONE_HOT_CODES or not self._embeddings
        (self._dense if is_dense else self._embedded).append(chosen)
        return [chosen]

    def _vector(self, name: str, size: int) -> list[ToTensor]:
        found = moments(self._vectors(name, size))
        if not any(m.count for m in found):
            return []
        moved = (self._moved(m.mean, m.deviation) for m in found)
        mean, scale = (self._constant(list(values)) for values in zip(*moved, strict=True))
        chosen = ToTensor(name, Vector(size, mean, scale))
        self._dense.append(chosen)
        return [chosen]

    def _list(self, name: str) -> list[ToTensor]:
        """An array of numbers without a fixed length: a vector if all training rows agree."""
        lengths: set[int] = set()
        for block, train in self._blocks():
            column = block.rows.column(name).filter(pa.array(train)).drop_null()
            lengths.update(np.unique(array_lengths(column)).tolist())
        if len(lengths) > 1:
            low, high = min(lengths), max(lengths)
            raise DataError(
                f"arrays of column `{name}` have {low} to {high} elements; those of a network's "
                "input have the same number in every row",
                at=f"column {name}",
                hint=f"cut or fill them up in the query, or train on rows of one len({name})",
            )
        return self._vector(name, lengths.pop()) if lengths - {0} else []

    def _multi_hot(self, name: str) -> list[ToTensor]:
        def training() -> Iterator[pa.Array]:
            for block, train in self._blocks():
                yield block.rows.column(name).filter(pa.array(train))

        counted = count_texts_by_row(training())
        missing = counted[None] > 0 or any(c.null_count for c in training())
        distinct = len(counted) - (None in counted)
        if not distinct:
            return []
        values = vocabulary(counted, MOST_POSITIONS)
        if distinct > MOST_POSITIONS:
            self._warnings.append(
                f"arrays of column `{name}` hold {distinct:,} distinct values; the "
                f"{MOST_POSITIONS:,} most frequent are known to the model"
            )
        return self._add_dense(ToTensor(name, MultiHot(values, missing)))

    def _sparse(self, name: str) -> list[ToTensor]:
        size = 0
        for block, train in self._blocks():
            block.located(name, lambda column, first: _pairs(column, name, first))
            index, value = _pairs(block.rows.column(name).filter(pa.array(train)), name, 0)
            size = max(size, int(index[~np.isnan(value)].max(initial=-1)) + 1)
        if size > MOST_POSITIONS:
            raise DataError(
                f"column `{name}` has {size:,} positions; at most {MOST_POSITIONS:,} become inputs "
                "of a network",
                at=f"column {name}",
                hint="let top_k be smaller: ML.TF_IDF(words, 5000) OVER ()",
            )
        return self._add_dense(ToTensor(name, Sparse(size))) if size else []

    def _add_dense(self, chosen: ToTensor) -> list[ToTensor]:
        self._dense.append(chosen)
        return [chosen]

    def _held(self, values: Values) -> Values:
        """The same values, decoded once where memory allows it."""
        if not self._fits_memory:
            return values
        chunks = list(values())
        return lambda: iter(chunks)

    def _numbers(self, name: str, part: str) -> Values:
        def found(column: pa.Array, first: int) -> Floats:
            values = _with_nan(column, numbers(column, part, name, first))
            if np.isinf(values).any():
                encode(column, Numeric(0.0, 1.0, indicator=False), name=name, first_row=first)
            return values

        def chunks() -> Iterator[Floats]:
            for block, train in self._blocks():
                yield block.located(name, found)[train, None]

        return chunks

    def _vectors(self, name: str, size: int) -> Values:
        def found(column: pa.Array, first: int) -> Floats:
            column = one_level(column, name, first)
            check_lengths(column, size, name, first)
            values = np.full((len(column), size), np.nan)
            flat = column.flatten()  # without the NULL rows
            present = column.is_valid().to_numpy(zero_copy_only=False)
            inner = _with_nan(flat, numbers(flat, "value", name, first))
            values[present] = inner.reshape(-1, size)
            if np.isinf(inner).any():
                encode(column, Vector(size), name=name, first_row=first)
            return values

        def chunks() -> Iterator[Floats]:
            for block, train in self._blocks():
                yield block.located(name, found)[train]

        return chunks

    def _constant(self, values: list[float]) -> Tensor:
        return constant(np.array(values, np.float64), self._params)


def _instead(name: str, of: SqlType) -> str:
    """What to do with a column that cannot be a feature."""
    inner = of.element
    if inner is not None and inner.kind in ("list", "array"):
        return f"images have a fixed size: {name}::FLOAT[28][28] AS {name}, say"
    return f"leave it out (SELECT * EXCLUDE ({name})) or cast it to a number or VARCHAR"


def constant(values: npt.NDArray[Any], params: dict[str, npt.NDArray[Any]]) -> Tensor:
    """`values` as a node: a `Const` where small, else a `Param` whose content goes to `params`."""
    kind = str(values.dtype)
    if values.size <= 16:
        return Const(tuple(float(v) for v in values.ravel()), values.shape, kind)
    content = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    digest = blake3.blake3(content.reshape(-1).view(np.uint8).data).hexdigest()
    params[digest] = content
    return Param(digest, values.shape, kind)


def _scale(deviation: float) -> float:
    return 1.0 / deviation if deviation > 0 and math.isfinite(1.0 / deviation) else 1.0


def _with_nan(column: pa.Array, values: npt.NDArray[Any]) -> Floats:
    """float64 with NaN where missing; may share memory with `values`."""
    if not column.null_count:
        return values.astype(np.float64, copy=False)
    found = values.astype(np.float64)
    found[column.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return found
