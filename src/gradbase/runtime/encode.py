"""Columns of a table as numbers, the same bits wherever a model is trained or used.

Numeric   ``float32((float64(x) - mean) * scale)``; missing (NULL, NaN) gives 0 and indicator 1
Category  code of the value's text (`category_text`); unseen 0, missing `missing_code`
Vector    elementwise as Numeric; a missing vector or element gives 0
MultiHot  1 for each known text of an array; unseen ones are left out
Sparse    values at their indices; indices beyond those of the training are left out

±Inf, and values whose standardised form exceeds float32, are a `DataError` naming column and row.
Imported networks (``imported=True``) take NaN and ±Inf as they are; rows with a NULL anywhere are
reported by `null_rows` and their content is arbitrary.
"""

from __future__ import annotations

import functools
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from gradbase.errors import DataError, UnsupportedError
from gradbase.ir.conversion import Category, Encoding, MultiHot, Numeric, Sparse, Vector
from gradbase.ir.factored import RowNumber
from gradbase.ir.imported import Text
from gradbase.ir.tensor import Const, Param, Tensor
from gradbase.runtime.columns import array_lengths, category_text, kernels, numbers, row_numbers

Float64s = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Out = npt.NDArray[Any]
Column: TypeAlias = pa.Array | pa.ChunkedArray

_DIRECT_LOOKUP = 256
"""Vocabularies up to this size are searched directly; larger ones by distinct values first."""


class Blobs(Protocol):
    """Where the content of a `Param` comes from."""

    def array(self, param: Param) -> npt.NDArray[Any]:
        """The parameter's values, in its shape and dtype."""
        ...


def constant(tensor: Tensor, blobs: Blobs | None) -> npt.NDArray[Any]:
    """Values of a `Const` or `Param`."""
    if isinstance(tensor, Const):
        return np.array(tensor.values, dtype=tensor.kind).reshape(tensor.dims)
    assert isinstance(tensor, Param), tensor
    assert blobs is not None, "a Param needs blobs"
    return blobs.array(tensor)


def encode(
    column: Column,
    encoding: Encoding,
    *,
    name: str,
    first_row: int = 0,
    blobs: Blobs | None = None,
    imported: bool = False,
) -> torch.Tensor:
    """A column as Tensor[rows, encoding.width] of the encoding's dtype.

    Parameters
    ----------
    column : Array or ChunkedArray
    encoding : Encoding
    name : str
        For messages.
    first_row : int
        Rows before this column's first one, for messages.
    blobs : Blobs, optional
        Where `Vector` constants are.
    imported : bool
        NaN and ±Inf pass through.

    Raises
    ------
    DataError
        A value is ±Inf, or a vector has another length.
    """
    if isinstance(encoding, Text):
        return torch.from_numpy(_texts(column))
    out = np.empty((len(column), encoding.width), dtype=encoding.dtype)
    encode_into(out, column, encoding, name=name, first_row=first_row, blobs=blobs,
                imported=imported)  # fmt: skip
    return torch.from_numpy(out)


def encode_into(
    out: Out,
    column: Column,
    encoding: Encoding,
    *,
    name: str,
    first_row: int = 0,
    blobs: Blobs | None = None,
    imported: bool = False,
) -> None:
    """As `encode`, into `out`: [rows, width] with any strides (``buffer.T`` for [width, rows])."""
    if isinstance(column, pa.ChunkedArray):
        start = 0
        for chunk in column.chunks:
            stop = start + len(chunk)
            encode_into(out[start:stop], chunk, encoding, name=name, first_row=first_row + start,
                        blobs=blobs, imported=imported)  # fmt: skip
            start = stop
        return
    match encoding:
        case Numeric():
            _numeric(out, column, encoding, name, first_row, imported=imported)
        case Category():
            out[:, 0] = category_codes(column, encoding)
        case MultiHot():
            _multi_hot(out, column, encoding)
        case Sparse():
            _sparse(out, column, encoding, name, first_row)
        case RowNumber(absent=absent):
            out[:, 0] = row_numbers(column, absent=absent)
        case Vector():
            _vector(out, column, encoding, name, first_row, blobs=blobs, imported=imported)
        case _:
            raise UnsupportedError(f"{type(encoding).__name__} has no encoder")


