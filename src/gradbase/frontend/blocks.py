"""One select block with predictions: taken apart, or text over a relation of ours, or text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradbase.errors import EngineError
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
    for way in (bind_simple, bind_over_relation) if direct else (bind_simple,):
        try:
            return way(converter_of(binder, block, scope), block, binder, scope)
        except (Unrecognised, EngineError):
            continue
    return binder.in_text(block, scope)


def converter_of(binder: Binder, block: Block, scope: Scope) -> Converter:
    """A converter for the block's expressions."""
    source = build_source(binder, block.clauses.get("FROM"), scope)
    aliases = aliases_of(binder.text, block.clauses.get("SELECT"))
    return over_source(binder, source, scope, aliases)
