"""The first layer of a network is computed once per row of a dimension."""

from __future__ import annotations

from dataclasses import dataclass

from gradbase.ir.conversion import ToTable, ToTensor
from gradbase.ir.factored import Looked, Numbered, PredictJoined, RowNumber, table_name
from gradbase.ir.learning import Feature, Model, Predict
from gradbase.ir.node import Node
from gradbase.ir.relational import Aggregate, Filter, Join, Limit, Project, Relation, Sort
from gradbase.ir.scalar import Column
from gradbase.ir.tensor import Concat, Linear, Param, Tensor
from gradbase.ir.types import FLOAT32, FLOAT64, INT64, SqlType, array_of
from gradbase.optimizer.analyses.columns import columns_in
from gradbase.optimizer.analyses.joins import may_fail, reads_back_cheaply, with_partner
from gradbase.optimizer.analyses.lowering import columns_of
from gradbase.optimizer.analyses.networks import (
    FirstLayer,
    column_of,
    columns_between,
    entries,
    with_outputs,
)
from gradbase.optimizer.context import Alternative, Choice, Context
from gradbase.optimizer.cost import estimate
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

    Of the first layer W [x; z] + b, or of each of several (towers), the part of z is predicted once
    per row of `d`; the join carries the row's number. Inner joins only, where what stands above
    reads few columns of `d`, and where that is expected to be faster.
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


Part = tuple[int, int]
"""Number of a layer, and of one of its parts."""


@dataclass
class _Side:
    """A dimension: its rows, the parts of layers that read it, and their columns there."""

    relation: Relation
    parts: list[Part]
    columns: dict[str, str]
    row: str
    vector: str


