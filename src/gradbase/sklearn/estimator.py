"""What the classifier and the regressor have in common."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Generator, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.base import BaseEstimator
from sklearn.utils import (
    assert_all_finite,
    check_consistent_length,
    check_random_state,
    column_or_1d,
)
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    validate_data,
)

from gradbase.engines import quote_identifier
from gradbase.errors import BindError, DataError, UnsupportedError
from gradbase.frontend.training import TrainingSpec
from gradbase.selection.api import mlp, search
from gradbase.session.session import Session, connect
from gradbase.session.training import fit
from gradbase.sklearn.fitted import Fitted, shared_session
from gradbase.sklearn.tables import column_names, free_name, is_frame, table_of
from gradbase.sklearn.weights import weighted

Array = npt.NDArray[Any]

_numbers = itertools.count(1)
_NETWORK = ("hidden_units", "activation", "dropout")
_TRAINING = (
    "optimizer", "learn_rate", "l2_reg", "batch_size", "epochs", "early_stop", "trials",
    "procedure", "metric",
)  # fmt: skip
_PYTHON_NAMES = {"hidden_units": "hidden", "learn_rate": "lr"}
DEFAULTS = {"hidden_units": (64,), "learn_rate": 0.003, "epochs": 50, "early_stop": False}
"""Where an estimator's defaults are not those of CREATE MODEL: tables are small here."""


