"""Learning operators.  `Fit` and `Search` stand only at the root of a plan."""

from __future__ import annotations

import functools

from gradbase.errors import BindError, near
from gradbase.ir.conversion import ToTable, per_row
from gradbase.ir.derived import Derived, flattened
from gradbase.ir.node import Node, Step, node, walk
from gradbase.ir.relational import Relation
from gradbase.ir.scalar import Column, Scalar
from gradbase.ir.shapes import elements
from gradbase.ir.stepping import Stepping
from gradbase.ir.tensor import Param
from gradbase.ir.types import FLOAT64, INT64, Field, Schema, SqlType


@node
class Feature(Node):
    """A column that a model reads: its name and the type it was trained on."""

    name: str
    of: SqlType


@node
class Model(Node):
    """A version (and trial) of a model: its features and its outputs as programs.

    `task`: ``binary``, ``multiclass``, ``regression``; without a label ('') ``raw``,
    ``reconstruction``, ``clusters``, ``components``, ``transform`` (no outputs). The network reads
    `columns`, computed from the features; () means these as they are. `transform` is what TRANSFORM
    gives, in order. Of an `imported` one NaN passes through, and NULL in a column gives NULL.
    """

    name: str
    version: int
    trial: int
    task: str
    label: str
    features: tuple[Feature, ...]
    outputs: tuple[ToTable, ...]
    columns: tuple[Derived, ...] = ()
    transform: tuple[Derived, ...] = ()
    imported: bool = False

    @functools.cached_property
    def reads(self) -> tuple[Feature, ...]:
        """The columns that the network reads."""
        return tuple(Feature(c.name, c.expr.type) for c in self.columns) or self.features

    def output(self, method: str) -> ToTable:
        """The output `method` (see `ToTable`); BindError where the model has none."""
        for output in self.outputs:
            if output.method == method:
                return output
        methods = [o.method for o in self.outputs]
        raise BindError(
            f"model `{self.name}` ({self.task}) has no output `{method}`; it has "
            f"{', '.join(methods)}",
            hint=near(method, methods),
        )

    @property
    def address(self) -> str:
        return f"{self.name}@{self.version}#{self.trial}"

    @functools.cached_property
    def flops(self) -> float:
        """FLOPs per row of everything below the outputs (shared parts once)."""
        return sum(n.flops for n in per_row(self))

    @functools.cached_property
    def param_bytes(self) -> int:
        return sum(n.size_bytes for n in walk(self) if isinstance(n, Param))

    @functools.cached_property
    def widest(self) -> int:
        """Elements per row of the widest intermediate result."""
        return max((elements(n.shape) for n in per_row(self)), default=1)


@node
class Predict(Relation):
    """`child` plus one column per requested output of a model.

    `features[i]` is the child's column for the i-th feature; `methods[k]` becomes `names[k]`.
    `representation` ('' until chosen: ``dl``, ``udf``, ``relational``), `batch_rows` (0) and
    `distinct` (rows equal in all features once) say how.  SQL: ``SELECT *, PREDICT(…) … FROM …``.
    """

    child: Relation
    model: Model
    features: tuple[str, ...]
    methods: tuple[str, ...]
    names: tuple[str, ...]
    representation: str = ""
    batch_rows: int = 0
    distinct: bool = False

    def __post_init__(self) -> None:
        assert len(self.features) == len(self.model.features)
        assert len(self.methods) == len(self.names) > 0
        for name in self.features:
            self.child.schema.type_of(name)

    @functools.cached_property
    def schema(self) -> Schema:  # type: ignore[override]
        added = (
            Field(n, self.model.output(m).type)
            for n, m in zip(self.names, self.methods, strict=True)
        )
        return Schema((*self.child.schema.fields, *added))


@node
class Preprocess(Relation):
    """`child` plus columns computed in the program; names must be new.

    An `Analytic` is learnt from all rows of `child`.  SQL: ``SELECT *, exprs[i] AS names[i]``.
    """

    row_independent = False
    child: Relation
    names: tuple[str, ...]
    exprs: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        assert len(self.names) == len(self.exprs) > 0
        for expr in self.exprs:
            for name in sorted(expr.columns):
                self.child.schema.type_of(name)

    @functools.cached_property
    def schema(self) -> Schema:  # type: ignore[override]
        pairs = zip(self.names, self.exprs, strict=True)
        added = (Field(n, e.type) for n, e in pairs)
        return Schema((*self.child.schema.fields, *added))


