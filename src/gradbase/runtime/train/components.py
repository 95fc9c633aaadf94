"""Principal components: eigenvectors of the covariance, summed in float64 over the rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gradbase.errors import DataError, UnsupportedError
from gradbase.ir.unlabelled import Components
from gradbase.runtime.train.normal_equation import MAX_COLUMNS
from gradbase.runtime.train.prepare import Encoded


@dataclass(frozen=True)
class Found:
    """Components Tensor[n, columns] float64 of length 1, the mean Tensor[columns] that they start
    from, and their eigenvalues: the variance (over rows - 1) that each explains, of `total`.
    """

    components: Tensor
    mean: Tensor
    eigenvalues: tuple[float, ...]
    total: float

    @property
    def metrics(self) -> dict[str, float]:
        share = sum(self.eigenvalues) / self.total if self.total else 1.0
        return {"total_explained_variance_ratio": share}


def find_components(
    components: Components, rows: Encoded, check_cancelled: Callable[[], None]
) -> Found:
    """The principal components of `rows`; the largest number in each is positive.

    Raises
    ------
    DataError
        More components are asked for than there are columns or rows, or there is one row.
    UnsupportedError
        There are too many encoded columns.
    """
    count, width = len(rows.order), rows.inputs.width
    if width > MAX_COLUMNS:
        raise UnsupportedError(
            f"principal components are for up to {MAX_COLUMNS:,} encoded columns, there are "
            f"{width:,}",
            hint="leave categories of many values out",
        )
    if count < 2:
        raise DataError("principal components need two rows or more, found one")
    most = min(count, width)
    if components.count > most:
        raise DataError(
            f"{components.count:,} principal components need as many encoded columns and rows, "
            f"found {width:,} columns and {count:,} rows",
            hint=f"num_principal_components = {most}",
        )
    total = torch.zeros(width, dtype=torch.float64)
    for _, x in rows.chunks():
        check_cancelled()
        total += x.sum(dim=0)
    mean = total / count
    square = torch.zeros(width, width, dtype=torch.float64)
    for _, x in rows.chunks():
        check_cancelled()
        square.addmm_((x - mean).T, x - mean)
    values, vectors = torch.linalg.eigh(square / (count - 1))
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1).T
    kept = components.count or _enough(values, components.share, most)
    largest = vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True))
    turned = vectors * torch.where(largest < 0, -1.0, 1.0)
    return Found(turned[:kept], mean, tuple(values[:kept].tolist()), float(values.sum()))


def _enough(values: Tensor, share: float, most: int) -> int:
    """The fewest components that explain `share` of the variance; all where that is 0."""
    if not share:
        return most
    explained = values.cumsum(0) / values.sum()
    return min(int((explained < share - 1e-12).sum()) + 1, most)
