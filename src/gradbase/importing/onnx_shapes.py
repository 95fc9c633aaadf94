"""ONNX operators that change shapes and pick elements."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from gradbase.errors import UnsupportedError
from gradbase.importing.building import BATCHES, Builder, Size, Value
from gradbase.importing.constants import plan_dtype
from gradbase.importing.files.graph import Weight
from gradbase.importing.onnx_calls import Call, Translator, size


def _reshape(c: Call) -> Value:
    sizes = c.numbers("shape", 1) or []
    x = c.get(0)
    if not c.attribute("allowzero", 0):
        sizes = [size(x, i) if s == 0 else s for i, s in enumerate(sizes)]
    if sizes[:1] == [1] and -1 not in sizes and size(x, 0) != 1 and _fixed_one(x, sizes):
        sizes = [size(x, 0), *sizes[1:]]  # written for a batch of one row
    elif sizes[:1] == [1] and sizes.count(-1) == 1 and isinstance(size(x, 0), Size):
        rest = math.prod(int(p) for p in x.pair[0].shape[1:])
        known = math.prod(s for s in sizes[1:] if isinstance(s, int) and s > 0)
        sizes = [size(x, 0), *(rest // known if s == -1 else s for s in sizes[1:])]
    return c.b.call("reshape.default", x, sizes)


def _fixed_one(x: Value, sizes: list[int | Size]) -> bool:
    rest = [s for s in sizes[1:] if isinstance(s, int)]
    return len(rest) == len(sizes) - 1 and math.prod(rest) * BATCHES[0] == x.pair[0].numel()


def _flatten(c: Call) -> Value:
    x, axis = c.get(0), c.axis(1)
    if axis == 0:
        return c.b.call("reshape.default", x, [1, -1])
    first = x if axis == 1 else c.b.call("flatten.using_ints", x, 0, axis - 1)
    if first.rank == 1:
        return c.b.call("unsqueeze.default", first, 1)
    return c.b.call("flatten.using_ints", first, 1, -1)


def _squeeze(c: Call) -> Value:
    x, axes = c.get(0), c.numbers("axes", 1)
    chosen = [i for i in range(x.rank) if size(x, i) == 1] if axes is None else axes
    for axis in sorted((int(a) % x.rank for a in chosen), reverse=True):  # type: ignore[arg-type]
        x = c.b.call("squeeze.dim", x, axis)
    return x


def _unsqueeze(c: Call) -> Value:
    x, axes = c.get(0), c.numbers("axes", 1) or []
    rank = x.rank + len(axes)
    for axis in sorted(int(a) % rank for a in axes):  # type: ignore[arg-type]
        x = c.b.call("unsqueeze.default", x, axis)
    return x


def _transpose(c: Call) -> Value:
    axes = c.attribute("perm") or list(range(c.get(0).rank))[::-1]
    return c.b.call("permute.default", c.get(0), axes)


def _concat(c: Call) -> Value:
    parts = [c.get(i) for i in range(len(c.x))]
    return parts[0] if len(parts) == 1 else c.b.call("cat.default", parts, c.axis(0))


def _split(c: Call) -> Any:
    x, axis, sizes = c.get(0), c.axis(0), c.numbers("split", 1)
    if sizes is None:
        count, whole = len(c.step.outputs), size(x, axis)
        if isinstance(whole, Size):
            raise UnsupportedError("Split along the batch mixes rows")
        each = -(-whole // count)
        sizes = [min(each, whole - i * each) for i in range(count)]
    return c.b.calls("split_with_sizes.default", x, sizes, axis)


def _slice(c: Call) -> Value:
    x = c.get(0)
    starts, ends = c.numbers("starts", 1) or [], c.numbers("ends", 2) or []
    axes = c.numbers("axes", 3) or list(range(len(starts)))
    steps = c.numbers("steps", 4) or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if isinstance(axis, Size) or isinstance(step, Size) or not step:
            raise UnsupportedError("Slice along an axis that is computed")
        if step < 0:
            if (start, step) != (-1, -1) or isinstance(end, Size) or end > -(1 << 30):
                raise UnsupportedError("Slice with a negative step")
            x = c.b.call("flip.default", x, [axis])
            continue
        x = c.b.call("slice.Tensor", x, axis, start, end, step)
    return x


def _gather(c: Call) -> Value:
    x, index, axis = c.get(0), c.get(1), c.axis(0)
    if c.b.is_constant(index) and index.rank == 0:
        return c.b.call("select.int", x, axis, int(c.b.content(index).item()))
    if index.dtype not in ("int64", "int32"):
        raise UnsupportedError(f"Gather by {index.dtype}")
    if c.b.is_constant(x) and axis == 0 and x.rank == 2:
        wide = c.b.call("_to_copy.default", index, dtype=("dtype", "int64"))
        return c.b.call("embedding.default", x, wide)
    whole = size(x, axis)
    if not isinstance(whole, Size):  # negative indices count from the end
        last = c.b.call("add.Scalar", index, whole)
        index = c.b.call("where.self", c.b.call("lt.Scalar", index, 0), last, index)
    flat = c.b.call("reshape.default", index, [-1])
    picked = c.b.call("index_select.default", x, axis, flat)
    sizes = [*(size(x, i) for i in range(axis)), *(size(index, i) for i in range(index.rank)),
             *(size(x, i) for i in range(axis + 1, x.rank))]  # fmt: skip
    return c.b.call("reshape.default", picked, sizes)


def _expand(c: Call) -> Value:
    x, sizes = c.get(0), c.b.sizes(c.get(1))
    rank = max(x.rank, len(sizes))
    wanted = [1] * (rank - len(sizes)) + sizes
    own = [1] * (rank - x.rank) + [size(x, i) for i in range(x.rank)]
    return c.b.call(
        "expand.default", x, [o if w == 1 else w for w, o in zip(wanted, own, strict=True)]
    )


def _tile(c: Call) -> Value:
    return c.b.call("repeat.default", c.get(0), c.b.sizes(c.get(1)))


def _shape(c: Call) -> Value:
    start, end = int(c.attribute("start", 0)), c.attribute("end")
    pair = [torch.tensor(list(p.shape)[start:end], dtype=torch.int64) for p in c.get(0).pair]
    return Value((pair[0], pair[1]), known=True)


def _length(c: Call) -> Value:
    pair = [torch.tensor(p.numel(), dtype=torch.int64) for p in c.get(0).pair]
    return Value((pair[0], pair[1]), known=True)


def _constant(c: Call) -> Value:
    for name in ("value_float", "value_floats"):
        if name in c.step.attributes:
            return c.b.literal(c.attribute(name), "float32")
    for name in ("value_int", "value_ints"):
        if name in c.step.attributes:
            return c.b.literal(c.attribute(name), "int64")
    return _weight(c.b, c.step.attributes.get("value"))


def _weight(b: Builder, weight: Any) -> Value:
    if not isinstance(weight, Weight):
        raise UnsupportedError("a constant that is no tensor")
    return b.constant(b.constants.of(weight), weight.dims, plan_dtype(weight.dtype))


def _constant_of_shape(c: Call) -> Value:
    filled = c.step.attributes.get("value")
    value = c.b.literal(0.0, "float32") if filled is None else _weight(c.b, filled)
    sizes = c.b.sizes(c.get(0))
    return c.b.call("expand.default", c.b.call("reshape.default", value, [1] * len(sizes)), sizes)


def _range(c: Call) -> Value:
    limits = [c.b.sizes(c.get(i))[0] for i in range(3)]
    made: list[Any] = []
    for at in (0, 1):
        start, stop, step = (v.pair[at] if isinstance(v, Size) else v for v in limits)
        if not step or abs(stop - start) > 1 << 20:
            raise UnsupportedError("Range of more than a million numbers")
        made.append(torch.arange(start, stop, step, dtype=c.get(0).pair[0].dtype))
    return Value((made[0], made[1]), known=True)


def _pad(c: Call) -> Value:
    x, pads = c.get(0), c.numbers("pads", 1) or []
    mode = c.attribute("mode", "constant")
    axes = [int(a) % x.rank for a in c.numbers("axes", 3) or range(x.rank)]  # type: ignore[arg-type]
    if mode != "constant" or len(pads) != 2 * len(axes):
        raise UnsupportedError(f"Pad by `{mode}`")
    before = dict(zip(axes, pads, strict=False))
    after = dict(zip(axes, pads[len(axes) :], strict=True))
    listed: list[Any] = []
    for axis in reversed(range(x.rank)):
        listed += [before.get(axis, 0), after.get(axis, 0)]
    return c.b.call("constant_pad_nd.default", x, listed, c.number("value", 2) or 0.0)


def _one_hot(c: Call) -> Value:
    depth = int(c.b.content(c.get(1)).reshape(-1)[0])
    if depth > 1 << 20:
        raise UnsupportedError("OneHot of more than a million classes")
    values = c.b.content(c.get(2)).tolist()
    index, axis = c.get(0), int(c.attribute("axis", -1))
    places = c.b.literal(list(range(depth)), index.dtype)
    wrapped = c.b.call("remainder.Scalar", index, depth)
    known = c.b.call("eq.Tensor", c.b.call("unsqueeze.default", wrapped, -1), places)
    inside = c.b.call("logical_and.default", c.b.call("ge.Scalar", index, -depth),
                      c.b.call("lt.Scalar", index, depth))  # fmt: skip
    known = c.b.call("logical_and.default", known, c.b.call("unsqueeze.default", inside, -1))
    off, on = (c.b.literal(v, c.get(2).dtype) for v in values)
    found = c.b.call("where.self", known, on, off)
    rank = found.rank
    if axis % rank != rank - 1:
        order = list(range(rank - 1))
        order.insert(axis % rank, rank - 1)
        found = c.b.call("permute.default", found, order)
    return found


def _gather_elements(c: Call) -> Value:
    return c.b.call("gather.default", c.get(0), c.axis(0), c.get(1))


def _trilu(c: Call) -> Value:
    k = int(c.b.content(c.get(1)).item()) if c.has(1) else 0
    return c.b.call("triu.default" if c.attribute("upper", 1) else "tril.default", c.get(0), k)


def _depth_to_space(c: Call) -> Value:
    if c.attribute("mode", "DCR") != "CRD":
        raise UnsupportedError("DepthToSpace by DCR")
    return c.b.call("pixel_shuffle.default", c.get(0), int(c.attribute("blocksize")))


SHAPES: Mapping[str, Translator] = {
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "OneHot": _one_hot,
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": _length,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Trilu": _trilu,
    "Unsqueeze": _unsqueeze,
}
"""By name."""
