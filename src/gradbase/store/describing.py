"""What DESCRIBE MODEL says: one row per fact, in columns that stay the same for every model."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gradbase.frontend.option_table import MODEL_TYPES, OPTIONS, PYTHON, UNLABELLED
from gradbase.ir.conversion import (
    RECONSTRUCTION_ERRORS,
    Category,
    Encoding,
    MultiHot,
    Numeric,
    Sparse,
    ToTensor,
    Vector,
)
from gradbase.ir.derived import Derived
from gradbase.ir.learning import Model
from gradbase.ir.node import walk
from gradbase.ir.printer import print_scalar
from gradbase.ir.relational import Values
from gradbase.ir.scalar import Column, Literal, scalars
from gradbase.ir.tensor import Embedding
from gradbase.ir.types import INT64, TEXT, Schema, SqlType, parse_type
from gradbase.store.catalog import Row
from gradbase.store.lineage import Lineage
from gradbase.store.records import FeatureRecord, ModelRecord

COLUMNS = Schema.of(
    section=TEXT, position=INT64, name=TEXT, type=TEXT, value=TEXT, details=TEXT
)  # fmt: skip
"""`section` is model, feature, column (what the network reads, where that is computed from the
features), transform, label, class, output, metric, option, lineage or version."""
_SHOWN, _LONGEST = 5, 200
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 (as the catalog keeps times)

Fact = tuple[str, str | None, str | None, str | None]
"""(name, type, value, details)."""


def describe(
    model: Model, row: Row, record: ModelRecord, lineage: Lineage, versions: Sequence[Row]
) -> Values:
    """The relation that DESCRIBE MODEL gives.

    Parameters
    ----------
    model : Model
        The version's best trial.
    row : mapping
        The version with what is said of its model, see `reading.described_row`.
    versions : sequence of mapping
        Every version of the model, oldest first.
    """
    sections = {
        "model": _about(row, record),
        "feature": _features(model, record),
        "column": _columns(model),
        "transform": _transform(model),
        "label": [(model.label, str(_label_type(model)), None, None)] if model.label else [],
        "class": _classes(model),
        "output": _outputs(model),
        "metric": _metrics(record),
        "option": _options(record),
        "lineage": _lineage(lineage),
        "version": (_version(v, row["current_version"]) for v in versions),
    }
    cells = (
        cell
        for section, facts in sections.items()
        for position, (name, *rest) in enumerate(facts, 1)
        for cell in (section, position, name, *rest)
    )
    return Values(COLUMNS, tuple(Literal(c, INT64 if isinstance(c, int) else TEXT) for c in cells))


def _about(row: Row, record: ModelRecord) -> Iterator[Fact]:
    current = row["current_version"]
    is_current = "current" if row["version"] == current else f"the current one is {current}"
    yield "name", None, record.name, None
    yield "version", None, str(row["version"]), is_current
    yield "aliases", None, ", ".join(row["aliases"] or ()) or None, None
    yield "model_type", None, record.model_type, record.task
    yield "created", None, _time(row["created"]), None
    best = None if record.groups else f"best: {record.best_trial}"
    yield "trials", None, str(sum(t.trial > 0 for t in record.trials)), best
    if record.groups:
        keyed = [g.key for g in record.groups if g.key is not None]
        yield "groups", None, str(len(keyed)), f"by {', '.join(keyed[0])}"
    for part in ("train_rows", "eval_rows", "test_rows"):
        count = getattr(record, part)
        yield part, None, None if count is None else str(count), None
    yield "description", None, row["description"], None
    for key, value in json.loads(row["labels"] or "{}").items():
        yield f"label {key}", None, value, None
    yield "expires", None, _time(row["expires"]), None


def _features(model: Model, record: ModelRecord) -> Iterator[Fact]:
    known = {feature.name: feature for feature in record.features}
    encodings = {} if model.columns else _encodings(model)
    for feature in model.features:
        text = encodings.get(feature.name)
        yield feature.name, str(feature.of), text, _statistics(known.get(feature.name))


def _columns(model: Model) -> Iterator[Fact]:
    encodings = _encodings(model)
    for column in model.columns:
        text = encodings.get(column.name)
        yield column.name, str(column.expr.type), text, _shortened(column)


def _transform(model: Model) -> Iterator[Fact]:
    for column in model.transform:
        yield column.name, str(column.expr.type), _shortened(column), None


def _shortened(column: Derived) -> str:
    text = print_scalar(column.expr, _features_of(column))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def _features_of(column: Derived) -> Schema:
    """The columns that an expression reads, so that they are printed without their types."""
    return Schema.of(**{c.name: c.of for c in scalars(column.expr, Column)})


def _encodings(model: Model) -> dict[str, str]:
    """How each column that the network reads becomes numbers."""
    found: dict[str, list[Encoding]] = {}
    embedded: dict[Encoding, int] = {}
    for node in walk(model):
        if isinstance(node, ToTensor):
            found.setdefault(node.column, []).append(node.encoding)
        elif isinstance(node, Embedding) and isinstance(node.codes, ToTensor):
            embedded[node.codes.encoding] = node.shape[-1]
    return {
        name: "; ".join(_encoding(e, embedded.get(e)) for e in of_column)
        for name, of_column in found.items()
    }


def _encoding(encoding: Encoding, width: int | None) -> str:
    match encoding:
        case Numeric(mean=mean, scale=scale, indicator=indicator, part=part):
            if (mean, scale) == (0.0, 1.0):
                return "as it is"
            what = "" if part == "value" else f"{'seconds' if part == 'epoch_s' else part}, "
            flag = ", and whether it is missing" if indicator else ""
            return f"{what}standardised by mean {mean:.6g}, deviation {1 / scale:.6g}{flag}"
        case Category(vocabulary=values, missing_code=missing):
            kind = "one-hot" if width is None else f"embedded in {width} numbers"
            shown = ", ".join(values[:_SHOWN]) + (", …" if len(values) > _SHOWN else "")
            null = " and NULL" if missing else ""
            return f"{kind}, {len(values)} values ({shown}){null}"
        case Vector(size=size, mean=mean):
            return f"{size} numbers" + ("" if mean is None else ", each standardised")
        case MultiHot(vocabulary=values, missing=missing):
            return f"multi-hot, {len(values)} values" + " and NULL" * missing
        case Sparse(size=size):
            return f"{size} positions of (index, value) pairs"
    return type(encoding).__name__


def _statistics(feature: FeatureRecord | None) -> str | None:
    if feature is None:
        return None
    of = parse_type(feature.type)
    facts: list[str] = []
    for name in ("minimum", "maximum", "mean", "median", "stddev"):
        value = getattr(feature, name)
        if value is not None:
            facts.append(f"{name} {_number(value, of, name)}")
    if feature.category_count is not None:
        facts.append(f"{feature.category_count} distinct")
    return ", ".join([*facts, f"{feature.null_count} missing"])


def _number(value: float, of: SqlType, name: str) -> str:
    if not of.is_temporal:
        return f"{value:.6g}"
    if name == "stddev":
        return f"{value / 86_400:.6g} days"
    moment = _EPOCH + dt.timedelta(seconds=value)
    return f"{moment:%Y-%m-%d}" if of.kind == "date" else f"{moment:%Y-%m-%d %H:%M:%S}"


def _label_type(model: Model) -> SqlType:
    output = model.outputs[0]
    return output.classes[0].of if output.classes else output.type


def _classes(model: Model) -> Iterator[Fact]:
    """In the order of PREDICT_PROBA's list; of two classes, the second one's is given."""
    classes = model.outputs[0].classes
    for number, literal in enumerate(classes):
        positive = "positive" if len(classes) == 2 and number == 1 else None
        yield class_text(literal), str(literal.of), None, positive


def class_text(literal: Literal) -> str:
    """A class as text: booleans as SQL writes them."""
    value = literal.value
    return str(value).lower() if isinstance(value, bool) else str(value)


_FUNCTIONS = {
    "value": "PREDICT",
    "label": "PREDICT",
    "raw": "PREDICT",
    "proba": "PREDICT_PROBA",
    "probs": "ML.PREDICT",
    "centroid": "PREDICT",
    "nearest": "ML.PREDICT",
    "reconstruction": "EXPORT MODEL",
    **dict.fromkeys(RECONSTRUCTION_ERRORS, "ML.RECONSTRUCTION_LOSS"),
}


def _outputs(model: Model) -> Iterator[Fact]:
    for output in model.outputs:
        column = f"predicted_{model.label}_probs" if output.method == "probs" else None
        if output.method in ("reconstruction", *RECONSTRUCTION_ERRORS):
            column = output.method
        yield _FUNCTIONS[output.method], str(output.type), column, None


def _metrics(record: ModelRecord) -> Iterator[Fact]:
    best = record.trial(record.best_trial)
    held_out = "evaluation rows" if record.eval_rows != 0 else "training rows"
    if best.folds:
        held_out = f"mean over {len(best.folds)} folds"
    losses = {"train_loss": best.train_loss, "eval_loss": best.eval_loss}
    for name, value in losses.items():
        if value is not None:
            yield name, None, f"{value:.6g}", None
    for rows, metrics in ((held_out, best.metrics), ("test rows", best.test_metrics)):
        for name, value in metrics.items():
            chosen = ", the trials were compared by it" if name == record.metric else ""
            yield name, None, f"{value:.6g}", rows + (chosen if rows != "test rows" else "")


_FIELDS = frozenset(option.field for option in OPTIONS)


def _options(record: ModelRecord) -> Iterator[Fact]:
    """Under the names of SQL; those of other model types and empty ones are left out."""
    own = record.model_type in (*MODEL_TYPES, *UNLABELLED)
    family = record.model_type if own else PYTHON
    of_field = {o.field: o for o in OPTIONS if family in o.models}
    values = dict(record.options)
    for part in ("split", "solve"):
        inner = values.pop(part, None)
        if isinstance(inner, dict):
            values |= {f"{part}.{name}": value for name, value in inner.items()}
    for field, value in values.items():
        option = of_field.get(field)
        if value in (None, "", [], {}) or (option is None and field in _FIELDS):
            continue
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield field if option is None else option.name, None, text, None


def _lineage(lineage: Lineage) -> Iterator[Fact]:
    names = ("query", "statement", "relation_hash", "seed", "code_version", "engine")
    for name in names:
        yield name, None, str(getattr(lineage, name)) or None, None
    yield "torch", None, lineage.environment.torch, None
    yield "processor", None, lineage.environment.processor, None


def _version(version: Mapping[str, Any], current: int) -> Fact:
    value = version["value"]
    facts = [f"{version['metric']} {value:.6g}"] if value is not None else []
    facts += version["aliases"] or ()
    facts += ["current"] if version["version"] == current else []
    return str(version["version"]), None, _time(version["created"]), ", ".join(facts) or None


def _time(moment: dt.datetime | None) -> str | None:
    return None if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"
