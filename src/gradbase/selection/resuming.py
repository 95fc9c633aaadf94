"""Going on with a search that was interrupted: what its journal and its states tell."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import torch

from gradbase import __version__
from gradbase.errors import StoreError, UnsupportedError
from gradbase.frontend.space import space_of, to_plain
from gradbase.ir.grouping import FitGroups
from gradbase.ir.learning import FusedFit, Search
from gradbase.ir.parser import parse_plan
from gradbase.selection.networks import Networks, functions_of
from gradbase.selection.outcome import Outcome
from gradbase.selection.procedure import Terms
from gradbase.selection.states import States
from gradbase.store.following import process_event
from gradbase.store.journal import Event, Journal
from gradbase.store.records import FAILED, EpochRecord

if TYPE_CHECKING:
    from gradbase.selection.run import RunInfo

_TYPES = {"datetime": dt.datetime, "date": dt.date, "time": dt.time, "decimal": Decimal}
VERSION = 1
"""Of what a journal says about its search."""


def header_of(search: Search | FitGroups, info: RunInfo) -> dict[str, Any]:
    """What the journal of a run begins with: all that it takes to go on with it."""
    terms = asdict(replace(info.terms, space={}))
    terms["space"] = {name: to_plain(d) for name, d in info.terms.space.items()}
    return {
        "format": VERSION,
        "process": process_event(),
        **_environment(),
        "query": info.query,
        "sql": info.sql,
        "options": dict(info.options),
        "model_type": info.model_type,
        "seed": info.seed,
        "tuned": list(info.tuned),
        "earlier": [asdict(e) for e in info.earlier],
        "or_replace": info.or_replace,
        "if_not_exists": info.if_not_exists,
        "terms": terms,
        "parameters": {name: _encoded(value) for name, value in info.parameters.items()},
        "procedure": search.procedure if isinstance(search, Search) else "",
        "metric": search.metric,
        "functions": Networks(info.python_modules).digests(functions_of(search.fits)),
    }


def _environment() -> dict[str, str]:
    return {
        "code": f"gradbase {__version__}, torch {torch.__version__}",
        "processor": torch.backends.cpu.get_cpu_capability(),
    }


def _encoded(value: Any) -> Any:
    """A parameter of a statement as JSON: what JSON has not as an object of its type and text."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_encoded(v) for v in value]  # pyright: ignore[reportUnknownVariableType]
    for name, kind in _TYPES.items():
        if type(value) is kind:
            return {name: str(value)}
    raise UnsupportedError(
        f"a parameter of type {type(value).__name__} cannot be kept with the search",
        hint="give a number, a text, a boolean, a date, a time or a decimal",
    )


def _decoded(plain: Any) -> Any:
    if isinstance(plain, list):
        return [_decoded(v) for v in plain]  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(plain, dict):
        return plain
    [(name, text)] = plain.items()  # pyright: ignore[reportUnknownVariableType]
    kind: Any = _TYPES[name]
    return kind(text) if kind is Decimal else kind.fromisoformat(text)


