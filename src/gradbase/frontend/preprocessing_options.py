"""The constant arguments of preprocessing functions: a table, and reading them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NoReturn

from gradbase.errors import BindError, ParseError, near
from gradbase.frontend.calls import Call
from gradbase.frontend.cursor import Cursor, read_string, read_value
from gradbase.frontend.structure import Span, Text
from gradbase.ir.preprocessing import FORMATS

TOP_K, THRESHOLD = 32_000, 5
MOST_WORDS, MOST_TERMS = 1_000_000, 1_048_576
MOST_BUCKETS = 10_000


@dataclass(frozen=True)
class Option:
    """A constant argument: its `name`, `kind` (int, bool, float, text, points, …) and default.

    `default` None: it must be given. Numbers lie in [low, high]; texts are one of `values`.
    """

    name: str
    kind: str
    default: Any = None
    low: float = -math.inf
    high: float = math.inf
    values: tuple[str, ...] = ()


_TOP_K = Option("top_k", "int", TOP_K, 1, MOST_WORDS - 1)
_TERMS = Option("top_k", "int", TOP_K, 1, MOST_TERMS)
_THRESHOLD = Option("frequency_threshold", "int", THRESHOLD, 0)
_FORMAT = Option("output_format", "text", FORMATS[0], values=FORMATS)

SIGNATURES: dict[str, tuple[Option, ...]] = {
    "STANDARD_SCALER": (),
    "MIN_MAX_SCALER": (),
    "MAX_ABS_SCALER": (),
    "ROBUST_SCALER": (
        Option("quantile_range", "percents", (25, 75)),
        Option("with_median", "bool", True),
        Option("with_quantile_range", "bool", True),
    ),
    "NORMALIZER": (Option("p", "float", 2.0, 0.0),),
    "BUCKETIZE": (
        Option("array_split_points", "points"),
        Option("exclude_boundaries", "bool", False),
        _FORMAT,
    ),
    "QUANTILE_BUCKETIZE": (Option("num_buckets", "int", None, 1, MOST_BUCKETS), _FORMAT),
    "ONE_HOT_ENCODER": (
        Option("drop", "text", "none", values=("none", "most_frequent")),
        _TOP_K,
        _THRESHOLD,
    ),
    "LABEL_ENCODER": (_TOP_K, _THRESHOLD),
    "MULTI_HOT_ENCODER": (_TOP_K, _THRESHOLD),
    "IMPUTER": (Option("strategy", "text", None, values=("mean", "median", "most_frequent")),),
    "FEATURE_CROSS": (Option("degree", "int", 2),),
    "POLYNOMIAL_EXPAND": (Option("degree", "int", 2),),
    "HASH_BUCKETIZE": (Option("hash_bucket_size", "int", None, 0, 2**63 - 1),),
    "NGRAMS": (Option("range", "range"), Option("separator", "text", " ")),
    "BAG_OF_WORDS": (_TERMS, _THRESHOLD),
    "TF_IDF": (_TERMS, _THRESHOLD),
}
"""The constant arguments of each function, in order; the first argument is a value of the row."""


def read_options(text: Text, call: Call) -> list[Any]:
    """Values of a call's constant arguments in the order of its signature, defaults filled in.

    Raises
    ------
    BindError
        One is missing, no constant, of another kind or out of its range; it is underlined.
    """
    signature = SIGNATURES[call.function]
    given = [a.value for a in call.arguments[1:]]
    if len(given) > len(signature):
        named = ", ".join(o.name for o in signature)
        raise BindError(
            f"ML.{call.function} takes {f'a value and {named}' if named else 'one value'}, "
            f"{len(given) + 1} arguments were given",
            at=text.at(given[len(signature)]),
        )
    found: list[Any] = []
    for i, option in enumerate(signature):
        if i < len(given):
            found.append(_Constant(text, call, option, given[i]).read())
        elif option.default is None:
            raise BindError(f"ML.{call.function} needs {option.name}", at=text.at(call.whole))
        else:
            found.append(option.default)
    return found


@dataclass(frozen=True)
class _Constant:
    """Reads one constant argument."""

    text: Text
    call: Call
    option: Option
    span: Span

    def read(self) -> Any:
        value, option = self._literal(), self.option
        match option.kind:
            case "bool" if isinstance(value, bool):
                return value
            case "text" if isinstance(value, str):
                return self._one_of(value)
            case "int" if _is_whole(value):
                return self._within(value)
            case "float" if _is_number(value) or str(value).lower() in ("inf", "+inf", "infinity"):
                return self._within(float(value))
            case "points" if isinstance(value, list):
                return self._points(value)
            case "percents" if isinstance(value, list):
                return self._percents(value)
            case "range" if _is_whole(value):
                return (value, value)
            case "range" if isinstance(value, list) and len(value) == 2:
                if all(map(_is_whole, value)):
                    return tuple(value)
            case _:
                pass
        return self.fail(value)

    def _literal(self) -> Any:
        """A constant; ``CAST('+inf' AS …)`` and ``'inf'::…`` are what is cast."""
        text, (first, last) = self.text, self.span
        if text.word(first) == "CAST" and text.word(first + 1) == "(":
            first += 2
        if last - first > 1 and text.word(first + 1) in ("AS", "::"):
            return read_string(text.tokens[first].text)
        cursor = Cursor(text.sql, text.tokens[first:last])
        try:
            value = read_value(cursor)
        except ParseError:
            return self.fail(None)
        return value if cursor.token is None else self.fail(None)

    def _one_of(self, value: str) -> str:
        values = self.option.values
        found = value.lower() if values else value
        if values and found not in values:
            raise BindError(
                f"{self.option.name} of ML.{self.call.function} is one of {', '.join(values)}, "
                f"found '{value}'",
                at=self.text.at(self.span),
                hint=near(value, values),
            )
        return found

    def _within(self, value: float) -> float:
        if not self.option.low <= value <= self.option.high:
            bounds = f"at least {_shown(self.option.low)}"
            if self.option.high != math.inf:
                bounds = f"from {_shown(self.option.low)} to {_shown(self.option.high)}"
            self._refuse(f"is {bounds}, found {_shown(value)}")
        return value

    def _points(self, values: list[Any]) -> tuple[float, ...]:
        needed = 2 if len(self.call.arguments) > 2 and self._excludes() else 1
        if len(values) < needed or not all(map(_is_number, values)):
            self._refuse(f"is an array of {needed} or more numbers")
        return tuple(float(v) for v in values)

    def _excludes(self) -> bool:
        first, last = self.call.arguments[2].value
        return last - first == 1 and self.text.word(first) == "TRUE"

    def _percents(self, values: list[Any]) -> tuple[int, ...]:
        whole = [v for v in values if _is_whole(v)]
        if len(values) != 2 or len(whole) != 2 or not 0 < whole[0] < whole[1] < 100:
            self._refuse(f"is two percents [low, high] with 0 < low < high < 100, found {values}")
        return tuple(whole)

    def fail(self, value: Any) -> NoReturn:
        kinds = {
            "int": "a whole number", "bool": "TRUE or FALSE", "float": "a number", "text": "a text",
            "points": "an array of numbers", "percents": "an array of two numbers",
            "range": "a whole number or an array of two",
        }  # fmt: skip
        shown = self.text.slice(self.span) if value is None else repr(value)
        self._refuse(f"is {kinds[self.option.kind]}, a constant, found {shown}")

    def _refuse(self, what: str) -> NoReturn:
        at = self.text.at(self.span)
        raise BindError(f"{self.option.name} of ML.{self.call.function} {what}", at=at)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _shown(number: float) -> str:
    return f"{int(number):,}" if float(number).is_integer() else f"{number:g}"
