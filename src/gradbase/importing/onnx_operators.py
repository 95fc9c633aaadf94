"""Operators of ONNX's own domain as ATen operators (ONNX operators, versions 7 to 24)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gradbase.errors import UnsupportedError
from gradbase.importing.building import BATCHES, Builder, Size, Value
from gradbase.importing.files.graph import Step, Weight
from gradbase.importing.files.onnx_reader import DTYPES

Translator = Callable[["Call"], Any]
_FLOATS = ("float32", "float64")


@dataclass(frozen=True)
class Call:
    """One operator of a graph: what builds it, its inputs (None: left out), its attributes."""

    b: Builder
    step: Step
    x: list[Value | None]
    version: int

    def attribute(self, name: str, otherwise: Any = None) -> Any:
        """An attribute's value, lists as lists."""
        found = self.step.attributes.get(name, otherwise)
        return found.tolist() if hasattr(found, "tolist") else found

    def has(self, place: int) -> bool:
        """Whether input `place` is given."""
        return place < len(self.x) and self.x[place] is not None

    def get(self, place: int) -> Value:
        """Input `place`."""
        found = self.x[place] if place < len(self.x) else None
        if found is None:
            raise UnsupportedError(f"input {place + 1} of {self.step.op} is left out")
        return found

    def numbers(self, name: str, place: int) -> list[int | Size] | None:
        """A list of integers: an attribute in old versions, an input in new ones."""
        if name in self.step.attributes:
            return self.attribute(name)
        return self.b.sizes(self.get(place)) if self.has(place) else None

    def number(self, name: str, place: int) -> float | None:
        """As `numbers`, one number."""
        if name in self.step.attributes:
            return self.attribute(name)
        return self.b.content(self.get(place)).reshape(-1)[0].item() if self.has(place) else None

    def axis(self, otherwise: int, name: str = "axis") -> int:
        """An axis, from 0."""
        axis = int(self.attribute(name, otherwise))
        return axis + self.get(0).rank if axis < 0 else axis


def _aten(name: str, *more: Any) -> Translator:
    return lambda c: c.b.call(name, c.get(0), *more)


def _binary(name: str) -> Translator:
    return lambda c: c.b.call(name, c.get(0), c.get(1))


def _folded(name: str) -> Translator:
    """A function of any number of inputs, two at a time."""

    def run(c: Call) -> Value:
        found = c.get(0)
        for place in range(1, len(c.x)):
            found = c.b.call(name, found, c.get(place))
        return found

    return run


def _mean(c: Call) -> Value:
    return c.b.call("div.Scalar", _folded("add.Tensor")(c), float(len(c.x)))


def _div(c: Call) -> Value:
    a, b = c.get(0), c.get(1)
    if a.dtype in _FLOATS:
        return c.b.call("div.Tensor", a, b)
    return c.b.call("div.Tensor_mode", a, b, rounding_mode="trunc")


def _mod(c: Call) -> Value:
    name = "fmod.Tensor" if c.attribute("fmod", 0) else "remainder.Tensor"
    return c.b.call(name, c.get(0), c.get(1))


def _gemm(c: Call) -> Value:
    a, weight = c.get(0), c.get(1)
    if c.attribute("transA", 0):
        a = c.b.call("permute.default", a, [1, 0])
    if not c.attribute("transB", 0):
        weight = c.b.call("permute.default", weight, [1, 0])
    alpha, beta = float(c.attribute("alpha", 1.0)), float(c.attribute("beta", 1.0))
    found = c.b.call("linear.default", a, weight)
    if alpha != 1.0:
        found = c.b.call("mul.Scalar", found, alpha)
    if c.has(2) and beta:
        bias = c.get(2) if beta == 1.0 else c.b.call("mul.Scalar", c.get(2), beta)
        if c.b.is_constant(bias) and bias.rank == 2 and bias.pair[0].shape[0] == 1:
            bias = c.b.call("reshape.default", bias, [-1])
        found = c.b.call("add.Tensor", found, bias)
    return found


