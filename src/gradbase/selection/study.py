"""What a search found, read from the catalog: its trials, their history, the best model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from gradbase import plots
from gradbase.errors import UnsupportedError
from gradbase.frontend.space import scale_of
from gradbase.ir.facts import Version
from gradbase.selection.html import html_note, html_table, thumbnail
from gradbase.store import ModelRecord, Store, TrialRecord, journal, reading
from gradbase.store.records import FAILED, GroupRecord, over_folds
from gradbase.store.report import Report, report_of

if TYPE_CHECKING:
    import optuna
    import pandas as pd

    from gradbase.plots.style import Picture

Row = dict[str, Any]


class HasPictures(Protocol):
    """What a study gives out as a model."""

    def plot(self, kind: str, *, data: Any = None, path: str | Path | None = None) -> Picture:
        """See `ModelHandle.plot`."""
        ...


Handle = TypeVar("Handle", bound=HasPictures)


class Study(Generic[Handle]):
    """The search that made a version of a model.

    Parameters
    ----------
    store : Store
    name : str
        The model's name.
    model : callable
        ``model(name, version, trial)`` gives the handle of one trial.
    version : int or str, optional
        Number or alias; None: the current one.

    Raises
    ------
    BindError
        There is no such model or version (near matches offered).
    """

    def __init__(
        self,
        store: Store,
        name: str,
        model: Callable[[str, int, int], Handle],
        version: Version = None,
    ) -> None:
        self.name, self._model = name, model
        self.version: int = reading.version_row(store.catalog, name, version)["version"]
        self.record: ModelRecord = store.record(name, self.version)
        self._runs = store.runs

    @property
    def metric(self) -> str:
        """What the trials were compared by."""
        return self.record.metric

    @property
    def best_trial(self) -> int:
        """Number of the best trial."""
        return self.record.best_trial

    @property
    def best(self) -> Handle:
        """The best trial's model: ``predict``, ``predict_proba``, ``score``."""
        return self.trial(self.best_trial)

    def trial(self, number: int) -> Handle:
        """The model of any trial."""
        return self._model(self.name, self.version, number)

    @property
    def trials(self) -> pd.DataFrame:
        """One row per trial.

        Columns: trial, every hyper-parameter searched over, every metric (on evaluation rows;
        ``test_…`` on test rows where there are some; with folds the mean over them, and
        ``…_stddev``), train_loss, eval_loss, epochs, status, error, seconds, best.
        """
        return _pandas().DataFrame(self.rows)

    @property
    def history(self) -> pd.DataFrame:
        """One row per trial and epoch: trial, run, epoch (from 1), losses, metrics, seconds.

        `run` counts trainings of a trial from 0: one per fold, then one on all rows; or one for
        each time that the model was continued.
        """
        return _pandas().DataFrame(self.epochs)

    @property
    def folds(self) -> pd.DataFrame:
        """One row per trial and fold: trial, fold (from 1), rows, epochs, losses, metrics.

        Empty without cross-validation.
        """
        return _pandas().DataFrame(self.fold_rows)

    @cached_property
    def rows(self) -> list[Row]:
        """One dict per trial: see `trials`."""
        return [self._row(t) for t in self.record.trials if t.trial]

    @property
    def groups(self) -> pd.DataFrame:
        """One row per group of one model per group: its columns, trial (the best), rows, status.

        Metrics are those of `trials`. Empty where there is one model for all rows.
        """
        best = {g.best_trial for g in self.record.groups}
        rows = [row for row in self.rows if row["trial"] in best]
        return _pandas().DataFrame(rows if self.record.groups else [])

    @cached_property
    def _group_of(self) -> dict[int, GroupRecord]:
        """The group of each trial."""
        return {
            trial: group
            for group in self.record.groups
            for trial in range(group.first_trial, group.last_trial + 1)
        }

    def _of_group(self, trial: int) -> Row:
        """What a trial's row says of its group: nothing where there are none."""
        group = self._group_of.get(trial)
        if group is None:
            return {}
        names = next(g.key for g in self.record.groups if g.key is not None)
        key = group.key or dict.fromkeys(names)
        return {**key, "train_rows": group.train_rows, "eval_rows": group.eval_rows}

    @cached_property
    def epochs(self) -> list[Row]:
        """One dict per trial and epoch: see `history`."""
        return [
            {"trial": t.trial, "run": e.run, "epoch": e.epoch + 1}
            | {"train_loss": e.train_loss, "eval_loss": e.eval_loss}
            | {n: e.metrics.get(n) for n in self._metrics}
            | {"learn_rate": e.learn_rate, "seconds": e.seconds}
            for t in self.record.trials
            for e in t.epochs
        ]

    @cached_property
    def fold_rows(self) -> list[Row]:
        """One dict per trial and fold: see `folds`."""
        return [
            {"trial": t.trial, "fold": f.fold, "rows": f.rows, "epochs": f.epochs}
            | {"train_loss": f.train_loss, "eval_loss": f.eval_loss}
            | {n: f.metrics.get(n) for n in self._metrics}
            for t in self.record.trials
            for f in t.folds
        ]

    @cached_property
    def curves(self) -> list[Row]:
        """As `epochs`, with one row per trial and epoch: what a learning curve goes through.

        Folds are averaged by rows as far as they got; runs that continue each other are counted on.
        """
        return [row for t in self.record.trials for row in self._curve(t)]

    def _curve(self, trial: TrialRecord) -> Iterator[Row]:
        by_epoch: dict[int, list[Row]] = {}
        mine = [row for row in self.epochs if row["trial"] == trial.trial]
        for count, row in enumerate(mine, start=1):
            if not trial.folds:
                by_epoch[count] = [row]
            elif row["run"] < len(trial.folds):
                by_epoch.setdefault(row["epoch"], []).append(row)
        for epoch, rows in sorted(by_epoch.items()):
            sizes = [trial.folds[r["run"]].rows if trial.folds else 1 for r in rows]
            means = {
                name: over_folds([r[name] for r in rows], sizes)[0]
                for name in ("train_loss", "eval_loss", *self._metrics)
            }
            known = {n: None if math.isnan(v) else v for n, v in means.items()}
            yield {"trial": trial.trial, "epoch": epoch} | known

    def report(self) -> Report:
        """Where the search's time went: reading, decoding, training, validating, moving, waiting.

        Raises
        ------
        StoreError
            The version has no journal: it was imported or copied.
        """
        return report_of(journal.read(self._runs.of_version(self.record.name, self.version)))

    @cached_property
    def optuna(self) -> optuna.Study:
        """The same search as an Optuna study: for its plots, importances and analyses."""
        from gradbase.selection.optuna_study import to_optuna

        return to_optuna(self.record, self.curves)

    @cached_property
    def importance(self) -> dict[str, float]:
        """Share of each hyper-parameter in what makes a trial one of the best, largest first.

        Raises
        ------
        DataError
            Fewer than two trials have a value, or nothing was searched over.
        """
        from gradbase.selection.optuna_study import importance

        return importance(self.record)

    def to_tensorboard(self, folder: str | Path) -> Path:
        """Write every trial as a TensorBoard run below `folder`; see it with
        ``tensorboard --logdir``.

        Raises
        ------
        UnsupportedError
            tensorboardX is not installed.
        """
        from gradbase.selection.tracking import to_tensorboard

        return to_tensorboard(self.record, self.version, Path(folder))

    def to_mlflow(self, experiment: str | None = None, *, tracking_uri: str | None = None) -> str:
        """Log the search as an MLflow run, and its trials as runs below it; returns the run's id.

        Parameters
        ----------
        experiment : str, optional
            The model's name if left out.
        tracking_uri : str, optional
            As of ``mlflow.set_tracking_uri``.

        Raises
        ------
        UnsupportedError
            mlflow is not installed.
        """
        from gradbase.selection.tracking import to_mlflow

        return to_mlflow(self.record, self.version, experiment, tracking_uri)

    @property
    def scales(self) -> dict[str, str]:
        """``choice``, ``linear`` or ``log`` for each hyper-parameter searched over."""
        return {name: scale_of(d) for name, d in self.record.space.items()}

    def plot(
        self, kind: str = "curves", *, data: Any = None, path: str | Path | None = None
    ) -> Picture:
        """A picture of the search, or of its best model.

        Parameters
        ----------
        kind : str
            ``curves``, ``history``, ``parallel`` or ``importance``; or one of the best model's: see
            `ModelHandle.plot`.
        data : rows, optional
            For pictures of the model: rows with the label; evaluation rows if left out.
        path : str or Path, optional
            Also write the picture there; the ending says how (.png, .svg, .pdf).

        Raises
        ------
        BindError
            There is no such kind.
        DataError
            There are too few trials for it.
        UnsupportedError
            matplotlib is not installed.
        """
        if kind in plots.KINDS and plots.KINDS[kind].of != plots.SEARCH:
            return self.best.plot(kind, data=data, path=path)
        plots.kind_of(kind, tuple(k.of for k in plots.KINDS.values()), "a search")
        return plots.draw(kind, self, path)

    @cached_property
    def _metrics(self) -> list[str]:
        """Names of all metrics, the search's own first."""
        names = {n for t in self.record.trials for n in t.metrics}
        return sorted(names, key=lambda n: (n != self.metric, n))

    def _row(self, trial: TrialRecord) -> Row:
        tested, group = self._is_tested, self._group_of.get(trial.trial)
        best = self.best_trial if group is None else group.best_trial
        return (
            {"trial": trial.trial}
            | self._of_group(trial.trial)
            | dict(trial.configuration)
            | {n: trial.metrics.get(n) for n in self._metrics}
            | {f"test_{n}": trial.test_metrics.get(n) for n in self._metrics if tested}
            | {f"{n}_stddev": trial.deviations.get(n) for n in self._metrics if self.fold_rows}
            | {"train_loss": trial.train_loss, "eval_loss": trial.eval_loss}
            | {"epochs": len(trial.epochs), "status": trial.status, "error": trial.error}
            | {"seconds": sum(e.seconds or 0.0 for e in trial.epochs)}
            | {"best": trial.trial == best and trial.status != FAILED}
        )

    @cached_property
    def _is_tested(self) -> bool:
        return any(t.test_metrics for t in self.record.trials)

    def __repr__(self) -> str:
        failed = sum(t.status == "FAILED" for t in self.record.trials)
        best = self.record.trial(self.best_trial)
        value = best.eval_loss if self.metric == "loss" else best.metrics.get(self.metric)
        if not self.metric:
            return f"Study of `{self.name}` version {self.version}: imported, nothing was searched"
        which = f"best is trial {self.best_trial} with"
        if self.record.groups:
            which = f"the best of each of {len(self.record.groups)} groups together have"
        return (
            f"Study of `{self.name}` version {self.version}: {len(self.rows)} trials, "
            f"{failed} failed; {which} {self.metric} {_cell(value)}"
        )

    def _repr_html_(self) -> str:
        columns = list(self.rows[0])
        rows = [[_cell(row[c]) for c in columns] for row in self.rows]
        best = [bool(row["best"]) for row in self.rows]
        name = "eval_loss" if self.metric == "loss" else self.metric
        curves = [
            [r[name] for r in self.curves if r["trial"] == row["trial"] and r[name] is not None]
            for row in self.rows
        ]
        picture = thumbnail(curves, best.index(True) if True in best else 0, name)
        return html_note(repr(self)) + picture + html_table(columns, rows, bold=best)


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case float():
            return f"{value:.6g}"
        case str():
            return value
    return json.dumps(value)


def _pandas() -> Any:
    try:
        import pandas as pd
    except ImportError:
        raise UnsupportedError(
            "pandas is not installed",
            hint="pip install 'gradbase[frames]', or use .rows and .epochs (lists of dicts)",
        ) from None
    return pd
