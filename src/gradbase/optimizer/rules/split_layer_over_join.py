"""Parts of a network that read one side of a join are computed once per row of that side."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from gradbase.ir.conversion import ToTable, ToTensor
from gradbase.ir.factored import Numbered, PredictJoined, RowNumber, table_name
from gradbase.ir.learning import Feature, Model, Predict
from gradbase.ir.node import Node
from gradbase.ir.relational import Aggregate, Filter, Join, Limit, Project, Relation, Sort
from gradbase.ir.scalar import Column
from gradbase.ir.tensor import Concat, Param
from gradbase.ir.types import FLOAT32, FLOAT64, INT64, SqlType, array_of
from gradbase.optimizer.analyses.columns import columns_in
from gradbase.optimizer.analyses.joins import (
    PRESERVED,
    may_fail,
    reads_back_cheaply,
    with_partner,
)
from gradbase.optimizer.analyses.lowering import columns_of
from gradbase.optimizer.analyses.networks import columns_between
from gradbase.optimizer.analyses.pieces import LookedUp, Piece, pieces, read_by, without
from gradbase.optimizer.context import Alternative, Choice, Context
from gradbase.optimizer.cost import estimate
from gradbase.optimizer.cost_predict import PLAIN_BATCH, row_seconds
from gradbase.optimizer.rule import rule

_ADVANTAGE = 1.2
"""How many times the work saved must exceed the work added."""
_SETUP_S = 4e-3
"""Another stream, and another view for the engine."""


@rule(
    requires=("extract_predictions", "prune_columns"),
    exactness="tolerance",
    source="indb inference 2.2 R5: decompose and push down; benefit test of A1",
)
def split_layer_over_join(n: Node, ctx: Context) -> Node | None:
    """Predict(Join(f, d)) -> PredictJoined(Join(f, Numbered(Predict(d)))).

    What reads columns z of `d` alone is predicted once per row of `d`, and the join carries the
    row's number: of a layer W [x; z] + b the part of z, a tower over z, trees that test nothing but
    z. Where a left join finds no row, it is what NULLs in all of z give. Only where what stands
    above reads few columns of `d`, and where that is expected to be faster.
    """
    if not reads_back_cheaply(ctx):
        return None
    match n:
        case Project(exprs=exprs):
            read = columns_in(exprs)
        case Aggregate(keys=keys, aggregates=aggregates):
            read = columns_in(keys + aggregates)
        case _:
            return None
    path: list[Relation] = []
    at: Relation = n.child
    while isinstance(at, (Filter, Sort, Limit)):
        path.append(at)
        read |= at.predicate.columns if isinstance(at, Filter) else frozenset[str]()
        read |= columns_in(at.keys) if isinstance(at, Sort) else frozenset[str]()
        at = at.child
    if not isinstance(at, Predict) or at.representation or not _is_joined(at.child):
        return None
    made = _Split(at, read, ctx).made()
    if made is None:
        return None
    for relation in reversed(path):
        made = relation.with_children((made, *relation.children[1:]))
    return n.replace(child=made)


def _is_joined(relation: Relation) -> bool:
    """Whether `_Split` can come to a join."""
    while isinstance(relation, (Filter, Project)):
        relation = relation.child
    return isinstance(relation, Join)


@dataclass
class _Side:
    """A dimension: its rows, the parts of the network that read it, and its columns for these."""

    relation: Relation
    pieces: tuple[Piece, ...]
    columns: dict[str, str]
    row: str
    vector: str
    absent: bool
    """Whether a joined row may have none of its rows."""


class _Split:
    """One prediction over joins, on its way to parts."""

    def __init__(self, predict: Predict, read: frozenset[str], ctx: Context) -> None:
        self.predict, self.ctx = predict, ctx
        self.read = read - {*predict.names}
        self.sides: list[_Side] = []

    def made(self) -> Relation | None:
        """What takes the prediction's place, with the columns that are read above."""
        predict = self.predict
        used = dict(zip(predict.features, predict.model.features, strict=True))
        if len(used) != len(predict.features):
            return None
        self.place = {c: f.name for c, f in used.items()}
        rows = estimate(predict.child, self.ctx).rows
        child = self._below(predict.child, {c: c for c in predict.features}, rows, absent=False)
        if not self.sides:
            return None
        rest = self._rest(self.sides)
        names = {f.name for f in rest.features}
        features = tuple(c for c, name in self.place.items() if name in names)
        needed = self.read | {*features, *(s.row for s in self.sides)}
        tables = tuple(self._table(s) for s in self.sides)
        kept = columns_of(child, tuple(c for c in child.schema.names if c in needed))
        joined = PredictJoined(
            kept, tables, rest, features,
            tuple(s.row for s in self.sides), tuple(s.vector for s in self.sides),
            tuple(self._part(s) for s in self.sides), predict.methods, predict.names,
        )  # fmt: skip
        self._note(joined, rows)
        return joined

    # -- down the joins ----------------------------------------------------------------------------

    def _below(
        self, at: Relation, features: dict[str, str], rows: float, *, absent: bool
    ) -> Relation:
        """`at` with dimensions numbered; `features` maps its columns to the prediction's."""
        match at:
            case Project(child=x) if all(isinstance(e, Column) for e in at.exprs):
                return self._projected(at, x, features, rows, absent=absent)
            case Filter(child=x, predicate=p) if not self._fails_early(features):
                free = {c: f for c, f in features.items() if c not in p.columns}
                changed = self._below(x, free, rows, absent=absent)
                return at if changed is x else Filter(changed, p)
            case Join(kind="inner" | "left" | "right", condition=on) if on is not None:
                return self._join(at, features, rows, absent=absent)
        return at

    def _projected(
        self, at: Project, x: Relation, features: dict[str, str], rows: float, *, absent: bool
    ) -> Relation:
        """`at`, which passes columns on, with the numbers of the dimensions below."""
        inner = {
            e.name: features[n]
            for n, e in zip(at.names, at.exprs, strict=True)
            if n in features and isinstance(e, Column)
        }
        before = len(self.sides)
        changed = self._below(x, inner, rows, absent=absent)
        if len(self.sides) == before:
            return at
        added = tuple(s.row for s in self.sides[before:])
        pairs = [
            (n, e)
            for n, e in zip(at.names, at.exprs, strict=True)
            if e.columns <= {*changed.schema.names}
        ]
        numbers = tuple(Column(r, INT64) for r in added)
        return Project(
            changed, (*(n for n, _ in pairs), *added), (*(e for _, e in pairs), *numbers)
        )

    def _join(self, at: Join, features: dict[str, str], rows: float, *, absent: bool) -> Relation:
        assert at.condition is not None
        free = {c: f for c, f in features.items() if c not in at.condition.columns}
        sides: list[Relation] = []
        for side, kept in zip((at.left, at.right), PRESERVED[at.kind], strict=True):
            own = {c: f for c, f in free.items() if c in side.schema}
            lost = absent or not kept
            whole = with_partner(at, side) if own and self._fails_early(own) else side
            numbered = None if whole is None else self._numbered(whole, own, rows, absent=lost)
            sides.append(
                self._below(side, own, rows, absent=lost) if numbered is None else numbered
            )
        return at if sides == [at.left, at.right] else at.replace(left=sides[0], right=sides[1])

    def _fails_early(self, features: dict[str, str]) -> bool:
        """Whether rows that are not predicted in the end could raise an error."""
        names = {self.place[f] for f in features.values()}
        model = self.predict.model
        return may_fail(model, (f for f in model.features if f.name in names))

    def _numbered(
        self, side: Relation, own: dict[str, str], rows: float, *, absent: bool
    ) -> Relation | None:
        """A dimension as what the join needs of it and the number of its row; None: no gain."""
        names = {self.place[f]: c for c, f in own.items() if f not in self.read}
        predict = self.predict
        found = pieces(predict.model, predict.methods, frozenset(names), self.ctx)
        if not found:
            return None
        read = read_by([p.content(biased=True) for p in found])
        columns = {name: names[name] for name in read}
        made = _Side(side, found, columns, self.ctx.fresh(), self.ctx.fresh(), absent)
        if not self._pays(made, rows):
            return None
        self.sides.append(made)
        still = {f.name for f in self._rest([made]).features}
        gone = {c for name, c in columns.items() if name not in still}
        kept = tuple(c for c in side.schema.names if c not in gone)
        return columns_of(self._table(made), (*kept, made.row))

    def _pays(self, side: _Side, rows: float) -> bool:
        predict, c = self.predict, self.ctx.calibration
        whole = predict.model.replace(
            outputs=tuple(predict.model.output(m) for m in dict.fromkeys(predict.methods))
        )
        part, rest = self._part(side), self._rest([side])
        models = (whole, part, rest)
        joined, once, each = (row_seconds(m, PLAIN_BATCH, self.ctx) for m in models)
        still = {f.name for f in rest.features}
        values = {f.name: _values(f.of) for f in part.features}
        fewer = sum(count for name, count in values.items() if name not in still)
        hidden = _width(part)
        saved = rows * (joined - each + fewer * c.arrow_value_s)
        own = estimate(side.relation, self.ctx).rows
        added = own * (once + (sum(values.values()) + hidden) * c.arrow_value_s)
        added += rows * (c.arrow_value_s + 4.0 * hidden / c.copy_bytes_s) + _SETUP_S
        return saved > _ADVANTAGE * added

    # -- the parts of the network ------------------------------------------------------------------

    def _part(self, side: _Side) -> Model:
        """What is predicted of a side's own rows."""
        model = self.predict.model
        before = {
            p.node
            for s in itertools.takewhile(lambda s: s is not side, self.sides)
            for p in s.pieces
        }
        # One of the tables holds a layer's bias: nothing is left to be added to joined rows.
        contents = tuple(p.content(biased=p.node not in before) for p in side.pieces)
        x = contents[0] if len(contents) == 1 else Concat(contents)
        of = FLOAT64 if x.dtype == "float64" else FLOAT32
        kind = of if x.shape[-1] == 1 else array_of(of, x.shape[-1])
        place = self.sides.index(side) if side in self.sides else len(self.sides)
        return Model(
            f"{model.name}.part{place + 1}", model.version, model.trial, "raw", "",
            tuple(f for f in model.features if f.name in side.columns), (ToTable(x, "raw", kind),),
            imported=model.imported,
        )  # fmt: skip

    def _table(self, side: _Side) -> Numbered:
        part = self._part(side)
        chosen = tuple(side.columns[f.name] for f in part.features)
        return Numbered(Predict(side.relation, part, chosen, ("raw",), (side.vector,)), side.row)

    def _rest(self, sides: Sequence[_Side]) -> Model:
        """The network over what is looked up in the tables of `sides`."""
        model, methods = self.predict.model, self.predict.methods
        looked_up: list[LookedUp] = []
        for place, side in enumerate(sides):
            widths = [p.node.shape[-1] for p in side.pieces]
            table = Param(table_name(place), (1, sum(widths)), side.pieces[0].node.dtype)
            code = ToTensor(side.row, RowNumber(side.absent))
            for k, piece in enumerate(side.pieces):
                start = sum(widths[:k])
                own = columns_between(table, start, start + widths[k]) if len(widths) > 1 else table
                looked_up.append(LookedUp(piece, code, own))
        outputs = without(model, methods, looked_up)
        # What no network reads still says that NULL gives NULL.
        read = read_by(outputs)
        gone = read_by([model.output(m) for m in methods]) - read
        kept = tuple(f for f in model.features if f.name not in gone)
        rows = tuple(Feature(s.row, INT64) for s in sides)
        return model.replace(name=f"{model.name}.rest", features=(*kept, *rows), outputs=outputs)

    def _note(self, joined: PredictJoined, rows: float) -> None:
        own = sum(estimate(s.relation, self.ctx).rows for s in self.sides)
        flops = sum(self._part(s).flops for s in self.sides)
        reason = f"{flops:,.0f} FLOPs once for {own:,.0f} rows instead of {rows:,.0f}"
        after = Alternative("split", estimate(joined, self.ctx).seconds)
        each = row_seconds(self.predict.model, PLAIN_BATCH, self.ctx)
        handed = sum(_values(f.of) for f in self.predict.model.features)
        before = rows * (each + handed * self.ctx.calibration.arrow_value_s)
        self.ctx.chose(
            self.predict, joined, Choice("split", reason, (after, Alternative("joined", before)))
        )


def _width(part: Model) -> int:
    return part.outputs[0].x.shape[-1]


def _values(of: SqlType) -> int:
    return of.size[0] if of.kind == "array" else 1