def _matmul(c: Call) -> Value:
    a, b = c.get(0), c.get(1)
    if c.b.is_constant(b) and b.rank == 2 and a.rank >= 2:
        return c.b.call("linear.default", a, c.b.call("permute.default", b, [1, 0]))
    return c.b.call("matmul.default", a, b)


def _pow(c: Call) -> Value:
    exponent = c.get(1)
    if c.b.is_constant(exponent) and exponent.pair[0].numel() == 1:
        number = c.b.content(exponent).reshape(-1)[0].item()
        if number == 0.5:
            return c.b.call("sqrt.default", c.get(0))
        return c.b.call("pow.Tensor_Scalar", c.get(0), number)
    return c.b.call("pow.Tensor_Tensor", c.get(0), exponent)


def _clip(c: Call) -> Value:
    low, high = c.number("min", 1), c.number("max", 2)
    if low is None and high is None:
        return c.get(0)
    return c.b.call("clamp.default", c.get(0), low, high)


def _cast(c: Call) -> Value:
    kind = DTYPES.get(int(c.attribute("to", 0)), "")
    if kind not in ("float32", "float64", "int32", "int64", "bool", "uint8"):
        raise UnsupportedError(f"Cast to {kind or c.attribute('to')}")
    x = c.get(0)
    return x if x.dtype == kind else c.b.call("_to_copy.default", x, dtype=("dtype", kind))


def _cast_like(c: Call) -> Value:
    return c.b.call("_to_copy.default", c.get(0), dtype=("dtype", c.get(1).dtype))


def _leaky(c: Call) -> Value:
    return c.b.call("leaky_relu.default", c.get(0), float(c.attribute("alpha", 0.01)))


def _elu(c: Call) -> Value:
    alpha = float(c.attribute("alpha", 1.0))
    return c.b.call("elu.default", c.get(0), *([] if alpha == 1.0 else [alpha]))


def _gelu(c: Call) -> Value:
    how = c.attribute("approximate", "none")
    return c.b.call("gelu.default", c.get(0), **({} if how == "none" else {"approximate": how}))


def _hard_sigmoid(c: Call) -> Value:
    scaled = c.b.call("mul.Scalar", c.get(0), float(c.attribute("alpha", 0.2)))
    moved = c.b.call("add.Scalar", scaled, float(c.attribute("beta", 0.5)))
    return c.b.call("clamp.default", moved, 0.0, 1.0)


def _prelu(c: Call) -> Value:
    x, slope = c.get(0), c.get(1)
    positive = c.b.call("gt.Scalar", x, 0)
    return c.b.call("where.self", positive, x, c.b.call("mul.Tensor", x, slope))


def _softsign(c: Call) -> Value:
    below = c.b.call("add.Scalar", c.b.call("abs.default", c.get(0)), 1.0)
    return c.b.call("div.Tensor", c.get(0), below)


def _softmax(name: str) -> Translator:
    def run(c: Call) -> Value:
        x = c.get(0)
        axis = c.axis(1 if c.version < 13 else -1)
        if c.version < 13 and axis != x.rank - 1:  # then all axes from there on count as one
            sizes = [_size(x, i) for i in range(x.rank)]
            flat = c.b.call("flatten.using_ints", x, axis, -1)
            return c.b.call("reshape.default", c.b.call(name, flat, axis, False), sizes)
        return c.b.call(name, x, axis, False)

    return run


# -- shapes ----------------------------------------------------------------------------------------


def _size(x: Value, axis: int) -> int | Size:
    a, b = (int(p.shape[axis]) for p in x.pair)
    return a if a == b else Size((a, b))