class _Split:
    """One prediction over joins, on its way to parts."""

    def __init__(self, predict: Predict, read: frozenset[str], ctx: Context) -> None:
        self.predict, self.ctx = predict, ctx
        self.read = read - {*predict.names}
        self.sides: list[_Side] = []

    def made(self) -> Relation | None:
        """What takes the prediction's place, with the columns that are read above."""
        predict = self.predict
        found = entries(predict.model, predict.methods)
        self.layers = [e for e in found if isinstance(e, FirstLayer)]
        used = dict(zip(predict.features, predict.model.features, strict=True))
        alike = len({e.layer.dtype for e in self.layers}) == 1
        if not alike or len(self.layers) < len(found) or len(used) != len(predict.features):
            return None
        self.place = {c: f.name for c, f in used.items()}
        rows = estimate(predict.child, self.ctx).rows
        child = self._below(predict.child, {c: c for c in predict.features}, rows)
        if not self.sides:
            return None
        rest = self._rest()
        looked = {p for side in self.sides for p in side.parts}
        gone = {self._column(p) for p in looked}
        features = tuple(c for c, name in self.place.items() if name not in gone)
        needed = self.read | {*features, *(s.row for s in self.sides)}
        tables = tuple(self._table(s) for s in self.sides)
        kept = columns_of(child, tuple(c for c in child.schema.names if c in needed))
        joined = PredictJoined(
            kept, tables, rest, features,
            tuple(s.row for s in self.sides), tuple(s.vector for s in self.sides), predict.methods,
            predict.names,
        )  # fmt: skip
        self._note(joined, rows)
        return joined

    # -- down the joins ----------------------------------------------------------------------------

    def _below(self, at: Relation, features: dict[str, str], rows: float) -> Relation:
        """`at` with dimensions numbered; `features` maps its columns to the prediction's."""
        match at:
            case Project(child=x) if all(isinstance(e, Column) for e in at.exprs):
                inner = {
                    e.name: features[n]
                    for n, e in zip(at.names, at.exprs, strict=True)
                    if n in features and isinstance(e, Column)
                }
                before = len(self.sides)
                changed = self._below(x, inner, rows)
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
            case Filter(child=x, predicate=p) if not self._fails_early(features):
                changed = self._below(
                    x, {c: f for c, f in features.items() if c not in p.columns}, rows
                )
                return at if changed is x else Filter(changed, p)
            case Join(left=left, right=right, kind="inner", condition=on) if on is not None:
                return self._join(at, left, right, features, rows)
        return at

    def _join(
        self, at: Join, left: Relation, right: Relation, features: dict[str, str], rows: float
    ) -> Relation:
        assert at.condition is not None
        free = {c: f for c, f in features.items() if c not in at.condition.columns}
        sides: list[Relation] = []
        for side in (left, right):
            own = {c: f for c, f in free.items() if c in side.schema}
            whole = with_partner(at, side) if own and self._fails_early(own) else side
            numbered = None if whole is None else self._numbered(whole, own, rows)
            sides.append(self._below(side, own, rows) if numbered is None else numbered)
        return at if sides == [left, right] else at.replace(left=sides[0], right=sides[1])

    def _fails_early(self, features: dict[str, str]) -> bool:
        """Whether rows that are not predicted in the end could raise an error."""
        names = {self.place[f] for f in features.values()}
        model = self.predict.model
        return may_fail(model, (f for f in model.features if f.name in names))

    def _numbered(self, side: Relation, own: dict[str, str], rows: float) -> Relation | None:
        """A dimension as what the join needs of it and the number of its row; None: no gain."""
        names = {self.place[f]: c for c, f in own.items() if f not in self.read}
        every = [(k, i) for k, e in enumerate(self.layers) for i in range(len(e.parts))]
        parts = [p for p in every if self._column(p) in names]
        if not parts or not self._pays(side, parts, rows):
            return None
        columns = {self._column(p): names[self._column(p)] for p in parts}
        found = _Side(side, parts, columns, self.ctx.fresh(), self.ctx.fresh())
        self.sides.append(found)
        kept = tuple(c for c in side.schema.names if c not in columns.values())
        return columns_of(self._table(found), (*kept, found.row))

    def _pays(self, side: Relation, parts: list[Part], rows: float) -> bool:
        c, own = self.ctx.calibration, estimate(side, self.ctx).rows
        products = sum(
            self.layers[k].parts[i].shape[-1] * self.layers[k].layer.shape[-1] for k, i in parts
        )
        hidden = sum(self.layers[k].layer.shape[-1] for k in {k for k, _ in parts})
        values = sum(_values(f.of) for f in {self._feature(p) for p in parts})
        saved = rows * (2.0 * products / c.gemm_flops + values * c.arrow_value_s)
        each = 2.0 * products / c.gemm_flops + (values + hidden) * c.arrow_value_s
        added = own * each + rows * (c.arrow_value_s + 4.0 * hidden / c.copy_bytes_s) + _SETUP_S
        return saved > _ADVANTAGE * added

    def _column(self, part: Part) -> str:
        layer, place = part
        return column_of(self.layers[layer].parts[place])

    def _feature(self, part: Part) -> Feature:
        name = self._column(part)
        return next(f for f in self.predict.model.features if f.name == name)

    # -- the parts of the network ------------------------------------------------------------------

    def _pieces(self, side: _Side) -> dict[int, Linear]:
        """By layer what a side adds to it."""
        made: dict[int, Linear] = {}
        for k, entry in enumerate(self.layers):
            own = [i for layer, i in side.parts if layer == k]
            # One of the tables holds a layer's bias: nothing is left to be added to joined rows.
            if own:
                first = next(s for s in self.sides if any(layer == k for layer, _ in s.parts))
                bias = entry.layer.bias if first is side else None
                made[k] = Linear(entry.inputs(own), entry.weight(own), bias)
        return made

    def _table(self, side: _Side) -> Numbered:
        model, pieces = self.predict.model, tuple(self._pieces(side).values())
        x = pieces[0] if len(pieces) == 1 else Concat(pieces)
        of = FLOAT64 if x.dtype == "float64" else FLOAT32
        kind = of if x.shape[-1] == 1 else array_of(of, x.shape[-1])
        features = tuple(f for f in model.features if f.name in side.columns)
        name = f"{model.name}.part{self.sides.index(side) + 1}"
        part = Model(
            name, model.version, model.trial, "raw", "", features, (ToTable(x, "raw", kind),),
            imported=model.imported,
        )  # fmt: skip
        chosen = tuple(side.columns[f.name] for f in features)
        return Numbered(Predict(side.relation, part, chosen, ("raw",), (side.vector,)), side.row)

    def _looked(self, k: int) -> Looked | None:
        """Layer `k` with what is looked up; None: no side reads it."""
        entry = self.layers[k]
        width, kind = entry.layer.shape[-1], entry.layer.dtype
        codes: list[Tensor] = []
        tables: list[Tensor] = []
        for place, side in enumerate(self.sides):
            pieces = self._pieces(side)
            if k not in pieces:
                continue
            whole = sum(p.shape[-1] for p in pieces.values())
            start = sum(p.shape[-1] for layer, p in pieces.items() if layer < k)
            table = Param(table_name(place), (1, whole), kind)
            codes.append(ToTensor(side.row, RowNumber()))
            tables.append(table if whole == width else columns_between(table, start, start + width))
        if not codes:
            return None
        gone = {p for side in self.sides for p in side.parts}
        rest = [i for i in range(len(entry.parts)) if (k, i) not in gone]
        x, weight = (entry.inputs(rest), entry.weight(rest)) if rest else (None, None)
        return Looked(tuple(codes), tuple(tables), x, weight)

    def _rest(self) -> Model:
        """The network over what is looked up."""
        model = self.predict.model
        made: dict[Node, Node | None] = {
            entry.layer: self._looked(k) for k, entry in enumerate(self.layers)
        }
        lost = {self._column(p) for side in self.sides for p in side.parts}
        kept = tuple(f for f in model.features if f.name not in lost)
        return model.replace(
            name=f"{model.name}.rest",
            features=(*kept, *(Feature(s.row, INT64) for s in self.sides)),
            outputs=with_outputs(model, self.predict.methods, made.get),
        )

    def _note(self, joined: PredictJoined, rows: float) -> None:
        own = [estimate(s.relation, self.ctx).rows for s in self.sides]
        inputs = sum(self.layers[k].parts[i].shape[-1] for s in self.sides for k, i in s.parts)
        reason = f"{inputs} inputs once for {sum(own):,.0f} rows instead of {rows:,.0f}"
        after = estimate(joined, self.ctx).seconds
        self.ctx.choices[joined] = Choice("split", reason, (Alternative("split", after),))


def _values(of: SqlType) -> int:
    return of.size[0] if of.kind == "array" else 1
