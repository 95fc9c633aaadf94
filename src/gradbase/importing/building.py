"""Operators of a file, one by one, as tensor operators of ours.

Each value is followed for two batch sizes at once: as torch's tensors without content (``meta``),
or with content where it is known from the start (sizes, indices). What differs between the two is
what depends on the batch, so no shapes of a file are believed and no symbols computed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from gradbase.errors import GradbaseError, ShapeError, UnsupportedError
from gradbase.frontend.aten import TRANSLATED, VIEWS, Call, checked_dtype, translate
from gradbase.importing.constants import Constants, Load
from gradbase.ir.aten import ALLOWED
from gradbase.ir.shapes import Shape, elements
from gradbase.ir.tensor import Binary, Const, Linear, Param, Tensor

BATCHES = (7, 11)
"""The two batch sizes."""
KNOWN_ELEMENTS = 1 << 14
"""Constants up to this size are computed with while a network is read."""
FOLDED_BYTES = 1 << 28
"""What follows from constants alone is computed once, up to this size."""
ROW_ELEMENTS = 1 << 31
"""Elements per row of one result: beyond, no machine predicts a row."""
RUNNABLE = ALLOWED | TRANSLATED
"""ATen operators that a file may name: nothing else is called, not even without content."""


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the network for both batch sizes.

    `known`: the content is in `pair`. `load` (constants only) gives the content of what is the same
    for every batch. `node` is None for known values, until somebody asks.
    """

    pair: tuple[torch.Tensor, torch.Tensor]
    node: Tensor | None = None
    known: bool = False
    load: Load | None = None

    @property
    def dtype(self) -> str:
        return str(self.pair[0].dtype).removeprefix("torch.")

    @property
    def rank(self) -> int:
        return self.pair[0].dim()

    @functools.cached_property
    def shape(self) -> Shape:
        """Sizes as plans write them: -k for k times the batch."""
        return tuple(
            size_of(a, b) for a, b in zip(self.pair[0].shape, self.pair[1].shape, strict=True)
        )


@dataclass(frozen=True)
class Size:
    """A number that depends on the batch: its value for each of `BATCHES`."""

    pair: tuple[int, int]


def size_of(a: int, b: int) -> int:
    """One size of both: -k for k times the batch.

    Raises
    ------
    UnsupportedError
        It is neither the same nor a multiple of the batch.
    """
    if a == b:
        return a
    times, rest = divmod(a, BATCHES[0])
    if rest or times * BATCHES[1] != b:
        raise UnsupportedError(
            f"a size is computed from the batch size: {a} for {BATCHES[0]} rows, {b} for "
            f"{BATCHES[1]}"
        )
    return -times


Result = Value | list[Value]


