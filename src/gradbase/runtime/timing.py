"""How long models compute: for history, counters and EXPLAIN ANALYZE."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Generator
from typing import Any

from gradbase.ir.learning import Model
from gradbase.optimizer.cost_predict import ONNX, onnx_row_seconds, operator_name, row_seconds
from gradbase.runtime.context import RunContext


class Timing:
    """Seconds that a model computes in one statement, told to the history at its end.

    Parameters
    ----------
    node : Predict, PredictJoined, Evaluate or PredictCall
    representation : str
        What was used; '' tells nothing.
    context : RunContext
    """

    def __init__(self, node: Any, representation: str, context: RunContext) -> None:
        self._node, self._representation, self._context = node, representation, context
        self._model: Model = node.model
        self._expected_s = self._measured_s = 0.0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def of(self, rows: int) -> Generator[None]:
        """A batch of `rows` is computed inside, in this thread.

        History learns from the thread's own seconds: those that other programs took from it say
        nothing about the model.
        """
        start, own = time.perf_counter(), time.thread_time()
        yield
        seconds, measured = time.perf_counter() - start, time.thread_time() - own
        self._context.metrics.add("predict_seconds", seconds)
        if self._context.observed is not None:
            self._context.observed.computed(self._node, seconds)
        seconds_of = onnx_row_seconds if self._representation == ONNX else row_seconds
        with self._lock:
            self._expected_s += rows * seconds_of(self._model, rows, self._context)
            self._measured_s += measured

    def tell(self) -> None:
        """The statement has ended."""
        if self._representation:
            self._context.history.observe(
                operator_name(self._model, self._representation),
                expected_s=self._expected_s,
                measured_s=self._measured_s,
            )
