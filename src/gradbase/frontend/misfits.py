"""Columns of rows that are not what a model was trained on: one error that lists all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gradbase.errors import BindError, near
from gradbase.ir.learning import Model
from gradbase.ir.types import SqlType

_SHOWN = 20


@dataclass(frozen=True)
class Misfit:
    """A column that a model needs: not there (`found` None), or of a type that does not fit."""

    name: str
    trained: SqlType
    found: SqlType | None = None


def misfit_error(
    model: Model, misfits: Sequence[Misfit], names: Sequence[str], at: str | None
) -> BindError:
    """The error for rows with columns `names`, of which some do not fit."""
    if len(misfits) > 1:
        return _several(model, misfits, names, at)
    (only,) = misfits
    if only.found is None:
        what = "needs the label" if only.name == model.label else "reads column"
        return BindError(
            f"model `{model.name}` {what} `{only.name}`, which is not there; "
            f"there are {_listed(names) or 'no columns'}",
            at=at,
            hint=near(only.name, names),
        )
    return BindError(
        f"model `{model.name}` was trained on `{only.name}` of type {only.trained}, "
        f"found {only.found}",
        at=at,
        hint=f"cast it: PREDICT({model.name}, *, CAST(… AS …) AS {only.name})",
    )


def _several(
    model: Model, misfits: Sequence[Misfit], names: Sequence[str], at: str | None
) -> BindError:
    lines = [
        f"`{m.name}`: trained as {m.trained}, "
        + ("not there" if m.found is None else f"found {m.found}")
        for m in misfits
    ]
    missing = [m.name for m in misfits if m.found is None]
    read = {f.name.casefold() for f in model.features} | {model.label.casefold()}
    extra = [n for n in names if n.casefold() not in read]
    if missing and extra:
        lines.append(f"not read: {_listed(extra)}")
    nearest = (f"`{n}`: {found}" for n in missing if (found := near(n, extra)) is not None)
    return BindError(
        f"model `{model.name}` does not fit these rows, {len(misfits)} columns have drifted:\n  "
        + "\n  ".join(lines),
        at=at,
        hint="; ".join(nearest) or "cast or rename the columns, or train a new version on them",
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
