"""Forward and backward of perceptrons of equal shape, written out.

Every product is one batched call over the members. A member's slice of it does not depend on how
many members there are, as long as all slices have the same alignment in memory: hence the padding
(`MlpShape.aligned`), and batches of a stack have a multiple of `ALIGNED` rows. The one exception,
outputs of width 1 in a batch of one, is the reason why stacks have at least two places.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradbase.runtime.train.networks import MlpShape, padded

aten: Any = torch.ops.aten

_SELU = (1.6732632423543772848170429916717, 1.0507009873554804934193349852946)
# name -> forward(z, out), backward(gradient, z, a), whether backward needs z after a is computed.
Forward = Callable[[Tensor, Tensor], Any]
Backward = Callable[[Tensor, Tensor, Tensor], Any]


def _relu(g: Tensor, _z: Tensor, a: Tensor) -> None:
    aten.threshold_backward.grad_input(g, a, 0, grad_input=g)


def _relu6(g: Tensor, _z: Tensor, a: Tensor) -> None:
    aten.hardtanh_backward.grad_input(g, a, 0.0, 6.0, grad_input=g)


def _elu(g: Tensor, _z: Tensor, a: Tensor, alpha: float = 1.0, scale: float = 1.0) -> None:
    aten.elu_backward.grad_input(g, alpha, scale, 1.0, True, a, grad_input=g)


def _selu(g: Tensor, z: Tensor, a: Tensor) -> None:
    _elu(g, z, a, *_SELU)


def _sigmoid(g: Tensor, _z: Tensor, a: Tensor) -> None:
    aten.sigmoid_backward.grad_input(g, a, grad_input=g)


def _tanh(g: Tensor, _z: Tensor, a: Tensor) -> None:
    aten.tanh_backward.grad_input(g, a, grad_input=g)


def _gelu(g: Tensor, z: Tensor, _a: Tensor) -> None:
    g.copy_(aten.gelu_backward(g, z))


def _silu(g: Tensor, z: Tensor, _a: Tensor) -> None:
    g.copy_(aten.silu_backward(g, z))


ACTIVATIONS: dict[str, tuple[Forward, Backward, bool]] = {
    "relu": (lambda z, out: torch.clamp_min(z, 0, out=out), _relu, False),
    "relu6": (lambda z, out: torch.clamp(z, 0, 6, out=out), _relu6, False),
    "elu": (lambda z, out: aten.elu.out(z, out=out), _elu, False),
    "selu": (lambda z, out: aten.elu.out(z, *_SELU, out=out), _selu, False),
    "sigmoid": (lambda z, out: torch.sigmoid(z, out=out), _sigmoid, False),
    "tanh": (lambda z, out: torch.tanh(z, out=out), _tanh, False),
    "gelu": (lambda z, out: aten.gelu.out(z, out=out), _gelu, True),
    "silu": (lambda z, out: aten.silu.out(z, out=out), _silu, True),
}


class _Buffer(NamedTuple):
    """Memory kept between batches, [count, rows, width], and other views of it.

    `whole` has its padding too; `turned` is [count, width, rows]. Making views takes about as long
    as a small product.
    """

    value: Tensor
    whole: Tensor
    turned: Tensor


class Kernel:
    """`count` perceptrons over one shared batch.

    Parameters
    ----------
    shape : MlpShape
    count : int
    weights, gradients : list of Tensor[count, *block]
        Views in the order of `shape.blocks`; `backward` overwrites the gradients, of which a
        kernel that only predicts needs none.
    kept : list of Tensor[count, 1, hidden], optional
        Which hidden values are a member's own (1), where members pad differently (0).
    memory : dict, optional
        Buffers, where kernels that never run together share them.

    Attributes
    ----------
    penalty : (int, Tensor[count, 1, 1]) or None
        A hidden layer, and what its mean absolute values (summed over units) are added times.
    """

    def __init__(
        self,
        shape: MlpShape,
        count: int,
        weights: list[Tensor],
        gradients: list[Tensor],
        *,
        kept: list[Tensor] | None = None,
        memory: dict[str, Tensor] | None = None,
    ) -> None:
        self.shape, self.count = shape, count
        self.weights, self.gradients = weights, gradients
        start = shape.first_dense_layer
        self._turned = [w.transpose(1, 2) for w in weights[start::2]]
        self._biases = [b.unsqueeze(1) for b in weights[start + 1 :: 2]]
        # A product with one output is much faster the other way round: 1 x inputs by inputs x rows.
        self._narrow, self._last = shape.outputs == 1, len(shape.hidden) - 1
        self._act, self._act_back, self._keeps_z = ACTIVATIONS[shape.activation]
        self._fills = shape.activation == "sigmoid"  # the only one that is not 0 at 0
        self._kept = kept
        self._members = torch.arange(count)[:, None]
        self._memory: dict[str, Tensor] = {} if memory is None else memory
        last = gradients[start + 2 * self._last if shape.hidden else 0] if gradients else None
        self._last_turned = None if last is None else last.transpose(1, 2)
        self._inputs: list[_Buffer] = []  # of the layers after the first
        self._before: list[tuple[Tensor, Tensor, Tensor | None]] = []  # z, a (whole), mask
        self._buffer = functools.lru_cache(maxsize=256)(self._carve)
        self.penalty: tuple[int, Tensor] | None = None

    def forward(self, x: Tensor, codes: Tensor | None, masks: list[Tensor] | None = None) -> Tensor:
        """Outputs Tensor[count, B, outputs].

        Parameters
        ----------
        x : Tensor[B, dense], or Tensor[count, B, dense]
            One batch for all, or one for each.
        codes : Tensor[B, embeddings] int64 (or one such for each), or None
        masks : list of Tensor[count, B, hidden], optional
            Dropout: what each hidden activation is multiplied by.
        """
        self._x, self._codes = x.expand(self.count, *x.shape[-2:]), codes
        rows = x.shape[-2]
        self._inputs.clear()
        self._before.clear()
        z = self._first(codes, rows)
        widths = self.shape.widths[1:]
        for layer, bias in enumerate(self._biases):
            a = self._activate(z, layer, None if masks is None else masks[layer])
            self._inputs.append(a)
            weight = self.weights[self.shape.first_dense_layer + 2 * layer]
            z = self._buffer(f"z{layer + 1}", rows, widths[layer])
            if self._narrow and layer == self._last:
                torch.baddbmm(bias, self._turned[layer], a.turned, out=z.turned)
            else:
                torch.baddbmm(bias, a.value, weight, out=z.value)
        return z.value

    def backward(self, dz: Tensor, count: int = 0) -> None:
        """Fill the gradients; `dz` Tensor[count, B, outputs] is the loss' gradient, overwritten.

        `count` rows are none of padding (0: all).
        """
        rows = dz.shape[1]
        start = self.shape.first_dense_layer
        for layer in range(len(self._inputs) - 1, -1, -1):
            block = start + 2 * layer
            a = self._inputs[layer]
            da = self._buffer(f"d{layer}", rows, self.shape.widths[layer])
            if self._narrow and layer == self._last:
                torch.bmm(dz.transpose(1, 2), a.value, out=self._last_turned)
                torch.mul(dz, self._turned[layer], out=da.value)
            else:
                torch.bmm(a.turned, dz, out=self.gradients[block])
                torch.bmm(dz, self._turned[layer], out=da.value)
            torch.sum(dz, 1, out=self.gradients[block + 1])
            dz = da.value
            z, activated, mask = self._before[layer]
            if mask is not None:
                dz.mul_(mask)
            if self.penalty is not None and self.penalty[0] == layer:
                size = count or rows
                signs = a.value[:, :size].sign()
                dz[:, :size].addcmul_(signs, self.penalty[1], value=1 / size)
            self._act_back(da.whole, z, activated)
        self._first_back(dz)

    def _first(self, codes: Tensor | None, rows: int) -> _Buffer:
        dense = self.weights[0]
        found = self._buffer("z0", rows, dense.shape[2])
        if self._narrow and self._last < 0:
            torch.bmm(dense.transpose(1, 2), self._x.transpose(1, 2), out=found.turned)
        else:
            torch.bmm(self._x, dense, out=found.value)
        if codes is not None:
            self._add_wide(found.value, codes)
        return found

    def _add_wide(self, z: Tensor, codes: Tensor) -> None:
        """Add to `z` what embeddings give."""
        tables = self.weights[2 : 2 + len(self.shape.embeddings)]
        if codes.dim() == 2:
            found = [t.index_select(1, codes[:, j]) for j, t in enumerate(tables)]
        else:
            found = [t[self._members, codes[:, :, j]] for j, t in enumerate(tables)]
        padding = self.shape.columns[1] - self.shape.wide
        if padding:
            found.append(z.new_zeros(*z.shape[:2], padding))
        self._wide = torch.cat(found, 2)
        z.baddbmm_(self._wide, self.weights[1])

    def _first_back(self, dz: Tensor) -> None:
        x, codes = self._x, self._codes
        if self._narrow and self._last < 0:
            torch.bmm(dz.transpose(1, 2), x, out=self._last_turned)
        else:
            torch.bmm(x.transpose(1, 2), dz, out=self.gradients[0])
        if codes is None:
            return
        torch.bmm(self._wide.transpose(1, 2), dz, out=self.gradients[1])
        wide = torch.bmm(dz, self.weights[1].transpose(1, 2))
        widths = [w for _, w in self.shape.embeddings]
        parts = torch.split(wide[:, :, : self.shape.wide], widths, 2)
        for j, part in enumerate(parts):
            gradient = self.gradients[2 + j].zero_()
            if codes.dim() == 2:
                gradient.index_add_(1, codes[:, j], part)
            else:
                gradient.index_put_((self._members, codes[:, :, j]), part, accumulate=True)

    def _activate(self, z: _Buffer, layer: int, mask: Tensor | None) -> _Buffer:
        rows, width = z.value.shape[1:]
        a = self._buffer(f"a{layer}", rows, width) if self._keeps_z else z
        self._act(z.whole, a.whole)
        if self._fills:  # what pads must not be seen by the next layer
            if self._kept is not None:
                a.value.mul_(self._kept[layer])
            elif width > self.shape.hidden[layer]:
                a.value[:, :, self.shape.hidden[layer] :] = 0
        self._before.append((z.whole, a.whole, mask))
        if mask is None:
            return a
        dropped = self._buffer(f"m{layer}", rows, width)
        torch.mul(a.value, mask, out=dropped.value)
        return dropped

    def _carve(self, name: str, rows: int, width: int) -> _Buffer:
        """A buffer out of memory that is kept between batches."""
        size = self.count * rows * width
        memory = self._memory.get(name)
        if memory is None or memory.numel() < size:
            memory = torch.zeros(padded(size), dtype=self.weights[0].dtype)
            self._memory[name] = memory
        value = memory[:size].view(self.count, rows, width)
        return _Buffer(value, whole(value), value.transpose(1, 2))


def whole(buffer: Tensor) -> Tensor:
    """A kernel's buffer as a vector with its padding, for functions of single elements."""
    return buffer.as_strided((padded(buffer.numel()),), (1,))
