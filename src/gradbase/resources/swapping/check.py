"""An independent judge of swap plans: it runs the decisions, and shares no code with the planner.

Bytes are counted storage by storage, time event by event, for several iterations.
"""

from __future__ import annotations

from collections import defaultdict

from gradbase.errors import InternalError
from gradbase.resources.lifetimes import Trace
from gradbase.resources.swapping.plan import Decision, SwapPlan

__all__ = ["check_swaps"]

ITERATIONS = 8


def check_swaps(plan: SwapPlan) -> None:
    """Run a plan's decisions and compare with what the plan says.

    Checked: a storage is never used while it is away or being copied; copies of a direction follow
    each other; what is recomputed finds its inputs in memory and unchanged; the load of every
    operation and the peak; the limit with mode 'stick', that nothing waits without overhead; the
    seconds of waiting and of recomputation.

    Raises
    ------
    InternalError
        The first thing that does not hold.

    Source: own.
    """
    facts = _Facts(plan.trace)
    for d in plan.decisions:
        facts.check(d)
        if d.choice == "recompute":
            facts.check_replay(d)
    load = _load(plan, facts)
    _hold(load == plan.load().tolist(), "the load is not as the plan says")
    _hold(max(load) == plan.peak, f"the peak is {max(load)}, the plan says {plan.peak}")
    runner = _Runner(plan, facts)
    waits = [runner.iteration() for _ in range(ITERATIONS)]
    stall, replay = waits[-1]
    _hold(stall == round(plan.stall_s * 1e12), f"waits {stall} ps, not {plan.stall_s} s")
    _hold(replay == round(plan.replay_s * 1e12), f"recomputes {replay} ps, not {plan.replay_s} s")
    if plan.mode == "stick":
        _hold(max(load) <= plan.limit, f"the peak {max(load)} is above the limit {plan.limit}")
    else:
        _hold(not any(map(any, waits)), "operators wait, without overhead")


def _hold(fact: bool, otherwise: str) -> None:
    if not fact:
        raise InternalError(f"the swap plan does not hold: {otherwise}")


class _Facts:
    """What a trace says, looked up by storage and by operation."""

    def __init__(self, trace: Trace) -> None:
        self.period = trace.period
        self.storages = {s.id: s for s in trace.storages}
        self.reads: dict[int, set[int]] = defaultdict(set)
        self.writes: dict[int, set[int]] = defaultdict(set)
        self.uses: dict[int, set[int]] = defaultdict(set)
        for s in trace.storages:
            if not s.persistent:
                self.uses[s.id].add(s.allocated)
        for a in trace.accesses:
            (self.writes if a.kind == "write" else self.reads)[a.operation].add(a.storage)
            self.uses[a.storage].add(a.operation)
            if self.storages[a.storage].persistent:
                self.uses[a.storage].add(a.operation + trace.period)

    def later(self, d: Decision) -> list[int]:
        """Uses of the storage after it leaves, counted as `d` counts."""
        shift = 0 if d.after in self.uses[d.storage] else self.period
        return sorted(u - shift for u in self.uses[d.storage] if u - shift > d.after)

    def check(self, d: Decision) -> None:
        """The storage is used right before it leaves and not before it is back."""
        s, n = self.storages[d.storage], self.period
        _hold(bool({d.after, d.after + n} & self.uses[s.id]), f"{d} leaves after another operation")
        _hold(d.after < d.release < d.fetch <= d.before, f"the moments of {d} are out of order")
        later = self.later(d)
        shift = 0 if d.after in self.uses[d.storage] else n
        back_by = later[0] if later else s.freed - shift
        _hold(d.before <= back_by, f"{d} is away when operation {back_by} needs it")
        _hold(d.size == s.size, f"{d} has {s.size} bytes")

    def check_replay(self, d: Decision) -> None:
        """Running the operations again gives the bytes that the storage had after `d.after`."""
        written = {o for o, ids in self.writes.items() if d.storage in ids and o <= d.after}
        _hold(written <= set(d.operations), f"{d} leaves out who wrote the storage")
        latest: dict[int, int] = {}  # who wrote a storage last, while running again
        for o in sorted(d.operations):
            for i in self.reads[o]:
                writers = [w for w, ids in self.writes.items() if i in ids]
                if i in latest:
                    as_it_was = latest[i] == max(w for w in writers if w < o)
                else:
                    s = self.storages[i]
                    there = s.persistent or s.freed > d.before
                    as_it_was = there and not any(o <= w < d.before for w in writers)
                _hold(as_it_was, f"{d} reads storage {i} in another state")
            for i in self.writes[o]:
                mine = i == d.storage or i in latest or self.storages[i].allocated == o
                _hold(mine, f"{d} writes storage {i}, which others see")
                latest[i] = o

    def made_again(self, d: Decision) -> set[int]:
        """Storages that the operations of a recomputation write besides its own."""
        return {i for o in d.operations for i in self.writes[o]} - {d.storage}

    def inputs(self, d: Decision) -> set[int]:
        """Storages that a recomputation finds in memory."""
        return {i for o in d.operations for i in self.reads[o]} - self.made_again(d) - {d.storage}


