"""What the optimiser and the frontend may know, as values and protocols.

Catalog, statistics, capabilities and calibration arrive through these, so that no package needs to
import the one that found them out.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gradbase.ir.imported import Trees
from gradbase.ir.learning import Fit, Model
from gradbase.ir.relational import Relation
from gradbase.ir.scalar import Value
from gradbase.ir.tensor import Tensor, Unary
from gradbase.ir.types import Schema, SqlType


@dataclass(frozen=True)
class ColumnStatistics:
    """Estimates for one column. `distinct` of values, `null_fraction` in [0, 1]; None: unknown."""

    distinct: int | None = None
    null_fraction: float = 0.0
    minimum: object = None
    maximum: object = None


@dataclass(frozen=True)
class TableStatistics:
    """Estimates for one table."""

    rows: int
    columns: Mapping[str, ColumnStatistics] = field(default_factory=dict)


@dataclass(frozen=True)
class Reference:
    """In every row `columns` are those of a row of the table `identity`, or one of them is NULL."""

    columns: tuple[str, ...]
    identity: str
    referenced: tuple[str, ...]


Bounds = tuple[float, float]


@dataclass(frozen=True)
class Promises:
    """What holds for every row that a table has now: proofs, unlike estimates.

    Parameters
    ----------
    identity : str
        Which table it is, whatever it is called.
    unique : frozenset of frozenset of str
        No two rows are equal in all of such columns; rows with a NULL there aside.
    references : frozenset of Reference
        Foreign keys that are checked at every statement.
    filled : frozenset of str
        Columns without NULL, of those asked for.
    ranges : mapping of str to Bounds
        Columns of numbers without NaN and infinite values, of those asked for, and between which
        numbers all of theirs lie; NULL aside.
    """

    identity: str
    unique: frozenset[frozenset[str]] = frozenset()
    references: frozenset[Reference] = frozenset()
    filled: frozenset[str] = frozenset()
    ranges: Mapping[str, Bounds] = field(default_factory=dict[str, Bounds])


class Statistics(Protocol):
    """Where estimates come from (an engine, or fixed values in a test)."""

    def table(self, table: str) -> TableStatistics | None:
        """Estimates for the table of that SQL name, None where unknown."""
        ...

    def query_rows(self, sql: str) -> int | None:
        """Estimated rows of a query, None where unknown."""
        ...

    def promises(self, table: str, columns: tuple[str, ...] = ()) -> Promises | None:
        """What is sure of the table of that SQL name now; None: nothing, or it is no table."""
        ...


@dataclass(frozen=True)
class Range:
    """Between which numbers a column's values lie, and whether some may be missing.

    NULL and NaN are; for imported networks NaN alone, as with NULL nobody asks what they compute.
    """

    low: float = -math.inf
    high: float = math.inf
    missing: bool = True


@dataclass(frozen=True)
class Settled:
    """Places of a ReLU's input that are never above 0 (`dead`), and never below (`linear`)."""

    dead: tuple[int, ...]
    linear: tuple[int, ...]


class Weights(Protocol):
    """What constants of networks say, where it is quickly found out."""

    def idle(self, weight: Tensor) -> frozenset[int] | None:
        """The inputs of a layer whose weights are all 0; None: not looked at."""
        ...

    def tested(self, trees: Trees) -> tuple[frozenset[int], ...] | None:
        """By tree the features that a row's way may depend on; None: not looked at."""
        ...

    def size(self, trees: Trees) -> tuple[int, int] | None:
        """Nodes that a row may come to, and the longest way down; None: not looked at."""
        ...

    def settled(
        self, outputs: Sequence[Tensor], ranges: Mapping[str, Range], *, imported: bool
    ) -> Mapping[Unary, Settled]:
        """The ReLUs below `outputs`, children first, that `ranges` of columns settle in part.

        Of `imported` networks NaN and infinite values pass through, of others they do not occur.
        """
        ...


@dataclass(frozen=True)
class Pilot:
    """Seconds of a step of a user's module, measured over a few minibatches.

    `alone_s` by itself, `stack_s` + n `each_s` for n in a stack; `reason` says why it does not
    train in a stack ('' where it may).
    """

    alone_s: float
    stack_s: float = 0.0
    each_s: float = 0.0
    reason: str = ""


class Modules(Protocol):
    """What is known of users' modules before rows are read."""

    def likeness(self, fit: Fit, inputs: int, outputs: int) -> Hashable:
        """Equal for fits whose modules may train as one stack; None: alone only."""
        ...

    def pilot(self, fits: Sequence[Fit], inputs: int, outputs: int) -> Pilot:
        """Minibatches of fits of equal likeness."""
        ...


