"""A network's outputs as columns of a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from gradbase.errors import InternalError
from gradbase.ir.conversion import NEAREST, ToTable
from gradbase.runtime.arrow_types import arrow_type, constants

Bools = npt.NDArray[np.bool_]


class Output:
    """Makes the column of one `ToTable` from its network's output.

    Parameters
    ----------
    node : ToTable
    imported : bool
        Whether the network may give NaN, of which there is no label.
    """

    def __init__(self, node: ToTable, *, imported: bool = False) -> None:
        self.node, self._imported = node, imported
        self.type = arrow_type(node.type)
        label = _label_type(node)
        self._classes = None if label is None else constants(node.classes, label)

    def __call__(self, x: torch.Tensor, nulls: Bools | None = None) -> pa.Array:
        """The column for `x` Tensor[rows, width]; NULL where `nulls`."""
        match self.node.method:
            case "value" | "mean_absolute_error" | "mean_squared_error" | "mean_squared_log_error":
                made = _doubles(x[:, 0]).mul_(self.node.scale).add_(self.node.shift).numpy()
            case "label":
                return self._label(x, nulls)
            case "proba" if len(self.node.classes) <= 2:
                made = _doubles(x[:, 0]).sigmoid_().numpy()
            case "proba" | "probs":
                return self._lists(probabilities(x, len(self.node.classes)), nulls)
            case "raw" | "reconstruction":
                return self._raw(x, nulls)
            case "centroid":
                made = (x.argmin(dim=1) + 1).numpy()
            case "nearest":
                return self._nearest(x, nulls)
            case _:
                raise InternalError(f"unknown output `{self.node.method}`")
        return pa.array(made, type=self.type, mask=nulls)

    def _label(self, x: torch.Tensor, nulls: Bools | None) -> pa.Array:
        assert self._classes is not None
        if self._imported:
            nan = x.isnan().any(dim=1).numpy()
            nulls = nan if nulls is None else nulls | nan
        chosen = (x[:, 0] > 0) if len(self.node.classes) == 2 else x.argmax(dim=1)
        codes = pa.array(chosen.to(torch.int32).numpy(), mask=nulls)
        return self._classes.take(codes)

    def _lists(self, probabilities: torch.Tensor, nulls: Bools | None) -> pa.Array:
        rows, width = probabilities.shape
        flat: pa.Array = pa.array(probabilities.numpy().ravel())
        if self.node.method == "probs":
            assert self._classes is not None
            labels = self._classes.take(pa.array(np.tile(np.arange(width), rows)))
            flat = pa.StructArray.from_arrays([labels, flat], fields=list(self.type.value_type))
        offsets = np.arange(0, rows * width + 1, width, dtype=np.int32)
        mask = None if nulls is None else pa.array(nulls)
        return pa.ListArray.from_arrays(pa.array(offsets), flat, type=self.type, mask=mask)

    def _nearest(self, x: torch.Tensor, nulls: Bools | None) -> pa.Array:
        found, order = x.to(torch.float64).sort(dim=1, stable=True)
        count = min(NEAREST, x.shape[1])
        flat = [(order[:, :count] + 1).reshape(-1), found[:, :count].reshape(-1)]
        pairs = pa.StructArray.from_arrays(
            [pa.array(_own(v)) for v in flat], fields=list(self.type.value_type)
        )
        offsets = np.arange(0, len(x) * count + 1, count, dtype=np.int32)
        mask = None if nulls is None else pa.array(nulls)
        return pa.ListArray.from_arrays(pa.array(offsets), pairs, type=self.type, mask=mask)

    def _raw(self, x: torch.Tensor, nulls: Bools | None) -> pa.Array:
        values = x.reshape(len(x), -1)
        if not pa.types.is_fixed_size_list(self.type):
            return pa.array(_own(values[:, 0]), mask=nulls).cast(self.type)
        flat = pa.array(_own(values).ravel()).cast(self.type.value_type)
        mask = None if nulls is None else pa.array(nulls)
        return pa.FixedSizeListArray.from_arrays(flat, type=self.type, mask=mask)


def probabilities(x: torch.Tensor, classes: int) -> torch.Tensor:
    """Probability of every class, Tensor[rows, classes] float64 in rows order."""
    if classes > 2:
        return torch.softmax(x.double(), dim=1).contiguous()
    logit = x[:, 0].double()
    return torch.stack((torch.sigmoid(-logit), torch.sigmoid(logit)), dim=1)


def _doubles(x: torch.Tensor) -> torch.Tensor:
    """A new float64 copy: the network's own buffer is used again for the next rows."""
    return x.to(torch.float64, copy=True, memory_format=torch.contiguous_format)


def _own(x: torch.Tensor) -> npt.NDArray[Any]:
    return x.clone(memory_format=torch.contiguous_format).numpy()


def _label_type(node: ToTable) -> Any:
    match node.method:
        case "label":
            return node.type
        case "probs":
            assert node.type.element is not None
            return node.type.element.fields[0][1]
    return None
