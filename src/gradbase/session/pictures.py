"""Pictures of a model: gathers what they show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from scipy.special import expit

from gradbase import plots
from gradbase.errors import BindError
from gradbase.plots.subjects import Classified, Confusion, Regressed
from gradbase.selection.study import Study
from gradbase.session.handles import ModelHandle, Table
from gradbase.store.records import Scores

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
    possible = (*_OF_TASK.get(model.task, ()), plots.SEARCH)
    chosen = plots.kind_of(kind, possible, f"the {model.task} model `{model.name}`")
    if chosen.of == plots.SEARCH:
        session = handle.session
        return Study(session.store, model.name, session.model, model.version).plot(kind, path=path)
    return plots.draw(kind, _subject(handle, chosen.of, kind, data), path)


def _subject(handle: ModelHandle, of: str, kind: str, data: Any) -> Any:
    found = _kept(handle) if data is None else _judged(handle, data)
    if of == plots.CONFUSION and isinstance(found, Classified):
        return _confusion(found)
    wanted = {plots.REGRESSED: Regressed, plots.CLASSIFIED: Classified, plots.CONFUSION: Confusion}
    if isinstance(found, wanted[of]):
        return found
    raise BindError(
        f"`{kind}` of model `{handle.model.name}` needs rows with the label "
        f"`{handle.model.label}`: training did not keep enough of its own",
        hint=f"plot('{kind}', data='table'), or a query or data frame",
    )


def _kept(handle: ModelHandle) -> Classified | Confusion | None:
    """What training kept of the rows that it held out, or of all where it held out none."""
    model, store = handle.model, handle.session.store
    counts = store.counts(model)
    record = store.record(model.name, model.version)
    of = "training rows" if record.eval_rows == 0 else "evaluation rows"
    classes = [str(c) for c in handle.classes]
    if isinstance(counts, Scores):
        positive = expit(counts.logit)
        cases = np.stack([counts.negatives, counts.positives], axis=1)
        probability = np.stack([1 - positive, positive], axis=1)
        return Classified(model.address, model.label, of, classes, probability, cases)
    if counts is None:
        return None
    table = np.zeros((len(classes), len(classes)), np.int64)
    table[counts[:, 0], counts[:, 1]] = counts[:, 2]
    return Confusion(model.address, model.label, of, classes, table)


def _judged(handle: ModelHandle, data: Any) -> Classified | Regressed:
    """Predictions for rows that hold the label."""
    regression = handle.model.task == "regression"
    return _regressed(handle, data) if regression else _classified(handle, data)


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
    predicted = rows.probability.argmax(axis=1)  # of two classes the second one above 0.5
    counts = np.zeros((len(rows.classes), len(rows.classes)), np.int64)
    for j in range(len(rows.classes)):
        counts[:, j] = rows.cases[predicted == j].sum(axis=0)
    return Confusion(rows.model, rows.label, rows.of, rows.classes, counts)


def _rows_of(data: Any) -> str:
    if isinstance(data, str) and len(data) <= 40:
        return f"rows of {data}"
    return "rows of a query" if isinstance(data, str | Table) else "given rows"
