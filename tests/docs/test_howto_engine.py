"""The engine that the how-to page makes keeps the contract of engines."""

from __future__ import annotations

from docs.test_markdown import ROOT, blocks

_names = {"__name__": __name__}
for _, _code, _line in blocks(ROOT / "docs/howto-engine.md"):
    if "\nclass " in _code:
        exec(compile(_code, "howto-engine.md", "exec", dont_inherit=True), _names)

TestFolder = _names["TestFolder"]
