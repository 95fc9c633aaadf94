"""What `Session.explain` gives: text, and the plan as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

from gradbase.errors import UnsupportedError

if TYPE_CHECKING:
    from gradbase.session.planning import Plan


class Explanation(str):  # noqa: SLOT000 (it carries a plan)
    """The text of EXPLAIN, which can be drawn as well.

    Parameters
    ----------
    text : str
    plan : Plan, optional
        None for a statement that the engine explains itself.
    measured : str
        What running it told, one line.
    """

    plan: Plan | None
    measured: str

    def __new__(cls, text: str, plan: Plan | None = None, measured: str = "") -> Self:
        made = super().__new__(cls, f"{text}\n{measured}" if measured else text)
        made.plan, made.measured = plan, measured
        return made

    def to_svg(self) -> str:
        """The plan as a graph: an SVG document.

        Raises
        ------
        UnsupportedError
            It is the engine's own plan.
        """
        if self.plan is None:
            raise UnsupportedError(
                "the statement has none of our words: its plan is the engine's, which is text only",
                hint="EXPLAIN a query with PREDICT, or CREATE MODEL",
            )
        return self.plan.to_svg(self.measured)

    def plot(self, path: str | Path) -> None:
        """Write the graph to an .svg file."""
        if Path(path).suffix.lower() != ".svg":
            raise UnsupportedError(
                f"a plan is drawn as SVG, not as `{Path(path).suffix}`",
                hint=f"plot('{Path(path).with_suffix('.svg')}')",
            )
        Path(path).write_text(self.to_svg(), encoding="utf-8")