@node
class Evaluate(Relation):
    """Metrics of `model` on `child`: one row, one column per metric of its task.

    `child` holds the columns `features` and the label column `label`; rows whose label is NULL are
    left out.  SQL: ``ML.EVALUATE(MODEL m, (child), STRUCT(threshold))``.
    """

    row_independent = False
    child: Relation
    model: Model
    features: tuple[str, ...]
    label: str
    threshold: float = 0.5
    representation: str = ""
    batch_rows: int = 0

    @functools.cached_property
    def schema(self) -> Schema:  # type: ignore[override]
        return Schema(tuple(Field(n, FLOAT64) for n in METRICS[self.model.task]))


METRICS: dict[str, tuple[str, ...]] = {
    "binary": ("precision", "recall", "accuracy", "f1_score", "log_loss", "roc_auc"),
    "multiclass": ("precision", "recall", "accuracy", "f1_score", "log_loss", "roc_auc"),
    "regression": (
        "mean_absolute_error", "mean_squared_error", "mean_squared_log_error",
        "median_absolute_error", "r2_score", "explained_variance",
    ),
    "reconstruction": ("mean_absolute_error", "mean_squared_error", "mean_squared_log_error"),
    "clusters": ("davies_bouldin_index", "mean_squared_distance"),
    "components": ("total_explained_variance_ratio",),
}  # fmt: skip
"""Metrics by task, in BigQuery ML's order."""


class Network(Node):
    """What is trained, before the data's widths are known."""


@node
class Mlp(Network):
    """Fully connected layers with `activation` and dropout between; () is a linear model.

    A linear model without `intercept` has no constant term.
    """

    hidden_units: tuple[int, ...]
    activation: str = "relu"
    dropout: float = 0.0
    intercept: bool = True


@node
class PythonNetwork(Network):
    """A ``torch.nn.Module`` made by a user's function of the configuration.

    `reference` is ``module:function`` or the key of a function given from Python; `configuration`
    is JSON with sorted keys; `code_hash` is BLAKE3 of the function's source.
    """

    reference: str
    configuration: str
    code_hash: str = ""


@node
class Optimizer(Node):
    """`name` in sgd, adam, adamw, rmsprop, adagrad, torch's defaults; `l2_reg` is weight_decay.

    `l1_reg` (sgd, adagrad) is a proximal step behind each step, of weights and not of biases.
    ``normal_equation`` solves in one step. `stepping` says how steps change.
    """

    name: str
    learn_rate: float
    l2_reg: float = 0.0
    momentum: float = 0.0
    l1_reg: float = 0.0
    stepping: Stepping = Stepping()


@node
class Split(Node):
    """How rows are divided.

    `method` is ``random``, ``seq``, ``custom``, ``none`` or ``k_fold``: the rows of `fold` (from 1
    to `folds`) evaluate and the others train; fold 0 trains on all.
    """

    method: str
    eval_fraction: float
    test_fraction: float
    column: str = ""
    folds: int = 0
    fold: int = 0


@node
class ClassWeight(Node):
    """What the loss of a row whose class reads `label` is multiplied by."""

    label: str
    weight: float


