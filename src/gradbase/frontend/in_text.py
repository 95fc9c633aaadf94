"""Calls of ours that stay in the user's text: predictions as functions in the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradbase.errors import BindError, EngineError, UnsupportedError
from gradbase.frontend.calls import Argument, Call
from gradbase.frontend.features import Given, method_of, predict_call
from gradbase.frontend.preprocessing import preprocessing_scalar
from gradbase.frontend.rich import join_pieces
from gradbase.frontend.scopes import Scope, with_prefix
from gradbase.frontend.select_list import alias_of
from gradbase.frontend.structure import Block, Span
from gradbase.frontend.tokens import quote_identifier
from gradbase.ir.learning import Model
from gradbase.ir.scalar import Scalar, SqlScalar
from gradbase.ir.types import SqlType

if TYPE_CHECKING:
    from gradbase.frontend.binder import Binder


def call_in_text(binder: Binder, call: Call, scope: Scope, block: Block | None) -> Scalar:
    """The call, its arguments as text in the scope where it stands."""
    if call.is_analytic:
        raise UnsupportedError(
            f"ML.{call.function} … OVER () cannot be computed in this place",
            at=binder.text.at(call.whole),
            hint="compute it in a WITH query first",
        )
    if call.preprocesses:
        return preprocessing_scalar(
            binder.text, call, lambda span: _value(binder, span, scope, block, None)
        )
    model, at = binder.model(call), binder.text.at(call.whole)
    by_name = any(a.kind != "plain" for a in call.arguments)
    given: list[Given] = []
    for i, argument in enumerate(call.arguments):
        if argument.kind == "star":
            given += _columns(binder, argument, scope, block, at)
            continue
        trained = _trained(model, argument, None if by_name else i)
        value = _value(binder, argument.value, scope, block, trained)
        named = argument.name or binder.text.tokens[argument.value[1] - 1].name
        # What is named later wins over what a star brought.
        given = [g for g in given if not by_name or g.name.casefold() != named.casefold()]
        given.append(Given(named if by_name else "", value))
    return predict_call(model, method_of(call.function, model), given, by_name=by_name, at=at)


def output_names(binder: Binder, block: Block) -> dict[int, str]:
    """Names of outputs with calls of ours and no alias, to put behind them: their own text."""
    text, span = binder.text, block.clauses.get("SELECT")
    found: dict[int, str] = {}
    for piece in text.split(span) if span else []:
        if binder.predicts(piece) and alias_of(text, piece)[0] == "":
            name = " ".join(text.slice(piece).split())
            found[piece[1]] = f" AS {quote_identifier(name)}"
    return found


def _columns(
    binder: Binder, argument: Argument, scope: Scope, block: Block | None, at: str
) -> list[Given]:
    span = block.clauses.get("FROM") if block is not None else None
    star = binder.text.slice(argument.value)
    qualifier = star[: -len("*")]
    if span is None:
        raise BindError(
            f"the columns of `{star}` are not known here",
            at=at,
            hint="name them: PREDICT(model, t.a AS a, …)",
        )
    text = join_pieces(f"SELECT {star} FROM ", binder.stub_text(span, scope))
    found = binder.asker.types(with_prefix(text, scope).stub)
    return [Given(n, _text_scalar(f"{qualifier}{quote_identifier(n)}", t)) for n, t in found]


def _trained(model: Model, argument: Argument, position: int | None) -> SqlType | None:
    if position is not None:
        return model.features[position].of if position < len(model.features) else None
    for feature in model.features:
        if feature.name.casefold() == argument.name.casefold():
            return feature.of
    return None


def _value(
    binder: Binder, span: Span, scope: Scope, block: Block | None, trained: SqlType | None
) -> Scalar:
    """The argument's text; where the engine cannot say its type, it is taken as trained."""
    rich = binder.rewrite(span, scope, block)
    parts: list[str] = [""]
    args: list[Scalar] = []
    for piece in rich.pieces:
        if isinstance(piece, str):
            parts[-1] += piece
        elif isinstance(piece, Scalar):
            args.append(piece)
            parts.append("")
        else:
            raise BindError(
                "a subquery with predictions inside an argument of a prediction that depends on "
                "outer columns",
                at=binder.text.at(span),
                hint="compute it in a WITH query first",
            )
    of = _type_of(binder, span, scope, block)
    return SqlScalar(tuple(parts), tuple(args), of or trained or SqlType("null"))


def _type_of(binder: Binder, span: Span, scope: Scope, block: Block | None) -> SqlType | None:
    source = block.clauses.get("FROM") if block is not None else None
    try:
        text = join_pieces("SELECT ", binder.stub_text(span, scope))
        if source is not None:
            text = join_pieces(text, " FROM ", binder.stub_text(source, scope))
    except EngineError:
        return None
    found = binder.asker.probe(with_prefix(text, scope).stub)
    return found[0][1] if found else None


def _text_scalar(text: str, of: SqlType) -> Scalar:
    return SqlScalar((text,), (), of)
