"""Places of boxes: none over another, edges upwards, shared boxes once."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gradbase.plots.layers import layout


def random_graph(seed):
    random = np.random.default_rng(seed)
    n = int(random.integers(1, 25))
    sizes = [(float(w), float(h)) for w, h in random.uniform(20, 300, (n, 2))]
    edges = sorted({(int(random.integers(0, i)), i) for i in range(1, n) for _ in range(2)})
    return sizes, edges


@pytest.mark.parametrize("seed", range(20))
def test_boxes_do_not_overlap_and_fit_the_page(seed):
    sizes, edges = random_graph(seed)
    found = layout(sizes, edges)
    boxes = [(x, y, x + w, y + h) for (x, y), (w, h) in zip(found.corners, sizes, strict=True)]
    for a, b in itertools.combinations(boxes, 2):
        assert a[2] <= b[0] + 1e-6 or b[2] <= a[0] + 1e-6 or a[3] <= b[1] or b[3] <= a[1]
    assert min(b[0] for b in boxes) >= -1e-6
    assert max(b[2] for b in boxes) <= found.width + 1e-6
    assert max(b[3] for b in boxes) == pytest.approx(found.height)


@pytest.mark.parametrize("seed", range(20))
def test_edges_go_from_the_lower_box_to_the_upper_one(seed):
    """Also through lanes past the layers between; every point on the page."""
    sizes, edges = random_graph(seed)
    found = layout(sizes, edges)
    for (upper, lower), route in zip(edges, found.routes, strict=True):
        (x0, y0), (x1, y1) = route[0], route[-1]
        assert y0 == pytest.approx(found.corners[lower][1])
        assert y1 == pytest.approx(found.corners[upper][1] + sizes[upper][1])
        assert found.corners[lower][0] <= x0 <= found.corners[lower][0] + sizes[lower][0]
        assert found.corners[upper][0] <= x1 <= found.corners[upper][0] + sizes[upper][0]
        ys = [y for _, y in route]
        assert ys == sorted(ys, reverse=True)
        assert all(-1e-6 <= x <= found.width + 1e-6 for x, _ in route)


def test_a_chain_is_straight_and_siblings_are_centred():
    found = layout([(50, 10), (80, 10), (30, 10)], [(0, 1), (1, 2)])
    centres = [x + w / 2 for (x, _), w in zip(found.corners, (50, 80, 30), strict=True)]
    assert centres == pytest.approx([40, 40, 40])
    parent, left, right = layout([(50, 10)] * 3, [(0, 1), (0, 2)]).corners
    assert parent[0] == pytest.approx((left[0] + right[0]) / 2)


def test_layers_untangle_crossings():
    """Two pairs that were given crosswise end up beside each other."""
    found = layout([(10, 10)] * 5, [(0, 1), (0, 2), (1, 4), (2, 3)])
    places = [x for x, _ in found.corners]
    assert (places[1] < places[2]) == (places[4] < places[3])
