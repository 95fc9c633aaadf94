"""``ML.STANDARD_SCALER(x) OVER ()`` and kin: calls of preprocessing functions become scalars.

The first argument is an expression, the others are constants. Values are cast where engine and
program would read their type differently (decimals, enums, vectors of fixed length).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradbase.errors import BindError
from gradbase.frontend.calls import Call
from gradbase.frontend.dialect import type_sql
from gradbase.frontend.preprocessing_options import read_options
from gradbase.frontend.select_list import alias_of
from gradbase.frontend.structure import Span, Text
from gradbase.ir.analytic import ANALYTIC, Analytic
from gradbase.ir.preprocessing import (
    NUMBERS,
    TEXTS,
    Bucketize,
    HashBucket,
    NGrams,
    Normalize,
    feature_cross,
    member,
    polynomial_expand,
)
from gradbase.ir.scalar import Scalar, SqlScalar
from gradbase.ir.types import FLOAT64, INT64, TEXT, SqlType

_Of = Callable[[Span], Scalar]


def is_analytic(function: str) -> bool:
    """Whether a function (as in SQL, without ML.) needs ``OVER ()``."""
    return function.lower() in ANALYTIC


def preprocessing_scalar(text: Text, call: Call, scalar_of: _Of) -> Scalar:
    """The scalar that a call of a preprocessing function means.

    Parameters
    ----------
    text : Text
    call : Call
    scalar_of : function of Span
        Reads an expression.

    Raises
    ------
    BindError
        An argument is missing, not allowed, or of another type; the call is underlined.
    """
    if not call.arguments:
        raise BindError(f"ML.{call.function} needs an argument", at=text.at(call.whole))
    options = read_options(text, call)
    try:
        return _scalar(text, call, scalar_of, options)
    except BindError as error:
        if error.at is not None:
            raise
        raise BindError(error.message, at=text.at(call.whole), hint=error.hint) from None


def row_spans(text: Text, call: Call) -> list[Span]:
    """The expressions in a call that are values of a row."""
    first = [a.value for a in call.arguments[:1]]
    if call.function not in ("FEATURE_CROSS", "POLYNOMIAL_EXPAND") or not first:
        return first
    pieces = _struct_pieces(text, first[0])
    return first if pieces is None else [span for _, span in pieces]


def stub_type(function: str) -> SqlType:
    """The type of a function's result, as far as its name tells."""
    if is_analytic(function):
        return ANALYTIC[function.lower()][1]
    known = {"NORMALIZER": NUMBERS, "BUCKETIZE": TEXT, "HASH_BUCKETIZE": INT64, "NGRAMS": TEXTS}
    return known.get(function, SqlType("null"))


def _scalar(text: Text, call: Call, scalar_of: _Of, options: list[Any]) -> Scalar:
    span = call.arguments[0].value
    match call.function:
        case "FEATURE_CROSS" | "POLYNOMIAL_EXPAND":
            names, args = _struct(text, span, scalar_of)
            if call.function == "FEATURE_CROSS":
                return feature_cross(names, tuple(as_text(a) for a in args), options[0])
            return polynomial_expand(names, tuple(as_number(a) for a in args), options[0])
        case "BUCKETIZE":
            points, exclude, form = options
            return Bucketize(as_number(scalar_of(span)), points[1:-1] if exclude else points, form)
        case "NORMALIZER":
            return Normalize(_as_list(scalar_of(span), NUMBERS), options[0])
        case "HASH_BUCKETIZE":
            return HashBucket(as_text(scalar_of(span)), options[0])
        case "NGRAMS":
            (low, high), separator = options
            arg = _as_list(scalar_of(span), TEXTS)
            return NGrams(arg, low, high, separator)
        case _:
            return _analytic(call, scalar_of(span), options)


def _analytic(call: Call, arg: Scalar, options: list[Any]) -> Scalar:
    function = call.function.lower()
    match ANALYTIC[function][0]:
        case "number":
            arg = as_number(arg)
        case "text":
            arg = as_text(arg)
        case "texts":
            arg = _as_list(arg, TEXTS)
        case _:
            arg = as_text(arg) if arg.type.is_text else as_number(arg)
    flat: list[Any] = []
    for value in options:
        flat += value if isinstance(value, tuple) else [value]
    return Analytic(function, arg, tuple(flat))


# -- values of the row ---------------------------------------------------------------------------


def as_number(arg: Scalar) -> Scalar:
    """`arg`, cast to DOUBLE where it is wider than 64 bits."""
    wide = arg.type.kind in ("decimal", "int128", "uint128", "null")
    return SqlScalar(("CAST(", f" AS {type_sql(FLOAT64)})"), (arg,), FLOAT64) if wide else arg


def as_text(arg: Scalar) -> Scalar:
    """`arg`, cast to VARCHAR where it is an enum."""
    odd = arg.type.kind in ("enum", "null")
    return SqlScalar(("CAST(", f" AS {type_sql(TEXT)})"), (arg,), TEXT) if odd else arg


def _as_list(arg: Scalar, to: SqlType) -> Scalar:
    """`arg` as a list of `to`'s elements; what cannot be one is left to the check of its type."""
    of, element = arg.type, arg.type.element
    assert to.element is not None
    alike = of.kind == "null"
    if of.kind in ("list", "array") and element is not None:
        wanted = element.is_text if to.element.is_text else element.is_numeric
        alike = wanted or element.kind == "null"
    return SqlScalar(("CAST(", f" AS {type_sql(to)})"), (arg,), to) if alike and of != to else arg


def _struct(text: Text, span: Span, scalar_of: _Of) -> tuple[tuple[str, ...], tuple[Scalar, ...]]:
    """Names and values of ``STRUCT(a, b + 1 AS c)`` or of any expression that is a struct."""
    pieces = _struct_pieces(text, span)
    if pieces is not None:
        return tuple(n for n, _ in pieces), tuple(scalar_of(s) for _, s in pieces)
    found = scalar_of(span)
    if found.type.kind != "struct":
        raise BindError(
            f"expected a struct, found {found.type}", at=text.at(span), hint="STRUCT(a, b AS name)"
        )
    names = tuple(n for n, _ in found.type.fields)
    return names, tuple(member(found, n) for n in names)


def _struct_pieces(text: Text, span: Span) -> list[tuple[str, Span]] | None:
    first, last = span
    if text.word(first) != "STRUCT" or text.word(first + 1) != "(":
        return None
    if text.after(first + 1) != last:
        return None
    found: list[tuple[str, Span]] = []
    for piece in text.split((first + 2, last - 1)):
        name, expression = alias_of(text, piece)
        if not name and not text.tokens[piece[1] - 1].is_name:
            raise BindError(
                f"`{text.slice(piece)}` needs a name here", at=text.at(piece), hint="… AS name"
            )
        found.append((name or text.tokens[piece[1] - 1].name, expression))
    return found
