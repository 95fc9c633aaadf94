"""Plans and contexts for the tests of the optimiser."""

from __future__ import annotations

from gradbase.ir.conversion import Numeric, ToTable, ToTensor
from gradbase.ir.facts import Capabilities, ColumnStatistics, Settings, TableStatistics
from gradbase.ir.learning import Dataset, Feature, Fit, Mlp, Model, Optimizer, Search, Split
from gradbase.ir.parser import parse_plan
from gradbase.ir.relational import Scan
from gradbase.ir.scalar import Literal
from gradbase.ir.tensor import Concat, Linear, Param, Unary
from gradbase.ir.types import FLOAT32, FLOAT64, TEXT, Field, Schema
from gradbase.optimizer.context import Context
from gradbase.optimizer.cost import FixedStatistics
from gradbase.resources.calibration import Calibration

DUCKDB = Capabilities("duckdb", frozenset(), ("dl", "udf"), True)
CLASSES = (Literal("no", TEXT), Literal("yes", TEXT))


def network(inputs, hidden, name="m"):
    """A binary classifier over columns x0, x1, … with one hidden layer."""
    features = tuple(Feature(f"x{i}", FLOAT32) for i in range(inputs))
    x = Concat(tuple(ToTensor(f.name, Numeric(0.0, 1.0, False)) for f in features))
    h = Unary("relu", Linear(x, Param(f"{name}1", (hidden, inputs))))
    logit = Linear(h, Param(f"{name}2", (1, hidden)))
    outputs = (ToTable(logit, "label", TEXT, CLASSES), ToTable(logit, "proba", FLOAT64, CLASSES))
    return Model(name, 1, 0, "binary", "y", features, outputs)


M, N = network(2, 16), network(2, 256, "n")
NAMES = {"m": M, "n": N}


def plan(text):
    return parse_plan(text, NAMES)


def context(rows=None, queries=None, calibration=None, capabilities=DUCKDB, **settings):
    """A context with fixed statistics: rows of tables, or their `TableStatistics`."""
    tables = {
        name: found if isinstance(found, TableStatistics) else TableStatistics(found)
        for name, found in (rows or {}).items()
    }
    return Context(
        FixedStatistics(tables, queries),
        calibration or Calibration(),
        capabilities,
        Settings(**settings),
    )


PEOPLE = TableStatistics(
    1000,
    {
        "a": ColumnStatistics(distinct=100, null_fraction=0.2, minimum=0, maximum=200),
        "k": ColumnStatistics(distinct=4),
    },
)


def training(hidden, batch, fits=32, features=50, **changes):
    """A search as in the benchmark: learning rates differ."""
    names = tuple(f"x{i}" for i in range(features))
    schema = Schema((*(Field(n, FLOAT32) for n in names), Field("y", TEXT)))
    data = Dataset(Scan("t", "", schema), names, "y", "binary", Split("random", 0.2, 0.0), (), 0, 7)
    trials = tuple(
        Fit(
            data, i, Mlp(hidden), Optimizer("adamw", 1e-3 * (i + 1)), batch, 5, False, 0.0, False, 7
        )
        for i in range(fits)
    )
    return Search("s", tuple(t.replace(**changes) for t in trials), "roc_auc", "grid")
