"""Independent random draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradbase.errors import BindError
from gradbase.frontend.space import Dimension
from gradbase.selection.procedure import Configuration, EpochResult
from gradbase.selection.space import draw


class Random:
    """Each trial draws each dimension from that dimension's own stream.

    Source: Bergstra and Bengio 2012, section 2; the streams are our own.
    """

    def __init__(self, space: Mapping[str, Dimension], trials: int | None, seed: int) -> None:
        if trials is None and space:
            raise BindError(
                f"random search over {', '.join(space)} needs the number of trials",
                hint="set num_trials (SQL) or trials (Python)",
            )
        self.space, self.trials, self.seed = space, trials or 1, seed

    def configurations(self) -> list[Configuration]:
        return [
            {name: draw(d, name, self.seed, trial) for name, d in self.space.items()}
            for trial in range(1, self.trials + 1)
        ]

    def decide(self, results: Sequence[EpochResult]) -> frozenset[int]:
        return frozenset(r.trial for r in results)
