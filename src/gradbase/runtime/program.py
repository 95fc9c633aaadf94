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

import threading
import weakref
from collections import Counter, OrderedDict
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import torch

from gradbase.ir.conversion import ToTensor
from gradbase.ir.grouping import ByGroup
from gradbase.ir.imported import Opaque
from gradbase.ir.learning import Model
from gradbase.ir.tensor import Concat, Const, Linear, Param, Tensor, Unary, UserModule
from gradbase.resources.broker import Broker
from gradbase.runtime.context import Metrics, Modules, RunContext, no_modules
from gradbase.runtime.encode import Blobs, constant, null_rows
from gradbase.runtime.groups.packed import GroupPredictor, unpacked
from gradbase.runtime.inputs import Assembly, is_assembled
from gradbase.runtime.leaves import Leaf, leaf_of
from gradbase.runtime.modules import module_operator
from gradbase.runtime.opaque import opaque_operator
from gradbase.runtime.operators import Operator, operator
from gradbase.runtime.outputs import Output
from gradbase.runtime.tiling import copy_rows, like_columns, padded

TILE_ROWS = (256, 8192)
EXACT_ROWS = 256
"""Rows of every tile where results must not depend on a row's neighbours: products and the ends of
vectors round differently for other numbers of rows."""
_FREE_RUNNERS = 2
_CACHED_PROGRAMS = 16
_CACHED_BYTES = 64 << 20


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
        self._folded: dict[tuple[Tensor, tuple[int, ...]], tuple[torch.Tensor, torch.Tensor]] = {}
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
        self._steps = [(self._slots[n], *self._step(n, types))
                       for n in program.steps if n not in program.weights]  # fmt: skip
        self._roots = [self._slots[r] for r in program.roots]

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
    if not isinstance(node, Unary) or not isinstance(node.x, (Linear, Unary)):
        return False
    readers = Counter(c for s in program.steps for c in inputs_of(s))
    return readers[node.x] == 1 and node.x not in program.roots and node.x not in program.weights


# -- programs used before ----------------------------------------------------------------------

Key = tuple[Model, tuple[str, ...], bool]


class Programs:
    """The last few small programs of a session: idle models' weights, the first to make way.

    Parameters
    ----------
    broker : Broker
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = weakref.proxy(broker)  # which knows us
        self._kept: OrderedDict[Key, Program] = OrderedDict()
        self._lock = threading.RLock()
        self._lease = broker.lend("models", "idle weights", self.give_back, first=True)

    def get(self, key: Key) -> Program | None:
        """A program that was kept."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def put(self, key: Key, program: Program) -> None:
        """Keep a program if there is memory for it, at the cost of those used longest ago."""
        size = program.model.param_bytes
        with self._lock:
            if key in self._kept or size > _CACHED_BYTES:
                return
            while len(self._kept) >= _CACHED_PROGRAMS:
                self._drop()
            while not self._broker.grow(self._lease, size):
                if not self._kept:
                    return
                self._drop()
            self._kept[key] = program

    def give_back(self, size_bytes: int) -> None:
        """Drop programs until so many bytes are free."""
        with self._lock:
            while size_bytes > 0 and self._kept:
                size_bytes -= self._drop()

    def _drop(self) -> int:
        _, program = self._kept.popitem(last=False)
        size = program.model.param_bytes
        self._broker.shrink(self._lease, size)
        return size


_programs: WeakKeyDictionary[Broker, Programs] = WeakKeyDictionary()
_programs_lock = threading.Lock()


def compile_program(model: Model, methods: tuple[str, ...], context: RunContext) -> Program:
    """The program of a model's outputs; the last few small ones are kept.

    Weights are named by their content, so a kept program never goes stale.
    """
    key = (model, methods, context.settings.exactness == "bitwise")
    with _programs_lock:
        programs = _programs.get(context.broker)
        if programs is None:
            programs = _programs[context.broker] = Programs(context.broker)
    found = programs.get(key)
    context.metrics.add("program_cache_misses" if found is None else "program_cache_hits")
    if found is not None:
        return found
    made = Program(model, methods, context.blobs, bitwise=key[2], modules=context.modules)
    # What a user's function returns belongs to the session that may call it.
    if not made.called:
        programs.put(key, made)
    return made


def tile_rows(model: Model, cache_bytes: int) -> int:
    """Rows whose widest activation fits the second-level cache, a multiple of 256."""
    low, high = TILE_ROWS
    fitting = cache_bytes // (4 * max(model.widest, 1))
    return max(low, min(high, fitting // low * low))
