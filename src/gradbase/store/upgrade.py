"""From an older format of the catalog to the current one, step by step in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradbase.engines.base import Transaction
from gradbase.errors import StoreError
from gradbase.store import tables

STEPS: Mapping[int, Sequence[str]] = {}
"""Version -> statements that make the next one of it, over ``{g}.<table>``."""


def check(version: int, *, read_only: bool) -> None:
    """StoreError where a catalog of `version` cannot be used."""
    if version > tables.FORMAT:
        raise StoreError(
            f"the models were written by a newer gradbase: their format is {version}, this one "
            f"reads up to {tables.FORMAT}",
            hint="pip install --upgrade gradbase",
        )
    if version < tables.FORMAT and read_only:
        raise StoreError(
            f"the models have format {version} and must be upgraded to {tables.FORMAT}, but the "
            "database is open read-only",
            hint="connect once without read_only=True",
        )


def run(version: int, handle: Transaction, schema: str) -> None:
    """Bring a catalog from `version` to the current format inside the transaction `handle`."""
    check(version, read_only=False)
    for number in range(version, tables.FORMAT):
        for statement in STEPS[number]:
            handle.execute(statement.format(g=schema))
    handle.execute(f"UPDATE {schema}.format SET version = ?", [tables.FORMAT])
