"""The models of all groups as one safetensors file, and what predicts from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import safetensors.numpy
import torch
from torch import Tensor

from gradbase.errors import DataError, StoreError
from gradbase.ir.grouping import ERROR, POOLED
from gradbase.runtime.groups.inputs import GroupInputs, restored
from gradbase.runtime.groups.keys import GroupKeys
from gradbase.runtime.groups.layout import Layout, common_shape
from gradbase.runtime.train.kernel import Kernel
from gradbase.runtime.train.networks import MlpShape

if TYPE_CHECKING:
    from gradbase.runtime.groups.member import Member
    from gradbase.runtime.groups.rows import GroupedData

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
NONE, CONSTANT = -1, -2
"""In place of a stack's number: the group has no model; it has one prediction for all rows."""
SURE = 1e4
"""A logit that is above or below all others."""
_TILES = (16, 64, 512)
"""Rows of one group that are computed together."""


@dataclass(frozen=True)
class Packed:
    """What a model of groups is made of.

    Parameters
    ----------
    task, unseen : str
        Of the model; what happens to rows of other groups.
    width : int
        Outputs of the whole: 1, or one per class where there are more than two.
    stack, place : int64[groups]
        Where each group's weights are; `NONE` and `CONSTANT`.
    mean, scale : float64[groups]
        Regression: prediction = output * scale + mean.
    constant : float64[groups]
        The prediction, or the number of the class, of groups without a network.
    classes : int64[groups, most classes]
        Each group's classes among all, then -1.
    shapes : list of MlpShape; weights : list of float32[networks, width]
        Of each stack.
    """

    task: str
    unseen: str
    width: int
    keys: GroupKeys
    inputs: GroupInputs
    stack: Ints
    place: Ints
    mean: Floats
    scale: Floats
    constant: Floats
    classes: Ints
    shapes: list[MlpShape]
    weights: list[npt.NDArray[np.float32]]

    def to_bytes(self) -> npt.NDArray[np.uint8]:
        """The file."""
        names = ("stack", "place", "mean", "scale", "constant", "classes")
        arrays = {n: getattr(self, n) for n in names} | self.inputs.arrays()
        arrays |= {f"weights.{i}": w for i, w in enumerate(self.weights)}
        facts = {
            "task": self.task, "unseen": self.unseen, "width": self.width,
            "names": self.keys.names, "values": self.keys.values, "columns": self.inputs.facts(),
            "shapes": [asdict(s) for s in self.shapes],
        }  # fmt: skip
        whole = {n: np.ascontiguousarray(a) for n, a in arrays.items()}
        data = safetensors.numpy.save(whole, {"groups": json.dumps(facts, ensure_ascii=False)})
        return np.frombuffer(data, np.uint8)


def packed(data: GroupedData, best: Mapping[int, Member], unseen: str) -> Packed:
    """The best members of all groups that have one, the constants of others."""
    count = len(data.groups)
    stack, place = np.full(count, NONE), np.zeros(count, np.int64)
    mean, scale, constant = np.zeros(count), np.ones(count), np.full(count, np.nan)
    classes = np.full((count, max(len(data.classes), 1)), -1)
    stacks: dict[MlpShape, list[tuple[MlpShape, list[Tensor]]]] = {}
    for g, group in enumerate(data.groups):
        target = group.target
        classes[g, : len(target.classes)] = target.classes
        mean[g], scale[g] = target.mean, target.scale
        if g in best:
            member, shape = best[g], common_shape(best[g].shape)
            known = stacks.setdefault(shape, [])
            stack[g], place[g] = list(stacks).index(shape), len(known)
            known.append((member.shape, member.layers))
        elif target.constant and not group.error:
            stack[g] = CONSTANT
            constant[g] = target.classes[0] if target.classes else target.mean
    weights: list[npt.NDArray[np.float32]] = []
    for shape, networks in stacks.items():
        layout = Layout(shape)
        flat = torch.zeros(len(networks), layout.width)
        for row, (own, layers) in enumerate(networks):
            layout.place(flat, row, own, [layer.float() for layer in layers])
        weights.append(flat.numpy())
    return Packed(
        data.data.task, unseen, max(len(data.classes), 1) if len(data.classes) > 2 else 1,
        data.keys, data.inputs, stack, place, mean, scale, constant, classes, list(stacks), weights,
    )  # fmt: skip


