"""An ONNX file or an exported program of torch -> a `Model` and its constants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gradbase.errors import BindError, DataError, GradbaseError, ShapeError, UnsupportedError, near
from gradbase.importing import opaque, pt2
from gradbase.importing.building import Builder, Value
from gradbase.importing.constants import Constants, plan_dtype
from gradbase.importing.entries import Entries, Given, Wanted
from gradbase.importing.files.graph import Graph, Port, Step, Weight
from gradbase.importing.files.limited import KINDS, read_graph
from gradbase.importing.files.onnx_reader import STANDARD
from gradbase.importing.heads import Outputs, model_outputs
from gradbase.importing.onnx_calls import Call
from gradbase.importing.onnx_learners import LEARNERS, Words, passed_on
from gradbase.importing.onnx_operators import OPERATORS
from gradbase.importing.probing import check_rows_alone
from gradbase.ir.learning import Model
from gradbase.ir.tensor import Tensor

FORMATS = {"onnx": "onnx", "torch": "pt2"}
"""What model_type says of a file, and its kind."""
_WEIGHTS_ONLY = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".h5", ".npz")


def imported_file(name: str, constants: Constants, kind: str, wanted: Wanted) -> Model:
    """The model `name` that predicts as the network in a file does.

    Parameters
    ----------
    constants : Constants
        Of the file; the model's come to be there.
    kind : str
        ``onnx`` or ``pt2``.

    Raises
    ------
    DataError
        The file is damaged or hostile.
    UnsupportedError
        A part of it can neither be translated nor stay whole; names it.
    ShapeError
        Sizes do not fit, with the layer's path.
    """
    assert constants.path is not None
    graph = read_graph(constants.path, kind)
    constants.weight_bytes = sum(w.size for w in graph.weights)
    network = Network(constants, kind, graph, wanted.features)
    outputs = network.outputs(wanted.output)
    task, heads = model_outputs(network.builder, outputs, wanted.label, wanted.classes)
    shown = "" if task == "raw" else wanted.label or "label"
    model = Model(name, 0, 1, task, shown, network.entries.features, heads, imported=True)
    check_rows_alone(model, constants)
    return model


def kind_of_file(path: Path) -> str:
    """``onnx`` or ``pt2``, by the file's name."""
    found = KINDS.get(path.suffix.lower())
    if found is None:
        hint = "objects of scikit-learn and torch modules are given as objects, not as files"
        if path.suffix.lower() in _WEIGHTS_ONLY:
            hint = (
                "such files have weights but no network: load them into the module and give "
                "db.import_model the module, or write it with torch.export.save"
            )
        raise UnsupportedError(
            f"`{path}` is no file that can be imported; there are {', '.join(KINDS)}", hint=hint
        )
    return found


