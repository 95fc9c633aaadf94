"""A search handed to the libraries that people compare runs with: TensorBoard and MLflow."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradbase.errors import UnsupportedError

if TYPE_CHECKING:
    from gradbase.store import ModelRecord, TrialRecord

_HINT = "pip install 'gradbase[tracking]'"


def to_tensorboard(record: ModelRecord, version: int, folder: Path) -> Path:
    """Write a run for every trial below `folder`; returns the search's own folder in it.

    Losses, metrics and the learning rate are scalars by epoch; hyper-parameters and what a trial
    came to are in the HPARAMS tab.

    Raises
    ------
    UnsupportedError
        tensorboardX is not installed.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise UnsupportedError("tensorboardX is not installed", hint=_HINT) from None
    home = folder / f"{record.name}@{version}"
    for trial in _trained(record):
        writer: Any = SummaryWriter(str(home / f"trial-{trial.trial:04d}"))
        try:
            for step, name, value in _scalars(trial):
                writer.add_scalar(name, value, step)
            writer.add_hparams(_plain(trial), _finals(trial), name="final")
            if trial.error:
                writer.add_text("error", trial.error)
        finally:
            writer.close()
    return home


def to_mlflow(
    record: ModelRecord, version: int, experiment: str | None, tracking_uri: str | None
) -> str:
    """Log a run for the search and one below it for every trial; returns the search's run id.

    Raises
    ------
    UnsupportedError
        mlflow is not installed.
    """
    try:
        mlflow: Any = importlib.import_module("mlflow")
    except ImportError:
        raise UnsupportedError("mlflow is not installed", hint=_HINT) from None
    if tracking_uri is not None:
        mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_experiment(experiment or record.name)
    with mlflow.start_run(run_name=f"{record.name}@{version}") as run:
        mlflow.set_tags(
            {
                "gradbase.model_type": record.model_type, "gradbase.query": record.query,
                "gradbase.code_version": record.code_version, "gradbase.metric": record.metric,
                "gradbase.best_trial": str(record.best_trial),
            }
        )  # fmt: skip
        for trial in _trained(record):
            with mlflow.start_run(run_name=f"trial {trial.trial}", nested=True):
                mlflow.log_params(_plain(trial))
                for step, name, value in _scalars(trial):
                    mlflow.log_metric(name, value, step=step)
                mlflow.log_metrics(_finals(trial))
                mlflow.set_tags(
                    {"gradbase.status": trial.status, "gradbase.error": trial.error or ""}
                )
        return run.info.run_id


def _trained(record: ModelRecord) -> list[TrialRecord]:
    """All trials but the one that stands for all groups together."""
    return [t for t in record.trials if t.trial > 0]


def _scalars(trial: TrialRecord) -> Iterator[tuple[int, str, float]]:
    """(step, name, value): epochs are counted on where a trial was trained several times."""
    for step, epoch in enumerate(trial.epochs, start=1):
        named = {
            "train_loss": epoch.train_loss, "eval_loss": epoch.eval_loss,
            "learn_rate": epoch.learn_rate, **epoch.metrics,
        }  # fmt: skip
        for name, value in named.items():
            if value is not None and math.isfinite(value):
                yield step, name, value


def _finals(trial: TrialRecord) -> dict[str, float]:
    """What a trial came to; ``test_…`` is on the test rows."""
    named = {
        "final_train_loss": trial.train_loss, "final_eval_loss": trial.eval_loss,
        **{f"final_{n}": v for n, v in trial.metrics.items()},
        **{f"test_{n}": v for n, v in trial.test_metrics.items()},
    }  # fmt: skip
    return {n: v for n, v in named.items() if v is not None and math.isfinite(v)}


def _plain(trial: TrialRecord) -> dict[str, Any]:
    """Hyper-parameters as numbers and texts; lists as JSON."""
    return {
        n: v if isinstance(v, bool | int | float | str) else json.dumps(v)
        for n, v in trial.configuration.items()
    }
