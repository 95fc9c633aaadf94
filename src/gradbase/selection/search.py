"""From what was asked for (a TrainingSpec and a relation) to the `Search` that is optimised."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gradbase.errors import BindError, UnsupportedError, near
from gradbase.frontend.fits import build_dataset, build_fits
from gradbase.frontend.space import Choice
from gradbase.frontend.training import (
    CLASSIFICATION,
    DEFAULT_METRIC,
    RECONSTRUCTION,
    REGRESSION,
    TrainingSpec,
    default_hidden_units,
    default_latent_units,
)
from gradbase.ir.derived import Derived
from gradbase.ir.learning import METRICS, Dataset, Model, PythonNetwork, Search
from gradbase.ir.metrics import reference_of, shown
from gradbase.ir.relational import Relation
from gradbase.ir.stepping import LOSSES, OF_CLASSES, OF_NUMBERS, OWN_LOSS
from gradbase.ir.types import SqlType
from gradbase.selection import AT_ONCE, make_procedure
from gradbase.selection.api import UNDECIDED
from gradbase.selection.networks import Networks
from gradbase.selection.procedure import Terms
from gradbase.selection.solving import Counts, with_strategy
from gradbase.selection.warm_start import rows_for, starting
from gradbase.store.records import EpochRecord


@dataclass(frozen=True)
class Planned:
    """A search before optimisation.

    Parameters
    ----------
    search : Search
        Every trial is a `Fit`; workers and threads are not chosen yet.
    spec : TrainingSpec
        With everything filled in that depends on the rows.
    earlier : tuple of EpochRecord
        History of the model that is continued.
    """

    search: Search
    spec: TrainingSpec
    earlier: tuple[EpochRecord, ...] = ()

    @property
    def tuned(self) -> tuple[str, ...]:
        """Names of the hyper-parameters that are searched over, in order."""
        return tuple(self.spec.space)


def build(
    spec: TrainingSpec,
    name: str,
    relation: Relation,
    counts: Counts,
    python_modules: Sequence[str] = (),
    *,
    start: Model | None = None,
    transform: tuple[Derived, ...] = (),
) -> Planned:
    """The search for model `name` over `relation`.

    Parameters
    ----------
    counts : Counts
        Exact: the automatic split and the default layer follow from them.
    python_modules : sequence of str
        Modules whose functions ``python:`` models may call.
    start : Model, optional
        The model that is continued; `spec` is `warm_start.continued` then.
    transform : tuple of Derived
        What TRANSFORM gives; () without one.

    Raises
    ------
    BindError
        A column, metric or function does not exist, the space cannot be searched so, or `start` is
        another model.
    """
    draft = build_dataset(spec, relation, counts.rows, transform=transform)
    data = draft.replace(task=task_of(draft.task, counts.classes))
    if start is not None:
        data = rows_for(start, data)
    spec = with_strategy(filled(spec, data, counts, Networks(python_modules)), data, counts)
    check_space(spec)
    first = next(make_procedure(spec.procedure, terms_of(spec)).rounds())
    _check_folds(spec)
    fits = build_fits(spec, data, [leg.configuration for leg in first])
    if start is not None:
        fits = tuple(starting(start, fit) for fit in fits)
    found = Search(
        name, fits, shown(spec.metric), spec.procedure, spec.workers, spec.threads_per_unit,
        elsewhere(spec, python_modules), spec.shard_access,
    )  # fmt: skip
    return Planned(found, spec)


def elsewhere(spec: TrainingSpec, python_modules: Sequence[str]) -> str:
    """The executor that was asked for; ``in_process`` where it is open and others cannot be.

    Raises
    ------
    UnsupportedError
        Other processes were asked for, and cannot import the network's function.
    """
    own = [n for n in (spec.network,) if isinstance(n, PythonNetwork)]
    named: list[object] = [spec.loss, spec.schedule, spec.optimizer, reference_of(spec.metric)]
    for dimension in spec.space.values():
        named += dimension.values if isinstance(dimension, Choice) else ()
    functions = dict.fromkeys(n for n in named if isinstance(n, str) and n.startswith(OWN_LOSS))
    own += [PythonNetwork(n.removeprefix(OWN_LOSS), "{}") for n in functions]
    if not own or spec.executor == "in_process":
        return spec.executor
    try:
        for function in own:
            Networks(python_modules).importable(function)
    except UnsupportedError:
        if spec.executor != "auto":
            raise
        return "in_process"
    return spec.executor


def terms_of(spec: TrainingSpec) -> Terms:
    """What the search procedure is made from."""
    return Terms(
        spec.space, spec.num_trials, spec.seed, spec.epochs,
        spec.reduction_factor, spec.min_epochs, spec.parallel,
    )  # fmt: skip


def task_of(task: str, classes: int) -> str:
    """`task`, a classification by the number of its classes."""
    if task == CLASSIFICATION:
        return "multiclass" if classes > 2 else "binary"
    return task


def filled(
    spec: TrainingSpec, data: Dataset, counts: Counts, networks: Networks | None = None
) -> TrainingSpec:
    """`spec` with what follows from the rows; BindError where it contradicts them."""
    kind = data.task if data.task in (REGRESSION, RECONSTRUCTION) else CLASSIFICATION
    changes: dict[str, Any] = {"metric": spec.metric or DEFAULT_METRIC[kind], "task": kind}
    if spec.model_type in UNDECIDED:
        kinds = UNDECIDED[spec.model_type]
        changes["model_type"] = kinds[kind == REGRESSION]
    if isinstance(spec.network, PythonNetwork):
        assert networks is not None
        changes["network"] = networks.resolve(spec.network)
    elif spec.hidden_units is None and "hidden_units" not in spec.space:
        outputs = counts.classes if data.task == "multiclass" else 1
        inputs = sum(_inputs(column.type) for column in data.inputs)
        changes["hidden_units"] = (
            default_latent_units(inputs)
            if kind == RECONSTRUCTION
            else default_hidden_units(counts.rows, inputs, outputs)
        )
    if kind == REGRESSION and (spec.class_weights or spec.auto_class_weights):
        raise BindError(
            f"class weights are of classifications, label `{data.label}` is regressed",
            hint="leave them out, or weigh rows with instance_weight_col",
        )
    _check_loss(spec.loss, kind)
    allowed = METRICS[data.task]
    if changes["metric"] not in allowed and not reference_of(changes["metric"]):
        raise BindError(
            f"`{changes['metric']}` is no metric of {data.task} models; there are "
            f"{', '.join(allowed)}",
            hint=near(changes["metric"], allowed),
        )
    return dataclasses.replace(spec, **changes)


def _check_loss(loss: str, kind: str) -> None:
    fitting = {CLASSIFICATION: OF_CLASSES, REGRESSION: OF_NUMBERS}.get(kind, ())
    if loss in LOSSES and loss not in fitting:
        raise BindError(
            f"loss '{loss}' is not of a {kind}, as the label's type asks for; there are "
            f"{', '.join(fitting)}",
            hint="cast the label to DOUBLE for a regression, to INT or VARCHAR for classes",
        )


def _check_folds(spec: TrainingSpec) -> None:
    if spec.split.folds and spec.procedure not in AT_ONCE:
        raise UnsupportedError(
            f"cross-validation (k_fold) does not go with the procedure `{spec.procedure}`: it "
            "decides while trials train",
            hint=f"use one of {', '.join(AT_ONCE)}, or hold rows out with data_split_eval_fraction",
        )


def _inputs(of: SqlType) -> int:
    return of.length if of.is_vector or of.is_nested else 1


def check_space(spec: TrainingSpec) -> None:
    """BindError where several trials would all be equal."""
    if not spec.space and (spec.num_trials or 1) > 1:
        raise BindError(
            f"{spec.num_trials} trials were asked for, but nothing is searched over: they would "
            "all be equal",
            hint="give a hyper-parameter several values (HPARAM_CANDIDATES, gb.choice, …)",
        )
