"""From plan text back to the plan: the inverse of `print_plan`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping

from gradbase.errors import GradbaseError, ParseError, near, underline
from gradbase.ir import (
    analytic,
    conversion,
    derived,
    factored,
    grouping,
    imported,
    inspection,
    learning,
    networks,
    preprocessing,
    relational,
    scalar,
    stepping,
    tensor,
    unlabelled,
    vocabulary,
)
from gradbase.ir.lexer import Token, tokenize
from gradbase.ir.node import Node
from gradbase.ir.parse_expressions import Reader
from gradbase.ir.printer import BLOCK_FIELDS
from gradbase.ir.relational import Relation
from gradbase.ir.types import Schema

_FAMILIES = (
    relational,
    scalar,
    preprocessing,
    vocabulary,
    analytic,
    derived,
    tensor,
    conversion,
    learning,
    inspection,
    unlabelled,
    networks,
    imported,
    grouping,
    factored,
    stepping,
)
CLASSES: Mapping[str, type[Node]] = {
    name: value
    for module in _FAMILIES
    for name, value in vars(module).items()
    if isinstance(value, type) and issubclass(value, Node) and dataclasses.is_dataclass(value)
}
"""Every operator by its name in plan text."""


def parse_plan(text: str, names: Mapping[str, Node] | None = None) -> Node:
    """The node that `text` describes.

    Parameters
    ----------
    names : mapping of str to Node, optional
        What labels stand for that `text` uses without defining them.

    Raises
    ------
    ParseError
        The text is no plan; the message underlines where.

    Examples
    --------
    >>> plan = parse_plan("Filter[a > 1]\\n  Scan t (a int64)")
    >>> plan.schema
    Schema(fields=(Field(name='a', type=SqlType(kind='int64', element=None, size=(), fields=(), \
text='')),))
    """
    labels: dict[str, Node] = dict(names or {})
    found: Node | None = None
    for first, below in _lines(text):
        if found is not None:
            _fail(text, first[0], "the plan ends above; a line like this one needs a `%label =`")
        label = _label_of(first)
        node = _block(text, first[2:] if label else first, below, labels)
        if label:
            labels[label] = node
        else:
            found = node
    if found is None:
        raise ParseError("there is no plan in the text, only definitions of labels")
    return found


Line = tuple[int, list[Token]]


def _lines(text: str) -> list[tuple[list[Token], list[Line]]]:
    """Unindented lines, each with the indented ones (indentation, tokens) below it."""
    blocks: list[tuple[list[Token], list[Line]]] = []
    indent, line = len(text) - len(text.lstrip(" ")), list[Token]()

    def close() -> None:
        if line and indent:
            if not blocks:
                _fail(text, line[0], "the first line is indented")
            blocks[-1][1].append((indent, line))
        elif line:
            blocks.append((line, []))

    for token in tokenize(text):
        if token.kind == "newline":
            close()
            indent, line = len(token.text) - 1, []
        else:
            line.append(token)
    close()
    return blocks


def _label_of(line: list[Token]) -> str | None:
    defines = len(line) > 2 and line[0].kind == "label" and line[1].text == "="
    return line[0].text[1:] if defines else None


def _block(text: str, first: list[Token], below: list[Line], labels: Mapping[str, Node]) -> Node:
    """Build bottom-up: a line's children are the next lines indented deeper than it."""
    waiting: list[tuple[int, list[Node]]] = []
    for indent, line in [*reversed(below), (0, first)]:
        children: list[Node] = []
        while waiting and waiting[-1][0] > indent:
            children.extend(waiting.pop()[1])
        node = _line(text, line, children, labels)
        if waiting and waiting[-1][0] == indent:
            waiting[-1][1].insert(0, node)
        else:
            waiting.append((indent, [node]))
    return waiting[-1][1][0]


def _line(text: str, line: list[Token], children: list[Node], labels: Mapping[str, Node]) -> Node:
    reader = Reader(text, line, labels, CLASSES)
    try:
        node = _read(reader, children)
    except ParseError:
        raise
    except (GradbaseError, AssertionError, TypeError, ValueError) as error:
        raise ParseError(
            f"this line describes no valid node: {error}",
            at=underline(text, line[0].start, line[-1].end),
        ) from error
    reader.end()
    return node


