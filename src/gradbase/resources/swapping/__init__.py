"""Which storages leave the memory during a training step, when, and how they come back.

`planner.plan_swaps` is the way in; `step` has the arrays that the others work on.
"""
