"""Makes converters: what our functions mean over a source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gradbase.frontend.calls import Argument, Call
from gradbase.frontend.convert import Converter
from gradbase.frontend.features import Given, method_of, predict_call
from gradbase.frontend.preprocessing import preprocessing_scalar
from gradbase.frontend.scopes import Scope, with_prefix
from gradbase.frontend.sources import Source
from gradbase.frontend.structure import Span
from gradbase.ir.scalar import Column, PredictCall, Scalar

if TYPE_CHECKING:
    from gradbase.frontend.binder import Binder


def over_source(
    binder: Binder, source: Source, scope: Scope, aliases: Mapping[str, Span]
) -> Converter:
    """A converter for expressions over `source`."""
    return Converter(
        binder.text,
        binder.calls,
        source,
        binder.asker,
        lambda call, converter: called(binder, call, converter),
        lambda span: binder.rewrite(span, scope),
        lambda rich: with_prefix(rich, scope),
        aliases,
    )


def called(binder: Binder, call: Call, converter: Converter) -> Scalar:
    """What a call means over the columns of the block's source."""
    if call.preprocesses:
        return preprocessing_scalar(binder.text, call, converter.scalar)
    return _predict(binder, call, converter)


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
