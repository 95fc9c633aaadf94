"""Losses of a stack of networks over one shared batch, with their gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from gradbase.ir.stepping import OWN_LOSS
from gradbase.runtime.train.kernel import whole
from gradbase.runtime.train.networks import padded

_LOSS_ROWS = 4_096
"""Rows of outputs that wait until their losses are added up."""
_EXACT = 40.0
"""Above this ``log(1 + exp(z))`` is z, in float64 too."""


RowLoss = Callable[[Tensor, Tensor], Tensor]
"""Of outputs [rows, outputs] and targets [rows] the loss of each row, [rows]."""


def _log_cosh(error: Tensor) -> Tensor:
    return error.abs() + F.softplus(-2 * error.abs()) - math.log(2)


_OF_ERROR: dict[str, Callable[[Tensor], Tensor]] = {
    "absolute_error": torch.abs,
    "huber": lambda e: F.huber_loss(e, torch.zeros_like(e), reduction="none"),
    "log_cosh": _log_cosh,
}
_FOCUS = 2.0
"""How much less a row counts that is right already. Source: Lin et al. 2017, gamma."""


def unit_of(loss: str, scale: float) -> float:
    """What turns a loss of labels divided by `scale` into one of labels.

    Huber's, log-cosh and users' own have no unit: they stay those of standardised labels.
    """
    if loss in ("huber", "log_cosh") or loss.startswith(OWN_LOSS):
        return 1.0
    return scale if loss == "absolute_error" else scale**2


def _focal(task: str, z: Tensor, y: Tensor) -> Tensor:
    """``-(1 - p)**2 log p`` of the probability p of each row's class."""
    if task == "multiclass":
        surely = torch.log_softmax(z, 1).gather(1, y[:, None])[:, 0]
    else:
        surely = F.logsigmoid(torch.where(y > 0, z[:, 0], -z[:, 0]))
    return -((-torch.expm1(surely)) ** _FOCUS) * surely


def _by_autograd(loss: RowLoss, z: Tensor, y: Tensor) -> Tensor:
    """The gradient of the sum of all rows' losses."""
    with torch.enable_grad():
        leaf = z.detach().clone().requires_grad_()
        total = loss(leaf.view(-1, z.shape[-1]), y.reshape(-1)).sum()
        return torch.autograd.grad(total, leaf)[0]


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
    loss : str or RowLoss
        Another loss than the task's own: one of `ir.stepping.LOSSES`, or a function.
    class_weights : Tensor[members, classes], optional
        A row's loss is multiplied by the weight of its class; the mean is still over rows.
    """

    def __init__(
        self, task: str, class_weights: Tensor | None = None, *, loss: str | RowLoss = ""
    ) -> None:
        self.task, self.class_weights, self.loss = task, class_weights, loss

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
            dz = gradient_of(self.task, z, y.expand(z.shape[0], -1), self.loss)
        if self.class_weights is not None:
            dz.mul_(self.class_weights.index_select(1, y.long()).unsqueeze(2))
        if w is not None:
            dz.mul_(w.view(1, -1, 1))
        if padding:
            dz[:, -padding:] = 0
        return dz.mul_(1 / (y.shape[0] - padding))


def gradient_of(task: str, z: Tensor, y: Tensor, loss: str | RowLoss = "") -> Tensor:
    """d(loss of each row)/dz, of z's shape Tensor[members, rows, outputs]; z is a kernel's buffer.

    `y` Tensor[members, rows] are each member's targets.
    """
    match loss:
        case "absolute_error":
            return (z - y.unsqueeze(2)).sign_()
        case "huber":
            return (z - y.unsqueeze(2)).clamp_(-1, 1)
        case "log_cosh":
            return (z - y.unsqueeze(2)).tanh_()
        case "focal":
            return _by_autograd(lambda a, b: _focal(task, a, b), z, y)
        case str():
            pass
        case own:
            return torch.stack([_by_autograd(own, a, b) for a, b in zip(z, y, strict=True)])
    if task == "multiclass":
        index = y.unsqueeze(2)
        dz = torch.softmax(z, 2)
        return dz.scatter_add_(2, index, dz.new_full((), -1.0).expand(index.shape))
    if task == "binary":
        exact = z.numel() == padded(z.numel())  # then nothing pads, and fewer calls are made
        found = torch.sigmoid(z) if exact else torch.sigmoid(whole(z))[: z.numel()].view_as(z)
        return found.sub_(y.unsqueeze(2))
    return (z - y.unsqueeze(2)).mul_(2)


def row_losses(
    task: str,
    z: Tensor,
    y: Tensor,
    class_weights: Tensor | None = None,
    w: Tensor | None = None,
    *,
    loss: str | RowLoss = "",
) -> Tensor:
    """Each row's loss for one network: z [rows, outputs], y as in `Loss`, result [rows].

    `class_weights` Tensor[classes] and `w` Tensor[rows] multiply the rows' losses. Gradients flow
    through it.
    """
    if not isinstance(loss, str):
        losses = loss(z, y)
    elif loss in _OF_ERROR:
        losses = _OF_ERROR[loss](z[:, 0] - y)
    elif loss == "focal":
        losses = _focal(task, z, y)
    elif task == "multiclass":
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


class RunningLoss:
    """The sums of rows' losses, batch after batch: fewer, larger calls than one per batch."""

    def __init__(self, loss: Loss, places: int) -> None:
        self.loss = loss
        self._total = torch.zeros(places, dtype=torch.float64)
        self._rows = self._held = 0
        self._waiting: list[tuple[Tensor, Tensor, Tensor | None]] = []

    def add(self, z: Tensor, y: Tensor, w: Tensor | None) -> None:
        """Outputs [places, rows, outputs] of a batch, kept until they are added up."""
        self._waiting.append((z, y, w))
        self._rows, self._held = self._rows + len(y), self._held + len(y)
        if self._held >= _LOSS_ROWS:
            self._sum()

    def mean(self) -> list[float]:
        """The mean over all rows, for each place."""
        self._sum()
        return (self._total / max(self._rows, 1)).tolist()

    def _sum(self) -> None:
        if not self._waiting:
            return
        zs, ys, ws = zip(*self._waiting, strict=True)
        self._waiting.clear()
        self._held = 0
        z, y = torch.cat(zs, 1), torch.cat(ys)
        w = None if ws[0] is None else torch.cat([w for w in ws if w is not None])
        weights = self.loss.class_weights
        own = [None] * len(z) if weights is None else list(weights)
        task, loss = self.loss.task, self.loss.loss
        for place, (each, c) in enumerate(zip(z, own, strict=True)):
            losses = row_losses(task, each, y, c, w, loss=loss)
            self._total[place] += losses.sum(dtype=torch.float64)
