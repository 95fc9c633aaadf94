"""Freeing blobs that nothing names any more.

Under the catalog lock, so that nothing is committed meanwhile. A blob goes at once if the model
that named it was dropped and no other process creates blobs; anything else nobody names goes an
hour after it was last put. What a creator of this process has put stays while its lease lives.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gradbase.store.blobs import LIST, Blobs, hash_in
from gradbase.store.catalog import Catalog
from gradbase.store.files import reported, sync_folder
from gradbase.store.tables import NAMING

GRACE_S = 3600.0


@dataclass(frozen=True)
class Swept:
    """Files deleted, and their bytes."""

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
    if not blobs.path.is_dir():
        return Swept()
    with folder.lock, folder.alone() as alone:
        at_once = expanded(blobs, freed) if alone else set[str]()
        doomed = [
            path
            for path in nameless(catalog, blobs)
            if hash_in(path) in at_once or is_old(path, grace_s)
        ]
        doomed += [p for p in folder.halves.glob("*") if is_old(p, grace_s)]
        return delete(doomed)


def nameless(catalog: Catalog, blobs: Blobs) -> Iterator[Path]:
    """Files of blobs that neither the catalog nor a creator names; lists before their chunks.

    Files from before the catalog was made are left out: they may belong to another database
    that had the same name.
    """
    keep = expanded(blobs, named(catalog))
    for lease in list(blobs.folder.leases):
        keep |= expanded(blobs, lease.hashes)
    made = catalog.rows(["epoch(created) AS seconds"], "FROM {g}.format")
    since = made[0]["seconds"] if made else 0.0
    for path in sorted(blobs.path.iterdir(), key=lambda p: not p.name.endswith(LIST)):
        if hash_in(path) not in keep and path.stat().st_mtime >= since - 1:
            yield path


def named(catalog: Catalog) -> set[str]:
    """Hashes that the catalog names."""
    tables = " UNION ".join(f"SELECT hash FROM {{g}}.{table}" for table in NAMING)
    return {row["hash"] for row in catalog.rows(["hash"], f"FROM ({tables}) AS named")}


def expanded(blobs: Blobs, hashes: Iterable[str]) -> set[str]:
    """The hashes and those of their chunks."""
    found = set(hashes)
    lists = {hash_in(path) for path in blobs.path.glob(f"*{LIST}")}
    for blob in found & lists:
        found.update(blobs.chunks(blob))
    return found


def is_old(path: Path, grace_s: float) -> bool:
    """Whether the file was last put more than `grace_s` seconds ago."""
    return time.time() - path.stat().st_mtime > grace_s


def delete(paths: Iterable[Path]) -> Swept:
    """Delete files durably."""
    files, size_bytes, folders = 0, 0, set[Path]()
    with reported("deleting blobs"):
        for path in paths:
            size_bytes += path.stat().st_size
            path.unlink()
            files += 1
            folders.add(path.parent)
        for folder in folders:
            sync_folder(folder)
    return Swept(files, size_bytes)
