"""The page of options."""

from __future__ import annotations

import math
from collections.abc import Iterator

from gradbase.frontend.documented import TABLES
from gradbase.frontend.not_offered import CLOUD_OPTIONS, LATER_MODEL_TYPES, LATER_OPTIONS
from gradbase.frontend.option_examples import OPTION_EXAMPLES
from gradbase.frontend.option_table import (
    AUTOENCODER,
    LINEAR,
    LINEAR_LEARN_RATE,
    NETWORKS,
    OPTIONS,
    PYTHON,
    UNLABELLED,
    Option,
)
from gradbase.selection.api import sql_names
from gradbase.testing.reference.markdown import fenced, need, table
from gradbase.testing.reference.sql import CONNECT

_NETS = """\
import sys
import types

import torch

nets = types.ModuleType("nets")  # a file nets.py that Python finds does as well
sys.modules["nets"] = nets
nets.small = lambda config: torch.nn.Linear(config["n_inputs"], config["n_outputs"])
"""
_KINDS = {
    "int": "whole number", "float": "number", "fraction": "fraction of the rows",
    "bool": "TRUE or FALSE", "text": "text", "choice": "text", "names": "list of column names",
    "layers": "list of sizes", "class_weights": "list of STRUCT(class, weight)",
    "objectives": "list of one metric",
}  # fmt: skip
_SEARCH = {
    "": "no",
    "candidates": "`HPARAM_CANDIDATES`",
    "linear": "`HPARAM_RANGE`, `HPARAM_CANDIDATES`",
    "log": "`HPARAM_RANGE` (logarithmic scale), `HPARAM_CANDIDATES`",
}


def options() -> Iterator[str]:
    """The page of options."""
    need({o.name for o in OPTIONS} ^ set(OPTION_EXAMPLES), "options", "frontend/option_examples.py")
    need({o.name for o in OPTIONS if not o.doc}, "options", "frontend/option_table.py")
    yield (
        "Options of [CREATE MODEL](sql-statements.md#create-model) and, under the names for Python, "
        "of `gb.search` and `Table.fit`. `python:` stands for every model type "
        "`'python:module:function'`. The examples run on this:"
    )
    yield fenced(
        "python", CONNECT.replace("progress=False", 'python_modules=["nets"], progress=False')
    )
    yield fenced("python", _NETS)
    yield fenced("sql", TABLES)
    python = {own: name for name, own in sql_names().items()}
    for option in OPTIONS:
        yield f"## {option.name}"
        yield option.doc
        yield table(("", ""), _facts(option, python.get(option.name, option.name)))
        yield fenced("sql", _example(option))
    yield "## Not offered"
    listed = ", ".join(f"`{name}`" for name in sorted((*LATER_OPTIONS, *CLOUD_OPTIONS)))
    yield f"These options are known and errors here: {listed}."
    listed = ", ".join(f"`{kind}`" for kind in LATER_MODEL_TYPES)
    yield f"So are these model types: {listed}."


def _facts(option: Option, python: str) -> Iterator[tuple[str, str]]:
    yield "type", _KINDS[option.kind]
    allowed = _range(option)
    if allowed:
        yield "allowed", allowed
    yield "default", _default(option)
    yield "searched", _SEARCH[option.search]
    yield "model types", ", ".join("`python:`" if m == PYTHON else f"`{m}`" for m in option.models)
    if option.aliases:
        yield "also called", ", ".join(f"`{a}`" for a in option.aliases)
    if python != option.name:
        yield "in Python", f"`{python}`"
    if option.synonyms:
        yield "also written", ", ".join(f"`'{a}'` for `'{b}'`" for a, b in option.synonyms)
    for value, hint in option.refused:
        yield "not offered", f"`{value}`: {hint}"


def _range(option: Option) -> str:
    if option.values:
        return ", ".join(f"`'{v}'`" for v in option.values)
    if option.kind not in ("int", "float", "fraction", "layers") or option.low == -math.inf:
        return ""
    low = f"{'above' if option.open_low else 'from'} {option.low:,g}"
    if option.high == math.inf:
        return low
    high = f"{option.high:,.0f}" if option.kind == "int" else f"{option.high:g}"
    return f"{low} {'to below' if option.open_high else 'to'} {high}"


def _default(option: Option) -> str:
    shown = _value(option.default)
    if option.name == "learn_rate":
        shown += f"; {LINEAR_LEARN_RATE} for {' and '.join(f'`{m}`' for m in LINEAR)}"
    return shown


def _value(value: object) -> str:
    match value:
        case None | "" | ():
            return "none"
        case bool():
            return str(value).upper()
        case str():
            return f"`'{value}'`"
        case tuple():
            return "`[" + ", ".join(f"'{v}'" for v in value) + "]`"
    return f"{value}"


def _example(option: Option) -> str:
    text, kind, rows = OPTION_EXAMPLES[option.name]
    if not kind:
        kind = NETWORKS[0] if NETWORKS[0] in option.models else option.models[0]
    label = "churned" if "customers" in rows else "spent"
    given = [f"model_type = '{kind}'", "row_key = ['id']"]
    if kind not in UNLABELLED:
        if kind != AUTOENCODER:
            given.insert(1, f"input_label_cols = ['{label}']")
        if "max_epochs" not in text and kind != "linear_reg":
            text = ", ".join(t for t in (text, "max_epochs = 2") if t)
    listed = ", ".join(given) + (f",\n         {text}" if text else "")
    return f"CREATE OR REPLACE MODEL m\nOPTIONS ({listed})\nAS {rows}"
