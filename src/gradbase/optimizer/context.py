"""What rules may ask while a plan is optimised."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from gradbase.ir.facts import Capabilities, Modules, Pilot, Settings, Statistics, Weights
from gradbase.ir.learning import Dataset, Fit, Model
from gradbase.ir.node import Node
from gradbase.ir.relational import Relation
from gradbase.resources.calibration import Calibration
from gradbase.resources.history import History

_INTERNAL = re.compile(r"__gb_(\d+)\Z")


@dataclass(frozen=True)
class Estimate:
    """What an operator is expected to do, without its inputs.

    Parameters
    ----------
    rows : float
        Rows it gives.
    bytes : float, bytes
        Size of these rows.
    flops : float
        Floating-point operations.
    seconds : float, seconds
    """

    rows: float
    bytes: float
    flops: float
    seconds: float


@dataclass(frozen=True)
class Alternative:
    """A way to run an operator and the seconds it is expected to take."""

    what: str
    seconds: float


@dataclass(frozen=True)
class Choice:
    """What was chosen for an operator, why, and what else there was."""

    chosen: str
    reason: str
    alternatives: tuple[Alternative, ...] = ()
    details: tuple[str, ...] = ()
    """More lines about what was chosen."""


@dataclass
class Context:
    """Facts, settings and notes of one optimisation.

    Parameters
    ----------
    statistics : Statistics
        Rows and values of tables.
    calibration : Calibration
        Speeds of this machine.
    capabilities : Capabilities
        What the engine can do.
    settings : Settings
    encoded_width : callable, optional
        Columns of a dataset's features once encoded; estimated from types where missing.
    module_bytes : callable, optional
        Bytes that a step of a user's module holds, by (fit, inputs, outputs); None: unknown.
    """

    statistics: Statistics
    calibration: Calibration
    capabilities: Capabilities
    settings: Settings
    encoded_width: Callable[[Dataset], int] | None = None
    module_bytes: Callable[[Fit, int, int], int | None] | None = None
    weights: Weights | None = None
    """What weights say; None: nobody looks into them."""
    modules: Modules | None = None
    """What is known of users' modules; without it they train alone."""
    pilots: dict[object, Pilot] = field(default_factory=dict[object, Pilot])
    """Minibatches of users' modules, by the key of fits that may train together."""
    memory_bytes: int = 1 << 40
    """What statements may use together: what the engine's buffer pool leaves of the limit."""
    history: History = field(default_factory=History)
    """How long operators took, against what was expected."""
    is_loaded: Callable[[Model, str], bool] = lambda _model, _representation: True
    """Whether a model's weights are in memory as a representation needs them."""
    choices: dict[Node, Choice] = field(default_factory=dict[Node, Choice])
    estimates: dict[Node, Estimate] = field(default_factory=dict[Node, Estimate])
    placed: set[Node] = field(default_factory=set[Node])
    """Operators for which `place_preprocessing` has decided."""
    _last_name: int = 0

    @property
    def threads(self) -> int:
        """Threads a statement may use."""
        return min(self.settings.threads or self.calibration.cores, self.calibration.cores)

    def fresh(self) -> str:
        """A column name that no relation of the plan has: ``__gb_1``, ``__gb_2``, …"""
        self._last_name += 1
        return f"__gb_{self._last_name}"

    def chose(self, before: Node, after: Node, choice: Choice) -> None:
        """Note `choice` for `after`, and with it what was noted for `before`, which it replaces."""
        earlier = self.choices.get(before)
        if earlier is not None:
            told = (f"{earlier.chosen}: {earlier.reason}", *earlier.details)
            choice = replace(choice, details=(*choice.details, *told))
        self.choices[after] = choice

    def reserve(self, nodes: Iterable[Node]) -> None:
        """Keep `fresh` from giving a name that one of these relations has already."""
        for node in nodes:
            if isinstance(node, Relation):
                found = (_INTERNAL.match(name) for name in node.schema.names)
                numbers = (int(m.group(1)) for m in found if m is not None)
                self._last_name = max(self._last_name, *numbers, 0)
