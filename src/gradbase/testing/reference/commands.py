"""The page of the command line."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, get_args, get_type_hints

from typer.models import OptionInfo

from gradbase import cli
from gradbase.testing.reference.markdown import fenced, need, table


def command_line() -> Iterator[str]:
    """The page of commands, from their functions."""
    yield (
        "`gradbase [--log LEVEL] COMMAND …`. Errors go to standard error with exit status 1, Ctrl-C "
        "gives 130. `gradbase COMMAND --help` says the same as here."
    )
    assert cli.app.registered_callback is not None
    callbacks = [cli.app.registered_callback.callback]
    callbacks += [command.callback for command in cli.app.registered_commands]
    for callback in callbacks:
        assert callback is not None
        name = "" if callback is callbacks[0] else f" {callback.__name__}"
        need([] if callback.__doc__ else [name], "commands", "cli.py")
        parameters = list(_parameters(callback))
        yield f"## gradbase{name}"
        yield inspect.cleandoc(callback.__doc__ or "")
        yield fenced("text", " ".join([f"gradbase{name}", *(p[0] for p in parameters)]))
        need((p[1] for p in parameters if not p[2]), f"parameters of{name}", "cli.py")
        yield table(("", "meaning", "default"), [p[1:] for p in parameters])


def _parameters(callback: Callable[..., Any]) -> Iterator[tuple[str, str, str, str]]:
    """(in the usage, name, meaning, default) of each."""
    hints = get_type_hints(callback, include_extras=True)
    for name, parameter in inspect.signature(callback).parameters.items():
        info: Any = next(a for a in get_args(hints[name]) if hasattr(a, "param_decls"))
        is_option = isinstance(info, OptionInfo)
        shown = ", ".join(_names(name, info)) if is_option else name.upper()
        plain = parameter.default in (parameter.empty, None, False)
        default = "" if plain else str(parameter.default)
        if info.envvar:
            default = ", ".join(p for p in (f"`${info.envvar}`", default) if p)
        optional = is_option or parameter.default is not parameter.empty
        usage = shown
        if is_option:
            usage = _names(name, info)[0]
            usage += "" if parameter.default is False else f" {name.upper()}"
        yield (f"[{usage}]" if optional else usage), f"`{shown}`", info.help or "", default


def _names(name: str, info: Any) -> list[str]:
    """How an option is written; with `Annotated` typer finds the first name in `default`."""
    first = [info.default] if isinstance(info.default, str) else []
    return [*first, *(info.param_decls or ())] or [f"--{name.replace('_', '-')}"]
