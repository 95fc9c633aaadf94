"""The hyper-parameters of a trial: read from its fit, and written into one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gradbase.ir.learning import Fit, Mlp, PythonNetwork

_OPTIMIZER = ("learn_rate", "l2_reg", "l1_reg", "momentum")
_STEPPING = ("clip_norm", "schedule", "warmup", "decay", "decay_epochs")
_FIT = ("batch_size", "epochs", "seed")


def configuration_of(fit: Fit, tuned: Sequence[str]) -> dict[str, object]:
    """The values of the hyper-parameters `tuned` in a trial, read from the trial itself."""
    return {name: _value(fit, name) for name in tuned}


def configured(template: Fit, trial: int, configuration: Mapping[str, object]) -> Fit:
    """`template` as another trial, with these hyper-parameters."""
    fit = template.replace(trial=trial, first_shard=trial if template.first_shard else 0)
    for name, value in configuration.items():
        fit = _with(fit, name, value)
    return fit


def _value(fit: Fit, name: str) -> object:
    if name == "optimizer":
        return fit.optimizer.name
    if name in _OPTIMIZER:
        return getattr(fit.optimizer, name)
    if name in _STEPPING:
        return getattr(fit.optimizer.stepping, name)
    if name in _FIT:
        return getattr(fit, name)
    if isinstance(fit.network, Mlp):
        value = getattr(fit.network, name)
        return list(value) if isinstance(value, tuple) else value
    assert isinstance(fit.network, PythonNetwork)
    return json.loads(fit.network.configuration)[name]


def _with(fit: Fit, name: str, value: Any) -> Fit:
    if name == "optimizer":
        return fit.replace(optimizer=fit.optimizer.replace(name=value))
    if name in _OPTIMIZER:
        return fit.replace(optimizer=fit.optimizer.replace(**{name: float(value)}))
    if name in _STEPPING:
        changed = fit.optimizer.stepping.replace(**{name: value})
        return fit.replace(optimizer=fit.optimizer.replace(stepping=changed))
    if name in _FIT:
        return fit.replace(**{name: int(value)})
    if isinstance(fit.network, Mlp):
        if name == "hidden_units":
            value = (value,) if isinstance(value, int) else tuple(int(n) for n in value)
        return fit.replace(network=fit.network.replace(**{name: value}))
    assert isinstance(fit.network, PythonNetwork)
    given = json.loads(fit.network.configuration) | {name: value}
    text = json.dumps(given, sort_keys=True, default=list)
    return fit.replace(network=fit.network.replace(configuration=text))
