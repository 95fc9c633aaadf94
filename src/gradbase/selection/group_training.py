"""Training one model per group: all trials of all groups, in as few stacks as will do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gradbase.errors import ResourceError
from gradbase.frontend.option_table import NORMAL_EQUATION
from gradbase.frontend.training import default_hidden_units, split_of_rows
from gradbase.ir.grouping import BY_ROWS, FitGroups
from gradbase.ir.learning import Fit, Mlp, Optimizer
from gradbase.ir.types import SqlType
from gradbase.runtime.columns import kernels
from gradbase.runtime.groups.layout import Layout, common_shape
from gradbase.runtime.groups.ragged import EpochOrders, room_of
from gradbase.runtime.groups.rows import Group, GroupedData, read_groups
from gradbase.runtime.groups.solved import solve
from gradbase.runtime.groups.stack import GroupStack, Member
from gradbase.runtime.train.networks import MlpShape
from gradbase.runtime.train.normal_equation import MAX_COLUMNS
from gradbase.runtime.train.threads import torch_threads
from gradbase.selection.solving import ROWS_PER_COLUMN, encoded_columns

if TYPE_CHECKING:
    from gradbase.runtime.context import RunContext
    from gradbase.runtime.train.reading import Progress
    from gradbase.selection.group_journal import GroupJournal
    from gradbase.selection.progress import Listener

_STACK_ELEMENTS = 400_000
"""Parameters of one stack: with its optimiser's slots they stay in the cache."""
Key = tuple[Any, ...]
Stack = list[tuple[int, Member]]
"""Members that train together, with their trial numbers."""
_VECTORS = 6
"""Vectors as long as a stack's weights: gradients, slots and what an update needs."""


