"""One way to write a statement: ``$p1`` for ``?`` and ``$1``, double quotes for backticks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradbase.frontend.tokens import quote_identifier, tokenize

Parameters = Mapping[str, object] | Sequence[object] | None


def normalise(sql: str) -> str:
    """`sql` with ``?``, ``?1`` and ``$1`` written ``$p1``, and with one kind of quotes.

    Examples
    --------
    >>> normalise("SELECT ? + ?, '?' , $x")
    "SELECT $p1 + $p2, '?' , $x"
    """
    pieces: list[str] = []
    count = 0
    for token in tokenize(sql):
        text = token.text
        if token.kind == "param":
            if text == "?":
                count += 1
                text = f"$p{count}"
            elif text[1:].isdigit():
                text = f"$p{text[1:]}"
        elif text[0] == "`" and text.endswith("`", 1):
            text = quote_identifier(token.name)
        pieces.append(text)
    return "".join(pieces)


def parameter_values(parameters: Parameters) -> dict[str, object]:
    """Values by the names that `normalise` gives."""
    if parameters is None:
        return {}
    if isinstance(parameters, Mapping):
        return {
            f"p{name}" if str(name).isdigit() else str(name).removeprefix("$"): value
            for name, value in parameters.items()
        }
    return {f"p{i}": value for i, value in enumerate(parameters, start=1)}
