"""Models that learn without a label: clusters (k-means) and principal components."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradbase import __version__
from gradbase.errors import UnsupportedError
from gradbase.frontend.fits import unlabelled_dataset
from gradbase.frontend.option_table import KMEANS
from gradbase.frontend.training import TrainingSpec
from gradbase.ir.conversion import ToTable
from gradbase.ir.derived import Derived
from gradbase.ir.learning import METRICS, Model, Network
from gradbase.ir.metrics import is_minimised
from gradbase.ir.relational import Relation
from gradbase.ir.tensor import Linear
from gradbase.ir.types import FLOAT64, INT64, array_of, list_of, struct_of
from gradbase.ir.unlabelled import CLUSTERS, COMPONENTS, Clusters, Components, Distances, Solve
from gradbase.runtime.columns import kernels
from gradbase.runtime.predict import one_thread
from gradbase.runtime.train.clusters import find_clusters
from gradbase.runtime.train.components import find_components
from gradbase.runtime.train.features import Numbers, constant
from gradbase.runtime.train.finish import joined, matrix
from gradbase.runtime.train.prepare import Encoded, Preparation
from gradbase.selection import AT_ONCE, make_procedure
from gradbase.selection.outcome import RunResult
from gradbase.selection.procedure import Terms
from gradbase.selection.progress import Listener, listener_for
from gradbase.selection.run import RunInfo
from gradbase.selection.search import check_space
from gradbase.store.records import SUCCEEDED, ModelRecord, TrialRecord

if TYPE_CHECKING:
    from gradbase.runtime.context import RunContext
    from gradbase.store import Store

_SEARCHED = {"solve.clusters": "num_clusters"}
"""Hyper-parameters whose option has another name."""
_MOST_BY_DEFAULT = 100


def build(
    spec: TrainingSpec, name: str, relation: Relation, transform: tuple[Derived, ...]
) -> Solve:
    """What a CREATE MODEL without a label asks for.

    Raises
    ------
    BindError
        A column is not there, or nothing is searched over by several trials.
    UnsupportedError
        The procedure chooses trials by what became of others.
    """
    if spec.procedure not in AT_ONCE:
        raise UnsupportedError(
            f"{spec.model_type} models are searched by {' or '.join(AT_ONCE)}, "
            f"found '{spec.procedure}'",
            hint="hparam_tuning_algorithm = 'random'",
        )
    check_space(spec)
    task = CLUSTERS if spec.model_type == KMEANS else COMPONENTS
    data = unlabelled_dataset(spec, relation, transform, task)
    found = make_procedure(spec.procedure, Terms(spec.space, spec.num_trials, spec.seed))
    networks = tuple(_network(spec, leg.configuration) for leg in next(found.rounds()))
    return Solve(name, data, networks, METRICS[task][0])


def _network(spec: TrainingSpec, configuration: Mapping[str, Any]) -> Network:
    solve = spec.solve
    if spec.model_type != KMEANS:
        return Components(solve.components or 0, solve.share or 0.0, solve.standardize)
    return Clusters(
        configuration.get("solve.clusters", solve.clusters or 0),
        solve.init,
        solve.distance == "cosine",
        solve.standardize,
        spec.epochs,
        spec.early_stop,
        spec.min_rel_progress,
        configuration.get("seed", spec.seed),
    )


def run(plan: Solve, context: RunContext, store: Store, info: RunInfo) -> RunResult:
    """Solve every trial over one reading of the rows, and commit them as a version of the model.

    Raises
    ------
    DataError
        There are too few rows, or ±Inf in one.
    """
    started = time.perf_counter()
    store.check_creatable(plan.name, or_replace=info.or_replace, if_not_exists=info.if_not_exists)
    listener = listener_for(plan, context.settings)
    message = f"`{plan.name}` was not trained"
    try:
        record, warnings = _solved(plan, context, info, listener)
        version = store.commit(record, or_replace=info.or_replace, if_not_exists=info.if_not_exists)
        result = RunResult(version, record, time.perf_counter() - started, warnings)
        message = str(result)
    finally:
        listener.on_end(message)
    return result


def _solved(
    plan: Solve, context: RunContext, info: RunInfo, listener: Listener
) -> tuple[ModelRecord, tuple[str, ...]]:
    """The record of all trials, and what the data lack."""
    numbers = _numbers(plan.networks[0])
    made = Preparation(plan.data, context, listener.on_data, embeddings=False, numbers=numbers)
    with contextlib.closing(made), contextlib.closing(made.encoded(plan.data)) as rows:
        trials: list[TrialRecord] = []
        listener.on_start(len(plan.networks), len(plan.networks))
        with one_thread():
            solver = _Solver(plan, context, rows)
            for number, network in enumerate(plan.networks, 1):
                trials.append(solver.trial(number, network, info))
                listener.on_epoch(number, 1, trials[-1].metrics)
                listener.on_trial_end(number, SUCCEEDED, 0)
        return _record(plan, context, rows, trials, info), rows.inputs.warnings


def _numbers(network: Network) -> Numbers:
    assert isinstance(network, Clusters | Components)
    # Angles are those of the numbers as they are.
    centred = network.standardize or not (isinstance(network, Clusters) and network.cosine)
    return Numbers(centred=centred, scaled=network.standardize, indicators=False)


class _Solver:
    """Solves trials over the same rows."""

    def __init__(self, plan: Solve, context: RunContext, rows: Encoded) -> None:
        self.plan, self.context, self.rows = plan, context, rows

    def trial(self, number: int, network: Network, info: RunInfo) -> TrialRecord:
        if isinstance(network, Clusters):
            found = self._clusters(number, network)
        else:
            assert isinstance(network, Components)
            found = self._components(number, network)
        tuned = {_SEARCHED.get(n, n): _value(network, n) for n in info.tuned}
        return TrialRecord(number, SUCCEEDED, tuned, **found)

    def _clusters(self, number: int, network: Clusters) -> dict[str, Any]:
        rows, params = self.rows, dict(self.rows.inputs.params)
        if not network.count:
            network = network.replace(count=default_clusters(len(rows.order)))
        found = find_clusters(network, rows, self._marked(), self.context.check_cancelled)
        centroids = constant(found.centroids.to(torch.float32).numpy(), params)
        x = Distances(joined(matrix(rows.inputs)), centroids, network.cosine)
        pairs = list_of(struct_of(centroid_id=INT64, distance=FLOAT64))
        outputs = (ToTable(x, "centroid", INT64), ToTable(x, "nearest", pairs))
        return {
            "metrics": found.metrics, "epochs": found.epochs, "params": params,
            "train_loss": found.metrics["mean_squared_distance"],
            "model": self._model(number, outputs),
        }  # fmt: skip

    def _marked(self) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
        column = self.rows.rows.split
        if column is None:
            return None
        return kernels.fill_null(column, False).to_numpy(zero_copy_only=False)

    def _components(self, number: int, network: Components) -> dict[str, Any]:
        rows, params = self.rows, dict(self.rows.inputs.params)
        found = find_components(network, rows, self.context.check_cancelled)
        weight = constant(found.components.to(torch.float32).numpy(), params)
        bias = constant((-found.components @ found.mean).to(torch.float32).numpy(), params)
        x = Linear(joined(matrix(rows.inputs)), weight, bias)
        outputs = (ToTable(x, "raw", array_of(FLOAT64, len(found.components))),)
        shares = [v / found.total if found.total else 0.0 for v in found.eigenvalues]
        return {
            "metrics": found.metrics, "params": params, "model": self._model(number, outputs),
            "components": tuple(zip(found.eigenvalues, shares, strict=True)),
        }  # fmt: skip

    def _model(self, number: int, outputs: tuple[ToTable, ...]) -> Model:
        inputs, plan = self.rows.inputs, self.plan
        return Model(
            plan.name, 0, number, plan.data.task, "", inputs.features, outputs, inputs.columns,
            inputs.transform,
        )  # fmt: skip


def default_clusters(rows: int) -> int:
    """log10 of the rows, from 2 to 100.

    Examples
    --------
    >>> default_clusters(50), default_clusters(1_000_000)
    (2, 6)
    """
    return min(max(round(math.log10(rows)), 2), _MOST_BY_DEFAULT)


def _value(network: Network, name: str) -> object:
    return getattr(network, {"solve.clusters": "count"}.get(name, name))


def _record(
    plan: Solve, context: RunContext, rows: Encoded, trials: list[TrialRecord], info: RunInfo
) -> ModelRecord:
    sign = 1.0 if is_minimised(plan.metric) else -1.0

    def rank(trial: TrialRecord) -> tuple[bool, float, int]:
        value = trial.metrics[plan.metric]
        return (math.isnan(value), sign * value, trial.trial)

    return ModelRecord(
        name=plan.name,
        model_type=info.model_type,
        task=plan.data.task,
        label="",
        query=info.query,
        options=info.options,
        seed=info.seed,
        relation_hash=rows.rows.relation_hash,
        code_version=f"gradbase {__version__}",
        engine=context.engine.name,
        trials=tuple(trials),
        metric=plan.metric,
        best_trial=min(trials, key=rank).trial,
        sql=info.sql,
        features=rows.summaries,
        train_rows=len(rows.order),
        eval_rows=0,
        test_rows=0,
    )
