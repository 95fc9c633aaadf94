"""CREATE MODEL of a file: ``OPTIONS (model_type = 'onnx', model_path = '…')``, without a query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from gradbase.errors import BindError, UnsupportedError, near
from gradbase.frontend.cursor import OptionValue

KINDS = {"onnx": "onnx", "torch": "pt2"}
"""What model_type says of a file, and what is in it."""
OPTIONS: Mapping[str, str] = {
    "model_type": "`'onnx'`, or `'torch'`: an exported program, `.pt2`",
    "model_path": "the file, of the machine that runs gradbase",
    "features": "the columns that are read, in their order; left out: named as the inputs",
    "output": "which output `PREDICT` gives; left out: the first",
    "classes": "the output has one logit for each of these; `PREDICT` gives the class",
    "label": "the output is one number, to be compared with this column",
}
"""The options, and what each says."""


@dataclass(frozen=True)
class ImportModel:
    """A file that becomes a version of model `name`; `kind` is ``onnx`` or ``pt2``.

    `features`, `classes`, `label` and `output` as in `Session.import_model`; `at` marks the path.
    """

    name: str
    or_replace: bool
    if_not_exists: bool
    kind: str
    path: Path
    sql: str
    at: str | None = None
    features: tuple[str, ...] | None = None
    classes: tuple[object, ...] | None = None
    label: str | None = None
    output: str | None = None
    options: Mapping[str, object] = field(default_factory=dict[str, object], hash=False)


def is_import(options: Mapping[str, OptionValue]) -> bool:
    """Whether the options of a CREATE MODEL name a file."""
    given = options.get("model_type", OptionValue("onnx" if "model_path" in options else "")).value
    return isinstance(given, str) and given.lower() in KINDS


def read_import(
    name: str,
    options: Mapping[str, OptionValue],
    sql: str,
    *,
    or_replace: bool,
    if_not_exists: bool,
) -> ImportModel:
    """The import that `options` ask for.

    Raises
    ------
    BindError
        An option is unknown, missing or of the wrong kind.
    """
    for option, value in options.items():
        if option not in OPTIONS:
            raise BindError(
                f"a model of a file has no option `{option}`; there are {', '.join(OPTIONS)}",
                at=value.name_at,
                hint=near(option, OPTIONS),
            )
    kind = _text(options, "model_type", f"model_type is {' or '.join(map(repr, KINDS))}")
    if kind is None or kind.lower() not in KINDS:
        raise BindError(
            f"model_path is of a model_type {' or '.join(map(repr, KINDS))}, found {kind!r}",
            at=options.get("model_type", options["model_path"]).name_at,
        )
    path = _text(options, "model_path", "model_path is a file in quotes")
    if not path:
        raise BindError(
            f"model_type '{kind}' needs the option model_path",
            at=options["model_type"].name_at,
            hint="OPTIONS (model_type = 'onnx', model_path = 'm.onnx')",
        )
    at = options["model_path"].value_at
    features = _list(options, "features")
    if features is not None and not all(isinstance(f, str) for f in features):
        raise BindError("features is a list of columns' names", at=options["features"].value_at)
    return ImportModel(
        name, or_replace, if_not_exists, KINDS[kind.lower()], _local(path, at), sql, at,
        None if features is None else tuple(str(f) for f in features), _list(options, "classes"),
        _text(options, "label", "label is the name of a column"),
        _text(options, "output", "output is the name of an output"),
        {k: v.value for k, v in options.items()},
    )  # fmt: skip


def _text(options: Mapping[str, OptionValue], name: str, expected: str) -> str | None:
    found = options.get(name)
    if found is None:
        return None
    if not isinstance(found.value, str):
        raise BindError(f"{expected}, found {found.value!r}", at=found.value_at)
    return found.value


def _list(options: Mapping[str, OptionValue], name: str) -> tuple[object, ...] | None:
    found = options.get(name)
    if found is None:
        return None
    if not isinstance(found.value, list) or not found.value:
        raise BindError(
            f"{name} is a list such as ['a', 'b'], found {found.value!r}", at=found.value_at
        )
    return tuple(found.value)


def _local(text: str, at: str | None) -> Path:
    parts = urlsplit(text)
    if len(parts.scheme) > 1 and parts.scheme != "file":
        raise UnsupportedError(
            f"models are imported from local files, `{parts.scheme}:` is none",
            at=at,
            hint="copy the file to this machine",
        )
    return Path(unquote(parts.path)) if parts.scheme == "file" else Path(text)
