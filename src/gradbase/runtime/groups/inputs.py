"""What the networks of all groups read, and rows of any groups as one matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gradbase.ir.types import Schema
from gradbase.runtime.groups.columns import (
    Bools,
    GroupColumn,
    Ints,
    NumberColumn,
    TextColumn,
    column_of,
    is_groupable,
    values_of,
)
from gradbase.runtime.train.features import DATE_PARTS, TIME_PARTS, embedding_width

__all__ = ["GroupInputs", "is_groupable", "learnt", "restored", "values_of"]


class GroupInputs:
    """The encoded columns. The first column of the input matrix is constantly 1.

    Attributes
    ----------
    dense : int64[groups]
        Columns of each group's input matrix, the constant one included.
    """

    def __init__(self, columns: Sequence[GroupColumn], groups: int) -> None:
        self.columns, self.groups = list(columns), groups
        widths = [c.width for c in self.columns]
        self.dense = 1 + sum(widths, start=np.zeros(groups, np.int64))
        self.width = int(self.dense.max(initial=1))
        embedded = [c.embedded for c in self.columns]
        self.embedded = sum(embedded, start=np.zeros(groups, np.int64))

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are read, each once."""
        return tuple(dict.fromkeys(c.name for c in self.columns))

    def embeddings(self, group: int) -> tuple[tuple[int, int], ...]:
        """(codes, width) of each embedding of a group."""
        if not self.embedded[group]:
            return ()
        sizes = [int(c.codes[group]) for c in self.columns if c.embedded[group]]
        return tuple((n, embedding_width(n)) for n in sizes)

    def encode(
        self, columns: Mapping[str, pa.Array], group: Ints
    ) -> tuple[npt.NDArray[np.float32], Ints]:
        """(float32[rows, width], codes int64[rows, embeddings]) of rows of `group` (none is -1).

        Raises
        ------
        DataError
            A value is ±Inf.
        """
        x = np.zeros((len(group), self.width), np.float32)
        x[:, 0] = 1.0
        codes = np.zeros((len(group), int(self.embedded.max(initial=0))), np.int64)
        for column in self.columns:
            column.encode(columns[column.name], group, x, codes)
        return x, codes

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What `restored` needs besides `facts`."""
        pairs = enumerate(self.columns)
        return {f"column.{i}.{n}": a for i, c in pairs for n, a in c.arrays().items()}

    def facts(self) -> list[dict[str, Any]]:
        """JSON values."""
        return [c.facts() for c in self.columns]


def restored(
    facts: Sequence[Mapping[str, Any]], arrays: Mapping[str, npt.NDArray[Any]], groups: int
) -> GroupInputs:
    """Inverse of `GroupInputs.facts` and `arrays`."""
    found: list[GroupColumn] = []
    for i, fact in enumerate(facts):
        prefix = f"column.{i}."
        own = {n[len(prefix) :]: a for n, a in arrays.items() if n.startswith(prefix)}
        found.append(column_of(fact, own))
    return GroupInputs(found, groups)


def learnt(
    schema: Schema, columns: Mapping[str, pa.Array], group: Ints, trains: Bools, embeds: Bools
) -> GroupInputs:
    """Encodings of `columns`, each group's from its rows that train.

    Parameters
    ----------
    schema : Schema
        The columns that networks learn from, with their types in SQL.
    columns : mapping
        Their values; rows of a group lie together, groups ascend, each has a row that trains.
    group : int64[rows]
    trains : bool[rows]
    embeds : bool[groups]
        In which of them networks may learn embeddings.
    """
    rows = np.flatnonzero(trains)
    starts = np.searchsorted(group[rows], np.arange(len(embeds)))
    found: list[GroupColumn] = []
    for field in schema:
        name, of, column = field.name, field.type, columns[field.name]
        if of.is_text:
            found.append(TextColumn.learnt(name, column, group, trains, embeds))
            continue
        parts: tuple[str, ...] = ("value",)
        if of.is_temporal:
            parts = DATE_PARTS if of.kind == "date" else TIME_PARTS
        size = of.length if of.is_vector or of.is_nested else 0
        for part in parts:
            values = values_of(column, name, part, size)[rows]
            found.append(NumberColumn.learnt(name, part, size, values, starts))
    dense, slot = np.ones(len(embeds), np.int64), np.zeros(len(embeds), np.int64)
    for column in found:
        column.offset[:] = np.where(column.embedded, slot, dense)
        dense += column.width
        slot += column.embedded
    return GroupInputs(found, len(embeds))
