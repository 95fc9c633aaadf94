"""Running one model per group, and the version that it makes."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from gradbase import __version__
from gradbase.engines import quote_identifier
from gradbase.errors import CancelledError, TrainingError
from gradbase.ir.conversion import ToTable
from gradbase.ir.derived import Derived
from gradbase.ir.grouping import ByGroup, FitGroups
from gradbase.ir.learning import Feature, Model
from gradbase.ir.metrics import is_minimised
from gradbase.ir.scalar import Column
from gradbase.runtime.confusion import class_counts, score_counts, thinned
from gradbase.runtime.groups.member import Member
from gradbase.runtime.groups.packed import GroupPredictor, Packed, packed
from gradbase.runtime.metrics import metrics
from gradbase.runtime.train.features import constant
from gradbase.runtime.train.finish import tables
from gradbase.runtime.train.labels import Target
from gradbase.runtime.train.losses import unit_of
from gradbase.runtime.train.transforming import columns_read
from gradbase.selection.configuring import configuration_of
from gradbase.selection.group_journal import GroupJournal
from gradbase.selection.group_rounds import value_at_end
from gradbase.selection.group_training import GroupTraining
from gradbase.selection.outcome import RunResult
from gradbase.selection.progress import Listener, listener_for
from gradbase.selection.resuming import Interrupted
from gradbase.selection.run import RunInfo
from gradbase.selection.waiting import persistently
from gradbase.store.records import (
    CONSTANT,
    FAILED,
    STOPPED,
    SUCCEEDED,
    EpochRecord,
    GroupRecord,
    ModelRecord,
    Scores,
    TrialRecord,
)

if TYPE_CHECKING:
    from gradbase.runtime.context import RunContext
    from gradbase.store import Store

ALL_GROUPS = 0
"""The trial that stands for the model of all groups together."""


def run(
    plan: FitGroups,
    context: RunContext,
    store: Store,
    info: RunInfo,
    listener: Listener | None = None,
    *,
    interrupted: Interrupted | None = None,
) -> RunResult:
    """Train every trial of every group and commit the best ones as one version of the model.

    Raises
    ------
    TrainingError
        No group has a model.
    CancelledError
        Nothing is visible then; what was trained is on disk, and can be gone on with.
    DataError
        The rows have changed since the run that is to go on.
    """
    listener = listener or listener_for(plan, context.settings)

    def begin(before: Interrupted | None) -> _GroupRun:
        store.check_creatable(
            plan.name, or_replace=info.or_replace, if_not_exists=info.if_not_exists
        )
        return _GroupRun(plan, context, store, info, listener=listener, interrupted=before)

    return persistently(plan.name, context, store, begin, interrupted)


class _GroupRun:
    """An attempt at a training of one model per group."""

    def __init__(
        self, plan: FitGroups, context: RunContext, store: Store, info: RunInfo, *,
        listener: Listener, interrupted: Interrupted | None,
    ) -> None:  # fmt: skip
        self.plan, self.context, self.store, self.info = plan, context, store, info
        self.listener, self.started = listener, time.perf_counter()
        self.told = GroupJournal(plan, store, info, interrupted)
        self.journal = self.told.journal

    def run(self) -> RunResult:
        """Train and commit; whatever happens, say in journal and progress how it ended."""
        message = f"training of `{self.plan.name}` ended without a model"
        try:
            result = self.committed(self._trained())
            message = str(result)
        except (KeyboardInterrupt, CancelledError) as error:
            self.told.end("INTERRUPTED", error=message)
            hint = f"RESUME SEARCH {quote_identifier(self.plan.name)} goes on from there"
            raise CancelledError(message, hint=hint) from error
        except BaseException as error:
            self.told.end("FAILED", error=str(error))
            raise
        finally:
            self.listener.on_end(message)
        return result

    def _trained(self) -> int:
        """The version that is visible now."""
        training = GroupTraining(self.plan, self.info.terms, self.context, self.listener.on_data)
        self.told.check_rows(training.data.relation_hash)
        training.run(self.listener, self.told)
        self.record = _Recording(self.plan, training, self.info, self.context).record()
        self.context.check_cancelled()
        return self.store.commit(
            self.record, or_replace=self.info.or_replace,
            if_not_exists=self.info.if_not_exists, run_id=self.journal.run_id,
        )  # fmt: skip

    def committed(self, version: int) -> RunResult:
        """The model is visible as this version: say so, and forget the states."""
        result = RunResult(version, self.record, time.perf_counter() - self.started)
        self.told.end("DONE", version)
        return result


class _Recording:
    """What became of every group, as the store keeps it."""

    def __init__(
        self, plan: FitGroups, training: GroupTraining, info: RunInfo, context: RunContext
    ) -> None:
        self.plan, self.training, self.info, self.context = plan, training, info, context
        self.data = training.data
        self.by_group: dict[int, list[tuple[int, Member]]] = {}
        for trial, member in training.members:
            self.by_group.setdefault(member.group.number, []).append((trial, member))
        best = {g: found for g, pairs in self.by_group.items() if (found := self._best(pairs))}
        self.best_trials = {g: trial for g, (trial, _) in best.items()}
        self.best = {g: member for g, (_, member) in best.items()}
        self.packed = packed(self.data, self.best, plan.unseen)
        self.predict = GroupPredictor(self.packed)

    def _best(self, pairs: list[tuple[int, Member]]) -> tuple[int, Member] | None:
        """The best trial of a group; see `outcome.best_of`."""
        sign = 1.0 if is_minimised(self.plan.metric) else -1.0

        def rank(pair: tuple[int, Member]) -> tuple[int, float, int]:
            trial, member = pair
            value, loss = value_at_end(self.plan.metric, member), member.losses[-1]
            if not math.isnan(value):
                return (0, sign * value, trial)
            return (1, math.inf if math.isnan(loss) else loss, trial)

        usable = [p for p in pairs if not p[1].error]
        return min(usable, key=rank) if usable else None

    # -- records -----------------------------------------------------------------------------------

    def record(self) -> ModelRecord:
        """The version with all trials."""
        if not ((self.packed.stack != -1).any()):
            raise TrainingError(f"no group of `{self.plan.name}` has a model: {self._reasons()}")
        data, plan, info = self.data, self.plan, self.info
        own = [g for g in data.groups if g.number < len(data.keys)]
        trials = [self._whole()]
        trials += [t for g in data.groups for t in self._trials(g.number)]
        parts = [sum(len(getattr(g.parts, p)) for g in own) for p in ("train", "eval", "test")]
        return ModelRecord(
            name=plan.name,
            model_type=info.model_type,
            task=plan.data.task,
            label=plan.data.label,
            query=info.query,
            options=info.options,
            seed=info.seed,
            relation_hash=data.relation_hash,
            code_version=f"gradbase {__version__}",
            engine=self.context.engine.name,
            trials=trials,
            metric=plan.metric,
            best_trial=ALL_GROUPS,
            sql=info.sql,
            features=data.summaries,
            train_rows=parts[0],
            eval_rows=parts[1],
            test_rows=parts[2],
            groups=tuple(self._group(g.number) for g in data.groups),
        )

    def _reasons(self) -> str:
        errors = [g.error for g in self.data.groups if g.error]
        errors += [m.error for _, m in self.training.members if m.error]
        return "; ".join(dict.fromkeys(errors))

    def _group(self, number: int) -> GroupRecord:
        group, data = self.data.groups[number], self.data
        pooled = number == len(data.keys)
        key = None if pooled else self._key(number)
        parts = (len(p) for p in (group.parts.train, group.parts.eval, group.parts.test))
        if group.error:
            parts = (0, 0, 0)  # nothing was learnt from its rows
        first = self.training.first_trial(number)
        last = first + max(len(self.by_group.get(number, ())), 1) - 1
        return GroupRecord(
            number + 1, key, first, last, self.best_trials.get(number, first), *parts
        )

    def _key(self, number: int) -> dict[str, object]:
        """The values of a group, numbers as numbers."""
        schema = self.plan.data.relation.schema
        pairs = zip(self.data.keys.names, self.data.keys.values[number], strict=True)
        return {n: _typed(v, schema.type_of(n).kind) for n, v in pairs}

    def _trials(self, number: int) -> list[TrialRecord]:
        group = self.data.groups[number]
        pairs = self.by_group.get(number, [])
        if not pairs:
            status = FAILED if group.error else CONSTANT
            reason = group.error or group.target.constant
            return [TrialRecord(self.training.first_trial(number), status, error=reason)]
        return [self._trial(trial, member) for trial, member in pairs]

    def _trial(self, trial: int, member: Member) -> TrialRecord:
        target, fit = member.group.target, member.fit
        unit = unit_of(fit.loss, target.scale) if target.task == "regression" else 1.0
        evaluated: list[float | None] = [unit * v for v in member.eval_losses]
        evaluated += [None] * (len(member.train_losses) - len(evaluated))
        epochs = tuple(
            EpochRecord(i, unit * loss, other, {}, rate, seconds)
            for i, (loss, other, rate, seconds) in enumerate(
                zip(member.train_losses, evaluated, member.rates, member.seconds, strict=True)
            )
        )
        return TrialRecord(
            trial=trial,
            status=_status(member),
            configuration=configuration_of(fit, self.info.tuned),
            metrics=member.metrics,
            test_metrics=member.test_metrics,
            train_loss=epochs[-1].train_loss if epochs else None,
            eval_loss=epochs[-1].eval_loss if epochs else None,
            error=member.error or None,
            traceback=member.traceback,
            epochs=epochs,
        )

    def _whole(self) -> TrialRecord:
        """The model of all groups: how well it does over the rows of all."""
        measured = self._over_all("eval") or self._over_all("train")
        tested = self._over_all("test")
        content = self.packed.to_bytes()
        params: dict[str, npt.NDArray[np.uint8]] = {}
        node = ByGroup(
            constant(content, params), self.data.keys.names, len(self.data.keys),
            self.packed.width, self.plan.unseen, _operations(self.packed),
        )  # fmt: skip
        task = self.plan.data.task
        target = Target(np.empty(0), task, self.packed.width, self.data.classes)
        scores = confusion = None
        if measured and task == "binary":
            scores = thinned(score_counts(*measured))
        elif measured and task == "multiclass":
            confusion = class_counts(*measured)
        return TrialRecord(
            trial=ALL_GROUPS,
            status=SUCCEEDED,
            metrics=metrics(task, *measured) if measured else {},
            test_metrics=metrics(task, *tested) if tested else {},
            model=self._model(tables(node, target)),
            params=params | (self.data.learnt.params if self.data.learnt else {}),
            scores=scores if isinstance(scores, Scores) else None,
            confusion=confusion,
        )  # fmt: skip

    def _model(self, outputs: tuple[ToTable, ...]) -> Model:
        """Over the features; the columns that make groups go on as they are."""
        schema, data, learnt = self.plan.data.relation.schema, self.plan.data, self.data.learnt
        read = {*self.predict.columns}
        keys = {n: schema.type_of(n) for n in data.groups}
        columns = transform = ()
        if learnt is not None:
            kept = tuple(d for d in learnt.columns if d.name in read)
            columns = (*kept, *(Derived(n, Column(n, of)) for n, of in keys.items()))
            transform = learnt.transform
            read = columns_read(d.expr for d in columns)
        names = dict.fromkeys((*data.features, *data.groups))
        features = tuple(Feature(n, schema.type_of(n)) for n in names if n in read)
        return Model(
            self.plan.name, 0, ALL_GROUPS, data.task, data.label, features, outputs, columns,
            transform,
        )  # fmt: skip

    def _over_all(self, part: str) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Outputs and true values of a part of the rows of all groups that have a model."""
        found: list[npt.NDArray[np.float64]] = []
        rows: list[npt.NDArray[np.int64]] = []
        for group in self.data.groups[: len(self.data.keys)]:
            own = getattr(group.parts, part)
            number = np.full(len(own), group.number)
            member = self.best.get(group.number)
            if member is not None:
                outputs = member.tested if part == "test" else member.outputs
                if part == "train" and len(group.parts.eval):
                    continue
                if outputs is None or not len(own):
                    continue
                found.append(self.predict.finished(outputs, number))
            elif group.error or not len(own):
                continue
            else:
                found.append(self.predict.constants(number))
            rows.append(own)
        if not rows:
            return None
        true = self.data.true[np.concatenate(rows)]
        return torch.from_numpy(np.concatenate(found)), torch.from_numpy(true)


def _status(member: Member) -> str:
    if member.error:
        return FAILED
    ended = member.epochs >= member.fit.epochs or member.has_converged
    return SUCCEEDED if ended else STOPPED


def _operations(of: Packed) -> float:
    """FLOPs per row: of the widest network."""
    return max((2.0 * w.shape[1] for w in of.weights), default=1.0)


def _typed(value: str | None, kind: str) -> object:
    if value is None:
        return None
    if kind.startswith(("int", "uint")):
        return int(value)
    if kind.startswith("float") or kind == "decimal":
        return float(value)
    return value == "true" if kind == "bool" else value
