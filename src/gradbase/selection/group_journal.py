"""The journal of one model per group: which stacks have been trained, and what came of them."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import threading
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from gradbase.errors import DataError, StoreError
from gradbase.ir.grouping import FitGroups
from gradbase.ir.printer import print_plan
from gradbase.runtime.groups.keys import GroupKeys
from gradbase.runtime.groups.member import Member, State
from gradbase.selection.configuring import configuration_of
from gradbase.selection.resuming import Interrupted, header_of
from gradbase.store.files import make_folder, write_files
from gradbase.store.records import FAILED, STOPPED, SUCCEEDED
from gradbase.store.runs import STATES

if TYPE_CHECKING:
    from gradbase.selection.run import RunInfo
    from gradbase.store import Store
    from gradbase.store.journal import Journal

log = logging.getLogger("gradbase.selection")

PAUSED = "PAUSED"
"""Of a trial between two rounds of its group's search."""
_ONLY_STOP = "one model per group takes the message stop only"
_LAYER, _STATE = "layer.", "state."
_LISTS = ("train_losses", "eval_losses", "seconds")
_ARRAYS = ("outputs", "tested")
Pairs = Sequence[tuple[int, Member]]


class GroupJournal:
    """What is on disk of a training; thread-safe.

    Each stack whose leg has ended is a file of its own, so what a process that is killed loses is
    the stacks that it was at. Searches go on from the states in these files, read when a stack
    begins.

    Parameters
    ----------
    interrupted : Interrupted, optional
        The run that is gone on with.
    """

    def __init__(
        self, plan: FitGroups, store: Store, info: RunInfo, interrupted: Interrupted | None = None
    ) -> None:
        self.plan, self.store, self.interrupted = plan, store, interrupted
        self._tuned = info.tuned
        if interrupted is None:
            self.journal: Journal = store.start_run(plan.name, header_of(plan, info))
            self.journal.append({"event": "groups", "plan": print_plan(plan)})
        else:
            self.journal = interrupted.journal
            interrupted.resumed()
        self._folder = self.journal.path.parent / STATES
        files = sorted(self._folder.glob("*.safetensors"))
        self._numbers = itertools.count(1 + max((int(f.stem) for f in files), default=-1))
        self._lock = threading.Lock()
        self._legs = {leg: file for file in files for leg in _legs_of(file)}

    def check_rows(self, relation_hash: str) -> None:
        """A run goes on only with the rows that it began with."""
        self.journal.append({"event": "data", "relation_hash": relation_hash, "seconds": 0.0})
        if self.interrupted and self.interrupted.relation_hash not in ("", relation_hash):
            raise DataError(
                f"the rows of the training query of `{self.plan.name}` have changed since run "
                f"{self.journal.run_id} began",
                hint="start the search again",
            )

    def begin(self, pairs: Pairs, keys: GroupKeys) -> None:
        """A round begins: which trials have something to do, of which groups."""
        values = [*keys.values, (None,) * len(keys.names)]  # the last: over all groups
        told = {
            trial: dict(zip(keys.names, values[member.group.number], strict=True))
            | configuration_of(member.fit, self._tuned)
            for trial, member in pairs
        }
        self.journal.append({"event": "begun", "trials": told})

    def restore(self, pairs: Pairs) -> list[tuple[int, Member]]:
        """Fill in members whose legs had ended; the others are left to be trained."""
        by_file: dict[Path, dict[int, Member]] = {}
        for trial, member in pairs:
            file = self._legs.get((trial, member.until))
            if file is not None:
                by_file.setdefault(file, {})[trial] = member
        for file, members in by_file.items():
            with _opened(file) as content:
                for trial, member in members.items():
                    _fill(member, content.of_trial(trial))
                    member.error, member.traceback, member.stop = content.ends[str(trial)]
        restored = {trial for members in by_file.values() for trial in members}
        return [(trial, member) for trial, member in pairs if trial not in restored]

    def load_states(self, members: Sequence[Member]) -> None:
        """Where the legs of members begin that go on."""
        by_file: dict[Path, list[Member]] = {}
        for member in members:
            if member.start:
                by_file.setdefault(self._legs[member.start, member.epochs], []).append(member)
        for file, mine in by_file.items():
            with _opened(file) as content:
                for member in mine:
                    own = content.of_trial(member.start)
                    rows = {n[len(_STATE) :]: t for n, t in own.items() if n.startswith(_STATE)}
                    member.state = State(content.steps[str(member.start)], rows)

    def save(self, pairs: Pairs) -> None:
        """Members whose legs have ended, on disk when this returns; their states only there."""
        tensors: dict[str, torch.Tensor] = {}
        steps: dict[int, int] = {}
        for trial, member in pairs:
            tensors |= {f"{trial}/{name}": t for name, t in _tensors(member).items()}
            if member.state:
                steps[trial], member.state = member.state.steps, None
        ends = {t: (m.error, m.traceback, m.stop) for t, m in pairs}
        legs = [(trial, member.until) for trial, member in pairs]
        facts = {"legs": legs, "ends": ends, "steps": steps}
        data = safetensors.torch.save(tensors, {n: json.dumps(f) for n, f in facts.items()})
        with self._lock:
            make_folder(self._folder)
            path = self._folder / f"{next(self._numbers):08d}.safetensors"
            write_files([(path, memoryview(data))], self.journal.path.parent)
            self.journal.append({"event": "stack", "trials": {t: _told(m) for t, m in pairs}})
            self._legs |= dict.fromkeys(legs, path)

    def stopped(self, members: Mapping[int, Member], cancelled: threading.Event) -> list[int]:
        """The trials that users want to end; `cancelled` is set where it is all of them.

        What else they ask for cannot be done: the log and the journal say so.
        """
        found: list[int] = []
        for message in self.journal.take():
            trials = message.get("trials", [])
            unknown = [t for t in trials if t not in members]
            if message["command"] != "stop" or unknown:
                reason = f"there is no trial {unknown[0]}" if unknown else _ONLY_STOP
                log.warning("message %s: %s", message, reason)
                self.journal.append({"event": "refused", "message": message, "reason": reason})
                continue
            if not trials:
                cancelled.set()
            found += trials
        return found

    def end(self, status: str, version: int | None = None, error: str | None = None) -> None:
        """The training has ended, or was interrupted."""
        self.store.finish_run(self.journal, status, version, error)
        if status == "DONE":
            self.store.runs.drop_states(self.plan.name)