class Network:
    """A graph on its way to tensor operators."""

    def __init__(self, constants: Constants, kind: str, graph: Graph, features: Given) -> None:
        assert constants.path is not None
        self.path, self.kind, self.graph = constants.path, kind, graph
        self.builder = Builder(constants)
        self.entries = Entries(graph.inputs, features)
        self.values: dict[str, Any] = {"": None}

    def outputs(self, wanted: str | None) -> list[Outputs]:
        """What the network gives: the output `wanted`, or all of them."""
        names = [p.name for p in self.graph.outputs]
        if not names:
            raise UnsupportedError("the network has no output")
        if wanted is not None and wanted not in names:
            raise BindError(
                f"the network has no output `{wanted}`; it has {', '.join(names)}",
                hint=near(wanted, names),
            )
        chosen = [wanted] if wanted is not None else names
        try:
            self._translate()
        except (UnsupportedError, ShapeError) as error:
            rows = self.entries.batch
            fixed = f"; the file is written for batches of {rows} rows" if rows else ""
            if self.kind != "onnx" or (isinstance(error, ShapeError) and not rows):
                hint = "export it with dynamic_shapes for the first size" if rows else error.hint
                raise type(error)(error.message + fixed, at=error.at, hint=hint) from error
            self._whole(error)
        found = [Outputs(n, self.values[n]) for n in chosen if n in self.values]
        if not found:
            raise DataError(f"nothing in the network makes its output `{chosen[0]}`")
        return found

    # -- operator by operator ----------------------------------------------------------------------

    def _translate(self) -> None:
        for weight in self.graph.weights:
            self.values[weight.name] = self._constant(weight)
        for port in self.graph.inputs:
            self.values[port.name] = self.entries.value(self.builder, port)
        for number, step in enumerate(self.graph.steps, 1):
            self.builder.path = path = _path(step, number)
            try:
                self._step(step)
            except GradbaseError as error:
                if error.at is None and isinstance(
                    error, UnsupportedError | ShapeError | DataError
                ):
                    raise type(error)(error.message, at=path, hint=error.hint) from error
                raise

    def _constant(self, weight: Weight) -> Any:
        if weight.dtype == "text":
            return Words(weight.values if isinstance(weight.values, tuple) else ())
        try:
            kind = plan_dtype(weight.dtype)
            return self.builder.constant(self.builder.constants.of(weight), weight.dims, kind)
        except (UnsupportedError, AttributeError) as error:
            raise UnsupportedError(f"weight `{weight.name}` is of {weight.dtype}") from error

    def _step(self, step: Step) -> None:
        if self.kind == "pt2":
            pt2.run_step(self.builder, step, self.values)
            return
        for name in step.inputs:
            if name not in self.values:
                raise DataError(
                    f"{step.op} reads `{name[:80]}`, which no operator before it makes: the "
                    "graph is cyclic "
                    "or not in order"
                )
        try:
            made = self._translated(step)
        except (UnsupportedError, ShapeError) as error:
            if step.domain == "" and step.op in OPERATORS and isinstance(error, ShapeError):
                raise  # it would not fit there either
            made = self._opaque(step, error)
        parts = made if isinstance(made, list) else [made]
        self.values.update(zip(step.outputs, parts, strict=False))

    def _translated(self, step: Step) -> Any:
        if step.domain not in STANDARD:
            raise _custom(step)
        version = self.graph.opsets.get(step.domain, 1)
        call = Call(self.builder, step, [self.values[n] for n in step.inputs], version)
        special = passed_on(call)
        if special is not None:
            return special
        known = {"": OPERATORS, "ai.onnx.ml": LEARNERS}.get(step.domain, {}).get(step.op)
        if known is None:
            raise UnsupportedError(f"operator `{step.op}` is not among those of plans")
        try:
            return known(call)
        except GradbaseError:
            raise
        except (
            KeyError,
            TypeError,
            ValueError,
            IndexError,
            AttributeError,
            OverflowError,
        ) as error:
            raise UnsupportedError(f"{step.op} with unusual attributes ({error})") from error

    def _opaque(self, step: Step, error: GradbaseError) -> list[Any]:
        """An operator that we lack, run by ONNX Runtime; the error itself where it cannot."""
        inputs = {n: self.values[n] for n in dict.fromkeys(step.inputs) if n}
        if step.domain not in STANDARD or not all(isinstance(v, Value) for v in inputs.values()):
            raise error
        opaque.require(f"operator `{step.op}`", error.message)
        builder = self.builder
        data = self._bytes(step)
        program = opaque.one_operator(data, step, self.graph.opsets, inputs, builder)
        free = {n: v for n, v in inputs.items() if not builder.is_constant(v)}
        try:
            part = opaque.Part(
                program,
                {n: builder.node(v) for n, v in free.items()},
                {n: (v.dtype, v.shape) for n, v in free.items()},
                step.op,
            )
            made = opaque.kept_whole(builder, part, [n for n in step.outputs if n])
        except DataError as other:
            reason = f"{error.message}; ONNX Runtime cannot run it either: {other.message}"
            raise type(error)(reason[:600], at=error.at, hint=error.hint) from other
        if not made:
            raise error
        return [builder.input(made[n]) if n in made else None for n in step.outputs]

    def _bytes(self, step: Step) -> bytes:
        with self.path.open("rb") as file:
            file.seek(step.at[0])
            return file.read(step.at[1] - step.at[0])

    # -- as a whole --------------------------------------------------------------------------------

    def _whole(self, error: UnsupportedError | ShapeError) -> None:
        """The whole file stays whole, run by ONNX Runtime."""
        if any(w.file for w in self.graph.weights):
            raise UnsupportedError(
                f"{error.message}; weights in files of their own keep the network from staying "
                "whole",
                at=error.at, hint=error.hint,
            )  # fmt: skip
        foreign = [s for s in self.graph.steps if s.domain not in STANDARD]
        if foreign or self.path.stat().st_size > opaque.WHOLE_BYTES:
            raise _custom(foreign[0]) if foreign else error
        opaque.require("the network", error.message)
        dims = {p.name: (p.dtype, self.entries.sizes(p)) for p in self.graph.inputs}
        inputs = {p.name: self._plain_input(p) for p in self.graph.inputs}
        names = ", ".join(sorted({s.op for s in self.graph.steps}))[:200]
        try:
            part = opaque.Part(self.path.read_bytes(), inputs, dims, names, self.entries.batch)
            made = opaque.kept_whole(self.builder, part, [])
        except GradbaseError as other:
            raise UnsupportedError(
                f"{error.message}; ONNX Runtime cannot run the network either: {other.message}",
                at=error.at,
            ) from other
        self.values = {n: self.builder.input(t) for n, t in made.items()}
        if not self.values:
            raise error

    def _plain_input(self, port: Port) -> Tensor:
        if port.dtype == "text":
            return self.entries.raw(port)
        value = self.entries.value(self.builder, port)
        assert isinstance(value, Value)
        return self.builder.node(value)


def _custom(step: Step) -> UnsupportedError:
    return UnsupportedError(
        f"operator `{step.op}` is of `{step.domain[:60]}`, which comes in a library of its own; "
        "such "
        "libraries are never loaded, so it cannot stay whole either",
        hint="export the model without custom operators",
    )


def _path(step: Step, number: int) -> str:
    named = f"layer {step.name}, " if step.name else ""
    return f"{named}operator {number} ({step.op.removeprefix('torch.ops.')})"
