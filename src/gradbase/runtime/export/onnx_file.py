"""A model as an ONNX graph: one named input per column, text as it is, labels as they are."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import warnings
from collections.abc import Generator, Sequence
from typing import Any

from gradbase.errors import BindError, UnsupportedError
from gradbase.ir.conversion import RECONSTRUCTION_ERRORS, ToTable
from gradbase.ir.derived import Derived
from gradbase.ir.learning import Feature, Model
from gradbase.ir.scalar import Column, Literal
from gradbase.runtime.encode import Blobs
from gradbase.runtime.export.computing import INSIDE, Computing, check_input, words_in
from gradbase.runtime.export.core import Exportable, traced

ROWS = "rows"
NULL_TEXT = ""
"""What stands for NULL in a text input, unless it is a category: then the next of these."""
_OTHER_NULLS = "\N{SYMBOL FOR NULL}"
OPSET, _ML_OPSET = 20, 4
METHOD_NAMES = {
    "label": "predict", "value": "predict", "raw": "predict", "centroid": "predict",
    "proba": "predict_proba", "reconstruction": "reconstruction",
    **{name: name for name in RECONSTRUCTION_ERRORS},
}  # fmt: skip


def onnx_model(model: Model, blobs: Blobs | None) -> Any:
    """The model as an ``onnx.ModelProto``.

    ================  ===========================================================================
    input             tensor
    ================  ===========================================================================
    number, boolean   double [rows], NaN where NULL
    date, timestamp   double [rows]: seconds since 1970 (UTC), NaN where NULL
    text, enum        string [rows]; NULL is the empty string (`null_text`)
    array of numbers  double [rows, n], NaN where NULL
    ================  ===========================================================================

    Outputs: ``predict`` (label or value) and, of a classifier, ``predict_proba`` (double [rows] of
    the higher label for two classes, else [rows, classes]), as ``PREDICT`` and ``PREDICT_PROBA``.

    Raises
    ------
    BindError
        A column has the name of an output.
    UnsupportedError
        An operator has no form in ONNX, by name; or the libraries are not installed.
    """
    onnx = _library()
    module = Exportable(model, blobs).eval()
    _check_names(module)
    proto = _core(module)
    _prefix_names(proto.graph)
    columns, outputs = list(proto.graph.input), list(proto.graph.output)
    del proto.graph.input[:]
    del proto.graph.output[:]
    for feature in model.features:
        proto.graph.input.append(_input(onnx, module, feature))
    nodes = [*_before(onnx, proto.graph, module, [c.name for c in columns]), *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    for output, inner in zip(module.outputs, outputs, strict=True):
        _output(onnx, proto.graph, output, inner)
    proto.opset_import.append(onnx.helper.make_opsetid("ai.onnx.ml", _ML_OPSET))
    proto.graph.name = model.address
    proto.producer_name = "gradbase"
    proto.doc_string = f"{model.address}: {model.task} of `{model.label}`"
    for key, value in facts_of(module, model.features).items():
        proto.metadata_props.add(key=key, value=value)
    return proto


def null_text(vocabulary: tuple[str, ...]) -> str:
    """The text that stands for NULL: '' where that is no category.

    Examples
    --------
    >>> null_text(("a", "b")), null_text(("", "b"))
    ('', '\u2400')
    """
    text = NULL_TEXT
    while text in vocabulary:
        text += _OTHER_NULLS
    return text


def _null(module: Exportable) -> str:
    """What stands for NULL in the texts of a model."""
    known = [word for category in module.categories.values() for word in category.vocabulary]
    columns = module.model.columns
    # What is computed of '' is not what is computed of NULL.
    computed = ("", *words_in(columns, module.blobs)) if columns else ()
    return null_text((*known, *computed))


def _check_names(module: Exportable) -> None:
    for feature in module.model.features:
        if feature.name in METHOD_NAMES.values():
            raise BindError(
                f"column `{feature.name}` has the name of an output of the file",
                hint=f"train on a query that renames it: SELECT {feature.name} AS other, …",
            )


def _library() -> Any:
    try:
        onnx = importlib.import_module("onnx")
        importlib.import_module("onnxscript")  # what torch translates with
    except ImportError as error:
        raise UnsupportedError(
            f"{error.name} is not installed", hint="pip install 'gradbase[onnx]'"
        ) from None
    return onnx


def _core(module: Exportable) -> Any:
    """The numeric part, translated by torch."""
    import torch

    with quiet():
        program = torch.onnx.export(traced(module), dynamo=True, verbose=False, opset_version=OPSET)
    assert program is not None
    return program.model_proto


@contextlib.contextmanager
def quiet() -> Generator[None]:
    """Without what torch's exporter says of itself."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _prefix_names(graph: Any) -> None:
    """Give values inside the graph names that no column has."""
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [INSIDE + n if n else n for n in names]
    for value in (*graph.initializer, *graph.value_info, *graph.input, *graph.output):
        value.name = INSIDE + value.name


