"""The pages of docs/reference, made from the code: ``python -m gradbase.testing.reference FOLDER``.

What the parser, the option table or a module's ``__all__`` knows and nobody has documented is an
`Undocumented` error.
"""

from __future__ import annotations

from pathlib import Path

from gradbase.testing.reference.commands import command_line
from gradbase.testing.reference.create_model import options
from gradbase.testing.reference.facts import errors, rules, settings, tables
from gradbase.testing.reference.interface import python
from gradbase.testing.reference.markdown import Undocumented, page
from gradbase.testing.reference.sql import functions, preprocessing, statements

__all__ = ["PAGES", "Undocumented", "pages", "write"]

PAGES = {
    "sql-statements.md": ("SQL: statements", statements),
    "functions.md": ("SQL: functions", functions),
    "preprocessing.md": ("SQL: preprocessing functions", preprocessing),
    "options.md": ("SQL: options of CREATE MODEL", options),
    "settings.md": ("SQL: settings", settings),
    "tables.md": ("SQL: tables of schema gradbase", tables),
    "python.md": ("Python", python),
    "command-line.md": ("Command line", command_line),
    "errors.md": ("Errors", errors),
    "rules.md": ("Rules of the optimiser", rules),
}
"""File -> title, and what makes its text."""


def pages() -> dict[str, str]:
    """Text of every page by file name.

    Raises
    ------
    Undocumented
        Something that users can write has no words, or its words do not fit it any more.
    """
    made = {file: page(title, text()) for file, (title, text) in PAGES.items()}
    listed = [f"- [{title}]({file})" for file, (title, _) in PAGES.items()]
    intro = "Made from the code by `make reference`; every example runs in the tests."
    return {"README.md": page("Reference", [intro, "\n".join(listed)], note=False)} | made


def write(folder: Path) -> None:
    """Write every page into `folder`, and delete other pages there."""
    folder.mkdir(parents=True, exist_ok=True)
    made = pages()
    for file in folder.glob("*.md"):
        if file.name not in made:
            file.unlink()
    for name, text in made.items():
        (folder / name).write_text(text, "utf-8")
