"""Parameters of networks of about equal shape, one row of a matrix per network."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gradbase.runtime.train.features import embedding_width
from gradbase.runtime.train.networks import ALIGNED, MlpShape, padded


def common_shape(shape: MlpShape) -> MlpShape:
    """The padded shape of a network: a few of them serve all. It follows from `shape` alone.

    Examples
    --------
    >>> common_shape(MlpShape(19, ((70, 18),), (30,), 1)).blocks
    ((32, 32), (25, 32), (128, 25), (32, 1), (1,))
    """
    codes = (2 ** math.ceil(math.log2(n)) for n, _ in shape.embeddings)
    return MlpShape(
        _rounded(shape.dense), tuple((n, embedding_width(n)) for n in codes),
        tuple(map(_rounded, shape.hidden)), shape.outputs, shape.activation, aligned=True,
    )  # fmt: skip


def _rounded(size: int) -> int:
    """The next of 16, 32, 48, 64, 96, 128, 192, …"""
    power = 2 ** max(4, math.ceil(math.log2(max(size, 1))))
    lower = power * 3 // 4
    return lower if lower >= size and lower % ALIGNED == 0 else power


class Layout:
    """Where the parameters of networks of a `common_shape` are: Tensor[networks, width]."""

    def __init__(self, shape: MlpShape) -> None:
        self.shape = shape
        self._sizes = [math.prod(b) for b in shape.blocks]
        room = [-(-size // ALIGNED) * ALIGNED for size in self._sizes]
        self._starts = [0, *itertools.accumulate(room)][:-1]
        self.width = padded(sum(room))

    def views(self, flat: Tensor) -> list[Tensor]:
        """The blocks of `flat` as Tensor[networks, *block], sharing its memory."""
        places = zip(self._starts, self._sizes, self.shape.blocks, strict=True)
        return [flat[:, at : at + n].view(len(flat), *b) for at, n, b in places]

    def joined(self, blocks: Sequence[Tensor], out: Tensor) -> None:
        """Inverse of `views` for blocks of their own; what pads stays as it is."""
        for view, block in zip(self.views(out), blocks, strict=True):
            view.copy_(block)

    def place(self, flat: Tensor, row: int, shape: MlpShape, layers: Sequence[Tensor]) -> None:
        """Write the parameters of one network of `shape`, in the order of its ``true_blocks``."""
        first, *others = layers
        views = [v[0] for v in self.views(flat[row : row + 1])]
        # The bias of the first layer stands first here, last in a network by itself.
        views[0][: len(first), : first.shape[1]] = torch.cat([first[-1:], first[:-1]])
        if shape.embeddings:
            views[1][self._wide(shape), : first.shape[1]] = others[0]
            del views[1], others[0]
        for view, layer in zip(views[1:], others, strict=True):
            view[tuple(map(slice, layer.shape))] = layer

    def layers(self, flat: Tensor, row: int, shape: MlpShape) -> list[Tensor]:
        """Inverse of `place`, as copies."""
        blocks = list(shape.true_blocks)
        views = [v[0] for v in self.views(flat[row : row + 1])]
        if shape.embeddings:
            views[1] = views[1][self._wide(shape)]
        own = [v[tuple(map(slice, b))].clone() for v, b in zip(views, blocks, strict=True)]
        return [torch.cat([own[0][1:], own[0][:1]]), *own[1:]]

    def _wide(self, shape: MlpShape) -> Tensor:
        """Where the columns of a network's embeddings are among the padded ones."""
        starts = itertools.accumulate((w for _, w in self.shape.embeddings), initial=0)
        pairs = zip(starts, shape.embeddings, strict=False)
        return torch.tensor([at + i for at, (_, width) in pairs for i in range(width)])