def _read(r: Reader, children: list[Node]) -> Node:
    head = r.peek().text
    if head in _RELATIONS and r.peek(1).text != ":":
        r.take(head)
        inputs = [c for c in children if isinstance(c, Relation)]
        wanted = _INPUTS.get(head)
        if len(inputs) != len(children) or (wanted is not None and len(inputs) != wanted):
            r.fail(f"{head} stands over {wanted} relations, found {len(children)} lines")
        return _RELATIONS[head](r, inputs)
    is_class = head in CLASSES and r.peek(1).text == "("
    if is_class and not issubclass(CLASSES[head], scalar.Scalar):
        return _generic(r, CLASSES[head], children)
    if children:
        r.fail("nothing may be indented below this line", near(head, [*_RELATIONS, *CLASSES]))
    if r.peek().kind == "label":
        return r.reference()
    return r.expression(None)


def _generic(r: Reader, kind: type[Node], children: list[Node]) -> Node:
    field = BLOCK_FIELDS.get(kind)
    if field is None:
        if children:
            r.fail(f"nothing may be indented below {kind.__name__}")
        return r.node()
    below = children[0] if field == "relation" else tuple(children)
    return r.node(given={field: below})


# -- one reader per relation -------------------------------------------------------------------


def _scan(r: Reader, inputs: list[Relation]) -> Node:
    del inputs
    table = r.name()
    prefix = r.name() if r.accept("prefix") else ""
    return relational.Scan(table, prefix, r.schema())


def _fragment(r: Reader, inputs: list[Relation]) -> Node:
    parts, gaps = r.template(r.integer)
    columns = r.schema()
    reads: tuple[str, ...] = ()
    calls: tuple[scalar.Scalar, ...] = ()
    if r.accept("reads"):
        reads = r.between("[", r.name, "]")
    if r.accept("calls"):
        calls = r.between("[", lambda: r.expression(None), "]")
    return relational.SqlFragment(parts, tuple(inputs), columns, reads, calls, gaps)


def _values(r: Reader, inputs: list[Relation]) -> Node:
    del inputs
    columns = r.schema()
    cells = r.between("[", lambda: r.expression(None), "]")
    if not all(isinstance(c, scalar.Literal) for c in cells):
        r.fail("Values holds literals only")
    return relational.Values(columns, cells)  # type: ignore[arg-type]


def _filter(r: Reader, inputs: list[Relation]) -> Node:
    (predicate,) = r.between("[", lambda: r.expression(inputs[0].schema), "]")
    return relational.Filter(inputs[0], predicate)


def _named(
    r: Reader, schema: Schema, end: str
) -> tuple[tuple[str, ...], tuple[scalar.Scalar, ...]]:
    names: list[str] = []
    exprs: list[scalar.Scalar] = []
    while not r.accept(end):
        if names:
            r.take(",")
        expr = r.expression(schema)
        if r.accept("as"):
            names.append(r.name())
        elif isinstance(expr, scalar.Column):
            names.append(expr.name)
        else:
            r.fail("this expression needs a name: `… as name`")
        exprs.append(expr)
    return tuple(names), tuple(exprs)


def _project(r: Reader, inputs: list[Relation]) -> Node:
    r.take("[")
    return relational.Project(inputs[0], *_named(r, inputs[0].schema, "]"))


def _aggregate(r: Reader, inputs: list[Relation]) -> Node:
    r.take("[")
    keys = _named(r, inputs[0].schema, ";")
    return relational.Aggregate(inputs[0], *keys, *_named(r, inputs[0].schema, "]"))


def _join(r: Reader, inputs: list[Relation]) -> Node:
    r.take("[")
    kind = r.name()
    both = Schema(inputs[0].schema.fields + inputs[1].schema.fields)
    condition = r.expression(both) if r.accept("on") else None
    r.take("]")
    return relational.Join(inputs[0], inputs[1], kind, condition)


def _sort(r: Reader, inputs: list[Relation]) -> Node:
    def key() -> tuple[scalar.Scalar, str]:
        return r.expression(inputs[0].schema), " ".join(r.take().text for _ in range(3))

    keys, orders = zip(*r.between("[", key, "]"), strict=True)
    return relational.Sort(inputs[0], keys, orders)


