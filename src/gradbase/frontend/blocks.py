"""One select block with predictions: taken apart, or its text over a relation of ours, or as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradbase.errors import EngineError
from gradbase.frontend.calls import Argument, Call
from gradbase.frontend.convert import Converter
from gradbase.frontend.features import Given, method_of, predict_call
from gradbase.frontend.from_clause import build_source
from gradbase.frontend.over_relation import bind_over_relation
from gradbase.frontend.rich import Bound
from gradbase.frontend.scopes import Scope, with_prefix
from gradbase.frontend.select_list import aliases_of
from gradbase.frontend.simple import bind_simple
from gradbase.frontend.structure import Block, Unrecognised
from gradbase.ir.scalar import Column, PredictCall

if TYPE_CHECKING:
    from gradbase.frontend.binder import Binder


def bind_block(binder: Binder, block: Block, scope: Scope) -> Bound:
    """The block as a relation; each way is tried in turn, the most open one first."""
    for way in (bind_simple, bind_over_relation):
        try:
            return way(binder, converter_of(binder, block, scope), block, scope)
        except (Unrecognised, EngineError):
            continue
    return binder.in_text(block, scope)


def converter_of(binder: Binder, block: Block, scope: Scope) -> Converter:
    """A converter for the block's expressions."""
    return Converter(
        binder.text,
        build_source(binder, block.clauses.get("FROM"), scope),
        binder.calls,
        binder.asker,
        lambda call, converter: _predict(binder, call, converter),
        lambda span: binder.rewrite(span, scope),
        lambda rich: with_prefix(rich, scope),
        aliases_of(binder.text, block.clauses.get("SELECT")),
    )


def _predict(binder: Binder, call: Call, converter: Converter) -> PredictCall:
    """A scalar prediction over the columns of the block's source."""
    model = binder.model(call)
    by_name = any(a.kind != "plain" for a in call.arguments)
    given: list[Given] = []
    for argument in call.arguments:
        if argument.kind == "star":
            columns = converter.source.of_qualifier(argument.name)
            given += [Given(c.name, Column(c.out, c.type)) for c in columns]
            continue
        named = _name(binder, argument) if by_name else ""
        # What is named later wins over what a star brought.
        given = [g for g in given if not by_name or g.name.casefold() != named.casefold()]
        given.append(Given(named, converter.scalar(argument.value)))
    at = binder.text.at(call.whole)
    method = method_of(call.function, model)
    return predict_call(model, method, given, by_name=by_name, at=at)


def _name(binder: Binder, argument: Argument) -> str:
    return argument.name or binder.text.tokens[argument.value[1] - 1].name