def unpacked(content: npt.NDArray[np.uint8]) -> Packed:
    """Inverse of `Packed.to_bytes`; StoreError where it is no such file."""
    try:
        raw = content.tobytes()
        size = int.from_bytes(raw[:8], "little")
        facts = json.loads(json.loads(raw[8 : 8 + size])["__metadata__"]["groups"])
        arrays: dict[str, npt.NDArray[Any]] = safetensors.numpy.load(raw)
        keys = GroupKeys(facts["names"], [tuple(v) for v in facts["values"]])
        stack = arrays["stack"]
        shapes = [
            MlpShape(**s | {"embeddings": _pairs(s["embeddings"]), "hidden": tuple(s["hidden"])})
            for s in facts["shapes"]
        ]
        names = ("stack", "place", "mean", "scale", "constant", "classes")
        return Packed(
            task=facts["task"], unseen=facts["unseen"], width=facts["width"], keys=keys,
            inputs=restored(facts["columns"], arrays, len(stack)), shapes=shapes,
            weights=[arrays[f"weights.{i}"] for i in range(len(shapes))],
            **{n: arrays[n] for n in names},
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, IndexError, safetensors.SafetensorError) as error:
        raise StoreError(
            f"the content of a model of groups is damaged: {error}", hint="run `gradbase fsck`"
        ) from error