class Estimator(BaseEstimator):
    """Parameters, training and the fitted model; see its subclasses."""

    task: ClassVar[str]
    n_features_in_: int

    def __init__(
        self,
        hidden_units: Any = None,
        *,
        search: TrainingSpec | None = None,
        activation: Any = None,
        dropout: Any = None,
        optimizer: Any = None,
        learn_rate: Any = None,
        l2_reg: Any = None,
        batch_size: Any = None,
        epochs: Any = None,
        early_stop: bool | None = None,
        eval_fraction: float | None = None,
        trials: int | None = None,
        procedure: str | None = None,
        metric: str | None = None,
        random_state: Any = None,
        database: Session | str | None = None,
        name: str = "estimator",
    ) -> None:
        self.hidden_units = hidden_units
        self.search = search
        self.activation = activation
        self.dropout = dropout
        self.optimizer = optimizer
        self.learn_rate = learn_rate
        self.l2_reg = l2_reg
        self.batch_size = batch_size
        self.epochs = epochs
        self.early_stop = early_stop
        self.eval_fraction = eval_fraction
        self.trials = trials
        self.procedure = procedure
        self.metric = metric
        self.random_state = random_state
        self.database = database
        self.name = name

    # -- training ----------------------------------------------------------------------------------

    def _train(self, table: pa.Table, y: Array, label: str, weights: Array | None) -> None:
        """Train on the rows and keep what came of it."""
        label, column = free_name(label, table.column_names), ""
        table = table.append_column(label, _labels(y))
        if weights is not None:
            table, column = weighted(table, weights)
        spec = dataclasses.replace(self._spec(), weight_column=column)
        with self._session() as (session, name), _view(session, table) as query:
            study = fit(session, spec, query, label, name, replace=True, options={})
            best = study.record.trial(study.best_trial)
            self.fitted_ = Fitted.of(study.best)
            self.trials_, self.history_ = study.rows, study.epochs
            self.best_params_ = dict(best.configuration)
            self.n_iter_ = len(best.epochs)

    @contextlib.contextmanager
    def _session(self) -> Generator[tuple[Session, str]]:
        """Where to train, and the model's name there; without a database the model leaves it."""
        if self.database is None:
            session, name = shared_session(), f"estimator {next(_numbers)}"
            try:
                yield session, name
            finally:
                session.store.drop(name, if_exists=True)
        elif isinstance(self.database, str):
            with connect(self.database, progress=False) as session:
                yield session, self.name
        elif isinstance(self.database, Session):
            yield self.database, self.name
        else:
            raise BindError(
                f"database is an open session or the path of a file, found {self.database!r}",
                hint="gb.connect(…), or leave it out",
            )

    def _spec(self) -> TrainingSpec:
        if self.search is None:
            spec = self._own_search()
        else:
            parameters = (*_NETWORK, *_TRAINING, "eval_fraction")
            given = [n for n in parameters if getattr(self, n) is not None]
            if given:
                raise BindError(
                    f"`{given[0]}` and `search` were both given",
                    hint="put it into gb.search(…), or leave search out",
                )
            spec = self.search
            if not isinstance(spec, TrainingSpec):
                raise BindError(f"search is what gb.search(…) returns, found {spec!r}")
        seed = spec.seed if self.random_state is None else _seed(self.random_state)
        return dataclasses.replace(spec, task=self.task, seed=seed)

    def _own_search(self) -> TrainingSpec:
        network = mlp(**self._set(_NETWORK))
        options = self._set(_TRAINING)
        share = self.eval_fraction
        if share is None:
            share = 0.2 if search(network, **options).tuned else 0.0
        if not share:
            return search(network, **options, split="no_split")
        return search(network, **options, split="random", eval_fraction=share)

    def _set(self, names: Sequence[str]) -> dict[str, Any]:
        """The parameters that are set, here or by default, under the names of `search`."""
        values = {n: getattr(self, n) for n in names}
        found = {n: DEFAULTS.get(n) if v is None else v for n, v in values.items()}
        return {_PYTHON_NAMES.get(n, n): v for n, v in found.items() if v is not None}

    # -- rows --------------------------------------------------------------------------------------

    def _table(self, X: Any, *, reset: bool) -> pa.Table:
        """The rows as Arrow, checked against those of `fit` unless `reset`."""
        rows = X
        if is_frame(X):
            validate_data(self, X, reset=reset, skip_check_array=True)
            for what, count in (("sample", X.shape[0]), ("feature", X.shape[1])):
                if not count:
                    raise DataError(
                        f"Found array with 0 {what}(s) (shape={X.shape}) while a minimum of 1 is "
                        f"required by {type(self).__name__}."
                    )
        else:
            rows = validate_data(self, X, reset=reset, dtype=None, ensure_all_finite="allow-nan")
        if reset:
            self._columns = column_names(rows)
        return table_of(rows, self._columns)

    def _checked(self, X: Any, y: Any) -> tuple[pa.Table, Array, str]:
        """Rows, target of shape (n,), and a name for the target."""
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        table = self._table(X, reset=True)
        target = column_or_1d(y, warn=True)
        assert_all_finite(target, input_name="y")
        if target.dtype == object and any(v is None for v in target):
            raise DataError("Input y contains None", hint="leave out rows without a target")
        check_consistent_length(table, target)
        if len(target) < 2:
            raise DataError(
                f"1 sample is not enough: {type(self).__name__} needs at least 2 to learn from"
            )
        own = getattr(y, "name", None)
        return table, target, own if isinstance(own, str) and own else "target"

    def _weights(self, sample_weight: Any, rows: pa.Table) -> Array | None:
        if sample_weight is None:
            return None
        return _check_sample_weight(sample_weight, rows, dtype=np.float64, ensure_non_negative=True)

    def _rows(self, X: Any) -> pa.Table:
        check_is_fitted(self, "fitted_")
        return self._table(X, reset=False)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    # -- pickles -----------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())  # type: ignore[call-overload]
        if isinstance(self.database, Session):
            if not hasattr(self, "fitted_"):
                raise UnsupportedError(
                    "an estimator with an open session cannot be sent to another process",
                    hint="use n_jobs=1, joblib's threading backend, or a database that is a path",
                )
            state["database"] = None  # the model does not need it
        return state


@contextlib.contextmanager
def _view(session: Session, table: pa.Table) -> Generator[str]:
    """A query of the rows, as long as the block lasts."""
    name = f"__gradbase_fit_{next(_numbers)}"
    session.register(name, table)
    try:
        yield f"SELECT * FROM {quote_identifier(name)}"
    finally:
        session.unregister(name)


def _labels(y: Array) -> pa.Array:
    try:
        return pa.array(y)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"a target of type {y.dtype} cannot be learnt: {error}",
            hint="classes are texts, whole numbers or booleans; y.astype(str) makes texts",
        ) from error


def _seed(random_state: Any) -> int:
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))
