"""The label: classes and their numbers, or a standardised target."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gradbase.errors import BindError, DataError, near
from gradbase.ir.conversion import Category, ToTable
from gradbase.ir.learning import ClassWeight
from gradbase.ir.scalar import Literal
from gradbase.ir.types import FLOAT64, TEXT, SqlType
from gradbase.runtime.arrow_types import constants
from gradbase.runtime.columns import category_text, numbers
from gradbase.runtime.encode import category_codes
from gradbase.runtime.train.statistics import moments

MAX_CLASSES = 1000
_COUNTED = 1_000_000
"""Distinct labels that are counted at most."""
_SHOWN = 40
_LISTED = 8


@dataclass(frozen=True)
class Target:
    """What networks are trained towards.

    Parameters
    ----------
    y : Array[rows]
        binary: float64 0 or 1; multiclass: int64 class numbers; regression: standardised float64;
        reconstruction: empty, the input is what is trained towards.
    outputs : int
    classes : tuple of Literal, ascending; () for regression
    mean, scale : float
        Regression: label = y * scale + mean.
    balanced, class_weights : tuple of float
        Weights of the classes: BigQuery's automatic ones, rows / (rows of the class * classes),
        from the training rows; and those that were given, () where none were.
    """

    y: npt.NDArray[Any]
    task: str
    outputs: int
    classes: tuple[Literal, ...] = ()
    mean: float = 0.0
    scale: float = 1.0
    balanced: tuple[float, ...] = ()
    class_weights: tuple[float, ...] = ()


def missing(column: pa.Array) -> npt.NDArray[np.bool_] | None:
    """Where a label is NULL or NaN; None where nowhere."""
    found = column.is_null(nan_is_null=True)
    return found.to_numpy(zero_copy_only=False) if found.true_count else None


@dataclass(frozen=True)
class Scheme:
    """How labels become what is trained towards.

    Parameters
    ----------
    target : Target
        Its `y` is empty.
    encode : function of (labels, place of the first of them among all) -> `y`
    """

    target: Target
    encode: Callable[[pa.Array, int], npt.NDArray[Any]]

    def of(self, column: pa.ChunkedArray) -> Target:
        """The target of all rows."""
        starts = itertools.accumulate((len(c) for c in column.chunks), initial=0)
        y = [self.encode(c, n) for c, n in zip(column.chunks, starts, strict=False)]
        return dataclasses.replace(self.target, y=np.concatenate(y))


Labels = Callable[[], Iterator[tuple[pa.Array, npt.NDArray[np.bool_]]]]
"""The labels of all rows and which of them train, some at a time, again and again."""


def of_column(column: pa.ChunkedArray, trains: npt.NDArray[np.bool_]) -> Labels:
    """Labels in memory."""

    def found() -> Iterator[tuple[pa.Array, npt.NDArray[np.bool_]]]:
        start = 0
        for chunk in column.chunks:
            yield chunk, trains[start : start + len(chunk)]
            start += len(chunk)

    return found


def regression(label: str, labels: Labels, *, centred: bool = True) -> Scheme:
    """Standardise by the training rows; DataError for infinite or constant labels.

    What is not `centred` is only scaled: 0 stays 0, as a model without a constant term needs it.
    """

    def training() -> Iterator[npt.NDArray[np.float64]]:
        start = 0
        for column, trains in labels():
            yield finite(label, column, start)[trains, None]
            start += len(column)

    found = moments(training)[0]
    if found.deviation == 0:
        raise _constant(label, f"{found.mean:g}", found.count)
    mean = found.mean if centred else 0.0
    target = Target(np.empty(0), "regression", 1, mean=mean, scale=found.deviation)
    return Scheme(target, lambda c, at: (finite(label, c, at) - mean) / found.deviation)


def finite(label: str, column: pa.Array, start: int = 0) -> npt.NDArray[np.float64]:
    """The labels as numbers; DataError where one is infinite. `start` is the first one's place."""
    values = numbers(column, "value", label).astype(np.float64)
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        raise DataError(
            f"label `{label}` is infinite in row {start + infinite[0] + 1} of those with a label",
            at=f"column {label}",
            hint=f"leave such rows out: WHERE isfinite({label})",
        )
    return values


def continued(label: str, labels: Labels, head: ToTable) -> Scheme:
    """The label as the model with the output `head` knows it: its classes, or its unit.

    Raises
    ------
    DataError
        A label is none of the model's classes, or infinite.
    """
    if head.method == "value":
        mean, scale = head.shift, head.scale
        target = Target(np.empty(0), "regression", 1, mean=mean, scale=scale)
        return Scheme(target, lambda c, at: (finite(label, c, at) - mean) / scale)
    texts = category_text(constants(head.classes, head.classes[0].of)).to_pylist()
    known = Category(tuple(texts), 0)

    def encode(column: pa.Array, _start: int) -> npt.NDArray[np.int64]:
        codes = category_codes(column, known)
        unseen = np.flatnonzero(codes == 0)
        if len(unseen):
            raise DataError(
                f"label `{label}` holds {column[int(unseen[0])].as_py()!r}, which is none of the "
                f"classes {', '.join(texts[:_LISTED])} of the model that warm_start continues",
                at=f"column {label}",
                hint="leave such rows out, or train again without warm_start",
            )
        return codes - 1

    return _numbered(labels, encode, head.classes)


