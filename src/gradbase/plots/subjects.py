"""What pictures are of: values, gathered by whoever asks for a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


class Search(Protocol):
    """A search that has ended; a `Study` is one."""

    @property
    def name(self) -> str:
        """The model's name."""
        ...

    @property
    def metric(self) -> str:
        """What the trials were compared by."""
        ...

    @property
    def best_trial(self) -> int: ...

    @property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """One per trial: see `Study.trials`."""
        ...

    @property
    def curves(self) -> Sequence[Mapping[str, Any]]:
        """One per trial and epoch: see `Study.curves`."""
        ...

    @property
    def scales(self) -> Mapping[str, str]:
        """``choice``, ``linear`` or ``log`` for each hyper-parameter searched over."""
        ...

    @property
    def importance(self) -> Mapping[str, float]:
        """Share of each hyper-parameter in what makes a trial good, largest first."""
        ...


@dataclass(frozen=True)
class Classified:
    """Rows, counted by what a classifier said of them.

    Parameters
    ----------
    model : str
        As it stands in the title.
    label : str
    of : str
        Which rows: ``evaluation rows``, …
    classes : sequence of str
        For two, the second is the positive one.
    probability : float64[k, classes]
        What was said.
    cases : int64[k, classes]
        How many rows of each class it was said of.
    """

    model: str
    label: str
    of: str
    classes: Sequence[str]
    probability: Floats
    cases: Counts


@dataclass(frozen=True)
class Confusion:
    """Rows by actual class (first axis of `counts`) and predicted class (second axis)."""

    model: str
    label: str
    of: str
    classes: Sequence[str]
    counts: Counts


@dataclass(frozen=True)
class Regressed:
    """Rows with an actual and a predicted value, float64[n] each, in units of the label."""

    model: str
    label: str
    of: str
    actual: Floats
    predicted: Floats


@dataclass(frozen=True)
class Weighed:
    """Weights of a linear model by input, in `unit`."""

    model: str
    unit: str
    names: Sequence[str]
    weights: Floats
