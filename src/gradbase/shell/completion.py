"""What may follow in a statement: a look at the words before the cursor, no grammar."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gradbase.frontend.option_table import BY_NAME, OFFERED, OPTIONS, Option
from gradbase.frontend.tokens import Token, matching, tokenize
from gradbase.frontend.words import PREPROCESSING, SCALARS, TABLE_FUNCTIONS
from gradbase.ir.facts import EXACTNESS
from gradbase.session.settings import FIELDS
from gradbase.shell.names import Known, Names

STATEMENTS = (
    "SELECT", "WITH", "FROM", "EXPLAIN", "CREATE MODEL", "CREATE OR REPLACE MODEL", "DROP MODEL",
    "DESCRIBE MODEL", "ALTER MODEL", "EXPORT MODEL", "SHOW MODELS", "SHOW TABLES", "DESCRIBE",
    "SHOW SEARCHES", "SHOW TRIALS OF SEARCH", "ALTER SEARCH", "RESUME SEARCH",
    "CREATE TABLE", "CREATE OR REPLACE TABLE", "CREATE VIEW", "INSERT INTO", "UPDATE",
    "DELETE FROM", "DROP TABLE", "COPY", "SET", "RESET", "BEGIN", "COMMIT", "ROLLBACK",
)  # fmt: skip
KEYWORDS = (
    "AND", "AS", "ASC", "BETWEEN", "BY", "CASE", "CAST", "CROSS JOIN", "DESC", "DISTINCT", "ELSE",
    "END", "EXCEPT", "EXCLUDE", "EXISTS", "FALSE", "FROM", "FULL JOIN", "GROUP BY", "HAVING", "IN",
    "INNER JOIN", "INTERSECT", "IS", "JOIN", "LEFT JOIN", "LIKE", "LIMIT", "NOT", "NULL", "OFFSET",
    "ON", "OR", "ORDER BY", "OVER", "PARTITION BY", "QUALIFY", "SELECT", "SET", "TABLE", "THEN",
    "TRUE", "UNION ALL", "USING", "VALUES", "WHEN", "WHERE", "WINDOW",
)  # fmt: skip
FUNCTIONS = (
    "abs", "avg", "coalesce", "concat", "count", "date_trunc", "extract", "floor", "greatest",
    "least", "length", "ln", "lower", "max", "median", "min", "quantile_cont", "replace", "round",
    "row_number", "sqrt", "stddev", "string_agg", "substring", "sum", "trim", "upper",
)  # fmt: skip
TABLE_COMES = frozenset(
    {"FROM", "JOIN", "INTO", "UPDATE", "TABLE", "DESCRIBE", "DESC", "SUMMARIZE"}
)
MODEL_COMES = frozenset(s.upper() for s in SCALARS)
SETTING_VALUES = {
    "exactness": tuple(f"'{e}'" for e in EXACTNESS),
    "representation": ("'dl'", "'executors'", "'relational'", "'udf'"),
    "optimizer": ("on", "off"),
    "progress": ("on", "off"),
}


@dataclass(frozen=True)
class Candidate:
    """A text that may stand where the cursor is, and what kind of thing it is."""

    text: str
    kind: str


@dataclass(frozen=True)
class Place:
    """Where the cursor is.

    Parameters
    ----------
    before : list of Token
        The statement's tokens that are complete, no white space or comments.
    typed : str
        What is being typed: the beginning of a word, or of a string with its quote.
    all : list of Token
        The tokens of the whole statement, behind the cursor too.
    """

    before: list[Token]
    typed: str
    all: list[Token]

    def upper(self, back: int) -> str:
        """The word, or the text of another token, `back` before the cursor; '' for none."""
        if len(self.before) < back:
            return ""
        token = self.before[-back]
        return token.upper or token.text


def place(text: str, cursor: int) -> Place | None:
    """The place of the cursor in `text`; None in a comment, or a string that is closed."""
    start = 0
    before: list[Token] = []
    for token in tokenize(text[:cursor]):
        if token.kind == "op" and token.text == ";":
            start, before = token.end, []
        else:
            before.append(token)
    typed = ""
    if before:
        last = before[-1]
        if last.kind == "comment" and not _closed(last.text):
            return None
        if last.kind in ("word", "string", "quoted") and not (
            last.kind == "string" and _closed_string(last.text)
        ):
            typed = before.pop().text
    whole = [t for t in tokenize(text[start:]) if t.kind not in ("space", "comment")]
    end = next((i for i, t in enumerate(whole) if t.text == ";"), len(whole))
    kept = [t for t in before if t.kind not in ("space", "comment")]
    return Place(kept, typed, whole[:end])


def _closed(comment: str) -> bool:
    return comment.startswith("/*") and comment.endswith("*/") and len(comment) > 3


def _closed_string(string: str) -> bool:
    return len(string) > 1 and string.endswith("'")


def candidates(at: Place, names: Names) -> list[Candidate]:
    """What begins with the text typed so far, most fitting first."""
    folded = at.typed.casefold()
    seen: set[str] = set()
    found: list[Candidate] = []
    for candidate in _possible(at, names):
        plain = candidate.text.casefold().lstrip('"')
        fits = plain.startswith(folded.lstrip('"')) and plain != folded
        if fits and candidate.text not in seen:
            seen.add(candidate.text)
            found.append(_in_case(candidate, at.typed))
    return found


def _in_case(candidate: Candidate, typed: str) -> Candidate:
    """Keywords follow what was typed: small after small letters."""
    if candidate.kind in ("keyword", "function") and typed.islower():
        return Candidate(candidate.text.lower(), candidate.kind)
    return candidate


def _possible(at: Place, names: Names) -> Iterator[Candidate]:
    last = at.upper(1)
    known = names.known
    said = "".join(f"{t.upper} " for t in at.before)
    yield from _of((s[len(said) :] for s in STATEMENTS if s.startswith(said)), "keyword")
    if not at.before:
        return
    if last == "@":
        yield from _of(names.versions(at.before[-2].name if len(at.before) > 1 else ""), "version")
    elif last == "MODEL" or (last == "(" and at.upper(2) in MODEL_COMES):
        yield from _of(known.models, "model")
    elif (opened := _options_at(at.before)) is not None:
        yield from _option(at, opened, known)
    elif at.before[0].upper in ("SET", "RESET") and at.upper(2) != "=":
        yield from _setting(at)
    elif last == ".":
        yield from _behind_dot(at, known)
    elif at.typed.startswith("'"):
        return
    elif last in TABLE_COMES:
        yield from _of(known.tables, "table")
        yield from _of((f"ML.{f}" for f in TABLE_FUNCTIONS), "function")
    elif at.upper(3) == "MODEL" and last == "," and _in_ml(at.before):
        yield from _of(("TABLE", "(SELECT"), "keyword")
    else:
        yield from _anything(at, known)


def _of(texts: Iterable[str], kind: str) -> Iterator[Candidate]:
    return (Candidate(text, kind) for text in texts)


# -- options and settings ----------------------------------------------------------------------


def _options_at(before: list[Token]) -> int | None:
    """Index of the parenthesis of the OPTIONS in which the cursor is."""
    closed = matching(before)
    for i in range(len(before) - 1, 0, -1):
        if before[i].text == "(" and before[i - 1].upper == "OPTIONS":
            return None if i in closed else i
    return None


def _option(at: Place, opened: int, known: Known) -> Iterator[Candidate]:
    inside = at.before[opened + 1 :]
    depth = sum(t.text in "([" for t in inside) - sum(t.text in ")]" for t in inside)
    last = at.before[-1].text
    if depth == 0 and (not inside or last == ","):
        given = {t.text.lower() for t in inside if t.kind == "word"}
        yield from _of((o.name for o in OPTIONS if o.name not in given), "option")
        return
    names = [inside[i - 1].text for i, t in enumerate(inside) if t.text == "=" and i]
    option = BY_NAME.get(names[-1].lower()) if names else None
    if option is not None and (last in ("=", "[", ",")):
        yield from _option_values(option, at, known, inside_list=depth > 0)


def _option_values(
    option: Option, at: Place, known: Known, *, inside_list: bool
) -> Iterator[Candidate]:
    values = OFFERED if option.name == "model_type" else option.values
    if option.kind == "names" or option.name == "data_split_col":
        values = tuple(_columns(at, known))
    yield from _of((f"'{v}'" for v in values), "value")
    if option.kind == "bool":
        yield from _of(("TRUE", "FALSE"), "keyword")
    if option.search and not inside_list and not at.typed.startswith("'"):
        yield Candidate("HPARAM_CANDIDATES(", "function")
        if option.search != "candidates":
            yield Candidate("HPARAM_RANGE(", "function")


def _setting(at: Place) -> Iterator[Candidate]:
    if len(at.before) == 1:
        yield Candidate("gradbase.", "setting")
    elif at.upper(1) == "." and at.upper(2) == "GRADBASE":
        yield from _of(FIELDS, "setting")
    elif at.upper(1) in ("=", "TO"):
        yield from _of(SETTING_VALUES.get(at.before[-2].text.lower(), ()), "value")


# -- names -------------------------------------------------------------------------------------


def _behind_dot(at: Place, known: Known) -> Iterator[Candidate]:
    """Columns of a table or alias, tables of a schema, functions of ML."""
    name = at.before[-2] if len(at.before) > 1 else None
    if name is None:
        return
    if name.upper == "ML":
        yield from _of((*TABLE_FUNCTIONS, *PREPROCESSING), "function")
    for alias, table in _tables_of(at.all, known):
        if alias.casefold() == name.name.casefold():
            yield from _of(known.columns(table), "column")
    start = f"{name.text.casefold()}."
    inside = (t[len(start) :] for t in known.tables if t.casefold().startswith(start))
    yield from _of(inside, "table")


def _anything(at: Place, known: Known) -> Iterator[Candidate]:
    tables = _tables_of(at.all, known)
    yield from _of(_columns(at, known), "column")
    yield from _of((alias for alias, _ in tables), "table")
    if at.typed:
        yield from _of(known.tables, "table")
        yield from _of((f"{s}(" for s in SCALARS), "function")
        yield from _of((f"{f}(" for f in FUNCTIONS), "function")
        yield from _of((*KEYWORDS, "OPTIONS ("), "keyword")
        yield Candidate("ML.", "function")


def _columns(at: Place, known: Known) -> Iterator[str]:
    for _, table in _tables_of(at.all, known):
        yield from known.columns(table)


def _tables_of(tokens: list[Token], known: Known) -> list[tuple[str, str]]:
    """(alias or name, table) of each table that the statement reads."""
    found: list[tuple[str, str]] = []
    for i, token in enumerate(tokens):
        if token.upper not in TABLE_COMES and token.text != ",":
            continue
        name, end = _name_at(tokens, i + 1)
        if not name or not known.columns(name):
            continue
        behind = tokens[end : end + 2]
        if behind and behind[0].upper == "AS":
            behind = behind[1:]
        alias = behind[0] if behind and behind[0].is_name else None
        plain = alias is None or alias.upper in KEYWORDS or f"{alias.upper} BY" in KEYWORDS
        found.append((name if plain or alias is None else alias.name, name))
    return found


def _name_at(tokens: list[Token], i: int) -> tuple[str, int]:
    """A table's name, with its schema, and the index behind it."""
    if i >= len(tokens) or not tokens[i].is_name:
        return "", i
    name, i = tokens[i].text, i + 1
    while i + 1 < len(tokens) and tokens[i].text == "." and tokens[i + 1].is_name:
        name, i = f"{name}.{tokens[i + 1].text}", i + 2
    return name, i


def _in_ml(before: list[Token]) -> bool:
    opened = [i for i, t in enumerate(before) if t.text == "("]
    return bool(opened) and opened[-1] > 2 and before[opened[-1] - 3].upper == "ML"
