"""A plan as a graph: what EXPLAIN says of each operator in a box, rows going up. Plain SVG."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import Any, Protocol
from xml.sax.saxutils import escape

from gradbase.plots.layers import Point, layout

ROWS, NETWORK, TRAINING = "rows", "network", "training"
_COLOURS = {ROWS: "#0072B2", NETWORK: "#D55E00", TRAINING: "#009E73"}
_NAMES = {ROWS: "relations", NETWORK: "networks", TRAINING: "training"}
_INK, _PALE, _LINE, _TIME = "#222222", "#6E6E6E", "#9A9A9A", "#E69F00"
_SANS = "DejaVu Sans, Verdana, Helvetica, sans-serif"
_MONO = "DejaVu Sans Mono, Menlo, Consolas, monospace"
_WIDTH = 46
"""Characters of a line in a box."""
_LINES = 4
_CONTROL = re.compile(r"[\x00-\x1f]")
"""Characters that XML cannot hold."""
_LINE_HEIGHT, _PAD, _MARGIN = 15.0, 10.0, 18.0
_CHARACTER = {"title": 8.6, "mono": 6.7, "text": 6.5}
"""Width in pixels of a letter, a little more than it is."""


class Step(Protocol):
    """One operator."""

    @property
    def head(self) -> str:
        """As EXPLAIN writes it."""
        ...

    @property
    def facts(self) -> str:
        """Estimated rows, bytes, seconds."""
        ...

    @property
    def notes(self) -> Sequence[str]: ...

    @property
    def family(self) -> str:
        """``rows``, ``network`` or ``training``."""
        ...

    @property
    def share(self) -> float:
        """Of the plan's seconds, from 0 to 1."""
        ...

    @property
    def below(self) -> Sequence[int]:
        """Numbers of the steps that it reads, each higher than its own."""
        ...


def svg(steps: Sequence[Step], title: str, footer: Sequence[str] = ()) -> str:
    """The graph as an SVG document.

    Parameters
    ----------
    steps : sequence of Step
        The root first; a step that several read is drawn once.
    title : str
    footer : sequence of str
        Lines below the graph.
    """
    boxes = [_Box(step) for step in steps]
    edges = [(i, below) for i, step in enumerate(steps) for below in step.below]
    placed = layout([(box.width, box.height) for box in boxes], edges)
    families = [f for f in _COLOURS if any(step.family == f for step in steps)]
    head = [_text((0, 16), title, size=15, bold=True), *_legend(families)]
    lines = [line for text in footer for line in textwrap.wrap(text, 110)]
    end = placed.height + 34 + len(lines) * _LINE_HEIGHT
    width = max([placed.width, 430.0, *(len(t) * _CHARACTER["text"] for t in lines)])
    body = [_edge(route) for route in placed.routes]
    body += [box.draw(corner) for box, corner in zip(boxes, placed.corners, strict=True)]
    shift = (width - placed.width) / 2
    body += [
        _text((-shift, placed.height + 30 + i * _LINE_HEIGHT), line, colour=_PALE)
        for i, line in enumerate(lines)
    ]
    return _document(head, body, (width, end), title, shift)


class _Box:
    """The texts of one step and the room they take."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.title, details = _parts(step.head)
        wrapped = textwrap.wrap(details, _WIDTH, break_on_hyphens=False)
        if len(wrapped) > _LINES:
            wrapped = [*wrapped[: _LINES - 1], wrapped[_LINES - 1][: _WIDTH - 2] + " …"]
        self.details = wrapped
        self.facts = textwrap.wrap(step.facts, _WIDTH)
        self.notes = [line for note in step.notes for line in textwrap.wrap(note, _WIDTH + 4)]
        widths = [len(self.title) * _CHARACTER["title"] + 60]
        widths += [len(t) * _CHARACTER["mono"] for t in self.details]
        widths += [len(t) * _CHARACTER["text"] for t in (*self.facts, *self.notes)]
        self.width = max(widths) + 2 * _PAD + 6
        count = 1 + len(self.details) + len(self.facts) + len(self.notes)
        self.height = count * _LINE_HEIGHT + 2 * _PAD + 4

    def draw(self, corner: Point) -> str:
        x, y = 6 + _PAD, _PAD + 11
        drawn = [*self._frame(), _text((x, y), self.title, size=13, bold=True), *self._share(y)]
        styles: tuple[tuple[list[str], dict[str, Any]], ...] = (
            (self.details, {"mono": True}),
            (self.facts, {}),
            (self.notes, {"colour": _PALE, "italic": True}),
        )
        for line, style in ((line, style) for lines, style in styles for line in lines):
            y += _LINE_HEIGHT
            drawn.append(_text((x, y + 2), line, **style))
        where = f"translate({corner[0]:.1f} {corner[1]:.1f})"
        return f'<g class="step" transform="{where}">' + "".join(drawn) + "</g>"

    def _frame(self) -> list[str]:
        """A box whose left edge tells the family."""
        whole = _rect((0, 0), (self.width, self.height), "white", more=f'rx="6" stroke="{_LINE}"')
        side = f"M6 0 a6 6 0 0 0 -6 6 v{self.height - 12:.1f} a6 6 0 0 0 6 6 z"
        return [whole, f'<path d="{side}" fill="{_COLOURS[self.step.family]}"/>']

    def _share(self, y: float) -> list[str]:
        """How much of the plan's time the step takes: a number, and a bar on the lower edge."""
        if self.step.share < 0.005:
            return []
        length = (self.width - 12) * min(self.step.share, 1.0)
        percent = f"{100 * self.step.share:.0f} %"
        return [
            _text((self.width - _PAD, y), percent, colour=_PALE, end=True),
            _rect((6, self.height - 5), (length, 4), _TIME, more='rx="2"'),
        ]


