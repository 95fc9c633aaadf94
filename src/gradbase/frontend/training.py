"""What a CREATE MODEL or a Python fit asks for, as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gradbase.errors import BindError
from gradbase.frontend.space import Choice, Dimension
from gradbase.ir.learning import Network, Split

CLASSIFICATION, REGRESSION, RECONSTRUCTION = "classification", "regression", "reconstruction"
DEFAULT_METRIC = {
    CLASSIFICATION: "roc_auc", REGRESSION: "r2_score", RECONSTRUCTION: "mean_squared_error",
}  # fmt: skip
AUTO_SPLIT = "auto_split"
AUTO_SPLIT_SMALL, AUTO_SPLIT_LARGE, AUTO_SPLIT_EVAL_ROWS = 500, 50_000, 10_000


@dataclass(frozen=True)
class SplitSpec:
    """How rows are divided, as asked for.

    `method` is ``auto_split``, ``random``, ``seq``, ``custom``, ``no_split`` or ``k_fold``; a
    fraction in [0, 1) is None where not given; `column` is '' without data_split_col; `folds` is 0
    except with ``k_fold``.
    """

    method: str = "auto_split"
    eval_fraction: float | None = None
    test_fraction: float | None = None
    column: str = ""
    folds: int = 0


@dataclass(frozen=True)
class SolveSpec:
    """What is asked of models without a label; None and '' where not given."""

    clusters: int | None = None
    init: str = "kmeans++"
    init_column: str = ""
    distance: str = "euclidean"
    standardize: bool = True
    components: int | None = None
    share: float | None = None


@dataclass(frozen=True)
class TrainingSpec:
    """Everything that decides a search, before rows are seen.

    `hidden_units` None means BigQuery's rule over rows (see `default_hidden_units`). `task` is
    ``classification``, ``regression`` or '' (a ``python:`` model: by the label's type). `space`
    maps hyper-parameter names to dimensions; without one there is a single trial. `num_trials` None
    with procedure ``grid`` means the whole product; what `reduction_factor`, `min_epochs` and
    `parallel` mean is the procedure's business. `executor`, `workers` and `threads_per_unit`
    (0: as is best) say where units train. `network` replaces the multilayer perceptron;
    `extra` is a ``python:`` model's own configuration. `metric` '' means the task's default.
    `groups` are the columns of one model per group, `unseen` what it predicts of other rows.
    `class_weights` are pairs of a class as text and its weight; `weight_column` is '' without
    instance weights. `transform` is the text of a TRANSFORM. `said` names the fields that somebody
    set. The linear part of a wide and deep model has `linear_optimizer` and `linear_learn_rate`, ''
    and None where it has those of the deep part.
    """

    model_type: str
    label: str = "label"
    task: str = ""
    hidden_units: tuple[int, ...] | None = None
    activation: str = "relu"
    dropout: float = 0.0
    l1_reg_activation: float = 0.0
    optimizer: str = "adam"
    learn_rate: float = 0.001
    linear_optimizer: str = "adagrad"
    linear_learn_rate: float | None = 0.01
    l2_reg: float = 0.0
    l1_reg: float = 0.0
    momentum: float = 0.0
    loss: str = ""
    clip_norm: float = 0.0
    schedule: str = "constant"
    warmup: float = 0.0
    decay: float = 0.1
    decay_epochs: int = 10
    batch_size: int = 32
    epochs: int = 20
    early_stop: bool = True
    min_rel_progress: float = 0.01
    patience: int = 1
    fit_intercept: bool = True
    strategy: str = "auto_strategy"
    warm_start: bool = False
    auto_class_weights: bool = False
    class_weights: tuple[tuple[str, float], ...] = ()
    weight_column: str = ""
    transform: str = ""
    split: SplitSpec = SplitSpec()
    solve: SolveSpec = SolveSpec()
    row_key: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    unseen: str = "null"
    shards: int = 0
    shard_order: str = "shared"
    seed: int = 0
    metric: str = ""
    procedure: str = "grid"
    num_trials: int | None = None
    reduction_factor: int = 3
    min_epochs: int = 1
    parallel: int = 8
    executor: str = "auto"
    shard_access: str = "auto"
    replicas: int = 0
    workers: int = 0
    threads_per_unit: int = 0
    space: Mapping[str, Dimension] = field(default_factory=dict)
    network: Network | None = None
    extra: Mapping[str, object] = field(default_factory=dict)
    said: frozenset[str] = field(default=frozenset(), compare=False)

    def __post_init__(self) -> None:
        if self.procedure == "grid":
            for name, dimension in self.space.items():
                if not isinstance(dimension, Choice):
                    raise BindError(
                        f"a grid needs listed values, `{name}` is a range "
                        f"({dimension.low:g} to {dimension.high:g})",
                        hint="use HPARAM_CANDIDATES, or hparam_tuning_algorithm = 'random'",
                    )

    @property
    def tuned(self) -> bool:
        """Whether more than one trial was asked for."""
        return bool(self.space) or (self.num_trials or 1) > 1


def resolve_split(split: SplitSpec, rows: int, *, tuned: bool, by_rows: bool = True) -> Split:
    """BigQuery's split for `rows` rows: AUTO_SPLIT and left-out fractions become numbers.

    What follows from the number of rows is left open unless `by_rows`, see `split_of_rows`.

    Examples
    --------
    >>> found = resolve_split(SplitSpec(), 1000, tuned=True)
    >>> found.method, found.eval_fraction, found.test_fraction
    ('random', 0.1, 0.1)
    """
    fractions = (split.eval_fraction, split.test_fraction)
    match split.method:
        case "no_split":
            return Split("none", 0.0, 0.0)
        case "custom":
            return Split("custom", 0.0, 0.0, split.column)
        case "k_fold":
            return Split("k_fold", 0.0, 0.0, folds=split.folds)
        case "seq":
            return Split("seq", *_fractions(fractions, tuned=tuned), split.column)
        case "random" if fractions != (None, None):
            return Split("random", *_fractions(fractions, tuned=tuned))
    if not by_rows:
        return Split(AUTO_SPLIT, 0.1 if tuned else 0.2, 0.1 if tuned else 0.0)
    return _automatic(rows, tuned=tuned)


def split_of_rows(split: Split, rows: int) -> Split:
    """`split` for so many rows, where it was left open until they were known."""
    if split.method != AUTO_SPLIT:
        return split
    return _automatic(rows, tuned=split.test_fraction > 0)


def _automatic(rows: int, *, tuned: bool) -> Split:
    if rows < AUTO_SPLIT_SMALL:
        return Split("none", 0.0, 0.0)
    if tuned:
        return Split("random", 0.1, 0.1)
    if rows <= AUTO_SPLIT_LARGE:
        return Split("random", 0.2, 0.0)
    return Split("random", AUTO_SPLIT_EVAL_ROWS / rows, 0.0)


def _fractions(given: tuple[float | None, float | None], *, tuned: bool) -> tuple[float, float]:
    evaluation, test = given
    if given == (None, None) and tuned:
        return 0.1, 0.1
    return 0.2 if evaluation is None else evaluation, test or 0.0


def default_latent_units(inputs: int) -> tuple[int, ...]:
    """Hidden layers of an autoencoder of `inputs` columns: one of half as many, at most 128.

    Examples
    --------
    >>> default_latent_units(9)
    (4,)
    """
    return (max(1, min(128, inputs // 2)),)


def default_hidden_units(rows: int, inputs: int, outputs: int) -> tuple[int, ...]:
    """BigQuery's default: one layer of min(128, rows / (10 * (inputs + outputs))), at least 1.

    Examples
    --------
    >>> default_hidden_units(10_000, 9, 1)
    (100,)
    """
    return (max(1, min(128, rows // (10 * (inputs + outputs)))),)
