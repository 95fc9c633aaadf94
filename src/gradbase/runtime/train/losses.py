"""Losses of a stack of networks over one shared batch, with their gradients."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_EXACT = 40.0
"""Above this ``log(1 + exp(z))`` is z, in float64 too."""


class Loss:
    """The mean loss of `task` over a batch, for each member.

    ==========  ==================================================  ==================
    task        loss of a row                                       targets
    ==========  ==================================================  ==================
    binary      binary cross-entropy with logits, outputs = 1       0.0 or 1.0
    multiclass  cross-entropy, outputs = classes                    class number, int64
    regression  squared error, outputs = 1                          standardised label
    ==========  ==================================================  ==================

    Parameters
    ----------
    task : str
    class_weights : Tensor[members, classes], optional
        A row's loss is multiplied by the weight of its class; the mean is still over rows.
    """

    def __init__(self, task: str, class_weights: Tensor | None = None) -> None:
        self.task, self.class_weights = task, class_weights

    def gradient(self, z: Tensor, y: Tensor) -> Tensor:
        """d(mean loss)/dz, of z's shape Tensor[members, B, outputs]."""
        if self.task == "multiclass":
            index = y.expand(z.shape[0], -1).unsqueeze(2)  # [members, B, 1]
            dz = torch.softmax(z, 2)
            dz.scatter_add_(2, index, dz.new_full((), -1.0).expand(index.shape))
            if self.class_weights is not None:
                dz.mul_(self._of_rows(y).unsqueeze(2))
            return dz.mul_(1 / y.shape[0])
        outputs = z.squeeze(2)  # [members, B]
        dz = (torch.sigmoid(outputs) if self.task == "binary" else 2 * outputs).sub_(
            y if self.task == "binary" else 2 * y
        )
        if self.class_weights is not None:
            dz.mul_(self._of_rows(y))
        return dz.mul_(1 / y.shape[0]).unsqueeze(2)

    def rows(self, z: Tensor, y: Tensor, *, weighted: bool) -> Tensor:
        """Each row's loss Tensor[members, B]; `weighted`: times the weight of its class."""
        if self.task == "multiclass":
            index = y.expand(z.shape[0], -1).unsqueeze(2)
            losses = -F.log_softmax(z, 2).gather(2, index).squeeze(2)
        elif self.task == "binary":
            outputs = z.squeeze(2)
            losses = F.softplus(outputs, threshold=_EXACT).addcmul_(outputs, y, value=-1)
        else:
            losses = (z.squeeze(2) - y).square_()
        if weighted and self.class_weights is not None:
            losses = losses.mul_(self._of_rows(y))
        return losses

    def _of_rows(self, y: Tensor) -> Tensor:
        """Weights of the rows' classes, Tensor[members, B]."""
        assert self.class_weights is not None
        return self.class_weights.index_select(1, y.long())
