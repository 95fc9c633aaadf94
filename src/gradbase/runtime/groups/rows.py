"""The rows of all groups: read once, each group divided and encoded as if it were alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gradbase.errors import DataError
from gradbase.ir.grouping import POOLED, FitGroups
from gradbase.ir.learning import Dataset
from gradbase.ir.scalar import Literal
from gradbase.runtime.groups import inputs as encodings
from gradbase.runtime.groups.inputs import GroupInputs
from gradbase.runtime.groups.keys import GroupKeys, keys_of
from gradbase.runtime.groups.targets import GroupTarget, Targets, learnt_targets
from gradbase.runtime.train.identity import Words, identities
from gradbase.runtime.train.reading import Progress, ReadRows, read_rows
from gradbase.runtime.train.rows import Block, RowStore
from gradbase.runtime.train.spill import spill_folder
from gradbase.runtime.train.split import Parts, Rows, divide, shards
from gradbase.runtime.train.summaries import summary
from gradbase.runtime.train.transforming import Learnt, learn_transform
from gradbase.store.records import FeatureRecord

if TYPE_CHECKING:
    from gradbase.ir.learning import Split
    from gradbase.runtime.context import RunContext

Resolve = Callable[["Split", int], "Split"]
"""The split of a group with so many rows."""


@dataclass(frozen=True)
class Group:
    """One group: its part of the rows and what it learns from them.

    `error` says why it cannot be learnt; then parts and target do not count.
    """

    number: int
    rows: int
    parts: Parts
    shards: list[Rows]
    target: GroupTarget
    error: str = ""

    @property
    def largest_shard(self) -> int:
        return max(len(s) for s in self.shards)


@dataclass(frozen=True)
class GroupedData:
    """All rows, those of a group together in the order of their identities.

    Parameters
    ----------
    keys : GroupKeys
    groups : list of Group
        One behind the last of `keys` is the group of all rows, where there is one.
    x : float32[rows + 1, width]
        The last row is of zeros, for what only pads.
    codes : int64[rows + 1, embeddings]
    y, weights : float64[rows + 1]
        Targets as each group's network learns them, and what losses are multiplied by.
    classes : tuple of Literal
        Of all groups; () for regression.
    true : float64[rows]
        Class numbers among `classes`, or labels.
    learnt : Learnt, optional
        What networks read, computed from the features; None: these as they are.
    """

    data: Dataset
    keys: GroupKeys
    groups: list[Group]
    inputs: GroupInputs
    x: npt.NDArray[np.float32]
    codes: npt.NDArray[np.int64]
    y: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]
    ids: Words
    classes: tuple[Literal, ...]
    true: npt.NDArray[np.float64]
    summaries: tuple[FeatureRecord, ...]
    relation_hash: str
    learnt: Learnt | None = None

    def outputs(self, group: int) -> int:
        """Outputs of a group's network."""
        return self.groups[group].target.outputs


def read_groups(
    plan: FitGroups,
    context: RunContext,
    progress: Progress,
    *,
    resolve: Resolve,
    embeds: Callable[[list[Group], pa.Table], npt.NDArray[np.bool_]],
) -> GroupedData:
    """Read the rows of `plan`, and make every group ready.

    Parameters
    ----------
    embeds : callable
        In which groups networks may learn embeddings.

    Raises
    ------
    DataError
        There are no rows, a feature is ±Inf, a label holds one value in all rows.
    """
    store = RowStore(1 << 62, lambda: spill_folder(context))
    with contextlib.closing(store):
        read = read_rows(plan.data, context, store, progress)
        return _Reader(plan, read, resolve, context).made(embeds)


