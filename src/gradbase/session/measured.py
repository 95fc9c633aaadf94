"""What EXPLAIN ANALYZE says about a statement that ran."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gradbase.ir.node import Node
from gradbase.optimizer.quantities import count_text, quantity, seconds_text

if TYPE_CHECKING:
    from gradbase.runtime.context import Metrics
    from gradbase.runtime.observed import Actual, Observed

_COUNTED = (
    "pages_read", "page_bytes", "pages_hit", "pages_written", "leases", "lease_wait_seconds",
    "predict_seconds", "program_cache_hits", "program_cache_misses",
)  # fmt: skip


class Measuring:
    """Counters of a session and clocks before and after a statement.

    Parameters
    ----------
    metrics : Metrics
        Of the session: other statements at the same time are counted too.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._before = {name: metrics[name] for name in _COUNTED}
        self._wall, self._busy = time.perf_counter(), time.process_time()

    def text(self, rows: int, size_bytes: int, observed: Observed) -> str:
        """What there is to say once the statement has run, one or two lines."""
        seconds = time.perf_counter() - self._wall
        busy = (time.process_time() - self._busy) / max(seconds, 1e-9)
        n = {name: self._metrics[name] - before for name, before in self._before.items()}
        text = f"measured: {rows:,} rows, {quantity(size_bytes, 'B')} in {seconds:.3f} s"
        if n["pages_read"] or n["pages_hit"]:
            text += f"; pages: {n['pages_read']:,.0f} read ({n['page_bytes'] / 1e6:,.1f} MB)"
            text += f", {n['pages_hit']:,.0f} found in memory"
            if n["pages_written"]:
                text += f", {n['pages_written']:,.0f} results written to disk"
        if n["program_cache_hits"] or n["program_cache_misses"]:
            text += f"; programs: {n['program_cache_hits']:,.0f} found in memory"
            text += f", {n['program_cache_misses']:,.0f} made"
        if n["leases"]:
            text += f"; {n['leases']:,.0f} leases, waited {n['lease_wait_seconds']:.3f} s"
        if n["predict_seconds"]:
            share = n["predict_seconds"] / max(seconds, 1e-9)
            text += f"; network {n['predict_seconds']:.3f} s in its threads ({share:.0%} of all)"
        engine = sum(a.seconds for a in observed.actual.values() if a.in_engine)
        return (
            f"{text}\noverlap: waited {engine:.3f} s for the engine, which scans ahead; "
            f"{busy:.1f} threads busy on average"
        )


def notes(observed: Observed) -> dict[Node, str]:
    """A line for each operator whose rows came past."""
    return {node: _note(found) for node, found in observed.actual.items()}


def _note(found: Actual) -> str:
    batches = f"{found.batches:,} batch{'es' * (found.batches != 1)}"
    text = f"actual: {count_text(found.rows)} rows, {quantity(found.size_bytes, 'B')} in {batches}"
    text += f", waited for {seconds_text(found.seconds)}"
    if found.computed_s:
        text += f", network {seconds_text(found.computed_s)} in its threads"
    return f"{text} (one query of the engine, with all below)" if found.in_engine else text