def _pairs(listed: Sequence[Sequence[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((int(a), int(b)) for a, b in listed)


class GroupPredictor:
    """Predicts rows of any groups.

    Parameters
    ----------
    exact : bool
        Whether a row's result must not depend on its neighbours.
    """

    def __init__(self, of: Packed, *, exact: bool = False) -> None:
        self.of, self.exact = of, exact
        self._weights = [torch.from_numpy(w) for w in of.weights]
        self._layouts = [Layout(s) for s in of.shapes]

    @property
    def columns(self) -> tuple[str, ...]:
        """What is read."""
        return tuple(dict.fromkeys((*self.of.inputs.names, *self.of.keys.names)))

    def __call__(self, columns: Mapping[str, pa.Array], first_row: int = 0) -> Floats:
        """float64[rows, width], NaN where nothing is predicted.

        Raises
        ------
        DataError
            A row's group is not known and `unseen` is ``error``; a feature is ±Inf.
        """
        of = self.of
        group = of.keys.find([columns[n] for n in of.keys.names])
        group = np.where(group >= 0, np.where(of.stack[group] == NONE, -1, group), -1)
        if of.unseen == POOLED:
            group = np.where(group < 0, len(of.keys), group)
            group = np.where(of.stack[group] == NONE, -1, group)
        elif of.unseen == ERROR and (group < 0).any():
            self._refuse(columns, int(np.flatnonzero(group < 0)[0]), first_row)
        out = np.full((len(group), of.width), np.nan)
        known = np.flatnonzero(group >= 0)
        if len(known):
            chosen = {n: columns[n] for n in of.inputs.names}
            if len(known) < len(group):
                chosen = {n: c.take(pa.array(known)) for n, c in chosen.items()}
            out[known] = self._predicted(chosen, group[known])
        return out

    def _refuse(self, columns: Mapping[str, pa.Array], row: int, first_row: int) -> None:
        values = ", ".join(f"{n} = {columns[n][row].as_py()!r}" for n in self.of.keys.names)
        raise DataError(
            f"row {first_row + row + 1} is of the group {values}, which has no model",
            at=f"row {first_row + row + 1}",
            hint="leave such rows out, or train with unseen_group = 'null' or 'pooled'",
        )

    def _predicted(self, columns: Mapping[str, pa.Array], group: Ints) -> Floats:
        of = self.of
        x, codes = of.inputs.encode(columns, group)
        wide, ids = _with_zero(x), _with_zero(codes)
        out = np.empty((len(group), of.width))
        stacks = of.stack[group]
        fixed = np.flatnonzero(stacks == CONSTANT)
        out[fixed] = self.constants(group[fixed])
        for number in range(len(of.shapes)):
            rows = np.flatnonzero(stacks == number)
            if len(rows):
                z = self._outputs(number, rows, group, wide, ids)
                out[rows] = self.finished(z, group[rows])
        return out

    def _outputs(self, number: int, rows: Ints, group: Ints, x: Tensor, codes: Tensor) -> Floats:
        """Outputs float64[rows, own outputs] of the networks of one stack."""
        places = self.of.place[group[rows]]
        order = np.argsort(places, kind="stable")
        members, counts = np.unique(places[order], return_counts=True)
        size = self._tile(len(rows) / len(members))
        tiles = -(-counts // size)
        slot = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        slot += np.repeat((np.cumsum(tiles) - tiles) * size, counts)
        count = max(int(tiles.sum()), 2)
        where = np.full(count * size, len(x) - 1)
        where[slot] = rows[order]
        of_tile = np.zeros(count, np.int64)
        of_tile[: int(tiles.sum())] = np.repeat(members, tiles)
        layout = self._layouts[number]
        weights = layout.views(self._weights[number][torch.from_numpy(of_tile)])
        shape = layout.shape
        kernel = Kernel(shape, count, weights, [], kept=_own_hidden(shape, weights))
        taken = x.index_select(0, torch.from_numpy(where))
        width = shape.columns[0]
        taken = torch.nn.functional.pad(taken, (0, max(0, width - taken.shape[1])))[:, :width]
        own = codes.index_select(0, torch.from_numpy(where))[:, : len(shape.embeddings)]
        z = kernel.forward(
            taken.contiguous().view(count, size, width),
            own.view(count, size, -1) if shape.embeddings else None,
        )
        found = np.empty((len(rows), shape.outputs))
        found[order] = z.reshape(-1, shape.outputs).double().numpy()[slot]
        return found

    def _tile(self, mean_rows: float) -> int:
        if self.exact:
            return _TILES[0]
        return max(size for size in _TILES if size <= max(mean_rows, _TILES[0]))

    def constants(self, group: Ints) -> Floats:
        of = self.of
        if of.task == "regression":
            return of.constant[group, None]
        number = of.constant[group].astype(np.int64)
        if of.width == 1:
            return np.where(number == 1, SURE, -SURE)[:, None]
        found = np.full((len(group), of.width), -SURE)
        found[np.arange(len(group)), number] = 0.0
        return found

    def finished(self, z: Floats, group: Ints) -> Floats:
        """A network's outputs as those of the whole model."""
        of = self.of
        if of.task == "regression":
            return z * of.scale[group, None] + of.mean[group, None]
        if of.width == 1:
            return z
        if z.shape[1] == 1:
            z = np.concatenate([-np.logaddexp(0.0, z), -np.logaddexp(0.0, -z)], 1)
        else:
            z = torch.log_softmax(torch.from_numpy(z), 1).numpy()
        found = np.full((len(group), of.width), -SURE)
        found[np.arange(len(group))[:, None], of.classes[group, : z.shape[1]]] = z
        return found


def _own_hidden(shape: MlpShape, weights: list[Tensor]) -> list[Tensor] | None:
    """Which hidden values are a network's own: those from which something goes on."""
    if shape.activation != "sigmoid":
        return None
    start = shape.first_dense_layer
    return [(w != 0).any(2, keepdim=True).transpose(1, 2).float() for w in weights[start::2]]


def _with_zero(values: npt.NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.concatenate([values, np.zeros_like(values[:1])]))
