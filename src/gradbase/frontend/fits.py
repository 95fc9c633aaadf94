"""From a TrainingSpec, a relation and sampled configurations to the nodes of the plan."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gradbase.errors import BindError, near
from gradbase.frontend.names import lookup
from gradbase.frontend.option_table import NORMAL_EQUATION, STAGGERED, WIDE
from gradbase.frontend.training import (
    CLASSIFICATION,
    RECONSTRUCTION,
    REGRESSION,
    TrainingSpec,
    resolve_split,
)
from gradbase.ir.derived import Derived
from gradbase.ir.learning import (
    ClassWeight,
    Dataset,
    Fit,
    Mlp,
    Network,
    Optimizer,
    PythonNetwork,
    Split,
)
from gradbase.ir.metrics import reference_of
from gradbase.ir.networks import Autoencoder, WideDeep
from gradbase.ir.relational import Relation
from gradbase.ir.scalar import Column
from gradbase.ir.stepping import Stepping
from gradbase.ir.types import Schema, SqlType

_TRAINER = (
    "optimizer", "learn_rate", "l2_reg", "l1_reg", "momentum", "batch_size", "epochs", "seed",
    "loss", "clip_norm", "schedule", "warmup", "decay", "decay_epochs",
)  # fmt: skip
"""Hyper-parameters that are not the network's business."""


def build_dataset(
    spec: TrainingSpec,
    relation: Relation,
    rows: int,
    *,
    task: str | None = None,
    transform: tuple[Derived, ...] = (),
) -> Dataset:
    """The rows of a training query and how they are dealt out.

    Features are all columns except the label, the split column, the instance weights, the row key
    and the columns of `groups`; with a TRANSFORM those that it reads.

    Parameters
    ----------
    spec : TrainingSpec
    relation : Relation
        The training query.
    rows : int
        Rows of `relation` with a label, which AUTO_SPLIT depends on.
    task : str, optional
        ``binary`` or ``multiclass`` once the classes are counted; else ``classification`` stands.
    transform : tuple of Derived
        What TRANSFORM gives.

    Raises
    ------
    BindError
        A column is not there (near matches offered) or not passed on by TRANSFORM as it is, the
        weights are no numbers, or no feature is left.
    """
    schema = relation.schema
    label = label_of(spec, schema)
    key = tuple(find_column(schema, k, "row_key column") for k in spec.row_key)
    groups = tuple(find_column(schema, n, "group_by column") for n in spec.groups)
    left_out = {label, *key, *groups}
    split = resolve_split(spec.split, rows, tuned=spec.tuned, by_rows=not spec.groups)
    if split.column:
        split = split.replace(column=find_column(schema, split.column, "data_split_col column"))
        left_out.add(split.column)
    weight = _weight_column(spec, schema, label)
    features = () if transform else _others(schema, {*left_out, weight} - {""})
    found_task = task or spec.task or task_of(schema.type_of(label))
    if label:
        _check_regressed(found_task, label, schema.type_of(label))
    data = Dataset(
        relation, features, label, found_task, split, key, spec.shards, spec.seed, weight,
        tuple(ClassWeight(*pair) for pair in spec.class_weights), transform, groups,
    )  # fmt: skip
    return _transformed(data) if transform else data


def label_of(spec: TrainingSpec, schema: Schema) -> str:
    """The label's column, '' where a model learns without one."""
    if spec.task == RECONSTRUCTION:
        return ""
    return find_column(schema, spec.label, "label column", "set input_label_cols")


def transform_dataset(relation: Relation, transform: tuple[Derived, ...]) -> Dataset:
    """The rows that a model learns its TRANSFORM from, and nothing else: there is no label."""
    read = {name for d in transform for name in d.expr.columns}
    features = tuple(n for n in relation.schema.names if n in read)
    split = Split("none", 0.0, 0.0)
    return Dataset(relation, features, "", "transform", split, (), 1, 0, transform=transform)


