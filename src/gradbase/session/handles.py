"""What Python code holds: a `Table` to learn from, a `ModelHandle` to predict with."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import pyarrow as pa

from gradbase.errors import BindError, EngineError
from gradbase.frontend.features import (
    METHOD,
    Given,
    check_predicts,
    predict_call,
    transform_columns,
)
from gradbase.frontend.model_functions import HALF, judged
from gradbase.frontend.tokens import significant
from gradbase.ir.learning import Evaluate, Model
from gradbase.ir.relational import Project, Relation, SqlFragment
from gradbase.ir.scalar import Column
from gradbase.selection.html import html_note, html_table
from gradbase.session.display import as_html
from gradbase.session.model_versions import Versioned
from gradbase.session.results import Result
from gradbase.session.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gradbase.frontend.training import TrainingSpec
    from gradbase.plots.style import Picture
    from gradbase.runtime.encode import Blobs
    from gradbase.selection.replaying import Replay
    from gradbase.selection.study import Study
    from gradbase.session.resuming import Functions
    from gradbase.session.session import Session

QUERY_WORDS = ("SELECT", "WITH", "FROM", "VALUES", "(")


class Table:
    """A relation of the database: a table, a view or a query.

    Parameters
    ----------
    session : Session
    query : str
        SQL of the rows.
    """

    def __init__(self, session: Session, query: str) -> None:
        self.session, self.query = session, query

    @classmethod
    def named(cls, session: Session, name_or_query: str) -> Table:
        """The table of that name (``schema.table`` too), or the query where the text is one."""
        words = significant(name_or_query)
        is_query = bool(words) and (words[0].upper or words[0].text) in QUERY_WORDS
        if is_query and len(words) > 1:
            return cls(session, name_or_query)
        quoted = session.engine.dialect.identifier
        found = cls(session, f"SELECT * FROM {quoted(name_or_query)}")
        if "." in name_or_query and not _exists(session, found.query):
            parts = ".".join(quoted(p) for p in name_or_query.split("."))
            return cls(session, f"SELECT * FROM {parts}")
        return found

    def fit(
        self,
        what: TrainingSpec | Callable[[dict[str, Any]], Any],
        *,
        target: str | None = None,
        name: str,
        replace: bool = True,
        transform: str = "",
        **options: Any,
    ) -> Study[ModelHandle]:
        """Train on these rows; the search becomes model `name` of the database.

        Parameters
        ----------
        what : gb.search(…), gb.mlp(…), gb.kmeans(…), … or a function of the configuration
            A network alone is one trial with the defaults.
        target : str, optional
            The column to predict; all others are features. None for what learns without one:
            ``gb.autoencoder``, ``gb.kmeans``, ``gb.pca``.
        name : str
        replace : bool
            False: an existing model of that name is an error.
        transform : str
            What the model reads, as in TRANSFORM of CREATE MODEL; the label need not stand in it.
            Left out: all other columns as they are.
        **options
            As of `gradbase.search`, where `what` is a network.

        Returns
        -------
        Study
            Trials, their history, a plot, the best model.
        """
        from gradbase.session.training import fit

        return fit(
            self.session, what, self.query, target, name, replace=replace, transform=transform,
            options=options,
        )  # fmt: skip

    def result(self) -> Result:
        """The rows, computed when they are asked for."""
        found = self.session.sql(self.query)
        found.source = self  # rows that were given are there as long as their table
        return found

    def df(self) -> Any:
        """All rows as a pandas DataFrame."""
        return self.result().df()

    def arrow(self) -> pa.Table:
        """All rows as an Arrow table."""
        return self.result().arrow()

    def show(self, limit: int = 20) -> None:
        """Print the first rows."""
        self.result().show(limit)

    @property
    def columns(self) -> list[str]:
        """Column names."""
        return list(self.session.engine.schema(self.query).names)

    def __repr__(self) -> str:
        return f"Table({self.query!r})"

    def _repr_html_(self) -> str:
        return html_note(repr(self)) + as_html(self.result().preview())


class ModelHandle(Versioned):
    """A trained model with scikit-learn's words.

    Rows to predict may be a `Table`, the name of one, a query, an Arrow table, a pandas or Polars
    DataFrame. Columns bind by name; those the model does not read are ignored.

    Parameters
    ----------
    session : Session
    model : Model
    blobs : Blobs, optional
        Where the weights come from; the session's store if left out.
    """

    def __init__(self, session: Session, model: Model, blobs: Blobs | None = None) -> None:
        self.session, self.model = session, model
        self._blobs = blobs

    @property
    def classes(self) -> list[Any]:
        """The classes in the order of `predict_proba`'s columns; [] for a regression."""
        return [c.value for o in self.model.outputs[:1] for c in o.classes]

    @property
    def features(self) -> list[str]:
        """The columns read."""
        return [f.name for f in self.model.features]

    def replay(self, *, network: Functions = None) -> Replay:
        """Train this trial again as its search's journal says; `same` tells whether its weights are
        bit for bit those of the store.

        Parameters
        ----------
        network : callable or list of callable, optional
            Functions that were given to `Table.fit`, as they were; needed in a new process.

        Raises
        ------
        StoreError
            There is no journal: the model was imported or copied.
        DataError
            The rows have changed since.
        UnsupportedError
            It was trained on folds.
        """
        from gradbase.session.resuming import replayed

        return replayed(self.session, self.model, network)

    @overload
    def predict(self, rows: Any) -> np.ndarray: ...
    @overload
    def predict(self, rows: Any, *, with_version: Literal[True]) -> tuple[np.ndarray, int]: ...

    def predict(self, rows: Any, *, with_version: bool = False) -> Any:
        """The class (in the label's type), value or centroid of each row: shape (n,); what a
        network gives or principal components: shape (n, …).

        With `with_version` also the number of the version that predicted.
        """
        check_predicts(self.model)
        predicted = _numpy(self._output(rows, METHOD[self.model.task]))
        return (predicted, self.version) if with_version else predicted

    def predict_proba(self, rows: Any) -> np.ndarray:
        """Probabilities, float64 of shape (n, classes), in the order of `classes`."""
        return self.probabilities(self._output(rows, "proba"))

    def probabilities(self, column: pa.ChunkedArray) -> np.ndarray:
        """What PREDICT_PROBA gives as float64 of shape (n, classes)."""
        if self.model.task == "binary":
            positive = np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)
            return np.stack([1.0 - positive, positive], axis=1)
        flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(len(column), len(self.classes))

    def transform(self, rows: Any) -> pa.Table:
        """What the model's TRANSFORM gives for rows; label and the like where they are there."""
        with _relation(self.session, rows) as relation:
            given = [Given(f.name, Column(f.name, f.type)) for f in relation.schema]
            found = transform_columns(self.model, given)
            return self._run(Project(relation, tuple(found), tuple(found.values())))

    def score(self, rows: Any) -> float:
        """Accuracy of a classifier, R² of a regression, on rows that hold the label."""
        if not self.model.label:
            raise BindError(
                f"model `{self.model.name}` has no label to be scored on",
                hint="evaluate(rows) has the metrics of its task",
            )
        return self.evaluate(rows)["r2_score" if self.model.task == "regression" else "accuracy"]

    def evaluate(self, rows: Any) -> dict[str, float]:
        """All metrics of the model's task on rows that hold the label, if it has one."""
        check_predicts(self.model)
        with _relation(self.session, rows) as relation:
            if self.model.label:
                self._check_label(relation)
            plan = judged(Evaluate, relation, self.model, HALF, None)
            return self._run(plan).to_pylist()[0]

    def export(self, path: str | Path) -> Path:
        """Write the model to a file: ``.onnx`` (preprocessing inside) or ``.pt2``; see `EXPORT`."""
        from gradbase.runtime.export.files import export_model
        from gradbase.selection.tracing import tracing

        with tracing():
            export_model(self.model, self._blobs or self.session.store.blobs, Path(path))
        return Path(path)

    def plot(self, kind: str, *, data: Any = None, path: str | Path | None = None) -> Picture:
        """A picture of the model.

        Parameters
        ----------
        kind : str
            Of a classifier ``roc``, ``calibration``, ``confusion``; of a regression ``actual``,
            ``residuals``; of a linear model ``weights``; of the search that made it ``curves``,
            ``history``, ``parallel``, ``importance``.
        data : rows, optional
            Rows that hold the label, in any form that `predict` takes.
        path : str or Path, optional
            Also write the picture there; the ending says how (.png, .svg, .pdf).

        Raises
        ------
        BindError
            There is no such kind, or not of this model; or it needs `data`.
        UnsupportedError
            matplotlib is not installed.
        """
        from gradbase.session.pictures import plot

        return plot(self, kind, data, path)

    def labelled(self, rows: Any) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
        """The label, and the probabilities (of a regression the value) of each row."""
        method = "value" if self.model.task == "regression" else "proba"
        with _relation(self.session, rows) as relation:
            label = Column(self._check_label(relation), relation.schema.type_of(self.model.label))
            columns = (label, self._bound(relation, method))
            found = self._run(Project(relation, ("actual", "prediction"), columns))
        return found.column(0), found.column(1)

    def _check_label(self, relation: Relation) -> str:
        names = relation.schema.names
        if self.model.label not in names:
            raise BindError(
                f"the label `{self.model.label}` is not among the columns: {', '.join(names)}",
                hint="metrics need the true values; use predict for rows without them",
            )
        return self.model.label

    def _output(self, rows: Any, method: str) -> pa.ChunkedArray:
        with _relation(self.session, rows) as relation:
            plan = Project(relation, ("prediction",), (self._bound(relation, method),))
            return self._run(plan).column(0)

    def _run(self, plan: Relation) -> pa.Table:
        return self.session.run_relation(plan, blobs=self._blobs).arrow()

    def _bound(self, relation: Relation, method: str) -> Any:
        given = [Given(f.name, Column(f.name, f.type)) for f in relation.schema]
        return predict_call(self.model, method, given, by_name=True, at=None)

    def __repr__(self) -> str:
        label = f" of `{self.model.label}`" if self.model.label else ""
        return f"ModelHandle({self.model.address}, {self.model.task}{label})"

    def _repr_html_(self) -> str:
        columns = [[f.name, str(f.of)] for f in self.model.features]
        classes = f"classes: {', '.join(map(str, self.classes))}" if self.classes else ""
        grid = html_table(["reads", "type"], columns)
        return html_note(repr(self)) + (html_note(classes) if classes else "") + grid


@contextmanager
def _relation(session: Session, rows: Any) -> Generator[Relation]:
    """Rows given in any form, as a relation for as long as the block lasts."""
    with Rows(session, rows) as query:
        yield SqlFragment((query,), (), session.engine.schema(query))


def _exists(session: Session, query: str) -> bool:
    try:
        session.engine.schema(query)
    except EngineError:
        return False
    return True


def _numpy(column: pa.ChunkedArray) -> np.ndarray:
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return np.asarray(column.to_pylist(), dtype=object)
    if pa.types.is_fixed_size_list(column.type) and not column.null_count:
        flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(len(column), column.type.list_size)
    return column.to_numpy(zero_copy_only=False)
