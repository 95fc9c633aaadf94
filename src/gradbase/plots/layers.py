"""Places for the boxes of a directed graph without cycles, layer by layer.

Source: Sugiyama, Tagawa and Toda 1981: layers by longest path, order by barycentres. Horizontal
places are least squares under the boxes' distances (pool adjacent violators).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[float, float]
GAP_X, GAP_Y = 28.0, 46.0
_LANE = 14.0
"""Width that a line takes where it passes a layer."""
_SWEEPS = 8


@dataclass(frozen=True)
class Layout:
    """Where things go, in the unit of the sizes; y grows downwards.

    Parameters
    ----------
    corners : list of (x, y)
        Upper left corner of each box.
    routes : list of list of (x, y)
        For each edge the points from the lower box's top to the upper box's bottom.
    width, height : float
        Of everything.
    """

    corners: list[Point]
    routes: list[list[Point]]
    width: float
    height: float


def layout(sizes: Sequence[Point], edges: Sequence[tuple[int, int]]) -> Layout:
    """Place boxes of `sizes` (width, height) so that edges (upper, lower) lead upwards.

    Boxes are numbered so that an edge's upper one comes first.

    Examples
    --------
    >>> found = layout([(10, 4), (10, 4), (10, 4)], [(0, 1), (0, 2)])
    >>> found.corners[0][0], found.corners[1][1] == found.corners[2][1] > found.corners[0][1]
    (19.0, True)
    """
    return _Layers(sizes, edges).layout()


class _Layers:
    def __init__(self, sizes: Sequence[Point], edges: Sequence[tuple[int, int]]) -> None:
        assert all(upper < lower for upper, lower in edges)
        self.sizes, self.edges = list(sizes), edges
        self.layer = [0] * len(sizes)
        for upper, lower in sorted(edges):
            self.layer[lower] = max(self.layer[lower], self.layer[upper] + 1)
        self.up: list[list[int]] = [[] for _ in sizes]
        self.down: list[list[int]] = [[] for _ in sizes]
        self.chains = [self._chain(upper, lower) for upper, lower in edges]
        self.order: list[list[int]] = [[] for _ in range(max(self.layer, default=0) + 1)]
        for number, layer in enumerate(self.layer):
            self.order[layer].append(number)

    def _chain(self, upper: int, lower: int) -> list[int]:
        """The edge's boxes from top to bottom, with a lane in each layer that it passes."""
        chain = [upper]
        for layer in range(self.layer[upper] + 1, self.layer[lower]):
            self.sizes.append((_LANE, 0.0))
            self.layer.append(layer)
            self.up.append([])
            self.down.append([])
            chain.append(len(self.sizes) - 1)
        chain.append(lower)
        for a, b in itertools.pairwise(chain):
            self.down[a].append(b)
            self.up[b].append(a)
        return chain

    def layout(self) -> Layout:
        self._sort()
        x = self._columns()
        heights = [max((self.sizes[i][1] for i in layer), default=0.0) for layer in self.order]
        tops = list(itertools.accumulate((h + GAP_Y for h in heights), initial=0.0))
        boxes = range(len(self.up) - sum(len(c) - 2 for c in self.chains))
        left = min((x[i] - self.sizes[i][0] / 2 for i in boxes), default=0.0)
        right = max((x[i] + self.sizes[i][0] / 2 for i in boxes), default=0.0)
        for chain in self.chains:
            left = min([left, *(x[i] for i in chain)])
            right = max([right, *(x[i] for i in chain)])
        x = [v - left for v in x]
        corners = [(x[i] - self.sizes[i][0] / 2, tops[self.layer[i]]) for i in boxes]
        routes = [self._route(chain, x, tops, heights) for chain in self.chains]
        return Layout(corners, routes, right - left, tops[-1] - GAP_Y if self.sizes else 0.0)

    def _sort(self) -> None:
        """Order each layer by the mean place of its neighbours, from both sides in turn."""
        for sweep in range(_SWEEPS):
            downwards = sweep % 2 == 0
            layers = self.order if downwards else self.order[::-1]
            for before, layer in itertools.pairwise(layers):
                place = {n: i for i, n in enumerate(before)}
                now = {n: i for i, n in enumerate(layer)}
                near = self.up if downwards else self.down
                means = {n: _mean([place[m] for m in near[n]], now[n]) for n in layer}
                layer.sort(key=lambda n, m=means: m[n])

    def _columns(self) -> list[float]:
        """Centre of each box: near its neighbours, no box over another."""
        x = [0.0] * len(self.sizes)
        for layer in self.order:
            self._settle(layer, [0.0] * len(layer), x)
        for sweep in range(_SWEEPS):
            near = self.up if sweep % 2 == 0 else self.down
            for layer in self.order if sweep % 2 == 0 else self.order[::-1]:
                self._settle(layer, [_mean([x[m] for m in near[n]], x[n]) for n in layer], x)
        return x

    def _settle(self, layer: Sequence[int], wanted: Sequence[float], x: list[float]) -> None:
        """Put a layer's boxes as near to the places wanted as their widths allow."""
        widths = [self.sizes[n][0] for n in layer]
        steps = [(a + b) / 2 + GAP_X for a, b in itertools.pairwise(widths)]
        offsets = list(itertools.accumulate(steps, initial=0.0))
        pools: list[tuple[float, int]] = []  # (mean, boxes) of neighbours that touch
        for place, offset in zip(wanted, offsets, strict=False):
            mean, count = place - offset, 1
            while pools and pools[-1][0] >= mean:
                other, many = pools.pop()
                mean, count = (mean * count + other * many) / (count + many), count + many
            pools.append((mean, count))
        means = [mean for mean, count in pools for _ in range(count)]
        for number, mean, offset in zip(layer, means, offsets, strict=False):
            x[number] = mean + offset

    def _route(
        self, chain: list[int], x: list[float], tops: list[float], heights: list[float]
    ) -> list[Point]:
        upper, lower = chain[0], chain[-1]
        bottom = tops[self.layer[upper]] + self.sizes[upper][1]
        points = [(self._port(upper, chain[1], x), bottom)]
        for lane in chain[1:-1]:
            top = tops[self.layer[lane]]
            points += [(x[lane], top), (x[lane], top + heights[self.layer[lane]])]
        points.append((x[lower], tops[self.layer[lower]]))
        return points[::-1]

    def _port(self, upper: int, below: int, x: list[float]) -> float:
        """Where an edge enters a box: edges side by side in the order of what is below."""
        entering = sorted(self.down[upper], key=lambda n: x[n])
        width = self.sizes[upper][0]
        room = min(0.7 * width, 3 * GAP_X * (len(entering) - 1))
        share = entering.index(below) / (len(entering) - 1) if len(entering) > 1 else 0.5
        return x[upper] + room * (share - 0.5)


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
