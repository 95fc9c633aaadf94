"""numpydoc docstrings as Markdown."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

from gradbase.testing.reference.markdown import fenced

_HEADING = re.compile(r"^(\w[\w ]*)\n-{3,}\n", re.MULTILINE)


def sections(doc: str) -> dict[str, str]:
    """Text by heading; '' is what stands before the first.

    Examples
    --------
    >>> sections("Short.\\n\\nRaises\\n------\\nBindError\\n    Why.")
    {'': 'Short.', 'Raises': 'BindError\\n    Why.'}
    """
    parts = _HEADING.split(inspect.cleandoc(doc) + "\n")
    pairs = zip(["", *parts[1::2]], parts[0::2], strict=True)
    return {name: text.strip("\n") for name, text in pairs}


def items(text: str) -> Iterator[tuple[str, str, str]]:
    """(names, type, meaning) of a section such as Parameters."""
    for block in re.split(r"\n(?=\S)", text):
        head, _, rest = block.partition("\n")
        names, _, kind = head.partition(" : ")
        yield names, kind, " ".join(rest.split())


def as_markdown(doc: str) -> list[str]:
    """Paragraphs of a docstring; examples are sessions of Python."""
    found = sections(doc)
    pieces = [_literals(found.pop(""))]
    for name, text in found.items():
        if name == "Examples":
            pieces.append(fenced("pycon", text))
        else:
            listed = "\n".join(_item(*item) for item in items(text))
            pieces.append(f"*{name}*\n\n{listed}")
    return pieces


def _item(names: str, kind: str, meaning: str) -> str:
    shown = ", ".join(f"`{n.strip()}`" for n in names.split(","))
    typed = f" ({kind})" if kind else ""
    return f"- {shown}{typed}" + (f": {meaning}" if meaning else "")


def _literals(text: str) -> str:
    """Indented blocks after ``::``, and sessions of Python, as blocks of code."""
    text, prompt, session = text.partition(">>> ")
    if prompt:
        return f"{_literals(text)}\n\n{fenced('pycon', prompt + session)}"
    parts = re.split(r"::\n\n((?:[ ]{4}.*\n?|\n)+)", text)
    blocks = (
        fenced("text", inspect.cleandoc("\n" + p)) if i % 2 else p.strip("\n")
        for i, p in enumerate(parts)
    )
    return "\n\n".join(b for b in blocks if b)
