"""Pictures of a model: gathers what they show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from gradbase import plots
from gradbase.errors import BindError, UnsupportedError
from gradbase.plots.subjects import Classified, Confusion, Regressed
from gradbase.selection.study import Study
from gradbase.session.handles import ModelHandle, Table

if TYPE_CHECKING:
    from gradbase.plots.style import Picture

_OF_TASK = {
    "binary": (plots.CLASSIFIED, plots.CONFUSION),
    "multiclass": (plots.CLASSIFIED, plots.CONFUSION),
    "regression": (plots.REGRESSED,),
}


def plot(handle: ModelHandle, kind: str, data: Any, path: str | Path | None) -> Picture:
    """Draw one kind of picture of a model; see `ModelHandle.plot`."""
    model = handle.model
    if model.task not in _OF_TASK:
        raise UnsupportedError(
            f"there are no pictures of model `{model.name}`: it was imported and has no label"
        )
    possible = (*_OF_TASK[model.task], plots.SEARCH)
    chosen = plots.kind_of(kind, possible, f"the {model.task} model `{model.name}`")
    if chosen.of == plots.SEARCH:
        session = handle.session
        return Study(session.store, model.name, session.model, model.version).plot(kind, path=path)
    return plots.draw(kind, _subject(handle, chosen.of, kind, data), path)


def _subject(handle: ModelHandle, of: str, kind: str, data: Any) -> Any:
    if data is None:
        raise BindError(
            f"`{kind}` of model `{handle.model.name}` needs rows with the label "
            f"`{handle.model.label}`",
            hint=f"plot('{kind}', data='table'), or a query or data frame",
        )
    if of == plots.REGRESSED:
        return _regressed(handle, data)
    rows = _classified(handle, data)
    return _confusion(rows) if of == plots.CONFUSION else rows


def _regressed(handle: ModelHandle, data: Any) -> Regressed:
    target, known, predicted = _targets(handle, data)
    values = np.asarray(predicted.to_numpy(zero_copy_only=False), np.float64)
    name, label = handle.model.address, handle.model.label
    return Regressed(name, label, _rows_of(data), target[known], values[known])


def _classified(handle: ModelHandle, data: Any) -> Classified:
    target, known, predicted = _targets(handle, data)
    classes = [str(c) for c in handle.classes]
    probability = handle.probabilities(predicted)[known]
    cases = np.zeros(probability.shape, np.int64)
    cases[np.arange(len(cases)), target[known].astype(int)] = 1
    name, label = handle.model.address, handle.model.label
    return Classified(name, label, _rows_of(data), classes, probability, cases)


def _targets(handle: ModelHandle, data: Any) -> tuple[np.ndarray, np.ndarray, pa.ChunkedArray]:
    """Class number or value of each row, whether it has one, and what is predicted."""
    from gradbase.runtime.evaluate import true_values

    actual, predicted = handle.labelled(data)
    method = "value" if handle.model.task == "regression" else "proba"
    column = pa.concat_arrays(actual.chunks) if actual.num_chunks else pa.array([], actual.type)
    target, known = true_values(handle.model.output(method), column, handle.model.label, 0)
    return target, known, predicted


def _confusion(rows: Classified) -> Confusion:
    predicted = rows.probability.argmax(axis=1)
    counts = np.zeros((len(rows.classes), len(rows.classes)), np.int64)
    for j in range(len(rows.classes)):
        counts[:, j] = rows.cases[predicted == j].sum(axis=0)
    return Confusion(rows.model, rows.label, rows.of, rows.classes, counts)


def _rows_of(data: Any) -> str:
    if isinstance(data, str) and len(data) <= 40:
        return f"rows of {data}"
    return "rows of a query" if isinstance(data, str | Table) else "given rows"