# -- numbers -----------------------------------------------------------------------------------


def _numeric(
    out: Out, column: pa.Array, encoding: Numeric, name: str, first_row: int, *, imported: bool
) -> None:
    values = numbers(column, encoding.part, name, first_row)
    missing = _missing(column, values, imported=imported)
    standard = _standardise(values, encoding.mean, encoding.scale)
    if missing is not None:
        standard[missing] = 0.0
    with np.errstate(over="ignore"):
        out[:, 0] = standard
    if encoding.indicator:
        out[:, 1] = 0.0 if missing is None else missing
    if not imported and not np.isfinite(out[:, 0]).all():
        row = int(np.flatnonzero(~np.isfinite(out[:, 0]))[0])
        raise _infinite(float(values[row]), name, first_row + row + 1)


def _standardise(values: npt.NDArray[Any], mean: Any, scale: Any) -> Float64s:
    """``(float64(values) - mean) * scale``, always a new array."""
    with np.errstate(over="ignore", invalid="ignore"):
        standard = np.subtract(values, mean, dtype=np.float64)
        standard *= scale
    return standard


def _missing(column: pa.Array, values: npt.NDArray[Any], *, imported: bool) -> Bools | None:
    """Where a value is NULL or NaN (imported: NULL only); None where nowhere."""
    nulls = _nulls(column)
    if imported or values.dtype.kind != "f":
        return nulls
    nan = np.isnan(values)
    if not nan.any():
        return nulls
    return nan if nulls is None else nan | nulls


def _nulls(column: pa.Array) -> Bools | None:
    if column.null_count == 0:
        return None
    return column.is_null().to_numpy(zero_copy_only=False)


def _infinite(value: float, name: str, row: int) -> DataError:
    what = "is infinite" if np.isinf(value) else "is too large for float32 once standardised"
    return DataError(
        f"column `{name}` holds {value:g} in row {row}, which {what}",
        at=f"column {name}, row {row}",
        hint=f"leave such rows out (WHERE isfinite({name})) or make the value NULL",
    )


def _texts(column: Column) -> npt.NDArray[np.uint8]:
    """Texts as rows of UTF-8, filled up with zeros; NULL is empty."""
    words = np.array([(t or "").encode() or b"\0" for t in column.to_pylist()], dtype=np.bytes_)
    width = max(words.dtype.itemsize, 1)
    return words.astype(f"S{width}").view(np.uint8).reshape(len(column), width).copy()


# -- categories --------------------------------------------------------------------------------


def category_codes(column: pa.Array, encoding: Category) -> npt.NDArray[np.int64]:
    """Codes int64[rows] of a `Category`."""
    if pa.types.is_dictionary(column.type):
        by_value = category_codes(column.dictionary, encoding)
        return _take(by_value, column.indices, encoding.missing_code)
    text = category_text(column)
    if len(encoding.vocabulary) > _DIRECT_LOOKUP:
        distinct = text.dictionary_encode()
        codes = _code_by_text(encoding)
        by_value = np.array([codes.get(t, 0) for t in distinct.dictionary.to_pylist()], np.int64)
        return _take(by_value, distinct.indices, encoding.missing_code)
    found = kernels.index_in(text, options=_lookup(encoding))
    codes = kernels.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64) + 1
    missing = _nulls(text)
    if missing is not None:
        codes[missing] = encoding.missing_code
    return codes


def _take(
    by_value: npt.NDArray[np.int64], indices: pa.Array, missing_code: int
) -> npt.NDArray[np.int64]:
    by_value = np.append(by_value, missing_code)
    # The appended position stands for NULL.
    where = kernels.fill_null(indices.cast(pa.int64()), len(by_value) - 1)
    return by_value[where.to_numpy(zero_copy_only=False)]