@node
class Dataset(Step):
    """The rows of a training query and everything that decides how they are dealt out.

    `features` and `label` are columns of `relation`; `row_key` () means content identity; `shards`
    0 means by rows (rows // 8192, between 1 and 8). `task` as in `Model`. `weight` is the column of
    instance weights ('' none); `class_weights` () means no weights or balanced ones (see `Fit`).
    `transform` computes what networks read, statistics from the training rows; () is the features.
    Rows of equal `groups` are a relation of their own. `reading`: ``stream`` or ``parquet``.
    """

    relation: Relation
    features: tuple[str, ...]
    label: str
    task: str
    split: Split
    row_key: tuple[str, ...]
    shards: int
    seed: int
    weight: str = ""
    class_weights: tuple[ClassWeight, ...] = ()
    transform: tuple[Derived, ...] = ()
    groups: tuple[str, ...] = ()
    reading: str = "stream"

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column of `relation` that training reads."""
        return tuple(dict.fromkeys((*self.content, *self.groups)))

    @property
    def content(self) -> tuple[str, ...]:
        """The columns that make a row what it is, among those of its group."""
        others = (self.label, *self.row_key, self.split.column, self.weight)
        return tuple(dict.fromkeys(n for n in (*self.features, *others) if n))

    @functools.cached_property
    def prepared(self) -> tuple[Derived, ...]:
        """What networks read, structs as one column per field; () where that is the features.

        Columns of `transform` that only pass the label, a key and the like on are left out.
        """
        if self.transform:
            others = (self.label, *self.row_key, *self.groups, self.split.column, self.weight)
            return flattened(
                d
                for d in self.transform
                if not (d.name in others and isinstance(d.expr, Column) and d.expr.name == d.name)
            )
        fields = self.relation.schema.select(self.features).fields
        if not any(f.type.kind == "struct" for f in fields):
            return ()
        return flattened(Derived(f.name, Column(f.name, f.type)) for f in fields)

    @functools.cached_property
    def inputs(self) -> Schema:
        """Columns that networks learn from, before they are encoded."""
        if not self.prepared:
            return self.relation.schema.select(self.features)
        return Schema(tuple(Field(d.name, d.expr.type) for d in self.prepared))


@node
class Fit(Step):
    """One trial: `network` trained on `data`. Its result depends on these fields alone.

    With `early_stop`, `patience` epochs in a row that improve the loss by less than
    `min_rel_progress` (relative to the best so far) end it. `auto_class_weights` balance the
    classes. `start` is the model that is continued: its encodings stay, its weights are the first.
    In epoch e it begins with shard `first_shard` + e: 0, or with a staggered order its number.
    `loss` is one of `stepping.LOSSES`, '' the task's; `metric` is a user's own (see `ir.metrics`).
    Gradients of `replicas` parts of a batch, a power of two, are added in pairs.
    """

    data: Dataset
    trial: int
    network: Network
    optimizer: Optimizer
    batch_size: int
    epochs: int
    early_stop: bool
    min_rel_progress: float
    auto_class_weights: bool
    seed: int
    patience: int = 1
    start: Model | None = None
    first_shard: int = 0
    loss: str = ""
    metric: str = ""
    replicas: int = 1


@node
class FusedFit(Step):
    """Fits of equal shape that train as one stack (`tolerance`)."""

    fits: tuple[Fit, ...]


@node
class Search(Relation):
    """Many fits over one dataset; the best by `metric` becomes model `name`.

    `trials` holds every fit once, alone or inside a `FusedFit`. `workers` (0 until chosen) train
    groups at once, each with `threads` (0 until chosen) of torch, never from load; `executor`
    (``auto`` until chosen) says where, `access` how other processes get at their rows: ``direct``,
    ``targeted``, ``export``. Schema: one summary row.
    """

    row_independent = False
    name: str
    trials: tuple[Fit | FusedFit, ...]
    metric: str
    procedure: str
    workers: int = 0
    threads: int = 0
    executor: str = "in_process"
    access: str = "direct"

    @property
    def fits(self) -> tuple[Fit, ...]:
        """All fits in order of their trial number."""
        flat = (f for t in self.trials for f in (t.fits if isinstance(t, FusedFit) else (t,)))
        return tuple(sorted(flat, key=lambda f: f.trial))

    @functools.cached_property
    def schema(self) -> Schema:  # type: ignore[override]
        return SUMMARY


@node
class Learn(Relation):
    """Learns the transform of `data`, which becomes model `name`.  Schema: one summary row."""

    row_independent = False
    name: str
    data: Dataset

    @functools.cached_property
    def schema(self) -> Schema:  # type: ignore[override]
        return SUMMARY


SUMMARY = Schema.of(
    model=SqlType("text"), version=INT64, trials=INT64, failed=INT64, best_trial=INT64,
    metric=SqlType("text"), value=FLOAT64, seconds=FLOAT64,
)  # fmt: skip
"""What CREATE MODEL returns."""


def outputs_of(scalars: tuple[Scalar, ...]) -> tuple[str, ...]:
    """Distinct outputs asked for, in order of first use."""
    return tuple(dict.fromkeys(c.output for s in scalars for c in s.predictions))
