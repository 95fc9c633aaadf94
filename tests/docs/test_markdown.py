"""The code in the documentation runs, in the order in which it is read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gradbase.testing.servers import postgres_url, spark

ROOT = Path(__file__).parents[2]
REFERENCE = sorted((ROOT / "docs" / "reference").glob("*.md"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *REFERENCE]
MORE = [
    ROOT / "CONTRIBUTING.md",
    ROOT / "examples" / "README.md",
    *(ROOT / "benchmarks").glob("*.md"),
    *(ROOT / "docs" / "design").glob("*.md"),
]
CODE = re.compile(r"^```.*?^```|``.+?``|`[^`\n]+`", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str, int]]:
    """(language, code, line) of every Python and SQL block of a page."""
    text = page.read_text()
    return [
        (match[1], match[2], text.count("\n", 0, match.start()) + 2)
        for match in FENCE.finditer(text)
        if match[1] in ("python", "sql")
    ]


def name_of(page: Path) -> str:
    """A page's path below the root."""
    return str(page.relative_to(ROOT))


def page_with_code(page):
    """A page as a parameter; the one that needs a Spark runs where the other tests of Spark do."""
    marks = [pytest.mark.xdist_group("spark")] if page.stem == "spark" else []
    return pytest.param(page, marks=marks)


@pytest.mark.parametrize("page", [page_with_code(p) for p in PAGES if blocks(p)], ids=name_of)
def test_code_of_page_runs(page, tmp_path, monkeypatch):
    """Python blocks share one namespace; SQL blocks run on its session `db`."""
    monkeypatch.chdir(tmp_path)
    if page.stem == "spark":
        spark()
    if page.stem == "postgresql":
        monkeypatch.setenv("DATABASE_URL", postgres_url())
    names: dict = {"__name__": "documentation"}
    try:
        for language, code, line in blocks(page):
            run(language, code, line, page, names)
    finally:
        if "db" in names:
            names["db"].close()
        names.clear()  # what a page defines may be kept somewhere, its session must not be


def run(language, code, line, page, names):
    if language == "python":
        source = "\n" * (line - 1) + code  # so that errors name the line of the page
        exec(compile(source, str(page), "exec", dont_inherit=True), names)
        return
    for result in names["db"].script(code):
        result.text()


@pytest.mark.parametrize("page", [*PAGES, *MORE], ids=name_of)
def test_links_lead_somewhere(page):
    """Relative links name files that exist."""
    text = CODE.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target
