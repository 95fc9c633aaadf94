"""The label: classes and their numbers, or a standardised target."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
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


def regression(
    label: str, column: pa.ChunkedArray, train: npt.NDArray[np.int64], *, centred: bool = True
) -> Target:
    """Standardise by the training rows; DataError for infinite or constant labels.

    What is not `centred` is only scaled: 0 stays 0, as a model without a constant term needs it.
    """
    values = finite(label, column)
    seen = values[train][:, None]

    def chunks() -> Iterator[npt.NDArray[np.float64]]:
        yield seen

    found = moments(chunks)[0]
    if found.deviation == 0:
        raise _constant(label, f"{found.mean:g}", len(train))
    mean = found.mean if centred else 0.0
    y = (values - mean) / found.deviation
    return Target(y, "regression", 1, mean=mean, scale=found.deviation)


def finite(label: str, column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """The labels as numbers; DataError where one is infinite."""
    values = np.concatenate([numbers(c, "value", label).astype(np.float64) for c in column.chunks])
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        raise DataError(
            f"label `{label}` is infinite in row {infinite[0] + 1} of those with a label",
            at=f"column {label}",
            hint=f"leave such rows out: WHERE isfinite({label})",
        )
    return values


def continued(
    label: str, column: pa.ChunkedArray, train: npt.NDArray[np.int64], head: ToTable
) -> Target:
    """The label as the model with the output `head` knows it: its classes, or its unit.

    Raises
    ------
    DataError
        A label is none of the model's classes, or infinite.
    """
    if head.method == "value":
        y = (finite(label, column) - head.shift) / head.scale
        return Target(y, "regression", 1, mean=head.shift, scale=head.scale)
    texts = category_text(constants(head.classes, head.classes[0].of)).to_pylist()
    whole = column.combine_chunks()
    codes = category_codes(whole, Category(tuple(texts), 0))
    unseen = np.flatnonzero(codes == 0)
    if len(unseen):
        raise DataError(
            f"label `{label}` holds {whole[int(unseen[0])].as_py()!r}, which is none of the "
            f"classes {', '.join(texts[:_LISTED])} of the model that warm_start continues",
            at=f"column {label}",
            hint="leave such rows out, or train again without warm_start",
        )
    return _numbered(codes - 1, head.classes, train)


def _numbered(
    y: npt.NDArray[np.int64], classes: tuple[Literal, ...], train: npt.NDArray[np.int64]
) -> Target:
    """Class numbers as a target, with the weights that balance the classes."""
    counts = np.bincount(y[train], minlength=len(classes))
    present = np.count_nonzero(counts)
    balanced = tuple(float(len(train) / (present * c)) if c else 0.0 for c in counts)
    if len(classes) == 2:
        return Target(y.astype(np.float64), "binary", 1, classes, balanced=balanced)
    return Target(y, "multiclass", len(classes), classes, balanced=balanced)


def classification(
    label: str, of: SqlType, task: str, column: pa.ChunkedArray, train: npt.NDArray[np.int64]
) -> Target:
    """Number the classes in ascending order (text by its UTF-8 bytes).

    Raises
    ------
    DataError
        Fewer than two or more than `MAX_CLASSES` classes, more than two for a binary task, or
        values that cannot be classes.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    encoded = column.combine_chunks().dictionary_encode()
    values: list[Any] = [_plain(label, v) for v in encoded.dictionary.to_pylist()]
    if len(values) > MAX_CLASSES:
        raise DataError(
            f"label `{label}` has {len(values):,} distinct values, at most {MAX_CLASSES:,} classes "
            "can be learnt",
            at=f"column {label}",
            hint="use a regression model for numbers, or group rare values",
        )
    order = sorted(range(len(values)), key=lambda i: _rank(values[i]))
    number = np.empty(len(values), np.int64)
    number[order] = np.arange(len(values))
    y = number[encoded.indices.to_numpy(zero_copy_only=False)]
    kind = TEXT if of.is_text else FLOAT64 if of.kind == "decimal" else of
    classes = tuple(Literal(values[i], kind) for i in order)
    present = np.flatnonzero(np.bincount(y[train], minlength=len(classes)))
    if len(present) < 2:
        which = str(classes[present[0]].value) if len(present) else ""
        raise _constant(label, repr(which), len(train))
    if len(classes) > 2 and task == "binary":
        shown = ", ".join(repr(c.value) for c in classes[:5])
        raise DataError(f"label `{label}` has {len(classes)} classes ({shown}, …), not two")
    return _numbered(y, classes, train)


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


def _constant(label: str, value: str, rows: int) -> DataError:
    return DataError(
        f"label `{label}` is constant: it is {value[:_SHOWN]} in all {rows:,} training rows",
        at=f"column {label}",
        hint="there is nothing to learn; check the query and input_label_cols",
    )
