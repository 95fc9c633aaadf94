"""Freeing blobs that nothing names any more.

Under the catalog lock, so that nothing is committed meanwhile. A blob goes at once if the model
that named it was dropped and no other process creates blobs; anything else nobody names goes an
hour after it was last put. What a creator of this process has put stays while its lease lives.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gradbase.store.blobs import LIST, Blobs, hash_in
from gradbase.store.catalog import Catalog, now
from gradbase.store.pieces import Piece
from gradbase.store.tables import NAMING

GRACE_S = 3600.0


@dataclass(frozen=True)
class Swept:
    """Files, or pieces in a table, deleted, and their bytes."""

    files: int = 0
    size_bytes: int = 0


def collect(
    catalog: Catalog, blobs: Blobs, freed: Iterable[str] = (), *, grace_s: float = GRACE_S
) -> Swept:
    """Delete blobs without a name.

    Parameters
    ----------
    freed : iterable of str
        Hashes that just lost a name: deleted at once where they have no other.
    grace_s : float, seconds
        How long other nameless files stay after they were last put.
    """
    folder = blobs.folder
    pieces = blobs.pieces
    if pieces.missing:
        return Swept()
    with folder.lock, pieces.alone() as alone:
        at_once = expanded(blobs, freed) if alone else set[str]()
        doomed = [
            piece
            for piece in nameless(catalog, blobs)
            if hash_in(piece.name) in at_once or piece.age_s > grace_s
        ]
        halves = [p for p in pieces.halves() if p.age_s > grace_s]
        pieces.delete(p.name for p in doomed)
        pieces.delete_halves(p.name for p in halves)
        return Swept(len(doomed + halves), sum(p.size_bytes for p in doomed + halves))


def nameless(catalog: Catalog, blobs: Blobs) -> Iterator[Piece]:
    """Pieces of blobs that neither the catalog nor a creator names; lists before their chunks.

    Pieces from before the catalog was made are left out: they may belong to another database
    that had the same name.
    """
    keep = expanded(blobs, named(catalog))
    for lease in list(blobs.folder.leases):
        keep |= expanded(blobs, lease.hashes)
    made = catalog.rows(["created"], "FROM {g}.format")
    age_s = (now() - made[0]["created"]).total_seconds() if made else math.inf
    for piece in sorted(blobs.pieces.listing(), key=lambda p: not p.name.endswith(LIST)):
        if hash_in(piece.name) not in keep and piece.age_s <= age_s + 1:
            yield piece


def named(catalog: Catalog) -> set[str]:
    """Hashes that the catalog names."""
    tables = " UNION ".join(f"SELECT hash FROM {{g}}.{table}" for table in NAMING)
    return {row["hash"] for row in catalog.rows(["hash"], f"FROM ({tables}) AS named")}


def expanded(blobs: Blobs, hashes: Iterable[str]) -> set[str]:
    """The hashes and those of their chunks."""
    found = set(hashes)
    for blob in found.copy():
        found.update(blobs.chunks(blob))
    return found