def _input(onnx: Any, module: Exportable, feature: Feature) -> Any:
    check_input(feature.name, feature.of)
    kinds, width = onnx.TensorProto, _width(module, feature)
    kind = kinds.STRING if feature.of.is_text else kinds.DOUBLE
    sizes = [ROWS] if width is None else [ROWS, width]
    return onnx.helper.make_tensor_value_info(feature.name, kind, sizes)


def _width(module: Exportable, feature: Feature) -> int | None:
    """Elements of an array: those of the column that is computed from it, whatever its name."""
    if module.model.columns and feature.of.element is None:
        return None
    made = (d for d in module.model.columns if feature.name in d.expr.columns)
    widths = (module.width(Feature(d.name, d.expr.type)) for d in made)
    found = next((w for w in widths if w is not None), None)
    return found if feature.of.element is not None and found else module.width(feature)


def _before(onnx: Any, graph: Any, module: Exportable, inner: Sequence[str]) -> list[Any]:
    """The nodes from the inputs to the numeric part, whose inputs are called `inner`."""
    plain = (Derived(f.name, Column(f.name, f.of)) for f in module.features)
    computing = Computing(onnx, module.blobs, _null(module))
    for derived, name in zip(module.model.columns or plain, inner, strict=True):
        computing.column(derived, module.encodings.get(derived.name), name)
    graph.initializer.extend(computing.constants)
    return computing.nodes


def _output(onnx: Any, graph: Any, output: ToTable, inner: Any) -> None:
    """Add an output; class numbers become labels."""
    name = METHOD_NAMES[output.method]
    if output.method != "label":
        graph.node.append(onnx.helper.make_node("Identity", [inner.name], [name]))
        made = graph.output.add()
        made.CopyFrom(inner)
        made.name = name
        made.type.tensor_type.shape.dim[0].dim_param = ROWS
        return
    kind, labels = _labels(onnx, output.classes)
    classes = f"{INSIDE}classes"
    graph.initializer.append(onnx.helper.make_tensor(classes, kind, [len(labels)], labels))
    graph.node.append(onnx.helper.make_node("Gather", [classes, inner.name], [name]))
    graph.output.append(onnx.helper.make_tensor_value_info(name, kind, [ROWS]))


def _labels(onnx: Any, classes: tuple[Literal, ...]) -> tuple[int, list[Any]]:
    values = [c.value for c in classes]
    kinds = onnx.TensorProto
    if all(isinstance(v, bool) for v in values):
        return kinds.BOOL, values
    if all(isinstance(v, int) for v in values):
        return kinds.INT64, values
    if all(isinstance(v, float) for v in values):
        return kinds.DOUBLE, values
    return kinds.STRING, [str(v).encode() for v in values]


def facts_of(module: Exportable, features: Sequence[Feature]) -> dict[str, str]:
    """What a reader of the file may want to know, as JSON; `features` are what it takes."""
    model = module.model
    null = _null(module)
    nulls = {f.name: null for f in features if f.of.is_text}
    classes = next((o.classes for o in model.outputs if o.classes), ())
    return {
        "gradbase.model": model.address,
        "gradbase.task": model.task,
        "gradbase.label": model.label,
        "gradbase.features": json.dumps([[f.name, str(f.of)] for f in features]),
        "gradbase.classes": json.dumps([str(c.value) for c in classes]),
        "gradbase.null_texts": json.dumps(nulls),
    }
