"""Trainers: what a search drives, unit by unit, whatever is being trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from gradbase.errors import (
    CancelledError,
    GradbaseError,
    ShapeError,
    TrainingError,
    UnsupportedError,
)
from gradbase.frontend.option_table import NORMAL_EQUATION
from gradbase.frontend.torch_export import Exporter
from gradbase.ir.conversion import ToTable
from gradbase.ir.learning import Fit, FusedFit, Mlp
from gradbase.ir.networks import Autoencoder
from gradbase.ir.tensor import Tensor as Node
from gradbase.runtime.confusion import Counts
from gradbase.runtime.stacking.stack import ModuleStack
from gradbase.runtime.train.by_reference import by_reference
from gradbase.runtime.train.data import TrainingData
from gradbase.runtime.train.evaluating import counts_of, judged, metrics_of
from gradbase.runtime.train.finish import (
    Params,
    added,
    coded,
    joined,
    matrix,
    perceptron,
    tables,
    vector_constants,
)
from gradbase.runtime.train.given import Networks, build, loss_of, own_metric, schedules_of
from gradbase.runtime.train.losses import unit_of
from gradbase.runtime.train.module import ModuleFit
from gradbase.runtime.train.normal_equation import NormalEquation
from gradbase.runtime.train.replicas import ReplicatedModule, ReplicatedStack, Team, check_replicas
from gradbase.runtime.train.stacked import Stack
from gradbase.runtime.train.step_memory import StepMemory
from gradbase.runtime.train.threads import torch_threads
from gradbase.store.records import Scores

Evaluation = tuple[float, dict[str, float]]


class Ran(NamedTuple):
    """Where a unit was trained: the worker and its attempt, what went over, and its parts."""

    worker: int
    attempt: int = 1
    moved_bytes: int = 0
    seconds: Mapping[str, float] = {}


_NOTHING: Evaluation = (math.nan, {})


class Trainer:
    """Trains the fits of one member of a `Search`; a fit is named by its place in `fits`.

    A fit that fails (its loss is not finite, its module raises) stops by itself: it is listed in
    `failed`, and the others go on with the same numbers as without it.

    Parameters
    ----------
    fits : sequence of Fit
    data : TrainingData
    networks : Networks, optional
        Needed for `PythonNetwork`.
    dtype : torch.dtype
        float64 serves to compare with a reference.
    threads : int
        Of torch, for this trainer's work.
    exporter : Exporter, optional
        Shared by trainers, so that networks of equal code are traced once.

    Attributes
    ----------
    ran : Ran or None
        Where the last unit was trained; None: here.
    validate_s : float, seconds
        That the last validation took elsewhere; 0: here.
    """

    def __init__(
        self,
        fits: Sequence[Fit],
        data: TrainingData,
        networks: Networks | None,
        *,
        fused: bool,
        dtype: torch.dtype = torch.float32,
        threads: int = 1,
        exporter: Exporter | None = None,
    ) -> None:
        self.fits, self.data, self.threads = tuple(fits), data, threads
        self.failed: dict[int, GradbaseError] = {}
        self.ran: Ran | None = None
        self.validate_s = 0.0
        self._members = list(range(len(self.fits)))
        self._exporter = exporter or Exporter()
        self._measured: tuple[str, dict[int, Tensor]] = ("", {})
        self._engine: Stack | ModuleFit | ModuleStack | NormalEquation
        self._networks = networks
        loss = loss_of(self.fits[0], networks)
        schedules = schedules_of(networks)
        check_replicas(self.fits[0])
        with torch.no_grad(), torch_threads(threads):
            if self.fits[0].optimizer.name == NORMAL_EQUATION:
                self._engine = NormalEquation(self.fits[0], data, dtype)
            elif isinstance(self.fits[0].network, Mlp):
                kind = ReplicatedStack if self.fits[0].replicas > 1 else Stack
                self._engine = kind(
                    self.fits, data, dtype, alone=not fused, loss=loss, schedules=schedules
                )
            else:
                modules = [build(fit, data, networks) for fit in self.fits]
                if fused:
                    modules = [m.to(dtype) for m in modules]
                    self._engine = ModuleStack(self.fits, data, modules, loss, schedules)
                else:
                    own = ReplicatedModule if self.fits[0].replicas > 1 else ModuleFit
                    self._engine = own(
                        self.fits[0], data, modules[0], loss, own=networks, schedules=schedules
                    )

    @property
    def active(self) -> tuple[int, ...]:
        """Fits still in training, by their place."""
        return tuple(self._members)

    def step_memory(self, limit: int) -> StepMemory | None:
        """What a step of a user's module will hold; None where it cannot be told beforehand.

        More than it holds, where that is far below `limit` bytes.
        """
        assert isinstance(self._engine, ModuleFit | ModuleStack)
        return self._engine.step_memory(limit)

    def cut_batches(self, parts: int) -> None:
        """Let a user's module take each batch in `parts`, adding up gradients (`tolerance`)."""
        assert isinstance(self._engine, ModuleFit)
        self._engine.parts = parts

    def join(self, team: Team) -> None:
        """Compute a share of each batch's parts; `team` the others."""
        assert isinstance(self._engine, ReplicatedStack | ReplicatedModule)
        self._engine.team = team

    def keep_within(self, size_bytes: int, folder: Path) -> None:
        """Let what a step of a user's module does not need at the moment wait in a file."""
        assert isinstance(self._engine, ModuleFit)
        self._engine.limit = (size_bytes, folder)

    def run_unit(self, epoch: int, shard: int) -> list[float]:
        """Train all active fits over one shard.

        Returns
        -------
        list of float
            Mean training loss of each fit over the shard's rows (regression: in squared units of
            the label); NaN for fits that are no longer active.

        Raises
        ------
        CancelledError
        """
        self._measured = ("", {})
        found = self._run(lambda: self._engine.run_unit(epoch, shard), f"epoch {epoch + 1}")
        losses = [math.nan] * len(self.fits)
        for member, loss in found.items():
            losses[member] = loss * self._unit
        return losses

    def evaluate(self, part: str = "eval") -> list[Evaluation]:
        """(loss, metrics) of each fit on the rows of ``eval`` or ``test``.

        (NaN, {}) for fits that are no longer active, and where the part has no rows.
        """
        results = [_NOTHING] * len(self.fits)
        if not self._members or not self.data.has(part):
            return results
        outputs: list[Tensor] = []

        def losses() -> list[float]:
            z, found = self._engine.outputs(part)
            outputs.append(z)
            return found

        members = list(self._members)
        found = self._run(losses, f"evaluation on the {part} rows")
        if found:
            kept = {m: outputs[0][members.index(m)] for m in found}
            if part != "test":
                self._measured = (part, kept)
            with torch.no_grad(), torch_threads(self.threads):
                measured = self._metrics(part, kept)
            for member, values in measured.items():
                results[member] = (found[member] * self._unit, values)
        return results

    def is_measured(self, member: int) -> bool:
        """Whether `counts` knows of it."""
        return member in self._measured[1]

    def counts(self, member: int) -> Scores | Counts | None:
        """How a classifier's rows were predicted at the last evaluation, before the next unit.

        Scores of two classes, `class_counts` of more; None for a regression.
        """
        part, outputs = self._measured
        if self.data.task not in ("binary", "multiclass") or member not in outputs:
            return None
        return counts_of(self.data, part, outputs[member])

    def state(self, member: int) -> dict[str, Tensor]:
        """Everything that the rest of a fit's training depends on."""
        return self._engine.state(self._place(member))

    def load_state(self, member: int, state: dict[str, Tensor]) -> None:
        """Continue from a state; all fits of a fused trainer must have come equally far."""
        self._measured = ("", {})
        self._engine.load_state(self._place(member), state)

    def drop(self, member: int) -> None:
        """Stop training a fit; the others' numbers do not change. Its state is gone."""
        if member in self._members:
            self._keep([m for m in self._members if m != member])

    def here(self, member: int) -> Trainer:  # noqa: ARG002
        """Itself: what trains elsewhere comes here to be finished."""
        return self

    def finish(self, member: int) -> tuple[tuple[ToTable, ...], Params]:
        """A fit's model as it is now: its outputs, and the constants they name by hash.

        A user's module that cannot be traced is kept by reference.

        Raises
        ------
        UnsupportedError
            A user's module gives another result every time.
        """
        return self.finishing(member)()

    def finishing(self, member: int) -> Callable[[], tuple[tuple[ToTable, ...], Params]]:
        """`finish` for later: the fit as it is now, whatever becomes of it meanwhile."""
        place, inputs = self._place(member), self.data.inputs
        fit, params = self.fits[member], vector_constants(inputs)
        if isinstance(self._engine, ModuleFit | ModuleStack):
            module = self._engine.module_of(place)

            def exported() -> tuple[tuple[ToTable, ...], Params]:
                x = self._exported(fit, module, joined(matrix(inputs)), params)
                return tables(x, self.data.target), params

            return exported
        x = added([perceptron(*part, inputs, params) for part in self._engine.layers(place)])
        if isinstance(fit.network, Autoencoder):
            found = coded(x, fit.network, inputs, params)
        else:
            found = tables(x, self.data.target)
        return lambda: (found, params)

    def _exported(self, fit: Fit, module: torch.nn.Module, x: Node, params: Params) -> Node:
        key = (fit.network, self.data.inputs.width, self.data.outputs)
        try:
            made, found = self._exporter.export(module, x, key)
        except (UnsupportedError, ShapeError) as error:
            return by_reference(fit, module, x, params, error)
        params.update(found)
        return made

    # -- failing -----------------------------------------------------------------------------------

    def _run(self, work: Callable[[], list[float]], when: str) -> dict[int, float]:
        """Loss of each member that is still fine afterwards."""
        if self.data.cancelled.is_set():
            raise CancelledError("training was cancelled")
        if not self._members:
            return {}
        try:
            with torch.no_grad(), torch_threads(self.threads):
                losses = work()
        except CancelledError:
            raise
        except GradbaseError as error:
            if isinstance(self._engine, Stack | ModuleStack):
                raise
            self._fail({self._members[0]: error})
            return {}
        found = dict(zip(self._members, losses, strict=True))
        self._fail({m: _not_finite(self.fits[m], v, when) for m, v in found.items()
                    if not math.isfinite(v)})  # fmt: skip
        return {m: v for m, v in found.items() if m in self._members}

    def _fail(self, errors: dict[int, GradbaseError]) -> None:
        if errors:
            self.failed.update(errors)
            self._keep([m for m in self._members if m not in errors])

    def _keep(self, members: list[int]) -> None:
        if members:
            self._engine.keep([self._place(m) for m in members])
        self._members = members

    def _place(self, member: int) -> int:
        return self._members.index(member)

    # -- units -------------------------------------------------------------------------------------

    @property
    def _unit(self) -> float:
        """What turns a loss of standardised labels into one of labels."""
        if self.data.task != "regression":
            return 1.0
        return unit_of(self.fits[0].loss, self.data.target.scale)

    def _metrics(self, part: str, outputs: dict[int, Tensor]) -> dict[int, dict[str, float]]:
        """By member; one whose own metric raises has failed."""
        found: dict[int, dict[str, float]] = {}
        for member, z in outputs.items():
            own = partial(judged, self.data, part, z)
            try:
                found[member] = metrics_of(self.data, part, z)
                found[member] |= own_metric(self.fits[member], own, self._networks)
            except GradbaseError as error:
                self._fail({member: error})
                found.pop(member, None)
        return found


def make_trainer(
    trial: Fit | FusedFit,
    data: TrainingData,
    networks: Networks | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    threads: int = 1,
    exporter: Exporter | None = None,
) -> Trainer:
    """The trainer of a fit, or of fits that train as one stack."""
    fused = isinstance(trial, FusedFit)
    fits = trial.fits if isinstance(trial, FusedFit) else (trial,)
    return Trainer(
        fits, data, networks, fused=fused, dtype=dtype, threads=threads, exporter=exporter
    )


def shard_order(epoch: int, shards: int, first: int = 0) -> list[int]:
    """Shards in the order in which a trial visits them in `epoch`; `first` is `Fit.first_shard`.

    Examples
    --------
    >>> shard_order(1, 3)
    [1, 2, 0]
    """
    return [(i + epoch + first) % shards for i in range(shards)]


def _not_finite(fit: Fit, loss: float, when: str) -> TrainingError:
    return TrainingError(
        f"the loss of trial {fit.trial} became {loss:g} in {when}",
        at=f"learn_rate {fit.optimizer.learn_rate:g}, optimizer {fit.optimizer.name}",
        hint="lower learn_rate",
    )
