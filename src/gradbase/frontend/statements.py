"""What one statement is: native, or one of ours taken apart into its clauses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gradbase.errors import BindError, ParseError, UnsupportedError, near, underline
from gradbase.frontend.addresses import read_name
from gradbase.frontend.cursor import Cursor, OptionValue, read_number, read_string, read_value
from gradbase.frontend.export_statement import ExportModel, ExportSql, read_export
from gradbase.frontend.import_statement import ImportModel, is_import, read_import
from gradbase.frontend.model_statements import (
    AlterModel,
    DescribeModel,
    DropModel,
    read_alter,
    read_describe,
    read_drop,
)
from gradbase.frontend.options import check_model_type
from gradbase.frontend.search_statements import (
    AlterSearch,
    ResumeSearch,
    ShowSearches,
    ShowTrials,
    read_alter_search,
    read_resume,
    read_show_searches,
    read_show_trials,
)
from gradbase.frontend.tokens import Token, matching, significant
from gradbase.frontend.transform import TransformClause
from gradbase.frontend.words import (
    SYSTEM_TABLES,
    is_ours,
    prediction_calls,
    system_tables,
    without_semicolon,
)
from gradbase.frontend.wrapping import Wrapped, wrapped

__all__ = [
    "AlterModel",
    "AlterSearch",
    "CreateModel",
    "DescribeModel",
    "DropModel",
    "Explain",
    "ExportModel",
    "ExportSql",
    "ImportModel",
    "Native",
    "Query",
    "ResumeSearch",
    "SetOption",
    "ShowModels",
    "ShowSearches",
    "ShowTrials",
    "Statement",
    "Wrapped",
    "parse_statement",
    "substitute_tables",
]


@dataclass(frozen=True)
class Native:
    """A statement that goes to the engine as it is."""

    sql: str


@dataclass(frozen=True)
class CreateModel:
    """``CREATE [OR REPLACE] MODEL [IF NOT EXISTS] name [TRANSFORM (…)] OPTIONS (…) AS query``.

    `options` by name in lower case; `query_start` is where `query` starts in `sql`.
    """

    name: str
    or_replace: bool
    if_not_exists: bool
    options: dict[str, OptionValue] = field(hash=False)
    query: str
    sql: str
    query_start: int = 0
    transform: TransformClause | None = None


@dataclass(frozen=True)
class ShowModels:
    """``SHOW MODELS``."""


@dataclass(frozen=True)
class SetOption:
    """``SET gradbase.name = value``; `value` None: back to the default (RESET)."""

    name: str
    value: bool | int | float | str | None
    at: str | None = None


@dataclass(frozen=True)
class Query:
    """A statement with predictions: run `wrapped.query`, then what is around it.

    `system_tables` are the tables of schema gradbase that live in the process and are read;
    `predicts` says whether anything of ours besides those is in the text.
    """

    sql: str
    wrapped: Wrapped
    system_tables: tuple[str, ...] = ()
    predicts: bool = True


@dataclass(frozen=True)
class Explain:
    """``EXPLAIN [VERBOSE | ANALYZE] statement``."""

    statement: CreateModel | Query
    verbose: bool
    analyze: bool


Statement = (
    Native | CreateModel | ImportModel | AlterModel | DescribeModel | DropModel | ExportModel
    | ExportSql | ShowModels | ShowSearches | ShowTrials | ResumeSearch | AlterSearch | SetOption
    | Query | Explain
)  # fmt: skip


def parse_statement(sql: str) -> Statement:
    """Take one statement apart; whatever holds none of our words is `Native`.

    Raises
    ------
    ParseError
        The statement is ours and its text cannot be read.
    UnsupportedError
        A statement of ours that is known and not offered yet.

    Examples
    --------
    >>> parse_statement("DROP MODEL IF EXISTS churn").if_exists
    True
    """
    if not is_ours(sql):
        return Native(sql)
    cursor = Cursor(sql, without_semicolon(significant(sql)))
    match cursor.peek():
        case "EXPLAIN":
            return _explain(cursor)
        case "SET" | "RESET":
            return _set(cursor)
    return _plain(cursor)


def _plain(cursor: Cursor) -> Statement:
    words = [cursor.peek(i) for i in range(4)]
    match words:
        case ["CREATE", "MODEL", *_] | ["CREATE", "OR", "REPLACE", "MODEL"]:
            return _create(cursor)
        case [("ALTER" | "DESCRIBE" | "DESC" | "DROP" | "EXPORT") as verb, "MODEL", *_]:
            cursor.at += 2
            return _READERS[verb](cursor)
        case ["SHOW", "MODELS", *_]:
            cursor.at += 2
            cursor.end()
            return ShowModels()
        case [("ALTER" | "RESUME"), "SEARCH", *_] | ["SHOW", "SEARCHES" | "TRIALS", *_]:
            cursor.at += 2
            return _SEARCH_READERS[words[0], words[1]](cursor)
    return _query(cursor.sql, cursor.tokens[cursor.at :])


_READERS = {
    "ALTER": read_alter,
    "DESC": read_describe,
    "DESCRIBE": read_describe,
    "DROP": read_drop,
    "EXPORT": read_export,
}


_SEARCH_READERS = {
    ("ALTER", "SEARCH"): read_alter_search,
    ("RESUME", "SEARCH"): read_resume,
    ("SHOW", "SEARCHES"): read_show_searches,
    ("SHOW", "TRIALS"): read_show_trials,
}


def _query(sql: str, tokens: list[Token]) -> Query:
    sql = sql[tokens[0].start : tokens[-1].end]
    tokens = significant(sql)
    tables = tuple(dict.fromkeys(name for name, _, _ in system_tables(tokens)))
    calls = prediction_calls(tokens)
    return Query(sql, wrapped(sql, tokens, calls), tables, bool(calls))


def _explain(cursor: Cursor) -> Explain:
    cursor.next()
    verbose = analyze = False
    while cursor.peek() in ("VERBOSE", "ANALYZE", "ANALYSE"):
        verbose |= cursor.peek() == "VERBOSE"
        analyze |= cursor.peek() != "VERBOSE"
        cursor.next()
    if cursor.token is None:
        cursor.fail("EXPLAIN needs a statement")
    inner = _plain(cursor)
    if not isinstance(inner, CreateModel | Query):
        raise ParseError("EXPLAIN explains a CREATE MODEL or a query with predictions")
    return Explain(inner, verbose, analyze)


def _set(cursor: Cursor) -> SetOption:
    reset = cursor.next().upper == "RESET"
    if cursor.peek() in ("SESSION", "LOCAL", "GLOBAL"):
        cursor.next()
    first = cursor.next()
    cursor.expect(".", "`.`")
    name = cursor.identifier("the name of a setting")
    at = underline(cursor.sql, first.start, name.end)
    if reset:
        cursor.end()
        return SetOption(name.name.lower(), None, at)
    if not (cursor.accept("=") or cursor.accept("TO")):
        cursor.fail("expected `=`")
    value = _setting(cursor)
    cursor.end()
    return SetOption(name.name.lower(), value, at)


def _setting(cursor: Cursor) -> bool | int | float | str | None:
    token = cursor.next()
    match token.upper or token.kind:
        case "TRUE" | "ON":
            return True
        case "FALSE" | "OFF":
            return False
        case "DEFAULT" | "NULL":
            return None
        case "number":
            return read_number(token.text)
        case "string":
            return read_string(token.text)
    if token.is_name:
        return token.name
    cursor.at -= 1
    raise cursor.error("expected a value")


def _create(cursor: Cursor) -> CreateModel | ImportModel:
    cursor.next()
    or_replace = cursor.accept("OR", "REPLACE")
    cursor.expect("MODEL", "MODEL")
    if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    if or_replace and if_not_exists:
        cursor.at -= 1
        cursor.fail("OR REPLACE and IF NOT EXISTS do not go together")
    name = read_name(cursor)
    transform = _transform(cursor)
    _refuse_clauses(cursor)
    if cursor.peek() != "OPTIONS":
        cursor.fail("expected OPTIONS (…)", hint=near(cursor.peek(), ("OPTIONS", "TRANSFORM")))
    cursor.next()
    options = _options(cursor)
    if is_import(options):
        cursor.end()
        if transform is not None:
            raise BindError("a model of a file has no TRANSFORM", hint="compute it in the query")
        return read_import(
            name.name, options, cursor.sql, or_replace=or_replace, if_not_exists=if_not_exists
        )
    if cursor.token is None:
        check_model_type(options)  # those without rows are imports: known, and not offered
    cursor.expect("AS", "AS and the training query")
    start, end = _training_query(cursor)
    query = cursor.sql[start:end]
    return CreateModel(
        name.name, or_replace, if_not_exists, options, query, cursor.sql, start, transform
    )


def _training_query(cursor: Cursor) -> tuple[int, int]:
    """Where it starts and ends: ``query``, or ``(training_data AS (query))``."""
    if cursor.token is None:
        cursor.fail("the training query is missing")
    tokens, first = cursor.tokens, cursor.at
    if not (cursor.peek() == "(" and cursor.peek(2) == "AS" and cursor.peek(3) == "("):
        return tokens[first].start, tokens[-1].end
    last = matching(tokens).get(first + 3, 0)
    if cursor.peek(1) != "TRAINING_DATA" or last != len(tokens) - 2:
        raise UnsupportedError(
            "several training queries are not offered",
            at=underline(cursor.sql, tokens[first].start, tokens[-1].end),
            hint="AS query, or AS (training_data AS (query))",
        )
    return tokens[first + 4].start, tokens[last - 1].end


def _transform(cursor: Cursor) -> TransformClause | None:
    if not cursor.accept("TRANSFORM"):
        return None
    opening = cursor.expect("(", "`(` and what the model reads: TRANSFORM (*, …)")
    closing = matching(cursor.tokens).get(cursor.at - 1)
    if closing is None:
        cursor.fail("the parenthesis of TRANSFORM is never closed")
    cursor.at = closing + 1
    return TransformClause(cursor.sql, opening.end, cursor.tokens[closing].start)


def _refuse_clauses(cursor: Cursor) -> None:
    for word in ("INPUT", "REMOTE"):
        if cursor.peek() == word:
            token = cursor.next()
            raise UnsupportedError(
                f"{word} of CREATE MODEL is not offered yet",
                at=underline(cursor.sql, token.start, token.end),
            )


def _options(cursor: Cursor) -> dict[str, OptionValue]:
    cursor.expect("(", "`(`")
    options: dict[str, OptionValue] = {}
    while not cursor.accept(")"):
        if options:
            cursor.expect(",", "`,` or `)`")
            if cursor.accept(")"):
                break
        name = cursor.identifier("the name of an option")
        cursor.expect("=", "`=`")
        start = cursor.at
        value = read_value(cursor)
        at = underline(cursor.sql, cursor.tokens[start].start, cursor.tokens[cursor.at - 1].end)
        name_at = underline(cursor.sql, name.start, name.end)
        key = name.name.lower()
        if key in options:
            raise BindError(f"option `{key}` is given twice", at=name_at)
        options[key] = OptionValue(value, name_at, at)
    return options


def substitute_tables(
    sql: str, views: dict[str, str], tables: Sequence[str] = SYSTEM_TABLES
) -> str:
    """`sql` with each ``gradbase.<name>`` of `views` replaced by the SQL name given there."""
    pieces: list[str] = []
    at = 0
    for name, start, end in system_tables(significant(sql), tables):
        if name in views:
            pieces += [sql[at:start], views[name]]
            at = end
    return "".join(pieces) + sql[at:]
