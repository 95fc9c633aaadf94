"""Nothing public is without words, nothing registered without its files."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import shlex
from pathlib import Path

import pytest
import typer

import gradbase
from gradbase import errors

ROOT = Path(__file__).parents[2]
MODULES = sorted(m.name for m in pkgutil.walk_packages(gradbase.__path__, "gradbase."))


def rules():
    from gradbase.optimizer.stages import all_rules

    return sorted(r.name for r in all_rules())


def public_objects(module):
    for name, value in vars(module).items():
        own = getattr(value, "__module__", None) == module.__name__
        if (
            own
            and not name.startswith("_")
            and (inspect.isclass(value) or inspect.isfunction(value))
        ):
            yield name, value


@pytest.mark.parametrize("name", MODULES)
def test_public_objects_have_docstrings(name):
    """A sentence for every public class and function; the module too."""
    module = importlib.import_module(name)
    missing = [n for n, value in public_objects(module) if not inspect.getdoc(value)]
    assert not missing
    assert module.__doc__ or name.count(".") == 1


def test_every_rule_has_its_file_and_cases():
    """optimizer/rules/<rule>.py and tests/rules/<rule>.rule, the latter with a case unchanged."""
    for rule in rules():
        assert (ROOT / "src/gradbase/optimizer/rules" / f"{rule}.py").exists(), rule
        cases = ROOT / "tests/rules" / f"{rule}.rule"
        assert cases.exists(), rule
        assert "unchanged" in cases.read_text(), rule


def test_every_error_stands_in_the_tree():
    """The tree on top of errors.py names every public exception."""
    for name in errors.__all__:
        assert name in errors.__doc__


def test_every_error_is_raised_in_a_test():
    """Each public exception is expected somewhere in the tests."""
    text = "\n".join(
        p.read_text()
        for s in ("*.py", "*.slt")
        for p in (ROOT / "tests").rglob(s)
        if p != Path(__file__)
    )
    for name in set(errors.__all__) - {"GradbaseError"}:
        assert name in text, name


def test_every_command_is_in_the_readme():
    """The README shows each command of the command line."""
    from gradbase.cli import app

    readme = (ROOT / "README.md").read_text()
    for command in app.registered_commands:
        assert f"gradbase {command.callback.__name__}" in readme


def commands_shown():
    """Every ``gradbase …`` line of a block for the shell, without its comment."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    blocks = (
        b
        for p in pages
        for b in re.findall(r"^```bash\n(.*?)^```", p.read_text(), re.MULTILINE | re.DOTALL)
    )
    lines = (line for block in blocks for line in block.splitlines())
    return [line for line in lines if line.startswith("gradbase ")]


@pytest.mark.parametrize("line", commands_shown())
def test_commands_shown_exist(line):
    """What the pages tell to type is parsed by the command line (nothing runs)."""
    from gradbase.cli import app

    group = typer.main.get_command(app)
    name, *arguments = shlex.split(line, comments=True)[1:]
    command = group.get_command(None, name)
    command.make_context(name, arguments)


def test_public_names_are_documented():
    """Every name of `gradbase.__all__` stands in the README or on a page."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    text = "".join(page.read_text() for page in pages)
    for name in gradbase.__all__:
        assert name in text, name
