"""Losses of a stack of networks over one shared batch, with their gradients."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gradbase.runtime.train.kernel import whole

_EXACT = 40.0
"""Above this ``log(1 + exp(z))`` is z, in float64 too."""


class Loss:
    """The mean loss of `task` over a batch, for each member.

    ==============  ==================================================  ==================
    task            loss of a row                                       targets
    ==============  ==================================================  ==================
    binary          binary cross-entropy with logits, outputs = 1       0.0 or 1.0
    multiclass      cross-entropy, outputs = classes                    class number, int64
    regression      squared error, outputs = 1                          standardised label
    reconstruction  mean squared error over the outputs                 the input, [B, outputs]
    ==============  ==================================================  ==================

    Parameters
    ----------
    task : str
    class_weights : Tensor[members, classes], optional
        A row's loss is multiplied by the weight of its class; the mean is still over rows.
    """

    def __init__(self, task: str, class_weights: Tensor | None = None) -> None:
        self.task, self.class_weights = task, class_weights

    def gradient(self, z: Tensor, y: Tensor, w: Tensor | None = None) -> Tensor:
        """d(mean loss)/dz, of z's shape Tensor[members, rows, outputs]; z is a kernel's buffer.

        `w` Tensor[rows] multiply the rows' losses; the mean is still over rows. Rows after the
        last of `y` are padding, with gradient 0.
        """
        padding = z.shape[1] - y.shape[0]
        if padding:
            y = F.pad(y, (0, padding) if y.dim() == 1 else (0, 0, 0, padding))
            w = None if w is None else F.pad(w, (0, padding))
        if self.task == "reconstruction":
            dz = (z - y).mul_(2 / y.shape[1])
        else:
            dz = gradient_of(self.task, z, y.expand(z.shape[0], -1))
        if self.class_weights is not None:
            dz.mul_(self.class_weights.index_select(1, y.long()).unsqueeze(2))
        if w is not None:
            dz.mul_(w.view(1, -1, 1))
        if padding:
            dz[:, -padding:] = 0
        return dz.mul_(1 / (y.shape[0] - padding))


def gradient_of(task: str, z: Tensor, y: Tensor) -> Tensor:
    """d(loss of each row)/dz, of z's shape Tensor[members, rows, outputs]; z is a kernel's buffer.

    `y` Tensor[members, rows] are each member's targets.
    """
    if task == "multiclass":
        index = y.unsqueeze(2)
        dz = torch.softmax(z, 2)
        return dz.scatter_add_(2, index, dz.new_full((), -1.0).expand(index.shape))
    if task == "binary":
        return torch.sigmoid(whole(z))[: z.numel()].view_as(z).sub_(y.unsqueeze(2))
    return (z - y.unsqueeze(2)).mul_(2)


def row_losses(
    task: str,
    z: Tensor,
    y: Tensor,
    class_weights: Tensor | None = None,
    w: Tensor | None = None,
) -> Tensor:
    """Each row's loss for one network: z [rows, outputs], y as in `Loss`, result [rows].

    `class_weights` Tensor[classes] and `w` Tensor[rows] multiply the rows' losses.
    """
    if task == "multiclass":
        losses = F.cross_entropy(z, y, reduction="none")
    elif task == "reconstruction":
        losses = (z - y).square_().mean(1)
    elif task == "binary":
        losses = F.softplus(z[:, 0], threshold=_EXACT).addcmul_(z[:, 0], y, value=-1)
    else:
        losses = (z[:, 0] - y).square_()
    if class_weights is not None:
        losses = losses * class_weights[y.long()]
    return losses if w is None else losses * w
