"""Searches as their journals tell of them, to any process: nobody has to open the database."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from gradbase.engines.base import SUFFIX
from gradbase.engines.paths import database_of
from gradbase.errors import BindError, StoreError, near
from gradbase.store.journal import FILE, MAILBOX, Event, post, read
from gradbase.store.report import Report, report_of

RUNNING, INTERRUPTED = "RUNNING", "INTERRUPTED"


def process_event() -> dict[str, Any]:
    """What a journal says of the process that writes it."""
    own = psutil.Process()
    return {"host": socket.gethostname(), "pid": own.pid, "born": own.create_time()}


def runs(path: str | Path) -> list[Run]:
    """The searches of a database, oldest first, whether they run, have ended or were interrupted.

    Parameters
    ----------
    path : str or Path
        The DuckDB file, or the folder of data files; it may be in use.

    Raises
    ------
    BindError
        There is no such file.
    """
    if not Path(path).exists():
        raise BindError(f"there is no database `{path}`", hint="name a DuckDB file")
    database = database_of(Path(path)).resolve()
    return runs_in(database.with_name(database.name + SUFFIX) / "runs")


def runs_in(folder: Path) -> list[Run]:
    """As `runs`, of the folder that holds them."""
    found = [Run(journal.parent) for journal in folder.glob(f"*/{FILE}")]
    return sorted(found, key=lambda run: (run.started, run.id))


class Run:
    """One search, read from its journal at each look.

    `stop`, `resume`, `add` and `clone` leave a message that the process that trains takes; they
    take effect when an epoch of the trials ends.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.id = folder, folder.name

    @property
    def events(self) -> list[Event]:
        """All that its journal says, oldest first."""
        return read(self.folder / FILE)

    @property
    def model(self) -> str:
        """The model that it is to make."""
        return self.events[0]["model"]

    @property
    def started(self) -> float:
        """Seconds since 1970."""
        return self.events[0]["at"]

    @property
    def status(self) -> str:
        """``RUNNING``, ``DONE``, ``FAILED`` or ``INTERRUPTED``."""
        status, process = RUNNING, {}
        for event in self.events:
            match event["event"]:
                case "start" | "resumed":
                    status, process = RUNNING, event.get("process", {})
                case "end":
                    status = event["status"]
                case _:
                    pass
        goes_on = _lives(process) and (self.folder / MAILBOX).exists()
        return INTERRUPTED if status == RUNNING and not goes_on else status

    @property
    def end(self) -> Event:
        """What its journal says of its end; {} of one that goes on or died."""
        ends = [e for e in self.events if e["event"] in ("start", "resumed", "end")]
        return ends[-1] if ends[-1]["event"] == "end" else {}

    @property
    def trials(self) -> list[dict[str, Any]]:
        """One dict per trial: trial, hyper-parameters, epochs, losses, metrics, status."""
        found: dict[int, dict[str, Any]] = {}
        for event in self.events:
            match event["event"]:
                case "round" | "added":
                    for leg in event["legs"]:
                        row = {"trial": leg["trial"], **leg["configuration"]}
                        found.setdefault(leg["trial"], {"epochs": 0, "status": RUNNING}).update(row)
                case "epoch" if "fold" not in event:
                    for trial, plain in event["trials"].items():
                        found[int(trial)] |= {"epochs": event["epoch"] + 1} | dict(_flat(plain))
                case "begun":
                    for trial, row in event["trials"].items():
                        new = {"epochs": 0, **row}
                        found.setdefault(int(trial), new)["status"] = RUNNING
                case "stack":
                    for trial, row in event["trials"].items():
                        found.setdefault(int(trial), {}).update(row)
                case "continued":
                    found[event["trial"]] |= {"status": RUNNING}
                case "done" | "converged" | "stopped" | "failed" if "fold" not in event:
                    found[event["trial"]] |= {"status": event["status"]}
                case _:
                    pass
        return [{"trial": trial, **found[trial]} for trial in sorted(found)]

    @property
    def report(self) -> Report:
        """Where the time went so far."""
        return report_of(self.events)

    def stop(self, *trials: int) -> None:
        """End these trials, or the whole search (which can be resumed)."""
        self._post({"command": "stop", "trials": self._known(trials)})

    def resume(self, *trials: int) -> None:
        """Let these trials go on that were stopped."""
        self._post({"command": "resume", "trials": self._known(trials)})

    def add(self, configuration: Mapping[str, Any]) -> None:
        """Add a trial with these hyper-parameters; what is left out is as in trial 1."""
        self._post({"command": "add", "configuration": dict(configuration)})

    def clone(
        self, trial: int, changes: Mapping[str, Any] | None = None, *, weights: bool = True
    ) -> None:
        """Add a trial like `trial`, with `changes`: from its `weights` on, or from the start."""
        self._known([trial])
        command = {"command": "clone", "trial": trial, "weights": weights}
        self._post(command | {"changes": dict(changes or {})})

    def _known(self, trials: Sequence[int]) -> list[int]:
        known = [row["trial"] for row in self.trials]
        for trial in trials:
            if trial not in known:
                raise BindError(
                    f"the search for `{self.model}` has no trial {trial}",
                    hint=near(str(trial), [str(k) for k in known]) or f"it has {len(known)} trials",
                )
        return list(trials)

    def _post(self, command: Mapping[str, Any]) -> None:
        if self.status != RUNNING:
            raise StoreError(
                f"the search for `{self.model}` is {self.status}: nobody takes messages",
                hint=f"RESUME SEARCH {self.model}" if self.status != "DONE" else None,
            )
        post(self.folder, command)

    def __repr__(self) -> str:
        trials = self.trials
        running = sum(t["status"] == RUNNING for t in trials)
        return (
            f"Run {self.id} of `{self.model}`: {self.status}, {len(trials)} trials, {running} going"
        )


def _flat(plain: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "train_loss", plain["train_loss"]
    yield "eval_loss", plain["eval_loss"]
    yield from plain["metrics"].items()


def _lives(process: Mapping[str, Any]) -> bool:
    """Whether a process of this host still runs; of another host nobody knows, so it may."""
    if not process or process["host"] != socket.gethostname():
        return bool(process)
    try:
        return psutil.Process(process["pid"]).create_time() == process["born"]
    except psutil.Error:
        return os.getpid() == process["pid"]
