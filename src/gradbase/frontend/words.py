"""Our own words inside SQL: where they are, and nothing more."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gradbase.frontend.tokens import Token, matching, significant

_MAYBE = ("predict", "model", "gradbase", "search")
_ML = re.compile(r"\bml\b")
"""Without one of these in the text there is nothing to look for."""
SCALARS = ("PREDICT", "PREDICT_PROBA")
TABLE_FUNCTIONS = (
    "PREDICT", "EVALUATE", "TRIAL_INFO", "TRAINING_INFO", "FOLD_INFO", "TRANSFORM",
    "CONFUSION_MATRIX", "ROC_CURVE", "FEATURE_INFO", "WEIGHTS", "COMPARE", "SCHEMA_DRIFT",
    "RECONSTRUCTION_LOSS", "DESCRIBE", "CENTROIDS", "PRINCIPAL_COMPONENTS",
    "PRINCIPAL_COMPONENT_INFO",
)  # fmt: skip
PREPROCESSING = (
    "BAG_OF_WORDS", "BUCKETIZE", "FEATURE_CROSS", "HASH_BUCKETIZE", "IMPUTER", "LABEL_ENCODER",
    "MAX_ABS_SCALER", "MIN_MAX_SCALER", "MULTI_HOT_ENCODER", "NGRAMS", "NORMALIZER",
    "ONE_HOT_ENCODER", "POLYNOMIAL_EXPAND", "QUANTILE_BUCKETIZE", "ROBUST_SCALER",
    "STANDARD_SCALER", "TF_IDF",
)  # fmt: skip
LATER_FUNCTIONS = (
    "ADVANCED_WEIGHTS", "ARIMA_COEFFICIENTS", "ARIMA_EVALUATE", "DESCRIBE_DATA",
    "DETECT_ANOMALIES", "EXPLAIN_FORECAST", "EXPLAIN_PREDICT", "FEATURE_IMPORTANCE",
    "FEATURES_AT_TIME", "FORECAST", "GENERATE_EMBEDDING", "GENERATE_TEXT", "GLOBAL_EXPLAIN",
    "RECOMMEND", "VALIDATE_DATA_DRIFT", "VALIDATE_DATA_SKEW",
)  # fmt: skip
"""Functions of BigQuery ML that are known by name and not offered yet."""
SYSTEM_TABLES = ("leases", "metrics")
"""Tables of schema `gradbase` that live in the process, not in the database."""

_NAMED_BY = frozenset(
    "TABLE INTO MACRO FUNCTION VIEW EXISTS FROM JOIN REFERENCES WITH RECURSIVE AS TYPE SEQUENCE "
    "UPDATE SCHEMA INDEX".split()
)
"""After these a word followed by a parenthesis is the name of something of the user's."""


def is_ours(sql: str) -> bool:
    """Whether one statement holds our words outside strings, comments and quoted identifiers.

    Examples
    --------
    >>> is_ours("SELECT PREDICT(churn, *) FROM t"), is_ours("SELECT 'PREDICT(m, *)' FROM t")
    (True, False)
    """
    lower = sql.lower()
    if not (any(word in lower for word in _MAYBE) or _ML.search(lower)):
        return False
    tokens = without_semicolon(significant(sql))
    return (
        is_model_statement(skip_explain(tokens))
        or is_setting(tokens)
        or bool(prediction_calls(tokens))
        or bool(system_tables(tokens))
    )


def without_semicolon(tokens: list[Token]) -> list[Token]:
    """The tokens of one statement, without the semicolons behind it."""
    end = len(tokens)
    while end and tokens[end - 1].text == ";":
        end -= 1
    return tokens[:end]


def skip_explain(tokens: list[Token]) -> list[Token]:
    """The tokens after ``EXPLAIN [VERBOSE | ANALYZE]``."""
    if not tokens or tokens[0].upper != "EXPLAIN":
        return tokens
    at = 1
    while at < len(tokens) and tokens[at].upper in ("VERBOSE", "ANALYZE", "ANALYSE"):
        at += 1
    return tokens[at:]


