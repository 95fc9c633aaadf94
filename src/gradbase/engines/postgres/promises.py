"""What PostgreSQL guarantees of the rows of a table: declared constraints.

Left out is what it does not check at every statement or for every row (deferrable constraints,
those not validated or not enforced), and what others may not see: a table whose rows a policy
hides, one that others inherit from, or one with texts that differ and count as equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradbase.errors import EngineError
from gradbase.ir.facts import Promises, Reference

if TYPE_CHECKING:
    from gradbase.engines.postgres.engine import PostgresEngine

_TABLE = """
SELECT c.oid::text,
 ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid
       AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull AND NOT EXISTS (
         SELECT FROM pg_catalog.pg_constraint n WHERE n.conrelid = c.oid AND n.contype = 'n'
         AND n.conkey = ARRAY[a.attnum] AND NOT n.convalidated))
FROM pg_catalog.pg_class c
WHERE c.oid = to_regclass($table) AND NOT c.relrowsecurity
 AND NOT EXISTS (
   SELECT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
   WHERE a.attrelid = c.oid AND NOT l.collisdeterministic)
 AND (c.relkind = 'p' OR c.relkind = 'r' AND NOT c.relhassubclass)
"""
_CONSTRAINTS = """
SELECT k.contype::text, k.confrelid::text,
 ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(n, at)
       JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n ORDER BY u.at),
 ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u(n, at)
       JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.n ORDER BY u.at)
FROM pg_catalog.pg_constraint k
WHERE k.conrelid = $oid::oid AND k.contype IN ('p', 'u', 'f') AND k.convalidated
 AND NOT k.condeferrable
"""


def promises(engine: PostgresEngine, table: str, columns: tuple[str, ...]) -> Promises | None:
    """What is sure of the table called `table`; None for what is none."""
    try:
        tables = engine.rows(_TABLE, {"table": table}, None)
        if not tables:
            return None
        ((oid, filled),) = tables
        rows = engine.rows(_CONSTRAINTS, {"oid": oid}, None)
    except EngineError:
        return None
    unique = frozenset(frozenset(own) for kind, _, own, _ in rows if kind in "pu")
    references = frozenset(
        Reference(tuple(own), other, tuple(others))
        for kind, other, own, others in rows
        if kind == "f"
    )
    return Promises(oid, unique, references, frozenset(filled).intersection(columns))
