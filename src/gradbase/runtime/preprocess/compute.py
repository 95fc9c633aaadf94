"""Preprocessing functions on Arrow arrays, with the bits that an engine's SQL gives."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gradbase.errors import InternalError
from gradbase.ir.conversion import Category
from gradbase.ir.preprocessing import (
    Bucketize,
    Cross,
    HashBucket,
    Impute,
    Member,
    NGrams,
    Normalize,
    Preprocessing,
    Product,
    Rescale,
    Struct,
)
from gradbase.ir.vocabulary import (
    Coded,
    LabelCode,
    MultiHotCode,
    OneHotCode,
    TermCounts,
    TermWeights,
    Vocabulary,
)
from gradbase.runtime.columns import array_lengths, kernels, numbers
from gradbase.runtime.encode import Blobs, category_codes

Floats = npt.NDArray[np.float64]
Compute = Callable[[list[pa.Array]], pa.Array]
"""Values of the arguments to values of the function, row by row."""


def preprocessing(node: Preprocessing, blobs: Blobs | None) -> Compute:
    """What computes `node` from its arguments (`Scalar` children, in order).

    Parameters
    ----------
    node : Preprocessing
    blobs : Blobs, optional
        Where long vocabularies are.
    """
    match node:
        case Rescale():
            return lambda args: _masked(_rescaled(node, floats(args[0])), args)
        case Bucketize():
            return lambda args: _bucketized(node, args[0])
        case Impute():
            return lambda args: _imputed(node, *args)
        case Normalize(p=p):
            return lambda args: _normalized(args[0], p)
        case Product():
            return lambda args: _masked(_product([floats(a) for a in args]), args)
        case Cross():
            return lambda args: kernels.binary_join_element_wise(*map(texts, args), "_")
        case HashBucket(buckets=buckets):
            return lambda args: _hashed(texts(args[0]), buckets)
        case NGrams():
            return lambda args: _ngrams(node, args[0])
        case Struct(names=names):
            return lambda args: pa.StructArray.from_arrays(args, list(names))
        case Member(name=name):
            return lambda args: kernels.struct_field(args[0], name)
        case Coded():
            return _coded(node, blobs)
    raise InternalError(f"the program cannot compute {type(node).__name__}")


# -- numbers -------------------------------------------------------------------------------------


def floats(column: pa.Array) -> Floats:
    """Numbers as float64, arbitrary at NULLs; shares memory where it can."""
    return numbers(column, "value", "").astype(np.float64, copy=False)


def _masked(values: Floats, args: list[pa.Array]) -> pa.Array:
    """`values`, NULL where an argument is."""
    nulls = [a.is_null().to_numpy(zero_copy_only=False) for a in args if a.null_count]
    mask = functools.reduce(np.logical_or, nulls) if nulls else None
    return pa.array(values, pa.float64(), mask=mask)


def _rescaled(node: Rescale, values: Floats) -> Floats:
    with np.errstate(all="ignore"):
        found = (values - node.shift) / node.scale
    if node.clipped:
        found = np.where(found < 0, 0.0, np.where(found > 1, 1.0, found))
    return found


def _product(values: list[Floats]) -> Floats:
    with np.errstate(all="ignore"):
        return functools.reduce(np.multiply, values)


def _bucketized(node: Bucketize, column: pa.Array) -> pa.Array:
    values = floats(column)
    places = np.searchsorted(np.array(node.points), values, side="right")
    missing = np.isnan(values)
    if column.null_count:
        missing |= column.is_null().to_numpy(zero_copy_only=False)
    return pa.array(node.labels, pa.string()).take(pa.array(places, mask=missing))


def _imputed(node: Impute, column: pa.Array, value: pa.Array) -> pa.Array:
    if node.arg.type.is_text:
        return kernels.coalesce(texts(column), value)
    values = _masked(floats(column), [column])
    return kernels.if_else(values.is_null(nan_is_null=True), value, values)


def _normalized(column: pa.Array, p: float) -> pa.Array:
    flat = column.flatten()  # without what NULL rows hold
    values, counted = floats(flat), flat.is_valid().to_numpy(zero_copy_only=False)
    parents = _parents(column)
    magnitudes = np.where(counted, np.abs(values), 0.0)
    norms = _norms(magnitudes, parents, len(column), p)
    with np.errstate(all="ignore"):
        divided = values / np.where(norms == 0, 1.0, norms)[parents]
    return _lists(pa.array(divided, mask=~counted), array_lengths(column), column)


def _norms(magnitudes: Floats, parents: npt.NDArray[Any], rows: int, p: float) -> Floats:
    """The norm of each row; `np.add.at` and kin go from the first element to the last."""
    norms = np.zeros(rows)
    with np.errstate(all="ignore"):
        match p:
            case 0:
                np.add.at(norms, parents, magnitudes != 0)
            case 1:
                np.add.at(norms, parents, magnitudes)
            case 2:
                np.add.at(norms, parents, magnitudes * magnitudes)
                norms = np.sqrt(norms)
            case math.inf:
                np.maximum.at(norms, parents, magnitudes)
            case _:
                raise InternalError(f"the program does not compute the {p}-norm")
    return norms


def _parents(column: pa.Array) -> npt.NDArray[Any]:
    """The row of each element of ``column.flatten()``."""
    return np.repeat(np.arange(len(column)), array_lengths(column))


def _lists(flat: pa.Array, lengths: npt.NDArray[Any], like: pa.Array | None = None) -> pa.Array:
    """Lists of given lengths over `flat`, NULL where `like` is NULL."""
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    mask = like.is_null() if like is not None and like.null_count else None
    return pa.ListArray.from_arrays(pa.array(offsets), flat, mask=mask)


# -- texts ---------------------------------------------------------------------------------------


def texts(column: pa.Array) -> pa.Array:
    """Text or an enum as text."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(pa.string())


