"""A model's outputs compiled into a callable on Arrow batches.

`Program` holds what threads share (weights, order of steps); a `Runner` belongs to one thread and
owns its buffers. A batch is cut into tiles whose activations stay in the second-level cache.

Where all columns are plain numbers the first layer takes them as they are, standardisation folded
into its weights (`tolerance`; never under ``exactness = 'bitwise'``, nor where a mean is far from 0
in units of its deviation). One row of that layer's result tells whether any value was missing or
infinite: NaN and ±Inf reach every output of a matrix product. Only such tiles are encoded again by
the exact definition.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch

from gradbase.ir.chains import Chain, chain_of, is_assembled
from gradbase.ir.conversion import ToTensor
from gradbase.ir.factored import Looked
from gradbase.ir.grouping import ByGroup
from gradbase.ir.imported import Opaque
from gradbase.ir.learning import Model
from gradbase.ir.tensor import Concat, Const, Linear, Param, Tensor, Unary, UserModule
from gradbase.runtime.context import Metrics, Modules, no_modules
from gradbase.runtime.encode import Blobs, constant, null_rows
from gradbase.runtime.groups.packed import GroupPredictor, unpacked
from gradbase.runtime.inputs import Assembly
from gradbase.runtime.layers.building import library
from gradbase.runtime.layers.chain import ChainStep, Layers
from gradbase.runtime.leaves import Leaf, input_of, leaf_of
from gradbase.runtime.modules import module_operator
from gradbase.runtime.onnx_session import OnnxSession
from gradbase.runtime.opaque import opaque_operator
from gradbase.runtime.operators import Operator, operator
from gradbase.runtime.outputs import Output
from gradbase.runtime.tiling import copy_rows, like_columns, padded

TILE_ROWS = (256, 8192)
EXACT_ROWS = 256
"""Rows of every tile where results must not depend on a row's neighbours: products and the ends of
vectors round differently for other numbers of rows."""
_FREE_RUNNERS = 2


class Program:
    """The outputs `methods` of `model`.

    Parameters
    ----------
    model : Model
    methods : sequence of str
        Which outputs, see `ToTable`.
    blobs : Blobs
        Where weights come from.
    bitwise : bool
        Whether the exact definition of encodings must hold for every row.
    native : bool
        Whether a chain of layers may run in machine code of ours (never where `bitwise`).
    onnx : bool
        Whether ONNX Runtime computes what follows the encoded columns.
    modules : callable
        Makes users' modules that are stored by reference.

    Raises
    ------
    UnsupportedError
        An operator cannot be run, by name.
    """

    def __init__(
        self,
        model: Model,
        methods: Sequence[str],
        blobs: Blobs | None,
        *,
        bitwise: bool = False,
        native: bool = True,
        onnx: bool = False,
        modules: Modules = no_modules,
    ) -> None:
        self.model, self.blobs, self.bitwise = model, blobs, bitwise
        self.imported = model.imported
        self.positions = {f.name: i for i, f in enumerate(model.reads)}
        self.outputs = [Output(model.output(m), imported=model.imported) for m in methods]
        self.roots = list(dict.fromkeys(o.node.x for o in self.outputs))
        self.steps = _order(self.roots)
        self.grouped = any(isinstance(step, ByGroup) for step in self.steps)
        self.weights = self._constants()
        self.onnx = OnnxSession(self.roots, blobs) if onnx else None
        self.chain = self._chain() if native and not (bitwise or onnx) else None
        self._folded: dict[tuple[Tensor, tuple[int, ...]], tuple[torch.Tensor, torch.Tensor]] = {}
        self._packed: dict[tuple[int, ...], Layers] = {}
        self._predictors: dict[ByGroup, GroupPredictor] = {}
        self._free: list[Runner] = []
        self.called: dict[Tensor, Operator] = {}
        for step in self.steps:
            if isinstance(step, UserModule):
                self.called[step] = module_operator(step, modules, self.weights)
            elif isinstance(step, Opaque):
                self.called[step] = opaque_operator(step, self.weights[step.program])
            elif not (is_leaf(step) or step in self.weights):
                operator(step)  # refuse now what cannot run

    @property
    def types(self) -> list[pa.DataType]:
        """Arrow types of the outputs."""
        return [o.type for o in self.outputs]

    def runner(
        self, types: Sequence[pa.DataType], tile_rows: int = 0, metrics: Metrics | None = None
    ) -> Runner:
        """What runs the program in one thread, for columns of `types` in feature order."""
        rows = EXACT_ROWS if self.bitwise else tile_rows or TILE_ROWS[1]
        try:
            free = self._free.pop()
        except IndexError:
            free = None
        if free is None or free.tile_rows != rows or free.types != list(types):
            free = Runner(self, types, rows)
        free.metrics = metrics or Metrics()
        return free

    def give_back(self, runner: Runner) -> None:
        """Let another thread, or the next statement, have a runner; a few are kept."""
        if len(self._free) < _FREE_RUNNERS:
            self._free.append(runner)

    def folded(self, layer: Linear, assembly: Assembly) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight and bias of `layer` for columns that are not standardised, shared by threads."""
        key = (layer, tuple(assembly.columns))
        if key not in self._folded:
            weight = self.weights[layer.weight].double()[:, assembly.value_rows]
            weight = weight * assembly.scale.T
            bias = -(weight @ assembly.mean)[:, 0]
            if layer.bias is not None:
                bias += self.weights[layer.bias].double()
            self._folded[key] = (weight.float(), bias.float())
        return self._folded[key]

    def packed(self, chain: Chain, assembly: Assembly | None, *, fold: bool = False) -> Layers:
        """Weights of `chain` for machine code, shared by threads.

        With an `assembly`: for its plain numbers only, standardised by the first layer if `fold`.
        """
        key = () if assembly is None else (int(fold), *assembly.columns)
        if key not in self._packed:
            weights = [
                (self.weights[n.weight], None if n.bias is None else self.weights[n.bias])
                for n in chain.layers
            ]
            if assembly is not None and fold:
                weights[0] = self.folded(chain.layers[0], assembly)
            elif assembly is not None:
                weights[0] = (weights[0][0][:, assembly.value_rows], weights[0][1])
            function = library()
            self._packed[key] = Layers(function, weights, chain.activations)
        return self._packed[key]

    def _chain(self) -> Chain | None:
        """The network as one chain of layers, where machine code for it can be had."""
        chain = chain_of(self.roots[0]) if len(self.roots) == 1 else None
        return None if chain is None or library() is None else chain

    def predictor(self, node: ByGroup) -> GroupPredictor:
        """What predicts rows of all groups, shared by threads."""
        if node not in self._predictors:
            of = unpacked(self.weights[node.content].numpy())
            self._predictors[node] = GroupPredictor(of, exact=self.bitwise)
        return self._predictors[node]

    def _constants(self) -> dict[Tensor, torch.Tensor]:
        """Values of parameters and of whatever follows from parameters alone."""
        found: dict[Tensor, torch.Tensor] = {}
        for step in self.steps:
            if isinstance(step, (Param, Const)):
                found[step] = torch.from_numpy(np.array(constant(step, self.blobs)))
            elif not (is_leaf(step) or isinstance(step, Opaque)) and _is_constant(step, found):
                found[step] = operator(step)([found[c] for c in inputs_of(step)], 0)
        return found


