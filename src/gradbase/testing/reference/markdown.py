"""Pieces of Markdown, and what stops a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

NOTE = "Made from the code by `make reference`: change the words there. [All pages](README.md)."


class Undocumented(Exception):  # noqa: N818
    """Something that users can write has no words, or its words do not fit it any more."""


def page(title: str, pieces: Iterable[str], *, note: bool = True) -> str:
    """A page of `pieces`, which become paragraphs."""
    parts = [f"# {title}", *([NOTE] if note else []), *pieces]
    return "\n\n".join(p.strip("\n") for p in parts) + "\n"


def fenced(language: str, code: str) -> str:
    """A block of code."""
    return f"```{language}\n{code.strip(chr(10))}\n```"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; bars inside its cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    cells = ([c.replace("|", "\\|").replace("\n", " ") for c in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def need(missing: Iterable[str], what: str, where: str) -> None:
    """Raise where anything is missing."""
    names = sorted(missing)
    if names:
        raise Undocumented(f"{what} without words: {', '.join(names)}; add them in {where}")
