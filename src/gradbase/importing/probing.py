"""Runs an imported network once: does it run at all, and is each row's result its own?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from gradbase.errors import GradbaseError, UnsupportedError
from gradbase.importing.constants import Constants
from gradbase.ir.learning import Feature, Model
from gradbase.runtime.arrow_types import arrow_type
from gradbase.runtime.program import Program

ROWS = 4
PROBED_BYTES = 1 << 28
"""Networks with more weights are not tried: all of them would be in memory at once."""
_TOLERANCE = 1e-3


def check_rows_alone(model: Model, constants: Constants) -> None:
    """Predict a few rows together and one by one.

    Raises
    ------
    UnsupportedError
        The results differ: a row's prediction would depend on its neighbours. Or it cannot run.
    """
    if model.param_bytes > min(PROBED_BYTES, constants.memory_bytes // 8):
        return
    batch = _rows(model)
    method = (
        model.outputs[-1].method
        if model.task == "raw"
        else "proba"
        if model.outputs[0].classes
        else "value"
    )
    try:
        program = Program(model, (method,), constants)
        together = _numbers(program, batch)
        alone = [_numbers(program, batch.slice(i, 1)) for i in range(ROWS)]
    except GradbaseError:
        raise
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UnsupportedError(f"the network cannot run: {lines[0][:300]}") from error
    if not np.allclose(together, np.concatenate(alone), _TOLERANCE, _TOLERANCE, equal_nan=True):
        raise UnsupportedError(
            "the network mixes the rows of a batch: a prediction would depend on the rows beside "
            "it",
            hint="export it in eval mode, with the batch as the first size throughout",
        )


def _numbers(program: Program, batch: pa.RecordBatch) -> Any:
    column = program.runner(batch.schema.types)(batch)[0]
    if pa.types.is_nested(column.type):
        return (
            column.flatten()
            .to_numpy(zero_copy_only=False)
            .reshape(len(column), -1)
            .astype(np.float64)
        )
    return column.to_numpy(zero_copy_only=False)[:, None].astype(np.float64)


def _rows(model: Model) -> pa.RecordBatch:
    random = np.random.default_rng(0)
    columns = [_column(f, random) for f in model.features]
    return pa.RecordBatch.from_arrays(columns, names=[f.name for f in model.features])


def _column(feature: Feature, random: np.random.Generator) -> pa.Array:
    kind = arrow_type(feature.of)
    if feature.of.is_text:
        return pa.array(["a", "b", "c", "d"][:ROWS], kind)
    width = feature.of.size[0] if feature.of.is_vector else 1
    of = feature.of.element if feature.of.is_vector else feature.of
    assert of is not None
    whole = of.is_integer or of.kind == "bool"
    values = random.integers(0, 2, ROWS * width) if whole else random.standard_normal(ROWS * width)
    if not feature.of.is_vector:
        return pa.array(values).cast(kind)
    return pa.FixedSizeListArray.from_arrays(pa.array(values).cast(kind.value_type), type=kind)