def _hashed(column: pa.Array, buckets: int) -> pa.Array:
    distinct = column.dictionary_encode()
    digests = (hashlib.md5(t.encode()).hexdigest() for t in distinct.dictionary.to_pylist())  # noqa: S324
    hashes = [int(d[:15], 16) for d in digests]
    by_value = pa.array([h % buckets for h in hashes] if buckets else hashes, pa.int64())
    return by_value.take(distinct.indices)


def _ngrams(node: NGrams, column: pa.Array) -> pa.Array:
    sizes = range(node.low, node.high + 1)

    def of(words: list[str | None]) -> list[str]:
        runs = (words[i : i + k] for i in range(len(words)) for k in sizes if i + k <= len(words))
        return [node.separator.join(r) for r in runs if None not in r]  # type: ignore[arg-type]

    found = [None if words is None else of(words) for words in column.to_pylist()]
    return pa.array(found, pa.list_(pa.string()))


# -- vocabularies --------------------------------------------------------------------------------


def _coded(node: Coded, blobs: Blobs | None) -> Compute:
    category, weights = lookup(node.vocabulary, blobs)

    def codes(column: pa.Array) -> npt.NDArray[np.int64]:
        return category_codes(column, category)

    match node:
        case LabelCode():
            return lambda args: pa.array(codes(texts(args[0])))
        case OneHotCode(dropped=dropped):
            return lambda args: _one_hot(codes(texts(args[0])), dropped)
        case MultiHotCode():
            return lambda args: _multi_hot(args[0], codes)
        case TermCounts():
            return lambda args: _terms(args[0], codes, None)
        case TermWeights():
            return lambda args: _terms(args[0], codes, weights)
    raise InternalError(f"the program cannot compute {type(node).__name__}")


def lookup(vocabulary: Vocabulary, blobs: Blobs | None) -> tuple[Category, Floats]:
    """The words of a vocabulary as codes, and the weights of the codes."""
    words, weights = vocabulary.words, vocabulary.weights
    if vocabulary.blob is not None:
        assert blobs is not None, "a vocabulary in a blob needs blobs"
        found = json.loads(blobs.array(vocabulary.blob).tobytes())
        words, weights = tuple(found[0]), tuple(found[1])
    return Category(words, 0), np.array(weights, np.float64)


Codes = Callable[[pa.Array], npt.NDArray[np.int64]]


def _pairs(index: npt.NDArray[np.int64], value: Floats) -> pa.Array:
    return pa.StructArray.from_arrays([pa.array(index), pa.array(value)], ["index", "value"])


def _one_hot(codes: npt.NDArray[np.int64], dropped: int) -> pa.Array:
    value = np.where(codes == dropped, 0.0, 1.0) if dropped else np.ones(len(codes))
    return _lists(_pairs(codes, value), np.ones(len(codes), np.int64))


def _counted(column: pa.Array, codes: Codes) -> tuple[Any, Any, Any]:
    """(row, code, how often) of every code in a row, ascending."""
    flat = column.flatten()
    found = codes(texts(flat))
    rows = _parents(column)
    width = int(found.max(initial=0)) + 1
    keys, counts = np.unique(rows * width + found, return_counts=True)
    return keys // width, keys % width, counts


def _terms(column: pa.Array, codes: Codes, weights: Floats | None) -> pa.Array:
    rows, index, counts = _counted(column, codes)
    value = counts.astype(np.float64)
    if weights is not None:
        value = value / array_lengths(column)[rows] * weights[index]
    return _lists(_pairs(index, value), np.bincount(rows, minlength=len(column)), column)


def _multi_hot(column: pa.Array, codes: Codes) -> pa.Array:
    rows, index, _ = _counted(column, codes)
    order = np.lexsort((index == 0, rows))  # stable: codes stay ascending, 0 goes last
    pairs = _pairs(index[order], np.ones(len(index)))
    return _lists(pairs, np.bincount(rows, minlength=len(column)), column)
