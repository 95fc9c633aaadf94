"""How fast bytes leave the memory and come back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradbase.errors import BindError, DataError, near


@dataclass(frozen=True)
class Link:
    """Two serial streams, one out of the memory and one back in; each transfer costs a + bytes / b.

    Parameters
    ----------
    out_latency_s, in_latency_s : float, seconds
        Fixed time of one transfer.
    out_bytes_per_s, in_bytes_per_s : float, bytes/s

    Raises
    ------
    DataError
        A latency is negative or not finite, or a speed is not positive.

    Examples
    --------
    >>> Link(0.001, 2e9, 0.002, 1e9).in_s(1_000_000)
    0.003
    """

    out_latency_s: float
    out_bytes_per_s: float
    in_latency_s: float
    in_bytes_per_s: float

    def __post_init__(self) -> None:
        for name in ("out_latency_s", "in_latency_s"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise DataError(f"a link's {name} must be 0 or more seconds, found {value!r}")
        for name in ("out_bytes_per_s", "in_bytes_per_s"):
            value = getattr(self, name)
            if not value > 0:  # infinity is a link that costs only latency
                raise DataError(f"a link's {name} must be above 0 bytes/s, found {value!r}")

    def out_s(self, size: float) -> float:
        """Seconds to move `size` bytes out."""
        return self.out_latency_s + size / self.out_bytes_per_s

    def in_s(self, size: float) -> float:
        """Seconds to move `size` bytes in."""
        return self.in_latency_s + size / self.in_bytes_per_s

    @classmethod
    def of(cls, link: Link | str) -> Link:
        """The link itself, or the preset of that name (see `LINKS`)."""
        if isinstance(link, Link):
            return link
        if link not in LINKS:
            raise BindError(
                f"there is no link named {link!r}; there are {', '.join(sorted(LINKS))}",
                hint=near(str(link), LINKS) or "pass Link(out_latency_s, out_bytes_per_s, ...)",
            )
        return LINKS[link]

    @classmethod
    def fit(cls, out: Sequence[tuple[float, float]], into: Sequence[tuple[float, float]]) -> Link:
        """Least relative squares through measured (bytes, seconds) of transfers each way.

        Relative, so that small transfers fix the latency and large ones the speed.

        Raises
        ------
        DataError
            Fewer than two sizes, or times that do not grow with size.
        """
        out_latency, out_speed = _line(out, "out")
        in_latency, in_speed = _line(into, "in")
        return cls(out_latency, out_speed, in_latency, in_speed)


def _line(samples: Sequence[tuple[float, float]], direction: str) -> tuple[float, float]:
    """Seconds at size 0, and bytes/s."""
    sizes, seconds = np.array(samples, dtype=float).reshape(-1, 2).T
    if len(np.unique(sizes)) < 2 or not (seconds > 0).all():
        raise DataError(
            f"a link's {direction} direction needs positive times of at least two sizes, "
            f"found {list(samples)}"
        )
    terms = np.stack([1 / seconds, sizes / seconds])
    latency, per_byte = np.linalg.lstsq(terms.T, np.ones(len(sizes)))[0]
    if latency < 0:
        latency, per_byte = 0.0, terms[1].sum() / (terms[1] ** 2).sum()
    if per_byte <= 0:
        raise DataError(f"times of the {direction} direction do not grow with size: {samples}")
    return float(latency), float(1 / per_byte)


# Nominal speeds; latencies of PCIe 3 as published with AutoSwap, of the others own estimates.
LINKS = {
    "pcie3": Link(47.2e-6, 12e9, 9.7e-6, 12e9),
    "pcie4": Link(2e-5, 24e9, 1e-5, 24e9),
    "pcie5": Link(2e-5, 50e9, 1e-5, 50e9),
    "nvlink-c2c": Link(1e-5, 200e9, 1e-5, 200e9),
    "nvme": Link(1e-4, 2.5e9, 1e-4, 5e9),
    "sata-ssd": Link(2e-4, 4.5e8, 2e-4, 5e8),
}
