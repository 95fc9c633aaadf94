"""One select block with predictions: taken apart, or text over a relation of ours, or text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradbase.errors import BindError, EngineError
from gradbase.frontend.convert import Converter
from gradbase.frontend.from_clause import build_source
from gradbase.frontend.over_relation import bind_over_relation
from gradbase.frontend.predictions import over_source
from gradbase.frontend.rich import Bound
from gradbase.frontend.scopes import Scope
from gradbase.frontend.select_list import aliases_of
from gradbase.frontend.simple import bind_simple
from gradbase.frontend.structure import Block, Unrecognised

if TYPE_CHECKING:
    from gradbase.frontend.binder import Binder


def bind_block(binder: Binder, block: Block, scope: Scope) -> Bound:
    """The block as a relation; each way is tried in turn, the most open one first."""
    direct = binder.direct(block.body)
    source = block.clauses.get("FROM")
    if not direct and (source is None or not binder.predicts(source)):
        return binder.in_text(block, scope)
    _check_analytic(binder, block)
    refused: EngineError | None = None
    for way in (bind_simple, bind_over_relation) if direct else (bind_simple,):
        try:
            return way(converter_of(binder, block, scope), block, binder, scope)
        except Unrecognised:
            continue
        except EngineError as error:
            refused = error
    if refused is not None and any(call.is_analytic for call in direct):
        raise refused  # left in the text it would be refused for where it stands
    return binder.in_text(block, scope)


_AFTER_WINDOWS = ("SELECT", "ORDER", "QUALIFY", "LIMIT", "OFFSET")
"""Clauses that are computed when the rows of the query are known."""


def _check_analytic(binder: Binder, block: Block) -> None:
    """Analytic functions see the rows of the query: they stand where window functions may.

    Raises
    ------
    BindError
        One stands in WHERE, GROUP BY and the like, or beside a GROUP BY.
    """
    grouped = "GROUP" in block.clauses or "HAVING" in block.clauses
    for clause, span in block.clauses.items():
        for call in binder.own_calls(span):
            if not call.is_analytic or (clause in _AFTER_WINDOWS and not grouped):
                continue
            where = "a query with GROUP BY" if clause in _AFTER_WINDOWS else clause
            raise BindError(
                f"ML.{call.function} … OVER () learns from the rows of the query, it cannot stand "
                f"in {where}",
                at=binder.text.at(call.whole),
                hint="compute it in a subquery: SELECT … FROM (SELECT *, ML.… OVER () AS x …)",
            )


def converter_of(binder: Binder, block: Block, scope: Scope) -> Converter:
    """A converter for the block's expressions."""
    source = build_source(binder, block.clauses.get("FROM"), scope)
    aliases = aliases_of(binder.text, block.clauses.get("SELECT"))
    return over_source(binder, source, scope, aliases)
