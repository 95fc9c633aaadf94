"""What a module computes, written down while it runs twice: no compiler is needed for that.

``torch.export`` takes about a second to load and half a second a network. The layers that most
networks consist of need none of its machinery: they call the same operators for any values and any
batch size. So a module runs in eval mode on batches of two sizes, and every operator is noted. What
differs between the two must be the batch size, or a multiple. Anything else makes `record` give
None, and the module is traced: operators other than `_KNOWN`, Python code that looks at values, or
at the batch size otherwise than to pass it on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from gradbase.frontend.aten import Call, checked_dtype, translate
from gradbase.ir.shapes import BATCH, Shape
from gradbase.ir.tensor import Tensor

_ROWS = (7, 11)
_KNOWN = frozenset(
    f"{name}.default"
    for name in ("_adaptive_avg_pool2d", "_log_softmax", "_native_batch_norm_legit_no_training",
                 "_softmax", "avg_pool2d", "conv1d", "conv2d", "conv3d", "elu", "gelu",
                 "group_norm", "hardswish", "hardtanh", "layer_norm", "leaky_relu", "linear",
                 "max_pool2d_with_indices", "mish", "relu", "rms_norm", "selu", "sigmoid", "silu",
                 "softplus", "tanh", "view")
) | {"add.Tensor", "div.Tensor", "mean.dim", "mul.Tensor", "sub.Tensor"}  # fmt: skip
"""Operators that tracing leaves as they are."""
_ABSENT = frozenset(
    ("alpha_dropout.default", "dropout.default", "feature_alpha_dropout.default",
     "feature_dropout.default")
)  # fmt: skip
"""Operators that do nothing in eval mode."""
_NORMS, _NORM_ARGUMENTS = ("group_norm.default", "layer_norm.default"), (*[None] * 4, 1e-5)
_SIZES: tuple[Any, ...] = (torch.Tensor.size, torch.Tensor.shape.__get__)  # type: ignore[attr-defined]
_ABOUT: tuple[Any, ...] = (
    torch.Tensor.dim, torch.Tensor.ndimension, torch.Tensor.is_floating_point,
    torch.Tensor.ndim.__get__, torch.Tensor.dtype.__get__, torch.Tensor.device.__get__,  # type: ignore[attr-defined]
    torch.Tensor.requires_grad.__get__, torch.Tensor.is_cuda.__get__,  # type: ignore[attr-defined]
)  # fmt: skip
"""What says nothing about values or the batch size."""


class _CannotRecordError(Exception):
    """The module has to be traced."""


def _no(*_: object) -> NoReturn:
    raise _CannotRecordError


_REFUSES: Any = _no


class _Rows(int):
    """A size that may be of the batch: it can be passed on and multiplied, not looked at."""

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _REFUSES
    __add__ = __radd__ = __sub__ = __rsub__ = __floordiv__ = __mod__ = __truediv__ = _REFUSES
    __bool__ = __float__ = __neg__ = _REFUSES
    __hash__ = int.__hash__

    def __mul__(self, other: Any) -> _Rows:
        return _Rows(int(self) * other) if isinstance(other, int) else _no()

    __rmul__ = __mul__


class _Ref(NamedTuple):
    """A result of a step; -1: the input."""

    step: int
    output: int = 0


class _State(NamedTuple):
    """A parameter or buffer."""

    name: str


@dataclass(frozen=True)
class _Step:
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    shapes: tuple[tuple[int, ...], ...]
    kinds: tuple[str, ...]


class _Recorder(TorchDispatchMode):
    """Notes operators; those that consist of others are taken apart until they are `_KNOWN`."""

    def __init__(self, names: dict[int, str], x: torch.Tensor) -> None:
        super().__init__()
        self.steps: list[_Step] = []
        self.of: dict[int, _Ref | _State] = {id(x): _Ref(-1)}
        self.of |= {key: _State(name) for key, name in names.items()}
        self.kept = [x]  # so that no other tensor gets its id

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else it would be imported

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name, named = str(func).removeprefix("aten."), kwargs or {}
        aten: Any = torch.ops.aten
        if name in _ABSENT and list(args[2:]) == [False] and not named:
            return args[0]
        if name == "batch_norm.default" and not args[5]:
            with self:
                return aten._native_batch_norm_legit_no_training(*args[:5], *args[6:8])[0]  # noqa: SLF001
        if name == "max_pool2d.default":
            with self:
                return aten.max_pool2d_with_indices(*args, **named)[0]
        functional = name.replace("_.", ".")
        if name in _KNOWN or functional in _KNOWN:
            return self._noted(func, functional if name not in _KNOWN else name, args, named)
        with self:
            found = func.decompose(*args, **named)
        return _no() if found is NotImplemented else found

    def _noted(self, func: Any, name: str, args: Any, named: dict[str, Any]) -> Any:
        own, kwargs = pytree.tree_map(self._argument, (args, named))
        if name in _NORMS:  # as tracing has them, with all arguments
            own = (*own[:5], *_NORM_ARGUMENTS[len(own) :], False)
        changed = args[0] if name != str(func).removeprefix("aten.") else None
        if changed is not None:
            self._check_alone(changed)
        found = func(*args, **named)
        results = [found] if isinstance(found, torch.Tensor) else list(found)
        for output, result in enumerate(results):
            self.of[id(result)] = _Ref(len(self.steps), output)
        self.kept += results
        shapes = tuple(tuple(r.shape) for r in results)
        kinds = tuple(str(r.dtype) for r in results)
        self.steps.append(_Step(name, own, kwargs, shapes, kinds))
        return found

    def _argument(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self.of.get(id(value)) or _no()
        return value if isinstance(value, bool | int | float | str | None) else _no()

    def _check_alone(self, value: torch.Tensor) -> None:
        """A result that is changed in place must share its memory with no other."""
        memory = value.untyped_storage().data_ptr()
        sharing = [t for t in self.kept if t.untyped_storage().data_ptr() == memory]
        made = self.of.get(id(value))
        if not isinstance(made, _Ref) or made.step < 0 or any(t is not value for t in sharing):
            _no()


class _Looks(TorchFunctionMode):
    """Lets Python code see what stays the same for other values and sizes."""

    def __init__(self, recorder: _Recorder, rows: int) -> None:
        super().__init__()
        self.recorder, self.rows = recorder, rows

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if func in _SIZES:
            known = isinstance(self.recorder.of.get(id(args[0])), _State)
            return found if known else pytree.tree_map(self._size, _plain(found))
        leaves = pytree.tree_leaves(found)
        if func in _ABOUT or all(isinstance(v, torch.Tensor) for v in leaves):
            return found
        return _no()

    def _size(self, size: int) -> int:
        return _Rows(size) if size % self.rows == 0 else size


def _plain(sizes: Any) -> Any:
    return tuple(sizes) if isinstance(sizes, tuple) else sizes


def record(
    module: torch.nn.Module, x: Tensor, stored: Callable[[torch.Tensor], Tensor]
) -> Tensor | None:
    """`module`, which is in eval mode, applied to `x`; None where it has to be traced.

    Parameters
    ----------
    module : torch.nn.Module
    x : Tensor[BATCH, n]
    stored : callable
        The operator of a parameter or buffer.

    Source: own.
    """
    state = dict((*module.named_parameters(), *module.named_buffers()))
    names = {id(t): name for name, t in state.items()}
    try:
        (steps, end), (others, _) = (_run(module, x, rows, names) for rows in _ROWS)
        if [s.name for s in steps] != [s.name for s in others]:
            return None
        values: dict[_Ref, Tensor] = {_Ref(-1): x}
        for number, pair in enumerate(zip(steps, others, strict=True)):
            _add(values, number, *pair, lambda name: stored(state[name]))
        found = values[end]
    except Exception:  # noqa: BLE001 (tracing says what is wrong)
        return None
    return found if len(found.shape) == 2 and found.shape[0] == BATCH else None


def _run(
    module: torch.nn.Module, x: Tensor, rows: int, names: dict[int, str]
) -> tuple[list[_Step], _Ref]:
    with torch.inference_mode():
        given = torch.zeros((rows, *x.shape[1:]), dtype=getattr(torch, x.dtype))
        recorder = _Recorder(names, given)
        with _Looks(recorder, rows), recorder:
            found = module(given)
        end = recorder.of.get(id(found))
        return (recorder.steps, end) if isinstance(end, _Ref) else _no()


def _add(
    values: dict[_Ref, Tensor], number: int, step: _Step, other: _Step,
    stored: Callable[[str], Tensor],
) -> None:  # fmt: skip
    """The operators of a step's results: those that have one of their own."""

    def argument(a: Any, b: Any) -> Any:
        match a:
            case _Ref():
                return values[a] if a == b else _no()
            case _State(name):
                return stored(name) if a == b else _no()
            case list() | tuple():
                return [argument(v, w) for v, w in zip(a, b, strict=True)]
            case int() if not isinstance(a, bool) and a != b:
                return {"B": -_size(a, b)}
        return a if a == b else _no()

    args = argument(step.args, other.args)
    kwargs = {k: argument(v, other.kwargs[k]) for k, v in step.kwargs.items()}
    for output, sizes in enumerate(zip(step.shapes, other.shapes, strict=True)):
        shape: Shape = tuple(_size(a, b) for a, b in zip(*sizes, strict=True))
        kind = checked_dtype(step.kinds[output])
        if output == 0:
            values[_Ref(number)] = translate(Call(step.name, args, kwargs, shape, kind))


def _size(a: int, b: int) -> int:
    """A size as the IR writes it: -k for k times the batch size."""
    if a == b:
        return int(a)
    times, rest = divmod(int(a), _ROWS[0])
    return -times if not rest and int(b) == times * _ROWS[1] else _no()
