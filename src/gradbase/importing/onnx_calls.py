"""One operator of an ONNX graph, and how its inputs and attributes are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gradbase.errors import UnsupportedError
from gradbase.importing.building import Builder, Size, Value
from gradbase.importing.files.graph import Step

Translator = Callable[["Call"], Any]


@dataclass(frozen=True)
class Call:
    """One operator of a graph: what builds it, its inputs (None: left out), its attributes."""

    b: Builder
    step: Step
    x: list[Value | None]
    version: int

    def attribute(self, name: str, otherwise: Any = None) -> Any:
        """An attribute's value, lists as lists."""
        found = self.step.attributes.get(name, otherwise)
        return found.tolist() if hasattr(found, "tolist") else found

    def has(self, place: int) -> bool:
        """Whether input `place` is given."""
        return place < len(self.x) and self.x[place] is not None

    def get(self, place: int) -> Value:
        """Input `place`."""
        found = self.x[place] if place < len(self.x) else None
        if found is None:
            raise UnsupportedError(f"input {place + 1} of {self.step.op} is left out")
        return found

    def numbers(self, name: str, place: int) -> list[int | Size] | None:
        """A list of integers: an attribute in old versions, an input in new ones."""
        if name in self.step.attributes:
            return self.attribute(name)
        return self.b.sizes(self.get(place)) if self.has(place) else None

    def number(self, name: str, place: int) -> float | None:
        """As `numbers`, one number."""
        if name in self.step.attributes:
            return self.attribute(name)
        return self.b.content(self.get(place)).reshape(-1)[0].item() if self.has(place) else None

    def axis(self, otherwise: int, name: str = "axis") -> int:
        """An axis, from 0."""
        axis = int(self.attribute(name, otherwise))
        return axis + self.get(0).rank if axis < 0 else axis


def size(x: Value, axis: int) -> int | Size:
    """A size of `x`."""
    a, b = (int(p.shape[axis]) for p in x.pair)
    return a if a == b else Size((a, b))
