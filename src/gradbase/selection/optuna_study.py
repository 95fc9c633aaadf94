"""A search as a study of Optuna's, for its plots and its analyses."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gradbase.errors import DataError
from gradbase.frontend.space import Choice, Dimension, IntUniform, LogUniform, Uniform
from gradbase.ir.metrics import is_minimised
from gradbase.selection.outcome import value_of
from gradbase.store.records import FAILED, STOPPED, ModelRecord, TrialRecord

if TYPE_CHECKING:
    import optuna


def to_optuna(record: ModelRecord, curves: Sequence[Mapping[str, Any]] = ()) -> optuna.Study:
    """A search with all its trials as an in-memory study of Optuna's.

    Failed trials are FAIL, stopped ones PRUNED; intermediate values are the metric by epoch (from
    1). Attributes of a trial hold our number for it, its other metrics and its error.

    Parameters
    ----------
    curves : sequence of mapping
        One per trial and epoch: see `Study.curves`.
    """
    import optuna

    with quiet():
        study = optuna.create_study(
            study_name=record.name,
            direction="minimize" if is_minimised(record.metric) else "maximize",
            storage=optuna.storages.InMemoryStorage(),
        )
    space = record.space
    for trial in record.trials:
        made = _trial(trial, record, space)
        mine = [row for row in curves if row["trial"] == trial.trial]
        made.intermediate_values = dict(_by_epoch(mine, record.metric))
        study.add_trial(made)
    return study


def importance(record: ModelRecord) -> dict[str, float]:
    """Share of each hyper-parameter in what makes a trial one of the best, largest first.

    Source: Watanabe, Bansal and Hutter 2023 (PED-ANOVA), as in Optuna.

    Raises
    ------
    DataError
        Fewer than two trials ended with a value, or nothing was searched over.
    """
    import optuna

    study = to_optuna(record)
    ended = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    tuned = record.space
    if not tuned or len(ended) < 2:
        raise DataError(
            f"importance compares trials: model `{record.name}` has {len(ended)} with a value, "
            f"over {len(tuned)} hyper-parameters",
            hint="search over something with at least two trials",
        )
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(found.get(name, 0.0)) for name in (*found, *(tuned.keys() - found))}


def _trial(
    trial: TrialRecord, record: ModelRecord, space: Mapping[str, Dimension]
) -> optuna.trial.FrozenTrial:
    import optuna

    value = value_of(record.metric, trial.metrics, trial.train_loss, trial.eval_loss)
    states = {FAILED: optuna.trial.TrialState.FAIL, STOPPED: optuna.trial.TrialState.PRUNED}
    state = states.get(trial.status, optuna.trial.TrialState.COMPLETE)
    if math.isnan(value) and state == optuna.trial.TrialState.COMPLETE:
        state = optuna.trial.TrialState.FAIL
    known = {n: v for n, v in trial.configuration.items() if n in space}
    made = optuna.trial.create_trial(
        state=state,
        value=value if state == optuna.trial.TrialState.COMPLETE else None,
        params={n: _parameter(v, space[n]) for n, v in known.items()},
        distributions={n: distribution(space[n]) for n in known},
        user_attrs={"trial": trial.trial, "error": trial.error, **trial.metrics},
    )
    seconds = sum(e.seconds or 0.0 for e in trial.epochs)
    made.datetime_start = record.created.replace(tzinfo=None)
    made.datetime_complete = made.datetime_start + dt.timedelta(seconds=seconds)
    return made


def _by_epoch(rows: Sequence[Mapping[str, Any]], metric: str) -> Generator[tuple[int, float]]:
    for row in rows:
        metrics = {metric: row[metric]} if row.get(metric) is not None else {}
        value = value_of(metric, metrics, row["train_loss"], row["eval_loss"])
        if not math.isnan(value):
            yield row["epoch"], value


def distribution(dimension: Dimension) -> Any:
    """The distribution of Optuna's that means the same."""
    from optuna import distributions

    match dimension:
        case Choice(values):
            return distributions.CategoricalDistribution(
                tuple(dict.fromkeys(_parameter(v, dimension) for v in values))
            )
        case Uniform(low, high, step):
            return distributions.FloatDistribution(low, high, step=step)
        case LogUniform(low, high):
            return distributions.FloatDistribution(low, high, log=True)
        case IntUniform(low, high, step, log):
            return distributions.IntDistribution(low, high, log=log, step=step)


def _parameter(value: Any, dimension: Dimension) -> Any:
    """A value as Optuna stores it: lists, such as layers, become their text."""
    if not isinstance(dimension, Choice) or value is None or isinstance(value, str | int | float):
        return value
    return json.dumps(value, default=str)


def value_for(parameter: Any, dimension: Dimension) -> Any:
    """The value of `dimension` that Optuna stores as `parameter`."""
    if not isinstance(dimension, Choice):
        return parameter
    return next(v for v in dimension.values if _parameter(v, dimension) == parameter)


@contextmanager
def quiet() -> Generator[None]:
    """Optuna reports every new study on standard error."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
