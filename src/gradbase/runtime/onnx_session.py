"""Networks run by ONNX Runtime: encoded columns in, the network's outputs out.

The program is exported once, when it is first needed, and lives as long as the program that torch
would run. Columns are encoded as for torch; results differ from torch's by rounding.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gradbase.errors import UnsupportedError
from gradbase.ir.chains import is_assembled
from gradbase.ir.conversion import ToTensor
from gradbase.ir.imported import Trees
from gradbase.ir.node import Node
from gradbase.ir.shapes import BATCH
from gradbase.ir.tensor import Const, Param, Tensor
from gradbase.runtime.constants import constant_value
from gradbase.runtime.encode import Blobs, constant
from gradbase.runtime.export.core import EXAMPLE_ROWS, applied
from gradbase.runtime.export.onnx_file import OPSET, quiet
from gradbase.runtime.trees import cut_off, fallen

_IR_VERSION = 9
_tracing = threading.Lock()
"""torch traces one network at a time."""


def is_installed() -> bool:
    """Whether ONNX Runtime, and what writes its programs, are there."""
    return all(importlib.util.find_spec(n) for n in ("onnx", "onnxruntime", "onnxscript"))


class Network(torch.nn.Module):
    """What a program computes of its encoded columns, as torch's exporter takes it.

    Attributes
    ----------
    inputs : list of Tensor
        Encoded columns, in the order in which `forward` takes them.
    """

    def __init__(self, roots: Sequence[Tensor], blobs: Blobs | None) -> None:
        super().__init__()
        order = _order(roots)
        self.roots = list(roots)
        self.inputs = [n for n in order if _is_input(n)]
        self._names: dict[Node, str] = {}
        for n in order:
            if isinstance(n, Param | Const):
                self._names[n] = f"constant_{len(self._names)}"
                self.register_buffer(self._names[n], torch.from_numpy(np.array(constant(n, blobs))))
        self._trees: dict[Node, tuple[tuple[str, ...], int]] = {}
        for n in (n for n in order if isinstance(n, Trees)):
            tables, depth = cut_off(n, _constants(n, blobs))
            names = tuple(f"trees_{len(self._trees)}_{k}" for k in range(len(tables)))
            for name, table in zip(names, tables, strict=True):
                self.register_buffer(name, table)
            self._trees[n] = (names, depth)
        self._steps = [n for n in order if n not in self._names and not _is_input(n)]

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """One tensor per root."""
        values: dict[Node, torch.Tensor] = dict(zip(self.inputs, inputs, strict=True))
        values |= {n: getattr(self, name) for n, name in self._names.items()}
        for step in self._steps:
            rows = inputs[0].shape[0]
            if isinstance(step, Trees):
                names, depth = self._trees[step]
                tables = [getattr(self, name) for name in names]
                values[step] = fallen(step, values[step.x], tables, depth, rows)
            else:
                below = [values[c] for c in step.children if isinstance(c, Tensor)]
                values[step] = applied(step, below, rows)
        return tuple(values[r] for r in self.roots)

    def example(self) -> tuple[torch.Tensor, ...]:
        """A few encoded rows."""
        sizes = ([EXAMPLE_ROWS if n == BATCH else n for n in i.shape] for i in self.inputs)
        return tuple(
            torch.zeros(s, dtype=getattr(torch, i.dtype))
            for s, i in zip(sizes, self.inputs, strict=True)
        )


def _constants(n: Trees, blobs: Blobs | None) -> tuple[torch.Tensor, ...]:
    return tuple(constant_value(c, blobs) for c in n.children[1:] if isinstance(c, Tensor))


def _is_input(n: Tensor) -> bool:
    return isinstance(n, ToTensor) or is_assembled(n)


def _order(roots: Sequence[Tensor]) -> list[Tensor]:
    """Tensors from encoded columns to `roots`, inputs first."""
    done: dict[Tensor, None] = {}
    stack = [(r, False) for r in reversed(roots)]
    while stack:
        current, expanded = stack.pop()
        if expanded:
            done[current] = None
        elif current not in done:
            stack.append((current, True))
            below = [] if _is_input(current) else current.children
            below = [current.x] if isinstance(current, Trees) else below  # tables are made smaller
            stack.extend((c, False) for c in below if isinstance(c, Tensor) and c not in done)
    return list(done)


class OnnxSession:
    """A network in ONNX Runtime; may be called by several threads.

    Raises
    ------
    UnsupportedError
        It is not installed, or an operator has no form in ONNX.
    """

    def __init__(self, roots: Sequence[Tensor], blobs: Blobs | None) -> None:
        if not is_installed():
            raise UnsupportedError(
                "ONNX Runtime is not installed", hint="pip install 'gradbase[onnx]'"
            )
        network = Network(roots, blobs).eval()
        self.inputs = network.inputs
        self._session = _session(_exported(network))
        self._names = [i.name for i in self._session.get_inputs()]

    def run(self, values: Sequence[torch.Tensor], _rows: int) -> Any:
        """One tensor per root, of encoded columns."""
        pairs = zip(self._names, values, strict=True)
        given = {n: np.ascontiguousarray(v.numpy()) for n, v in pairs}
        return [torch.from_numpy(v) for v in self._session.run(None, given)]


def _exported(network: Network) -> bytes:
    rows = torch.export.Dim("rows", min=1)
    example = network.example()
    shapes = (tuple({0: rows} for _ in example),)
    try:
        with _tracing, torch.no_grad(), quiet():
            traced = torch.export.export(network, example, dynamic_shapes=shapes)
            made = torch.onnx.export(traced, dynamo=True, verbose=False, opset_version=OPSET)
    except UnsupportedError:
        raise
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise UnsupportedError(
            f"the network has no form in ONNX: {first}", hint="SET gradbase.representation = 'dl'"
        ) from error
    assert made is not None
    return made.model_proto.SerializeToString()


def _session(program: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # threads take whole batches
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(program, options, providers=["CPUExecutionProvider"])


def layers_session(size: int, count: int) -> Callable[[npt.NDArray[np.float32]], Any]:
    """`count` layers of `size` x `size` with ReLU between, to be timed."""
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.ones((size, size), np.float32), "w")
    nodes: list[Any] = []
    for k in range(count):
        nodes += [
            helper.make_node("MatMul", [f"x{k}", "w"], [f"y{k}"]),
            helper.make_node("Relu", [f"y{k}"], [f"x{k + 1}"]),
        ]
    kind = TensorProto.FLOAT
    ends = [helper.make_tensor_value_info(f"x{k}", kind, ["n", size]) for k in (0, count)]
    graph = helper.make_graph(nodes, "layers", ends[:1], ends[1:], [weight])
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION
    )
    session = _session(model.SerializeToString())
    return lambda rows: session.run(None, {"x0": rows})
