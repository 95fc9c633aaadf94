"""Writing a model to a file that others read."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gradbase.errors import ParseError, UnsupportedError, near
from gradbase.ir.grouping import keys_of_model
from gradbase.ir.learning import Model
from gradbase.runtime.encode import Blobs
from gradbase.runtime.export.core import Exportable, traced
from gradbase.runtime.export.onnx_file import METHOD_NAMES, facts_of, onnx_model, quiet
from gradbase.store.files import reported, sync_folder

_ONE_FILE_BYTES = 1 << 30
"""Weights beyond this go to ``<name>.onnx.data``: one ONNX file holds at most 2 GB."""


def export_model(model: Model, blobs: Blobs | None, path: Path) -> None:
    """Write a model to `path`; its suffix says the form.

    ``.onnx``: see `onnx_file.onnx_model`. ``.pt2``: a program for ``torch.export.load`` that takes
    the columns that the network reads (what TRANSFORM gives, where there is one) as `Exportable`
    says (text as codes; the file's extra ``gradbase.json`` has the
    vocabularies, features, classes and names of the outputs).

    The file appears whole or not at all; its folder is made where it is missing. Nothing else may
    be traced or trained at the same time.

    Raises
    ------
    ParseError
        Another suffix.
    StoreError
        The file cannot be written.
    UnsupportedError
        The network has no such form.
    """
    if keys_of_model(model):
        raise UnsupportedError(
            f"model `{model.name}` is one per group, which is not exported",
            hint="train a model on the rows of one group, and export that",
        )
    write = _FORMATS.get(path.suffix)
    if write is None:
        raise ParseError(
            f"a model is exported to a file that ends in {' or '.join(_FORMATS)}, "
            f"found `{path.name}`",
            hint=near(path.suffix, _FORMATS) or f"{path.name}.onnx",
        )
    with reported(f"writing model {model.address} to {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        _whole(path, lambda part: write(model, blobs, part))
        sync_folder(path.parent)


def _whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder beside `path`, then move its files into their places."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        write(Path(folder) / path.name)
        # Large weights first: the file that names them comes last.
        for made in sorted(Path(folder).iterdir(), key=lambda p: p.name == path.name):
            with made.open("rb") as file:
                os.fsync(file.fileno())
            made.replace(path.parent / made.name)


def _write_onnx(model: Model, blobs: Blobs | None, path: Path) -> None:
    proto = onnx_model(model, blobs)
    import onnx

    if model.param_bytes < _ONE_FILE_BYTES:
        path.write_bytes(proto.SerializeToString())
        return
    onnx.save_model(
        proto, str(path), save_as_external_data=True, location=f"{path.name}.data",
        all_tensors_to_one_file=True,
    )  # fmt: skip


def _write_torch(model: Model, blobs: Blobs | None, path: Path) -> None:
    module = Exportable(model, blobs).eval()
    vocabularies = {n: list(c.vocabulary) for n, c in module.categories.items()}
    nulls = {n: c.missing_code for n, c in module.categories.items()}
    facts: dict[str, Any] = facts_of(module, module.features) | {
        "gradbase.vocabularies": json.dumps(vocabularies),
        "gradbase.null_codes": json.dumps(nulls),
        "gradbase.outputs": json.dumps([METHOD_NAMES[m] for m in module.methods]),
    }
    with quiet():
        torch.export.save(traced(module), path, extra_files={"gradbase.json": json.dumps(facts)})


_FORMATS = {".onnx": _write_onnx, ".pt2": _write_torch}