def _told(member: Member) -> dict[str, Any]:
    """What the journal says of a member."""
    status = FAILED if member.error else STOPPED if member.stop else SUCCEEDED
    paused = status == SUCCEEDED and not member.has_ended
    return {
        "epochs": member.epochs,
        "train_loss": member.train_losses[-1] if member.train_losses else None,
        "eval_loss": member.eval_losses[-1] if member.eval_losses else None,
        "status": PAUSED if paused else status,
    }


def _tensors(member: Member) -> dict[str, torch.Tensor]:
    """All that is kept of a member, by name."""
    found = {f"{_LAYER}{i}": w.contiguous() for i, w in enumerate(member.layers)}
    lists = {n: np.array(getattr(member, n), np.float64) for n in _LISTS}
    arrays = {n: a for n in _ARRAYS if (a := getattr(member, n)) is not None}
    for name, array in {**lists, **arrays}.items():
        found[name] = torch.from_numpy(np.ascontiguousarray(array))
    if member.state:
        found |= {f"{_STATE}{n}": row for n, row in member.state.rows.items()}
    return found


def _fill(member: Member, own: Mapping[str, torch.Tensor]) -> None:
    """Inverse of `_tensors`, but for the state."""
    layers = sorted(int(n[len(_LAYER) :]) for n in own if n.startswith(_LAYER))
    member.layers = [own[f"{_LAYER}{i}"] for i in layers]
    for name in _LISTS:
        setattr(member, name, own[name].tolist())
    for name in _ARRAYS:
        setattr(member, name, own[name].numpy() if name in own else None)


def _legs_of(path: Path) -> list[tuple[int, int]]:
    with _opened(path) as content:
        return [(trial, until) for trial, until in content.legs]


@dataclass(frozen=True)
class _Content:
    """An open file: the names of each trial's tensors, and what is said of its legs."""

    file: Any
    by_trial: Mapping[str, list[str]]
    legs: list[tuple[int, int]]
    ends: Mapping[str, tuple[str, str | None, bool]]
    steps: Mapping[str, int]

    def of_trial(self, trial: int) -> dict[str, torch.Tensor]:
        names = self.by_trial.get(str(trial), [])
        return {n.partition("/")[2]: self.file.get_tensor(n) for n in names}


@contextlib.contextmanager
def _opened(path: Path) -> Generator[_Content]:
    try:
        with safetensors.safe_open(path, "pt") as file:
            facts = {n: json.loads(text) for n, text in (file.metadata() or {}).items()}
            by_trial: dict[str, list[str]] = {}
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                by_trial.setdefault(name.partition("/")[0], []).append(name)
            yield _Content(file, by_trial, facts["legs"], facts["ends"], facts["steps"])
    except (OSError, safetensors.SafetensorError, KeyError, ValueError) as error:
        raise StoreError(
            f"the training state {path} is damaged",
            hint="delete the file: its groups are trained again",
        ) from error
