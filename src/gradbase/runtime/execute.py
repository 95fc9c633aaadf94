"""Running a plan: SQL for the engine, predictions and evaluations here, Arrow between them.

The largest parts without a prediction of ours go to the engine whole. What a prediction gives is a
view for the SQL above it. Projections of plain columns, simple filters and limits above a
prediction are done on the batches themselves: no rows go back to the engine for them.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator

import pyarrow as pa

from gradbase.engines.base import Function, Mapped, View
from gradbase.errors import UnsupportedError
from gradbase.ir.factored import Numbered, PredictJoined
from gradbase.ir.inspection import Inspection
from gradbase.ir.learning import (
    Evaluate,
    Fit,
    FusedFit,
    Learn,
    Predict,
    Preprocess,
    Search,
)
from gradbase.ir.node import Node, walk
from gradbase.ir.relational import (
    Filter,
    Limit,
    Project,
    Rebatch,
    Relation,
    Sort,
    SqlFragment,
)
from gradbase.ir.scalar import PredictCall, Scalar
from gradbase.runtime.conform import conformed
from gradbase.runtime.context import RunContext
from gradbase.runtime.evaluate import evaluate_sizes, evaluate_stream
from gradbase.runtime.executors import mapped_view, reachable
from gradbase.runtime.expressions import Compute, compile_scalar
from gradbase.runtime.in_sql import in_sql
from gradbase.runtime.inspection import inspection_stream
from gradbase.runtime.joined import Joined, numbered
from gradbase.runtime.on_batches import filtered, projected
from gradbase.runtime.predict import (
    JoinedRunners,
    Sizes,
    call_function,
    leased,
    predict_function,
    predict_stream,
    sizes_of,
)
from gradbase.runtime.preprocess.operator import preprocess_stream
from gradbase.runtime.result import Result
from gradbase.runtime.sorting import few_in_order, has_plain_keys
from gradbase.runtime.streams import Stream, limited, read_table, rebatched
from gradbase.runtime.tiled.sizes import TiledSizes
from gradbase.runtime.timing import Timing
from gradbase.runtime.views import narrowed, read_of

log = logging.getLogger("gradbase.runtime")

_numbers = itertools.count(1)


def run(plan: Relation, context: RunContext) -> Result:
    """Run a plan; rows come as they are read.

    Parameters
    ----------
    plan : Relation
        No `Fit` or `Search` in it.
    context : RunContext

    Raises
    ------
    DataError
        A feature is ±Inf, or an evaluated label unknown.
    CancelledError
        `context.cancelled` was set.
    ResourceError
        The plan needs more memory than the broker will ever have.
    """
    started = time.perf_counter()  # an engine may do all its work before the first batch
    context.metrics.add("queries")
    log.debug("plan:\n%s", plan)
    shown, plan = plan, in_sql(plan, context.engine, context.blobs)
    with contextlib.ExitStack() as stack:
        stream = _Run(plan, context, stack).open(plan)
        if context.observed is not None and plan is not shown:
            context.observed.actual[shown] = context.observed.of(plan)
        return Result(stream, stack.pop_all(), context, started)


class _Run:
    """One execution of one plan."""

    def __init__(self, plan: Relation, context: RunContext, stack: contextlib.ExitStack) -> None:
        self.context, self.stack = context, stack
        self.ours, self.used = _shape(plan, reachable(context))
        self.kept: dict[Relation, pa.Table] = {}
        self.keeping = threading.RLock()
        self.begun: dict[Relation, Stream] = {}

    # -- one relation ------------------------------------------------------------------------------

    def open(self, node: Relation, batch_rows: int = 0) -> Stream:
        """The rows of `node`; asks the engine for batches of `batch_rows`."""
        if node in self.ours and self.used[node] > 1:
            table = self.materialise(node)
            return Stream(table.schema, iter(table.to_batches(batch_rows or None)), recut=True)
        return self.fresh(node, batch_rows)

    def fresh(self, node: Relation, batch_rows: int) -> Stream:
        """As `open`, always computed."""
        opened = functools.partial(self.computed, node, batch_rows)
        observed = self.context.observed
        if observed is None:
            return opened()
        return observed.stream(node, opened, in_engine=node not in self.ours)

    def computed(self, node: Relation, batch_rows: int) -> Stream:
        """The rows of `node`, from the engine or from what computes them here."""
        if node not in self.ours:
            return self.sql(node, batch_rows)
        match node:
            case Predict():
                sizes = sizes_of(node, self.context)
                self.lease(node, sizes)
                source = self.open(node.child, sizes.batch_rows)
                return self.closing(predict_stream(node, source, sizes, self.context))
            case Numbered(child=child, name=name):
                table = numbered(name, read_table(self.open(child)))
                return Stream(table.schema, iter(table.to_batches()), recut=True)
            case PredictJoined():
                joined = Joined(node, [self.materialise(t) for t in node.tables], self.context)
                sizes = sizes_of(node, self.context)
                self.lease(node, sizes)
                source = self.open(node.child, sizes.batch_rows)
                runners = JoinedRunners(joined, sizes, self.context)
                return self.closing(predict_stream(node, source, sizes, self.context, runners))
            case Evaluate():
                sizes = evaluate_sizes(node, self.context)
                self.lease(node, sizes)
                source = self.open(node.child, sizes.batch_rows)
                return self.closing(evaluate_stream(node, source, sizes, self.context))
            case Inspection():
                return self.closing(inspection_stream(node, self.open, self.context))
            case Preprocess():
                source = self.open(node.child, batch_rows)
                return self.closing(preprocess_stream(node, source, self.context))
            case Rebatch():
                return rebatched(self.open(node.child, batch_rows), node.rows, batch_rows)
            case Limit(child=child) if self.on_batches(child):
                source = self.open(child, batch_rows)
                batches = limited(source.batches, node.count, node.offset)
                return Stream(source.schema, batches, recut=True)
            case Filter(child=child) if self.on_batches(child):
                if computes := self.computes(node):
                    return filtered(self.open(child, batch_rows), computes[0])
            case Project(child=child) if self.on_batches(child):
                if computes := self.computes(node):
                    return projected(self.open(child, batch_rows), node, computes)
            case Sort(child=child) if self.on_batches(child) and has_plain_keys(node):
                if computes := self.computes(node):
                    return self.sorted(node, computes, batch_rows)
            case _:
                pass
        return self.sql(node, batch_rows)

    def sorted(self, node: Sort, keys: list[Compute], batch_rows: int) -> Stream:
        """Few rows are sorted here, many by the engine."""
        few, rows = few_in_order(self.open(node.child), keys, node.orders)
        if few:
            return rows
        self.begun[node.child] = rows
        return self.sql(node, batch_rows)

    def closing(self, stream: Stream) -> Stream:
        """`stream`, stopped when the statement ends before it does."""
        self.stack.callback(_close, stream.batches)
        return stream

    def lease(self, node: Predict | PredictJoined | Evaluate, sizes: Sizes | TiledSizes) -> None:
        """Hold the memory of an operator until the statement ends."""
        purpose = f"{type(node).__name__.lower()} {node.model.name}"
        self.stack.enter_context(leased(self.context, purpose, size_bytes=sizes.size_bytes))

    def on_batches(self, node: Relation) -> bool:
        """Whether `node` is computed here and not by SQL over views."""
        if node not in self.ours:
            return False
        match node:
            case Predict() | Preprocess() | Inspection() | Evaluate():
                return True
            case Numbered() | PredictJoined() | Rebatch():
                return True
            case Limit(child=child):
                return self.on_batches(child)
            case Filter(child=child) | Project(child=child):
                return self.on_batches(child) and self.computes(node) is not None
        return False

    def computes(self, node: Filter | Project | Sort) -> list[Compute] | None:
        """Functions for the node's expressions, None where one needs the engine."""
        match node:
            case Filter(predicate=predicate):
                exprs: tuple[Scalar, ...] = (predicate,)
            case Project(exprs=exprs):
                pass
            case Sort(keys=exprs):
                pass
        found = [compile_scalar(e, self.context.parameters, self.context.blobs) for e in exprs]
        return None if None in found else [f for f in found if f is not None]

    # -- SQL over views ----------------------------------------------------------------------------

    def sql(self, node: Relation, batch_rows: int) -> Stream:
        """The rows of `node` from the engine, which reads results computed here as views."""
        context, (text, views, functions) = self.context, self.text(node)
        reader = self.stack.enter_context(
            context.engine.stream(
                text, context.parameters, batch_rows=batch_rows, views=views, functions=functions
            )
        )
        return conformed(Stream(reader.schema, iter(reader)), node.schema)

    def text(self, node: Relation) -> tuple[str, dict[str, View | Mapped], list[Function]]:
        """SQL of `node`, and what it sees."""
        nodes, below = ([], Counter({node: 1})) if self.mapped(node) else self.fragment(node)
        views: dict[str, View | Mapped] = {}
        names: dict[Relation, str] = {}
        for relation, times in below.items():
            names[relation] = _name("view")
            read = read_of(relation, nodes or [relation])
            views[names[relation]] = self.view(relation, read, materialised=times > 1)
        functions = self.functions(nodes)
        called = {n: f.name for n, f in functions.items()}
        text = self.context.engine.compile(node, names, called)
        log.debug("sql: %s", text)
        return text, views, list(functions.values())

    def mapped(self, node: Relation) -> bool:
        """Whether the engine's executors predict, its rows staying with them."""
        executors = isinstance(node, Predict) and node.representation == "executors"
        return executors and node not in self.ours

    def viewed(self, node: Relation) -> bool:
        """Whether SQL above reads `node` from a view."""
        return self.on_batches(node) or self.mapped(node)

    def fragment(self, root: Relation) -> tuple[list[Node], Counter[Relation]]:
        """Nodes of the SQL around `root`, and how often each result of ours is read in it.

        Common table expressions count as often as they are used: the engine may inline them.
        """
        order = self.around(root)
        times: Counter[Node] = Counter({root: 1})
        below: Counter[Relation] = Counter()
        for node in reversed(order):
            for child in _gaps(node) if isinstance(node, SqlFragment) else node.children:
                if isinstance(child, Relation) and self.viewed(child):
                    below[child] += times[node]
                elif isinstance(child, Relation):
                    times[child] += times[node]
        return order, below

    def around(self, root: Relation) -> list[Node]:
        """Relations and scalars from `root` down to views, children first."""
        done: dict[Node, None] = {}
        stack: list[tuple[Node, bool]] = [(root, False)]
        while stack:
            node, expanded = stack.pop()
            if expanded:
                done[node] = None
            elif node not in done:
                stack.append((node, True))
                for child in node.children:
                    view = isinstance(child, Relation) and self.viewed(child)
                    if isinstance(child, (Relation, Scalar)) and not view:
                        stack.append((child, False))
        return list(done)

    def view(self, relation: Relation, read: list[str], *, materialised: bool) -> View | Mapped:
        """What the engine reads these columns of `relation` from."""
        shared = materialised or self.used[relation] > 1
        if isinstance(relation, Predict) and self.mapped(relation):
            text, views, _ = self.text(relation.child)
            return mapped_view(relation, text, views, self.context, read, shared=shared)
        if shared:
            return narrowed(self.materialise(relation), read)
        stream = self.begun.pop(relation, None) or self.open(relation)
        rows = pa.RecordBatchReader.from_batches(stream.schema, stream.batches)
        return narrowed(rows, read)

    def materialise(self, relation: Relation) -> pa.Table:
        """All rows of a result that is needed more than once, computed once."""
        with self.keeping:
            if relation not in self.kept:
                table = read_table(self.fresh(relation, 0))
                held = leased(self.context, "shared prediction", size_bytes=table.nbytes)
                self.stack.enter_context(held)
                self.kept[relation] = table
            return self.kept[relation]

    def functions(self, nodes: list[Node]) -> dict[Node, Function]:
        """Functions of the predictions that the engine itself computes."""
        found: dict[Node, Function] = {}
        for node in nodes:
            if not isinstance(node, PredictCall | Predict):
                continue
            model = node.model
            timing = Timing(node, "udf", self.context)
            self.stack.callback(timing.tell)
            if isinstance(node, PredictCall):
                found[node] = call_function(node, _name("call"), self.context, timing)
            else:
                found[node] = predict_function(node, _name("predict"), self.context, timing)
            purpose = f"predict {model.name} in the engine"
            self.stack.enter_context(leased(self.context, purpose, size_bytes=model.param_bytes))
        return found


