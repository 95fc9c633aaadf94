"""What stands in each picture; that it is legible somebody has to see."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.colors import to_hex
from searches import FakeSearch

from gradbase import plots
from gradbase.errors import BindError, DataError, UnsupportedError
from gradbase.plots.calibration import binned
from gradbase.plots.roc import curve
from gradbase.plots.style import BEST
from gradbase.plots.subjects import Classified, Confusion, Regressed, Weighed


def classified(classes=("no", "yes"), rows=200):
    random = np.random.default_rng(1)
    actual = random.integers(0, len(classes), rows)
    logits = random.normal(size=(rows, len(classes)))
    logits[np.arange(rows), actual] += 1.0
    p = np.exp(logits)
    cases = np.eye(len(classes), dtype=np.int64)[actual]
    p /= p.sum(axis=1, keepdims=True)
    return Classified("churn@2", "churned", "evaluation rows", classes, p, cases)


def confusion(classes=("no", "yes")):
    n = len(classes)
    counts = np.arange(n * n, dtype=np.int64).reshape(n, n)
    return Confusion("churn@2", "churned", "evaluation rows", classes, counts)


def regressed(rows=100):
    actual = np.linspace(0, 10, rows)
    return Regressed("spend@1", "spent", "given rows", actual, actual + np.sin(actual))


def texts(figure):
    """All that is written in a figure."""
    from matplotlib.text import Text

    return " | ".join(t.get_text() for t in figure.findobj(Text) if t.get_text())


SUBJECTS = {
    "curves": (FakeSearch(), ["12 trials, 1 failed", "epoch", "ROC AUC (higher is better)", "nats"]),
    "history": (FakeSearch(), ["12 trials", "best so far", "without a value (1)", "ROC AUC"]),
    "parallel": (FakeSearch(), ["11 trials", "learn_rate", "[32, 16]", "best", "1 without a value"]),
    "importance": (FakeSearch(), ["learn_rate", "80 %", "PED-ANOVA over 11 trials", "importance, %"]),
    "roc": (classified(), ["churn@2", "share of `no` taken for `yes`", "area 0.", "200 evaluation"]),
    "calibration": (classified(), ["probability of `yes`", "95 % interval", "rows", "mean error"]),
    "confusion": (confusion(), ["predicted churned", "actual churned", "3\n60 %", "50.0 % of 6 rows"]),
    "actual": (regressed(), ["actual spent", "predicted spent", "R² 0.9", "100 given rows"]),
    "residuals": (regressed(), ["predicted spent", "mean", "deviation"]),
    "weights": (
        Weighed("risk@1", "log odds", ["age", "fee"], np.array([0.5, -2.0])),
        ["weight (log odds)", "age", "fee"],
    ),
}  # fmt: skip


def test_every_kind_is_drawn_here():
    assert SUBJECTS.keys() == plots.KINDS.keys()


@pytest.mark.parametrize("kind", plots.KINDS)
@pytest.mark.parametrize("ending", ["png", "svg"])
def test_kind_is_written_with_its_labels(kind, ending, tmp_path):
    """Axes have labels with units; the file is what its ending says."""
    subject, expected = SUBJECTS[kind]
    path = tmp_path / f"x.{ending}"
    figure = plots.draw(kind, subject, path)
    found = texts(figure)
    assert not [text for text in expected if text not in found], found
    start = {"png": b"\x89PNG", "svg": b"<?xml"}[ending]
    data = path.read_bytes()
    assert data.startswith(start)
    assert len(data) > 5000
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_pictures_use_no_global_state():
    """Nothing of pyplot is loaded: no windows, no figures that stay in memory."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from searches import FakeSearch; from gradbase import plots;"
        "plots.draw('curves', FakeSearch()); plots.draw('parallel', FakeSearch());"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    folder = str(__import__("pathlib").Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", code, folder], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_the_best_trial_stands_out_of_many():
    """200 curves: one in the colour of the best, on top, the others pale."""
    left = plots.draw("curves", FakeSearch(trials=200)).axes[0]
    best = [line for line in left.lines if to_hex(line.get_color()) == BEST.lower()]
    others = [line for line in left.lines if line not in best]
    assert len(others) == 198
    assert {line.get_alpha() for line in others} == {0.12}
    assert min(b.zorder for b in best) > max(o.zorder for o in others)


@pytest.mark.parametrize("kind", ["curves", "history", "parallel", "importance"])
def test_one_trial_is_drawn_too(kind):
    """Trial 1 failed: what is left is drawn, with whole numbers below."""
    figure = plots.draw(kind, FakeSearch(trials=2))
    figure.canvas.draw()
    labels = {t.get_text() for t in figure.axes[0].get_xticklabels()}
    assert not [text for text in labels if "." in text]


def test_searches_that_minimise_say_so():
    assert "log loss, nats (lower is better)" in texts(
        plots.draw("history", FakeSearch(metric="log_loss"))
    )
    assert "loss (lower is better)" in texts(plots.draw("history", FakeSearch(metric="loss")))


@pytest.mark.parametrize(
    ("kind", "subject", "message"),
    [
        ("parallel", FakeSearch(scales={}), "nothing to compare"),
        ("parallel", FakeSearch(trials=1), "0 trials with a value"),
        ("roc", Classified("m", "y", "rows", ("a", "b"), np.full((3, 2), 0.5),
                           np.array([[1, 0]] * 3)), "of one class"),
        ("calibration", Classified("m", "y", "rows", ("a", "b"), np.zeros((0, 2)),
                                   np.zeros((0, 2), np.int64)), "no row"),
        ("confusion", Confusion("m", "y", "rows", ("a", "b"), np.zeros((2, 2), np.int64)), "no row"),
        ("actual", Regressed("m", "y", "rows", np.array([np.nan]), np.array([1.0])), "no row"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn(kind, subject, message):
    with pytest.raises(DataError, match=message):
        plots.draw(kind, subject)


def test_names_are_never_formulas():
    """Dollar signs, underscores, line ends and long names of classes and labels."""
    classes = ("$5 to $10", "_hidden", "line\nend", "x" * 200, "$\\bad$")
    rows = classified(classes)
    rows = dataclasses.replace(rows, label="$price$", model="$m$@1", of="rows of $t$")
    for kind, subject in (("roc", rows), ("calibration", rows)):
        figure = plots.draw(kind, subject)
        figure.canvas.draw()
    shown = [t.get_text() for t in plots.draw("roc", rows).axes[0].get_legend().get_texts()]
    assert len(shown) == 6
    table = dataclasses.replace(confusion(classes), label="$price$")
    plots.draw("confusion", table).canvas.draw()
    search = FakeSearch(name="$a$", scales={"$b$c$": "choice"})
    for row in search.rows:
        row["$b$c$"] = "$x$"
    plots.draw("parallel", search).canvas.draw()


def test_a_path_needs_an_ending_of_a_picture(tmp_path):
    with pytest.raises(UnsupportedError, match=r"there are .*\.pdf.*\.png.*\.svg"):
        plots.draw("history", FakeSearch(), tmp_path / "x.docx")


def test_missing_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.lines", None)
    monkeypatch.delitem(sys.modules, "gradbase.plots.curves", raising=False)
    with pytest.raises(UnsupportedError, match=r"pip install 'gradbase\[plots\]'"):
        plots.draw("curves", FakeSearch())


def test_unknown_kinds_are_told_which_there_are():
    of = (plots.REGRESSED, plots.SEARCH)
    with pytest.raises(BindError, match=r"no `roc` of a regression; there are curves.*residuals"):
        plots.kind_of("roc", of, "a regression")
    with pytest.raises(BindError, match="did you mean `residuals`"):
        plots.kind_of("residual", of, "a regression")
    with pytest.raises(BindError, match=r"plot\(path='x.png'\)"):
        plots.kind_of("x.png", of, "a regression")


# -- what the pictures compute -----------------------------------------------------------------


def test_roc_curve_is_that_of_scikit_learn():
    """Points and area, with ties, and counted instead of one by one."""
    from sklearn.metrics import auc, roc_curve

    random = np.random.default_rng(0)
    score = random.integers(0, 30, 500) / 30
    positive = random.random(500) < score
    false, true, area = curve(score, positive.astype(np.int64), (~positive).astype(np.int64))
    fpr, tpr, _ = roc_curve(positive, score, drop_intermediate=False)
    np.testing.assert_allclose(false, fpr)
    np.testing.assert_allclose(true, tpr)
    assert area == pytest.approx(auc(fpr, tpr))
    values = np.unique(score)
    counted = [np.array([(positive == side)[score == v].sum() for v in values]) for side in (1, 0)]
    assert curve(values, *counted)[2] == pytest.approx(area)


def test_calibration_groups_have_equal_size_and_whole_scores():
    random = np.random.default_rng(0)
    score = random.random(1000)
    hits = (random.random(1000) < score).astype(np.int64)
    found = binned(score, hits, 1 - hits)
    assert found.rows.tolist() == [100] * 10
    assert found.error < 0.06
    assert ((found.low <= found.observed) & (found.observed <= found.high)).all()
    tied = binned(np.array([0.5] * 7 + [0.9]), np.ones(8, np.int64), np.zeros(8, np.int64))
    assert tied.rows.tolist() == [7, 1]
