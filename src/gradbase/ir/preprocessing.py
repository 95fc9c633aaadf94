"""Preprocessing functions of BigQuery ML as scalars, everything learnt being a constant.

They run in the engine's SQL or on Arrow batches in the program, with one meaning: the docstrings
here. NULL gives NULL unless said otherwise; NaN passes through.
"""

from __future__ import annotations

import functools
import itertools
import math

from gradbase.errors import BindError, near
from gradbase.ir.node import node
from gradbase.ir.scalar import Literal, Scalar
from gradbase.ir.types import FLOAT64, INT64, TEXT, SqlType, list_of, struct_of

SPARSE = list_of(struct_of(index=INT64, value=FLOAT64))
"""A sparse vector: (index, value) pairs."""
NUMBERS, TEXTS = list_of(FLOAT64), list_of(TEXT)
FORMATS = ("bucket_names", "bucket_ranges", "bucket_ranges_json")
MOST_CROSSED, HIGHEST_DEGREE = 10, 4


class Preprocessing(Scalar):
    """A scalar that engine and program both know how to compute."""


def expect(what: str, arg: Scalar, *, fits: bool, wanted: str) -> None:
    """BindError where the type of an argument does not fit; an untyped NULL always does."""
    if not fits and arg.type.kind != "null":
        raise BindError(f"{what} takes {wanted}, found {arg.type}", hint="CAST it")


def expect_number(what: str, arg: Scalar) -> None:
    """See `expect`."""
    expect(what, arg, fits=arg.type.is_numeric, wanted="a number")


def expect_text(what: str, arg: Scalar) -> None:
    """See `expect`."""
    expect(what, arg, fits=arg.type.is_text, wanted="text")


def expect_texts(what: str, arg: Scalar) -> None:
    """See `expect`."""
    element = arg.type.element
    fits = arg.type.kind in ("list", "array") and element is not None and element.is_text
    expect(what, arg, fits=fits, wanted="an array of text")


def expect_numbers(what: str, arg: Scalar) -> None:
    """See `expect`."""
    element = arg.type.element
    fits = arg.type.kind in ("list", "array") and element is not None and element.is_numeric
    expect(what, arg, fits=fits, wanted="an array of numbers")


# -- numbers -------------------------------------------------------------------------------------


@node
class Rescale(Preprocessing):
    """``(arg - shift) / scale`` in float64; where `clipped`, below 0 is 0 and above 1 is 1."""

    arg: Scalar
    shift: float
    scale: float
    clipped: bool = False

    def __post_init__(self) -> None:
        expect_number("Rescale", self.arg)
        if not (math.isfinite(self.shift) and math.isfinite(self.scale) and self.scale != 0):
            raise BindError(f"nothing is rescaled by {self.shift} and {self.scale}")

    @property
    def type(self) -> SqlType:
        return FLOAT64


@node
class Bucketize(Preprocessing):
    """The bucket of a number: bucket i (from 1) ends before ``points[i - 1]``; NaN is NULL.

    `form`: ``bucket_names`` (``bin_2``), ``bucket_ranges`` (``[1, 2.5)``) or ``bucket_ranges_json``
    (``{"start": "1", "end": "2.5"}``).
    """

    arg: Scalar
    points: tuple[float, ...]
    form: str = "bucket_names"

    def __post_init__(self) -> None:
        expect_number("ML.BUCKETIZE", self.arg)
        rising = all(a < b for a, b in itertools.pairwise(self.points))
        if not rising or not all(map(math.isfinite, self.points)):
            shown = ", ".join(map(number_text, self.points[:8]))
            raise BindError(
                f"ML.BUCKETIZE splits at finite numbers, lowest to highest, found [{shown}]"
            )
        if self.form not in FORMATS:
            raise BindError(
                f"ML.BUCKETIZE has no format '{self.form}'; there are {', '.join(FORMATS)}",
                hint=near(self.form, FORMATS),
            )

    @property
    def type(self) -> SqlType:
        return TEXT

    @functools.cached_property
    def labels(self) -> tuple[str, ...]:
        """Names of the buckets, in order."""
        ends = [-math.inf, *self.points, math.inf]
        if self.form == "bucket_names":
            return tuple(f"bin_{i}" for i in range(1, len(ends)))
        if self.form == "bucket_ranges":
            starts = ["(-inf", *(f"[{number_text(p)}" for p in self.points)]
            stops = [_edge(e, "+inf") for e in ends[1:]]
            return tuple(f"{a}, {b})" for a, b in zip(starts, stops, strict=True))
        starts = [_edge(e, "-Infinity") for e in ends[:-1]]
        stops = [_edge(e, "Infinity") for e in ends[1:]]
        pairs = zip(starts, stops, strict=True)
        return tuple(f'{{"start": "{a}", "end": "{b}"}}' for a, b in pairs)


def _edge(value: float, infinite: str) -> str:
    return infinite if math.isinf(value) else number_text(value)


def number_text(value: float) -> str:
    """A finite number as short as it reads back, whole ones without a point.

    Examples
    --------
    >>> number_text(2.0), number_text(0.1), number_text(1e300)
    ('2', '0.1', '1e+300')
    """
    whole = value == int(value) and abs(value) < 1e15
    return str(int(value)) if whole else repr(float(value))


@node
class Impute(Preprocessing):
    """`arg`, or `value` where it is NULL or NaN; numbers are float64."""

    arg: Scalar
    value: Literal

    @property
    def type(self) -> SqlType:
        return TEXT if self.arg.type.is_text else FLOAT64