def _limit(r: Reader, inputs: list[Relation]) -> Node:
    r.take("[")
    count = r.integer()
    offset = r.integer() if r.accept("offset") else 0
    r.take("]")
    return relational.Limit(inputs[0], count, offset)


def _rebatch(r: Reader, inputs: list[Relation]) -> Node:
    return relational.Rebatch(inputs[0], *r.between("[", r.integer, "]"))


def _union(r: Reader, inputs: list[Relation]) -> Node:
    if (kind := r.between("[", r.name, "]")[0]) not in ("all", "distinct"):
        r.fail(f"a union is `all` or `distinct`, found `{kind}`")
    return relational.Union(tuple(inputs), kind == "all")


def _by(r: Reader) -> tuple[str, int]:
    return (r.name(), r.integer()) if r.accept("by") else ("", 0)


def _predict(r: Reader, inputs: list[Relation]) -> Node:
    r.take("[")
    model = r.model()
    methods: list[str] = []
    names: list[str] = []
    while not methods or r.accept(","):
        methods.append(r.name())
        r.take("as")
        names.append(r.name())
    r.take("from")
    features = r.names()
    once = r.accept("distinct")
    made = learning.Predict(
        inputs[0], model, features, tuple(methods), tuple(names), *_by(r), distinct=once
    )
    r.take("]")
    return made


def _preprocess(r: Reader, inputs: list[Relation]) -> Node:
    r.take("[")
    return learning.Preprocess(inputs[0], *_named(r, inputs[0].schema, "]"))


def _evaluate(
    r: Reader, inputs: list[Relation], kind: type[learning.Evaluate] = learning.Evaluate
) -> Node:
    r.take("[")
    model = r.model()
    r.take("from")
    features = r.names()
    r.take("label")
    label = r.name()
    r.take("threshold")
    threshold = r.value()
    if not isinstance(threshold, (int, float)):
        r.fail("the threshold is a number")
    made = kind(inputs[0], model, features, label, threshold, *_by(r))
    r.take("]")
    return made


def _inspection(r: Reader, inputs: list[Relation], kind: type[inspection.Inspection]) -> Node:
    fields = dict(r.between("[", r.field, "]"))
    names = kind.field_names()
    if "pairs" in names:
        return kind(metrics=tuple(inputs[:-1]), pairs=inputs[-1], **fields)
    return kind(child=inputs[0], **fields) if "child" in names else kind(**fields)


def _numbered(r: Reader, inputs: list[Relation]) -> Node:
    return factored.Numbered(inputs[0], **dict(r.between("[", r.field, "]")))


def _joined(r: Reader, inputs: list[Relation]) -> Node:
    fields = dict(r.between("[", r.field, "]"))
    return factored.PredictJoined(child=inputs[0], tables=tuple(inputs[1:]), **fields)


_RELATIONS: Mapping[str, Callable[[Reader, list[Relation]], Node]] = {
    "Scan": _scan,
    "SqlFragment": _fragment,
    "Values": _values,
    "Filter": _filter,
    "Project": _project,
    "Aggregate": _aggregate,
    "Join": _join,
    "Sort": _sort,
    "Limit": _limit,
    "Rebatch": _rebatch,
    "Union": _union,
    "Predict": _predict,
    "Preprocess": _preprocess,
    "Numbered": _numbered,
    "PredictJoined": _joined,
    "Evaluate": _evaluate,
    **{
        kind.__name__: functools.partial(_evaluate, kind=kind)
        for kind in (
            inspection.ScoreCounts,
            inspection.ClassCounts,
            unlabelled.ClusterQuality,
            unlabelled.ReconstructionQuality,
            grouping.EvaluateGroups,
        )
    },
    **{
        kind.__name__: functools.partial(_inspection, kind=kind)
        for kind in CLASSES.values()
        if issubclass(kind, inspection.Inspection)
    },
}
_INPUTS: Mapping[str, int | None] = {
    **dict.fromkeys(_RELATIONS, 1),
    "Scan": 0,
    "Values": 0,
    "Join": 2,
    "Union": None,
    "PredictJoined": None,
    "SqlFragment": None,
    "Weights": 0,
    "Loadings": 0,
    "CompareModels": None,
}


def _fail(text: str, token: Token, message: str) -> None:
    raise ParseError(message, at=underline(text, token.start, token.end))
