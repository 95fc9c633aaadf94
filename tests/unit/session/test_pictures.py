"""Pictures of trained models and of plans."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

import shop
from gradbase.errors import BindError, DataError, UnsupportedError


def texts(figure):
    from matplotlib.text import Text

    return " | ".join(t.get_text() for t in figure.findobj(Text) if t.get_text())


@pytest.mark.parametrize("kind", ["curves", "history", "parallel", "importance"])
def test_pictures_of_a_search(trained, kind, tmp_path):
    """From the study and from the model it made, with the search's own names."""
    path = tmp_path / "x.svg"
    figure = trained.study("churn").plot(kind, path=path)
    assert "churn" in texts(figure)
    assert path.stat().st_size > 5000
    assert trained.model("churn").plot(kind).get_suptitle() == figure.get_suptitle()


@pytest.mark.parametrize(
    ("model", "kind", "expected"),
    [
        ("churn", "roc", ["churn@1#", "rows of customers", "area 0."]),
        ("churn", "calibration", ["probability of `yes`"]),
        ("churn", "confusion", ["predicted churned"]),
        ("plans", "roc", ["each class against the rest"]),
        ("plans", "calibration", ["likeliest class"]),
        ("plans", "confusion", ["actual plan"]),
        ("spend", "actual", ["predicted spent"]),
        ("spend", "residuals", ["actual - predicted"]),
    ],
)
def test_pictures_of_models_on_rows(trained, model, kind, expected):
    found = texts(trained.model(model).plot(kind, data="customers"))
    assert not [text for text in expected if text not in found], found


@pytest.mark.parametrize(
    ("model", "kind"),
    [("churn", "roc"), ("churn", "calibration"), ("churn", "confusion"), ("plans", "confusion")],
)
def test_evaluation_rows_are_drawn_without_being_given(trained, model, kind):
    """What training kept of them is enough; all kinds see as many rows."""
    found = texts(trained.model(model).plot(kind))
    rows = trained.study(model).record.eval_rows
    assert "evaluation rows" in found
    assert f"{rows} evaluation rows" in found or f"of {rows} rows right" in found


def test_kept_counts_draw_what_the_metrics_said(trained):
    """The area below the curve of the evaluation rows is the metric of the best trial."""
    study = trained.study("churn")
    best = next(r for r in study.rows if r["best"])
    assert f"area {best['roc_auc']:.4f}" in texts(study.plot("roc"))
    assert f"{100 * best['accuracy']:.1f} % of" in texts(study.plot("confusion"))


def test_a_confusion_matrix_counts_the_rows_with_a_label(trained):
    """The same as counting predictions by hand; rows without a label are left out."""
    figure = trained.model("churn").plot("confusion", data="SELECT * FROM customers")
    shares = figure.axes[0].images[0].get_array()
    rows = trained.sql(
        "SELECT churned, PREDICT(churn, *) AS p FROM customers WHERE churned IS NOT NULL"
    ).df()
    for i, actual in enumerate(["no", "yes"]):
        of = rows[rows["churned"] == actual]
        assert shares[i, 1] == pytest.approx(100 * (of["p"] == "yes").mean())


def test_a_study_draws_its_best_model(trained):
    study = trained.study("churn")
    rows = shop.customers(50)
    assert texts(study.plot("roc", data=rows)) == texts(study.best.plot("roc", data=rows))
    assert "50 given rows" in texts(study.plot("roc", data=rows))


@pytest.mark.parametrize(
    ("model", "kind", "data", "error", "message"),
    [
        ("spend", "roc", "customers", BindError, "no `roc` of the regression model `spend`; there"),
        ("churn", "residuals", "customers", BindError, "there are curves, .*roc, calibration"),
        ("churn", "rocc", None, BindError, "did you mean `roc`"),
        ("spend", "actual", None, BindError, "needs rows with the label `spent`"),
        ("plans", "roc", None, BindError, "needs rows with the label `plan`"),
        ("churn", "roc", "SELECT * EXCLUDE (churned) FROM customers", BindError, "is not among"),
        ("churn", "roc", "SELECT * FROM customers WHERE churned = 'no'", DataError, "one class"),
        ("spend", "actual", "SELECT * FROM customers LIMIT 0", DataError, "no row"),
        ("spend", "parallel", None, DataError, "nothing to compare"),
        ("spend", "importance", None, DataError, "importance compares trials"),
    ],
)
def test_pictures_that_there_are_not(trained, model, kind, data, error, message):  # noqa: PLR0917
    with pytest.raises(error, match=message):
        trained.model(model).plot(kind, data=data)


def test_labels_unknown_to_the_model_are_an_error(trained):
    with pytest.raises(DataError, match="none of the model's classes"):
        trained.model("churn").plot(
            "confusion", data="SELECT * REPLACE ('maybe' AS churned) FROM customers"
        )


# -- plans -------------------------------------------------------------------------------------

QUERY = "SELECT id, PREDICT(churn, *) AS p FROM customers WHERE age > 30"


def test_a_plan_draws_itself(trained, tmp_path):
    """explain gives text that can be drawn; with analyze the picture says what was measured."""
    explained = trained.explain(QUERY)
    assert explained.startswith("Project")
    explained.plot(tmp_path / "plan.svg")
    text = (tmp_path / "plan.svg").read_text()
    root = ET.fromstring(text)
    boxes = [g for g in root.iter() if g.get("class") == "step"]
    assert len(boxes) == sum(
        line.strip() != ""
        for line in explained.split("total")[0].splitlines()
        if "≈" in line and "considered" not in line
    )
    for expected in ("Predict", "Scan", "chosen:", "churn@1#"):
        assert expected in text
    assert "measured: " in trained.explain(QUERY, analyze=True).to_svg()


def test_plans_of_trainings_share_their_rows(trained):
    """All fits read one dataset."""
    text = trained.explain(shop.create_model("more", **shop.SIX)).to_svg()
    root = ET.fromstring(text)
    titles = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
    assert titles.count("Dataset") == 1
    assert "Search" in titles


def test_plans_of_the_engine_are_text(trained, tmp_path):
    explained = trained.explain("SELECT 1")
    with pytest.raises(UnsupportedError, match="the engine's"):
        explained.to_svg()
    with pytest.raises(UnsupportedError, match=r"drawn as SVG, not as `.png`"):
        trained.explain(QUERY).plot(tmp_path / "plan.png")
