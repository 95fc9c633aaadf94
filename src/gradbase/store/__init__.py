"""Models that last: blobs beside the database, a catalog inside it, journals of runs."""

from __future__ import annotations

from gradbase.store.blobs import Blobs, bytes_of, hash_of
from gradbase.store.fsck import Report
from gradbase.store.journal import Journal
from gradbase.store.lineage import Environment, Lineage
from gradbase.store.records import (
    EpochRecord,
    FeatureRecord,
    FoldRecord,
    ModelRecord,
    Scores,
    TrialRecord,
)
from gradbase.store.store import Store

__all__ = [
    "Blobs",
    "Environment",
    "EpochRecord",
    "FeatureRecord",
    "FoldRecord",
    "Journal",
    "Lineage",
    "ModelRecord",
    "Report",
    "Scores",
    "Store",
    "TrialRecord",
    "bytes_of",
    "hash_of",
]
