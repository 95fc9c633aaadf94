"""``GENERATE_ARRAY``, as BigQuery has it."""

from __future__ import annotations

import math

from gradbase.errors import BindError
from gradbase.frontend.cursor import Cursor, read_value

LONGEST = 10_000


def generated_array(cursor: Cursor, at: str) -> list[float]:
    """``GENERATE_ARRAY(start, end [, step])``: from start to end, the end included where reached.

    Raises
    ------
    BindError
        The arguments are no numbers, the step is 0, or there would be more than `LONGEST` values.
    """
    cursor.next()
    cursor.expect("(", "`(`")
    values: list[object] = []
    while not cursor.accept(")"):
        if values:
            cursor.expect(",", "`,` or `)`")
        values.append(read_value(cursor))
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) != len(values) or len(numbers) not in (2, 3):
        raise BindError(
            "GENERATE_ARRAY takes two or three numbers", at=at, hint="GENERATE_ARRAY(0.1, 0.9, 0.1)"
        )
    start, end, step = (*numbers, 1)[:3]
    if step == 0:
        raise BindError("the step of GENERATE_ARRAY is 0", at=at)
    # The end counts as reached where only rounding is between.
    count = math.floor((end - start) / step + 1e-9) + 1
    if count > LONGEST:
        raise BindError(f"GENERATE_ARRAY makes {count:,} values, at most {LONGEST:,}", at=at)
    return [_rounded(start + i * step) for i in range(count)]


def _rounded(value: float) -> float:
    """Without what adding fractions leaves behind: 0.3 and not 0.30000000000000004."""
    return float(f"{value:.12g}")
