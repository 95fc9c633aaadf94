"""From what was chosen for each gap to absences whose bounds fit each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Literal

from gradbase.resources.swapping.clock import Absence
from gradbase.resources.swapping.replay import Replay
from gradbase.resources.swapping.step import Step

Choice = Literal["swap", "recompute"]


def absences_of(
    step: Step, choices: Mapping[int, Choice], replays: Mapping[int, Replay]
) -> list[Absence]:
    """Absences for the chosen gaps (index to choice), in order of gaps.

    What a recomputation reads must be in memory then, so storages that are away are back for it
    already: the earliest of the needs counts. One that is itself recomputed is then recomputed
    there, and needs its own inputs.
    """
    need = {i: step.gaps[i].need for i in choices}
    of_storage: dict[int, list[int]] = defaultdict(list)
    if "recompute" in choices.values():
        for i in choices:
            of_storage[step.gaps[i].storage].append(i)
    work = [i for i, choice in choices.items() if choice == "recompute"]
    while work:
        i = work.pop()
        if need[i] <= step.gaps[i].first:
            continue  # it never leaves
        for j in (j for s in replays[i].inputs for j in of_storage.get(s, ())):
            for at in (need[i], need[i] + step.slots):
                if step.gaps[j].first <= at < need[j]:
                    need[j] = at
                    work += [j] * (choices[j] == "recompute")
    found: list[Absence] = []
    for i in sorted(choices):
        g = step.gaps[i]
        if need[i] <= g.first:
            continue
        if choices[i] == "swap":
            found.append(Absence(i, g.size, g.first, need[i], g.out_ticks, g.in_ticks, g.returns))
        else:
            r = replays[i]
            found.append(Absence(i, g.size, g.first, need[i], 0, 0, True, True, r.ticks, r.extra))
    return found