def _gaps(node: SqlFragment) -> list[Node]:
    """What each gap of the text reads: one relation may stand in several."""
    filled = (*node.inputs, *node.calls)
    return [filled[gap] for gap in node.gaps]


def _name(kind: str) -> str:
    """A name for something that lives as long as one statement, unlike any of the user's."""
    return f"__gradbase_{kind}_{os.getpid()}_{next(_numbers)}"


@functools.lru_cache(maxsize=64)  # a plan that is kept runs again and again
def _shape(plan: Relation, executors: bool) -> tuple[frozenset[Node], Counter[Node]]:
    """Relations that hold, at or below, something only we compute; how many nodes read each."""
    ours: set[Node] = set()
    used: Counter[Node] = Counter()
    inside = ("udf", "executors") if executors else ("udf",)
    for node in walk(plan):
        used.update(set(node.children))
        match node:
            case Fit() | FusedFit() | Search() | Learn():
                raise UnsupportedError("training stands only at the root of a statement")
            case (
                Evaluate() | Preprocess() | Inspection() | Numbered() | PredictJoined() | Rebatch()
            ):
                ours.add(node)
            case Predict(representation=given) if given not in inside:
                ours.add(node)
            case Relation() if any(c in ours for c in node.children):
                ours.add(node)
            case _:
                pass
    return frozenset(ours), used


def _close(batches: Iterator[pa.RecordBatch]) -> None:
    # A generator that runs in another thread at this moment ends by itself: its source is closed.
    if isinstance(batches, Generator):
        with contextlib.suppress(ValueError):
            batches.close()
