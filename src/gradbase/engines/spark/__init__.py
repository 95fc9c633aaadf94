"""Spark as an engine."""

from gradbase.engines.spark.engine import SparkEngine
from gradbase.engines.spark.sessions import java, java_problem

__all__ = ["SparkEngine", "readiness"]


def readiness() -> str:
    """The driver, and the Java under it."""
    import pyspark

    problem, driver = java_problem(), f"pyspark {pyspark.__version__}"
    if problem:
        return f"not usable: {driver} is there, but {problem}; set JAVA_HOME"
    return f"usable: {driver}, Java at {java()}"
