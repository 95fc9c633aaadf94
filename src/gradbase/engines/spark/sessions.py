"""Spark sessions: started here for a master's URL, or given."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from typing import Any

from pyspark import SparkContext
from pyspark.sql import SparkSession

from gradbase.engines.spark.errors import quiet, translated
from gradbase.errors import BindError, StoreError, UnsupportedError

log = logging.getLogger("gradbase.engines")

OLDEST_JAVA = 17


def java() -> str | None:
    """Where Java is: that of JAVA_HOME, else the one on the path."""
    home = os.environ.get("JAVA_HOME")
    found = os.path.join(home, "bin", "java") if home else shutil.which("java")  # noqa: PTH118
    return found if found and os.path.exists(found) else None  # noqa: PTH110


def java_problem() -> str | None:
    """Why Spark cannot run here, None where it can."""
    program = java()
    if program is None:
        return "there is no Java on this machine"
    try:
        said = subprocess.run(  # noqa: S603
            [program, "-version"], capture_output=True, text=True, timeout=60, check=False
        ).stderr
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"Java does not run: {error}"
    version = re.search(r'version "(?:1\.)?(\d+)', said)
    if version is None or int(version[1]) < OLDEST_JAVA:
        return f"Java is {version[1] if version else 'of an unknown version'}, not {OLDEST_JAVA}"
    return None


def started(master: str) -> tuple[Any, bool]:
    """A session of `master`, and whether its Spark was started for it.

    Raises
    ------
    UnsupportedError
        There is no Java 17.
    StoreError
        This process has a Spark with another master, or Spark does not start.
    """
    running = SparkContext._active_spark_context  # noqa: SLF001
    if running is not None:
        if running.master != master:
            raise StoreError(
                f"this process has a Spark of {running.master} already, `{master}` cannot be a "
                "second one",
                hint="gb.connect(spark_session, store=…) uses it",
            )
        with translated():
            return SparkSession(running).newSession(), False
    problem = java_problem()
    if problem:
        raise UnsupportedError(
            f"Spark needs Java {OLDEST_JAVA} or newer: {problem}",
            hint="install a Java runtime and set JAVA_HOME",
        )
    # The workers must find what this process finds.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder: Any = SparkSession.builder.master(master).appName("gradbase")
    for key, value in _settings(master).items():
        builder = builder.config(key, value)
    try:
        with translated(), quiet():
            session = builder.getOrCreate()
    except Exception as error:
        raise StoreError(f"Spark of `{master}` does not start: {error}") from error
    # What a statement does wrong is in its exception.
    session.sparkContext.setLogLevel("OFF")
    logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)
    return session, True


def _settings(master: str) -> dict[str, str]:
    """What a Spark of ours has that is not the default; SPARK_CONF_DIR and the like still count."""
    found = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false"}
    if master.startswith("local"):
        warehouse = tempfile.mkdtemp(prefix="gradbase-warehouse-")
        found |= {
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.sql.warehouse.dir": warehouse,
            "spark.sql.shuffle.partitions": str(_cores(master)),
        }
    return found


def _cores(master: str) -> int:
    found = re.match(r"local\[(\d+)", master)
    return int(found[1]) if found else len(os.sched_getaffinity(0))


def adopted(session: Any) -> Any:
    """A session of the user's, checked.

    Raises
    ------
    BindError
        It is no SparkSession.
    UnsupportedError
        It speaks to Spark Connect, which has no JVM here.
    StoreError
        It has been stopped.
    """
    module = type(session).__module__
    if module.startswith("pyspark.sql.connect"):
        raise UnsupportedError(
            "a Spark Connect session has no access to Spark's planner",
            hint="SparkSession.builder.master('spark://…') makes one that has",
        )
    if not module.startswith("pyspark"):
        raise BindError(f"{type(session).__name__} is no SparkSession")
    if session.sparkContext._jsc is None:  # noqa: SLF001
        raise StoreError("the Spark session has ended", hint="start Spark and connect again")
    return session
