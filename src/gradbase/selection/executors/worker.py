"""What a worker does with a message, wherever it runs: bytes in, bytes out."""

from __future__ import annotations

import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gradbase.errors import InternalError
from gradbase.frontend.torch_export import Exporter
from gradbase.ir.learning import Fit, FusedFit
from gradbase.ir.parser import parse_plan
from gradbase.runtime.train.replicas import Gloo, TeamLost
from gradbase.runtime.train.sharded import ShardedData
from gradbase.runtime.train.trainer import Trainer, make_trainer
from gradbase.selection.executors.messages import (
    Message,
    by_place,
    pack,
    prefixed,
    told,
    unpack,
)
from gradbase.selection.executors.supplying import Absent, Supplied
from gradbase.selection.executors.versions import check_same
from gradbase.selection.networks import Networks
from gradbase.store.records import Scores

KEPT_TRAINERS = 16
"""Groups whose trainer a worker keeps: one that comes back need not be built again, nor bring its
states where it was nowhere else."""
MISSING = {"missing": True}
"""The answer where the state of a trial is not here any more."""


class Worker:
    """Trains units and validates; knows nothing of the search around them."""

    def __init__(self) -> None:
        self._rows = Supplied()
        self._teams: dict[str, Gloo] = {}
        self._trainers: OrderedDict[int, tuple[int, Trainer]] = OrderedDict()
        self._networks = Networks()
        self._cache_bytes = 0
        self._exporter = Exporter()

    def handle(self, data: bytes) -> bytes:
        """Do what a message says; errors are answers too."""
        try:
            message, tensors = unpack(data)
            tensors = self._rows.take(message, tensors)
            does: dict[str, Callable[[Message, dict[str, Tensor]], bytes]] = {
                "hello": self._hello, "unit": self._unit, "evaluate": self._evaluate,
                "counts": self._counts,
            }  # fmt: skip
            return does[message["do"]](message, tensors)
        except Absent as absent:
            return pack({"absent": absent.names})
        except TeamLost as lost:
            self._teams.clear()
            return pack({"left": str(lost)})
        except Exception as error:  # noqa: BLE001 (told to the search, which decides)
            return pack({"error": told(error)})

    def _hello(self, message: Message, _tensors: dict[str, Tensor]) -> bytes:
        check_same(message["versions"])
        sys.path[:] = [*sys.path, *(p for p in message["path"] if p not in sys.path)]
        self._networks = Networks(message["modules"])
        self._networks.take(message["functions"])
        self._cache_bytes = message["cache_bytes"]
        torch.set_num_threads(message["threads"])
        return pack({"ok": True})

    # -- units -------------------------------------------------------------------------------------

    def _unit(self, message: Message, tensors: dict[str, Tensor]) -> bytes:
        started = time.perf_counter()
        trainer = self._trainer(message, tensors)
        if trainer is None:
            return pack(MISSING)
        self._check(message, trainer, [f"shard-{message['shard']}"])
        if "team" in message:
            trainer.join(self._team(message["team"]))
        del self._trainers[message["group"]]  # what a unit that fails leaves behind is no state
        built, read = time.perf_counter(), trainer.data.read_s
        losses = trainer.run_unit(message["epoch"], message["shard"])
        ended, decoded = time.perf_counter(), trainer.data.read_s - read
        self._trainers[message["group"]] = (message["next"], trainer)
        leads = message.get("team", {}).get("rank", 0) == 0  # the others come to the same
        states = {p: trainer.state(p) for p in trainer.active} if leads else {}
        seconds = {
            "build": built - started,
            "hop": time.perf_counter() - ended,
            "decode": decoded,
            "train": ended - built - decoded,
        }
        return self._answer(trainer, {"losses": losses, "seconds": seconds}, prefixed(states))

    def _team(self, asked: Message) -> Gloo:
        """The team that a message names; one at a time."""
        found = self._teams.get(asked["name"])
        if found is None or found.rank != asked["rank"]:
            self._teams.clear()
            found = Gloo(
                asked["host"], asked["port"], asked["name"], rank=asked["rank"], size=asked["size"]
            )
            self._teams[asked["name"]] = found
        return found

    def _evaluate(self, message: Message, tensors: dict[str, Tensor]) -> bytes:
        trainer = self._trainer(message, tensors)
        if trainer is None:
            return pack(MISSING)
        started = time.perf_counter()
        self._check(message, trainer, [message["part"]])
        results = trainer.evaluate(message["part"])
        seconds = {"validate": time.perf_counter() - started}
        return self._answer(trainer, {"results": results, "seconds": seconds}, {})

    def _counts(self, message: Message, tensors: dict[str, Tensor]) -> bytes:
        trainer = self._trainer(message, tensors)
        if trainer is None:
            return pack(MISSING)
        place = message["place"]
        if not trainer.is_measured(place):
            self._check(message, trainer, [message["part"]])
            trainer.evaluate(message["part"])
        found = trainer.counts(place)
        if found is None:
            return pack({"kind": ""})
        arrays = found._asdict() if isinstance(found, Scores) else {"counts": found}
        kind = "scores" if isinstance(found, Scores) else "counts"
        return pack({"kind": kind}, {n: torch.as_tensor(a) for n, a in arrays.items()})

    def _check(self, message: Message, trainer: Trainer, parts: list[str]) -> None:
        """Absent where rows are not here; nothing was done yet then."""
        assert isinstance(trainer.data, ShardedData)
        self._rows.check(message, trainer.data, parts)

    def _answer(self, trainer: Trainer, message: Message, tensors: dict[str, Tensor]) -> bytes:
        failed = {place: told(error) for place, error in trainer.failed.items()}
        return pack({**message, "failed": failed}, tensors)

    # -- trainers ----------------------------------------------------------------------------------

    def _trainer(self, message: Message, tensors: dict[str, Tensor]) -> Trainer | None:
        """The trainer of a message's group with the state that the message means."""
        group, version = message["group"], message["version"]
        kept = self._trainers.get(group)
        if kept is not None and kept[0] == version:
            trainer = kept[1]
        elif "item" not in message:
            return None
        else:
            same = kept is not None and set(kept[1].active) == set(message["active"])
            trainer = kept[1] if kept is not None and same and tensors else self._built(message)
            for place, state in by_place(tensors).items():
                trainer.load_state(place, state)
        for place in trainer.active:
            if place not in message["active"]:
                trainer.drop(place)
        self._trainers[group] = (version, trainer)
        self._trainers.move_to_end(group)
        while len(self._trainers) > KEPT_TRAINERS:
            self._trainers.popitem(last=False)
        return trainer

    def _built(self, message: Message) -> Trainer:
        item: Any = parse_plan(message["item"])
        if not isinstance(item, Fit | FusedFit):
            raise InternalError(f"a worker was asked to train {type(item).__name__}")
        data = self._rows.opened(message, self._cache_bytes)
        trainer = make_trainer(
            item, data, self._networks, threads=message["threads"], exporter=self._exporter
        )
        if message["parts"] > 1:
            trainer.cut_batches(message["parts"])
        if message["limit"]:
            trainer.keep_within(message["limit"], Path(message["folder"]))
        return trainer