@dataclass(frozen=True)
class Capabilities:
    """What an engine can do.

    Parameters
    ----------
    engine : str
    operators : frozenset of str
        Class names of the relations it can compile.
    representations : tuple of str
        For `Predict`.
    functions : bool
        Whether Python functions can be registered in it.
    unsupported : mapping of str to str
        Operator, preprocessing function (class names), representation or ``targeted`` (queries of
        workers) -> reason and way out.
    embedded : bool
        Whether it runs in this process and takes its part of the session's memory and threads.
    shared : bool
        Whether other processes may change the database at any time.
    holds_blobs : bool
        Whether blobs are rows beside the catalog, so that roles, backups and transactions hold for
        them too; else files of the engine's folder.
    side_tables : bool
        Whether other processes may ask it for rows that we mark in a table (`SideTables`).
    objects : str
        URL below which blobs are objects; '' where they are not.
    writers : int
        Cores with which it writes the rows of a query into files (`engines.base.Copies`); 0: it
        writes none.
    """

    engine: str
    operators: frozenset[str]
    representations: tuple[str, ...]
    functions: bool
    unsupported: Mapping[str, str] = field(default_factory=dict)
    embedded: bool = True
    shared: bool = False
    holds_blobs: bool = False
    side_tables: bool = False
    objects: str = ""
    writers: int = 0


EXACTNESS = ("bitwise", "tolerance", "approximate")


@dataclass(frozen=True)
class Settings:
    """What ``SET gradbase.<name>`` changes.

    Parameters
    ----------
    exactness : str
        The loosest exactness that a plan may use.
    optimizer : bool
        Off: no optional rule runs; the plain plan is used.
    disabled_rules : frozenset of str
        Rules that must not run.
    representation : str
        What every prediction may use of ``dl``, ``udf``, ``sql``, ``executors`` and
        ``relational``, with commas between them; '' lets cost choose among all.
    batch_rows : int
        Forces the batch of every prediction; 0 lets cost choose.
    threads : int
        Threads the broker may hand out; 0: all cores.
    memory_limit_bytes : int
        Bytes the broker may hand out; 0: 80 % of the machine.
    progress : bool
        Whether long statements draw progress.
    reconnect_timeout_s : int
        Seconds that a training waits for a server that is gone; 0: it ends at once.
    """

    exactness: str = "tolerance"
    optimizer: bool = True
    disabled_rules: frozenset[str] = frozenset()
    representation: str = ""
    batch_rows: int = 0
    threads: int = 0
    memory_limit_bytes: int = 0
    progress: bool = True
    reconnect_timeout_s: int = 120


Version = int | str | None
"""A version's number, or one of its aliases; None: the model's current version."""


class Models(Protocol):
    """Trained models by name."""

    def model(self, name: str, version: Version = None, trial: int | None = None) -> Model:
        """The model; BindError with near matches where there is none. Default: current, best."""
        ...

    def names(self) -> tuple[str, ...]:
        """All model names, sorted."""
        ...

    def trial_count(self, name: str, version: Version = None) -> int:
        """Trials that a version of a model has."""
        ...

    def usable_trials(self, name: str, version: Version = None) -> tuple[int, ...]:
        """Numbers of the trials of a version that can predict."""
        ...

    def feature_statistics(
        self, name: str, version: Version = None
    ) -> dict[str, tuple[float | None, float | None]]:
        """Share of missing values and mean of each column in training, where they were kept."""
        ...

    def counts_sql(self, name: str, version: Version, trial: int) -> str:
        """SQL of the query over the catalog for how a trial's evaluation rows were predicted.

        Columns as `ir.inspection.SCORES` for two classes, as `COUNTS` for more.
        """
        ...

    def describe(self, name: str, version: Version = None) -> Relation:
        """What ``DESCRIBE MODEL`` gives."""
        ...

    def info(self, function: str, name: str, version: Version = None) -> str:
        """SQL of the query over the catalog that answers ``ML.<function>(MODEL name)``.

        `function` is ``TRIAL_INFO``, ``TRAINING_INFO``, ``FOLD_INFO``, ``FEATURE_INFO`` or
        ``EVALUATE`` (stored metrics).
        """
        ...


class Dialect(Protocol):
    """An engine's language, as far as somebody else writes or reads it."""

    name: str
    """What sqlglot calls it."""
    star_words: frozenset[str]
    """What may follow a star, of EXCLUDE, EXCEPT, REPLACE and RENAME."""

    def identifier(self, name: str) -> str:
        """A name as statements of the engine's own quote it."""
        ...

    def type_name(self, of: SqlType) -> str:
        """The name of a type, for casts; UnsupportedError where it has none."""
        ...

    def literal(self, value: Value, of: SqlType) -> str:
        """A constant, every bit of it kept."""
        ...

    def struct(self, values: Mapping[str, str]) -> str:
        """A struct (where there is none: JSON) of expressions by name."""
        ...

    def nulls(self, direction: str) -> str:
        """Where ``ORDER BY x asc|desc`` puts NULLs: first or last."""
        ...

    def element(self, value: str, number: int) -> str:
        """An element of a list, from 1."""
        ...

    def from_json(self, text: str, structure: str) -> str:
        """JSON text as a value of `structure`, which is JSON: names -> types of the catalog."""
        ...


class Relations(Protocol):
    """Schemas, answered by an engine without running anything."""

    @property
    def dialect(self) -> Dialect:
        """The language of the queries."""
        ...

    def schema(self, sql: str, parameters: Mapping[str, object] | None = None) -> Schema:
        """Schema of a query."""
        ...

    def types(
        self, sql: str, parameters: Mapping[str, object] | None = None
    ) -> list[tuple[str, SqlType]]:
        """Column names (not necessarily distinct) and types of a query."""
        ...