def is_model_statement(tokens: Sequence[Token]) -> bool:
    """CREATE/DROP/ALTER/EXPORT/DESCRIBE MODEL, SHOW MODELS, and the statements on searches."""
    words = [t.upper for t in tokens[:4]]
    match words:
        case ["CREATE", "MODEL", *_] | ["CREATE", "OR", "REPLACE", "MODEL"]:
            return True
        case [("DROP" | "ALTER" | "EXPORT"), "MODEL", *_] | ["SHOW", "MODELS"]:
            return True
        case ["SHOW", "SEARCHES"] | ["SHOW", "SEARCHES", "IN", *_]:
            return True
        case [("RESUME" | "ALTER"), "SEARCH", _, *_] | ["SHOW", "TRIALS", "OF", "SEARCH"]:
            return True
        case [("DESCRIBE" | "DESC"), "MODEL", _, *_]:
            return tokens[2].is_name
    return False


def is_setting(tokens: Sequence[Token]) -> bool:
    """``SET gradbase.x = …`` and ``RESET gradbase.x``."""
    if not tokens or tokens[0].upper not in ("SET", "RESET"):
        return False
    at = 2 if len(tokens) > 1 and tokens[1].upper in ("SESSION", "LOCAL", "GLOBAL") else 1
    return len(tokens) > at + 1 and tokens[at].upper == "GRADBASE" and tokens[at + 1].text == "."


def system_tables(
    tokens: Sequence[Token], tables: Sequence[str] = SYSTEM_TABLES
) -> list[tuple[str, int, int]]:
    """(name, start, end) of each ``gradbase.<table>`` that is one of `tables`."""
    found: list[tuple[str, int, int]] = []
    for i in range(len(tokens) - 2):
        schema, dot, name = tokens[i : i + 3]
        if not (schema.is_name and dot.text == "." and schema.name.lower() == "gradbase"):
            continue
        if name.name.lower() in tables and not (i and tokens[i - 1].text == "."):
            found.append((name.name.lower(), schema.start, name.end))
    return found


def prediction_calls(tokens: list[Token]) -> list[tuple[int, int]]:
    """(index of first token, index of the opening parenthesis) of every call that is ours.

    Outermost and nested ones alike, in order of their place.
    """
    starts: list[tuple[int, int]] = []
    pairs: dict[int, int] | None = None
    for i, token in enumerate(tokens):
        upper = token.upper
        if upper in SCALARS and _follows(tokens, i + 1, "("):
            pairs = matching(tokens) if pairs is None else pairs
            if not _is_name_of_users(tokens, i, i + 1, pairs):
                starts.append((i, i + 1))
        elif upper == "ML" and _is_ml_call(tokens, i):
            starts.append((i, i + 3))
    return starts


def _follows(tokens: Sequence[Token], at: int, text: str) -> bool:
    return at < len(tokens) and tokens[at].text == text


def _is_ml_call(tokens: Sequence[Token], i: int) -> bool:
    """``ML.<function>(``: a name of BigQuery ML's, or any name whose argument is a MODEL."""
    if not (_follows(tokens, i + 1, ".") and _follows(tokens, i + 3, "(")):
        return False
    if i and tokens[i - 1].text == ".":
        return False
    name, after = tokens[i + 2].upper, tokens[i + 4] if i + 4 < len(tokens) else None
    if i and tokens[i - 1].upper in _NAMED_BY - {"FROM", "JOIN"}:
        return False
    known = name in (*TABLE_FUNCTIONS, *PREPROCESSING, *LATER_FUNCTIONS)
    return known or (after is not None and after.upper == "MODEL")


def _is_name_of_users(tokens: Sequence[Token], i: int, opening: int, pairs: dict[int, int]) -> bool:
    """Whether the word at `i` names a table, function or CTE of the user's own."""
    before = tokens[i - 1] if i else None
    if before is not None and (before.text == "." or before.upper in _NAMED_BY):
        return True
    if before is not None and before.upper == "ON" and tokens[0].upper == "CREATE":
        return "INDEX" in [t.upper for t in tokens[:3]]
    closing = pairs.get(opening)
    after = [t.upper or t.text for t in tokens[closing + 1 : closing + 4]] if closing else []
    match after:
        case ["AS", "(", *_] | ["AS", "MATERIALIZED", "("] | ["AS", "NOT", "MATERIALIZED"]:
            return True
    return False