def _numbered(
    labels: Labels,
    encode: Callable[[pa.Array, int], npt.NDArray[np.int64]],
    classes: tuple[Literal, ...],
) -> Scheme:
    """Class numbers as a target, with the weights that balance the classes."""
    counts = np.zeros(len(classes), np.int64)
    for column, trains in labels():
        counts += np.bincount(encode(column, 0)[trains], minlength=len(classes))
    rows, present = counts.sum(), np.count_nonzero(counts)
    balanced = tuple(float(rows / (present * c)) if c else 0.0 for c in counts)
    if len(classes) == 2:
        two = Target(np.empty(0), "binary", 1, classes, balanced=balanced)
        return Scheme(two, lambda c, at: encode(c, at).astype(np.float64))
    many = Target(np.empty(0, np.int64), "multiclass", len(classes), classes, balanced=balanced)
    return Scheme(many, encode)


def classification(label: str, of: SqlType, task: str, labels: Labels) -> Scheme:
    """Number the classes in ascending order (text by its UTF-8 bytes).

    Raises
    ------
    DataError
        Fewer than two or more than `MAX_CLASSES` classes, more than two for a binary task, or
        values that cannot be classes.
    """
    values = sorted(_distinct(label, labels), key=_rank)
    number = {value: i for i, value in enumerate(values)}
    kind = TEXT if of.is_text else FLOAT64 if of.kind == "decimal" else of
    classes = tuple(Literal(value, kind) for value in values)

    def encode(column: pa.Array, _start: int) -> npt.NDArray[np.int64]:
        found = _encoded(column)
        table = np.array([number[_plain(label, v)] for v in found.dictionary.to_pylist()], np.int64)
        return table[found.indices.to_numpy(zero_copy_only=False)]

    made = _numbered(labels, encode, classes)
    seen = [c for c, weight in zip(classes, made.target.balanced, strict=True) if weight]
    if len(seen) < 2:
        rows = sum(int(trains.sum()) for _, trains in labels())
        raise _constant(label, shown_class(seen[0]) if seen else "''", rows)
    if len(classes) > 2 and task == "binary":
        shown = ", ".join(repr(c.value) for c in classes[:5])
        raise DataError(f"label `{label}` has {len(classes)} classes ({shown}, …), not two")
    return made


def _distinct(label: str, labels: Labels) -> set[Any]:
    found: set[Any] = set()
    for column, _ in labels():
        found.update(_plain(label, v) for v in _encoded(column).dictionary.to_pylist())
        if len(found) > _COUNTED:
            break
    if len(found) > MAX_CLASSES:
        more = " or more" if len(found) > _COUNTED else ""
        raise DataError(
            f"label `{label}` has {len(found):,}{more} distinct values, at most {MAX_CLASSES:,} "
            "classes can be learnt",
            at=f"column {label}",
            hint="use a regression model for numbers, or group rare values",
        )
    return found


def _encoded(column: pa.Array) -> pa.DictionaryArray:
    is_coded = pa.types.is_dictionary(column.type)
    return (column.cast(column.type.value_type) if is_coded else column).dictionary_encode()


def weighted(target: Target, given: Sequence[ClassWeight], label: str) -> Target:
    """`target` with the weights given for its classes, if any.

    Raises
    ------
    BindError
        A class has none, or one is given for what is no class.
    """
    if not given:
        return target
    classes = target.classes
    found: list[float | None] = [None] * len(classes)
    for item in given:
        at = next((i for i, c in enumerate(classes) if _reads(c.value, item.label)), None)
        if at is None:
            names = [_shown(c.value) for c in classes]
            raise BindError(
                f"class_weights names '{item.label}', which is no class of label `{label}`; there "
                f"are {', '.join(names[:_LISTED])}",
                at=f"column {label}",
                hint=near(item.label, names),
            )
        found[at] = item.weight
    lacking = [_shown(c.value) for c, w in zip(classes, found, strict=True) if w is None]
    if lacking:
        raise BindError(
            f"class_weights lacks {', '.join(lacking[:_LISTED])} of label `{label}`",
            at=f"column {label}",
            hint=f"every class needs one, like STRUCT({lacking[0]!r}, 1.0)",
        )
    return dataclasses.replace(target, class_weights=tuple(w for w in found if w is not None))


def _reads(value: Any, text: str) -> bool:
    """Whether `text`, as it stands in an option, means the class `value`."""
    if isinstance(value, bool):
        return text.casefold() == str(value).casefold()
    if isinstance(value, str):
        return text == value
    try:
        return float(text) == value
    except ValueError:
        return False


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _plain(label: str, value: Any) -> Any:
    """A label's value as a literal can hold it."""
    if isinstance(value, bool | int | float | str):
        # -0.0 and 0.0 are one class.
        return value + 0.0 if isinstance(value, float) else value
    if hasattr(value, "as_tuple"):  # decimal.Decimal
        return float(value)
    raise DataError(
        f"label `{label}` holds {type(value).__name__} values, which cannot be classes",
        at=f"column {label}",
        hint=f"cast it in the query: CAST({label} AS VARCHAR) AS {label}",
    )


def _rank(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


def shown_class(of: Literal) -> str:
    """A class in a message, as SQL would write it."""
    value = of.value
    return str(value).lower() if isinstance(value, bool) else repr(str(value))


def _constant(label: str, value: str, rows: int) -> DataError:
    return DataError(
        f"label `{label}` is constant: it is {value[:_SHOWN]} in all {rows:,} training rows",
        at=f"column {label}",
        hint="there is nothing to learn; check the query and input_label_cols",
    )
