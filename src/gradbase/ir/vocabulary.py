"""Vocabularies and the preprocessing functions that look texts up in them."""

from __future__ import annotations

from typing import ClassVar

from gradbase.ir.node import Node, node
from gradbase.ir.preprocessing import SPARSE, Preprocessing, expect_text, expect_texts
from gradbase.ir.scalar import Scalar
from gradbase.ir.tensor import Param
from gradbase.ir.types import INT64, SqlType

INLINE_WORDS = 256
"""Longer vocabularies are blobs, which only the program reads: an engine compares word by word."""


@node
class Vocabulary(Node):
    """Words in the order of their UTF-8 bytes: the i-th has code i (from 1), all others 0.

    `weights` are of the codes, 0 first, where a function weighs them. Above `INLINE_WORDS` both are
    in `blob`: the bytes of JSON ``[words, weights]``.
    """

    count: int
    words: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    blob: Param | None = None

    def __post_init__(self) -> None:
        assert self.blob is not None or len(self.words) == self.count


class Coded(Preprocessing):
    """Looks texts, or those of an array, up in a vocabulary."""

    takes_arrays: ClassVar[bool] = True
    arg: Scalar
    vocabulary: Vocabulary

    def __post_init__(self) -> None:
        check = expect_texts if self.takes_arrays else expect_text
        check(type(self).__name__, self.arg)

    @property
    def type(self) -> SqlType:
        return SPARSE


@node
class LabelCode(Coded):
    """The code of a text; NULL is 0."""

    takes_arrays = False
    arg: Scalar
    vocabulary: Vocabulary

    @property
    def type(self) -> SqlType:
        return INT64


@node
class OneHotCode(Coded):
    """``[(code, 1.0)]`` of a text, NULL has code 0; the code `dropped` (if not 0) has value 0.0."""

    takes_arrays = False
    arg: Scalar
    vocabulary: Vocabulary
    dropped: int = 0


@node
class MultiHotCode(Coded):
    """``(code, 1.0)`` once for each code in an array of texts, ascending and 0 last."""

    arg: Scalar
    vocabulary: Vocabulary


@node
class TermCounts(Coded):
    """``(code, how often)`` for each code in an array of texts, ascending; NULL has code 0."""

    arg: Scalar
    vocabulary: Vocabulary


@node
class TermWeights(Coded):
    """``(code, how often / length * weight of the code)`` as `TermCounts`."""

    arg: Scalar
    vocabulary: Vocabulary
