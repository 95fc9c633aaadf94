"""What a rule is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gradbase.ir.facts import EXACTNESS
from gradbase.ir.node import Node
from gradbase.optimizer.context import Context

Rewrite = Callable[[Node, Context], Node | None]


@dataclass(frozen=True)
class Rule:
    """A named rewrite of one node.

    Parameters
    ----------
    name : str
        That of its function and file.
    rewrite : callable
        ``node, context -> node``, None where the rule does not apply. It never recurses.
    exactness : str
        How far results may move: ``bitwise``, ``tolerance`` or ``approximate``.
    requires : tuple of str
        Rules that must have had their turn before.
    mandatory : bool
        Whether it runs with the optimiser off, and cannot be disabled.
    source : str
        Where the idea is from.
    """

    name: str
    rewrite: Rewrite
    exactness: str
    requires: tuple[str, ...]
    mandatory: bool
    source: str

    @property
    def doc(self) -> str:
        """What the rule does, and when."""
        return self.rewrite.__doc__ or ""

    def allowed(self, exactness: str) -> bool:
        """Whether a plan that may be as loose as `exactness` may use the rule."""
        return EXACTNESS.index(self.exactness) <= EXACTNESS.index(exactness)


def rule(
    *,
    exactness: str = "bitwise",
    requires: tuple[str, ...] = (),
    mandatory: bool = False,
    source: str = "own",
) -> Callable[[Rewrite], Rule]:
    """Make a rule of a function ``node, context -> node | None``."""

    def made(rewrite: Rewrite) -> Rule:
        return Rule(rewrite.__name__, rewrite, exactness, requires, mandatory, source)

    return made