@functools.lru_cache(maxsize=256)
def _lookup(encoding: Category) -> Any:
    return kernels.SetLookupOptions(
        pa.array(encoding.vocabulary, pa.large_string()), skip_nulls=True
    )


@functools.lru_cache(maxsize=256)
def _code_by_text(encoding: Category) -> dict[str | None, int]:
    codes: dict[str | None, int] = {v: i + 1 for i, v in enumerate(encoding.vocabulary)}
    codes[None] = encoding.missing_code
    return codes


# -- vectors -----------------------------------------------------------------------------------


def _vector(
    out: Out, column: pa.Array, encoding: Vector, name: str, first_row: int,
    *, blobs: Blobs | None, imported: bool,
) -> None:  # fmt: skip
    if pa.types.is_null(column.type):  # an untyped NULL
        column = column.cast(pa.list_(pa.float32()))
    column = one_level(column, name, first_row)
    present = None if column.null_count == 0 else column.is_valid().to_numpy(zero_copy_only=False)
    check_lengths(column, encoding.size, name, first_row)
    flat = column.flatten()  # without the NULL rows
    values = numbers(flat, "value", name, first_row).reshape(-1, encoding.size)
    missing = _missing(flat, values.ravel(), imported=imported)
    standard = values
    if missing is not None or encoding.mean is not None or encoding.scale is not None:
        mean = 0.0 if encoding.mean is None else constant(encoding.mean, blobs)
        scale = 1.0 if encoding.scale is None else constant(encoding.scale, blobs)
        standard = _standardise(values, mean, scale)
    if missing is not None:
        standard[missing.reshape(-1, encoding.size)] = 0.0
    with np.errstate(over="ignore"):
        if present is None:
            out[:] = standard
        else:
            out[:] = 0.0
            out[present] = standard
    if not imported and not np.isfinite(out).all():
        row, position = (int(i[0]) for i in np.nonzero(~np.isfinite(out)))
        among = row if present is None else int(present[:row].sum())
        value = float(values[among, position])
        raise _infinite(value, f"{name}[{position + 1}]", first_row + row + 1)


def one_level(column: pa.Array, name: str, first_row: int) -> pa.Array:
    """Arrays of arrays as one array each, in row-major order; others as they are.

    Raises
    ------
    DataError
        An array inside is NULL, or of another length than others.
    """
    while _is_list(column.type) and _is_list(column.type.value_type):
        inner = column.flatten()  # without the NULL rows
        lengths = kernels.list_value_length(inner)
        wrong = kernels.not_equal(lengths, kernels.first(lengths))
        wrong = kernels.fill_null(wrong, fill_value=True)  # pyright: ignore[reportUnknownMemberType]
        if kernels.any(wrong).as_py():
            place = kernels.index(wrong, value=True).as_py()
            row = first_row + int(kernels.list_parent_indices(column)[place].as_py()) + 1
            found = lengths[place].as_py()
            what = "is NULL" if found is None else f"has length {found}"
            raise DataError(
                f"an array inside column `{name}` {what} in row {row}, others have length "
                f"{lengths[0].as_py()}",
                at=f"column {name}, row {row}",
                hint="arrays of arrays are read as images of one size: leave that row out",
            )
        size = lengths[0].as_py() if len(lengths) else 0
        outer = kernels.list_value_length(column)
        ends = np.concatenate([[0], np.cumsum(kernels.fill_null(outer, 0).to_numpy() * size)])
        mask = column.is_null() if column.null_count else None
        column = pa.LargeListArray.from_arrays(ends, inner.flatten(), mask=mask)
    return column


def _is_list(of: pa.DataType) -> bool:
    return pa.types.is_fixed_size_list(of) or pa.types.is_list(of) or pa.types.is_large_list(of)


