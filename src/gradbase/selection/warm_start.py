"""Continuing a model: its options where none are given, and what must be as it was."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from gradbase.errors import BindError, UnsupportedError
from gradbase.frontend.option_table import GRADIENT_DESCENT
from gradbase.frontend.training import SplitSpec, TrainingSpec
from gradbase.frontend.transform import TransformClause
from gradbase.ir.learning import Dataset, Feature, Fit, Mlp, Model
from gradbase.runtime.train.continuing import layers_of
from gradbase.selection.api import UNDECIDED
from gradbase.store.records import EpochRecord, ModelRecord

_NEW = {"space": {}, "procedure": "grid", "num_trials": None, "network": None, "extra": {}}
"""What is never taken over."""


def continued(spec: TrainingSpec, record: ModelRecord) -> TrainingSpec:
    """`spec` with what it does not say taken from the training that made `record`.

    Of a search, the best trial is continued; steps of gradient descent are taken from a solution.

    Raises
    ------
    BindError
        `spec` says another type of model.
    UnsupportedError
        The model is one that cannot be continued.
    """
    before = _before(record)
    if "model_type" in spec.said and spec.model_type not in (*UNDECIDED, before.model_type):
        raise _differs(record.name, "model_type", repr(before.model_type), repr(spec.model_type))
    own = {n: getattr(spec, n) for n in spec.said - {"model_type"} if "." not in n}
    own |= {"split": _split(spec, before.split), "said": spec.said, "strategy": GRADIENT_DESCENT}
    return dataclasses.replace(before, **own)


def earlier_epochs(record: ModelRecord) -> tuple[EpochRecord, ...]:
    """The history of the model that is continued; of cross-validation its run on all rows."""
    best = record.trial(record.best_trial)
    if not best.folds:
        return tuple(best.epochs)
    last = len(best.folds)
    return tuple(dataclasses.replace(e, run=0) for e in best.epochs if e.run == last)


def rows_for(model: Model, data: Dataset) -> Dataset:
    """`data` as the model reads it.

    Raises
    ------
    BindError
        The label or a column is not what it was.
    """
    if data.label.casefold() != model.label.casefold():
        raise _differs(model.name, "label", f"`{model.label}`", f"`{data.label}`")
    regresses = [task == "regression" for task in (model.task, data.task)]
    if regresses[0] != regresses[1]:
        raise _differs(model.name, "task", model.task, data.task)
    types = data.relation.schema
    found = [Feature(n, types.type_of(n)) for n in data.features]
    if data.transform:  # its columns are the model's own, some of which it may not read
        _check_columns(model, [f for f in found if f.name in {b.name for b in model.features}])
        return data.replace(task=model.task)
    _check_columns(model, found)
    return data.replace(task=model.task, features=tuple(f.name for f in model.features))


def check_transform(model: Model, before: str, clause: TransformClause | None) -> None:
    """BindError where another TRANSFORM is asked for than that of the model, `before`."""
    if clause is not None and clause.text.split() != before.split():
        raise BindError(
            f"warm_start continues model `{model.name}` with TRANSFORM ({before}), found "
            f"TRANSFORM ({clause.text.strip()})",
            hint="leave TRANSFORM out: what the model learnt for it stays",
        )


def starting(model: Model, fit: Fit) -> Fit:
    """`fit` from the model's weights; BindError where its network is another one."""
    layers = layers_of(model)[0]
    assert isinstance(fit.network, Mlp), fit.network
    if layers.hidden_units != fit.network.hidden_units:
        expected, found = list(layers.hidden_units), list(fit.network.hidden_units)
        raise _differs(model.name, "hidden_units", expected, found)
    if layers.activation not in ("", fit.network.activation):
        expected, found = repr(layers.activation), repr(fit.network.activation)
        raise _differs(model.name, "activation_fn", expected, found)
    return fit.replace(start=model)


def _before(record: ModelRecord) -> TrainingSpec:
    """The training that made `record`, as if its best trial had been asked for alone."""
    options = dict(record.options)
    if "model_type" not in options or options.get("network"):
        raise UnsupportedError(
            f"warm_start continues linear and deep models, `{record.name}` is a "
            f"{record.model_type} model",
            hint="leave warm_start out",
        )
    known = {f.name for f in dataclasses.fields(TrainingSpec)} - {"split", "said", *_NEW}
    best = record.trial(record.best_trial).configuration
    values = {n: v for n, v in {**options, **best}.items() if n in known}
    values["class_weights"] = tuple((t, w) for t, w in values.get("class_weights") or ())
    for name in ("row_key", "hidden_units"):
        if isinstance(values.get(name), list):
            values[name] = tuple(values[name])
    parts = {f.name for f in dataclasses.fields(SplitSpec)}
    split = SplitSpec(**{n: v for n, v in options.get("split", {}).items() if n in parts})
    return TrainingSpec(**values, split=split)


def _split(spec: TrainingSpec, before: SplitSpec) -> SplitSpec:
    """What is said of the split, on top of how rows were split before.

    A model of cross-validation has learnt from all rows: nothing is held out unless that is said.
    """
    said = {n.partition(".")[2] for n in spec.said if n.startswith("split.")}
    if before.method == "k_fold":
        before = SplitSpec("no_split")
    if "method" in said or (said and before.method not in ("random", "seq")):
        return spec.split
    return dataclasses.replace(before, **{n: getattr(spec.split, n) for n in said})


def _check_columns(model: Model, found: Sequence[Feature]) -> None:
    before: Mapping[str, Any] = {f.name: f.of for f in model.features}
    now = {f.name: f.of for f in found}
    for name, of in before.items():
        if name not in now:
            raise _differs(model.name, f"column `{name}`", of, "no such column")
        if now[name] != of:
            raise _differs(model.name, f"column `{name}`", of, now[name])
    new = [name for name in now if name not in before]
    if new:
        raise BindError(
            f"warm_start continues model `{model.name}`, which does not read "
            f"{', '.join(f'`{n}`' for n in new)}",
            hint=f"leave it out: SELECT * EXCLUDE ({', '.join(new)})",
        )


def _differs(name: str, what: str, expected: object, found: object) -> BindError:
    return BindError(
        f"warm_start continues model `{name}` with {what} {expected}, found {found}",
        hint="leave that as it was, or train again without warm_start",
    )
