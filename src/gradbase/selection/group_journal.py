"""The journal of one model per group: which stacks have been trained, and what came of them."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from gradbase.errors import DataError, StoreError
from gradbase.ir.grouping import FitGroups
from gradbase.ir.printer import print_plan
from gradbase.runtime.groups.stack import Member
from gradbase.selection.resuming import Interrupted, header_of
from gradbase.store.files import make_folder, write_files
from gradbase.store.records import FAILED, SUCCEEDED
from gradbase.store.runs import STATES

if TYPE_CHECKING:
    from gradbase.selection.run import RunInfo
    from gradbase.store import Store
    from gradbase.store.journal import Journal

_LISTS = ("train_losses", "eval_losses", "seconds")
_ARRAYS = ("outputs", "tested")
Pairs = Sequence[tuple[int, Member]]


class GroupJournal:
    """What is on disk of a training; thread-safe.

    Each stack that has ended is a file of its own, so what a process that is killed loses is the
    stacks that it was at.

    Parameters
    ----------
    interrupted : Interrupted, optional
        The run that is gone on with.
    """

    def __init__(
        self, plan: FitGroups, store: Store, info: RunInfo, interrupted: Interrupted | None = None
    ) -> None:
        self.plan, self.store, self.interrupted = plan, store, interrupted
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
        self._files = files

    def check_rows(self, relation_hash: str) -> None:
        """A run goes on only with the rows that it began with."""
        self.journal.append({"event": "data", "relation_hash": relation_hash, "seconds": 0.0})
        if self.interrupted and self.interrupted.relation_hash not in ("", relation_hash):
            raise DataError(
                f"the rows of the training query of `{self.plan.name}` have changed since run "
                f"{self.journal.run_id} began",
                hint="start the search again",
            )

    def restore(self, pairs: Pairs) -> list[tuple[int, Member]]:
        """Fill in members that had ended; the others are left to be trained."""
        by_trial = dict(pairs)
        for file in self._files:
            for trial in _read(file, by_trial):
                by_trial.pop(trial, None)
        return [(trial, by_trial[trial]) for trial, _ in pairs if trial in by_trial]

    def save(self, pairs: Pairs) -> None:
        """Members that have ended, on disk when this returns."""
        tensors: dict[str, torch.Tensor] = {}
        for trial, member in pairs:
            tensors |= {f"{trial}/layer.{i}": w.contiguous() for i, w in enumerate(member.layers)}
            lists = {n: np.array(getattr(member, n), np.float64) for n in _LISTS}
            arrays = {n: a for n in _ARRAYS if (a := getattr(member, n)) is not None}
            found = {**lists, **arrays}.items()
            tensors |= {f"{trial}/{n}": torch.from_numpy(np.ascontiguousarray(a)) for n, a in found}
        errors = {str(trial): member.error for trial, member in pairs}
        data = safetensors.torch.save(tensors, {"errors": json.dumps(errors)})
        with self._lock:
            make_folder(self._folder)
            path = self._folder / f"{next(self._numbers):08d}.safetensors"
            write_files([(path, memoryview(data))], self.journal.path.parent)
            self.journal.append({"event": "stack", "trials": {t: _told(m) for t, m in pairs}})

    def end(self, status: str, version: int | None = None, error: str | None = None) -> None:
        """The training has ended, or was interrupted."""
        self.store.finish_run(self.journal, status, version, error)
        if status == "DONE":
            self.store.runs.drop_states(self.plan.name)


def _told(member: Member) -> dict[str, Any]:
    """What the journal says of a member."""
    return {
        "epochs": len(member.train_losses),
        "train_loss": member.train_losses[-1] if member.train_losses else None,
        "eval_loss": member.eval_losses[-1] if member.eval_losses else None,
        "status": FAILED if member.error else SUCCEEDED,
    }


def _read(path: Path, members: dict[int, Member]) -> list[int]:
    """Fill in what a file has of `members`; the trials that it has."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            errors: dict[str, str] = json.loads((file.metadata() or {})["errors"])
            names = list(file.keys())
            for trial, error in errors.items():
                member = members.get(int(trial))
                if member is None:
                    continue
                own = {
                    n.partition("/")[2]: file.get_tensor(n)
                    for n in names
                    if n.startswith(f"{trial}/")
                }
                member.error = error
                layers = sorted(int(n[6:]) for n in own if n.startswith("layer."))
                member.layers = [own[f"layer.{i}"] for i in layers]
                for name in _LISTS:
                    setattr(member, name, own[name].tolist())
                for name in _ARRAYS:
                    setattr(member, name, own[name].numpy() if name in own else None)
            return [int(trial) for trial in errors]
    except (OSError, safetensors.SafetensorError, KeyError, ValueError) as error:
        raise StoreError(
            f"the training state {path} is damaged",
            hint="delete the file: its groups are trained again",
        ) from error
