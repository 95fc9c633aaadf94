"""The columns between the steps of a pipeline, as tensors of ours; everything is float64."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gradbase.errors import BindError, UnsupportedError, near
from gradbase.importing.aten import aten, cast
from gradbase.ir.conversion import Category, Numeric, ToTensor
from gradbase.ir.derived import Derived
from gradbase.ir.learning import Feature
from gradbase.ir.preprocessing import Impute
from gradbase.ir.scalar import Column as ColumnOf
from gradbase.ir.scalar import Literal, Scalar
from gradbase.ir.shapes import BATCH
from gradbase.ir.tensor import Binary, Concat, Embedding, Linear, Tensor
from gradbase.ir.types import FLOAT64, TEXT, SqlType
from gradbase.runtime.train.features import constant

Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Raw:
    """A column of the table: missing values become `fill`, numbers ``(x - mean) * scale``."""

    name: str
    fill: float | str | None = None
    mean: float = 0.0
    scale: float = 1.0


@dataclasses.dataclass(frozen=True)
class Made:
    """Column `at` of a tensor [B, width]."""

    tensor: Tensor
    at: int


Column = Raw | Made


def made(tensor: Tensor) -> list[Column]:
    """All columns of a tensor."""
    return [Made(tensor, i) for i in range(tensor.shape[-1])]


class Inputs:
    """What an imported model reads, and the constants it names.

    Parameters
    ----------
    types : mapping of str to SqlType, or None
        The columns on offer, in order; a type that is None is found by what reads the column.
    """

    def __init__(self, types: Mapping[str, SqlType | None]) -> None:
        self._types = dict(types)
        self._read: dict[Scalar, str] = {}
        self.params: dict[str, npt.NDArray[Any]] = {}

    @property
    def names(self) -> list[str]:
        """Names of the columns on offer."""
        return list(self._types)

    def raw(self, name: str) -> Raw:
        """The column of that name; BindError where there is none."""
        if name not in self._types:
            raise BindError(
                f"the object reads column `{name}`, which is not among {', '.join(self._types)}",
                hint=near(name, self._types),
            )
        return Raw(name)

    def constant(self, values: npt.ArrayLike) -> Tensor:
        """A float64 constant."""
        return constant(np.ascontiguousarray(values, np.float64), self.params)

    def tensor(self, columns: Sequence[Column]) -> Tensor:
        """`columns` side by side: Tensor[B, n] float64."""
        if not columns:
            raise UnsupportedError("the object reads no column at all")
        parts: list[Tensor] = []
        at = 0
        while at < len(columns):
            first, stop = columns[at], at + 1
            if isinstance(first, Raw):
                parts.append(self._number(first))
            else:
                run = [first.at]
                for other in columns[stop:]:
                    if not (isinstance(other, Made) and other.tensor is first.tensor):
                        break
                    run.append(other.at)
                    stop += 1
                parts.append(self._picked(first.tensor, run))
            at = stop
        return parts[0] if len(parts) == 1 else Concat(tuple(parts))

    def _picked(self, tensor: Tensor, places: list[int]) -> Tensor:
        if places == list(range(tensor.shape[-1])):
            return tensor
        return Linear(tensor, self.constant(np.eye(tensor.shape[-1])[places]))

    def affine(
        self, columns: Sequence[Column], shift: npt.ArrayLike, scale: npt.ArrayLike
    ) -> list[Column]:
        """``(column - shift) * scale`` of each column."""
        shifts = np.broadcast_to(np.asarray(shift, np.float64), (len(columns),))
        scales = np.broadcast_to(np.asarray(scale, np.float64), (len(columns),))
        moved: list[Column] = []
        for column, by, factor in zip(columns, shifts.tolist(), scales.tolist(), strict=True):
            if isinstance(column, Raw) and factor:
                self._number_type(column)
                mean = column.mean + by / column.scale
                moved.append(dataclasses.replace(column, mean=mean, scale=column.scale * factor))
                continue
            x = Binary("sub", self.tensor([column]), self.constant([by]))
            moved += made(Binary("mul", x, self.constant([factor])))
        return moved

    def categories(self, column: Column, values: npt.NDArray[Any], table: Floats) -> list[Column]:
        """The row of `table` [len(values) + 1, width] of each value; row 0 is for all others.

        None or NaN among the values is what is missing; elsewhere NULL gives NULL.
        """
        if not isinstance(column, Raw) or (column.mean, column.scale) != (0.0, 1.0):
            raise UnsupportedError(
                "categories are of columns of the table, found them of computed ones",
                hint="let the encoder come before scalers and other encoders",
            )
        known = [v for v in values.tolist() if not is_missing(v)]
        kind = _kind_of(column.name, known)
        own = self._typed(column.name, kind)
        if own.is_text != kind.is_text:
            raise _unlike(column.name, kind, own)
        if len(known) < len(values) and column.fill is None:
            column = dataclasses.replace(column, fill=_unused(known))
        listed = [column.fill if is_missing(v) else v for v in values.tolist()]
        codes = self._codes(column, listed) if own.is_text else self._places(column, listed)
        return made(Embedding(codes, self.constant(table)))

    def _codes(self, column: Raw, texts: list[Any]) -> Tensor:
        name = self._reads(column.name, column.fill)
        return ToTensor(name, Category(tuple(texts), 0))

    def _places(self, column: Raw, numbers: list[Any]) -> Tensor:
        """As `_codes` of numbers: the place, from 1, of each among `numbers`; 0 elsewhere."""
        shape = (BATCH, len(numbers))
        both = (self._number(column), self.constant([numbers]))
        equal = aten("eq.Tensor", both, [{"$": 1}], shape, "bool")
        places = self.constant([np.arange(1.0, len(numbers) + 1)])
        return cast(Linear(cast(equal, "float64"), places), "int64")

    def filled(self, column: Column, value: float | str) -> Column:
        """`column` with `value` for what is missing."""
        if not isinstance(column, Raw):
            raise UnsupportedError(
                "missing values are imputed in columns of the table, found an imputer of computed "
                "ones",
                hint="let the imputer come first",
            )
        if column.fill is not None:
            return column
        if isinstance(value, str):
            self._typed(column.name, TEXT)
            return dataclasses.replace(column, fill=value)
        self._number_type(column)
        return dataclasses.replace(column, fill=value / column.scale + column.mean)

    def finish(self) -> tuple[tuple[Feature, ...], tuple[Derived, ...]]:
        """The features that are read, in the order of the columns, and `Model.columns`."""
        used = {n for expr in self._read for n in expr.columns}
        features = tuple(Feature(n, t) for n, t in self._types.items() if n in used and t)
        plain = all(isinstance(expr, ColumnOf) for expr in self._read)
        derived = () if plain else tuple(Derived(n, e) for e, n in self._read.items())
        return features, derived

    def _number(self, column: Raw) -> Tensor:
        self._number_type(column)
        name = self._reads(column.name, column.fill)
        return ToTensor(name, Numeric(column.mean, column.scale, indicator=False, kind="float64"))

    def _number_type(self, column: Raw) -> None:
        own = self._typed(column.name, FLOAT64)
        if not (own.is_numeric or own.kind == "bool"):
            raise _unlike(column.name, FLOAT64, own)

    def _typed(self, name: str, otherwise: SqlType) -> SqlType:
        found = self._types[name] or otherwise
        self._types[name] = found
        return found

    def _reads(self, name: str, fill: float | str | None) -> str:
        """The name of what is read: the column itself, or one computed from it."""
        of = self._types[name]
        assert of is not None
        expr: Scalar = ColumnOf(name, of)
        if fill is not None:
            expr = Impute(expr, Literal(fill, TEXT if of.is_text else FLOAT64))
        if expr not in self._read:
            wanted = name if isinstance(expr, ColumnOf) else f"{name}_filled"
            taken = {*self._types, *self._read.values()} - {name}
            while wanted in taken:
                wanted += "_"
            self._read[expr] = wanted
        return self._read[expr]


def is_missing(value: Any) -> bool:
    """Whether a category or a statistic is None or NaN."""
    return value is None or value != value  # noqa: PLR0124 (NaN)


def _kind_of(name: str, values: Sequence[Any]) -> SqlType:
    kinds = {bool: SqlType("bool"), int: FLOAT64, float: FLOAT64, str: TEXT}
    found = {kinds.get(type(v)) for v in values}
    if len(found) != 1 or None in found:
        raise UnsupportedError(
            f"categories of column `{name}` are all texts, all numbers or all booleans, found "
            f"{', '.join(sorted({type(v).__name__ for v in values})) or 'none'}"
        )
    return found.pop() or TEXT


def _unused(values: Sequence[Any]) -> float | str:
    """What stands for a missing value that is a category: no other category."""
    if values and isinstance(values[0], str):
        return max(values) + " "
    return float(max(values, default=0)) + 1.0


def _unlike(name: str, wanted: SqlType, found: SqlType) -> BindError:
    return BindError(
        f"the object reads column `{name}` as {wanted}, among the features it is {found}",
        hint="give the columns with the types that the object was fitted on",
    )
