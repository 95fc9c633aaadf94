"""Adam's step over flat vectors: machine code in one pass over memory, or torch in nine.

Both round alike, operation by operation; machine code that does not (another compiler or processor)
is not used, so that no result depends on whether there is one.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradbase.runtime.layers.building import compiled
from gradbase.runtime.train.networks import padded

log = logging.getLogger("gradbase.runtime")

BETA1, BETA2, ADAM_EPS = 0.9, 0.999, 1e-8
_NO_DECAY, _DECOUPLED, _COUPLED = range(3)
_OPTIONS = ("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
_ALONE = 1 << 17
"""Elements from which on several threads of torch are faster than one pass."""
_CHECKED = 4096


class Vectors(NamedTuple):
    """Weights, gradients, the slots, room for as many numbers, and rates: all of one length.

    That is `networks.padded`: torch rounds the last numbers of other lengths otherwise.
    `decay`: what weights are multiplied by (adamw), or added to gradients times; or None.
    """

    weights: Tensor
    gradients: Tensor
    mean: Tensor
    square: Tensor
    scratch: Tensor
    rate: Tensor
    decay: Tensor | None


def step(of: Vectors, steps: int, *, decoupled: bool) -> None:
    """Change weights and slots, for the `steps`-th time; gradients may be overwritten.

    Source: Kingma and Ba 2015, algorithm 1; Loshchilov and Hutter 2019, algorithm 2.
    """
    function = None
    count = len(of.weights)
    fits = count < _ALONE or torch.get_num_threads() == 1
    if fits and of.weights.dtype == torch.float32 and count == padded(count):
        function = machine_code()
    if function is None:
        by_torch(of, steps, decoupled=decoupled)
    else:
        _by_machine_code(function, of, steps, decoupled=decoupled)


def by_torch(of: Vectors, steps: int, *, decoupled: bool) -> None:
    """See `step`."""
    weights, gradients, mean, square, scratch, rate, decay = of
    if decay is not None and decoupled:
        weights.mul_(decay)
    elif decay is not None:
        gradients.addcmul_(weights, decay)
    mean.lerp_(gradients, 1 - BETA1)
    square.mul_(BETA2).addcmul_(gradients, gradients, value=1 - BETA2)
    torch.rsqrt(square, out=scratch).reciprocal_()  # torch.sqrt is none of IEEE's
    torch.add(_eps(weights.dtype), scratch, alpha=_corrected(steps), out=scratch)
    torch.div(mean, scratch, out=scratch)
    weights.addcmul_(scratch, rate, value=_scale(steps))


def _by_machine_code(function: Any, of: Vectors, steps: int, *, decoupled: bool) -> None:
    decay = of.decay
    kind = _NO_DECAY if decay is None else _DECOUPLED if decoupled else _COUPLED
    function(
        len(of.weights), of.weights.data_ptr(), of.gradients.data_ptr(), of.mean.data_ptr(),
        of.square.data_ptr(), of.rate.data_ptr(), None if decay is None else decay.data_ptr(), kind,
        1 - BETA1, BETA2, 1 - BETA2, _corrected(steps), ADAM_EPS, _scale(steps),
    )  # fmt: skip


def _corrected(steps: int) -> float:
    return 1 / math.sqrt(1 - BETA2**steps)


def _scale(steps: int) -> float:
    return -1 / (1 - BETA1**steps)


@functools.cache
def _eps(dtype: torch.dtype) -> Tensor:
    return torch.tensor(ADAM_EPS, dtype=dtype)


@functools.lru_cache(maxsize=1)
def machine_code() -> Any:
    """The function ``gradbase_adam``; None where it cannot be built, or rounds otherwise."""
    made = compiled("gradbase.runtime.train", "adam.c", *_OPTIONS)
    if made is None:
        return None
    function = made.gradbase_adam
    address, number = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = (number, *[address] * 6, number, *[ctypes.c_float] * 6)
    function.restype = None
    if all(_rounds_alike(function, kind) for kind in range(3)):
        return function
    log.info("machine code of adam.c rounds otherwise than torch, which is used instead")
    return None


def _rounds_alike(function: Any, kind: int) -> bool:
    """Whether a few steps give the same bits."""
    pair, decoupled = [_example(kind) for _ in range(2)], kind == _DECOUPLED
    with torch.no_grad():
        for steps in (1, 2, 1000):
            own = pair[0]._replace(gradients=pair[0].gradients.clone())
            by_torch(own, steps, decoupled=decoupled)
            _by_machine_code(function, pair[1], steps, decoupled=decoupled)
    found, expected = (torch.stack((p.weights, p.mean, p.square)) for p in pair)
    return torch.equal(found, expected)


def _example(kind: int) -> Vectors:
    """Numbers of many sizes, zeros among them."""
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(5, _CHECKED, generator=draw) * torch.logspace(-12, 2, _CHECKED)
    values[:, ::64] = 0
    weights, gradients, mean, square, rate = values.unbind()
    decay = None if kind == _NO_DECAY else 1 - rate.abs() / 200
    return Vectors(weights, gradients, mean, square.square(), torch.empty(_CHECKED), rate, decay)
