"""The labels of all groups: classes and their numbers, or targets standardised group by group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gradbase.ir.grouping import FitGroups
from gradbase.ir.learning import Dataset
from gradbase.ir.scalar import Literal
from gradbase.runtime.groups.statistics import moments_by_group
from gradbase.runtime.train import labels
from gradbase.runtime.train.split import Parts

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class GroupTarget:
    """What one group's network is trained towards.

    Parameters
    ----------
    task : str
        ``binary``, ``multiclass`` or ``regression``; a group may have fewer classes than others.
    classes : tuple of int
        The group's classes, as numbers among all; () for regression.
    mean, scale : float
        Regression: label = y * scale + mean.
    constant : str
        Why every row of the group gets the same prediction, its only class or value; '' where
        there is something to learn.
    """

    task: str
    classes: tuple[int, ...] = ()
    mean: float = 0.0
    scale: float = 1.0
    constant: str = ""

    @property
    def outputs(self) -> int:
        return len(self.classes) if self.task == "multiclass" else 1


@dataclass(frozen=True)
class Targets:
    """As in `GroupedData`; `errors` say why a group cannot be learnt from its weights."""

    groups: list[GroupTarget]
    y: Floats
    weights: Floats
    true: Floats
    classes: tuple[Literal, ...]
    errors: list[str]


def learnt_targets(
    data: Dataset,
    plan: FitGroups,
    column: pa.ChunkedArray,
    places: Ints,
    *,
    parts: list[Parts],
    starts: Ints,
    weights: Floats | None,
) -> Targets:
    """The target of each group, from its rows that train.

    Parameters
    ----------
    column : ChunkedArray
        The label of all rows as they were read; ``column[places]`` has groups together.
    weights : float64[rows], optional
        Instance weights.

    Raises
    ------
    DataError
        Labels are infinite or cannot be classes, or all rows have the same.
    """
    train = np.concatenate([p.train for p in parts])
    if data.task == "regression":
        centred = all(getattr(f.network, "intercept", True) for f in plan.fits)
        true = labels.finite(data.label, column.combine_chunks())[places]
        found = _regression(data.label, true, parts, centred=centred)
        classes: tuple[Literal, ...] = ()
        y = _standardised(true, found, starts)
    else:
        of, taken = data.relation.schema.type_of(data.label), column.take(pa.array(places))
        trains = np.zeros(len(taken), np.bool_)
        trains[train] = True
        dealt = labels.of_column(taken, trains)
        whole = labels.classification(data.label, of, data.task, dealt).of(taken)
        true, classes = whole.y.astype(np.float64), whole.classes
        found = _classes(true.astype(np.int64), parts, starts, classes)
        y = _numbered(true.astype(np.int64), found, starts, len(classes))
    weighed, errors = _relative(data, weights, parts, starts)
    if data.class_weights or plan.fits[0].auto_class_weights:
        numbers = true.astype(np.int64)
        if data.class_weights:
            weighed = weighed * _given_weights(data, numbers, classes)
        else:
            weighed = weighed * _balanced(numbers, len(classes), parts, starts)
    return Targets(found, y, weighed, true, classes, errors)


def _regression(
    label: str, true: Floats, parts: list[Parts], *, centred: bool
) -> list[GroupTarget]:
    train = np.concatenate([p.train for p in parts])
    sizes = [len(p.train) for p in parts]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    found = moments_by_group(true[train][:, None], starts)
    targets: list[GroupTarget] = []
    for n, mean, deviation in zip(sizes, found.mean[:, 0], found.deviation[:, 0], strict=True):
        why = ""
        if deviation == 0:
            why = f"label `{label}` is {mean:g} in " + _rows(n)
        shift = float(mean) if centred or why else 0.0
        targets.append(GroupTarget("regression", (), shift, float(deviation) or 1.0, why))
    return targets


def _rows(count: int) -> str:
    return "the only row" if count == 1 else f"all {count:,} training rows"


def _standardised(true: Floats, targets: list[GroupTarget], starts: Ints) -> Floats:
    sizes = np.diff(starts)
    means = np.repeat([t.mean for t in targets], sizes)
    return (true - means) / np.repeat([t.scale for t in targets], sizes)


def _classes(
    true: Ints, parts: list[Parts], starts: Ints, classes: tuple[Literal, ...]
) -> list[GroupTarget]:
    group = np.repeat(np.arange(len(parts)), np.diff(starts))
    train = np.concatenate([p.train for p in parts])
    all_rows, trained = (
        np.bincount(group[r] * len(classes) + true[r], minlength=len(parts) * len(classes))
        .reshape(len(parts), -1) > 0
        for r in (slice(None), train)
    )  # fmt: skip
    targets: list[GroupTarget] = []
    for g, part in enumerate(parts):
        if np.count_nonzero(trained[g]) < 2:
            only = int(np.argmax(trained[g]))
            why = f"the class is {labels.shown_class(classes[only])} in {_rows(len(part.train))}"
            targets.append(GroupTarget("binary", (only,), constant=why))
            continue
        present = tuple(np.flatnonzero(all_rows[g]).tolist())
        targets.append(GroupTarget("binary" if len(present) == 2 else "multiclass", present))
    return targets


def _numbered(true: Ints, targets: list[GroupTarget], starts: Ints, classes: int) -> Floats:
    """Class numbers among all as those among each group's own."""
    table = np.zeros((len(targets), classes), np.int64)
    for g, target in enumerate(targets):
        table[g, list(target.classes)] = np.arange(len(target.classes))
    group = np.repeat(np.arange(len(targets)), np.diff(starts))
    return table[group, true].astype(np.float64)


def _relative(
    data: Dataset, weights: Floats | None, parts: list[Parts], starts: Ints
) -> tuple[Floats, list[str]]:
    """Instance weights over their mean in each group's training rows; 1 where there are none."""
    errors = [""] * len(parts)
    if weights is None:
        return np.ones(int(starts[-1])), errors
    sizes = [len(p.train) for p in parts]
    begins = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    train = np.concatenate([p.train for p in parts])
    means = moments_by_group(weights[train][:, None], begins).mean[:, 0]
    for g in np.flatnonzero(means == 0):
        errors[g] = f"instance weight `{data.weight}` is 0 in {_rows(sizes[g])}"
    usable = np.where(means == 0, 1.0, means)
    return weights / np.repeat(usable, np.diff(starts)), errors


def _given_weights(data: Dataset, true: Ints, classes: tuple[Literal, ...]) -> Floats:
    """What the loss of each row is multiplied by for its class."""
    whole = labels.Target(true, data.task, 1, classes)
    given = labels.weighted(whole, data.class_weights, data.label).class_weights
    return np.array(given)[true]


def _balanced(true: Ints, classes: int, parts: list[Parts], starts: Ints) -> Floats:
    """The same by the counts of each group's classes: rows / (rows of the class * classes)."""
    table = np.zeros((len(parts), classes))
    for g, part in enumerate(parts):
        counts = np.bincount(true[part.train], minlength=classes)
        each = np.where(counts > 0, np.count_nonzero(counts) * counts, 1)
        table[g] = np.where(counts > 0, len(part.train) / each, 0.0)
    group = np.repeat(np.arange(len(parts)), np.diff(starts))
    return table[group, true]
