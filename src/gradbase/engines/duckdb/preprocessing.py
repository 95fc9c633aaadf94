"""Preprocessing functions as DuckDB's SQL; what they mean stands at their nodes.

A value used several times is bound by a lambda over a list of one (`_let`); where its text is
short it is repeated instead, which DuckDB computes once and three times as fast. Parameters of
lambdas are called ``__gb_…``: inside a struct DuckDB prefers a column of the same name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from gradbase.engines.base import quote_identifier
from gradbase.engines.duckdb.literals import literal
from gradbase.errors import UnsupportedError
from gradbase.ir.node import Node
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
from gradbase.ir.types import FLOAT64, TEXT
from gradbase.ir.vocabulary import (
    LabelCode,
    MultiHotCode,
    OneHotCode,
    TermCounts,
    TermWeights,
    Vocabulary,
)

_SHORT = 80
_OFTEN = "CAST(len(list_filter(__gb_k, lambda __gb_d: __gb_d = __gb_c)) AS DOUBLE)"
"""How often the code ``__gb_c`` is among the codes ``__gb_k``."""


def preprocessing_sql(node: Preprocessing, done: Mapping[Node, str]) -> str:
    """SQL of a function over the SQL of its arguments in `done`.

    Raises
    ------
    UnsupportedError
        Its vocabulary is a blob.
    """
    match node:
        case Rescale():
            return _rescale(node, _double(done[node.arg]))
        case Bucketize():
            return _bucketize(node, _double(done[node.arg]))
        case Impute():
            return _impute(node, done[node.arg])
        case Normalize():
            return _normalize(node, done[node.arg])
        case Product(args=args):
            return f"({' * '.join(_double(done[a]) for a in args)})"
        case Cross(args=args):
            return f"({_joined([_text(done[a]) for a in args])})"
        case HashBucket(buckets=buckets):
            digits = f"substr(md5({_text(done[node.arg])}), 1, 15)"
            rest = f" % {buckets:d}" if buckets else ""
            return f"(CAST('0x' || {digits} AS BIGINT){rest})"
        case NGrams():
            return _ngrams(node, done[node.arg])
        case Struct(names=names, exprs=exprs):
            pairs = zip(names, exprs, strict=True)
            return f"{{{', '.join(f'{_field(n)}: {done[e]}' for n, e in pairs)}}}"
        case Member(arg=arg, name=name):
            return f"({done[arg]}).{quote_identifier(name)}"
        case _:
            return _coded(node, done)


def _let(value: str, name: str, body: str) -> str:
    """`body` with `value` computed once under `name`."""
    return f"list_transform([{value}], lambda {name}: {body})[1]"


def _repeated(value: str, body: Callable[[str], str]) -> str:
    """``body(value)``, computed once."""
    return body(value) if len(value) <= _SHORT else _let(value, "__gb_v", body("__gb_v"))


def _double(value: str) -> str:
    return f"CAST({value} AS DOUBLE)"


def _text(value: str) -> str:
    return f"CAST({value} AS VARCHAR)"


def _constant(value: float) -> str:
    return literal(value, FLOAT64)


def _joined(values: list[str]) -> str:
    return " || '_' || ".join(values)


def _field(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"


# -- numbers -------------------------------------------------------------------------------------


def _rescale(node: Rescale, value: str) -> str:
    scaled = f"(({value} - {_constant(node.shift)}) / {_constant(node.scale)})"
    if not node.clipped:
        return scaled
    # NaN is larger than every number here, and should stay.

    def clipped(v: str) -> str:
        above = f"WHEN {v} > 1 AND NOT isnan({v}) THEN 1.0::DOUBLE"
        return f"CASE WHEN {v} < 0 THEN 0.0::DOUBLE {above} ELSE {v} END"

    return _repeated(scaled, clipped)


def _bucketize(node: Bucketize, value: str) -> str:
    names = [literal(label, TEXT) for label in node.labels]
    ends = [(_constant(p), name) for p, name in zip(node.points, names, strict=False)]

    def cases(v: str) -> str:
        below = "".join(f" WHEN {v} < {end} THEN {name}" for end, name in ends)
        return f"CASE WHEN {v} IS NULL OR isnan({v}) THEN NULL{below} ELSE {names[-1]} END"

    return _repeated(value, cases)


def _impute(node: Impute, value: str) -> str:
    constant = literal(node.value.value, node.type)
    if node.arg.type.is_text:
        return f"coalesce({_text(value)}, {constant})"
    return _repeated(
        _double(value),
        lambda v: f"CASE WHEN {v} IS NULL OR isnan({v}) THEN {constant} ELSE {v} END",
    )


def _normalize(node: Normalize, value: str) -> str:
    present = "list_filter(__gb_a, lambda __gb_x: __gb_x IS NOT NULL)"
    match node.p:
        case 0:
            norm = f"CAST(len(list_filter({present}, lambda __gb_x: __gb_x <> 0)) AS DOUBLE)"
        case math.inf:
            norm = f"list_max(list_transform({present}, lambda __gb_x: abs(__gb_x)))"
        case 1:
            norm = _sum(f"list_transform({present}, lambda __gb_x: abs(__gb_x))")
        case 2:
            norm = f"sqrt({_sum(f'list_transform({present}, lambda __gb_x: __gb_x * __gb_x)')})"
        case p:
            powers = f"list_transform({present}, lambda __gb_x: pow(abs(__gb_x), {_constant(p)}))"
            norm = f"pow({_sum(powers)}, {_constant(1 / p)})"
    # The norm of nothing is NULL.
    divisor = f"coalesce(nullif({norm}, 0), 1.0::DOUBLE)"
    body = _let(divisor, "__gb_n", "list_transform(__gb_a, lambda __gb_x: __gb_x / __gb_n)")
    body = f"CASE WHEN __gb_a IS NULL THEN NULL ELSE {body} END"
    return _let(f"CAST({value} AS DOUBLE[])", "__gb_a", body)


def _sum(values: str) -> str:
    """The sum from first to last."""
    return (
        f"list_reduce(list_prepend(0.0::DOUBLE, {values}), lambda __gb_s, __gb_x: __gb_s + __gb_x)"
    )


# -- texts ---------------------------------------------------------------------------------------


def _ngrams(node: NGrams, value: str) -> str:
    run = "__gb_w[__gb_i : __gb_i + __gb_k - 1]"
    joined = f"array_to_string({run}, {literal(node.separator, TEXT)})"
    whole = f"__gb_i + __gb_k - 1 <= len(__gb_w) AND list_count({run}) = __gb_k"
    sizes = f"list_filter(range({node.low:d}, {node.high + 1:d}), lambda __gb_k: {whole})"
    at_place = f"list_transform({sizes}, lambda __gb_k: {joined})"
    places = f"list_transform(range(1, len(__gb_w) + 1), lambda __gb_i: {at_place})"
    body = f"CASE WHEN __gb_w IS NULL THEN NULL ELSE flatten({places}) END"
    return _let(f"CAST({value} AS VARCHAR[])", "__gb_w", body)


# -- vocabularies --------------------------------------------------------------------------------


def _coded(node: Preprocessing, done: Mapping[Node, str]) -> str:
    match node:
        case LabelCode(arg=arg, vocabulary=vocabulary):
            return _code(_text(done[arg]), vocabulary)
        case OneHotCode(arg=arg, vocabulary=vocabulary, dropped=dropped):
            value = f"CASE WHEN __gb_c = {dropped:d} THEN 0.0::DOUBLE ELSE 1.0::DOUBLE END"
            pair = _pair("__gb_c", value if dropped else "1.0::DOUBLE")
            return f"list_transform([{_code(_text(done[arg]), vocabulary)}], lambda __gb_c: {pair})"
        case MultiHotCode(arg=arg, vocabulary=vocabulary):
            known = "list_sort(list_distinct(list_filter(__gb_k, lambda __gb_c: __gb_c > 0)))"
            unknown = "list_slice([0::BIGINT], 1, CAST(list_contains(__gb_k, 0) AS BIGINT))"
            codes = f"list_concat({known}, {unknown})"
            pairs = f"list_transform({codes}, lambda __gb_c: {_pair('__gb_c', '1.0::DOUBLE')})"
            return _over_codes(done[arg], vocabulary, pairs)
        case TermCounts(arg=arg, vocabulary=vocabulary):
            return _over_codes(done[arg], vocabulary, _each_code(_pair("__gb_c", _OFTEN)))
        case TermWeights(arg=arg, vocabulary=vocabulary):
            weights = ", ".join(_constant(w) for w in vocabulary.weights)
            weighed = f"({_OFTEN} / len(__gb_k)) * ([{weights}])[__gb_c + 1]"
            return _over_codes(done[arg], vocabulary, _each_code(_pair("__gb_c", weighed)))
    raise UnsupportedError(f"DuckDB cannot compute {type(node).__name__}")


def _code(word: str, vocabulary: Vocabulary) -> str:
    if vocabulary.blob is not None:
        raise UnsupportedError(
            f"a vocabulary of {vocabulary.count:,} words is looked up in the program, not in SQL"
        )
    if not vocabulary.words:
        return "0::BIGINT"
    words = ", ".join(literal(w, TEXT) for w in vocabulary.words)
    return f"CAST(coalesce(list_position([{words}], {word}), 0) AS BIGINT)"


def _pair(index: str, value: str) -> str:
    return f"{{'index': {index}, 'value': {value}}}"


def _each_code(pair: str) -> str:
    return f"list_transform(list_sort(list_distinct(__gb_k)), lambda __gb_c: {pair})"


def _over_codes(array: str, vocabulary: Vocabulary, body: str) -> str:
    """`body` over ``__gb_k``, the codes of an array of texts."""
    codes = (
        f"list_transform(CAST({array} AS VARCHAR[]), lambda __gb_t: {_code('__gb_t', vocabulary)})"
    )
    return _let(codes, "__gb_k", f"CASE WHEN __gb_k IS NULL THEN NULL ELSE {body} END")
