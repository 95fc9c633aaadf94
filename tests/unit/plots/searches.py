"""A search that never ran, for its pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class FakeSearch:
    """What a `Study` shows, made up: the learning rate decides, trial 1 fails."""

    trials: int = 12
    metric: str = "roc_auc"
    name: str = "churn"
    scales: dict[str, str] = field(
        default_factory=lambda: {"hidden_units": "choice", "learn_rate": "log", "dropout": "linear"}
    )
    importance: dict[str, float] = field(
        default_factory=lambda: {"learn_rate": 0.8, "dropout": 0.15, "hidden_units": 0.05}
    )
    rows: list[dict[str, Any]] = field(default_factory=list)
    curves: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        random = np.random.default_rng(0)
        for trial in range(1, self.trials + 1):
            rate = float(10 ** random.uniform(-4, -1))
            value = 0.9 - 0.05 * (np.log10(rate) + 2.5) ** 2
            self.rows.append(
                {
                    "trial": trial,
                    "hidden_units": [[16], [32, 16]][trial % 2],
                    "learn_rate": rate,
                    "dropout": float(random.uniform(0, 0.5)),
                    self.metric: None if trial == 1 else value,
                    "train_loss": 1 - value,
                    "eval_loss": 1.1 - value,
                    "status": "FAILED" if trial == 1 else "SUCCEEDED",
                }
            )
            self.curves += [
                {
                    "trial": trial,
                    "epoch": e,
                    "train_loss": 1 - value * e / 6,
                    "eval_loss": 1.1 - value * e / 6,
                    self.metric: value * e / 6,
                }
                for e in range(1, 1 if trial == 1 else 6)
            ]

    @property
    def best_trial(self) -> int:
        with_value = [r for r in self.rows if r[self.metric] is not None]
        return max(with_value, key=lambda r: r[self.metric])["trial"] if with_value else 1
