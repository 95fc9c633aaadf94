"""Reads `.rule` files: pairs of plan text, before and after one rule.

Lines at the top of a file, before the first title::

    # rule: push_filter_below_predict
    # model m: binary (a int64, b float64)      %m in the plans; also `regression`, `hidden 512`
    # table t: 1000, a 7, b 20                  rows of a table, distinct values of columns
    # promise t: unique k; refers k -> u.l; filled k, a; between c 0 1
    # idle aa: 1 2                              inputs of the weight %aa that are 0 throughout
    # settled aa: dead 0; linear 1, 2           units of the layer with that weight, for any ranges

    # writers: 16                             cores with which the engine writes files

Each case is a title, a plan, ``----``, and the plan after or ``unchanged``. A line
``# setting: name=value`` below a title changes a setting for that case.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

from gradbase.ir.conversion import Numeric, ToTable, ToTensor
from gradbase.ir.facts import (
    Capabilities,
    ColumnStatistics,
    Promises,
    Reference,
    Settings,
    Settled,
    TableStatistics,
)
from gradbase.ir.imported import Trees
from gradbase.ir.learning import Feature, Model
from gradbase.ir.node import Node, find
from gradbase.ir.parser import parse_plan
from gradbase.ir.scalar import Literal
from gradbase.ir.tensor import Concat, Linear, Param, Tensor, Unary
from gradbase.ir.types import FLOAT64, TEXT, list_of, parse_type, struct_of
from gradbase.optimizer.context import Context
from gradbase.optimizer.cost import FixedStatistics
from gradbase.resources.calibration import Calibration

DUCKDB = Capabilities("duckdb", frozenset(), ("dl", "udf", "sql"), True)
CASTS = {"optimizer": lambda v: v == "on", "batch_rows": int, "threads": int}


@dataclass
class Case:
    """One pair of plans; `after` is None where the rule must not fire."""

    rule: str
    title: str
    before: Node
    after: Node | None
    names: dict[Node, str]
    context: Context


def read_cases(path: Path) -> list[Case]:
    """The cases of a file."""
    head, *parts = re.split(r"^# title: ", path.read_text(), flags=re.MULTILINE)
    (rule,) = re.findall(r"^# rule: (\w+)$", head, re.MULTILINE)
    lines = re.findall(r"^# model (\w+): (.*)$", head, re.MULTILINE)
    models = {name: model_of(name, text) for name, text in lines}
    tables = re.findall(r"^# table (\w+): (.*)$", head, re.MULTILINE)
    promises = dict(re.findall(r"^# promise (\w+): (.*)$", head, re.MULTILINE))
    statistics = FixedStatistics(
        {t: statistics_of(text) for t, text in tables},
        promises={t: promises_of(t, text) for t, text in promises.items()},
    )
    idle = re.findall(r"^# idle (\w+): (.*)$", head, re.MULTILINE)
    settled = re.findall(r"^# settled (\w+): dead ([\d, ]*); linear ([\d, ]*)$", head, re.MULTILINE)
    weights = FixedWeights(
        {h: frozenset(map(int, text.split())) for h, text in idle},
        {h: Settled(*(numbers_of(t) for t in texts)) for h, *texts in settled},
    )
    writers = re.findall(r"^# writers: (\d+)$", head, re.MULTILINE)
    engine = dataclasses.replace(DUCKDB, writers=int(writers[0]) if writers else 0)
    facts = Context(statistics, Calibration(), engine, Settings(), weights=weights)
    return [_case(rule, part, models, facts) for part in parts]


class FixedWeights:
    """What weights say, given as values by the hash of a `Param`."""

    def __init__(self, idle: dict[str, frozenset[int]], settled: dict[str, Settled]) -> None:
        self._idle, self._settled = idle, settled

    def idle(self, weight: Tensor) -> frozenset[int] | None:
        return self._idle.get(weight.hash) if isinstance(weight, Param) else None

    def tested(self, trees: Trees) -> None:
        """Nobody looks into trees."""

    def size(self, trees: Trees) -> None:
        """Nobody looks into trees."""

    def settled(self, outputs, ranges, *, imported):
        """Of ReLUs over layers with the weights named."""
        del ranges, imported
        units = [u for o in outputs for u in find(o, Unary) if isinstance(u.x, Linear)]
        weights = {u: u.x.weight.hash for u in units if isinstance(u.x.weight, Param)}
        return {u: self._settled[h] for u, h in weights.items() if h in self._settled}


def numbers_of(text: str) -> tuple[int, ...]:
    """Numbers with commas between them."""
    return tuple(int(t) for t in text.split(",") if t.strip())


def statistics_of(text: str) -> TableStatistics:
    """What is written behind ``# table``."""
    rows, *columns = text.split(", ")
    pairs = (c.split(" ") for c in columns)
    return TableStatistics(int(rows), {c: ColumnStatistics(int(count)) for c, count in pairs})


