"""Training one model per group: all trials of all groups, in as few stacks as will do."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
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
from gradbase.optimizer.cost_groups import STACK_ELEMENTS
from gradbase.runtime.columns import kernels
from gradbase.runtime.groups.layout import Layout, common_shape
from gradbase.runtime.groups.member import Member
from gradbase.runtime.groups.ragged import EpochOrders, room_of
from gradbase.runtime.groups.rows import Group, GroupedData, read_groups
from gradbase.runtime.groups.solved import solve
from gradbase.runtime.groups.stack import GroupStack
from gradbase.runtime.train.networks import MlpShape
from gradbase.runtime.train.normal_equation import MAX_COLUMNS
from gradbase.runtime.train.threads import torch_threads
from gradbase.selection.group import FATAL, learn_rate_of, told
from gradbase.selection.group_measures import measure
from gradbase.selection.group_rounds import GroupRounds
from gradbase.selection.procedure import Terms
from gradbase.selection.solving import ROWS_PER_COLUMN, encoded_columns

if TYPE_CHECKING:
    from gradbase.runtime.context import RunContext
    from gradbase.runtime.train.reading import Progress
    from gradbase.selection.group_journal import GroupJournal
    from gradbase.selection.progress import Listener

Key = tuple[Any, ...]
Stack = list[tuple[int, Member]]
"""Members that train together, with their trial numbers."""
_VECTORS = 6
"""Vectors as long as a stack's weights: gradients, slots and what an update needs."""
_POLL_S = 0.2
"""Between two looks into the mailbox."""


class GroupTraining:
    """Reads the rows of `plan` and trains every fit of every group.

    Attributes
    ----------
    data : GroupedData
    """

    def __init__(
        self, plan: FitGroups, terms: Terms, context: RunContext, progress: Progress
    ) -> None:
        self.plan, self.context = plan, context
        self._exact: npt.NDArray[np.bool_] = np.zeros(0, np.bool_)
        with torch_threads(1):
            self.data: GroupedData = read_groups(
                plan, context, progress,
                resolve=split_of_rows, embeds=self._embeds,
            )  # fmt: skip
        learning = [g for g in self.data.groups if not (g.error or g.target.constant)]
        self._rounds = GroupRounds(plan, terms, learning, self._member)

    @property
    def members(self) -> list[tuple[int, Member]]:
        """Each with its trial number, in their order; of a group without anything to learn none."""
        return sorted(self._rounds.members.items())

    def first_trial(self, group: int) -> int:
        """The number of a group's first trial."""
        return self._rounds.first_trial(group)

    def run(self, listener: Listener, journal: GroupJournal) -> None:
        """Train; every member has its layers, outputs and metrics afterwards, or an error.

        Raises
        ------
        ResourceError
            There is no memory for rows and stacks.
        """
        orders = EpochOrders(self.data)
        for pairs in self._rounds:
            members = [m for _, m in pairs]
            journal.begin(pairs, self.data.keys)
            left = journal.restore(pairs)
            listener.on_start(len(left), sum(m.until - m.epochs for _, m in left))
            if left:
                self._round(self._stacks(left), orders, listener, journal)
            for member in members:
                member.rates += [
                    learn_rate_of(member.fit, epoch, member.steps)
                    for epoch in range(len(member.rates), member.epochs)
                ]
            measure(self.data, members)

    def _round(
        self,
        stacks: Sequence[Stack],
        orders: EpochOrders,
        listener: Listener,
        journal: GroupJournal,
    ) -> None:
        workers, size = self._admitted(stacks)
        lease = self.context.broker.acquire(
            f"search {self.plan.name}", "rows and stacks of groups", size_bytes=size
        )
        try:
            with ThreadPoolExecutor(workers, "gradbase-groups") as pool:
                waiting = {pool.submit(self._train, stack, orders, journal) for stack in stacks}
                try:
                    self._wait(waiting, listener, journal)
                except BaseException:
                    self.context.cancelled.set()  # the other stacks stop at their next epoch
                    for future in waiting:
                        future.cancel()
                    raise
        finally:
            self.context.broker.release(lease)

    def _wait(self, waiting: set[Future[Stack]], listener: Listener, journal: GroupJournal) -> None:
        """Until all have ended; does meanwhile what users ask for."""
        while waiting:
            done, waiting = wait(waiting, _POLL_S, FIRST_COMPLETED)
            for future in done:
                for trial, member in future.result():
                    left = member.until - member.epochs
                    listener.on_trial_end(trial, "FAILED" if member.error else "", left)
            for trial in journal.stopped(self._rounds.members, self.context.cancelled):
                self._rounds.members[trial].stop = True

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

    def _train(self, stack: Stack, orders: EpochOrders, journal: GroupJournal) -> Stack:
        members = [m for _, m in stack]
        journal.load_states(members)
        with torch_threads(1):
            self._trained(members, orders)
        journal.save(stack)
        return stack

    def _trained(self, members: list[Member], orders: EpochOrders) -> None:
        """Train a stack to the end of its leg.

        One that raises, for want of memory say, is cut in two, which changes no bit, until who
        raises is alone and fails.
        """
        begun = [(m, m.epochs, m.state) for m in members]
        try:
            self._stepped(members, orders)
        except FATAL:
            raise
        except Exception as error:  # noqa: BLE001 (a trial's error is recorded, the others go on)
            for member, epochs, state in begun:
                member.go_back(epochs, state)
            if len(members) == 1:
                members[0].error, members[0].traceback = told(error)
                return
            half = len(members) // 2
            self._trained(members[:half], orders)
            self._trained(members[half:], orders)

    def _stepped(self, members: list[Member], orders: EpochOrders) -> None:
        if members[0].fit.optimizer.name == NORMAL_EQUATION:
            for member in members:
                self.context.check_cancelled()
                solve(member, self.data, orders)
            return
        shape = common_shape(members[0].shape)
        GroupStack(members, shape, orders, self.context.check_cancelled).run()

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

    def _member(self, group: Group, fit: Fit) -> Member:
        own = self._fit(group, fit)
        return Member(group, own, self._shape(group, own), own.epochs)

    def _fit(self, group: Group, fit: Fit) -> Fit:
        """A fit as it is in a group."""
        network = fit.network
        assert isinstance(network, Mlp), network
        if network.hidden_units == BY_ROWS:
            inputs = sum(f.type.length if f.type.size else 1 for f in self.plan.data.inputs)
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
        fit.optimizer.name, member.epochs, common_shape(member.shape), fit.batch_size,
        network.intercept, fit.loss, member.group.target.task,
        room_of(member.group, fit.batch_size),
    )  # fmt: skip


def _most(member: Member) -> int:
    return max(2, STACK_ELEMENTS // Layout(common_shape(member.shape)).width)


def _stack_bytes(stack: Stack) -> int:
    """What a stack holds while it trains: weights and as many vectors, and a batch's values."""
    first = stack[0][1]
    layout = Layout(common_shape(first.shape))
    room = room_of(first.group, first.fit.batch_size)
    return 4 * len(stack) * (_VECTORS * layout.width + 3 * room * sum(first.shape.widths))


def _work(stack: Sequence[tuple[int, Member]]) -> float:
    return sum(m.steps * (m.until - m.epochs) for _, m in stack)
