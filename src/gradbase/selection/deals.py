"""The rows of a search: read once, dealt out for each of its datasets when a group needs them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from gradbase.frontend.option_table import NORMAL_EQUATION
from gradbase.ir.learning import Dataset, Fit, FusedFit, Mlp, PythonNetwork, Search
from gradbase.runtime.train.data import TrainingData
from gradbase.runtime.train.prepare import Preparation
from gradbase.selection.folds import on_all_rows

if TYPE_CHECKING:
    from gradbase.runtime.context import RunContext
    from gradbase.runtime.train.reading import Progress


def dataset_of(item: Fit | FusedFit) -> Dataset:
    """What a group trains on."""
    return item.fits[0].data if isinstance(item, FusedFit) else item.data


def read(search: Search, context: RunContext, progress: Progress) -> Deals:
    """Read the rows of a search.

    Every group takes its dataset once; the run takes the first one and, with folds, that of all
    rows, which one more group takes.
    """
    fits = search.fits
    first = fits[0].data
    uses = [dataset_of(item) for item in search.trials] + [first]
    if first.split.folds:
        uses += [on_all_rows(first)] * 2
    preparation = Preparation(
        first,
        context,
        progress,
        embeddings=not any(_one_hot_only(f) for f in fits),
        centred=all(_has_intercept(f) for f in fits),
        at_once=min(first.split.folds, search.workers) + 1,
        start=fits[0].start,
    )
    return Deals(preparation, uses)


def _one_hot_only(fit: Fit) -> bool:
    """Whether a fit's network cannot learn embeddings."""
    return isinstance(fit.network, PythonNetwork) or fit.optimizer.name == NORMAL_EQUATION


def _has_intercept(fit: Fit) -> bool:
    """Whether a fit's network has a constant term."""
    return not isinstance(fit.network, Mlp) or fit.network.intercept


class Deals:
    """Makes `TrainingData` at first use and frees it after the last. Thread-safe.

    Parameters
    ----------
    preparation : Preparation
        Closed once every dataset has been dealt.
    uses : iterable of Dataset
        A dataset as often as it will be taken.
    """

    def __init__(self, preparation: Preparation, uses: Iterable[Dataset]) -> None:
        self._preparation = preparation
        self._left = Counter(uses)
        self._waiting = set(self._left)
        self._dealt: dict[Dataset, TrainingData] = {}
        self._lock = threading.Lock()

    def take(self, data: Dataset) -> TrainingData:
        """The rows as `data` deals them out; give them back afterwards."""
        with self._lock:
            found = self._dealt.get(data)
            if found is None:
                found = self._dealt[data] = self._preparation.deal(data)
                self._waiting.discard(data)
                if not self._waiting:
                    self._preparation.close()
            return found

    def give_back(self, data: Dataset) -> None:
        """One use is over."""
        with self._lock:
            self._left[data] -= 1
            if not self._left[data]:
                self._dealt.pop(data).close()

    def close(self) -> None:
        """Free everything, whoever still uses it."""
        with self._lock:
            for found in self._dealt.values():
                found.close()
            self._dealt.clear()
            self._preparation.close()
