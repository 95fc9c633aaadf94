"""The text of a plan: one line per relation, children indented by two.

The text is the specification of the IR: ``parse_plan(print_plan(n)) is n`` for every node.

::

    %churn = Model(name="churn", version=1, …)
    Filter[p > 0.5]
      Predict[%churn proba as p from age, plan by dl 8192]
        Scan customers (age int64, plan text)

A column is bare where its type is that of the relation below, else ``name:type``. A scalar in the
user's own words stands between backquotes with our expressions in braces: ```{a} + 1`:int64``.
Nodes used twice, models, tensor operators and what is nested too deep are defined first, on lines
``%label = …``. Everything else is ``Class(field=value, …)`` without fields equal to their default.
"""

from __future__ import annotations

import dataclasses
import math
import re
import struct
from collections import Counter
from collections.abc import Container, Mapping

from gradbase.errors import InternalError
from gradbase.ir.analytic import Analytic
from gradbase.ir.conversion import Encoding, Numeric, ToTable, ToTensor
from gradbase.ir.factored import Numbered, PredictJoined
from gradbase.ir.inspection import Inspection
from gradbase.ir.learning import (
    Dataset,
    Evaluate,
    Feature,
    FusedFit,
    Learn,
    Model,
    Predict,
    Preprocess,
    Search,
    Split,
)
from gradbase.ir.learning import Optimizer as OptimizerNode
from gradbase.ir.node import Node, find, same, walk
from gradbase.ir.preprocessing import Preprocessing
from gradbase.ir.relational import (
    Aggregate,
    Filter,
    Join,
    Limit,
    Project,
    Rebatch,
    Relation,
    Scan,
    Sort,
    SqlFragment,
    Union,
    Values,
)
from gradbase.ir.scalar import (
    And,
    Column,
    Compare,
    IsNull,
    Literal,
    Not,
    Or,
    Parameter,
    PredictCall,
    Scalar,
    SqlScalar,
)
from gradbase.ir.tensor import Const, Tensor
from gradbase.ir.types import BOOL, FLOAT64, INT64, TEXT, Schema, SqlType, quote

BLOCK_FIELDS: Mapping[type[Node], str] = {Dataset: "relation", FusedFit: "fits", Search: "trials"}
"""Fields whose nodes stand on indented lines although the rest is ``Class(field=value)``."""

LITERAL_TYPES: Mapping[type, SqlType] = {
    bool: BOOL,
    int: INT64,
    float: FLOAT64,
    str: TEXT,
    bytes: SqlType("blob"),
    type(None): SqlType("null"),
}
"""Type of a literal written without one."""

_TRIVIAL = (Column, Literal, Parameter, Feature, Numeric, Const, Split, OptimizerNode)
_DEEPEST = 24
_SHARED_SIZE = 12
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def print_plan(root: Node, names: Mapping[Node, str] | None = None) -> str:
    """The text of `root`.

    Parameters
    ----------
    names : mapping of Node to str, optional
        Labels of nodes known to the reader; they are referred to and not defined.
    """
    known = {n: label for n, label in (names or {}).items() if n is not root}
    labels = label_nodes(root, known)
    writer = Writer(labels)
    lines: list[str] = []
    for node in walk(root, known):
        if node in labels and node is not root and node not in known:
            first, *rest = writer.block(node)
            lines += [f"%{labels[node]} = {first}", *rest]
    lines += writer.block(root)
    return "\n".join(lines)


def print_scalar(scalar: Scalar, schema: Schema | None = None) -> str:
    """`scalar` over columns of `schema` on one line; models by name."""
    models: dict[Node, str] = {n: n.name for n in find(scalar, Model)}
    return Writer(label_nodes(scalar, models)).scalar(scalar, schema)


def label_nodes(root: Node, names: Mapping[Node, str]) -> dict[Node, str]:
    """The nodes that are referred to by label, and their labels."""
    order = list(walk(root, names))
    uses = Counter(c for n in order for c in n.children)
    labels: dict[Node, str] = dict(names)
    taken = set(labels.values())
    depth: dict[Node, int] = {}
    size: dict[Node, int] = {}
    for node in order:
        if node in names:
            continue
        inline = [c for c in node.children if c not in labels]
        depth[node] = 1 + max((depth[c] for c in inline), default=0)
        size[node] = 1 + len(node.children) + sum(size[c] for c in inline)
        if node is not root and _needs_label(node, uses[node], depth[node], size[node]):
            plain = isinstance(node, Model) and _LABEL.match(node.name) and node.name not in taken
            labels[node] = node.name if isinstance(node, Model) and plain else _number(taken)
            taken.add(labels[node])
    return labels


def _number(taken: set[str]) -> str:
    number = len(taken) + 1
    while str(number) in taken:
        number += 1
    return str(number)


