"""What `ModelHandle` is made of beside predicting: versions, and what is known of a model.

The functions of SQL by the same names, on the handle's version and trial. Rows may be a `Table`,
the name of one, a query, an Arrow table, a pandas or Polars DataFrame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradbase.engines import quote_identifier
from gradbase.session.results import Result
from gradbase.session.rows import Rows

if TYPE_CHECKING:
    from gradbase.ir.facts import Version
    from gradbase.ir.learning import Model
    from gradbase.session.handles import ModelHandle
    from gradbase.session.session import Session


class Versioned:
    """A version of a model of the session's database."""

    session: Session
    model: Model

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    @property
    def version(self) -> int:
        """Number of this version."""
        return self.model.version

    # -- versions ----------------------------------------------------------------------------------

    @property
    def versions(self) -> Result:
        """Every version: version, created, model_type, trials, metric, value, best_trial, current,
        aliases."""
        return Result.of(self.session.store.list_versions(self.name))

    def alias(self, alias: str, version: Version = None) -> ModelHandle:
        """Let `alias` name a version (default: this one); returns it."""
        chosen = self.version if version is None else version
        self.session.store.versions.set_alias(self.name, alias, chosen)
        return self.session.model(self.name, alias)

    def drop_alias(self, alias: str) -> None:
        """Take an alias away."""
        self.session.store.versions.drop_alias(self.name, alias)

    def rollback(self, version: Version = None) -> ModelHandle:
        """Let the model's bare name mean a version (default: this one); returns it.

        The next training makes the next version all the same, and that one is current then.
        """
        chosen = self.version if version is None else version
        self.session.store.versions.set_current(self.name, chosen)
        return self.session.model(self.name)

    def prune(self, keep: int) -> list[int]:
        """Delete all but the `keep` newest versions, the current one and those with an alias.

        Returns
        -------
        list of int
            The versions deleted.
        """
        return self.session.store.versions.prune(self.name, keep)

    def compare(self, first: Version, second: Version, rows: Any) -> Result:
        """Two versions on the same rows: metric, first, second, difference.

        The last rows say on what share of the rows predictions differ, and for regressions by how
        much. Without the label among the columns only these are there.
        """
        numbers = (self.session.model(self.name, v).version for v in (first, second))
        models = ", ".join(f"MODEL {quote_identifier(self.name)}@{n}" for n in numbers)
        return self._over(rows, lambda query: f"SELECT * FROM ML.COMPARE({models}, {query})")

    # -- what is known -----------------------------------------------------------------------------

    def describe(self) -> Result:
        """What ``DESCRIBE MODEL`` gives: section, position, name, type, value, details."""
        return self._told("DESCRIBE", trial=False)

    def feature_info(self) -> Result:
        """The columns of the training query over the training rows: min, max, mean, …"""
        return self._told("FEATURE_INFO", trial=False)

    def weights(self, *, standardize: bool = False) -> Result:
        """Weights of a linear model, in the units of its columns unless `standardize`."""
        return self._told("WEIGHTS", standardize=standardize)

    def confusion_matrix(self, rows: Any = None, *, threshold: float | None = None) -> Result:
        """A row per expected class, a column per predicted one.

        Parameters
        ----------
        rows : optional
            With the label. None: the evaluation rows of the training.
        threshold : float, optional
            Probability above which the positive class is predicted; 0.5 if left out.
        """
        return self._told("CONFUSION_MATRIX", rows, threshold=threshold)

    def roc_curve(self, rows: Any = None, *, thresholds: Sequence[float] = ()) -> Result:
        """threshold, recall, false_positive_rate, and counts of rows.

        Parameters
        ----------
        rows : optional
            With the label. None: the evaluation rows of the training.
        thresholds : sequence of float
            Probabilities; left out: 0 and the percentiles of the scores.
        """
        listed = f"[{', '.join(repr(float(t)) for t in thresholds)}]" if len(thresholds) else ""
        return self._told("ROC_CURVE", rows, listed)

    def drift(self, rows: Any) -> Result:
        """How `rows` differ from the training rows, column by column; see `ML.SCHEMA_DRIFT`."""
        return self._told("SCHEMA_DRIFT", rows)

    def _told(
        self, function: str, rows: Any = None, *arguments: str, trial: bool = True, **options: Any
    ) -> Result:
        """``SELECT * FROM ML.function(MODEL this, (rows), arguments, STRUCT(options))``."""
        chosen = ({"trial_id": self.model.trial} if trial else {}) | options
        values = {n: str(v).upper() if isinstance(v, bool) else v for n, v in chosen.items()}
        struct = ", ".join(f"{v} AS {n}" for n, v in values.items() if v is not None)
        model = f"MODEL {quote_identifier(self.name)}@{self.version}"
        rest = [*(a for a in arguments if a), *([f"STRUCT({struct})"] if struct else [])]

        def text(query: str) -> str:
            given = ", ".join([model, *([query] if query else []), *rest])
            return f"SELECT * FROM ML.{function}({given})"

        return self._over(rows, text) if rows is not None else self.session.sql(text(""))

    def _over(self, rows: Any, text: Any) -> Result:
        with Rows(self.session, rows) as query:
            return Result.of(self.session.sql(text(f"({query}\n)")).arrow())