class GroupTraining:
    """Reads the rows of `plan` and trains every fit of every group.

    Attributes
    ----------
    data : GroupedData
    members : list of (int, Member)
        Each with its trial number; of a group without anything to learn there is none.
    """

    def __init__(self, plan: FitGroups, context: RunContext, progress: Progress) -> None:
        self.plan, self.context = plan, context
        self._exact: npt.NDArray[np.bool_] = np.zeros(0, np.bool_)
        with torch_threads(1):
            self.data: GroupedData = read_groups(
                plan, context, progress,
                resolve=split_of_rows, embeds=self._embeds,
            )  # fmt: skip
        self.members = list(self._members())

    def first_trial(self, group: int) -> int:
        """The number of a group's first trial."""
        return group * len(self.plan.fits) + 1

    def run(self, listener: Listener, journal: GroupJournal) -> None:
        """Train; every member has its layers and outputs afterwards, or an error.

        Raises
        ------
        ResourceError
            There is no memory for rows and stacks.
        """
        stacks = self._stacks(journal.restore(self.members))
        workers, size = self._admitted(stacks)
        lease = self.context.broker.acquire(
            f"search {self.plan.name}", "rows and stacks of groups", size_bytes=size
        )
        try:
            self._run(stacks, workers, listener, journal)
        finally:
            self.context.broker.release(lease)

    def _admitted(self, stacks: Sequence[Stack]) -> tuple[int, int]:
        """How many stacks train at once, and the bytes of these and of the rows."""
        broker, data = self.context.broker, self.data
        limit = broker.memory_bytes - broker.held(self.context.engine.name)
        arrays = (data.x, data.codes, data.y, data.weights, data.true, data.ids)
        rows, sizes = sum(a.nbytes for a in arrays), sorted(map(_stack_bytes, stacks))
        for workers in range(max(1, min(broker.threads, len(stacks))), 0, -1):
            size = rows + sum(sizes[-workers:])
            if size <= limit:
                return workers, size
        size = rows + sum(sizes[-1:])
        raise ResourceError(
            f"the rows and a stack of groups of `{self.plan.name}` need {size:,} bytes, "
            f"{limit:,} may be used",
            hint="SET gradbase.memory_limit to a larger size, or train on fewer rows",
        )

    def _run(
        self, stacks: Sequence[Stack], workers: int, listener: Listener, journal: GroupJournal
    ) -> None:
        orders = EpochOrders(self.data)
        listener.on_start(len(self.members), sum(m.fit.epochs for _, m in self.members))
        with ThreadPoolExecutor(workers, "gradbase-groups") as pool:
            waiting = [pool.submit(self._train, stack, orders, journal) for stack in stacks]
            try:
                for done in as_completed(waiting):
                    self._tell(done, listener)
            except BaseException:
                self.context.cancelled.set()  # the other stacks stop at their next epoch
                for future in waiting:
                    future.cancel()
                raise

    def _train(self, stack: Stack, orders: EpochOrders, journal: GroupJournal) -> Stack:
        members = [m for _, m in stack]
        with torch_threads(1):
            if members[0].fit.optimizer.name == NORMAL_EQUATION:
                for member in members:
                    self.context.check_cancelled()
                    solve(member, self.data, orders)
            else:
                shape = common_shape(members[0].shape)
                GroupStack(members, shape, orders, self.context.check_cancelled).run()
        journal.save(stack)
        return stack

    def _tell(self, done: Future[list[tuple[int, Member]]], listener: Listener) -> None:
        for trial, member in done.result():
            listener.on_trial_end(trial, "FAILED" if member.error else "", member.fit.epochs)

    # -- what is trained ---------------------------------------------------------------------------

    def _embeds(self, groups: list[Group], rows: pa.Table) -> npt.NDArray[np.bool_]:
        """In which groups embeddings may be learnt: where nothing is solved exactly."""
        plan = self.plan
        if plan.fits[0].optimizer.name == NORMAL_EQUATION:
            self._exact = np.ones(len(groups), np.bool_)
        elif not plan.solvable:
            self._exact = np.zeros(len(groups), np.bool_)
        else:
            widths = self._widths(groups, rows)
            counts = np.array([g.rows for g in groups])
            self._exact = (widths <= MAX_COLUMNS) & (counts >= ROWS_PER_COLUMN * widths)
        return ~self._exact

    def _widths(self, groups: list[Group], rows: pa.Table) -> npt.NDArray[np.int64]:
        """At most so many encoded columns has each group."""
        starts = np.cumsum([0, *(g.rows for g in groups)])
        group = np.repeat(np.arange(len(groups)), np.diff(starts))
        found = np.zeros(len(groups), np.int64)
        for field in self.plan.data.inputs:
            of: SqlType = field.type
            if not of.is_text:
                found += encoded_columns(of, 0)
                continue
            codes = rows[field.name].combine_chunks().dictionary_encode().indices.cast(pa.int64())
            values = kernels.fill_null(codes, -1).to_numpy(zero_copy_only=False)
            known = values >= 0
            most = int(values.max(initial=0)) + 1
            pairs = np.unique(group[known] * most + values[known]) // most
            distinct = np.bincount(pairs, minlength=len(groups))
            found += [encoded_columns(of, int(n)) for n in distinct]
        return found

    def _members(self) -> Iterator[tuple[int, Member]]:
        for group in self.data.groups:
            if group.error or group.target.constant:
                continue
            for place, fit in enumerate(self.plan.fits):
                own = self._fit(group, fit)
                yield (
                    self.first_trial(group.number) + place,
                    Member(group, own, self._shape(group, own)),
                )

    def _fit(self, group: Group, fit: Fit) -> Fit:
        """A fit as it is in a group."""
        network = fit.network
        assert isinstance(network, Mlp), network
        if network.hidden_units == BY_ROWS:
            inputs = sum(f.type.size[0] if f.type.is_vector else 1 for f in self.plan.data.inputs)
            hidden = default_hidden_units(group.rows, inputs, group.target.outputs)
            fit = fit.replace(network=network.replace(hidden_units=hidden))
        if self._exact[group.number] and fit.optimizer.name != NORMAL_EQUATION:
            solved = Optimizer(NORMAL_EQUATION, 0.0, fit.optimizer.l2_reg)
            fit = fit.replace(optimizer=solved, epochs=1)
        return fit

    def _shape(self, group: Group, fit: Fit) -> MlpShape:
        """Of a group's network by itself."""
        network, inputs = fit.network, self.data.inputs
        assert isinstance(network, Mlp), network
        return MlpShape(
            int(inputs.dense[group.number]), inputs.embeddings(group.number),
            network.hidden_units, group.target.outputs, network.activation,
        )  # fmt: skip

    def _stacks(self, members: Sequence[tuple[int, Member]]) -> list[Stack]:
        """Members that train together, the longest stacks first."""
        by_key: dict[Key, list[tuple[int, Member]]] = {}
        for pair in members:
            by_key.setdefault(_key(pair[1]), []).append(pair)
        found: list[Stack] = []
        for key, pairs in by_key.items():
            pairs.sort(key=lambda pair: -pair[1].steps)
            size = len(pairs) if key[0] == NORMAL_EQUATION else _most(pairs[0][1])
            found += [pairs[i : i + size] for i in range(0, len(pairs), size)]
        return sorted(found, key=_work, reverse=True)


def _key(member: Member) -> Key:
    """What members of a stack have in common."""
    fit, network = member.fit, member.fit.network
    assert isinstance(network, Mlp), network
    return (
        fit.optimizer.name, common_shape(member.shape), fit.batch_size, network.intercept, fit.loss,
        member.group.target.task, room_of(member.group, fit.batch_size),
    )  # fmt: skip


def _most(member: Member) -> int:
    return max(2, _STACK_ELEMENTS // Layout(common_shape(member.shape)).width)


def _stack_bytes(stack: Stack) -> int:
    """What a stack holds while it trains: weights and as many vectors, and a batch's values."""
    first = stack[0][1]
    layout = Layout(common_shape(first.shape))
    room = room_of(first.group, first.fit.batch_size)
    return 4 * len(stack) * (_VECTORS * layout.width + 3 * room * sum(first.shape.widths))


def _work(stack: Sequence[tuple[int, Member]]) -> float:
    return sum(m.steps * m.fit.epochs for _, m in stack)