def _is_constant(step: Tensor, known: dict[Tensor, torch.Tensor]) -> bool:
    inputs = inputs_of(step)
    return bool(inputs) and all(c in known for c in inputs) and all(n >= 0 for n in step.shape)


def is_leaf(node: Tensor) -> bool:
    """Whether a node is made from columns in one step."""
    return isinstance(node, (ToTensor, ByGroup)) or is_entry(node) or is_assembled(node)


def is_entry(node: Tensor) -> bool:
    """Whether a node is a first layer over encoded columns."""
    return (
        isinstance(node, Linear)
        and is_assembled(node.x)
        and not node.weight.inputs
        and (node.bias is None or not node.bias.inputs)
    )


def inputs_of(node: Tensor) -> list[Tensor]:
    """The values that must be there before `node`."""
    if is_entry(node):
        return [c for c in node.children[1:] if isinstance(c, Tensor)]
    if is_assembled(node):
        parts = node.parts if isinstance(node, Concat) else (node,)
        return [c for p in parts for c in p.children if isinstance(c, (Param, Const))]
    return [c for c in node.children if isinstance(c, Tensor)]


def _order(roots: Sequence[Tensor]) -> list[Tensor]:
    """Steps of a program, inputs first."""
    done: dict[Tensor, None] = {}
    stack = [(r, False) for r in reversed(roots)]
    while stack:
        current, expanded = stack.pop()
        if current in done:
            continue
        if expanded:
            done[current] = None
            continue
        below = inputs_of(current)
        if is_entry(current):
            below += inputs_of(current.children[0])  # type: ignore[arg-type]
        stack.append((current, True))
        stack.extend((c, False) for c in reversed(below) if c not in done)
    return list(done)


Step = tuple[int, Leaf | None, Operator | None, list[int]]
"""Where the value goes, what makes it (of the batch, or of values), and where those are."""


