"""Choosing what leaves: by score, by a tuned sum of scores, and by local search on the schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gradbase.resources.swapping.choices import Choice, absences_of
from gradbase.resources.swapping.clock import Window, load_of
from gradbase.resources.swapping.limited import least_load, limited
from gradbase.resources.swapping.replay import Replay
from gradbase.resources.swapping.scores import SCORES, select
from gradbase.resources.swapping.step import Step
from gradbase.resources.swapping.unhindered import unhindered

Choices = Mapping[int, Choice]
Cost = tuple[int, int, int]
COPY: Choice = "swap"
TUNING_TRIALS = 40
SWEEP = 16


@dataclass(frozen=True)
class Found:
    """Choices with their schedule.

    Parameters
    ----------
    cost : tuple
        What is least is best: bytes above the limit, overhead in picoseconds, bytes copied.
    """

    cost: Cost
    choices: Choices
    windows: tuple[Window, ...]
    load: NDArray[np.int64] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Problem:
    """What is asked of a step.

    Parameters
    ----------
    step : Step
        That schedules are made for; its slots may be coarse.
    whole : Step
        The same operation by operation, for the scores.
    replays : mapping
        Gaps that may be computed again, by index.
    limit : int, bytes
        Not to be exceeded; without overhead, what the peak shall come near.
    overhead : bool
        Whether operators may wait.
    """

    step: Step
    whole: Step
    replays: Mapping[int, Replay]
    limit: int
    overhead: bool

    def try_out(self, choices: Choices) -> Found | None:
        """The schedule of `choices`; None where they cannot keep the limit."""
        absences = absences_of(self.step, choices, self.replays)
        if not self.overhead:
            return self.judge(choices, unhindered(self.step, absences), 0)
        schedule = limited(self.step, absences, self.limit)
        return None if schedule is None else self.judge(choices, *schedule)

    def judge(self, choices: Choices, windows: Sequence[Window], ticks: int) -> Found:
        """What a schedule with an overhead of `ticks` costs."""
        load = load_of(self.step, windows)
        above = max(0, int(load.max(initial=0)) - self.limit)
        kept: Choices = {w.absence.gap: choices[w.absence.gap] for w in windows}
        moved = sum(
            w.absence.size * (1 + w.absence.returns) for w in windows if not w.absence.recomputed
        )
        return Found((above, ticks, moved), kept, tuple(windows), load)


def by_scores(problem: Problem, weights: Mapping[str, float]) -> Found | None:
    """The best of selecting by a weighted sum of ranks of scores.

    Without overhead the limit that the scores refer to is swept, since the load that can be reached
    is not known before.
    """
    limits = [problem.limit]
    if not problem.overhead:
        peak = int(problem.step.load.max(initial=0))
        limits = np.linspace(problem.limit, peak, SWEEP).astype(int).tolist()
    best: Found | None = None
    for limit in limits:
        chosen = select(problem.whole, limit, weights)
        found = None if chosen is None else problem.try_out(dict.fromkeys(chosen, COPY))
        best = better(best, found)
    return best


def by_cost(problem: Problem) -> Found | None:
    """Cover the fullest slot with the gap that costs least per byte, until all slots fit.

    A gap costs its two copies, or its recomputation where that is less. Source: own.
    """
    step, replays = problem.step, problem.replays
    choices: dict[int, Choice] = {}
    cost: dict[int, float] = {}
    for i in step.across(problem.limit):
        gap, copying = step.gaps[i], step.gaps[i].out_ticks + step.gaps[i].in_ticks
        again = replays[i].ticks if i in replays else copying + 1
        cost[i] = min(copying, again) / gap.size
        choices[i] = "recompute" if again < copying else "swap"
    left = sorted(cost, key=lambda i: (cost[i], -step.gaps[i].size, i))
    taken: dict[int, Choice] = {}
    load = step.load
    while load.max(initial=0) > problem.limit:
        slot = int(load.argmax())
        chosen = next((i for i in left if step.gaps[i].covers(slot, step.slots)), None)
        if chosen is not None:
            left.remove(chosen)
            taken[chosen] = choices[chosen]
        elif not _copy_instead(problem, taken, slot):
            return None
        load = least_load(step, absences_of(step, taken, replays))
    return problem.try_out(taken)


def _copy_instead(problem: Problem, taken: dict[int, Choice], slot: int) -> bool:
    """Copy what is computed again at the cost of memory in `slot`; False where nothing is."""
    gaps, n = problem.step.gaps, problem.step.slots
    away = {gaps[i].storage for i in taken if gaps[i].covers(slot, n)}
    culprits = [
        i
        for i, choice in taken.items()
        if choice == "recompute" and (problem.replays[i].inputs & away or gaps[i].need == slot)
    ]
    taken.update(dict.fromkeys(culprits, COPY))
    return bool(culprits)


def better(one: Found | None, other: Found | None) -> Found | None:
    """The one of least cost; the first where they are equal."""
    if one is None or other is None:
        return one or other
    return other if other.cost < one.cost else one


def cheaper_replays(problem: Problem, found: Found) -> Found:
    """Compute again instead of copying wherever that lowers the overhead, greatest saving first."""
    gaps, replays = problem.step.gaps, problem.replays
    saving = {
        i: gaps[i].out_ticks + gaps[i].in_ticks - replays[i].ticks
        for i in found.choices
        if i in replays
    }
    for i in sorted(saving, key=lambda i: (-saving[i], i)):
        if not found.cost[1]:
            break
        if found.choices.get(i) == "swap":
            found = better(found, problem.try_out({**found.choices, i: "recompute"})) or found
    return found


def tuned(problem: Problem, seed: int) -> Found | None:
    """Selecting by the linear combination of scores that does best here, found by Optuna's TPE.

    Each score alone is among the trials, so it is never worse than they are.
    """
    import optuna

    best: Found | None = None

    def objective(trial: optuna.Trial) -> float:
        nonlocal best
        weights = {name: trial.suggest_float(name, 0.0, 1.0) for name in SCORES}
        found = by_scores(problem, weights) if any(weights.values()) else None
        best = better(best, found)
        return float("inf") if found is None else found.cost[0] * 1e15 + found.cost[1]

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=12)
        study = optuna.create_study(sampler=sampler)
        for name in SCORES:
            study.enqueue_trial({other: float(other == name) for other in SCORES})
        study.optimize(objective, n_trials=TUNING_TRIALS)
    finally:
        optuna.logging.set_verbosity(verbosity)
    return best
