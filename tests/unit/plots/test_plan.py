"""A plan as SVG: the operators, what EXPLAIN says of them, who reads what."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass

from gradbase.plots.plan import svg

NS = "{http://www.w3.org/2000/svg}"


@dataclass
class Step:
    head: str
    below: tuple[int, ...] = ()
    facts: str = "≈ 5 rows, 40 B, 1.0 ms"
    notes: tuple[str, ...] = ()
    family: str = "rows"
    share: float = 0.0


def drawn(steps, *footer):
    text = svg(steps, "A & B", footer)
    return text, ET.fromstring(text)


def test_every_operator_is_one_box_and_every_reading_one_edge():
    """A part that two operators read is drawn once, with two edges."""
    steps = [
        Step("Join[a < b]", (1, 2)),
        Step("Filter[x]", (3,)),
        Step("Filter[y]", (3,)),
        Step("Scan t"),
    ]
    text, root = drawn(steps)
    assert len(root.findall(f".//{NS}g[@class='step']")) == 4
    assert len(root.findall(f".//{NS}path[@class='edge']")) == 4
    assert "a &lt; b" in text
    assert root.find(f"{NS}title").text == "A & B"


def test_boxes_hold_facts_notes_and_share_of_time():
    step = Step("Predict[%m value as p from a, b by dl 256]", notes=("chosen: dl 256",), share=0.97)
    text, _ = drawn([step], "measured: 5 rows")
    for expected in (
        "Predict",
        "%m value as p",
        "≈ 5 rows, 40 B, 1.0 ms",
        "chosen: dl 256",
        "97 %",
        "measured: 5 rows",
    ):
        assert expected in text


def test_only_families_that_occur_are_in_the_legend():
    text, _ = drawn([Step("Search m: 2 fits", (1,), family="training"), Step("Scan t")])
    assert "training" in text
    assert "networks" not in text


def test_texts_are_escaped():
    """Whatever a literal holds, the document can be read."""
    text, _ = drawn([Step("Filter[x = '<&>\x00\x1b']")], "a < b")
    assert "&lt;&amp;&gt;" in text


def test_texts_stay_in_their_boxes():
    """Long lines are wrapped and, after a few, left out."""
    step = Step("Project[" + ", ".join(f"a_long_column_name_{i}" for i in range(60)) + "]")
    text, root = drawn([step])
    assert "…" in text
    width = float(root.get("width"))
    assert width < 600
    assert all(len(t.text) <= 50 for t in root.iter(f"{NS}text"))
