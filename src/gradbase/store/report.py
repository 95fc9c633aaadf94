"""Where the time of a search went, from its journal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from gradbase.store.journal import Event


@dataclass(frozen=True)
class Report:
    """Seconds of a search by what was done, and what moved.

    `read_s` and `write_s` pass once, before training; the others are of all workers together.

    Parameters
    ----------
    read_s : float, seconds
        The query, encoding, dividing rows.
    write_s : float, seconds
        Writing shards for other processes.
    decode_s : float, seconds
        Making batches of shards.
    train_s, validate_s : float, seconds
    build_s : float, seconds
        Networks and optimisers made anew in workers, and loading what that needs.
    hop_s : float, seconds
        States on their way from one worker to another, packed and unpacked.
    idle_s : float, seconds
        Workers without a unit.
    workers, units, lost : int
        Workers at most; units trained; attempts that came to nothing.
    moved_bytes, shard_bytes : int, bytes
        Of states, and of rows for other processes.
    access : str
        How these get at rows: ``direct``, ``targeted``, ``export``; '' where there are none.
    """

    read_s: float = 0.0
    write_s: float = 0.0
    decode_s: float = 0.0
    train_s: float = 0.0
    validate_s: float = 0.0
    build_s: float = 0.0
    hop_s: float = 0.0
    idle_s: float = 0.0
    workers: int = 0
    units: int = 0
    lost: int = 0
    moved_bytes: int = 0
    shard_bytes: int = 0
    access: str = ""

    def __str__(self) -> str:
        """A line for each part: seconds, and its share of all parts."""
        parts = {f.name[:-2]: getattr(self, f.name) for f in fields(self) if f.name.endswith("_s")}
        whole = sum(parts.values()) or 1.0
        lines = [f"{name:<9}{s:>10.3f} s {100 * s / whole:>5.1f} %" for name, s in parts.items()]
        lost = f", {self.lost} attempts lost" if self.lost else ""
        lines.append(
            f"{self.units} units on {self.workers} workers{lost}; {self.moved_bytes:,} bytes of "
            f"states and {self.shard_bytes:,} bytes of rows moved"
            + (f"; access to rows: {self.access}" if self.access else "")
        )
        return "\n".join(lines)


def report_of(events: Sequence[Event]) -> Report:
    """The report of a journal, also of a search that is under way."""
    units = [u for e in events if e["event"] in ("epoch", "saved") for u in e.get("units", ())]

    def summed(kind: str, name: str) -> float:
        return sum(e.get(name, 0) for e in events if e["event"] == kind)

    def of_units(name: str) -> float:
        return sum(u.get(name, 0) for u in units)

    rounds = [e for e in events if e["event"] == "trained"]
    offered = sum(e["workers"] * e["seconds"] for e in rounds)
    validate_s = summed("epoch", "validate_s")
    idle_s = offered - of_units("seconds") - validate_s
    return Report(
        read_s=max(0.0, summed("data", "seconds")),
        write_s=summed("shards", "seconds"),
        decode_s=of_units("decode_s"),
        train_s=of_units("train_s"),
        validate_s=validate_s,
        build_s=of_units("build_s"),
        hop_s=of_units("hop_s"),
        idle_s=max(0.0, idle_s) if rounds else 0.0,
        workers=max((e["workers"] for e in rounds), default=0),
        units=len(units),
        lost=int(sum(u.get("attempt", 1) - 1 for u in units)),
        moved_bytes=int(of_units("moved_bytes")),
        shard_bytes=int(summed("shards", "bytes")),
        access=next((e.get("access", "") for e in events if e["event"] == "shards"), ""),
    )
