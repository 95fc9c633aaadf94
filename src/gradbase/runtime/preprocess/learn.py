"""What analytic preprocessing functions learn: the scalar with constants that each becomes.

Statistics are the same bits whatever the order of the rows: sums are exact, quantiles are values of
the data chosen by rank, ties between words go by their UTF-8 bytes.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from blake3 import blake3

from gradbase.ir.analytic import Analytic, analytics
from gradbase.ir.derived import Derived, has_program_only
from gradbase.ir.preprocessing import Bucketize, Impute, Rescale
from gradbase.ir.scalar import Literal, Scalar, substituted
from gradbase.ir.tensor import Param
from gradbase.ir.vocabulary import (
    INLINE_WORDS,
    LabelCode,
    MultiHotCode,
    OneHotCode,
    TermCounts,
    TermWeights,
    Vocabulary,
)
from gradbase.runtime.encode import Blobs as StoredBlobs
from gradbase.runtime.train.statistics import (
    Moments,
    Values,
    count_texts,
    count_texts_by_row,
    moments,
    vocabulary,
)

Floats = npt.NDArray[np.float64]


class Examples(Protocol):
    """The rows that are learnt from."""

    def numbers(self, scalar: Scalar, name: str) -> Values:
        """Values float64[rows, 1] of a scalar, NaN where missing; DataError for ±Inf."""
        ...

    def arrays(self, scalar: Scalar) -> Callable[[], Iterator[pa.Array]]:
        """Values of a scalar, again and again."""
        ...


class Blobs:
    """Long vocabularies: those that were learnt now, by hash (`params`), and `stored` ones."""

    def __init__(self, stored: StoredBlobs | None = None) -> None:
        self.params: dict[str, npt.NDArray[Any]] = {}
        self._stored = stored

    def array(self, param: Param) -> npt.NDArray[Any]:
        """Content of a `Param`."""
        if param.hash in self.params or self._stored is None:
            return self.params[param.hash].reshape(param.dims)
        return self._stored.array(param)


def learned(columns: tuple[Derived, ...], examples: Examples, blobs: Blobs) -> tuple[Derived, ...]:
    """`columns` with every analytic function replaced by what it learns from `examples`.

    A function over the result of another one is learnt after it. Long vocabularies go to `blobs`.

    Raises
    ------
    DataError
        A number to be learnt from is ±Inf.
    """
    while True:
        waiting: dict[Analytic, tuple[str, bool]] = {}
        for column in columns:
            inline = has_program_only(column.expr)
            for found in analytics(column.expr):
                if not analytics(found.arg):
                    known = waiting.get(found, (column.name, False))
                    waiting[found] = (known[0], known[1] or inline)
        if not waiting:
            return columns
        made: dict[Scalar, Scalar] = {
            a: _Lesson(a, examples, blobs, name, inline=inline).learnt()
            for a, (name, inline) in waiting.items()
        }
        columns = tuple(Derived(c.name, substituted(c.expr, made)) for c in columns)


class _Lesson:
    """One function and what it learns from.

    `name` is the column it stands for, for errors; `inline` keeps its vocabulary out of blobs.
    """

    def __init__(
        self, function: Analytic, examples: Examples, blobs: Blobs, name: str, *, inline: bool
    ) -> None:
        self.function, self.arg, self.options = function, function.arg, function.options
        self.examples, self.blobs, self.name, self.inline = examples, blobs, name, inline

    def learnt(self) -> Scalar:
        """The scalar that the function becomes."""
        match self.function.function:
            case "standard_scaler" | "min_max_scaler" | "max_abs_scaler":
                return self._scaled()
            case "robust_scaler":
                return self._robust()
            case "quantile_bucketize":
                return self._bucketized()
            case "imputer":
                return self._imputed()
            case "label_encoder":
                return LabelCode(self.arg, self._vocabulary(self._words(*self.options)[0]))
            case "one_hot_encoder":
                return self._one_hot()
            case "multi_hot_encoder":
                return MultiHotCode(self.arg, self._words_of_arrays())
            case "bag_of_words":
                return TermCounts(self.arg, self._words_of_arrays())
            case _:
                return TermWeights(self.arg, self._words_of_arrays(weighed=True))

    # -- numbers -----------------------------------------------------------------------------------

    def _values(self) -> Values:
        return self.examples.numbers(self.arg, self.name)

    def _nothing(self) -> Scalar:
        return Literal(None, self.function.type)

    def _scaled(self) -> Scalar:
        is_standard = self.function.function == "standard_scaler"
        found = moments(self._values(), sample=is_standard)
        if not found or not found[0].count:
            return self._nothing()
        of: Moments = found[0]
        match self.function.function:
            case "standard_scaler":
                return Rescale(self.arg, of.mean, _divisor(of.deviation))
            case "min_max_scaler":
                return Rescale(self.arg, of.low, _divisor(of.high - of.low), clipped=True)
            case _:
                return Rescale(self.arg, 0.0, _divisor(max(abs(of.low), abs(of.high))))

    def _robust(self) -> Scalar:
        low, high, with_median, with_range = self.options
        values = self._sorted()
        if not len(values):
            return self._nothing()
        shift = quantile(values, 50, 100) if with_median else 0.0
        spread = quantile(values, int(high), 100) - quantile(values, int(low), 100)
        return Rescale(self.arg, shift, _divisor(spread) if with_range else 1.0)

    def _bucketized(self) -> Scalar:
        buckets, form = self.options
        values = self._sorted()
        if not len(values):
            return self._nothing()
        ends = (quantile(values, k, int(buckets)) for k in range(1, int(buckets)))
        return Bucketize(self.arg, tuple(dict.fromkeys(ends)), str(form))

    def _sorted(self) -> Floats:
        """All values that are present, ascending."""
        chunks = [c[~np.isnan(c)] for c in self._values()()]
        values = np.concatenate(chunks) + 0.0 if chunks else np.empty(0)  # -0 + 0 is 0
        values.sort()
        return values

    def _imputed(self) -> Scalar:
        if self.arg.type.is_text:
            counted = count_texts(self.examples.arrays(self.arg)())
            known = vocabulary(counted, 1)
            return Impute(self.arg, Literal(known[0] if known else None, self.function.type))
        value: float | None = None
        match self.options[0]:
            case "mean":
                found = moments(self._values())
                value = found[0].mean if found and found[0].count else None
            case "median":
                values = self._sorted()
                value = quantile(values, 1, 2) if len(values) else None
            case _:
                distinct, counts = np.unique(self._sorted(), return_counts=True)
                value = float(distinct[np.argmax(counts)]) if len(distinct) else None
        return Impute(self.arg, Literal(value, self.function.type))

    # -- words -------------------------------------------------------------------------------------

    def _one_hot(self) -> Scalar:
        drop, top_k, threshold = self.options
        words, most_frequent = self._words(top_k, threshold)
        drops = drop == "most_frequent" and most_frequent in words
        dropped = words.index(most_frequent) + 1 if drops else 0
        return OneHotCode(self.arg, self._vocabulary(words), dropped)

    def _words(self, top_k: Any, threshold: Any) -> tuple[tuple[str, ...], str]:
        """The words of a vocabulary, and the most frequent one."""
        counted = count_texts(self.examples.arrays(self.arg)())
        most_frequent = vocabulary(counted, 1)
        words = vocabulary(_frequent(counted, int(threshold)), int(top_k))
        return words, most_frequent[0] if most_frequent else ""

    def _words_of_arrays(self, *, weighed: bool = False) -> Vocabulary:
        top_k, threshold = self.options
        arrays = self.examples.arrays(self.arg)
        counted = count_texts_by_row(arrays())
        words = vocabulary(_frequent(counted, int(threshold)), int(top_k))
        if not weighed:
            return self._vocabulary(words)
        documents = sum(len(a) - a.null_count for a in arrays())
        return self._vocabulary(words, _weights(words, counted, documents))

    def _vocabulary(self, words: tuple[str, ...], weights: tuple[float, ...] = ()) -> Vocabulary:
        if len(words) <= INLINE_WORDS or self.inline:
            return Vocabulary(len(words), words, weights)
        text = json.dumps([words, weights], ensure_ascii=False, separators=(",", ":"))
        content = np.frombuffer(text.encode(), np.uint8)
        digest = blake3(content.tobytes()).hexdigest()
        self.blobs.params[digest] = content
        return Vocabulary(len(words), blob=Param(digest, content.shape, "uint8"))


def _divisor(spread: float) -> float:
    """`spread`, 1 where nothing can be divided by it."""
    return spread if spread > 0 and math.isfinite(spread) else 1.0


def quantile(values: Floats, numerator: int, denominator: int) -> float:
    """The smallest of sorted `values` that numerator / denominator of them do not exceed.

    Examples
    --------
    >>> [quantile(np.array([1.0, 2, 3, 4, 5]), k, 3) for k in (1, 2)]
    [2.0, 4.0]
    """
    rank = -(-numerator * len(values) // denominator)
    return float(values[max(rank, 1) - 1])


def _frequent(counted: Counter[str | None], threshold: int) -> Counter[str | None]:
    return Counter({word: n for word, n in counted.items() if n >= threshold})


def _weights(
    words: tuple[str, ...], counted: Counter[str | None], documents: int
) -> tuple[float, ...]:
    """Inverse document frequencies; unknown words have the mean of the known ones'."""
    known = [math.log(1 + documents / (1 + counted[w])) for w in words]
    unknown = math.fsum(known) / len(known) if known else math.log(1 + documents)
    return (unknown, *known)
