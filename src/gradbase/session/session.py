"""`connect` and `Session`: one data system, its models, and the resources they share."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psutil

from gradbase.engines import connect as connect_engine
from gradbase.errors import ParseError, StoreError, noted
from gradbase.frontend.addresses import parse_address
from gradbase.frontend.tokens import placed_statements, split_statements
from gradbase.ir.facts import Settings, Version
from gradbase.resources.broker import Broker, Lease
from gradbase.resources.history import default_history
from gradbase.resources.tiling import page_bytes_for
from gradbase.session.plans import AskedTypes, Kept
from gradbase.session.results import Result
from gradbase.session.statements import explain, run, run_relation
from gradbase.store import Store
from gradbase.store.tiles.pool import Pool

if TYPE_CHECKING:
    from gradbase.frontend.statements import Statement
    from gradbase.ir.relational import Relation
    from gradbase.resources.calibration import Calibration
    from gradbase.runtime.context import RunContext
    from gradbase.runtime.encode import Blobs
    from gradbase.selection.study import Study
    from gradbase.session.explanation import Explanation
    from gradbase.session.handles import ModelHandle, Table
    from gradbase.session.planning import Plan
    from gradbase.session.resuming import Functions
    from gradbase.store.fsck import Report

log = logging.getLogger("gradbase.session")

MEMORY_SHARE = 0.8
"""Part of the machine's memory that the broker hands out where no limit is set."""
ENGINE_SHARE = 0.5
"""Part of the broker's bytes that the engine holds for its buffer pool."""


def connect(
    url: Any = ":memory:",
    *,
    store: str | Path | None = None,
    read_only: bool = False,
    python_modules: Sequence[str] = (),
    threads: int = 0,
    memory_limit_bytes: int = 0,
    progress: bool = True,
) -> Session:
    """Open a database for SQL, training and prediction.

    Parameters
    ----------
    url : str or SparkSession
        A DuckDB file (made if missing), ``:memory:``, a folder of Parquet, CSV or JSON files (each,
        and each folder of them, is a table), ``postgresql://…``; ``local[4]``, ``spark://host:7077``.
    store : str or Path, optional
        Of Spark alone: where models lie, a folder or ``s3://…``, which executors reach too.
    read_only : bool
        Predict and look, change nothing; other processes may read at the same time.
    python_modules : sequence of str
        Modules whose functions ``model_type = 'python:module:function'`` may call.
    threads, memory_limit_bytes : int
        What the session may use, bytes for the second; 0: all cores, 80 % of the memory.
    progress : bool
        Whether training draws its progress on a terminal.

    Raises
    ------
    StoreError
        The file is locked by another process, or cannot be read or made.
    """
    engine = connect_engine(url, read_only=read_only, store=store)
    settings = Settings(threads=threads, memory_limit_bytes=memory_limit_bytes, progress=progress)
    try:
        return Session(engine, settings, python_modules)
    except BaseException:
        engine.close()
        raise