@dataclass(frozen=True)
class Interrupted:
    """A run that stopped.

    Parameters
    ----------
    journal : Journal
        Open for appending.
    events : sequence of Event
        What it says so far.
    """

    journal: Journal
    events: Sequence[Event]

    @property
    def header(self) -> Event:
        """What it began with."""
        return self.events[0]

    def resumed(self) -> None:
        """Write down that it goes on in this process."""
        self.journal.append({"event": "resumed", "process": process_event()})

    @property
    def groups(self) -> FitGroups | None:
        """The plan of a run of one model per group; None of another."""
        event = next((e for e in self.events if e["event"] == "groups"), None)
        if event is None:
            return None
        found = parse_plan(event["plan"])
        assert isinstance(found, FitGroups), found
        return found

    def demand_functions(self, python_modules: Sequence[str]) -> None:
        """BindError where a function that it calls is not there, or not as it was."""
        Networks(python_modules).demand(self.header.get("functions", {}))

    @property
    def rounds(self) -> list[Event]:
        """Its rounds, the last of which may not be over, and the trials that users added."""
        return [e for e in self.events if e["event"] in ("round", "added")]

    @property
    def relation_hash(self) -> str:
        """Of the rows that it trains on; '' where it did not come to reading them."""
        return next((e["relation_hash"] for e in self.events if e["event"] == "data"), "")

    def search(self) -> Search:
        """Its first round, as it was planned.

        Raises
        ------
        StoreError
            It stopped before it had been planned, or another version wrote it.
        """
        if self.header.get("format") != VERSION or not self.rounds:
            raise StoreError(
                f"run {self.journal.run_id} holds nothing to go on with",
                hint="start the search again",
            )
        found = parse_plan(self.rounds[0]["plan"])
        assert isinstance(found, Search), found
        return found

    def info(self, python_modules: Sequence[str]) -> RunInfo:
        """What its record says about where it came from."""
        from gradbase.selection.run import RunInfo

        header = self.header
        terms: dict[str, Any] = {**header["terms"], "space": space_of(header["terms"], ())}
        return RunInfo(
            query=header["query"],
            sql=header["sql"],
            options=header["options"],
            model_type=header["model_type"],
            seed=header["seed"],
            tuned=tuple(header["tuned"]),
            earlier=tuple(EpochRecord(**e) for e in header["earlier"]),
            or_replace=header["or_replace"],
            if_not_exists=header["if_not_exists"],
            python_modules=python_modules,
            terms=Terms(**terms),
            parameters={name: _decoded(v) for name, v in header["parameters"].items()},
        )

    def differences(self) -> list[str]:
        """What is not as it was when it began, so that results may differ in their last bits."""
        now = _environment()
        return [f"{n} was {self.header[n]}, is {v}" for n, v in now.items() if self.header[n] != v]

    def outcomes(self, states: States) -> list[Outcome]:
        """What its trials had come to, as far as their states were saved."""
        found: dict[int, Outcome] = {}
        for event in self.rounds:
            plan = parse_plan(event["plan"])
            assert isinstance(plan, Search), plan
            for item in plan.trials:
                fused = isinstance(item, FusedFit)
                for fit in item.fits if isinstance(item, FusedFit) else (item,):
                    if fit.data.split.folds:
                        return []  # folds keep no states: they start again
                    outcome = found.setdefault(fit.trial, Outcome(fit, fused=fused))
                    outcome.fit = fit
        epochs, ends, stops = self._epochs(), self._ended("failed"), self._ended("stopped")
        again = {(e["trial"], e["epochs"]) for e in self.events if e["event"] == "continued"}
        for event in self.rounds:  # a clone that went on shares what its parent had done
            if event.get("from"):
                (parent, before), trial = event["from"], event["legs"][0]["trial"]
                epochs |= {(trial, e): epochs[parent, e] for e in range(before)}
        for trial, outcome in found.items():
            failure = ends.get(trial)
            at = states.position(trial)
            saved = at.epoch if at else _before(trial, self.rounds)
            reached = failure["epochs"] if failure else saved
            outcome.stop = trial in stops and stops[trial]["epochs"] == reached
            outcome.stop &= (trial, reached) not in again
            outcome.epochs = [epochs[trial, e] for e in range(reached)]
            outcome.until = reached
            if failure:
                outcome.status = FAILED
                outcome.error, outcome.traceback = failure.get("error"), failure.get("traceback")
        return list(found.values())

    def _epochs(self) -> dict[tuple[int, int], EpochRecord]:
        """By trial and epoch; what was trained twice is told the same twice."""
        return {
            (int(trial), event["epoch"]): EpochRecord(event["epoch"], **plain)
            for event in self.events
            if event["event"] == "epoch" and "fold" not in event
            for trial, plain in event["trials"].items()
        }

    def _ended(self, how: str) -> Mapping[int, Event]:
        """Trials that failed, or were stopped."""
        return {e["trial"]: e for e in self.events if e["event"] == how and "fold" not in e}


def _before(trial: int, rounds: Sequence[Event]) -> int:
    """Epochs that a clone has before its own first one."""
    return next(
        (e["from"][1] for e in rounds if e.get("from") and e["legs"][0]["trial"] == trial), 0
    )
