"""Relations as SQL: one text of nested subqueries, in the dialect of an engine.

The user's own text goes in as it is. A relation used twice becomes a common table expression, so
that the text grows linearly and both uses see the same rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from gradbase.engines.base import quote_identifier
from gradbase.errors import UnsupportedError
from gradbase.ir.facts import Dialect
from gradbase.ir.learning import Predict
from gradbase.ir.node import Node
from gradbase.ir.preprocessing import Preprocessing
from gradbase.ir.relational import (
    Aggregate,
    Filter,
    Join,
    Limit,
    Project,
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
from gradbase.ir.types import Schema

OPERATORS = frozenset(
    c.__name__
    for c in (Aggregate, Filter, Join, Limit, Project, Scan, Sort, SqlFragment, Union, Values)
)


class Compiler:
    """Compiles one relation; engines override what they say in another way.

    Parameters
    ----------
    dialect : Dialect
    names : mapping
        Views that hold a sub-relation's rows already.
    functions : mapping
        SQL functions: of a `PredictCall`, returning its value; or of a whole `Predict`, taking its
        features and returning a struct with one field per method.
    """

    engine = "the engine"
    """What messages call it."""

    def __init__(
        self,
        dialect: Dialect,
        names: Mapping[Relation, str],
        functions: Mapping[Node, str],
    ) -> None:
        self.dialect, self.names, self.functions = dialect, names, functions
        self.done: dict[Node, str] = {}
        self.shared: dict[Relation, str] = {}

    def query(self, root: Relation) -> str:
        """SQL of `root`.

        Raises
        ------
        UnsupportedError
            An operator that runs outside the engine is neither in `names` nor in `functions`.
        """
        order = _below(root, self.names)
        uses = Counter(c for n in order for c in n.children if isinstance(c, Relation))
        for current in order:
            if isinstance(current, Scalar):
                self.done[current] = self.scalar(current)
            elif isinstance(current, Relation):
                self.done[current] = self.relation(current)
                if (
                    uses[current] > 1
                    and not isinstance(current, Scan)
                    and current not in self.names
                ):
                    # A name that no table of the user's text has.
                    self.shared[current] = f"gradbase shared {len(self.shared) + 1}"
        tables = (f'"{name}" AS ({self.done[r]}\n)' for r, name in self.shared.items())
        head = f"WITH {', '.join(tables)} " if self.shared else ""
        return head + self.done[root]

    # -- relations ---------------------------------------------------------------------------------

    def source(self, child: Relation) -> str:
        """`child` as something to stand after FROM, with an alias."""
        if child in self.shared or child in self.names:
            return self.unnamed(child)
        return f'{self.unnamed(child)} AS "_"'

    def unnamed(self, child: Relation) -> str:
        """`child` as something to stand before an alias."""
        if child in self.shared:
            return quote_identifier(self.shared[child])
        if child in self.names:
            return quote_identifier(self.names[child])
        # The user's text may end in a comment: the parenthesis stands on a line of its own.
        return f"({self.done[child]}\n)"

    def relation(self, node: Relation) -> str:
        """A relation over the SQL of its children."""
        if node in self.names:
            return f"SELECT * FROM {quote_identifier(self.names[node])}"
        match node:
            case Scan():
                pairs = ((quote_identifier(node.source(n)), n) for n in node.columns.names)
                return f"SELECT {selected(pairs)} FROM {node.table}"
            case SqlFragment():
                return self.fragment(node)
            case Values():
                return self.values(node)
            case Filter(child=child, predicate=predicate):
                return f"SELECT * FROM {self.source(child)} WHERE {self.done[predicate]}"
            case Project(child=child, names=names, exprs=exprs):
                pairs = zip((self.done[e] for e in exprs), names, strict=True)
                return f"SELECT {selected(pairs)} FROM {self.source(child)}"
            case Join():
                return self.join(node)
            case Aggregate():
                return self.aggregate(node)
            case Sort(child=child):
                return f"SELECT * FROM {self.source(child)} ORDER BY {self.keys(node)}"
            case Limit(child=child, count=count, offset=offset):
                return f"{self.limited(child)} LIMIT {count} OFFSET {offset}"
            case Union(inputs=inputs, keep_duplicates=keep):
                word = " UNION ALL " if keep else " UNION "
                return word.join(f"SELECT * FROM {self.source(r)}" for r in inputs)
            case Predict():
                return self.predict(node)
        raise UnsupportedError(
            f"{self.engine} cannot run {type(node).__name__} itself",
            hint="it is an operator of the runtime, which hands its rows over as a view",
        )

    def limited(self, child: Relation) -> str:
        """Rows in the order that LIMIT is to see."""
        # ORDER BY and LIMIT in one block: order inside a subquery is only a habit of engines.
        if isinstance(child, Sort) and child not in self.shared and child not in self.names:
            return self.done[child]
        return f"SELECT * FROM {self.source(child)}"

    def keys(self, node: Sort) -> str:
        """Keys of an ORDER BY."""
        pairs = zip(node.keys, node.orders, strict=True)
        return ", ".join(f"{self.done[key]} {order.upper()}" for key, order in pairs)

    def fragment(self, node: SqlFragment) -> str:
        """The user's text; the alias of a relation in it may follow in the text."""
        holes = [self.unnamed(r) for r in node.inputs] + [self.done[c] for c in node.calls]
        text = node.parts[0]
        for gap, part in zip(node.gaps, node.parts[1:], strict=True):
            alias = ' AS "_"' if gap < len(node.inputs) and part[:1] == ")" else ""
            text += holes[gap] + alias + part
        return text

    def join(self, node: Join) -> str:
        """A join."""
        left, right = self.unnamed(node.left), self.unnamed(node.right)
        # A side without columns has a made-up one, which must not come out.
        bare = not (node.left.schema and node.right.schema)
        columns = quoted_columns(node.schema) if bare else "*"
        on = "" if node.condition is None else f" ON {self.done[node.condition]}"
        kind = node.kind.upper()
        return f'SELECT {columns} FROM {left} AS "l" {kind} JOIN {right} AS "r"{on}'

    def aggregate(self, node: Aggregate) -> str:
        """A grouping by position."""
        exprs = [self.done[e] for e in node.keys + node.aggregates]
        pairs = zip(exprs, node.key_names + node.aggregate_names, strict=True)
        text = f"SELECT {selected(pairs)} FROM {self.source(node.child)}"
        if not node.keys:
            return text
        return f"{text} GROUP BY {', '.join(str(i + 1) for i in range(len(node.keys)))}"

    def predict(self, node: Predict) -> str:
        """A prediction by functions of the engine, one per method."""
        columns = [Column(f, node.child.schema.type_of(f)) for f in node.features]
        arguments = ", ".join(quote_identifier(f) for f in node.features)
        calls = [PredictCall(node.model, m, tuple(columns)) for m in node.methods]
        texts = (f"{self.function(c)}({arguments})" for c in calls)
        added = selected(zip(texts, node.names, strict=True))
        return f"SELECT *, {added} FROM {self.source(node.child)}"

    def values(self, node: Values) -> str:
        """Constants as a table."""
        width = len(node.columns)
        cells = [self.dialect.literal(c.value, c.of) for c in node.cells]
        names = ", ".join(quote_identifier(n) for n in node.columns.names)
        if not cells:
            nulls = (self.dialect.literal(None, f.type) for f in node.columns)
            return f"SELECT {selected(zip(nulls, node.columns.names, strict=True))} WHERE FALSE"
        rows = (f"({', '.join(cells[i : i + width])})" for i in range(0, len(cells), width))
        return f"SELECT * FROM (VALUES {', '.join(rows)}) AS v({names})"

    # -- scalars -----------------------------------------------------------------------------------

    def scalar(self, node: Scalar) -> str:
        """A scalar over the SQL of its arguments."""
        match node:
            case Column(name=name):
                return quote_identifier(name)
            case Literal(value=value, of=of):
                return self.dialect.literal(value, of)
            case Parameter(name=name):
                return f"${name}"
            case Compare(op=op, left=left, right=right):
                return f"({self.done[left]} {op} {self.done[right]})"
            case And(args=args):
                return f"({' AND '.join(self.done[a] for a in args)})"
            case Or(args=args):
                return f"({' OR '.join(self.done[a] for a in args)})"
            case Not(arg=arg):
                return f"(NOT {self.done[arg]})"
            case IsNull(arg=arg):
                return f"({self.done[arg]} IS NULL)"
            case SqlScalar():
                return self.users(node)
            case Preprocessing():
                return f"({self.preprocessing(node)})"
            case PredictCall(features=features):
                arguments = ", ".join(self.done[f] for f in features)
                return f"{self.function(node)}({arguments})"
        raise UnsupportedError(f"{self.engine} cannot compute {type(node).__name__}")

    def preprocessing(self, node: Preprocessing) -> str:
        """A preprocessing function over the SQL of its arguments in `done`."""
        raise UnsupportedError(f"{self.engine} cannot compute {type(node).__name__}")

    def users(self, node: SqlScalar) -> str:
        """The user's own text."""
        text = node.parts[0]
        for arg, part in zip(node.args, node.parts[1:], strict=True):
            text += self.done[arg] + part
        end = "\n" if "--" in text else ""
        return f"({text}{end})"

    def function(self, call: PredictCall) -> str:
        """The name of the function that predicts."""
        if call not in self.functions:
            raise UnsupportedError(
                f"model `{call.model.name}` has no function in this statement",
                hint="predictions run before the SQL around them; SET gradbase.representation",
            )
        return quote_identifier(self.functions[call])


def _below(root: Relation, names: Mapping[Relation, str]) -> list[Node]:
    """What must be compiled, children first; views and models are not looked into."""
    order: list[Node] = []
    done: set[Node] = set()
    stack: list[tuple[Node, bool]] = [(root, False)]
    while stack:
        node, expanded = stack.pop()
        if expanded:
            order.append(node)
        elif node not in done and isinstance(node, Relation | Scalar):
            done.add(node)
            stack.append((node, True))
            if node not in names:
                stack.extend((c, False) for c in reversed(node.children))
    return order


def selected(pairs: Iterable[tuple[str, str]]) -> str:
    """Select list of (expression, name); a relation without columns still has its rows."""
    items = (f"{text} AS {quote_identifier(name)}" for text, name in pairs)
    return ", ".join(items) or 'NULL AS "_"'


def quoted_columns(schema: Schema) -> str:
    """Columns with commas between them; a relation without columns still has its rows."""
    return ", ".join(quote_identifier(n) for n in schema.names) or 'NULL AS "_"'