def unlabelled_dataset(
    spec: TrainingSpec, relation: Relation, transform: tuple[Derived, ...], task: str
) -> Dataset:
    """The rows of a model that learns without a label: all columns but the row key and the one that
    marks the first centroids are features.

    Raises
    ------
    BindError
        Such a column is not there or not passed on by TRANSFORM, or no feature is left.
    """
    schema, marked = relation.schema, spec.solve.init_column
    key = tuple(find_column(schema, n, "row key", "set row_key") for n in spec.row_key)
    if marked:
        marked = find_column(schema, marked, "kmeans_init_col")
        if schema.type_of(marked).kind != "bool":
            raise BindError(
                f"kmeans_init_col `{marked}` is {schema.type_of(marked)}, expected bool",
                hint="TRUE for the rows that are the first centroids",
            )
    split = Split("none", 0.0, 0.0, marked)
    left_out = {*key, marked} - {""}
    features = () if transform else _others(schema, left_out)
    data = Dataset(relation, features, "", task, split, key, 1, spec.seed, transform=transform)
    return _transformed(data) if transform else data


def _others(schema: Schema, left_out: set[str]) -> tuple[str, ...]:
    """The columns besides those left out, of which there must be one."""
    features = tuple(n for n in schema.names if n not in left_out)
    if not features:
        raise BindError(
            f"the query has no column to learn from besides {', '.join(sorted(left_out))}",
            hint="select feature columns too",
        )
    return features


def _transformed(data: Dataset) -> Dataset:
    """`data` with the features that its TRANSFORM reads, once that is as it may be."""
    given = {d.name: d.expr for d in data.transform}
    for what, name in (
        ("label", data.label),
        ("kmeans_init_col" if data.task == "clusters" else "data_split_col", data.split.column),
        ("instance_weight_col", data.weight),
    ):  # fmt: skip
        same = Column(name, data.relation.schema.type_of(name)) if name else None
        if name and given.get(name) is not same:
            raise BindError(
                f"TRANSFORM must pass the {what} `{name}` on as it is",
                hint=f"write `{name}` in TRANSFORM, without a change and without AS",
            )
    for name in data.groups:
        if given.get(name, same := Column(name, data.relation.schema.type_of(name))) is not same:
            raise BindError(
                f"TRANSFORM changes `{name}`, which group_by makes groups of",
                hint=f"… AS another name; groups are made of `{name}` as the query gives it",
            )
    if not data.prepared:
        raise BindError(f"TRANSFORM gives nothing to learn from besides {', '.join(given)}")
    read = {name for d in data.prepared for name in d.expr.columns}
    if data.label in read:
        raise BindError(
            f"TRANSFORM reads the label `{data.label}`, which is not known when predicting",
            hint="leave it out of the other columns",
        )
    return data.replace(features=tuple(n for n in data.relation.schema.names if n in read))


def _weight_column(spec: TrainingSpec, schema: Schema, label: str) -> str:
    if not spec.weight_column:
        return ""
    name = find_column(schema, spec.weight_column, "instance_weight_col column")
    if name == label:
        raise BindError(f"instance_weight_col `{name}` is the label")
    if not schema.type_of(name).is_numeric:
        raise BindError(
            f"instance_weight_col `{name}` has type {schema.type_of(name)}, weights are numbers",
            at=f"column {name}",
        )
    return name


def _check_regressed(task: str, label: str, of: SqlType) -> None:
    if task == REGRESSION and (of.is_text or of.is_vector or of.is_nested):
        raise BindError(
            f"label `{label}` has type {of}, a regression predicts numbers",
            at=f"column {label}",
            hint="logistic_reg or dnn_classifier predict classes; or cast it in the query",
        )


def task_of(label: SqlType) -> str:
    """What a label type asks for where nobody says: floats and decimals are regressed."""
    return REGRESSION if label.is_float or label.kind == "decimal" else CLASSIFICATION


def find_column(schema: Schema, name: str, what: str, hint: str | None = None) -> str:
    """The column called `name`, exactly or else ignoring case."""
    found = lookup(name, schema.names)
    if found is not None:
        return found
    raise BindError(
        f"{what} `{name}` is not in the query; it has {', '.join(schema.names)}",
        hint=near(name, schema.names) or hint,
    )


