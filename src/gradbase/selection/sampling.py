"""Procedures that learn from earlier trials where to look next, by Optuna's samplers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

from gradbase.errors import BindError
from gradbase.selection.optuna_study import distribution, quiet, value_for
from gradbase.selection.procedure import Configuration, Leg, Rounds, Terms


class _Sampling(ABC):
    """`parallel` trials at a time, each batch chosen from the results of all before."""

    name = ""

    def __init__(self, terms: Terms) -> None:
        if terms.trials is None:
            raise BindError(
                f"`{self.name}` needs the number of trials",
                hint="set num_trials (SQL) or trials (Python)",
            )
        self.terms, self.trials = terms, terms.trials

    @abstractmethod
    def sampler(self, seed: int) -> Any:
        """The sampler of Optuna's."""

    def rounds(self) -> Rounds:
        import optuna

        with quiet():
            study = optuna.create_study(
                direction="maximize", sampler=self.sampler(self.terms.seed % 2**32)
            )
            for begun in range(0, self.trials, self.terms.parallel):
                numbers = range(begun + 1, min(begun + self.terms.parallel, self.trials) + 1)
                asked = {k: study.ask(self._distributions()) for k in numbers}
                results = yield [
                    Leg(k, self._configuration(t), self.terms.epochs) for k, t in asked.items()
                ]
                for number, trial in asked.items():
                    value = results[number].value
                    failed = not math.isfinite(value)
                    state = optuna.trial.TrialState.FAIL if failed else None
                    study.tell(trial, None if failed else value, state=state)

    def _distributions(self) -> dict[str, Any]:
        return {name: distribution(d) for name, d in self.terms.space.items()}

    def _configuration(self, trial: Any) -> Configuration:
        space = self.terms.space
        return {name: value_for(trial.params[name], d) for name, d in space.items()}


class Tpe(_Sampling):
    """Tree-structured Parzen estimators. Source: Bergstra et al. 2011, as in Optuna."""

    name = "tpe"

    def sampler(self, seed: int) -> Any:
        import optuna

        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)


class GaussianProcess(_Sampling):
    """Gaussian processes with expected improvement. Source: Optuna's GPSampler."""

    name = "gp"

    def sampler(self, seed: int) -> Any:
        import optuna

        return optuna.samplers.GPSampler(seed=seed)
