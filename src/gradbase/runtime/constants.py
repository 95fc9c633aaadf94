"""What follows from parameters alone."""

from __future__ import annotations

import numpy as np
import torch

from gradbase.ir.node import walk
from gradbase.ir.tensor import Const, Param, Tensor
from gradbase.runtime.encode import Blobs, constant
from gradbase.runtime.operators import operator


def constant_value(tensor: Tensor, blobs: Blobs | None) -> torch.Tensor:
    """The value of a tensor that depends on no row."""
    found: dict[Tensor, torch.Tensor] = {}
    for n in walk(tensor):
        if isinstance(n, Param | Const):
            found[n] = torch.from_numpy(np.array(constant(n, blobs)))
        elif isinstance(n, Tensor):
            found[n] = operator(n)([found[c] for c in n.children if isinstance(c, Tensor)], 0)
    return found[tensor]
