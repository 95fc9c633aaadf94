"""What operators really took, against what was expected of them.

A ratio for each operator moves towards what is measured: by a quarter of the difference (of the
logarithms) with each run. It stays within `MOST` both ways, fades by half in `FADES_S`, and of all
ratios the `KEPT` used last are kept. Runs shorter than `LEAST_S` tell nothing. Kept per host,
beside its calibration.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from gradbase.resources.calibration import default_path

LEAST_S = 0.02
"""Seconds that a run must have computed for its ratio to count."""
MOST = 4.0
KEPT = 512
INVESTED_S = 3.0
"""Seconds of an operator after which making something that is faster is worth as much."""
FORMULAS = 2
"""Grows when the formulas of cost do: ratios to what others expected mean nothing."""
FADES_S = 7 * 86_400.0
_STEP = 0.25


class History:
    """Ratios of measured to expected seconds, by operator. Thread-safe.

    Parameters
    ----------
    path : Path, optional
        Where they are kept; None: nowhere.
    now : callable
        Seconds since 1970.

    Examples
    --------
    >>> history = History(now=lambda: 0.0)
    >>> for _ in range(40):
    ...     history.observe("dl m", expected_s=0.1, measured_s=0.2)
    >>> round(history.ratio("dl m"), 2), history.ratio("udf m")
    (2.0, 1.0)
    """

    def __init__(self, path: Path | None = None, now: Callable[[], float] = time.time) -> None:
        self._path, self._now = path, now
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._changed = False
        self._told: dict[str, float] = {}
        self._spent: dict[str, float] = {}
        self.version = 0
        """Grows when a ratio has moved by about a quarter, or an operator has taken `INVESTED_S` in
        all: plans may be other ones now."""
        if path is not None:
            self._known.update(_read(path))

    def ratio(self, operator: str) -> float:
        """What expected seconds of an operator are to be multiplied by."""
        with self._lock:
            return math.exp(self._faded(operator))

    def spent(self, operator: str) -> float:
        """Seconds of an operator since this history was opened."""
        with self._lock:
            return self._spent.get(operator, 0.0)

    def observe(self, operator: str, *, expected_s: float, measured_s: float) -> None:
        """Learn from one run: what was expected without any correction, and what it took."""
        with self._lock:
            before_s = self._spent.get(operator, 0.0)
            self._spent[operator] = before_s + measured_s
            if before_s < INVESTED_S <= before_s + measured_s:
                self.version += 1
        if measured_s < LEAST_S or expected_s <= 0:
            return
        limit = math.log(MOST)
        found = max(-limit, min(limit, math.log(measured_s / expected_s)))
        with self._lock:
            before = self._faded(operator)
            after = before + _STEP * (found - before)
            if abs(after - self._told.get(operator, 0.0)) >= _STEP:
                self._told[operator] = after
                self.version += 1
            self._known[operator] = (after, self._now())
            self._known.move_to_end(operator)
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
            self._changed = True

    def save(self) -> None:
        """Write what was learnt; a file that cannot be written is no error."""
        with self._lock:
            if self._path is None or not self._changed:
                return
            text = json.dumps({"formulas": FORMULAS, "ratios": self._known}, indent=0)
            temporary = self._path.with_suffix(f".{os.getpid()}.tmp")
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                temporary.write_text(text)
                temporary.replace(self._path)
            except OSError:
                return
            self._changed = False

    def _faded(self, operator: str) -> float:
        value, at = self._known.get(operator, (0.0, 0.0))
        return value * 0.5 ** (max(self._now() - at, 0.0) / FADES_S)


def default_history() -> History:
    """What this host knows, beside its calibration."""
    return History(default_path().with_name("history.json"))


def _read(path: Path) -> dict[str, tuple[float, float]]:
    """What the file says; nothing where it is missing, damaged, or of other formulas."""
    try:
        found = json.loads(path.read_text())
        if found["formulas"] != FORMULAS:
            return {}
        return {str(k): (float(v), float(at)) for k, (v, at) in found["ratios"].items()}
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return {}