@dataclass
class Builder:
    """Makes operators; `path` says where in the network, for messages."""

    constants: Constants
    path: str = ""
    kept: dict[Any, Tensor] = field(default_factory=dict[Any, Tensor])

    # -- values ------------------------------------------------------------------------------------

    def constant(self, load: Load, dims: Sequence[int], dtype: str) -> Value:
        """A constant whose content `load` gives."""
        kind = getattr(torch, dtype)
        if int(np.prod(dims, dtype=np.int64)) <= KNOWN_ELEMENTS:
            content = torch.from_numpy(np.array(load()))
            return Value((content, content), known=True)
        empty = torch.empty(tuple(dims), dtype=kind, device="meta")
        return Value((empty, empty), load=load)

    def literal(self, values: Any, dtype: str) -> Value:
        """A constant given as numbers."""
        content = torch.tensor(values, dtype=getattr(torch, dtype))
        return Value((content, content), known=True)

    def input(self, node: Tensor) -> Value:
        """A value that depends on rows."""
        kind = getattr(torch, node.dtype)
        pair = [
            torch.empty(
                tuple(-n * b if n < 0 else n for n in node.shape), dtype=kind, device="meta"
            )
            for b in BATCHES
        ]
        return Value((pair[0], pair[1]), node)

    def node(self, value: Value) -> Tensor:
        """The operator that gives `value`."""
        if value.node is not None:
            return value.node
        key = id(value)
        if key not in self.kept:
            if value.known and not _same(value.pair):
                raise UnsupportedError(f"a constant depends on the batch size {self._here}")
            self.kept[key] = self.constants.tensor(self.loads(value))
            self.kept[("alive", key)] = value  # type: ignore[assignment]  (its id stays taken)
        return self.kept[key]

    def loads(self, value: Value) -> Load:
        """What gives the content of a constant."""
        if value.load is not None:
            return value.load
        content = value.pair[0]
        return content.numpy

    def is_constant(self, value: Value) -> bool:
        """Whether a value is the same for all rows."""
        return value.load is not None or (value.known and _same(value.pair))

    def content(self, value: Value) -> np.ndarray[Any, Any]:
        """The content of a constant.

        Raises
        ------
        UnsupportedError
            It is none: it depends on rows.
        """
        if not self.is_constant(value):
            raise UnsupportedError(f"a parameter that is computed from rows {self._here}")
        return self.loads(value)()

    def sizes(self, value: Value) -> list[int | Size]:
        """The numbers of a known one-dimensional value."""
        if not value.known:
            raise UnsupportedError(f"a size that is computed from rows {self._here}")
        first, second = (p.reshape(-1).tolist() for p in value.pair)
        return [
            int(a) if a == b else Size((int(a), int(b))) for a, b in zip(first, second, strict=True)
        ]

    # -- operators ---------------------------------------------------------------------------------

    def call(self, name: str, *args: Any, **named: Any) -> Value:
        """One result of the ATen operator `name` (an overload such as ``add.Tensor``)."""
        found = self.calls(name, *args, **named)
        assert isinstance(found, Value)
        return found

    def first(self, name: str, *args: Any) -> Value:
        """The first of several results."""
        found = self.calls(name, *args)
        assert isinstance(found, list)
        return found[0]

    def calls(self, name: str, *args: Any, **named: Any) -> Result:
        """All results of an ATen operator.

        Arguments are values, numbers, `Size`s, ``("dtype", name)``, lists of them.

        Raises
        ------
        UnsupportedError
            The operator is not among those of plans.
        ShapeError
            Sizes do not fit.
        """
        if name not in RUNNABLE:
            raise UnsupportedError(f"the operator `{name}` has no place in a plan", at=self.path)
        name = "reshape.default" if name in VIEWS else name  # plans promise no memory layout
        values = _values([*args, *named.values()])
        if values and all(self.is_constant(v) or v.known for v in values):
            found = self._computed(name, args, named) or self._folded(name, args, named)
            if found is not None:
                return found
        results = [self._run(name, args, named, at, "meta") for at in (0, 1)]
        if isinstance(results[0], torch.Tensor):
            return self._made(name, args, named, (results[0], results[1]), 0)
        pairs = zip(*results, strict=True)
        return [self._made(name, args, named, pair, at) for at, pair in enumerate(pairs)]  # type: ignore[arg-type]

    def _computed(self, name: str, args: Any, named: Any) -> Result | None:
        """What is known from the start, where it is small."""
        if not all(v.known for v in _values([*args, *named.values()])):
            return None
        for at in (0, 1):
            if any(
                p.numel() > KNOWN_ELEMENTS for p in _parts(self._run(name, args, named, at, "meta"))
            ):
                return None
        results = [self._run(name, args, named, at, "cpu") for at in (0, 1)]
        if isinstance(results[0], torch.Tensor):
            return Value((results[0], results[1]), known=True)
        return [Value((a, b), known=True) for a, b in zip(*results, strict=True)]

    def _folded(self, name: str, args: Any, named: Any) -> Result | None:
        """What follows from constants alone, where it is not too large."""
        empty = self._run(name, args, named, 0, "meta")
        parts = _parts(empty)
        values = _values([*args, *named.values()])
        most = min(FOLDED_BYTES, self.constants.memory_bytes // 16)
        large = any(p.numel() * p.element_size() > most for p in parts)
        if large or not all(self.is_constant(v) for v in values):
            return None

        def load(at: int) -> Load:
            def run() -> np.ndarray[Any, Any]:
                found = self._run(name, args, named, 0, "load")
                one = found if isinstance(found, torch.Tensor) else found[at]
                return one.contiguous().numpy()

            return run

        made = [self.constant(load(i), p.shape, str(p.dtype).removeprefix("torch."))
                for i, p in enumerate(parts)]  # fmt: skip
        return made[0] if isinstance(empty, torch.Tensor) else made

    def _run(self, name: str, args: Any, named: Any, at: int, where: str) -> Any:
        def plain(value: Any) -> Any:
            match value:
                case Value(known=True):
                    return value.pair[at].to("meta") if where == "meta" else value.pair[at]
                case Value():
                    return (
                        torch.from_numpy(np.array(self.loads(value)()))
                        if where == "load"
                        else value.pair[at]
                    )
                case Size(pair=pair):
                    return pair[at]
                case ("dtype", str(kind)):
                    return getattr(torch, kind)
                case list():
                    return [plain(v) for v in value]
            return value

        packet, _, overload = name.partition(".")
        try:
            function = getattr(getattr(torch.ops.aten, packet), overload)
            if where == "meta" and name in ("scalar_tensor.default", "full.default"):
                named = {**named, "device": "meta"}
            if where == "meta" and name in _QUICK and not named:
                return _QUICK[name](*(plain(a) for a in args))
            with torch.no_grad():
                return function(
                    *(plain(a) for a in args), **{k: plain(v) for k, v in named.items()}
                )
        except GradbaseError:
            raise
        except AttributeError as error:
            raise UnsupportedError(f"there is no operator `{name}` {self._here}") from error
        except (RuntimeError, IndexError, ValueError, TypeError, NotImplementedError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise ShapeError(f"`{name}` cannot run: {lines[0][:300]}", at=self.path) from error

    def _made(
        self, name: str, args: Any, named: Any, pair: tuple[torch.Tensor, torch.Tensor], output: int
    ) -> Value:
        value = Value(pair)
        kind = checked_dtype(value.dtype)
        if elements(value.shape) > ROW_ELEMENTS:
            raise ShapeError(
                f"`{name}` gives {elements(value.shape):,} numbers per row, at most "
                f"{ROW_ELEMENTS:,} can be",
                at=self.path,
            )
        positional = [self._argument(a) for a in args]
        keywords = {k: self._argument(v) for k, v in named.items()}
        call = Call(name, positional, keywords, value.shape, kind, output)
        return Value(pair, self._biased(translate(call)))

    def _argument(self, value: Any) -> Any:
        match value:
            case Value():
                return self.node(value)
            case Size(pair=pair):
                return {"B": -size_of(*pair)}
            case ("dtype", str(kind)):
                return {"dtype": checked_dtype(kind)}
            case list():
                return [self._argument(v) for v in value]
        return value

    def _biased(self, node: Tensor) -> Tensor:
        """A product and the addition of a vector right behind it are one layer."""
        match node:
            case Binary(op="add", a=Linear(bias=None) as layer, b=Param() | Const() as bias):
                pass
            case Binary(op="add", b=Linear(bias=None) as layer, a=Param() | Const() as bias):
                pass
            case _:
                return node
        if bias.shape != (layer.shape[-1],) or node.shape != layer.shape:
            return node
        return Linear(layer.x, layer.weight, bias)

    @property
    def _here(self) -> str:
        return f"(in {self.path})" if self.path else ""


def _values(arguments: Sequence[Any]) -> list[Value]:
    found: list[Value] = []
    for argument in arguments:
        if isinstance(argument, Value):
            found.append(argument)
        elif isinstance(argument, list):
            found += _values(argument)
    return found


def _parts(found: Any) -> list[torch.Tensor]:
    return [found] if isinstance(found, torch.Tensor) else list(found)


def _same(pair: tuple[torch.Tensor, torch.Tensor]) -> bool:
    a, b = pair
    return a is b or (a.shape == b.shape and a.dtype == b.dtype and bool(torch.equal(a, b)))


def _linear_result(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """What a layer gives, without content."""
    fits = bias is None or (bias.shape == weight.shape[:1] and bias.dtype == x.dtype)
    if weight.dim() != 2 or x.shape[-1] != weight.shape[1] or x.dtype != weight.dtype or not fits:
        raise RuntimeError(
            f"{x.dtype}{list(x.shape)} and {weight.dtype}{list(weight.shape)} cannot be multiplied"
        )
    return torch.empty((*x.shape[:-1], weight.shape[0]), dtype=x.dtype, device="meta")


def _alike(x: torch.Tensor) -> torch.Tensor:
    if not x.dtype.is_floating_point:
        raise RuntimeError(f"there is none of {x.dtype}")
    return torch.empty(x.shape, dtype=x.dtype, device="meta")


_QUICK: Mapping[str, Callable[..., torch.Tensor]] = {
    "linear.default": _linear_result,
    **{f"{name}.default": _alike for name in ("relu", "sigmoid", "tanh", "gelu", "silu")},
}
"""Sizes of the commonest results: for these torch would import its compiler, which takes 1.3 s."""