def check_lengths(column: pa.Array, size: int, name: str, first_row: int) -> None:
    """DataError where an array of `column` has another length than `size`."""
    if pa.types.is_fixed_size_list(column.type) and column.type.list_size == size:
        return
    lengths = kernels.list_value_length(column)
    wrong = kernels.indices_nonzero(kernels.not_equal(kernels.fill_null(lengths, size), size))
    if len(wrong):
        row = wrong[0].as_py()
        raise DataError(
            f"column `{name}` has a vector of length {lengths[row].as_py()} in row "
            f"{first_row + row + 1}, the model was trained on length {size}",
            at=f"column {name}, row {first_row + row + 1}",
            hint=f"leave it out (WHERE len({name}) = {size})",
        )


# -- arrays of texts and of pairs --------------------------------------------------------------


def _multi_hot(out: Out, column: pa.Array, encoding: MultiHot) -> None:
    out[:] = 0.0
    if pa.types.is_null(column.type):
        column = column.cast(pa.list_(pa.string()))
    missing_code = len(encoding.vocabulary) + 1 if encoding.missing else 0
    codes = category_codes(column.flatten(), Category(encoding.vocabulary, missing_code))
    rows = np.repeat(np.arange(len(column)), array_lengths(column))
    known = codes > 0
    out[rows[known], codes[known] - 1] = 1.0
    if encoding.missing and column.null_count:
        out[column.is_null().to_numpy(zero_copy_only=False), missing_code - 1] = 1.0


def _sparse(out: Out, column: pa.Array, encoding: Sparse, name: str, first_row: int) -> None:
    out[:] = 0.0
    if pa.types.is_null(column.type):
        return
    rows = np.repeat(np.arange(len(column)), array_lengths(column))
    index, value = sparse_pairs(column, rows, name, first_row)
    kept = (index < encoding.size) & ~np.isnan(value)
    np.add.at(out, (rows[kept], index[kept]), value[kept].astype(np.float32))


def sparse_pairs(
    column: pa.Array, rows: npt.NDArray[Any], name: str, first_row: int
) -> tuple[npt.NDArray[np.int64], Float64s]:
    """Index and value of every pair (NaN where one of them is NULL); `rows` says whose it is.

    Raises
    ------
    DataError
        An index is negative or a value infinite.
    """
    pairs = column.flatten()
    places, values = pairs.flatten()[:2]
    index = numbers(places, "value", name, first_row).astype(np.int64)
    value = numbers(values, "value", name, first_row).astype(np.float64)
    for part in (places, values):
        if part.null_count:
            value[part.is_null().to_numpy(zero_copy_only=False)] = np.nan
    index = np.where(np.isnan(value), 0, index)
    wrong = np.flatnonzero((index < 0) | np.isinf(value))
    if len(wrong):
        at, row = int(wrong[0]), first_row + int(rows[wrong[0]]) + 1
        if np.isinf(value[at]):
            raise _infinite(float(value[at]), f"{name}[{index[at]}]", row)
        raise DataError(
            f"column `{name}` holds index {index[at]} in row {row}, indices start at 0",
            at=f"column {name}, row {row}",
        )
    return index, value


def null_rows(columns: list[pa.Array]) -> Bools | None:
    """Rows in which a column, or an element of a vector, is NULL; None where there are none."""
    found: Bools | None = None
    for column in columns:
        nulls = _nulls(column)
        if pa.types.is_nested(column.type):
            inner = _nulls_inside(column)
            nulls = inner if nulls is None else nulls if inner is None else nulls | inner
        if nulls is not None:
            found = nulls if found is None else found | nulls
    return found


def _nulls_inside(column: pa.Array) -> Bools | None:
    flat = column.flatten()
    if flat.null_count == 0:
        return None
    parents = kernels.list_parent_indices(column).to_numpy(zero_copy_only=False)
    inside = np.zeros(len(column), dtype=np.bool_)
    inside[parents[flat.is_null().to_numpy(zero_copy_only=False)]] = True
    return inside