def _needs_label(node: Node, uses: int, depth: int, size: int) -> bool:
    if isinstance(node, _TRIVIAL):
        return False
    if depth >= _DEEPEST or isinstance(node, (Model, Dataset)):
        return True
    if isinstance(node, Tensor) and not isinstance(node, (ToTensor, ToTable)) and node.children:
        return True
    shared = uses > 1
    return shared and (size > _SHARED_SIZE if isinstance(node, (Scalar, Encoding)) else True)


class Writer:
    """Writes nodes, referring to those that have labels. Depth is bounded by `label_nodes`."""

    def __init__(self, labels: Mapping[Node, str]) -> None:
        self.labels = labels

    def block(self, node: Node) -> list[str]:
        """The lines of `node`, and of the children that stand below it."""
        lines = [self.head(node)]
        for child in block_children(node):
            below = [f"%{self.labels[child]}"] if child in self.labels else self.block(child)
            lines += [f"  {line}" for line in below]
        return lines

    def head(self, node: Node) -> str:
        if isinstance(node, Scalar):
            text = self._expression(node, None)
            # "%1 = %2" would define a label.
            return f"({text})" if text.startswith("%") else text
        if isinstance(node, Relation) and not isinstance(node, Search | Learn):
            return self._relation(node)
        return self._generic(node)

    # -- relations

    def _relation(self, n: Relation) -> str:
        match n:
            case Scan():
                prefix = f" prefix {quote(n.prefix)}" if n.prefix else ""
                return f"Scan {quote(n.table)}{prefix} {n.columns}"
            case SqlFragment():
                return self._fragment(n)
            case Values():
                return f"Values {n.columns} [{self._list(n.cells, None)}]"
            case Filter():
                return f"Filter[{self.scalar(n.predicate, n.child.schema)}]"
            case Project():
                return f"Project[{self._named(n.names, n.exprs, n.child.schema)}]"
            case Join():
                both = Schema(n.left.schema.fields + n.right.schema.fields)
                on = f" on {self.scalar(n.condition, both)}" if n.condition is not None else ""
                return f"Join[{n.kind}{on}]"
            case Aggregate():
                keys = self._named(n.key_names, n.keys, n.child.schema)
                values = self._named(n.aggregate_names, n.aggregates, n.child.schema)
                return f"Aggregate[{keys}; {values}]"
            case Sort():
                pairs = zip(n.keys, n.orders, strict=True)
                keys = (f"{self.scalar(k, n.child.schema)} {o}" for k, o in pairs)
                return f"Sort[{', '.join(keys)}]"
            case Rebatch():
                return f"Rebatch[{n.rows}]"
            case Limit():
                return f"Limit[{n.count}{f' offset {n.offset}' if n.offset else ''}]"
            case Union():
                return f"Union[{'all' if n.keep_duplicates else 'distinct'}]"
            case Predict():
                asked = zip(n.methods, n.names, strict=True)
                columns = ", ".join(f"{quote(m)} as {quote(name)}" for m, name in asked)
                return f"Predict[{self._ref(n.model)} {columns} from {_names(n.features)}{_by(n)}]"
            case Preprocess():
                return f"Preprocess[{self._named(n.names, n.exprs, n.child.schema)}]"
            case Evaluate():
                return (
                    f"{type(n).__name__}[{self._ref(n.model)} from {_names(n.features)} label "
                    f"{quote(n.label)} threshold {_number_text(n.threshold)}{_by(n)}]"
                )
            case Numbered() | PredictJoined():
                return f"{type(n).__name__}[{', '.join(self._fields(n, {'child', 'tables'}))}]"
            case Inspection():
                below = {"child", "metrics", "pairs"}
                return f"{type(n).__name__}[{', '.join(self._fields(n, below))}]"
        raise InternalError(f"the printer does not know {type(n).__name__}")

    def _fragment(self, n: SqlFragment) -> str:
        gaps = (*(f"{{{g}}}" for g in n.gaps), "")
        text = "".join(_escape(p) + g for p, g in zip(n.parts, gaps, strict=True))
        reads = f" reads [{_names(n.reads)}]" if n.reads else ""
        calls = f" calls [{self._list(n.calls, None)}]" if n.calls else ""
        return f"SqlFragment `{text}` {n.columns}{reads}{calls}"

    def _named(self, names: tuple[str, ...], exprs: tuple[Scalar, ...], schema: Schema) -> str:
        shown: list[str] = []
        for name, expr in zip(names, exprs, strict=True):
            text = self.scalar(expr, schema)
            bare = isinstance(expr, Column) and expr.name == name
            shown.append(text if bare else f"{text} as {quote(name)}")
        return ", ".join(shown)

    # -- scalars

    def _list(self, scalars: tuple[Scalar, ...], schema: Schema | None) -> str:
        return ", ".join(self.scalar(s, schema) for s in scalars)

    def scalar(self, n: Scalar, schema: Schema | None) -> str:
        """`n` as an expression; columns of `schema` with their type there are bare."""
        return f"%{self.labels[n]}" if n in self.labels else self._expression(n, schema)

    def _expression(self, n: Scalar, schema: Schema | None) -> str:
        match n:
            case Column():
                known = schema is not None and n.name in schema and schema.type_of(n.name) == n.of
                return quote(n.name) if known else f"{quote(n.name)}:{n.of}"
            case Literal():
                text, bare = value_text(n.value), LITERAL_TYPES.get(type(n.value)) == n.of
                return text if bare else f"{text}:{n.of}"
            case Parameter():
                name = n.name if re.fullmatch(r"\w+", n.name, re.ASCII) else _quoted(n.name)
                return f"${name}:{n.of}"
            case Compare():
                return f"{self._atom(n.left, schema)} {n.op} {self._atom(n.right, schema)}"
            case And() | Or():
                word = " and " if isinstance(n, And) else " or "
                return word.join(self._operand(a, schema) for a in n.args)
            case Not():
                return f"not {self._atom(n.arg, schema)}"
            case IsNull():
                return f"{self._atom(n.arg, schema)} is null"
            case SqlScalar():
                gaps = (*(f"{{{self.scalar(a, schema)}}}" for a in n.args), "")
                text = "".join(_escape(p) + g for p, g in zip(n.parts, gaps, strict=True))
                return f"{'volatile ' if n.is_volatile else ''}`{text}`:{n.of}"
            case PredictCall():
                features = "".join(f", {self.scalar(f, schema)}" for f in n.features)
                return f"predict({self._ref(n.model)}, {quote(n.output)}{features})"
            case Preprocessing() | Analytic():
                return self._generic(n, schema)
        raise InternalError(f"the printer does not know {type(n).__name__}")

    def _atom(self, n: Scalar, schema: Schema | None) -> str:
        text = self.scalar(n, schema)
        compound = isinstance(n, (Compare, And, Or, Not, IsNull)) and n not in self.labels
        return f"({text})" if compound else text

    def _operand(self, n: Scalar, schema: Schema | None) -> str:
        text = self.scalar(n, schema)
        return f"({text})" if isinstance(n, (And, Or)) and n not in self.labels else text

    # -- everything else

    def _ref(self, n: Node) -> str:
        return f"%{self.labels[n]}" if n in self.labels else self._generic(n)

    def _generic(self, n: Node, schema: Schema | None = None) -> str:
        shown = self._fields(n, {BLOCK_FIELDS.get(type(n), "")}, schema)
        return f"{type(n).__name__}({', '.join(shown)})"

    def _fields(self, n: Node, below: Container[str], schema: Schema | None = None) -> list[str]:
        """``name=value`` of the fields that do not have their default and are not `below`."""
        shown: list[str] = []
        for field in dataclasses.fields(n):  # type: ignore[arg-type]
            value = getattr(n, field.name)
            is_default = field.default is not dataclasses.MISSING and same(value, field.default)
            if not is_default and field.name not in below:
                shown.append(f"{field.name}={self._value(value, schema)}")
        return shown

    def _value(self, value: object, schema: Schema | None = None) -> str:
        match value:
            case Scalar():
                return f"[{self.scalar(value, schema)}]"
            case Node():
                return self._ref(value)
            case tuple():
                return "(" + ", ".join(self._value(v, schema) for v in value) + ")"
            case str():
                return _quoted(value)
            case SqlType():
                return f":{value}"
        return value_text(value)