def build_fits(
    spec: TrainingSpec, dataset: Dataset, configurations: Sequence[Mapping[str, object]]
) -> tuple[Fit, ...]:
    """One Fit per configuration, or one per configuration and fold; trials numbered from 1.

    A configuration maps hyper-parameter names to values; what it leaves out is the spec's.
    """
    parts = datasets_of(dataset)
    numbered = enumerate(configurations, start=1)
    return tuple(_fit(spec, part, trial, c) for trial, c in numbered for part in parts)


def datasets_of(dataset: Dataset) -> tuple[Dataset, ...]:
    """What a configuration is trained on: `dataset`, or each of its folds."""
    split = dataset.split
    folds = (split.replace(fold=fold) for fold in range(1, split.folds + 1))
    return tuple(dataset.replace(split=f) for f in folds) if split.folds else (dataset,)


def _fit(spec: TrainingSpec, dataset: Dataset, trial: int, given: Mapping[str, Any]) -> Fit:
    def value(name: str) -> Any:
        return given.get(name, getattr(spec, name))

    solved = spec.strategy == NORMAL_EQUATION
    optimizer = Optimizer(
        value("optimizer"),
        float(value("learn_rate")),
        float(value("l2_reg")),
        float(value("momentum")),
        float(value("l1_reg")),
        Stepping(
            value("schedule"), float(value("warmup")), float(value("decay")),
            int(value("decay_epochs")), float(value("clip_norm")),
        ),
    )  # fmt: skip
    return Fit(
        data=dataset,
        trial=trial,
        network=network_of(spec, given),
        optimizer=Optimizer(NORMAL_EQUATION, 0.0, optimizer.l2_reg) if solved else optimizer,
        batch_size=int(value("batch_size")),
        epochs=1 if solved else int(value("epochs")),
        early_stop=spec.early_stop,
        min_rel_progress=spec.min_rel_progress,
        auto_class_weights=spec.auto_class_weights,
        seed=int(value("seed")),
        patience=spec.patience,
        first_shard=trial if spec.shard_order == STAGGERED else 0,
        loss=spec.loss,
        replicas=spec.replicas or 1,
        metric=spec.metric if reference_of(spec.metric) else "",
    )


def network_of(spec: TrainingSpec, given: Mapping[str, Any]) -> Network:
    """The network of one configuration.

    ``hidden_units`` must be in the configuration or the spec: who knows the rows fills it in with
    `default_hidden_units`.
    """
    if isinstance(spec.network, PythonNetwork):
        own = {k: v for k, v in {**spec.extra, **given}.items() if k not in _TRAINER}
        text = json.dumps(own, sort_keys=True, default=list)
        return spec.network.replace(configuration=text)
    if spec.network is not None and not isinstance(spec.network, Mlp):
        return spec.network
    base = spec.network or Mlp(spec.hidden_units or (), spec.activation, spec.dropout)
    hidden = given.get("hidden_units", base.hidden_units if spec.network else spec.hidden_units)
    if hidden is None:
        raise BindError(
            "hidden_units is not set", hint="set it, or let it be chosen by the number of rows"
        )
    hidden = (hidden,) if isinstance(hidden, int) else tuple(int(n) for n in hidden)
    activation = given.get("activation", base.activation)
    dropout = float(given.get("dropout", base.dropout))
    if spec.task == RECONSTRUCTION:
        l1_reg_activation = float(given.get("l1_reg_activation", spec.l1_reg_activation))
        return Autoencoder(hidden, activation, dropout, True, l1_reg_activation)
    if spec.model_type not in WIDE:
        return Mlp(hidden, activation, dropout, spec.fit_intercept)
    rate = given.get("linear_learn_rate", spec.linear_learn_rate)
    optimizer = given.get("linear_optimizer", spec.linear_optimizer)
    return WideDeep(hidden, activation, dropout, True, optimizer, rate)
