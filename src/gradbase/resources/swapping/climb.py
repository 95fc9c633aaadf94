"""Local search over what leaves and how, with the schedule itself as the judge."""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np

from gradbase.resources.swapping.choices import Choice
from gradbase.resources.swapping.search import Found, Problem, better

AIM_STEP = 0.998


def climb(problem: Problem, start: Found, tries: int, seed: int) -> Found:
    """Change a few choices at a time, keep what is not worse; the best of `tries` schedules.

    With overhead the overhead falls, at the limit. Without, the load above an aim falls; when none
    is left the aim is lowered, until the problem's limit is reached.

    Source: own.
    """
    search = _Climb(problem, start, seed)
    for _ in range(tries):
        if not search.aim_lower():
            break
        search.try_neighbour()
    return search.best


def lean(problem: Problem, found: Found) -> Found:
    """Keep in memory what need not leave, the largest first."""
    gaps = problem.step.gaps
    for i in sorted(found.choices, key=lambda i: (-gaps[i].size, i)):
        if i in found.choices:
            fewer: dict[int, Choice] = {j: c for j, c in found.choices.items() if j != i}
            found = better(found, problem.try_out(fewer)) or found
    return found


class _Climb:
    def __init__(self, problem: Problem, start: Found, seed: int) -> None:
        self.best = self._current = start
        self._problem, self._random = problem, random.Random(seed)
        self._pool = problem.step.across(problem.limit)
        self._replayable = [i for i in self._pool if i in problem.replays]
        self._aim = int(start.load.max(initial=0))
        self._value = self._value_of(start)
        self._covers: dict[int, list[int]] = {}

    def aim_lower(self) -> bool:
        """Ask for less where the aim is reached; False where nothing more can be asked for."""
        if not self._pool:
            return False
        if self._problem.overhead:
            return self.best.cost[1] > 0
        if self._value > 0:
            return True
        peak = int(self.best.load.max(initial=0))
        if peak <= self._problem.limit:
            return False
        self._aim = max(self._problem.limit, int(min(self._aim, peak) * AIM_STEP))
        self._value = self._value_of(self._current)
        return True

    def _value_of(self, found: Found) -> float:
        if self._problem.overhead:
            return found.cost[1]
        above = np.maximum(found.load - self._aim, 0).astype(float)
        return float(above @ above)

    def try_neighbour(self) -> None:
        """Move to a neighbour that is not worse."""
        choices = self._neighbour()
        found = None if choices is None else self._problem.try_out(choices)
        if found is None:
            return
        value = self._value_of(found)
        if value <= self._value:
            self._current, self._value = found, value
            if found.cost < self.best.cost:
                self.best = found

    def _neighbour(self) -> dict[int, Choice] | None:
        choices = dict(self._current.choices)
        kind = self._random.random()
        if kind < 0.3 and self._replayable and self._problem.overhead:
            i = self._random.choice(self._replayable)
            choices[i] = "recompute" if choices.get(i) == "swap" else "swap"
        elif kind < 0.5:
            i = self._random.choice(self._pool)
            if choices.pop(i, None) is None:
                choices[i] = self._pick(i)
        else:
            kept = min(self._random.choice((0, 1, 1, 2, 3)), len(choices))
            for i in self._random.sample(sorted(choices), kept):
                del choices[i]
            if not self._problem.overhead:
                self._add_over_aim(choices)
        fits = not self._problem.overhead or self._fill(choices)
        return choices if fits else None

    def _pick(self, i: int) -> Choice:
        recompute = i in self._problem.replays and self._random.random() < 0.5
        return "recompute" if recompute and self._problem.overhead else "swap"

    def _add_over_aim(self, choices: dict[int, Choice]) -> None:
        """One or two more that are away somewhere in the slots above the aim."""
        hot = np.concatenate(([0], np.cumsum(np.tile(self._current.load > self._aim, 3))))
        gaps = self._problem.step.gaps
        useful = [
            i for i in self._pool if i not in choices and hot[gaps[i].need] > hot[gaps[i].first]
        ]
        for i in self._random.sample(useful, min(len(useful), self._random.choice((1, 1, 2)))):
            choices[i] = "swap"

    def _fill(self, choices: dict[int, Choice]) -> bool:
        """Add what covers slots above the limit until none is; False where that is impossible."""
        step, limit = self._problem.step, self._problem.limit
        removed = set(self._current.choices) - set(choices)
        load = self._kept_load(choices)
        while load.max(initial=0) > limit:
            slot = int(load.argmax())
            over = [i for i in self._covering(slot) if i not in choices]
            over = [i for i in over if i not in removed] or over
            if not over:
                return False
            i = self._random.choice(over)
            choices[i] = self._pick(i)
            gap = step.gaps[i]
            load = load - step.absent([gap.size], [gap.first], [gap.need])
        return True

    def _kept_load(
        self, choices: Mapping[int, Choice]
    ) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        chosen = [self._problem.step.gaps[i] for i in choices]
        return self._problem.step.load - self._problem.step.absent(
            [g.size for g in chosen], [g.first for g in chosen], [g.need for g in chosen]
        )

    def _covering(self, slot: int) -> list[int]:
        if slot not in self._covers:
            gaps, n = self._problem.step.gaps, self._problem.step.slots
            self._covers[slot] = [i for i in self._pool if gaps[i].covers(slot, n)]
        return self._covers[slot]
