"""Preprocessing functions that need statistics over all rows."""

from __future__ import annotations

from collections.abc import Mapping

from gradbase.errors import BindError, near
from gradbase.ir.node import node
from gradbase.ir.preprocessing import (
    SPARSE,
    expect,
    expect_number,
    expect_text,
    expect_texts,
)
from gradbase.ir.scalar import Scalar, scalars
from gradbase.ir.types import FLOAT64, INT64, TEXT, SqlType

ANALYTIC: Mapping[str, tuple[str, SqlType]] = {
    "standard_scaler": ("number", FLOAT64),
    "min_max_scaler": ("number", FLOAT64),
    "max_abs_scaler": ("number", FLOAT64),
    "robust_scaler": ("number", FLOAT64),
    "quantile_bucketize": ("number", TEXT),
    "imputer": ("number or text", FLOAT64),
    "label_encoder": ("text", INT64),
    "one_hot_encoder": ("text", SPARSE),
    "multi_hot_encoder": ("texts", SPARSE),
    "bag_of_words": ("texts", SPARSE),
    "tf_idf": ("texts", SPARSE),
}
"""What each takes and gives; an imputer of text gives text."""


@node
class Analytic(Scalar):
    """``ML.<FUNCTION>(arg, options…) OVER ()``, its statistics not known yet.

    ==================  ==========================================================================
    function            options, and what it becomes
    ==================  ==========================================================================
    standard_scaler     `Rescale` by mean and sample standard deviation
    min_max_scaler      `Rescale` by minimum and range, clipped to [0, 1]
    max_abs_scaler      `Rescale` by the largest magnitude
    robust_scaler       low, high (percent), with_median, with_range; `Rescale` by quantiles
    quantile_bucketize  buckets, format; `Bucketize` at the quantiles k / buckets
    imputer             mean, median or most_frequent; `Impute`
    label_encoder       top_k, threshold; `LabelCode`
    one_hot_encoder     drop, top_k, threshold; `OneHotCode`
    multi_hot_encoder   top_k, threshold; `MultiHotCode`
    bag_of_words        top_k, threshold; `TermCounts`
    tf_idf              top_k, threshold; `TermWeights`
    ==================  ==========================================================================

    Statistics leave NULL and NaN out. The q-quantile of n values is the smallest that at least
    q * n of them do not exceed. Where a spread is 0 the divisor is 1. Vocabularies hold the `top_k`
    most frequent words seen `threshold` times or more (in arrays: in so many rows), ties in the
    order of their UTF-8 bytes. Where nothing was seen, numbers become NULL.
    """

    function: str
    arg: Scalar
    options: tuple[bool | int | float | str, ...] = ()

    def __post_init__(self) -> None:
        if self.function not in ANALYTIC:
            raise BindError(
                f"there is no analytic function ML.{self.function.upper()}",
                hint=near(self.function, ANALYTIC),
            )
        what = f"ML.{self.function.upper()}"
        match ANALYTIC[self.function][0]:
            case "number":
                expect_number(what, self.arg)
            case "text":
                expect_text(what, self.arg)
            case "texts":
                expect_texts(what, self.arg)
            case _:
                fits = self.arg.type.is_numeric or self.arg.type.is_text
                expect(what, self.arg, fits=fits, wanted="a number or text")
                if self.arg.type.is_text and self.options[:1] != ("most_frequent",):
                    raise BindError(
                        f"{what} of text takes 'most_frequent' only, found {self.options[0]!r}"
                    )

    @property
    def type(self) -> SqlType:
        is_text = self.function == "imputer" and self.arg.type.is_text
        return TEXT if is_text else ANALYTIC[self.function][1]


def analytics(scalar: Scalar) -> tuple[Analytic, ...]:
    """The functions in `scalar` that wait for statistics, inner ones first."""
    return tuple(scalars(scalar, Analytic))