class Session:
    """A connection that can also learn. Safe to use from several threads.

    Examples
    --------
    >>> import gradbase as gb
    >>> with gb.connect() as db:
    ...     db.sql("SELECT ? + 1 AS n", params=[41]).fetchall()
    [(42,)]
    """

    def __init__(self, engine: Any, settings: Settings, python_modules: Sequence[str] = ()) -> None:
        from gradbase.runtime.context import Metrics

        self.engine = engine
        self.store = Store.open(engine, read_only=engine.read_only)
        self.settings = settings
        self.broker = Broker(*limits(settings))
        self._engine_lease = self._lend_to_engine()
        self.pool = Pool(self.broker)
        self.metrics = Metrics()
        self.python_modules = tuple(python_modules)
        self.last_plan: Plan | None = None
        self.parsed: Kept[Statement] = Kept()
        self.bound: Kept[tuple[Relation, AskedTypes]] = Kept()
        self.plans: Kept[Plan] = Kept()
        self._running: set[threading.Event] = set()
        self.history = default_history()
        self._closed = False

    # -- SQL ---------------------------------------------------------------------------------------

    def sql(self, text: str, params: Sequence[Any] | Mapping[str, Any] | None = None) -> Result:
        """Run SQL; of several statements all but the last are run to their end first.

        Queries are lazy: they run when the result's rows are asked for. Everything else runs now.

        Parameters
        ----------
        text : str
            One or more statements. Those without our words reach the engine untouched.
        params : sequence or mapping, optional
            Values for ``?``, ``$1`` or ``$name``.
        """
        if not (statements := split_statements(text)):
            raise ParseError("there is no statement", hint="SELECT 1")
        for statement in statements[:-1]:
            self._run(statement, params).arrow()
        return self._run(statements[-1], params)

    def script(self, text: str) -> Iterator[Result]:
        """Run several statements in turn and give each result; errors say where theirs begins."""
        for place, statement in placed_statements(text):
            with noted(place):
                yield self._run(statement, None)

    def explain(
        self,
        text: str,
        params: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        verbose: bool = False,
        analyze: bool = False,
    ) -> Explanation:
        """The plan of a statement as text, which can `plot` itself; `analyze` runs it first."""
        self._check_open()
        return explain(self, text, params, verbose=verbose, analyze=analyze)

    def run_relation(
        self,
        relation: Relation,
        params: Mapping[str, Any] | None = None,
        blobs: Blobs | None = None,
    ) -> Result:
        """The rows of a relation of the IR, planned now and computed when asked for.

        Weights come from `blobs`, from the store if left out.
        """
        return run_relation(self, relation, dict(params or {}), blobs)

    def _run(self, statement: str, params: Any) -> Result:
        self._check_open()
        return run(self, statement, params)

    # -- tables and models -------------------------------------------------------------------------

    def table(self, rows: Any) -> Table:
        """Rows as something to fit, predict or look at.

        Parameters
        ----------
        rows : str, Arrow table, pandas or Polars DataFrame
            The name of a table or view, or a query; or the rows themselves, which are a view of
            this session as long as what is returned lives. To go on in another process with a
            search that was interrupted, `register` them under a name of your own instead.
        """
        from gradbase.session.handles import Table
        from gradbase.session.rows import table_of

        self._check_open()
        return Table.named(self, rows) if isinstance(rows, str) else table_of(self, rows)

    def model(self, name: str, version: Version = None, trial: int | None = None) -> ModelHandle:
        """A trained model, by default its current version and best trial.

        Parameters
        ----------
        name : str
            ``churn``, or a version of it: ``churn@2``, ``churn@champion``, ``churn@latest``.
        version : int or str, optional
            Number or alias, where `name` has none.
        trial : int, optional
        """
        from gradbase.session.handles import ModelHandle

        self._check_open()
        address = parse_address(name)
        chosen = address.version if version is None else version
        return ModelHandle(self, self.store.model(address.name, chosen, trial))

    def study(self, name: str) -> Study[ModelHandle]:
        """The search that made a model's current version, or the one in ``churn@2``."""
        from gradbase.selection.study import Study

        self._check_open()
        address = parse_address(name)
        return Study(self.store, address.name, self.model, address.version)

    def resume(self, name: str, *, network: Functions = None) -> Study[ModelHandle]:
        """Go on with the latest search for a model, which was interrupted, to the same result.

        Parameters
        ----------
        name : str
        network : callable or list of callable, optional
            Functions that were given to `Table.fit`, as they were; needed in a new process.

        Raises
        ------
        BindError
            There is nothing to resume, or the function is not there.
        DataError
            The rows have changed since the search began.
        """
        from gradbase.session.resuming import resume

        self._check_open()
        resume(self, name, network)
        return self.study(name)

    def import_model(
        self,
        name: str,
        what: Any,
        *,
        features: Any = None,
        label: str | None = None,
        classes: Sequence[Any] | None = None,
        output: str | None = None,
        replace: bool = True,
    ) -> ModelHandle:
        """Store a fitted object of scikit-learn, a ``torch.nn.Module`` or a file as a model.

        It predicts as that does, without it and its library. A row with NULL in a column that is
        read gives NULL, unless an imputer of a pipeline fills it; NaN passes through.

        Parameters
        ----------
        name : str
        what : object
            An estimator, a pipeline or a search of scikit-learn; a module from Tensor[B, n]
            float32 to Tensor[B, m]; or the path of an ONNX file or of an exported program of torch
            (``.pt2``), read without running anything in it.
        features : list of str, or rows
            The columns that are read, in order; left out where the object or file names them. Rows
            (a table's name, a query, a data frame) give names and types.
        label : str, optional
            Of scikit-learn ``label`` if left out. A label without classes: a number is predicted.
        classes : sequence, optional
            Of logits: one per class, or one of two classes. Without label and classes PREDICT gives
            what the module returns.
        output : str, optional
            Of a file with several outputs; the first one if left out.
        replace : bool
            False: an existing model of that name is an error.

        Raises
        ------
        BindError
            The object is not fitted, or its columns are not known.
        UnsupportedError
            A part of it cannot be imported; names it and what can.
        """
        from gradbase.session.importing import import_model

        self._check_open()
        import_model(
            self, name, what, features=features, label=label, classes=classes, output=output,
            replace=replace)  # fmt: skip
        return self.model(name)

    def register(self, name: str, rows: Any) -> None:
        """Make an Arrow table, pandas or Polars DataFrame a view of this session."""
        from gradbase.session.rows import checked

        self._check_open()
        self.engine.register(name, checked(rows))

    def unregister(self, name: str) -> None:
        """Forget a view made by `register`."""
        self.engine.unregister(name)

    # -- operation ---------------------------------------------------------------------------------

    @functools.cached_property
    def calibration(self) -> Calibration:
        """Speeds of this machine, measured once per host."""
        from gradbase.runtime.calibrate import load_or_calibrate

        return load_or_calibrate()

    def context(
        self, parameters: Mapping[str, Any] | None = None, blobs: Blobs | None = None
    ) -> RunContext:
        """What running a plan needs, with a fresh switch for cancelling it."""
        from gradbase.runtime.context import RunContext
        from gradbase.selection.networks import Networks

        return RunContext(
            engine=self.engine,
            blobs=self.store.blobs if blobs is None else blobs,
            broker=self.broker,
            calibration=self.calibration,
            settings=self.settings,
            parameters=dict(parameters or {}),
            cancelled=threading.Event(),
            metrics=self.metrics,
            modules=Networks(self.python_modules).stored,
            pool=self.pool,
            history=self.history,
        )

    def change_settings(self, **changes: Any) -> None:
        """Change settings by name; see `Settings`."""
        self._check_open()
        before, self.settings = self.settings, dataclasses.replace(self.settings, **changes)
        if limits(before) == limits(self.settings):
            return  # taking the engine's lease anew would wait for statements that run
        self.broker.release(self._engine_lease)
        self.broker.resize(*limits(self.settings))
        self._engine_lease = self._lend_to_engine()

    def cancel(self) -> None:
        """Stop everything this session is running, from any thread."""
        for event in list(self._running):
            event.set()
        self.engine.interrupt()

    def _lend_to_engine(self) -> Lease:
        """Give the engine its part of the memory for as long as the session lasts."""
        embedded = self.engine.capabilities.embedded
        size_bytes = int(self.broker.memory_bytes * ENGINE_SHARE) if embedded else 0
        lease = self.broker.acquire(self.engine.name, "buffer pool", size_bytes=size_bytes)
        self.engine.limit(threads=self.broker.threads, memory_bytes=size_bytes)
        self.store.blobs.page_bytes = page_bytes_for(size_bytes)
        return lease

    def running(self, event: threading.Event) -> Callable[[], None]:
        """Let `cancel` reach a statement; returns what to call at its end."""
        self._running.add(event)
        return lambda: self._running.discard(event)

    def fsck(self, *, repair: bool = False) -> Report:
        """Verify catalog and blobs, and with `repair` mend what can be mended."""
        self._check_open()
        return self.store.fsck(repair=repair)

    def close(self) -> None:
        """Stop what runs, give everything back. Closing twice is allowed."""
        if self._closed:
            return
        self._closed = True
        self.cancel()
        self.history.save()
        self.pool.close()
        self.store.close()
        self.engine.close()

    def __deepcopy__(self, memo: object) -> Self:
        """A copy of what holds a session, such as a clone of an estimator, uses the same one."""
        return self

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the session is closed", hint="connect again")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def limits(settings: Settings) -> tuple[int, int]:
    """(threads, bytes) that the broker may hand out."""
    size_bytes = settings.memory_limit_bytes or int(psutil.virtual_memory().total * MEMORY_SHARE)
    return settings.threads or len(os.sched_getaffinity(0)), size_bytes
