"""What TRANSFORM computes, as nodes of an ONNX graph: from a table's columns to a network's."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gradbase.errors import UnsupportedError
from gradbase.ir.conversion import Category, Encoding, Sparse
from gradbase.ir.derived import Derived
from gradbase.ir.preprocessing import (
    Bucketize,
    Cross,
    Impute,
    Normalize,
    Product,
    Rescale,
    Struct,
)
from gradbase.ir.scalar import Column, Literal, Scalar, SqlScalar, scalars
from gradbase.ir.types import FLOAT64, TEXT, SqlType, list_of
from gradbase.ir.vocabulary import Coded, LabelCode, OneHotCode, Vocabulary
from gradbase.runtime.encode import Blobs
from gradbase.runtime.preprocess.compute import lookup

INSIDE = "gradbase/"
"""Names inside the graph start with this."""
_CASTS = (FLOAT64, TEXT, list_of(FLOAT64))


class Computing:
    """Collects the nodes that compute scalars over a graph's inputs.

    Numbers, booleans, dates are double [rows], NaN where NULL; texts string [rows], `null` where
    NULL; arrays of numbers double [rows, n]; (index, value) pairs double [rows, size].

    Parameters
    ----------
    onnx : module
    blobs : Blobs, optional
        Where long vocabularies are.
    null : str
        What stands for NULL in texts; no word of a vocabulary.
    """

    def __init__(self, onnx: Any, blobs: Blobs | None, null: str) -> None:
        self._onnx, self._blobs, self._null = onnx, blobs, null
        self._done: dict[Scalar, str] = {}
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def column(self, derived: Derived, encoding: Encoding | None, out: str) -> None:
        """Compute `derived` into `out` as `encoding` takes it (None: nobody reads it).

        Raises
        ------
        UnsupportedError
            Part of it has no form in ONNX; names the column.
        """
        scalar = derived.expr
        try:
            if isinstance(encoding, Sparse):
                found = self._sparse(scalar, encoding.size)
            else:
                found = self._value(scalar)
                if scalar.type.is_text:
                    category = encoding if isinstance(encoding, Category) else Category((), 0)
                    found = self._codes(found, category.vocabulary, category.missing_code)
        except UnsupportedError as error:
            raise UnsupportedError(
                f"column `{derived.name}` of TRANSFORM cannot be exported to ONNX: {error.message}",
                hint="compute it in the training query; or export to .pt2, which takes what "
                "ML.TRANSFORM gives",
            ) from None
        self._add("Identity", [found], out=out)

    # -- scalars -----------------------------------------------------------------------------------

    def _value(self, scalar: Scalar) -> str:
        if scalar not in self._done:
            self._done[scalar] = self._compute(scalar)
        return self._done[scalar]

    def _compute(self, scalar: Scalar) -> str:
        match scalar:
            case Column(name=name, of=of):
                check_input(name, of)
                return name
            case Rescale():
                return self._rescaled(scalar)
            case Product(args=args):
                return functools.reduce(self._calls("Mul"), map(self._value, args))
            case Bucketize():
                return self._bucketized(scalar)
            case Impute():
                return self._imputed(scalar)
            case Cross(args=args):
                return self._crossed([self._value(a) for a in args])
            case Normalize():
                return self._normalized(scalar)
            case LabelCode(arg=arg, vocabulary=vocabulary):
                return self._add("Cast", [self._coded(arg, vocabulary)], to=self._kind("DOUBLE"))
            case SqlScalar(parts=("CAST(", to), args=(arg,)) if (
                to[:4] == " AS " and scalar.type in _CASTS
            ):
                if arg.type.is_text == scalar.type.is_text:
                    return self._value(arg)
            case _:
                pass
        raise UnsupportedError(_shown(scalar))

    def _rescaled(self, node: Rescale) -> str:
        shifted = self._add("Sub", [self._value(node.arg), self._double(node.shift)])
        found = self._add("Div", [shifted, self._double(node.scale)])
        if node.clipped:  # comparisons with NaN are false, so it stays
            for op, bound in (("Less", 0.0), ("Greater", 1.0)):
                beyond = self._add(op, [found, self._double(bound)])
                found = self._add("Where", [beyond, self._double(bound), found])
        return found

    def _bucketized(self, node: Bucketize) -> str:
        value = self._value(node.arg)
        points = self._constant(np.array([node.points], np.float64))
        reached = self._add("GreaterOrEqual", [self._upright(value), points])
        as_numbers = self._add("Cast", [reached], to=self._kind("INT64"))
        place = self._add("ReduceSum", [as_numbers, self._whole([1])], keepdims=0)
        missing = self._add("IsNaN", [value])
        place = self._add("Where", [missing, self._whole([len(node.labels)]), place])
        return self._add("Gather", [self._texts([*node.labels, self._null]), place])

    def _imputed(self, node: Impute) -> str:
        value, constant = self._value(node.arg), node.value.value
        if node.type.is_text:
            chosen = self._texts([self._null if constant is None else str(constant)])
            return self._add("Where", [self._is_null(value), chosen, value])
        chosen = self._double(math.nan if constant is None else float(constant))
        return self._add("Where", [self._add("IsNaN", [value]), chosen, value])

    def _crossed(self, values: Sequence[str]) -> str:
        joint = self._texts(["_"])
        parts = [p for value in values for p in (joint, value)][1:]
        joined = functools.reduce(self._calls("StringConcat"), parts)
        missing = functools.reduce(self._calls("Or"), map(self._is_null, values))
        return self._add("Where", [missing, self._texts([self._null]), joined])

    def _normalized(self, node: Normalize) -> str:
        values, p = self._value(node.arg), node.p
        missing = self._add("IsNaN", [values])
        known = self._add("Where", [missing, self._double(0.0), values])
        sizes, across = self._add("Abs", [known]), self._whole([1])
        if math.isinf(p):
            norm = self._add("ReduceMax", [sizes, across])
        elif p == 0:
            other = self._add("Greater", [sizes, self._double(0.0)])
            norm = self._add("ReduceSum", [self._as_double(other), across])
        else:
            powers = self._add("Pow", [sizes, self._double(p)])
            total = self._add("ReduceSum", [powers, across])
            norm = self._add("Pow", [total, self._double(1 / p)])
        nothing = self._add("Equal", [norm, self._double(0.0)])
        norm = self._add("Where", [nothing, self._double(1.0), norm])
        return self._add("Div", [values, norm])

    # -- codes -------------------------------------------------------------------------------------

    def _sparse(self, scalar: Scalar, size: int) -> str:
        """One-hot codes below `size` as double [rows, size]."""
        if not isinstance(scalar, OneHotCode):
            raise UnsupportedError(_shown(scalar))
        codes = self._upright(self._coded(scalar.arg, scalar.vocabulary))
        places = np.arange(size, dtype=np.int64)[None]
        found = self._as_double(self._add("Equal", [codes, self._constant(places)]))
        if not scalar.dropped:
            return found
        weights = np.where(places == scalar.dropped, 0.0, 1.0)
        return self._add("Mul", [found, self._constant(weights)])

    def _coded(self, arg: Scalar, vocabulary: Vocabulary) -> str:
        category, _ = lookup(vocabulary, self._blobs)
        return self._codes(self._value(arg), category.vocabulary, 0)

    def _codes(self, texts: str, words: Sequence[str], missing: int) -> str:
        """int64 [rows]: the place of each text among `words` from 1, 0 where unknown."""
        codes = [*range(1, len(words) + 1), missing]
        return self._encoded(texts, [*words, self._null], codes)

    def _is_null(self, texts: str) -> str:
        found = self._encoded(texts, [self._null], [1])
        return self._add("Cast", [found], to=self._kind("BOOL"))

    def _encoded(self, texts: str, keys: list[str], values: list[int]) -> str:
        return self._add(
            "LabelEncoder", [texts], domain="ai.onnx.ml", keys_strings=keys, values_int64s=values,
            default_int64=0,
        )  # fmt: skip

    # -- nodes -------------------------------------------------------------------------------------

    def _add(self, op: str, inputs: Sequence[str], *, out: str = "", **attributes: Any) -> str:
        out = out or f"{INSIDE}transform/{op.lower()}_{len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(op, inputs, [out], **attributes))
        return out

    def _calls(self, op: str) -> Callable[[str, str], str]:
        return lambda a, b: self._add(op, [a, b])

    def _upright(self, values: str) -> str:
        """[rows] as [rows, 1]."""
        return self._add("Unsqueeze", [values, self._whole([1])])

    def _as_double(self, values: str) -> str:
        return self._add("Cast", [values], to=self._kind("DOUBLE"))

    def _kind(self, name: str) -> int:
        return getattr(self._onnx.TensorProto, name)

    def _double(self, value: float) -> str:
        return self._constant(np.array(value, np.float64))

    def _whole(self, values: list[int]) -> str:
        return self._constant(np.array(values, np.int64))

    def _texts(self, values: list[str]) -> str:
        return self._constant(np.array(values, object))

    def _constant(self, values: npt.NDArray[Any]) -> str:
        name = f"{INSIDE}transform/known_{len(self.constants)}"
        self.constants.append(self._onnx.numpy_helper.from_array(values, name))
        return name


def check_input(name: str, of: SqlType) -> None:
    """UnsupportedError where a column cannot be an input of an ONNX graph."""
    if of.kind == "struct" or (of.element is not None and not of.element.is_numeric):
        raise UnsupportedError(
            f"column `{name}` is {of}; inputs are numbers, dates, texts and arrays of numbers"
        )


def _shown(scalar: Scalar) -> str:
    match scalar:
        case SqlScalar(parts=parts, args=args):
            names = [a.name if isinstance(a, Column) else "…" for a in args]
            text = "".join(p + n for p, n in zip(parts, [*names, ""], strict=True))
            return f"`{text}` is computed by the engine"
        case Struct():
            return "a struct is no input of a network"
    return f"{type(scalar).__name__} has no form there"


def words_in(columns: Iterable[Derived], blobs: Blobs | None) -> tuple[str, ...]:
    """Texts that the functions in `columns` know."""
    found: list[str] = []
    for scalar in (s for d in columns for s in scalars(d.expr, Scalar)):
        match scalar:
            case Coded(vocabulary=vocabulary):
                found += lookup(vocabulary, blobs)[0].vocabulary
            case Bucketize(labels=labels):
                found += labels
            case Literal(value=str() as text):
                found.append(text)
            case _:
                pass
    return tuple(found)