def _parts(head: str) -> tuple[str, str]:
    """The operator's name, and the rest without the brackets around it.

    Examples
    --------
    >>> _parts("Filter[a > 3]"), _parts("Scan points (id int64)")
    (('Filter', 'a > 3'), ('Scan', 'points (id int64)'))
    """
    found = re.match(r"(?:%\w+ = )?(\w+)", head)
    assert found is not None, head
    rest = head[found.end() :].strip()
    if rest.startswith("[") and rest.endswith("]"):
        rest = rest[1:-1]
    return found[1], rest


def _text(
    at: Point,
    text: str,
    *,
    size: float = 11,
    colour: str = _INK,
    bold: bool = False,
    italic: bool = False,
    mono: bool = False,
    end: bool = False,
) -> str:
    style = f'font-family="{_MONO if mono else _SANS}" font-size="{size}" fill="{colour}"'
    style += ' font-weight="bold"' if bold else ""
    style += ' font-style="italic"' if italic else ""
    style += ' text-anchor="end"' if end else ""
    return f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" {style}>{escape(_CONTROL.sub(" ", text))}</text>'


def _rect(at: Point, size: Point, fill: str, more: str = "") -> str:
    where = f'x="{at[0]:.1f}" y="{at[1]:.1f}" width="{size[0]:.1f}" height="{size[1]:.1f}"'
    return f'<rect {where} fill="{fill}" {more}/>'


def _edge(route: Sequence[Point]) -> str:
    """A smooth line from below to above, with a point at its end."""
    (x, y), *rest = route
    path = f"M{x:.1f} {y:.1f}"
    for nx, ny in rest:
        middle = (y + ny) / 2
        path += f" C{x:.1f} {middle:.1f} {nx:.1f} {middle:.1f} {nx:.1f} {ny:.1f}"
        x, y = nx, ny
    tip = f"M{x:.1f} {y:.1f} l-4 8 h8 z"
    return (
        f'<path class="edge" d="{path}" fill="none" stroke="{_LINE}" stroke-width="1.5"/>'
        f'<path d="{tip}" fill="{_LINE}"/>'
    )


def _legend(families: Sequence[str]) -> list[str]:
    drawn: list[str] = []
    x = 0.0
    for name, colour in [*((_NAMES[f], _COLOURS[f]) for f in families), ("share of time", _TIME)]:
        drawn.append(_rect((x, 27), (10, 10), colour, more='rx="2"'))
        drawn.append(_text((x + 15, 36), name, colour=_PALE))
        x += 15 + len(name) * _CHARACTER["text"] + 18
    return drawn


def _document(
    head: Sequence[str], body: Sequence[str], size: Point, title: str, shift: float
) -> str:
    top = 54.0
    whole = (size[0] + 2 * _MARGIN, size[1] + top + 2 * _MARGIN)
    extent = f"{whole[0]:.0f} {whole[1]:.0f}"
    width, height = extent.split()
    opening = f'width="{width}" height="{height}" viewBox="0 0 {extent}" role="img"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {opening}>',
            f"<title>{escape(title)}</title>",
            _rect((0, 0), whole, "white"),
            f'<g transform="translate({_MARGIN} {_MARGIN})">',
            *head,
            f'<g transform="translate({shift:.1f} {top})">',
            *body,
            "</g></g></svg>",
        ]
    )
