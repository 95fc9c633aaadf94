"""A model's outputs computed tile by tile: what `runtime.program` is where memory is too small."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa
import torch

from gradbase.ir.splitting import arguments_of, is_turned, way_of, weight_of
from gradbase.ir.tensor import (
    Concat,
    Const,
    Embedding,
    Linear,
    Param,
    Tensor,
    TorchOp,
    Unary,
)
from gradbase.resources.tiled_plan import is_input, reads
from gradbase.runtime.context import RunContext
from gradbase.runtime.encode import constant, null_rows
from gradbase.runtime.leaves import Leaf, input_of
from gradbase.runtime.operators import operator, sizes
from gradbase.runtime.outputs import Output
from gradbase.runtime.tiled.products import Gathered, Product, ProductParts, summed
from gradbase.runtime.tiled.rowwise import LayerNorm, RmsNorm, Softmax
from gradbase.runtime.tiled.sizes import TiledSizes
from gradbase.runtime.tiled.values import Held, Lazy, Stored, Value, Workers, even_cuts, pairs
from gradbase.runtime.tiled.weights import HeldWeight, TiledWeight, Weight
from gradbase.runtime.tiled.windows import windowed
from gradbase.store.tiles.pool import Pool, Traffic
from gradbase.store.tiles.scratch import Scratch


class TiledProgram:
    """The outputs `methods` of a model; used in a ``with``.

    Parameters
    ----------
    sizes : TiledSizes
    methods : sequence of str
        Those of `sizes`.
    context : RunContext
    """

    def __init__(self, sizes: TiledSizes, methods: Sequence[str], context: RunContext) -> None:
        self.sizes, self.context = sizes, context
        self.plan, self.planner = plan, planner = sizes.plan, sizes.planner
        self.model = model = planner.model
        self.blobs, self.imported = context.blobs, model.imported
        self.pool = context.pool or Pool(context.broker)
        self.positions = {f.name: i for i, f in enumerate(model.reads)}
        self.threads, self.grouped = plan.threads, False
        self.outputs = [Output(model.output(m), imported=model.imported) for m in methods]
        self.traffic = Traffic()
        self.weights = self._constants()
        self.tiled = self._weights()
        self.workers = Workers(context, plan.threads)
        self.scratch = Scratch(plan.page_bytes)
        self._leaves: dict[Tensor, Leaf] = {}
        self._types: list[pa.DataType] = []
        self._closed = False

    @property
    def types(self) -> list[pa.DataType]:
        """Arrow types of the outputs."""
        return [o.type for o in self.outputs]

    @contextlib.contextmanager
    def one(self, features: pa.RecordBatch, threads: int = 1) -> Generator[TiledProgram]:
        """As `Runners.one`: ready for columns of these types, in as many threads."""
        self.workers.at_once = threads
        types = features.schema.types
        if types != self._types:
            self._types = types
            self._leaves = {n: input_of(self, n, types)
                            for n in self.plan.order if is_input(n)}  # fmt: skip
        with self.pool.reserve(self.sizes.pinned_bytes):
            yield self

    def __call__(self, features: pa.RecordBatch, first_row: int = 0) -> list[pa.Array]:
        """One column per output for a batch whose columns are `Model.reads`, in order."""
        values = dict(zip(self.planner.roots, self.run(features, first_row), strict=True))
        nulls = null_rows(features.columns) if self.imported else None
        with torch.inference_mode():
            return [o(values[o.node.x], nulls) for o in self.outputs]

    def run(self, features: pa.RecordBatch, first_row: int = 0) -> list[torch.Tensor]:
        """Tensor[rows, …] per distinct network output."""
        found: list[list[torch.Tensor]] = []
        with torch.inference_mode():
            for start in range(0, features.num_rows, self.plan.rows):
                batch = features.slice(start, self.plan.rows)
                found.append(_Batch(self, batch, first_row + start).run())
                for weight in self.tiled.values():
                    weight.passed()
        return [torch.cat(parts) for parts in zip(*found, strict=True)]

    def leaf(self, node: Tensor) -> Leaf:
        """The step that makes an input."""
        return self._leaves[node]

    def weight(self, node: Tensor) -> Weight:
        """The weight of an operator, wherever it is."""
        found = weight_of(node)
        return self.tiled[found] if found in self.tiled else HeldWeight(self.weights[found])

    def close(self) -> None:
        """End threads, delete what was on disk, count what was read; twice is allowed."""
        if self._closed:
            return
        self._closed = True
        self.workers.close()
        self.scratch.close()
        if self.pool is not self.context.pool:
            self.pool.close()
        traffic, metrics = self.traffic, self.context.metrics
        for name, count in (
            ("pages_read", traffic.read), ("pages_hit", traffic.hit),
            ("page_bytes", traffic.read_bytes), ("pages_written", self.scratch.written),
        ):  # fmt: skip
            metrics.add(name, count)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _weights(self) -> dict[Tensor, Weight]:
        """Large weights; the first tiles of them stay in memory between batches."""
        found: dict[Tensor, Weight] = {}
        left = self.planner.memory_bytes - self.sizes.size_bytes
        for param in self.plan.tiled - self.sizes.files.keys():  # arrays that are in memory already
            found[param] = HeldWeight(torch.from_numpy(np.array(constant(param, self.blobs))))
        for param, file in self.sizes.files.items():
            kept = max(0, min(left // file.page_bytes, file.grid.tiles))
            left -= kept * file.page_bytes
            found[param] = TiledWeight(file, self.pool, self.traffic, kept)
        return found

    def _constants(self) -> dict[Tensor, torch.Tensor]:
        """Small weights, and what follows from them alone."""
        found: dict[Tensor, torch.Tensor] = {}
        with torch.inference_mode():
            for node in self.plan.order:
                if node not in self.planner.constants or node in self.plan.tiled:
                    continue
                if isinstance(node, (Param, Const)):
                    found[node] = torch.from_numpy(np.array(constant(node, self.blobs)))
                elif all(c in found for c in reads(node)):
                    found[node] = operator(node)([found[c] for c in reads(node)], 0)
        return found


class _Batch:
    """Some rows on their way through the network."""

    def __init__(self, program: TiledProgram, features: pa.RecordBatch, first_row: int) -> None:
        self.program, self.plan = program, program.plan
        self.features, self.first_row, self.rows = features, first_row, features.num_rows
        self.values: dict[Tensor, Value] = {}

    def run(self) -> list[torch.Tensor]:
        planner = self.program.planner
        ends = planner.ends(self.plan)
        try:
            for at, node in enumerate(planner.computed):
                self.values[node] = self.kept(node, self.made(node))
                for done in ends.get(at, ()):
                    self.values.pop(done).free()
            # Copies: what is read from columns lies in memory that the next batch uses.
            return [self.values[r].part(0, r.shape[-1]).clone() for r in planner.roots]
        finally:
            for value in self.values.values():
                value.free()

    def made(self, node: Tensor) -> Value:
        """The result of `node`, most often not computed yet."""
        program = self.program
        if is_input(node):
            return Held(program.leaf(node)(self.features, self.first_row))
        match way_of(node):
            case "pointwise":
                inputs = [self.input(c) for c in reads(node)]
                return _Pointwise(node, inputs, self.shape(node), self.rows)
            case "concat":
                assert isinstance(node, Concat)
                return _Joined([self.value(p) for p in node.parts], self.shape(node))
            case "linear":
                return self.product(node)
            case "rowwise":
                return self.rowwise(node)
            case "gather":
                assert isinstance(node, (Embedding, TorchOp))
                codes = self.value(node.codes if isinstance(node, Embedding) else node.inputs_[1])
                whole = codes.part(0, codes.shape[-1])
                return Gathered(whole, program.weight(node), self.shape(node), _dtype(node))
            case "window":
                return self.window(node)
            case "reshape":
                return self.reshaped(node)
            case _:
                whole = [self.whole(c) for c in reads(node)]
                return Held(operator(node)(whole, self.rows))

    def kept(self, node: Tensor, value: Value) -> Value:
        """`value`, computed now where the plan keeps it."""
        where = self.plan.kept.get(node)
        if where is None or isinstance(value, (Held, Stored)):
            return value
        parts = pairs(value.cuts(self.plan.width))
        workers = self.program.workers
        if where == "memory":
            made = torch.empty(value.shape, dtype=value.dtype)

            def fill(i: int, _thread: int) -> None:
                start, stop = parts[i]
                made[..., start:stop] = value.part(start, stop)

            workers.each(len(parts), fill)
            return Held(made)
        stored = self.stored(value.shape, value.dtype)

        def put(i: int, _thread: int) -> None:
            start, stop = parts[i]
            stored.put(0, start, value.part(start, stop).reshape(-1, stop - start))

        workers.each(len(parts), put)
        return stored

    # -- operators ---------------------------------------------------------------------------------

    def product(self, node: Tensor) -> Value:
        bias = node.bias if isinstance(node, Linear) else None
        product = Product(
            self.program.weight(node), None if bias is None else self.program.weights[bias],
            transposed=is_turned(node),
        )  # fmt: skip
        x = self.value(reads(node)[0])
        if node in self.plan.summed:
            return Held(summed(product, x, self.plan.width, self.program.workers))
        return ProductParts(product, x, _dtype(node))

    def rowwise(self, node: Tensor) -> Value:
        x, width, workers = self.value(reads(node)[0]), self.plan.width, self.program.workers
        if not isinstance(node, TorchOp) or "softmax" in node.target:
            log = isinstance(node, TorchOp) and "log" in node.target
            return Softmax(x, width, workers, log=log)
        given = arguments_of(node)
        weight, bias = (self.constant(node, given, i) for i in (2, 3))
        if node.target == "rms_norm.default":
            eps = given[3] if len(given) > 3 else None
            least = torch.finfo(x.dtype).eps
            return RmsNorm(x, width, workers, weight, least if eps is None else eps)
        eps = given[4] if len(given) > 4 else 1e-5
        return LayerNorm(x, width, workers, (weight, bias), eps)

    def window(self, node: Tensor) -> Value:
        assert isinstance(node, TorchOp)
        x, shape = self.value(node.inputs_[0]), self.shape(node)
        if "pool" in node.target:
            return windowed(node, x, None, None, shape)
        bias = self.constant(node, arguments_of(node), 2)
        return windowed(node, x, self.program.weight(node), bias, shape)

    def constant(self, node: TorchOp, given: list[Any], at: int) -> torch.Tensor | None:
        """The weight that is an operator's argument number `at`."""
        found = given[at] if len(given) > at else None
        return self.program.weights[node.inputs_[found["$"]]] if isinstance(found, dict) else None

    def reshaped(self, node: Tensor) -> Value:
        x, shape = self.value(reads(node)[0]), self.shape(node)
        if isinstance(x, Held):
            return Held(x.tensor.reshape(shape))
        assert isinstance(x, Stored)
        made = self.stored(shape, x.dtype)
        each = math.prod(shape) // self.rows
        step = max(self.plan.width, self.plan.page_bytes // 8)
        for row in range(self.rows):
            for start, stop in pairs(even_cuts(each, step)):
                blocks = [
                    x.block(*b).reshape(-1) for b in x.run(row * each + start, row * each + stop)
                ]
                flat, at = torch.cat(blocks), 0
                for top, bottom, left, right in made.run(row * each + start, row * each + stop):
                    size = (bottom - top) * (right - left)
                    made.put(top, left, flat[at : at + size].reshape(bottom - top, -1))
                    at += size
        return made

    # -- inputs ------------------------------------------------------------------------------------

    def input(self, node: Tensor) -> Value | torch.Tensor:
        return self.values[node] if node in self.values else self.program.weights[node]

    def value(self, node: Tensor) -> Value:
        found = self.input(node)
        return Held(found) if isinstance(found, torch.Tensor) else found

    def whole(self, node: Tensor) -> torch.Tensor:
        found = self.input(node)
        return found if isinstance(found, torch.Tensor) else found.part(0, found.shape[-1])

    def shape(self, node: Tensor) -> tuple[int, ...]:
        """Sizes of a result for the rows of this batch."""
        return sizes(node.shape, self.rows)

    def stored(self, shape: Sequence[int], dtype: torch.dtype) -> Stored:
        program = self.program
        return Stored(shape, dtype, program.pool, program.scratch, program.traffic)


def _dtype(node: Tensor) -> torch.dtype:
    return getattr(torch, node.dtype)


class _Pointwise(Lazy):
    """Parts of the inputs give the same part of the result."""

    def __init__(
        self, node: Tensor, inputs: list[Value | torch.Tensor], shape: Sequence[int], rows: int
    ) -> None:
        super().__init__(shape, _dtype(node))
        self._inputs, self._rows = inputs, rows
        fresh = isinstance(node, Unary) and isinstance(inputs[0], (ProductParts, _Pointwise))
        self._function: Callable[..., torch.Tensor] = operator(node, in_place=fresh)

    def part(self, start: int, stop: int) -> torch.Tensor:
        found = self._function([self._of(x, start, stop) for x in self._inputs], self._rows)
        # A result of one column only may stand for all of them.
        return found if found.dim() == len(self.shape) else found.expand(*self.shape[:-1], -1)

    def cuts(self, width: int) -> Sequence[int]:
        for x in self._inputs:
            if not isinstance(x, torch.Tensor) and x.shape[-1] == self.shape[-1]:
                return x.cuts(width)
        return super().cuts(width)

    def _of(self, x: Value | torch.Tensor, start: int, stop: int) -> torch.Tensor:
        one = not x.shape or (x.shape[-1] == 1 and self.shape[-1] != 1)
        if isinstance(x, torch.Tensor):
            return x if one else x[..., start:stop]
        return x.part(0, 1) if one else x.part(start, stop)


class _Joined(Lazy):
    """Inputs side by side."""

    def __init__(self, parts: list[Value], shape: Sequence[int]) -> None:
        super().__init__(shape, parts[0].dtype)
        self._parts = parts

    def part(self, start: int, stop: int) -> torch.Tensor:
        made: list[torch.Tensor] = []
        left = 0
        for part in self._parts:
            right = left + part.shape[-1]
            if max(left, start) < min(right, stop):
                made.append(part.part(max(left, start) - left, min(right, stop) - left))
            left = right
        return made[0].clone() if len(made) == 1 else torch.cat(made, dim=-1)

    def cuts(self, width: int) -> Sequence[int]:
        found, left = [0], 0
        for part in self._parts:
            found += [left + c for c in part.cuts(width)[1:]]
            left += part.shape[-1]
        return found