@node
class Normalize(Preprocessing):
    """An array divided by its `p`-norm; NULL elements stay and do not count, norm 0 divides by 1.

    p = 0: the number of elements that are not 0; p = inf: the largest magnitude. Elements are added
    from first to last.
    """

    arg: Scalar
    p: float = 2.0

    def __post_init__(self) -> None:
        expect_numbers("ML.NORMALIZER", self.arg)
        if not (self.p == 0 or self.p >= 1):
            raise BindError(f"ML.NORMALIZER has p = 0 or p >= 1, found {self.p:g}")

    @property
    def type(self) -> SqlType:
        return NUMBERS


@node
class Product(Preprocessing):
    """Product of numbers in float64, from first to last."""

    args: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        for arg in self.args:
            expect_number("ML.POLYNOMIAL_EXPAND", arg)

    @property
    def type(self) -> SqlType:
        return FLOAT64


# -- texts ---------------------------------------------------------------------------------------


@node
class Cross(Preprocessing):
    """Texts joined by ``_``; NULL where one is NULL."""

    args: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        for arg in self.args:
            expect_text("ML.FEATURE_CROSS", arg)

    @property
    def type(self) -> SqlType:
        return TEXT


@node
class HashBucket(Preprocessing):
    """``h % buckets``, h where `buckets` is 0: h is the first 60 bits of the text's MD5."""

    arg: Scalar
    buckets: int

    def __post_init__(self) -> None:
        expect_text("ML.HASH_BUCKETIZE", self.arg)
        if self.buckets < 0:
            raise BindError(f"ML.HASH_BUCKETIZE has 0 or more buckets, found {self.buckets}")

    @property
    def type(self) -> SqlType:
        return INT64


@node
class NGrams(Preprocessing):
    """Runs of `low` to `high` neighbours of an array joined by `separator`, by place, then length.

    A run with a NULL in it is left out.
    """

    arg: Scalar
    low: int
    high: int
    separator: str = " "

    def __post_init__(self) -> None:
        expect_texts("ML.NGRAMS", self.arg)
        if not 1 <= self.low <= self.high:
            raise BindError(
                f"ML.NGRAMS has a range from 1 or more upwards, found [{self.low}, {self.high}]"
            )

    @property
    def type(self) -> SqlType:
        return TEXTS


# -- structs -------------------------------------------------------------------------------------


@node
class Struct(Preprocessing):
    """``{names[i]: exprs[i], …}``, never NULL itself."""

    names: tuple[str, ...]
    exprs: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        folded = [n.casefold() for n in self.names]
        twice = sorted({n for n in self.names if folded.count(n.casefold()) > 1})
        if twice or not self.names:
            raise BindError(f"fields of a struct have distinct names, found {', '.join(twice)}")

    @property
    def type(self) -> SqlType:
        pairs = zip(self.names, self.exprs, strict=True)
        return SqlType("struct", fields=tuple((n, e.type) for n, e in pairs))


@node
class Member(Preprocessing):
    """Field `name` of a struct.  SQL: ``(arg).name``."""

    arg: Scalar
    name: str

    @functools.cached_property
    def type(self) -> SqlType:  # type: ignore[override]
        fields = dict(self.arg.type.fields)
        if self.name not in fields:
            raise BindError(
                f"{self.arg.type} has no field `{self.name}`", hint=near(self.name, fields)
            )
        return fields[self.name]


def member(of: Scalar, name: str) -> Scalar:
    """Field `name` of `of`, taken out where the struct is made right there."""
    if isinstance(of, Struct):
        return of.exprs[of.names.index(name)]
    return Member(of, name)


def feature_cross(names: tuple[str, ...], args: tuple[Scalar, ...], degree: int) -> Struct:
    """All crosses of 2 to `degree` of the texts: ``a_b``, ``a_b_c``, ``a_c``, ``b_c``."""
    _check_crossed("ML.FEATURE_CROSS", names, degree, low=2)
    picked = _combinations(len(names), degree, repeated=False)
    chosen = [p for p in picked if len(p) > 1]
    if not chosen:
        raise BindError(
            f"ML.FEATURE_CROSS crosses two or more features, found {', '.join(names) or 'none'}"
        )
    crosses = tuple(Cross(tuple(args[i] for i in p)) for p in chosen)
    return Struct(tuple("_".join(names[i] for i in p) for p in chosen), crosses)


def polynomial_expand(names: tuple[str, ...], args: tuple[Scalar, ...], degree: int) -> Struct:
    """All products of 1 to `degree` of the numbers: ``a``, ``a_a``, ``a_b``, ``b``, ``b_b``."""
    _check_crossed("ML.POLYNOMIAL_EXPAND", names, degree, low=1)
    picked = _combinations(len(names), degree, repeated=True)
    products = tuple(Product(tuple(args[i] for i in p)) for p in picked)
    return Struct(tuple("_".join(names[i] for i in p) for p in picked), products)


def _check_crossed(what: str, names: tuple[str, ...], degree: int, *, low: int) -> None:
    if len(names) > MOST_CROSSED:
        raise BindError(f"{what} takes at most {MOST_CROSSED} features, found {len(names)}")
    if not low <= degree <= HIGHEST_DEGREE:
        raise BindError(f"{what} has a degree from {low} to {HIGHEST_DEGREE}, found {degree}")


def _combinations(count: int, degree: int, *, repeated: bool) -> list[tuple[int, ...]]:
    """Rising sequences of up to `degree` numbers below `count`, each before those it starts."""
    found: list[tuple[int, ...]] = []
    stack: list[tuple[int, ...]] = [(i,) for i in reversed(range(count))]
    while stack:
        picked = stack.pop()
        found.append(picked)
        if len(picked) < degree:
            first = picked[-1] if repeated else picked[-1] + 1
            stack.extend((*picked, i) for i in reversed(range(first, count)))
    return found
