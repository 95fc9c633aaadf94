"""Spark's exceptions as ours."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Generator

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from gradbase.errors import CancelledError, EngineError, GradbaseError, ResourceError, StoreError

_CANCELLED = re.compile(
    r"SPARK_JOB_CANCELLED|cancelled (part of|because)|Job \d+ cancelled|OPERATION_CANCELED|"
    r"as part of cancellation",
    re.IGNORECASE,
)
_STOPPED = re.compile(
    r"SparkContext (was|has been) (shut ?down|stopped)|stopped SparkContext|SparkContext is stopp|"
    r"Answer from Java side is empty|Connection refused|Error while sending or receiving|"
    r"active SparkContext|'NoneType' object has no attribute",
    re.IGNORECASE,
)
_LOST = re.compile(r"ExecutorLostFailure|executor .{0,40}(lost|exited)|heartbeat", re.IGNORECASE)
_MEMORY = re.compile(r"OutOfMemoryError|Java heap space|maxResultSize")
_CLASSED = re.compile(r"\[[A-Z][A-Z_]+(?:\.[A-Z_]+)*\] [^\n]+")
_CAUSED = re.compile(r"^Caused by: ([^\n]+)", re.MULTILINE)
_OURS = re.compile(
    r"gradbase\.errors\.(\w+): (?P<message>.*?)(?:\n  at: (?P<at>[^\n]*))?"
    r"(?:\n  hint: (?P<hint>[^\n]*))?(?:\n\s*SQLSTATE|\n\s*\n|\n\tat |\Z)",
    re.DOTALL,
)


def translate(error: BaseException) -> GradbaseError:
    """Our exception for one of pyspark's, of py4j's, or of a worker's."""
    text = str(error)
    if _CANCELLED.search(text):
        return CancelledError("the statement was cancelled")
    if _STOPPED.search(f"{text} {error.__cause__ or ''}"):
        return StoreError(
            f"the Spark session has ended: {_first(text)}", hint="start Spark and connect again"
        )
    if _MEMORY.search(text):
        return ResourceError(
            _first(text), hint="give Spark more memory, or take fewer rows to this process"
        )
    if _LOST.search(text):
        return EngineError(
            f"Spark lost a worker during the statement: {_first(text)}",
            hint="run the statement again; Spark's log says what became of the worker",
        )
    return _of_worker(text) or EngineError(_said(text) or repr(error))


def _of_worker(text: str) -> GradbaseError | None:
    """What our code raised on an executor."""
    found = _OURS.search(text)
    if found is None:
        return None
    from gradbase import errors

    kind = getattr(errors, found[1], None)
    if not (isinstance(kind, type) and issubclass(kind, GradbaseError)):
        return None
    return kind(found["message"].strip(), at=found["at"], hint=found["hint"])


def _said(text: str) -> str:
    """The message without the stack of the JVM; of a chain of causes the one that says most."""
    if text.startswith("An error occurred while calling"):
        classed, causes = _CLASSED.search(text), _CAUSED.findall(text)
        if classed or causes:
            return classed[0] if classed else causes[-1]
    return text.partition("\n\tat ")[0].partition("\n\nJVM stacktrace")[0].strip()


def _first(text: str) -> str:
    return text.strip().partition("\n")[0]


@contextlib.contextmanager
def quiet() -> Generator[None]:
    """Leave out pyspark's warnings of versions of pandas, which is not used."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


@contextlib.contextmanager
def translated() -> Generator[None]:
    """Raise what pyspark raises inside the block as ours, the original being the cause."""
    try:
        yield
    except (PySparkException, Py4JError, OSError, EOFError, AttributeError) as error:
        if isinstance(error, AttributeError) and "NoneType" not in str(error):
            raise
        raise translate(error) from error
