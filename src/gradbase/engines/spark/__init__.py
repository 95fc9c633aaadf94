"""Spark as an engine."""

from gradbase.engines.spark.engine import SparkEngine

__all__ = ["SparkEngine"]
