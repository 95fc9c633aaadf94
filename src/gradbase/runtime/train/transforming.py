"""TRANSFORM in a training: learnt from the training rows, applied to all of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from gradbase.ir.derived import Derived, as_columns, leaves
from gradbase.ir.learning import Dataset, Feature
from gradbase.ir.scalar import Column, Scalar, substituted
from gradbase.runtime.preprocess.learn import Blobs, learned
from gradbase.runtime.preprocess.rows import StoredExamples, derive
from gradbase.runtime.train.rows import RowStore, Trains

if TYPE_CHECKING:
    from gradbase.runtime.context import RunContext


@dataclass(frozen=True)
class Learnt:
    """What was learnt, over the features of the training query.

    `columns` are what networks read, `transform` what TRANSFORM gives (see `Model`); `params` the
    content of long vocabularies by hash.
    """

    columns: tuple[Derived, ...]
    transform: tuple[Derived, ...]
    params: dict[str, npt.NDArray[Any]]

    def features(self, data: Dataset, names: set[str]) -> tuple[Feature, ...]:
        """The features that the columns `names` (of `columns`) are computed from."""
        read = columns_read(d.expr for d in self.columns if d.name in names)
        schema = data.relation.schema
        return tuple(Feature(n, schema.type_of(n)) for n in data.features if n in read)


def columns_read(exprs: Iterable[Scalar]) -> set[str]:
    """Names of all columns in `exprs`."""
    return {name for e in exprs for name in e.columns}


def engine_parts(data: Dataset) -> tuple[dict[Scalar, Column], tuple[Derived, ...]]:
    """What the engine computes while the rows are read, each under a name of its own.

    The second are `Dataset.prepared` and `Dataset.transform` in terms of these.
    """
    derived = (*data.prepared, *data.transform)
    exprs = tuple(d.expr for d in derived)
    taken = set(data.relation.schema.names)
    numbered = (f"__gb_part_{i}" for i in itertools.count(1))
    names = (name for name in numbered if name not in taken)
    columns, rest = as_columns(exprs, leaves(exprs), lambda: next(names))
    return columns, tuple(Derived(d.name, e) for d, e in zip(derived, rest, strict=True))


def learn_transform(
    data: Dataset,
    store: RowStore,
    trains: Trains | None,
    context: RunContext,
    made: RowStore | None = None,
) -> Learnt:
    """Learn the transform of `data` from the rows of `store` that train (None: all).

    `made` is filled with what networks read, of all rows.

    Raises
    ------
    DataError
        A number to be learnt from is ±Inf.
    """
    parts, derived = engine_parts(data)
    blobs = Blobs(context.blobs)
    found = learned(derived, StoredExamples(store, trains, context, blobs), blobs)
    count = len(data.prepared)
    if made is not None:
        derive(store, found[:count], made, context, blobs)
    back: dict[Scalar, Scalar] = {column: part for part, column in parts.items()}
    over = tuple(Derived(d.name, substituted(d.expr, back)) for d in found)
    return Learnt(over[:count], over[count:], blobs.params)
