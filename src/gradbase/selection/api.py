"""The public way to say what to train: `search` and `mlp`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from gradbase.errors import BindError, near
from gradbase.frontend.cursor import Candidates, OptionValue, Range
from gradbase.frontend.option_table import AUTOENCODER, BY_NAME, KMEANS, PCA, PYTHON, WIDE
from gradbase.frontend.options import resolve
from gradbase.frontend.space import (
    Choice,
    Dimension,
    IntUniform,
    LogUniform,
    Uniform,
    as_dimension,
)
from gradbase.frontend.training import CLASSIFICATION, REGRESSION, TrainingSpec
from gradbase.ir.learning import METRICS
from gradbase.ir.stepping import OF_CLASSES, OF_NUMBERS
from gradbase.selection.networks import register
from gradbase.selection.own import referenced

UNDECIDED = {
    "dnn": ("dnn_classifier", "dnn_regressor"),
    "dnn_linear_combined": WIDE,
}
"""Model types until the label says which of the two it is: a classifier or a regressor."""

_NAMED = (
    "lr", "batch_size", "optimizer", "l2_reg", "dropout", "seed", "epochs", "metric", "procedure",
    "trials",
)  # fmt: skip
"""Parameters of `search` by name, in the order of a grid."""

_SQL_NAMES = {
    "activation": "activation_fn",
    "epochs": "max_epochs",
    "eval_fraction": "data_split_eval_fraction",
    "hidden": "hidden_units",
    "linear_lr": "linear_learn_rate",
    "lr": "learn_rate",
    "metric": "hparam_tuning_objectives",
    "parallel": "max_parallel_trials",
    "procedure": "hparam_tuning_algorithm",
    "split": "data_split_method",
    "split_column": "data_split_col",
    "test_fraction": "data_split_test_fraction",
    "trials": "num_trials",
    "weight_column": "instance_weight_col",
}


@dataclasses.dataclass(frozen=True)
class MlpSpace:
    """A multilayer perceptron, each part fixed or searched over; made by `mlp`."""

    hidden: Any = None
    activation: Any = None
    dropout: Any = None

    @property
    def model_type(self) -> str:
        """A key of `UNDECIDED`."""
        return "dnn"

    def parts(self) -> dict[str, Any]:
        """What is set, by name."""
        return {k: v for k, v in vars(self).items() if v is not None}


def mlp(
    hidden: Any = None,
    *,
    activation: str | Dimension | None = None,
    dropout: float | Dimension | None = None,
) -> MlpSpace:
    """Fully connected layers, as a network for `search`.

    Parameters
    ----------
    hidden : int, list of int or Choice, optional
        Sizes of the hidden layers; [] is a linear model; None: one layer by the number of rows.
    activation : str or Choice, optional
        relu (if left out), relu6, elu, selu, gelu, silu, sigmoid or tanh.
    dropout : float or dimension, optional
        Share of hidden values dropped in training; 0 if left out.

    Examples
    --------
    >>> import gradbase as gb
    >>> gb.mlp(hidden=gb.choice([64, 32], [128])).hidden.values
    ([64, 32], [128])
    """
    return MlpSpace(hidden, activation, dropout)


@dataclasses.dataclass(frozen=True)
class WideDeepSpace(MlpSpace):
    """Hidden layers and a linear part beside them; made by `wide_and_deep`."""

    linear_optimizer: Any = None
    linear_lr: Any = None

    @property
    def model_type(self) -> str:
        return "dnn_linear_combined"


@dataclasses.dataclass(frozen=True)
class AutoencoderSpace(MlpSpace):
    """Hidden layers that give their own input again; made by `autoencoder`."""

    l1_reg_activation: Any = None

    @property
    def model_type(self) -> str:
        return AUTOENCODER


Value = float | str | Dimension | None


def autoencoder(
    hidden: Any = None,
    *,
    activation: str | Dimension | None = None,
    dropout: Value = None,
    l1_reg_activation: Value = None,
) -> AutoencoderSpace:
    """Hidden layers that give all columns again through a narrow one, as a network for `search`.

    It learns without a target: ``db.table("t").fit(gb.autoencoder([16, 2, 16]), name="m")``.

    Parameters
    ----------
    hidden : int, list of int or Choice, optional
        Sizes of an odd number of layers; the middle one has the latent columns. None: one layer of
        half as many as there are columns.
    activation, dropout
        As in `mlp`.
    l1_reg_activation : float or dimension, optional
        Times the sum of absolute latent values of a row, on average, is added to the loss.

    Examples
    --------
    >>> import gradbase as gb
    >>> gb.search(gb.autoencoder([16, 2, 16]), lr=0.01).task
    'reconstruction'
    """
    return AutoencoderSpace(hidden, activation, dropout, l1_reg_activation)


def kmeans(num_clusters: Any = None, **parameters: Any) -> TrainingSpec:
    """Clusters of rows, for `Table.fit` without a target.

    Parameters
    ----------
    num_clusters : int or dimension, optional
        log10 of the rows, from 2 to 100, if left out.
    **parameters : value or dimension
        Other options of CREATE MODEL (``distance_type="cosine"``, ``trials=5``, ``seed=7``, …).

    Examples
    --------
    >>> import gradbase as gb
    >>> gb.kmeans(gb.randint(2, 6), trials=5).num_trials
    5
    """
    given = {} if num_clusters is None else {"num_clusters": num_clusters}
    return _resolved(KMEANS, _dimensions(given | parameters))


def pca(num_principal_components: int | None = None, **parameters: Any) -> TrainingSpec:
    """Principal components of the columns, for `Table.fit` without a target.

    Parameters
    ----------
    num_principal_components : int, optional
        All if left out.
    **parameters : value
        Other options of CREATE MODEL (``pca_explained_variance_ratio=0.9``, …).

    Examples
    --------
    >>> import gradbase as gb
    >>> gb.pca(2).solve.components
    2
    """
    named = {"num_principal_components": num_principal_components}
    given = {n: v for n, v in named.items() if v is not None}
    return _resolved(PCA, _dimensions(given | parameters))


def wide_and_deep(
    hidden: Any = None,
    *,
    activation: str | Dimension | None = None,
    dropout: Value = None,
    linear_optimizer: str | Dimension | None = None,
    linear_lr: Value = None,
) -> WideDeepSpace:
    """A linear part beside hidden layers, trained together, as a network for `search`.

    Parameters
    ----------
    hidden, activation, dropout
        Of the hidden layers, as in `mlp`.
    linear_optimizer : str or Choice, optional
        What changes the linear part; if left out the search's `optimizer`, or adagrad.
    linear_lr : float or dimension, optional
        Its step; if left out the search's `lr`, or 0.01.

    Examples
    --------
    >>> import gradbase as gb
    >>> gb.search(gb.wide_and_deep(hidden=[16], linear_lr=0.05)).linear_learn_rate
    0.05
    """
    return WideDeepSpace(hidden, activation, dropout, linear_optimizer, linear_lr)


Network = MlpSpace | Callable[[dict[str, Any]], Any]


def search(
    network: Network,
    *,
    lr: Value = None,
    batch_size: Value = None,
    optimizer: Value = None,
    l2_reg: Value = None,
    dropout: Value = None,
    seed: Value = None,
    epochs: int | None = None,
    metric: str | None = None,
    procedure: str | None = None,
    trials: int | None = None,
    **parameters: Any,
) -> TrainingSpec:
    """What `Table.fit` trains; any value may be a dimension to search over.

    A dimension is ``gb.choice``, ``uniform``, ``loguniform``, ``randint`` or a distribution of
    ``optuna.distributions``. Left out: the defaults of CREATE MODEL. A grid is the product in the
    order of the network's parts, then of the parameters here, then of `parameters` as written.

    Parameters
    ----------
    network : mlp(…), wide_and_deep(…), autoencoder(…), or a function of the configuration
        The function returns a ``torch.nn.Module`` from Tensor[B, n_inputs] float32 to
        Tensor[B, n_outputs]; both sizes are in its configuration.
    lr, batch_size, optimizer, l2_reg, dropout, seed, epochs, metric, procedure, trials
        As in CREATE MODEL; `dropout` of a function goes into its configuration.
    **parameters : value or dimension
        Other options of CREATE MODEL (``early_stop=False``, ``split="random"``, ``folds=5``,
        ``class_weights={"yes": 2.0, "no": 1.0}``, ``weight_column="w"``, …); what is none goes into
        the function's configuration. `loss` may be a function of outputs Tensor[rows, outputs] and
        targets Tensor[rows] that returns each row's loss, `lr_schedule` one of a step and the
        number of steps, `optimizer` one of parameters and ``lr``, `metric` `minimize` of one.

    Examples
    --------
    >>> import gradbase as gb
    >>> found = gb.search(gb.mlp(hidden=[16]), lr=gb.loguniform(1e-4, 1e-1), trials=8)
    >>> found.procedure, found.num_trials, found.hidden_units
    ('random', 8, (16,))
    """
    named = [lr, batch_size, optimizer, l2_reg, dropout, seed, epochs, metric, procedure, trials]
    given = {k: v for k, v in zip(_NAMED, named, strict=True) if v is not None} | parameters
    given = referenced(given)
    if isinstance(network, MlpSpace):
        return _mlp_spec(network.model_type, _dimensions(network.parts() | given))
    return _function_spec(network, _dimensions(given))


def _dimensions(given: dict[str, Any]) -> dict[str, Any]:
    return {name: as_dimension(value) for name, value in given.items()}


def _mlp_spec(model_type: str, given: dict[str, Any]) -> TrainingSpec:
    unknown = [n for n in given if _sql_name(n) not in BY_NAME]
    if unknown:
        known = (*BY_NAME, *_SQL_NAMES)
        raise BindError(
            f"there is no parameter `{unknown[0]}` of a multilayer perceptron's search",
            hint=near(unknown[0], known) or "a function of the configuration has its own",
        )
    if model_type not in UNDECIDED:
        return _resolved(model_type, given)
    loss = given.get("loss")
    regression = given.get("metric") in METRICS["regression"] or loss in OF_NUMBERS
    spec = _resolved(UNDECIDED[model_type][regression], given)
    task = REGRESSION if regression else CLASSIFICATION if loss in OF_CLASSES else ""
    metric = given.get("metric") or ""  # the label's type decides which is the default
    return dataclasses.replace(spec, model_type=model_type, task=task, metric=metric)


def _function_spec(function: Any, given: dict[str, Any]) -> TrainingSpec:
    network = register(function)
    options = {k: v for k, v in given.items() if _is_option_of_functions(k)}
    own = {k: v for k, v in given.items() if k not in options}
    space = {k: _plain(v) for k, v in own.items() if isinstance(v, Dimension)}
    fixed = {k: v for k, v in own.items() if not isinstance(v, Dimension)}
    spec = _resolved(f"python:given:{network.reference}", options, more=space)
    model_type = f"python:{network.reference}"
    return dataclasses.replace(spec, model_type=model_type, network=network, extra=fixed)


def _is_option_of_functions(name: str) -> bool:
    option = BY_NAME.get(_sql_name(name))
    return option is not None and PYTHON in option.models


def _resolved(
    kind: str, given: dict[str, Any], more: dict[str, Dimension] | None = None
) -> TrainingSpec:
    """`given` checked as the options of CREATE MODEL are, its dimensions as they were given."""
    options = {"model_type": OptionValue(kind)}
    space: dict[str, Dimension] = {}
    for name, value in given.items():
        option = _sql_name(name)
        if option not in BY_NAME:
            raise BindError(
                f"there is no option `{name}`", hint=near(name, (*BY_NAME, *_SQL_NAMES))
            )
        options[option] = _option_value(value)
        if isinstance(value, Dimension):
            space[BY_NAME[option].field] = _plain(value)
    if more and "procedure" not in given:
        listed = all(isinstance(d, Choice) for d in more.values())
        if not listed:
            options["hparam_tuning_algorithm"] = OptionValue("random")
    spec = resolve(options)
    return dataclasses.replace(spec, space={**space, **(more or {})})


def sql_names() -> dict[str, str]:
    """Names of options in Python that differ from those in SQL, with the latter."""
    return dict(_SQL_NAMES)


def _sql_name(name: str) -> str:
    return _SQL_NAMES.get(name, name)


def _option_value(value: Any) -> OptionValue:
    """A Python value as the parser of OPTIONS would have given it."""
    match value:
        case Choice(values):
            return OptionValue(Candidates(tuple(_listed(v) for v in values)))
        case Uniform(low, high) | LogUniform(low, high) | IntUniform(low, high):
            return OptionValue(Range(low, high))
    return OptionValue(_listed(value))


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _plain(dimension: Dimension) -> Dimension:
    """Lists among the values of a choice as tuples, so that a spec can be compared."""
    if not isinstance(dimension, Choice):
        return dimension
    return Choice(tuple(tuple(v) if isinstance(v, list) else v for v in dimension.values))
