"""Parameters of a statement: ``?`` and ``$1`` become ``$p1``; values go with their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradbase.frontend.tokens import tokenize

Parameters = Mapping[str, object] | Sequence[object] | None


def normalise(sql: str) -> str:
    """`sql` with ``?``, ``?1`` and ``$1`` written ``$p1``; named ones stay.

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