def _reshape(c: Call) -> Value:
    sizes = c.numbers("shape", 1) or []
    x = c.get(0)
    if not c.attribute("allowzero", 0):
        sizes = [_size(x, i) if s == 0 else s for i, s in enumerate(sizes)]
    if sizes[:1] == [1] and -1 not in sizes and _size(x, 0) != 1 and _fixed_one(x, sizes):
        sizes = [_size(x, 0), *sizes[1:]]  # written for a batch of one row
    elif sizes[:1] == [1] and sizes.count(-1) == 1 and isinstance(_size(x, 0), Size):
        rest = math.prod(int(p) for p in x.pair[0].shape[1:])
        known = math.prod(s for s in sizes[1:] if isinstance(s, int) and s > 0)
        sizes = [_size(x, 0), *(rest // known if s == -1 else s for s in sizes[1:])]
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
    chosen = [i for i in range(x.rank) if _size(x, i) == 1] if axes is None else axes
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
        count, whole = len(c.step.outputs), _size(x, axis)
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
    size = _size(x, axis)
    if not isinstance(size, Size):  # negative indices count from the end
        last = c.b.call("add.Scalar", index, size)
        index = c.b.call("where.self", c.b.call("lt.Scalar", index, 0), last, index)
    flat = c.b.call("reshape.default", index, [-1])
    picked = c.b.call("index_select.default", x, axis, flat)
    sizes = [*(_size(x, i) for i in range(axis)), *(_size(index, i) for i in range(index.rank)),
             *(_size(x, i) for i in range(axis + 1, x.rank))]  # fmt: skip
    return c.b.call("reshape.default", picked, sizes)


def _expand(c: Call) -> Value:
    x, sizes = c.get(0), c.b.sizes(c.get(1))
    rank = max(x.rank, len(sizes))
    wanted = [1] * (rank - len(sizes)) + sizes
    own = [1] * (rank - x.rank) + [_size(x, i) for i in range(x.rank)]
    return c.b.call("expand.default", x, [o if w == 1 else w for w, o in zip(wanted, own, strict=True)])


def _tile(c: Call) -> Value:
    return c.b.call("repeat.default", c.get(0), c.b.sizes(c.get(1)))


def _shape(c: Call) -> Value:
    import torch

    start, end = int(c.attribute("start", 0)), c.attribute("end")
    pair = [torch.tensor(list(p.shape)[start:end], dtype=torch.int64) for p in c.get(0).pair]
    return Value((pair[0], pair[1]), known=True)


def _length(c: Call) -> Value:
    import torch

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
    from gradbase.importing.constants import plan_dtype

    if not isinstance(weight, Weight):
        raise UnsupportedError("a constant that is no tensor")
    return b.constant(lambda: b.constants.load(weight), weight.dims, plan_dtype(weight.dtype))


def _constant_of_shape(c: Call) -> Value:
    filled = c.step.attributes.get("value")
    value = c.b.literal(0.0, "float32") if filled is None else _weight(c.b, filled)
    sizes = c.b.sizes(c.get(0))
    return c.b.call("expand.default", c.b.call("reshape.default", value, [1] * len(sizes)), sizes)


def _range(c: Call) -> Value:
    import torch

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
    after = dict(zip(axes, pads[len(axes):], strict=True))
    listed: list[Any] = []
    for axis in reversed(range(x.rank)):
        listed += [before.get(axis, 0), after.get(axis, 0)]
    return c.b.call("constant_pad_nd.default", x, listed, c.number("value", 2) or 0.0)


# -- sums, extremes, norms -------------------------------------------------------------------------


def _reduce(run: Callable[[Call, Value, list[int], bool], Value]) -> Translator:
    def translated(c: Call) -> Value:
        x = c.get(0)
        axes = c.numbers("axes", 1)
        if not axes and c.attribute("noop_with_empty_axes", 0):
            return x
        chosen = [int(a) % x.rank for a in axes] if axes else list(range(x.rank))  # type: ignore[arg-type]
        if 0 in chosen and isinstance(_size(x, 0), Size):
            raise UnsupportedError(f"{c.step.op} over the batch mixes rows")
        return run(c, x, chosen, bool(c.attribute("keepdims", 1)))

    return translated


def _reduced(name: str) -> Translator:
    return _reduce(lambda c, x, axes, keep: c.b.call(name, x, axes, keep))


def _sum_of(name: str, *more: Any) -> Translator:
    return _reduce(
        lambda c, x, axes, keep: c.b.call("sum.dim_IntList", c.b.call(name, x, *more), axes, keep)
    )


def _l2(c: Call, x: Value, axes: list[int], keep: bool) -> Value:  # noqa: FBT001
    total = c.b.call("sum.dim_IntList", c.b.call("mul.Tensor", x, x), axes, keep)
    return c.b.call("sqrt.default", total)


def _log_sum(c: Call, x: Value, axes: list[int], keep: bool) -> Value:  # noqa: FBT001
    return c.b.call("log.default", c.b.call("sum.dim_IntList", x, axes, keep))


def _product(c: Call, x: Value, axes: list[int], keep: bool) -> Value:  # noqa: FBT001
    for axis in sorted(axes, reverse=True):
        x = c.b.call("prod.dim_int", x, axis, keep)
    return x


def _arg(name: str) -> Translator:
    def run(c: Call) -> Value:
        if c.attribute("select_last_index", 0):
            raise UnsupportedError(f"{c.step.op} of the last of equal ones")
        return c.b.call(name, c.get(0), c.axis(0), bool(c.attribute("keepdims", 1)))

    return run


def _top_k(c: Call) -> Any:
    k = c.b.sizes(c.get(1))[0] if c.has(1) else c.attribute("k")
    largest, ordered = bool(c.attribute("largest", 1)), bool(c.attribute("sorted", 1))
    return c.b.calls("topk.default", c.get(0), k, c.axis(-1), largest, ordered)


def _cumsum(c: Call) -> Value:
    if c.attribute("exclusive", 0) or c.attribute("reverse", 0):
        raise UnsupportedError("CumSum backwards")
    return c.b.call("cumsum.default", c.get(0), int(c.b.content(c.get(1)).item()))


def _layer_norm(c: Call) -> Value:
    x, axis = c.get(0), c.axis(-1)
    sizes = [_size(x, i) for i in range(axis, x.rank)]
    weight = c.get(1) if c.has(1) else None
    bias = c.get(2) if c.has(2) else None
    return c.b.call("layer_norm.default", x, sizes, weight, bias, float(c.attribute("epsilon", 1e-5)))


def _batch_norm(c: Call) -> Value:
    if c.attribute("training_mode", 0):
        raise UnsupportedError("BatchNormalization in training mode mixes rows")
    parts = [c.get(i) for i in range(5)]
    epsilon = float(c.attribute("epsilon", 1e-5))
    name = "_native_batch_norm_legit_no_training.default"
    return c.b.calls(name, *parts, 0.1, epsilon)[0]


def _group_norm(c: Call) -> Value:
    groups = int(c.attribute("num_groups", 1))
    return c.b.call("group_norm.default", c.get(0), groups, c.get(1), c.get(2),
                    float(c.attribute("epsilon", 1e-5)))  # fmt: skip


def _instance_norm(c: Call) -> Value:
    channels = _size(c.get(0), 1)
    return c.b.call("group_norm.default", c.get(0), channels, c.get(1), c.get(2),
                    float(c.attribute("epsilon", 1e-5)))  # fmt: skip


def _where(c: Call) -> Value:
    return c.b.call("where.self", c.get(0), c.get(1), c.get(2))


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


def _einsum(c: Call) -> Value:
    return c.b.call("einsum.default", c.attribute("equation"), [c.get(i) for i in range(len(c.x))])


def _gather_elements(c: Call) -> Value:
    return c.b.call("gather.default", c.get(0), c.axis(0), c.get(1))


def _trilu(c: Call) -> Value:
    k = int(c.b.content(c.get(1)).item()) if c.has(1) else 0
    return c.b.call("triu.default" if c.attribute("upper", 1) else "tril.default", c.get(0), k)


# -- images ----------------------------------------------------------------------------------------


def _padding(c: Call, kernel: list[int], rank: int) -> tuple[Value, list[int], list[int]]:
    """The input, what is padded on each side by the operator, and in front of it (uneven sides)."""
    x = c.get(0)
    pads = c.attribute("pads") or [0] * (2 * rank)
    how = c.attribute("auto_pad", "NOTSET")
    strides = c.attribute("strides") or [1] * rank
    dilations = c.attribute("dilations") or [1] * rank
    if how in ("SAME_UPPER", "SAME_LOWER"):
        before, after = [], []
        for i in range(rank):
            size = _size(x, 2 + i)
            if isinstance(size, Size):
                raise UnsupportedError("an image whose size is computed")
            reach = (kernel[i] - 1) * dilations[i] + 1
            total = max(0, (-(-size // strides[i]) - 1) * strides[i] + reach - size)
            small = total // 2
            before.append(small if how == "SAME_UPPER" else total - small)
            after.append(total - before[-1])
        pads = before + after
    if pads[:rank] == pads[rank:]:
        return x, pads[:rank], []
    listed: list[int] = []
    for i in reversed(range(rank)):
        listed += [pads[i], pads[rank + i]]
    return x, [0] * rank, listed


def _conv(c: Call) -> Value:
    weight = c.get(1)
    rank = weight.rank - 2
    kernel = [int(n) for n in weight.pair[0].shape[2:]]
    x, pads, uneven = _padding(c, kernel, rank)
    if uneven:
        x = c.b.call("constant_pad_nd.default", x, uneven, 0.0)
    strides = c.attribute("strides") or [1] * rank
    dilations = c.attribute("dilations") or [1] * rank
    bias = c.get(2) if c.has(2) else None
    return c.b.call("convolution.default", x, weight, bias, strides, pads, dilations, False, [0] * rank,
                    int(c.attribute("group", 1)))  # fmt: skip


def _conv_transpose(c: Call) -> Value:
    weight = c.get(1)
    rank = weight.rank - 2
    pads = c.attribute("pads") or [0] * (2 * rank)
    if pads[:rank] != pads[rank:] or c.attribute("auto_pad", "NOTSET") != "NOTSET" or c.attribute("output_shape"):
        raise UnsupportedError("ConvTranspose with uneven padding")
    strides = c.attribute("strides") or [1] * rank
    dilations = c.attribute("dilations") or [1] * rank
    more = c.attribute("output_padding") or [0] * rank
    bias = c.get(2) if c.has(2) else None
    return c.b.call("convolution.default", c.get(0), weight, bias, strides, pads[:rank], dilations, True,
                    more, int(c.attribute("group", 1)))  # fmt: skip


def _max_pool(c: Call) -> Value:
    kernel = c.attribute("kernel_shape")
    rank = len(kernel)
    if len(c.step.outputs) > 1 or rank not in (1, 2, 3):
        raise UnsupportedError("MaxPool that says where the largest values are")
    x, pads, uneven = _padding(c, kernel, rank)
    if uneven:
        x = c.b.call("constant_pad_nd.default", x, uneven, -math.inf)
    strides = c.attribute("strides") or [1] * rank
    dilations = c.attribute("dilations") or [1] * rank
    return c.b.call(f"max_pool{rank}d.default", x, kernel, strides, pads, dilations,
                    bool(c.attribute("ceil_mode", 0)))  # fmt: skip


def _average_pool(c: Call) -> Value:
    kernel = c.attribute("kernel_shape")
    rank = len(kernel)
    x, pads, uneven = _padding(c, kernel, rank)
    counted = bool(c.attribute("count_include_pad", 0))
    if rank not in (1, 2, 3) or (uneven and not counted) or any(d != 1 for d in c.attribute("dilations") or []):
        raise UnsupportedError("AveragePool with uneven padding or dilations")
    if uneven:
        x = c.b.call("constant_pad_nd.default", x, uneven, 0.0)
    strides = c.attribute("strides") or [1] * rank
    return c.b.call(f"avg_pool{rank}d.default", x, kernel, strides, pads,
                    bool(c.attribute("ceil_mode", 0)), counted)  # fmt: skip


def _global(name: str) -> Translator:
    def run(c: Call) -> Value:
        axes = list(range(2, c.get(0).rank))
        return c.b.call(name, c.get(0), axes, True)

    return run


def _depth_to_space(c: Call) -> Value:
    if c.attribute("mode", "DCR") != "CRD":
        raise UnsupportedError("DepthToSpace by DCR")
    return c.b.call("pixel_shuffle.default", c.get(0), int(c.attribute("blocksize")))


OPERATORS: Mapping[str, Translator] = {
    **{
        name: _aten(f"{aten}.default")
        for name, aten in (
            ("Abs", "abs"), ("Acos", "acos"), ("Acosh", "acosh"), ("Asin", "asin"), ("Asinh", "asinh"),
            ("Atan", "atan"), ("Atanh", "atanh"), ("Ceil", "ceil"), ("Cos", "cos"), ("Cosh", "cosh"),
            ("Erf", "erf"), ("Exp", "exp"), ("Floor", "floor"), ("HardSwish", "hardswish"),
            ("IsNaN", "isnan"), ("Log", "log"), ("Mish", "mish"), ("Neg", "neg"), ("Not", "logical_not"),
            ("Reciprocal", "reciprocal"), ("Relu", "relu"), ("Round", "round"), ("Selu", "selu"),
            ("Sigmoid", "sigmoid"), ("Sign", "sign"), ("Sin", "sin"), ("Sinh", "sinh"),
            ("Softplus", "softplus"), ("Sqrt", "sqrt"), ("Tan", "tan"), ("Tanh", "tanh"),
        )
    },
    **{
        name: _binary(aten)
        for name, aten in (
            ("Add", "add.Tensor"), ("Sub", "sub.Tensor"), ("Mul", "mul.Tensor"), ("Equal", "eq.Tensor"),
            ("Greater", "gt.Tensor"), ("GreaterOrEqual", "ge.Tensor"), ("Less", "lt.Tensor"),
            ("LessOrEqual", "le.Tensor"), ("And", "logical_and.default"), ("Or", "logical_or.default"),
            ("Xor", "logical_xor.default"),
        )
    },
    **{name: lambda c: c.get(0) for name in ("Identity", "Dropout")},
    "ArgMax": _arg("argmax.default"), "ArgMin": _arg("argmin.default"),
    "AveragePool": _average_pool, "BatchNormalization": _batch_norm, "Cast": _cast,
    "CastLike": _cast_like, "Clip": _clip, "Concat": _concat, "Constant": _constant,
    "ConstantOfShape": _constant_of_shape, "Conv": _conv, "ConvTranspose": _conv_transpose,
    "CumSum": _cumsum, "DepthToSpace": _depth_to_space, "Div": _div, "Einsum": _einsum, "Elu": _elu,
    "Expand": _expand, "Flatten": _flatten, "Gather": _gather, "GatherElements": _gather_elements,
    "Gelu": _gelu, "Gemm": _gemm, "GlobalAveragePool": _global("mean.dim"),
    "GlobalMaxPool": _global("amax.default"), "GroupNormalization": _group_norm,
    "HardSigmoid": _hard_sigmoid, "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm, "LeakyRelu": _leaky,
    "LogSoftmax": _softmax("_log_softmax.default"), "MatMul": _matmul,
    "Max": _folded("maximum.default"), "MaxPool": _max_pool, "Mean": _mean,
    "Min": _folded("minimum.default"), "Mod": _mod, "OneHot": _one_hot, "PRelu": _prelu, "Pad": _pad,
    "Pow": _pow, "Range": _range, "ReduceL1": _sum_of("abs.default"), "ReduceL2": _reduce(_l2),
    "ReduceLogSum": _reduce(_log_sum), "ReduceLogSumExp": _reduced("logsumexp.default"),
    "ReduceMax": _reduced("amax.default"), "ReduceMean": _reduced("mean.dim"),
    "ReduceMin": _reduced("amin.default"), "ReduceProd": _reduce(_product),
    "ReduceSum": _reduced("sum.dim_IntList"),
    "ReduceSumSquare": _sum_of("pow.Tensor_Scalar", 2), "Reshape": _reshape, "Shape": _shape,
    "Size": _length, "Slice": _slice, "Softmax": _softmax("_softmax.default"), "Softsign": _softsign,
    "Split": _split, "Squeeze": _squeeze, "Sum": _folded("add.Tensor"), "Tile": _tile,
    "TopK": _top_k, "Transpose": _transpose, "Trilu": _trilu, "Unsqueeze": _unsqueeze, "Where": _where,
}  # fmt: skip
"""By name: how each becomes operators of ours."""
