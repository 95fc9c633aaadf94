"""The rows of a search: read once, dealt out for each of its datasets when a group needs them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from gradbase.frontend.option_table import NORMAL_EQUATION
from gradbase.ir.learning import Dataset, Fit, Mlp, PythonNetwork, Search
from gradbase.ir.networks import Autoencoder
from gradbase.runtime.train.data import TrainingData
from gradbase.runtime.train.prepare import Preparation
from gradbase.selection.folds import on_all_rows

if TYPE_CHECKING:
    from gradbase.runtime.context import RunContext
    from gradbase.runtime.train.reading import Progress


def read(search: Search, context: RunContext, progress: Progress) -> Deals:
    """Read the rows of a search.

    Who takes a dataset says so before, see `Deals.expect`.
    """
    fits = search.fits
    first = fits[0].data
    datasets = {fit.data for fit in fits}
    if first.split.folds:
        datasets.add(on_all_rows(first))
    preparation = Preparation(
        first,
        context,
        progress,
        embeddings=not any(_one_hot_only(f) for f in fits),
        centred=all(_has_intercept(f) for f in fits),
        at_once=min(first.split.folds, search.workers) + 1,
        start=fits[0].start,
    )
    return Deals(preparation, datasets)


def _one_hot_only(fit: Fit) -> bool:
    """Whether a fit's network cannot learn embeddings."""
    return (
        isinstance(fit.network, PythonNetwork | Autoencoder)
        or fit.optimizer.name == NORMAL_EQUATION
    )


def _has_intercept(fit: Fit) -> bool:
    """Whether a fit's network has a constant term."""
    return not isinstance(fit.network, Mlp) or fit.network.intercept


class Deals:
    """Makes `TrainingData` at first use and frees it after the last. Thread-safe.

    Parameters
    ----------
    preparation : Preparation
        Closed once every dataset has been dealt.
    datasets : iterable of Dataset
        All that will be taken.
    """

    def __init__(self, preparation: Preparation, datasets: Iterable[Dataset]) -> None:
        self._preparation = preparation
        self._left: Counter[Dataset] = Counter()
        self._waiting = set(datasets)
        self._dealt: dict[Dataset, TrainingData] = {}
        self._lock = threading.Lock()

    def expect(self, uses: Iterable[Dataset]) -> None:
        """A dataset stays until it has been given back as often as it is named here."""
        with self._lock:
            self._left.update(uses)

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
