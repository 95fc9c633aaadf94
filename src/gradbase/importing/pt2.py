"""Operators of an exported program, as its JSON names them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gradbase.errors import DataError, UnsupportedError, near
from gradbase.frontend.aten import DROPPED
from gradbase.importing.building import RUNNABLE, Builder, Size, Value
from gradbase.importing.files.graph import Step

Found = Value | int | float | bool | Size
_SIZES: Mapping[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "floordiv": lambda a, b: a // b,
    "truediv": lambda a, b: a / b,
    "mod": lambda a, b: a % b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}
_IDENTITIES = frozenset(
    f"{name}.default"
    for name in ("alias", "alpha_dropout", "clone", "contiguous", "detach", "detach_", "dropout",
                 "dropout_", "feature_dropout", "lift_fresh_copy")
)  # fmt: skip
_IN_PLACE = frozenset(
    ("add_.Tensor", "clamp_.default", "clamp_min_.default", "div_.Tensor", "elu_.default",
     "hardsigmoid_.default", "hardswish_.default", "hardtanh_.default", "leaky_relu_.default",
     "masked_fill_.Scalar", "mul_.Tensor", "relu_.default", "sigmoid_.default", "silu_.default",
     "sub_.Tensor", "tanh_.default")
)  # fmt: skip
"""Run as what gives a new tensor."""


def run_step(builder: Builder, step: Step, values: dict[str, Any]) -> None:
    """Put what `step` gives into `values`, by name.

    Raises
    ------
    UnsupportedError
        The operator is not among those that a program may use.
    DataError
        It reads what nothing has made.
    """
    space, _, name = step.op.rpartition("torch.ops.aten.")
    args = [_resolved(a, values) for a in step.attributes["args"]]
    named = {k: _resolved(v, values) for k, v in step.attributes["kwargs"].items()}
    if step.op.startswith("_operator.") and step.op[10:] in _SIZES:
        values[step.outputs[0]] = _size(_SIZES[step.op[10:]], args)
        return
    if space or not name or "." not in name:
        raise _unknown(step.op)
    if name == "sym_size.int":
        values[step.outputs[0]] = _sized(args[0], int(args[1]))
    elif name in _IDENTITIES:
        values[step.outputs[0]] = args[0]
    elif name not in DROPPED:
        found = _call(builder, name, args, named)
        parts = found if isinstance(found, list) else [found]
        values.update(zip(step.outputs, parts, strict=False))


def _call(builder: Builder, name: str, args: list[Any], named: dict[str, Any]) -> Any:
    named = {k: v for k, v in named.items() if v is not None and k != "pin_memory"}
    if name in _IN_PLACE:
        name = name.replace("_.", ".", 1)
    if name in ("to.dtype", "type_as.default", "to.device", "to.dtype_layout", "_to_copy.default"):
        kind = next((a for a in [*args[1:], *named.values()] if isinstance(a, tuple)), None)
        if name == "type_as.default":
            kind = ("dtype", args[1].dtype)
        return args[0] if kind is None else builder.call("_to_copy.default", args[0], dtype=kind)
    if name == "batch_norm.default":
        if args[5]:
            raise UnsupportedError(
                "a batch normalisation in training mode mixes rows",
                hint="call eval() before the export",
            )
        statistics = [args[0], *args[1:5], args[6], args[7]]
        return builder.first("_native_batch_norm_legit_no_training.default", *statistics)
    if name not in RUNNABLE:
        raise _unknown(f"aten.{name}")
    return builder.calls(name, *args, **named)


def _unknown(name: str) -> UnsupportedError:
    return UnsupportedError(
        f"the operator `{name[:100]}` is not among those that a `.pt2` file may use; it stays "
        "whole in "
        "no way, as running it would mean to trust the file",
        hint=near(name.removeprefix("aten."), RUNNABLE)
        or "load the module in Python and import the object, or export it to ONNX",
    )


def _resolved(argument: Any, values: dict[str, Any]) -> Any:
    match argument:
        case ("tensor" | "size", str(name)):
            if name not in values:
                raise DataError(
                    f"an operator reads `{name[:80]}`, which none before it makes: the program "
                    "is cyclic "
                    "or not in order"
                )
            return values[name]
        case list():
            return [_resolved(a, values) for a in argument]
    return argument


def _sized(value: Any, axis: int) -> Any:
    if not isinstance(value, Value) or not -value.rank <= axis < value.rank:
        raise DataError(f"the program asks for size {axis} of what has none")
    a, b = (int(p.shape[axis]) for p in value.pair)
    return a if a == b else Size((a, b))


def _size(compute: Callable[[Any, Any], Any], args: list[Any]) -> Any:
    if len(args) != 2 or not all(isinstance(a, int | float | Size) for a in args):
        raise DataError("sizes are computed from two numbers")
    made: list[Any] = []
    for at in (0, 1):
        plain = [a.pair[at] if isinstance(a, Size) else a for a in args]
        try:
            made.append(compute(*plain))
        except (ArithmeticError, OverflowError) as error:
            raise DataError(f"a size cannot be computed: {error}") from error
    return made[0] if made[0] == made[1] else Size((made[0], made[1]))
