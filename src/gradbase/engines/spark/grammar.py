"""Spark's SQL as sqlglot is to read it here: a name stands in double quotes or backticks."""

from __future__ import annotations

from typing import ClassVar

from sqlglot.dialects.spark import Spark

DIALECT = "gradbase_spark"


class Gradbase_Spark(Spark):  # noqa: N801 (sqlglot finds it by this name)
    """Spark's language with ``spark.sql.ansi.doubleQuotedIdentifiers``."""

    class Tokenizer(Spark.Tokenizer):
        """Double quotes do not make a text."""

        QUOTES: ClassVar = ["'"]
        IDENTIFIERS: ClassVar = ["`", '"']