def _away(d: Decision, operation: int, period: int) -> bool:
    return d.release <= operation < d.fetch or d.release <= operation + period < d.fetch


def _load(plan: SwapPlan, facts: _Facts) -> list[int]:
    """Bytes in memory during each operation, counted instance by instance."""
    n = facts.period
    load = [0] * n
    for s in facts.storages.values():
        for o in range(s.allocated, s.freed):
            load[o % n] += s.size
    for d in plan.decisions:
        for o in range(d.release, d.fetch):
            load[o % n] -= d.size
        load[d.before % n] += sum(facts.storages[i].size for i in facts.made_again(d))
    return load


class _Runner:
    """Runs iterations one after the other on a clock of picoseconds."""

    def __init__(self, plan: SwapPlan, facts: _Facts) -> None:
        self._plan, self._facts = plan, facts
        self._now = self._out_free = self._in_free = 0
        self._copied = dict.fromkeys(plan.decisions, 0)
        self._back = dict.fromkeys(plan.decisions, 0)

    def iteration(self) -> tuple[int, int]:
        """Picoseconds of waiting and of recomputation."""
        stall = replay = 0
        for operation in self._plan.trace.operations:
            o, ready = operation.index, self._now
            self._leave(o)
            self._now = max([ready, *(self._copied[d] for d in self._at("release", o))])
            self._come_back(o)
            self._now = max([self._now, *(self._back[d] for d in self._at("before", o))])
            stall += self._now - ready
            for d in self._at("before", o):
                replay += self._again(d, o)
            self._touch(o)
            self._now += round(operation.seconds * 1e12)
        return stall, replay

    def _at(self, moment: str, o: int) -> list[Decision]:
        n = self._facts.period
        return [d for d in self._plan.decisions if getattr(d, moment) % n == o]

    def _leave(self, o: int) -> None:
        for d in self._at("after", (o - 1) % self._facts.period):
            if d.choice == "swap":
                begin = max(self._now, self._out_free)
                self._copied[d] = begin + round(self._plan.link.out_s(d.size) * 1e12)
                self._out_free = self._copied[d]

    def _come_back(self, o: int) -> None:
        for d in sorted(self._at("fetch", o), key=lambda d: (d.fetch, d.before)):
            if d.choice == "swap" and self._facts.later(d):
                begin = max(self._now, self._in_free, self._copied[d])
                self._back[d] = begin + round(self._plan.link.in_s(d.size) * 1e12)
                self._in_free = self._back[d]

    def _again(self, d: Decision, o: int) -> int:
        if d.choice == "swap":
            return 0
        for i in self._facts.inputs(d):
            gone = [e for e in self._plan.decisions if e.storage == i and self._gone(e, o)]
            _hold(not gone, f"{d} needs storage {i}, which is away")
        ticks = round(sum(self._plan.trace.operations[i].seconds for i in d.operations) * 1e12)
        self._now += ticks
        return ticks

    def _gone(self, d: Decision, o: int) -> bool:
        return _away(d, o, self._facts.period)

    def _touch(self, o: int) -> None:
        """What the operation uses is there, and no copy of it is under way."""
        n = self._facts.period
        for d in self._plan.decisions:
            if {o, o + n} & self._facts.uses[d.storage]:
                _hold(not self._gone(d, o), f"operation {o} uses what is away: {d}")
                copying = self._copied[d] > self._now or self._back[d] > self._now
                _hold(not copying, f"operation {o} uses what is being copied: {d}")
