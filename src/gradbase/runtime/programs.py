"""Programs that statements share: the last few small ones are kept."""

from __future__ import annotations

import logging
import threading
import weakref
from collections import OrderedDict
from weakref import WeakKeyDictionary

from gradbase.errors import UnsupportedError
from gradbase.ir.learning import Model
from gradbase.resources.broker import Broker
from gradbase.runtime.context import RunContext
from gradbase.runtime.program import Program

log = logging.getLogger("gradbase.runtime")

_CACHED_PROGRAMS = 16
_CACHED_BYTES = 64 << 20

Key = tuple[Model, tuple[str, ...], bool, bool]


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

    def has(self, model: Model, *, onnx: bool) -> bool:
        """Whether any program of a model is kept."""
        with self._lock:
            return any(key[0] is model and key[3] == onnx for key in self._kept)

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


def is_kept(model: Model, broker: Broker, *, onnx: bool) -> bool:
    """Whether a program of a model is kept: of torch, or of ONNX Runtime."""
    programs = _programs.get(broker)
    return programs is not None and programs.has(model, onnx=onnx)


_programs: WeakKeyDictionary[Broker, Programs] = WeakKeyDictionary()
_programs_lock = threading.Lock()


def compile_program(
    model: Model, methods: tuple[str, ...], context: RunContext, *, onnx: bool = False
) -> Program:
    """The program of a model's outputs; the last few small ones are kept.

    Weights are named by their content, so a kept program never goes stale.
    """
    key = (model, methods, context.settings.exactness == "bitwise", onnx)
    with _programs_lock:
        programs = _programs.get(context.broker)
        if programs is None:
            programs = _programs[context.broker] = Programs(context.broker)
    found = programs.get(key)
    context.metrics.add("program_cache_misses" if found is None else "program_cache_hits")
    if found is not None:
        return found
    try:
        made = Program(
            model, methods, context.blobs, bitwise=key[2], onnx=onnx, modules=context.modules
        )
    except UnsupportedError as error:
        if not onnx or "onnx" in context.settings.representation:
            raise
        log.info("torch runs %s: %s", model.address, error)
        return compile_program(model, methods, context)
    # What a user's function returns belongs to the session that may call it.
    if not made.called:
        programs.put(key, made)
    return made