def promises_of(table: str, text: str) -> Promises:
    """What is written behind ``# promise``."""
    said: dict[str, list[str]] = {"unique": [], "refers": [], "filled": [], "between": []}
    for part in text.split(";"):
        word, rest = part.strip().split(" ", 1)
        said[word] += [c.strip() for c in rest.split(",")]
    references = (re.fullmatch(r"(\w+) -> (\w+)\.(\w+)", r).groups() for r in said["refers"])
    return Promises(
        table,
        frozenset(frozenset((c,)) for c in said["unique"]),
        frozenset(Reference((own,), other, (column,)) for own, other, column in references),
        frozenset(said["filled"]),
        {c: (float(low), float(high)) for c, low, high in map(str.split, said["between"])},
    )


def _case(rule: str, part: str, models: dict[str, Model], facts: Context) -> Case:
    title, body = part.split("\n", 1)
    pairs = re.findall(r"^# setting: (\w+)=([\w, ]+)$", body, re.MULTILINE)
    values = {name: CASTS.get(name, str)(value) for name, value in pairs}
    settings = dataclasses.replace(Settings(), **values)
    body = re.sub(r"^# setting: .*\n", "", body, flags=re.MULTILINE)
    before, after = (text.strip("\n") for text in body.split("\n----\n"))
    return Case(
        rule,
        title,
        parse_plan(before, models),
        None if after == "unchanged" else parse_plan(after, models),
        {model: name for name, model in models.items()},
        Context(
            facts.statistics, facts.calibration, facts.capabilities, settings, weights=facts.weights
        ),
    )


def model_of(name: str, text: str) -> Model:
    """A model from ``task (column type, …) [hidden n] [imported]``."""
    form = r"(\w+) \((.*)\)(?: hidden (\d+))?( imported)?"
    task, columns, hidden, imported = re.fullmatch(form, text).groups()
    pairs = (column.strip().split(" ", 1) for column in columns.split(","))
    features = tuple(Feature(n, parse_type(t)) for n, t in pairs)
    tensors = tuple(ToTensor(f.name, Numeric(0.0, 1.0, False)) for f in features)
    x = tensors[0] if len(tensors) == 1 else Concat(tensors)
    if hidden:
        x = Unary("relu", Linear(x, Param("aa", (int(hidden), len(features)))))
    logit = Linear(x, Param("bb", (1, x.shape[-1])))
    if task == "regression":
        output = ToTable(logit, "value", FLOAT64)
        return Model(name, 1, 0, task, "y", features, (output,), imported=bool(imported))
    classes = (Literal("no", TEXT), Literal("yes", TEXT))
    pair = list_of(struct_of(label=TEXT, prob=FLOAT64))
    kinds = {"label": TEXT, "proba": FLOAT64, "probs": pair}
    outputs = tuple(ToTable(logit, method, of, classes) for method, of in kinds.items())
    return Model(name, 1, 0, task, "y", features, outputs)
