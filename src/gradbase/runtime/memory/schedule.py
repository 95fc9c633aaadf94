"""From a plan of swaps to what the pager is told before each operator."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Literal

from gradbase.errors import ResourceError
from gradbase.resources.swapping.link import Link
from gradbase.resources.swapping.planner import plan_swaps
from gradbase.runtime.memory.orders import Name, Order
from gradbase.runtime.memory.tiers import Tier

__all__ = ["Moves", "moves_of"]

Moves = dict[int, list[tuple[Literal["leave", "expect"], Name]]]

_TRIES = 100  # of the planner's local search: a tenth of a second
_PROBES = (1 << 18, 1 << 23)  # bytes
_links: dict[str, Link] = {}  # tier (its name) -> as measured in this process


def moves_of(order: Order, limit: int, tier: Callable[[], Tier]) -> Moves:
    """What to do before each operator of `order` under `limit` bytes; planned once.

    `tier` gives where storages go; it is asked only when something has to go.
    """
    if order.trace.peak <= limit:
        return {}
    place = tier()
    key = (limit, place.name)
    if key not in order.plans:
        order.plans[key] = _plan(order, limit, _link(place))
    return order.plans[key]


def _plan(order: Order, limit: int, link: Link) -> Moves:
    found: Moves = defaultdict(list)
    try:
        plan = plan_swaps(order.trace, limit, link, recompute=False, tries=_TRIES)
    except ResourceError:
        return {}  # the pager finds out in its own way, and says so
    for decision in plan.decisions:
        name = order.names.get(decision.storage)
        if name is not None:
            found[decision.after + 1].append(("leave", name))
            found[decision.fetch].append(("expect", name))
    return dict(found)


def _link(tier: Tier) -> Link:
    if tier.name not in _links:
        tier.measure(_PROBES[0])  # to warm up
        (out_latency, in_latency), (out, into) = (tier.measure(size) for size in _PROBES)
        speeds = _PROBES[1] / out, _PROBES[1] / into
        _links[tier.name] = Link(out_latency, speeds[0], in_latency, speeds[1])
    return _links[tier.name]
