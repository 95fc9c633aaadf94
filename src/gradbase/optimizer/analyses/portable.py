"""Models that an engine can compute by plain SQL, and how long their text is."""

from __future__ import annotations

import functools

from gradbase.ir.conversion import Category, Numeric, ToTable, ToTensor, Vector, per_row
from gradbase.ir.imported import Trees
from gradbase.ir.learning import Model
from gradbase.ir.shapes import elements
from gradbase.ir.tensor import Binary, Concat, Embedding, Linear, OneHot, Softmax, Tensor, Unary
from gradbase.ir.types import SqlType

MOST_TERMS = 4_000
"""Numbers in the text beyond which engines plan longer than anything else computes."""
_FUNCTIONS = frozenset(
    ("relu", "relu6", "sigmoid", "tanh", "exp", "log", "neg", "sqrt", "silu", "softplus", "elu",
     "selu")
)  # fmt: skip
_OPERATORS = (Concat, Linear, Unary, Binary, Softmax, OneHot, Embedding, Trees, ToTensor)
_TREE_TERMS = 3
"""Numbers of a node: feature, threshold, value."""
_METHODS = ("value", "label", "proba", "raw")
_CURVED = 10.0
"""Numbers that a function other than ReLU takes as long as (DuckDB's tanh: 20 ns)."""
_PLANNED, _PASSED = 0.26, 0.2
"""A number of a tree, against one of a layer: to be planned, and to be computed, as a row passes
few of its nodes (8 trees of depth 5)."""
_EXACT = frozenset(("bool", "int8", "int16", "uint8", "uint16", "float32"))
"""Types whose values float32 holds: trees compare in it."""


@functools.lru_cache(maxsize=256)
def sql_misfit(model: Model, methods: tuple[str, ...], types: tuple[SqlType, ...]) -> str:
    """Why SQL cannot compute these outputs of a model from columns of `types`; '' where it can."""
    if model.columns:
        return "columns of it are computed by the program"
    if not methods or any(m not in _METHODS for m in methods):
        return f"it has no SQL for {', '.join(m for m in methods if m not in _METHODS) or 'this'}"
    tensors = per_row(model.replace(outputs=tuple(model.output(m) for m in methods)))
    for tensor in tensors:
        known = isinstance(tensor, (*_OPERATORS, ToTable))
        if not known or (isinstance(tensor, Unary) and tensor.op not in _FUNCTIONS):
            return f"operator {type(tensor).__name__} has no SQL"
        if len(tensor.shape) > 2:
            return "it computes with more than rows and columns"
    given = {f.name: of for f, of in zip(model.features, types, strict=True)}
    for tensor in tensors:
        if isinstance(tensor, ToTensor) and not _is_read(tensor, given[tensor.column]):
            return f"`{tensor.column}` ({given[tensor.column]}) is read in another way than by SQL"
    if any(isinstance(t, Trees) for t in tensors):
        wide = [name for name, of in given.items() if of.kind not in _EXACT]
        if wide:
            return f"trees compare in float32, and `{wide[0]}` is {given[wide[0]]}"
    terms = sql_terms(model)
    return f"the text would hold {terms:,} numbers" if terms > MOST_TERMS else ""


def _is_read(tensor: ToTensor, of: SqlType) -> bool:
    """Whether SQL reads a column as it is encoded."""
    match tensor.encoding:
        case Numeric(part="value"):
            return of.is_numeric or of.kind == "bool"
        case Category():
            return of.is_text or of.is_integer
        case Vector(size=size):
            return of.is_vector and of.size == (size,)
    return False


@functools.lru_cache(maxsize=256)
def sql_work(model: Model) -> tuple[float, float]:
    """What planning a model's SQL, and computing a row by it, take; a layer's number takes 1."""
    planned = computed = float(sql_terms(model))
    for tensor in per_row(model):
        match tensor:
            case Trees(value=value):
                terms = _TREE_TERMS * elements(value.shape)
                planned -= (1 - _PLANNED) * terms
                computed -= (1 - _PASSED) * terms
            case Unary(op=op) if not op.startswith("relu"):
                computed += _CURVED * elements(tensor.shape)
            case _:
                pass
    return planned, computed


@functools.lru_cache(maxsize=256)
def sql_terms(model: Model) -> int:
    """Numbers in the SQL of a model: weights, thresholds and leaves, standardisation."""
    found = 2 * len(model.features)
    for tensor in per_row(model):
        match tensor:
            case Linear(weight=weight):
                found += elements(weight.shape)
            case Trees(value=value):
                found += _TREE_TERMS * elements(value.shape)
            case OneHot(count=count):
                found += count
            case Embedding(weight=weight):
                found += elements(weight.shape)
            case Tensor():
                found += max(elements(tensor.shape), 0)
    return found
