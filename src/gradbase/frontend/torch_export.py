"""A trained ``torch.nn.Module`` -> tensor operators and named parameters.

What the usual layers compute is recorded while the module runs; other modules are traced by
``torch.export`` with any batch size and brought to functional ATen.
Operators that the optimiser understands become nodes of their own; other pure ones stay
`TorchOp`s; anything else is an `UnsupportedError` that names the operator.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gradbase.errors import ShapeError, UnsupportedError
from gradbase.frontend.aten import DROPPED, Call, checked_dtype, translate
from gradbase.ir.shapes import BATCH, Shape
from gradbase.ir.tensor import Const, Param, Tensor

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

# Left whole: decomposed, they would merge the batch with other dimensions or lose their meaning.
WHOLE = (
    "conv1d.default", "conv2d.default", "conv3d.default", "group_norm.default", "gru.input",
    "hardswish.default", "layer_norm.default", "linear.default", "lstm.input", "matmul.default",
    "mish.default", "pixel_shuffle.default", "rms_norm.default", "rnn_relu.input",
    "rnn_tanh.input", "scaled_dot_product_attention.default", "selu.default", "silu.default",
    "softplus.default",
)  # fmt: skip
CONST_ELEMENTS = 16
_EXACT_INTEGERS = 2**53
_tracing = threading.Lock()  # tracing changes modes and warning filters


@dataclass
class Exporter:
    """Exports modules; those of the same `key` are traced once and differ in parameters only.

    A key promises that the module's code and configuration are the same.
    """

    _traced: dict[object, ExportedProgram] = field(default_factory=dict)

    def export(
        self, module: torch.nn.Module, x: Tensor, key: object = None
    ) -> tuple[Tensor, dict[str, np.ndarray]]:
        """The module applied to `x`, and its parameters by BLAKE3 hash.

        Parameters
        ----------
        module : torch.nn.Module
            Takes one Tensor[B, n] and returns one Tensor[B, m]. Exported in eval mode; the module's
            own mode is left as it was.
        x : Tensor[BATCH, n]
            What the module is applied to.
        key : object, optional
            Hashable name of the module's code and configuration; None: traced afresh.

        Raises
        ------
        UnsupportedError
            Tracing fails, or an operator has no place in a plan; names it.
        """
        from gradbase.frontend.torch_recording import record

        params: dict[str, np.ndarray] = {}
        with _evaluating(module):
            found = record(module, x, lambda value: constant_of(value, params))
        if found is not None:
            return found, params
        program = self._traced.get(key) if key is not None else None
        if program is None:
            program = trace(module, x)
            if key is not None:
                self._traced[key] = program
        return Translation(program, module, x).run()


def trace(module: torch.nn.Module, x: Tensor) -> ExportedProgram:
    """Functional ATen of `module` in eval mode, for any batch size."""
    import torch

    example = torch.zeros((3, *x.shape[1:]), dtype=getattr(torch, x.dtype))
    batch = torch.export.Dim("batch", min=1)
    try:
        with _evaluating(module), _tracing, warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch's own deprecations
            traced = torch.export.export(module, (example,), dynamic_shapes=({0: batch},))
            table = torch.export.default_decompositions()
            for name in WHOLE:
                table.pop(_overload(name), None)
            return traced.run_decompositions(table)
    except Exception as error:
        raise UnsupportedError(
            f"{type(module).__name__} cannot be exported: {_first_line(error)}",
            hint="avoid Python control flow on values and on the batch size in forward()",
        ) from error


@contextlib.contextmanager
def _evaluating(module: torch.nn.Module) -> Generator[None]:
    """`module` in eval mode; its own is as it was afterwards."""
    modes = [(m, m.training) for m in module.modules()]
    try:
        module.eval()
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _overload(name: str) -> Any:
    import torch

    packet, overload = name.split(".")
    return getattr(getattr(torch.ops.aten, packet), overload)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def constant_of(value: torch.Tensor, params: dict[str, np.ndarray]) -> Tensor:
    """A small tensor as it is, a larger one by its hash, which goes to `params`."""
    from blake3 import blake3

    array = np.ascontiguousarray(value.detach().cpu().numpy())
    kind = checked_dtype(str(value.dtype))
    dims = tuple(array.shape)
    exact = kind != "int64" or not array.size or np.abs(array).max() < _EXACT_INTEGERS
    if array.size <= CONST_ELEMENTS and exact:
        return Const(tuple(float(v) for v in array.ravel()), dims, kind)
    key = blake3(array.reshape(-1).view(np.uint8).data).hexdigest()  # without a copy
    params[key] = array.reshape(dims)
    return Param(key, dims, kind)


class Translation:
    """One program and one set of parameters on their way to tensor operators."""

    def __init__(self, program: ExportedProgram, module: torch.nn.Module, x: Tensor) -> None:
        self.program, self.module, self.x = program, module, x
        self.values: dict[Any, Any] = {}
        self.params: dict[str, np.ndarray] = {}
        self.symbol: Any = None

    def run(self) -> tuple[Tensor, dict[str, np.ndarray]]:
        """The network's output and its parameters."""
        signature = self.program.graph_signature
        if signature.buffers_to_mutate or signature.user_inputs_to_mutate:
            raise UnsupportedError(
                f"{type(self.module).__name__} changes its buffers or its input when it predicts",
                hint="keep state out of forward() in eval mode",
            )
        sources = {s.arg.name: s for s in signature.input_specs}  # type: ignore[union-attr]
        for item in self.program.graph.nodes:
            match item.op:
                case "placeholder":
                    self._placeholder(item, sources[item.name])
                case "call_function":
                    self._call(item)
                case "output":
                    return self._result(item.args[0]), self.params
        raise UnsupportedError(f"{type(self.module).__name__} returns nothing")

    def _placeholder(self, item: Any, source: Any) -> None:
        if source.kind.name == "USER_INPUT":
            self.values[item] = self.x
            size = item.meta["val"].shape[0]
            self.symbol = size.node.expr if hasattr(size, "node") else None
            return
        if not item.users:
            return  # e.g. BatchNorm's count of batches
        self.values[item] = constant_of(self._stored(source), self.params)

    def _stored(self, source: Any) -> torch.Tensor:
        """The module's own parameter or buffer of that name, else the traced constant."""
        found: Any = self.module
        for part in source.target.split("."):
            found = getattr(found, part, None)
        if found is not None and hasattr(found, "detach"):
            return found
        return self.program.constants[source.target]  # type: ignore[return-value]

    def _call(self, item: Any) -> None:
        import operator

        name = str(item.target).removeprefix("aten.")
        if item.target is operator.getitem:
            source, index = item.args
            self.values[item] = self._operator(source, item.meta["val"], index)
        elif _is_tensor(item.meta.get("val")):
            self.values[item] = self._operator(item, item.meta["val"], 0)
        elif isinstance(item.meta.get("val"), tuple | list):
            pass  # one of several results is taken by getitem
        elif not _is_size(item) and name not in DROPPED:
            raise UnsupportedError(
                f"the operator `{name}` has no place in a stored network",
                hint="compute that part before or outside the module",
            )

    def _operator(self, item: Any, value: Any, output: int) -> Tensor:
        name = str(item.target).removeprefix("aten.")
        shape = self.shape(value.shape)
        kind = checked_dtype(str(value.dtype))
        args = [self.argument(a) for a in item.args]
        kwargs = {k: self.argument(v) for k, v in item.kwargs.items()}
        return translate(Call(name, args, kwargs, shape, kind, output))

    def argument(self, value: Any) -> Any:
        """A traced argument as `Call` takes it."""
        import torch

        if isinstance(value, torch.fx.Node):
            found = self.values.get(value)
            return found if found is not None else self._size(value.meta["val"])
        if isinstance(value, list | tuple):
            return [self.argument(v) for v in value]
        if isinstance(value, torch.dtype):
            return {"dtype": checked_dtype(str(value))}
        if isinstance(value, torch.device | torch.layout | torch.memory_format):
            return None
        return value

    def shape(self, sizes: Any) -> Shape:
        """Sizes as the IR writes them: -k for k times the batch size."""
        found: list[int] = []
        for size in sizes:
            part = self._size(size)
            found.append(-part["B"] if isinstance(part, dict) else part)
        return tuple(found)

    def _size(self, size: Any) -> Any:
        if isinstance(size, int | float | bool):
            return size
        expr = size.node.expr
        times = expr.subs(self.symbol, 1) if self.symbol is not None else None
        if times is None or not times.is_Integer or expr != times * self.symbol:
            if expr.is_Integer:
                return int(expr)
            raise UnsupportedError(
                f"{type(self.module).__name__} computes the size {expr} from the batch size",
                hint="use only multiples of the batch size in forward()",
            )
        return {"B": int(times)}

    def _result(self, returned: Any) -> Tensor:
        found = self.values.get(returned[0]) if len(returned) == 1 else None
        if found is None or len(found.shape) != 2 or found.shape[0] != BATCH:
            raise ShapeError(f"{type(self.module).__name__} must return one Tensor[batch, outputs]")
        return found


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape")


def _is_size(item: Any) -> bool:
    value = item.meta.get("val")
    return isinstance(value, int | float | bool) or hasattr(value, "node")
