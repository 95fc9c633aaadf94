"""What is known of users' modules before a search's rows are read: they are built and tried out."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import torch

from gradbase.errors import GradbaseError
from gradbase.ir.facts import Pilot
from gradbase.ir.learning import Fit, PythonNetwork
from gradbase.ir.stepping import OWN_LOSS
from gradbase.resources.calibration import default_path
from gradbase.runtime import stacking
from gradbase.runtime.stacking.alike import likeness
from gradbase.runtime.stacking.pilot import pilot
from gradbase.runtime.train.module import make_optimizer
from gradbase.runtime.train.step_memory import module_memory
from gradbase.selection.networks import Networks
from gradbase.selection.tracing import training

_KEPT = 512
"""Answers that are kept."""
_BUILT = 3
"""Modules that are built for a pilot."""


class ModuleFacts:
    """See `ir.facts.Modules`. Thread-safe.

    Parameters
    ----------
    python_modules : sequence of str
        Modules whose functions may be called.
    """

    def __init__(self, python_modules: Sequence[str]) -> None:
        self._networks = Networks(python_modules)
        self._known: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.RLock()

    def likeness(self, fit: Fit, inputs: int, outputs: int) -> Hashable:
        """None also where a module cannot be built: training will say why."""
        key = ("likeness", fit.network, inputs, outputs)

        def look() -> Hashable:
            try:
                return likeness(self._module(fit, inputs, outputs))
            except GradbaseError:
                return None

        return self._once(key, look)

    def pilot(self, fits: Sequence[Fit], inputs: int, outputs: int) -> Pilot:
        """Source: own."""
        first = fits[0]
        alike = self.likeness(first, inputs, outputs)
        optimizer = (first.optimizer.name, bool(first.optimizer.momentum))
        key = ("pilot", alike, first.batch_size, first.loss, first.data.task, *optimizer)

        def look() -> Pilot:
            modules = [self._module(fit, inputs, outputs) for fit in fits[:_BUILT]]
            loss: Any = first.loss
            if loss.startswith(OWN_LOSS):
                loss = self._networks.loss(loss.removeprefix(OWN_LOSS))
            with training():
                return pilot(fits, modules, (inputs, outputs), loss)

        return self._once(key, lambda: _first_answer(key, look))

    def step_bytes(self, fit: Fit, inputs: int, outputs: int) -> int | None:
        """What a step of a user's module holds alone, None where that cannot be told."""
        found = module_memory(
            self._module(fit, inputs, outputs),
            lambda parameters: make_optimizer(fit.optimizer, parameters),
            inputs=inputs, task=fit.data.task, batch=fit.batch_size,
        )  # fmt: skip
        return found.peak if found else None

    def _module(self, fit: Fit, inputs: int, outputs: int) -> torch.nn.Module:
        assert isinstance(fit.network, PythonNetwork), fit.network
        return self._networks.build(fit.network, n_inputs=inputs, n_outputs=outputs, seed=fit.seed)

    def _once(self, key: Hashable, look: Callable[[], Any]) -> Any:
        with self._lock:
            if key not in self._known:
                self._known[key] = look()
                if len(self._known) > _KEPT:
                    self._known.popitem(last=False)
            return self._known[key]


def _first_answer(key: Hashable, look: Callable[[], Pilot]) -> Pilot:
    """What was measured first on this host, kept beside its calibration.

    A stack rounds differently from modules alone, so the choice between them may not follow how
    busy the machine is: a search that is repeated or resumed has to come to the same weights.
    """
    digest = hashlib.sha256(repr((torch.__version__, _sources(), key)).encode()).hexdigest()
    path = default_path().parent / "pilots" / f"{digest[:16]}.json"
    return _read(path) or _keep(path, look())


@functools.cache
def _sources() -> str:
    """Digest of what computes stacks: another version of it takes another time."""
    files = sorted(Path(stacking.__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()


def _read(path: Path) -> Pilot | None:
    try:
        return Pilot(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _keep(path: Path, found: Pilot) -> Pilot:
    """Write `found` unless another process was first; gives what is kept."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp") as file:
            file.write(json.dumps(dataclasses.asdict(found)))
            file.flush()
            os.link(file.name, path)
    return _read(path) or found