class _Reader:
    def __init__(
        self, plan: FitGroups, read: ReadRows, resolve: Resolve, context: RunContext
    ) -> None:
        self.plan, self.data, self.read, self.resolve = plan, plan.data, read, resolve
        self.context = context
        self.table = _table(read.store).select(list(plan.data.columns))
        columns = [_whole(self.table[n]) for n in plan.data.groups]
        self.keys = keys_of(plan.data.groups, columns)
        group = self.keys.find(columns)
        self.ids, order = identities(*read.words(), group)
        self.group = group[order]
        self.places = order
        self.ids = self.ids[order]
        if plan.unseen == POOLED:
            ids, order = identities(*read.words())
            self.ids = np.concatenate([self.ids, ids[order]])
            self.places = np.concatenate([self.places, order])
            self.group = np.concatenate([self.group, np.full(len(order), len(self.keys))])
        self.count = len(self.keys) + (plan.unseen == POOLED)
        self.rows = self.table.take(pa.array(self.places))
        self.starts = np.searchsorted(self.group, np.arange(self.count + 1))

    def made(self, embeds: Callable[[list[Group], pa.Table], npt.NDArray[np.bool_]]) -> GroupedData:
        parts, errors = self._divided()
        trains = np.zeros(len(self.group), np.bool_)
        trains[np.concatenate([p.train for p in parts])] = True
        weights = None if self.read.weights is None else self.read.weights[self.places]
        targets = learnt_targets(
            self.data, self.plan, self.read.labels, self.places,
            parts=parts, starts=self.starts, weights=weights,
        )  # fmt: skip
        groups = [
            self._group(g, parts[g], errors[g] or targets.errors[g], targets)
            for g in range(self.count)
        ]
        keyed = int(self.starts[len(self.keys)])
        learnt, rows = self._prepared(trains[:keyed])
        columns = {n: _whole(rows[n]) for n in self.data.inputs.names}
        self._check(columns)
        found = encodings.learnt(
            self.data.inputs, columns, self.group, trains, embeds(groups, rows)
        )
        x, codes = found.encode(columns, self.group)
        return GroupedData(
            data=self.data,
            keys=self.keys,
            groups=groups,
            inputs=found,
            x=_with_zero(x),
            codes=_with_zero(codes),
            y=_with_zero(targets.y),
            weights=_with_zero(targets.weights),
            ids=self.ids,
            classes=targets.classes,
            true=targets.true,
            summaries=self._summaries(trains, keyed),
            relation_hash=self.read.relation_hash,
            learnt=learnt,
        )

    def _prepared(self, trains: npt.NDArray[np.bool_]) -> tuple[Learnt | None, pa.Table]:
        """What networks read of all rows; learnt from the rows that train of all groups."""
        if not self.data.prepared:
            return None, self.rows
        learning = np.zeros(self.table.num_rows, np.bool_)
        learning[self.places[: len(trains)][trains]] = True
        made = RowStore(1 << 62, lambda: spill_folder(self.context))
        with contextlib.closing(made):
            learnt = learn_transform(self.data, self.read.store, learning, self.context, made)
            return learnt, _table(made).take(pa.array(self.places))

    def _divided(self) -> tuple[list[Parts], list[str]]:
        """The parts of every group; where none trains, why (then all rows stand in)."""
        column = self.data.split.column
        split = _whole(self.rows[column]) if column else None
        found: list[Parts] = []
        errors: list[str] = []
        for first, stop in zip(self.starts[:-1], self.starts[1:], strict=True):
            rows, error = np.arange(first, stop), ""
            try:
                how = self.resolve(self.data.split, len(rows))
                parts = divide(how, self.ids, rows, self.data.seed, split)
            except DataError as problem:
                if "is left to train on" not in problem.message:
                    raise
                parts, error = Parts(rows, rows[:0], rows[:0]), problem.message
            found.append(parts)
            errors.append(error)
        return found, errors

    def _group(self, number: int, parts: Parts, error: str, targets: Targets) -> Group:
        data = self.data
        dealt = shards(self.ids, parts.train, data.shards, data.seed)
        rows = int(self.starts[number + 1] - self.starts[number])
        return Group(number, rows, parts, dealt, targets.groups[number], error)

    def _check(self, columns: dict[str, pa.Array]) -> None:
        """DataError naming the row of an infinite value."""
        for name, column in columns.items():
            of = self.data.inputs.type_of(name)
            if of.is_text or of.size or not encodings.is_groupable(of):
                continue
            values = encodings.values_of(column, name, "value", 0)
            wrong = np.flatnonzero(np.isinf(values[:, 0]))
            if len(wrong):
                row = int(self.places[wrong].min()) + 1
                raise DataError(
                    f"column `{name}` holds an infinite value in row {row} of those with a label",
                    at=f"column {name}, row {row}",
                    hint=f"leave such rows out (WHERE isfinite({name})) or make the value NULL",
                )

    def _summaries(self, trains: npt.NDArray[np.bool_], keyed: int) -> tuple[FeatureRecord, ...]:
        schema = self.data.relation.schema
        found: list[FeatureRecord] = []
        for name in self.data.features:
            rows = pa.record_batch([_whole(self.rows[name]).slice(0, keyed)], [name])
            blocks = [(Block(rows, 0, None, 0), trains[:keyed])]
            found.append(summary(name, schema.type_of(name), lambda b=blocks: iter(b)))
        return tuple(found)


def _table(store: RowStore) -> pa.Table:
    return pa.Table.from_batches([b.rows for b in store.blocks()]).combine_chunks()


def _whole(column: pa.ChunkedArray) -> pa.Array:
    found = column.combine_chunks()
    if isinstance(found, pa.ChunkedArray):
        return found.chunk(0) if found.num_chunks else pa.array([], found.type)
    return found


def _with_zero(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.concatenate([values, np.zeros((1, *values.shape[1:]), values.dtype)])