class Runner:
    """Runs a program in one thread."""

    def __init__(
        self,
        program: Program,
        types: Sequence[pa.DataType],
        tile_rows: int,
    ) -> None:
        self.program, self.tile_rows, self.metrics = program, tile_rows, Metrics()
        self.types = list(types)
        self._slots = {n: i for i, n in enumerate(program.steps)}
        self._values: list[torch.Tensor] = [program.weights.get(n, _NOTHING) for n in self._slots]
        self._roots = [self._slots[r] for r in program.roots]
        self._steps = (
            self._by_onnx(types)
            or self._chained(types)
            or [
                (self._slots[n], *self._step(n, types))
                for n in program.steps
                if n not in program.weights
            ]
        )

    def __call__(self, features: pa.RecordBatch, first_row: int = 0) -> list[pa.Array]:
        """One column per output for a batch whose columns are `Model.reads`, in order."""
        rows = features.num_rows
        if self.program.bitwise:
            features = padded(features, self.tile_rows)
        values = dict(zip(self.program.roots, self.run(features, first_row), strict=True))
        nulls = null_rows(features.columns) if self.program.imported else None
        if self.program.grouped:
            nulls = values[self.program.roots[0]][:, 0].isnan().numpy()
        with torch.inference_mode():
            columns = [o(values[o.node.x], nulls) for o in self.program.outputs]
        return columns if rows == features.num_rows else [c.slice(0, rows) for c in columns]

    def run(self, features: pa.RecordBatch, first_row: int = 0) -> list[torch.Tensor]:
        """Tensor[rows, …] per distinct network output, overwritten by the next call."""
        rows = features.num_rows
        with torch.inference_mode():
            if rows <= self.tile_rows:
                self._tile(features, first_row)
                return [self._values[r] for r in self._roots]
            whole: list[torch.Tensor] = []
            for start in range(0, rows, self.tile_rows):
                tile = features.slice(start, self.tile_rows)
                self._tile(tile, first_row + start)
                values = [self._values[r] for r in self._roots]
                whole = whole or [like_columns(v, rows) for v in values]
                for all_rows, value in zip(whole, values, strict=True):
                    copy_rows(all_rows[start : start + tile.num_rows], value)
            return whole

    def _tile(self, batch: pa.RecordBatch, first_row: int) -> None:
        values, rows = self._values, batch.num_rows
        for slot, leaf, run, inputs in self._steps:
            if leaf is not None:
                values[slot] = leaf(batch, first_row)
            else:
                assert run is not None
                values[slot] = run([values[i] for i in inputs], rows)

    def _by_onnx(self, types: Sequence[pa.DataType]) -> list[Step]:
        """Steps of a program for ONNX Runtime: columns are encoded, it does the rest at once."""
        session = self.program.onnx
        if session is None:
            return []
        first = len(self._values)
        places = list(range(first, first + len(session.inputs)))
        self._values += [_NOTHING] * (len(places) + 1)
        leaves = [input_of(self.program, n, types) for n in session.inputs]
        steps: list[Step] = [(p, leaf, None, []) for p, leaf in zip(places, leaves, strict=True)]
        made = places[-1] + 1
        steps.append((made, None, session.run, places))
        for k, slot in enumerate(self._roots):
            steps.append((slot, None, lambda v, _rows, k=k: v[0][k], [made]))
        return steps

    def _chained(self, types: Sequence[pa.DataType]) -> list[Step]:
        """The one step of a program that is a chain of layers."""
        program, chain = self.program, self.program.chain
        if chain is None:
            return []
        assembly = Assembly(chain.input, program.positions, types, program.weights, program.blobs,
                            imported=program.imported)  # fmt: skip
        return [(self._roots[0], ChainStep(program, chain, assembly, self._slow_tile), None, [])]

    def _step(
        self, node: Tensor, types: Sequence[pa.DataType]
    ) -> tuple[Leaf | None, Operator | None, list[int]]:
        program = self.program
        if is_leaf(node):
            return leaf_of(program, node, types, self._slow_tile), None, []
        inputs = [self._slots[c] for c in inputs_of(node)]
        run = program.called.get(node) or operator(node, in_place=_may_overwrite(node, program))
        return None, run, inputs

    def _slow_tile(self) -> None:
        self.metrics.add("slow_tiles")


_NOTHING = torch.empty(0)


def _may_overwrite(node: Tensor, program: Program) -> bool:
    """Whether a function may write over its input: a layer's own result that nothing else reads."""
    if not isinstance(node, Unary) or not isinstance(node.x, (Linear, Looked, Unary)):
        return False
    readers = Counter(c for s in program.steps for c in inputs_of(s))
    return readers[node.x] == 1 and node.x not in program.roots and node.x not in program.weights


def tile_rows(model: Model, cache_bytes: int) -> int:
    """Rows whose widest activation fits the second-level cache, a multiple of 256."""
    low, high = TILE_ROWS
    fitting = cache_bytes // (4 * max(model.widest, 1))
    return max(low, min(high, fitting // low * low))
