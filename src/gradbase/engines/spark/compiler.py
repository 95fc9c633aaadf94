"""Relations as Spark's SQL, names in double quotes (see `texts`)."""

from __future__ import annotations

from gradbase.engines.compiler import Compiler
from gradbase.engines.moments import Spelling
from gradbase.engines.spark.types import SparkDialect, text_literal
from gradbase.errors import UnsupportedError
from gradbase.ir.preprocessing import (
    Bucketize,
    Impute,
    Member,
    Preprocessing,
    Product,
    Rescale,
    Struct,
)
from gradbase.ir.types import FLOAT64, TEXT, SqlType

IN_PROGRAM = "it runs in the program, on the executors where a model reads it"

ELSEWHERE = dict.fromkeys(
    (
        "Cross", "HashBucket", "NGrams", "Normalize", "LabelCode", "OneHotCode", "MultiHotCode",
        "TermCounts", "TermWeights",
    ),
    IN_PROGRAM,
)  # fmt: skip
"""Preprocessing functions that are not written in Spark's SQL: Spark has texts of its own for
numbers, and what a feature is must not depend on the engine."""


class SparkSpelling(Spelling):
    """What the sums of statistics need, in Spark's words."""

    def is_infinite(self, value: str) -> str:
        """Infinity is equal to itself alone; a time has none."""
        return f"(abs(CAST({value} AS DOUBLE)) = CAST('Infinity' AS DOUBLE))"

    def is_finite(self, value: str) -> str:
        """NaN counts as larger than infinity."""
        return f"(abs(CAST({value} AS DOUBLE)) < CAST('Infinity' AS DOUBLE))"

    infinite_times = False

    def whole(self, value: str) -> str:
        """Sums of BIGINT overflow."""
        return f"CAST(CAST({value} AS BIGINT) AS DECIMAL(38,0))"

    def epoch(self, value: str, of: SqlType) -> str:
        """Seconds since 1970 as a double, of a date or time."""
        match of.kind:
            case "date":
                return f"(CAST(unix_date({value}) AS DOUBLE) * CAST(86400 AS DOUBLE))"
            case "timestamptz":
                micros = f"unix_micros({value})"
            case _:
                start = "TIMESTAMP_NTZ'1970-01-01 00:00:00'"
                micros = f"timestampdiff(MICROSECOND, {start}, {value})"
        return f"(CAST({micros} AS DOUBLE) / CAST(1000000 AS DOUBLE))"

    def bytes_of(self, value: str) -> str:
        """The UTF-8 bytes of a value as text."""
        return f"CAST(CAST({value} AS STRING) AS BINARY)"


class SparkCompiler(Compiler):
    """As `Compiler`, with Spark's preprocessing."""

    engine = "Spark"

    def preprocessing(self, node: Preprocessing) -> str:
        """A function of one row; the rest runs in the program."""
        done, literal = self.done, SparkDialect().literal
        match node:
            case Rescale(arg=arg):
                return self._rescaled(node, f"CAST({done[arg]} AS DOUBLE)")
            case Bucketize(arg=arg):
                value = f"CAST({done[arg]} AS DOUBLE)"
                names = [literal(label, TEXT) for label in node.labels]
                ends = zip(node.points, names, strict=False)
                cases = "".join(f" WHEN {value} < {literal(p, FLOAT64)} THEN {n}" for p, n in ends)
                return (
                    f"CASE WHEN {value} IS NULL OR isnan({value}) THEN NULL{cases} "
                    f"ELSE {names[-1]} END"
                )
            case Impute(arg=arg):
                constant = literal(node.value.value, node.type)
                if arg.type.is_text:
                    return f"coalesce(CAST({done[arg]} AS STRING), {constant})"
                value = f"CAST({done[arg]} AS DOUBLE)"
                return (
                    f"CASE WHEN {value} IS NULL OR isnan({value}) THEN {constant} ELSE {value} END"
                )
            case Product(args=args):
                return f"({' * '.join(f'CAST({done[a]} AS DOUBLE)' for a in args)})"
            case Struct(names=names, exprs=exprs):
                pairs = zip(names, exprs, strict=True)
                parts = ", ".join(f"{text_literal(n)}, {done[e]}" for n, e in pairs)
                return f"named_struct({parts})"
            case Member(arg=arg, name=name):
                return f'({done[arg]})."{name.replace(chr(34), chr(34) * 2)}"'
        raise UnsupportedError(
            f"Spark's SQL does not compute {type(node).__name__}", hint=IN_PROGRAM
        )

    def _rescaled(self, node: Rescale, value: str) -> str:
        literal = SparkDialect().literal
        shift, scale = literal(node.shift, FLOAT64), literal(node.scale, FLOAT64)
        scaled = f"(({value} - {shift}) / {scale})"
        if not node.clipped:
            return scaled
        above = f"WHEN {scaled} > 1 AND NOT isnan({scaled}) THEN CAST(1.0 AS DOUBLE)"
        return f"CASE WHEN {scaled} < 0 THEN CAST(0.0 AS DOUBLE) {above} ELSE {scaled} END"