def block_children(node: Node) -> tuple[Node, ...]:
    """The children of `node` that stand on lines below it."""
    if isinstance(node, Dataset):
        return (node.relation,)
    if isinstance(node, (FusedFit, Search)):
        return node.children
    if isinstance(node, Relation):
        return tuple(c for c in node.children if isinstance(c, Relation))
    return ()


def value_text(value: object) -> str:
    """A bool, int, float, str, bytes or None as plan text."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case float():
            return _number_text(value)
        case int():
            return int.__repr__(value)
        case str():
            return "'" + value.replace("'", "''") + "'"
        case bytes():
            return f"x'{value.hex()}'"
    raise InternalError(f"a node holds {value!r} ({type(value).__name__}), which has no plan text")


def _number_text(value: float) -> str:
    if math.isfinite(value):
        return float.__repr__(float(value)) if isinstance(value, float) else str(value)
    bits = struct.pack(">d", value).hex()
    return f"float'{bits}'" if math.isnan(value) else f"float'{value}'"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(map(quote, names))


def _by(n: Predict | Evaluate) -> str:
    once = " distinct" if isinstance(n, Predict) and n.distinct else ""
    if not n.representation and not n.batch_rows:
        return once
    return f"{once} by {n.representation or quote('')} {n.batch_rows}"


def _escape(sql: str) -> str:
    return sql.replace("`", "``").replace("{", "{{").replace("}", "}}")
