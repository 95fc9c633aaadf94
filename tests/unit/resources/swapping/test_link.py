"""Links: cost of a copy, presets, fitting to measurements."""

from __future__ import annotations

import pytest

from gradbase.errors import BindError, DataError
from gradbase.resources.swapping.link import LINKS, Link


def test_a_copy_costs_its_latency_and_its_bytes():
    """Each direction has its own."""
    link = Link(0.5, 100, 0.25, 50)
    assert (link.out_s(200), link.in_s(200)) == (2.5, 4.25)


def test_fit_recovers_latency_and_speed():
    """Exact measurements give the exact line, in each direction."""
    sizes = (1_000, 50_000, 2_000_000)
    out = [(size, 1e-3 + size / 2e9) for size in sizes]
    into = [(size, 5e-4 + size / 1e9) for size in sizes]
    link = Link.fit(out, into)
    assert link.out_latency_s == pytest.approx(1e-3)
    assert link.out_bytes_per_s == pytest.approx(2e9)
    assert link.in_latency_s == pytest.approx(5e-4)
    assert link.in_bytes_per_s == pytest.approx(1e9)


def test_fit_never_gives_a_negative_latency():
    """Where the best line starts below zero it goes through the origin."""
    samples = [(100, 0.9), (200, 2.0), (400, 4.4)]
    link = Link.fit(samples, samples)
    assert link.out_latency_s == 0
    assert link.out_bytes_per_s == pytest.approx(101.35, abs=0.01)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], "at least two sizes"),
        ([(10, 1.0), (10, 2.0)], "at least two sizes"),
        ([(10, 1.0), (20, 0.0)], "positive times"),
        ([(10, 2.0), (1000, 0.1)], "do not grow"),
    ],
)
def test_fit_refuses_what_shows_no_speed(samples, message):
    """One size, no time, or times that fall."""
    good = [(10, 1.0), (20, 2.0)]
    with pytest.raises(DataError, match=message):
        Link.fit(good, samples)


@pytest.mark.parametrize(
    "values", [(-1, 1, 0, 1), (0, 0, 0, 1), (0, 1, float("nan"), 1), (0, 1, 0, -5)]
)
def test_speeds_and_latencies_must_make_sense(values):
    """Negative, zero and NaN are named in the error."""
    with pytest.raises(DataError, match="a link's"):
        Link(*values)


def test_presets_have_names_and_unknown_names_suggestions():
    """The preset of PCIe 3 has 12 GB/s."""
    assert Link.of("pcie3").out_bytes_per_s == Link.of("pcie3").in_bytes_per_s == 12e9
    assert all(Link.of(name) is link for name, link in LINKS.items())
    with pytest.raises(BindError, match="did you mean `pcie3`"):
        Link.of("pcie-3")
