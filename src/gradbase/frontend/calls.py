"""Calls of ours inside a query: ``PREDICT(m, …)`` and ``ML.<function>(MODEL m, …)``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gradbase.errors import BindError, ParseError, UnsupportedError, near
from gradbase.frontend.addresses import Address, read_address
from gradbase.frontend.arrays import generated_array
from gradbase.frontend.cursor import Cursor, read_value
from gradbase.frontend.structure import Span, Text
from gradbase.frontend.words import (
    LATER_FUNCTIONS,
    PREPROCESSING,
    SCALARS,
    TABLE_FUNCTIONS,
    prediction_calls,
)
from gradbase.ir.analytic import ANALYTIC

STRUCT_ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "PREDICT": ("threshold", "trial_id", "with_version", "keep_original_columns"),
    "EVALUATE": ("threshold", "trial_id", "by_group"),
    "CONFUSION_MATRIX": ("threshold", "trial_id"),
    "COMPARE": ("threshold",),
    "WEIGHTS": ("standardize", "trial_id"),
    "FEATURE_INFO": (),
    "DESCRIBE": (),
}
"""What the STRUCT of a function may hold; of all others: trial_id."""


JUDGING = (
    "EVALUATE", "CONFUSION_MATRIX", "ROC_CURVE", "COMPARE", "WEIGHTS", "CENTROIDS",
    "PRINCIPAL_COMPONENTS", "RECONSTRUCTION_LOSS",
)  # fmt: skip
"""Functions that speak of predictions or of what makes them."""

INSTEAD: Mapping[str, str] = {
    "ADVANCED_WEIGHTS": "ML.WEIGHTS has the weights, without standard errors",
    "DETECT_ANOMALIES": "ML.RECONSTRUCTION_LOSS of an autoencoder, or the distances of ML.PREDICT",
    "DESCRIBE_DATA": "ML.FEATURE_INFO describes the training rows, SUMMARIZE any table",
    "FEATURE_IMPORTANCE": "of a linear model: ML.WEIGHTS(MODEL m, STRUCT(TRUE AS standardize))",
    "VALIDATE_DATA_DRIFT": "ML.SCHEMA_DRIFT(MODEL m, TABLE t)",
    "VALIDATE_DATA_SKEW": "ML.SCHEMA_DRIFT(MODEL m, TABLE t)",
}
"""What to use where a function is not offered."""


@dataclass(frozen=True)
class Argument:
    """One argument of a scalar prediction.

    `kind` is ``star`` (``*``, ``t.*``), ``named`` (``e AS name``) or ``plain``; `value` spans the
    expression; `name` is the name given, or of the table whose columns are meant.
    """

    kind: str
    value: Span
    name: str = ""


@dataclass(frozen=True)
class Call:
    """A call of ours, at `whole`; `data` spans ``TABLE t`` or ``(query)`` of a table function.

    `options` are the values of its STRUCT by name, `other` the second model of ML.COMPARE,
    `thresholds` those of ML.ROC_CURVE. A preprocessing function names no model, and
    `whole` holds its ``OVER ()``.
    """

    function: str
    is_table: bool
    whole: Span
    model: Address
    arguments: tuple[Argument, ...] = ()
    data: Span | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    other: Address | None = None
    thresholds: tuple[float, ...] = ()

    @property
    def threshold(self) -> float | None:
        return self.options.get("threshold")

    @property
    def trial(self) -> int | None:
        return self.options.get("trial_id")

    @property
    def is_analytic(self) -> bool:
        """Whether it stands for statistics over all rows of its query."""
        return self.preprocesses and self.function.lower() in ANALYTIC

    @property
    def predicts(self) -> bool:
        """Whether it asks for what only a model with a network has."""
        return self.function in (*SCALARS, *JUDGING)

    @property
    def preprocesses(self) -> bool:
        """Whether it is a preprocessing function."""
        return self.function in PREPROCESSING


def read_calls(text: Text) -> dict[int, Call]:
    """Every call of ours in `text`, nested ones too, by the index of its first token."""
    starts = prediction_calls(text.tokens)
    return {first: _read_call(text, first, opening) for first, opening in starts}


def _read_call(text: Text, first: int, opening: int) -> Call:
    if opening not in text.pairs:
        raise ParseError("this parenthesis is never closed", at=text.at((first, opening + 1)))
    closing = text.pairs[opening]
    whole = (first, closing + 1)
    scalar = opening == first + 1
    function = text.tokens[opening - 1].upper
    pieces = text.split((opening + 1, closing))
    if not scalar and function in PREPROCESSING:
        arguments = tuple(Argument("plain", span) for span in pieces)
        end = _over(text, function, (first, closing + 1))
        return Call(function, False, (first, end), Address(""), arguments)
    _check_function(text, function, (first, opening), scalar=scalar)
    if not pieces:
        raise ParseError(
            f"{text.slice((first, opening))} needs a model",
            at=text.at(whole),
            hint="PREDICT(model, *)",
        )
    model, rest = _model(text, pieces[0], scalar=scalar), pieces[1:]
    options: dict[str, Any] = {}
    if rest and text.word(rest[-1][0]) == "STRUCT" and text.word(rest[-1][0] + 1) == "(":
        options = _struct(text, function, rest.pop())
    if scalar:
        for option in options.keys() & {"threshold", "with_version"}:
            raise UnsupportedError(
                f"{option} belongs to ML.PREDICT",
                at=text.at(whole),
                hint="PREDICT_PROBA(…) > threshold" if option == "threshold" else None,
            )
        arguments = tuple(_argument(text, span) for span in rest)
        return Call(function, False, whole, model, arguments, options=options)
    other = _other(text, whole, rest) if function == "COMPARE" else None
    thresholds = _thresholds(text, rest) if function == "ROC_CURVE" else ()
    data = _data(text, rest)
    return Call(function, True, whole, model, (), data, options, other, thresholds)


def _other(text: Text, whole: Span, rest: list[Span]) -> Address:
    """The second model of ML.COMPARE, taken from `rest`."""
    if not rest or text.word(rest[0][0]) != "MODEL":
        raise ParseError(
            "ML.COMPARE needs two models", at=text.at(rest[0] if rest else whole),
            hint="ML.COMPARE(MODEL m@1, MODEL m@2, TABLE t)",
        )  # fmt: skip
    return _model(text, rest.pop(0), scalar=False)


def _thresholds(text: Text, rest: list[Span]) -> tuple[float, ...]:
    """``GENERATE_ARRAY(0.1, 0.9, 0.1)`` or ``[0.25, 0.5]``, taken from the end of `rest`."""
    if not rest or text.word(rest[-1][0]) not in ("GENERATE_ARRAY", "[", "ARRAY"):
        return ()
    first, last = rest.pop()
    at = text.at((first, last))
    cursor = Cursor(text.sql, text.tokens[first:last])
    values = generated_array(cursor, at) if text.word(first) == "GENERATE_ARRAY" else None
    values = read_value(cursor) if values is None else values
    cursor.end()
    if not isinstance(values, list) or not values:
        raise BindError("thresholds are a list of numbers", at=at, hint="[0.25, 0.5, 0.75]")
    return tuple(sorted(_checked("threshold", v, at) for v in values))


def _over(text: Text, function: str, span: Span) -> int:
    """The token after a preprocessing function and the ``OVER ()`` that it has or must not have."""
    end = span[1]
    has = text.word(end) == "OVER"
    if function.lower() not in ANALYTIC:
        if has:
            raise ParseError(
                f"ML.{function} looks at one row at a time", at=text.at((end, end + 1)),
                hint="leave OVER () out",
            )  # fmt: skip
        return end
    if not has:
        raise ParseError(
            f"ML.{function} learns from all rows of the query", at=text.at(span),
            hint=f"ML.{function}(…) OVER ()",
        )  # fmt: skip
    if text.word(end + 1) != "(" or text.pairs.get(end + 1) != end + 2:
        raise ParseError(
            f"OVER of ML.{function} is empty: the statistics are over all rows",
            at=text.at((end, text.after(end + 1))),
            hint="OVER ()",
        )
    return end + 3


def _check_function(text: Text, function: str, name: Span, *, scalar: bool) -> None:
    if scalar or function in TABLE_FUNCTIONS:
        return
    if function in LATER_FUNCTIONS:
        raise UnsupportedError(
            f"ML.{function} is not offered yet",
            at=text.at(name),
            hint=INSTEAD.get(function, "it comes in a later release"),
        )
    if function in SCALARS:
        raise BindError(
            f"ML.{function} is no table function",
            at=text.at(name),
            hint=f"write {function}(model, *)",
        )
    raise BindError(
        f"there is no function ML.{function}",
        at=text.at(name),
        hint=near(function, (*TABLE_FUNCTIONS, *PREPROCESSING, *LATER_FUNCTIONS)),
    )


def _model(text: Text, span: Span, *, scalar: bool) -> Address:
    first, last = span
    if text.word(first) == "MODEL" and last - first > 1:
        first += 1
    elif not scalar:
        raise ParseError("expected MODEL and a model's name", at=text.at(span))
    cursor = Cursor(text.sql, text.tokens[first:last])
    address = read_address(cursor)
    if cursor.token is not None:
        raise ParseError("a model is named by its name, or name@version", at=text.at((first, last)))
    return address


def _struct(text: Text, function: str, span: Span) -> dict[str, Any]:
    """``STRUCT(0.5 AS threshold, 3 AS trial_id)``."""
    known = STRUCT_ARGUMENTS.get(function, ("trial_id",))
    found: dict[str, Any] = {}
    for first, last in text.split((span[0] + 2, span[1] - 1)):
        name, at = text.tokens[last - 1].name.lower(), text.at((first, last))
        if last - first < 3 or text.word(last - 2) != "AS" or name not in known:
            what = " and ".join(f"value AS {n}" for n in known) or "nothing"
            raise BindError(
                f"STRUCT takes {what} here",
                at=at,
                hint=near(name, known),
            )
        value = read_value(Cursor(text.sql, text.tokens[first : last - 2]))
        found[name] = _checked(name, value, at)
    return found


def _checked(name: str, value: object, at: str) -> Any:
    if name in ("with_version", "standardize", "keep_original_columns", "by_group"):
        if not isinstance(value, bool):
            raise BindError(f"`{name}` is TRUE or FALSE", at=at)
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BindError(f"`{name}` is a number", at=at)
    if name == "threshold" and not 0 <= value <= 1:
        raise BindError(f"threshold is in [0, 1], found {value:g}", at=at)
    if name == "trial_id":
        if value != int(value):
            raise BindError(f"trial_id is a whole number, found {value:g}", at=at)
        return int(value)
    return value


def _argument(text: Text, span: Span) -> Argument:
    first, last = span
    if text.word(last - 1) == "*" and (last - first == 1 or text.word(last - 2) == "."):
        return Argument("star", span, text.tokens[last - 3].name if last - first > 1 else "")
    if last - first > 2 and text.word(last - 2) == "AS" and text.tokens[last - 1].is_name:
        return Argument("named", (first, last - 2), text.tokens[last - 1].name)
    if "*" in (text.word(first), text.word(first + 2) if text.word(first + 1) == "." else ""):
        raise UnsupportedError(
            f"`{text.slice(span)}`: EXCLUDE, REPLACE, RENAME are not offered inside a prediction",
            at=text.at(span),
            hint="columns that the model does not read are ignored; PREDICT(model, *, x + 1 AS x) "
            "gives it another value for x",
        )
    return Argument("plain", span)


def _data(text: Text, rest: list[Span]) -> Span | None:
    if not rest:
        return None
    if len(rest) > 1:
        raise ParseError(
            "expected one relation behind the model",
            at=text.at(rest[1]),
            hint="TABLE t or (SELECT …)",
        )
    first, last = rest[0]
    if text.word(first) == "TABLE" or (text.is_subquery(first) and text.after(first) == last):
        return rest[0]
    raise ParseError(
        f"expected TABLE name or (query), found `{text.slice(rest[0])}`",
        at=text.at(rest[0]),
        hint=f"TABLE {text.slice(rest[0])}" if last - first == 1 else None,
    )
