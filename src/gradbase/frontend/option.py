"""What is known of one option of CREATE MODEL."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Option:
    """One option.

    Parameters
    ----------
    name, field : str
        Its name in SQL, and the field of TrainingSpec that it sets.
    kind : str
        text, int, float, bool, names (a list of column names), layers (a list of sizes),
        class_weights (a list of structs), or choice (one of `values`).
    default : object
        As documented; TrainingSpec holds the same.
    low, high : float
        Allowed range of a number; `open_low`/`open_high`: the end itself is not allowed.
    prefix : str or tuple of str
        Of an address or a function that a choice may be instead of one of its `values`.
    search : str
        '' (not searched), candidates, linear or log: what HPARAM_RANGE and _CANDIDATES may do.
    models : tuple of str
        The model types that know the option; ``python`` stands for every ``python:`` model. ():
        every one that takes steps.
    """

    name: str
    field: str
    kind: str
    default: object
    doc: str
    aliases: tuple[str, ...] = ()
    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    values: tuple[str, ...] = ()
    synonyms: tuple[tuple[str, str], ...] = ()
    refused: tuple[tuple[str, str], ...] = ()
    prefix: str | tuple[str, ...] = ""
    search: str = ""
    models: tuple[str, ...] = ()

    def takes(self, word: str) -> bool:
        """Whether a choice may be `word`."""
        return word in self.values or bool(self.prefix and word.startswith(self.prefix))
