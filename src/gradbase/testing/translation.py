"""Statements of the ``.slt`` files in the language of another engine: they are written in DuckDB's.

sqlglot translates; our own words, which it does not know, pass through it as names.
"""

from __future__ import annotations

import re

import sqlglot
from sqlglot import ErrorLevel, exp

from gradbase.frontend.tokens import Token, matching, significant, split_statements
from gradbase.frontend.words import (
    is_model_statement,
    is_ours,
    is_setting,
    prediction_calls,
    skip_explain,
)

_MASK = "gb_mask_{}_"
_MASKED = re.compile(r"[\"`]?gb_mask_(\d+)_[\"`]?", re.IGNORECASE)


def translated(sql: str, dialect: str) -> str:
    """The statements of `sql` in `dialect`; what sqlglot cannot read stays as it is.

    Examples
    --------
    >>> print(translated("SELECT PREDICT(m, *), [id] FROM ML.PREDICT(MODEL m, TABLE t)", "spark"))
    SELECT PREDICT(m, *), ARRAY(id) FROM ML.PREDICT(MODEL m, TABLE t)
    """
    return ";\n".join(_statement(s, dialect) for s in split_statements(sql))


def _statement(sql: str, dialect: str) -> str:
    if not is_ours(sql):
        return _piece(sql, dialect)
    tokens = significant(sql)
    body = skip_explain(tokens)
    if is_setting(tokens):
        return sql
    pieces = _pieces(body) if is_model_statement(body) else [("", body[0].start, len(sql))]
    for head, start, end in reversed(pieces):
        sql = sql[:start] + _piece(sql[start:end], dialect, head) + sql[end:]
    return sql


def _pieces(tokens: list[Token]) -> list[tuple[str, int, int]]:
    """Where a CREATE MODEL holds the user's SQL: behind AS, and in TRANSFORM, a list of SELECT."""
    pairs = matching(tokens)
    found: list[tuple[str, int, int]] = []
    at = 0
    while at < len(tokens):
        if at in pairs:
            if tokens[at - 1].upper == "TRANSFORM":
                found.append(("SELECT ", tokens[at].end, tokens[pairs[at]].start))
            at = pairs[at]
        elif tokens[at].upper == "AS" and at + 1 < len(tokens):
            found.append(("", tokens[at + 1].start, tokens[-1].end))
            break
        at += 1
    return found


def _piece(sql: str, dialect: str, head: str = "") -> str:
    """What is a statement with `head` before it."""
    if not sql.strip():
        return sql
    masked, kept = _masked(sql, dialect)
    try:
        trees = sqlglot.parse(head + masked, read="duckdb")
    except (sqlglot.ParseError, sqlglot.TokenError):  # meant to be wrong
        return sql
    if len(trees) != 1 or trees[0] is None:
        return sql
    tree = trees[0].transform(_CHANGES[dialect]) if dialect in _CHANGES else trees[0]
    made = tree.sql(dialect, normalize_functions=False, unsupported_level=ErrorLevel.IGNORE)
    return _MASKED.sub(lambda found: kept[int(found[1])], made.removeprefix(head))


def _spark(node: exp.Expression) -> exp.Expression:
    """What sqlglot does not say in Spark's words: elements count from 1, lists have no length."""
    match node:
        case exp.Bracket(expressions=[exp.Slice()]):
            pass
        case exp.Bracket(expressions=[place]) if not place.is_string:
            # A constant was read as one that counts from 0.
            match place:
                case exp.Literal():
                    place = exp.Literal.number(int(place.name) + 1)
                case exp.Add(this=counted, expression=exp.Neg()):
                    place = exp.cast(counted, "INT")
                case _:
                    place = exp.cast(place, "INT")
            return exp.Anonymous(this="try_element_at", expressions=[node.this, place])
        case exp.DataType(this=exp.DataType.Type.ARRAY) if node.args.get("values"):
            node.set("values", None)
        case exp.CTE():
            node.set("materialized", None)
    return node


_STRUCTS = ("hyperparameters", "hparam_tuning_evaluation_metrics")
"""Columns of ours that hold structs: PostgreSQL has none, and gives JSON."""


def _postgres(node: exp.Expression) -> exp.Expression:
    """What is JSON there: fields are taken out by name, and elements from 0 on."""
    match node:
        case exp.Column(this=exp.Identifier(this=field)) if node.table in _STRUCTS:
            column = exp.column(node.table, table=node.args.get("db"))
            arrow = "->" if field == "hidden_units" else "->>"
            text = f"{column.sql('postgres')} {arrow} '{field}'"
            return _json(text) if field in ("hidden_units", "optimizer") else _number(text)
        case exp.Dot(this=exp.Bracket(this=exp.Column() as column, expressions=[place])) if (
            place.is_int
        ):
            text = f"{column.sql('postgres')} -> {place.name} ->> '{node.name}'"
            return _json(text) if node.name in ("label", "category") else _number(text)
    return node


def _json(text: str) -> exp.Expression:
    return exp.maybe_parse(f"({text})", dialect="postgres")


def _number(text: str) -> exp.Expression:
    return exp.maybe_parse(f"CAST({text} AS DOUBLE PRECISION)", dialect="postgres")


_CHANGES = {"spark": _spark, "postgres": _postgres}


_WITH_LISTS = ("BUCKETIZE", "NGRAMS", "ROBUST_SCALER", "ROC_CURVE")
"""Functions of ours that take a list of constants, written as we read it."""
_OWN: dict[str, dict[str, str]] = {
    "any_value": {},
    "isnan": {},
    "range": {},
    "string_split": {"spark": "split", "postgres": "string_to_array"},
    "len": {"spark": "size", "postgres": "cardinality"},  # of a list; of a text it is `length`
}
"""Functions that are not left to sqlglot: their names on other engines, or the same."""


def _is_own(token: Token, after: list[Token]) -> bool:
    return token.text in _OWN and bool(after) and after[0].text == "("


def _masked(sql: str, dialect: str) -> tuple[str, list[str]]:
    """The text with our words as names, and what each stands for."""
    tokens = significant(sql)
    pairs = matching(tokens)
    spans = [(t.start, t.end) for i, t in enumerate(tokens) if _is_own(t, tokens[i + 1 : i + 2])]
    for first, opening in prediction_calls(tokens):
        spans.append((tokens[first].start, tokens[opening].start))
        takes_list = tokens[opening - 1].upper in _WITH_LISTS  # behind the data
        for i in range(opening + 1, pairs.get(opening, opening)):
            if tokens[i].upper in ("MODEL", "TABLE") and tokens[i + 1].is_name:
                end = i + 1
                while tokens[end + 1].text == "." and tokens[end + 2].is_name:
                    end += 2
                spans.append((tokens[i].start, tokens[end].end))
            elif tokens[i].upper == "STRUCT" and tokens[i + 1].text == "(":
                spans.append((tokens[i].start, tokens[i].end))
            elif tokens[i].text == "[" and (
                i > opening + 1 and not any(t.is_name for t in tokens[i : pairs.get(i, i)])
                if dialect == "postgres"
                else takes_list and tokens[i - 1].text == ","
            ):
                spans.append((tokens[i].start, tokens[pairs[i]].end))
    kept: list[str] = []
    for start, end in sorted(set(spans), reverse=True):
        word = sql[start:end]
        kept.append(_OWN.get(word, {}).get(dialect, word))
        sql = sql[:start] + _MASK.format(len(kept) - 1) + sql[end:]
    return sql, kept
