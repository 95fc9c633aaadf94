"""ONNX operators over images: convolutions and pools."""

from __future__ import annotations

import math
from collections.abc import Mapping

from gradbase.errors import UnsupportedError
from gradbase.importing.building import Size, Value
from gradbase.importing.onnx_calls import Call, Translator, size


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
            own = size(x, 2 + i)
            if isinstance(own, Size):
                raise UnsupportedError("an image whose size is computed")
            reach = (kernel[i] - 1) * dilations[i] + 1
            total = max(0, (-(-own // strides[i]) - 1) * strides[i] + reach - own)
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
    more = [False, [0] * rank, int(c.attribute("group", 1))]
    return c.b.call("convolution.default", x, weight, bias, strides, pads, dilations, *more)


def _conv_transpose(c: Call) -> Value:
    weight = c.get(1)
    rank = weight.rank - 2
    pads = c.attribute("pads") or [0] * (2 * rank)
    if (
        pads[:rank] != pads[rank:]
        or c.attribute("auto_pad", "NOTSET") != "NOTSET"
        or c.attribute("output_shape")
    ):
        raise UnsupportedError("ConvTranspose with uneven padding")
    strides = c.attribute("strides") or [1] * rank
    dilations = c.attribute("dilations") or [1] * rank
    bias = c.get(2) if c.has(2) else None
    more = [True, c.attribute("output_padding") or [0] * rank, int(c.attribute("group", 1))]
    parts = [c.get(0), weight, bias, strides, pads[:rank], dilations]
    return c.b.call("convolution.default", *parts, *more)


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
    if (
        rank not in (1, 2, 3)
        or (uneven and not counted)
        or any(d != 1 for d in c.attribute("dilations") or [])
    ):
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


IMAGES: Mapping[str, Translator] = {
    "AveragePool": _average_pool,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "GlobalAveragePool": _global("mean.dim"),
    "GlobalMaxPool": _global("amax.default"),
    "MaxPool": _max_pool,
}
"""By name."""
