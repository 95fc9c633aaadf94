"""Functions that tell about a model: their arguments, their columns, their errors."""

from __future__ import annotations

import pytest

from gradbase.errors import BindError, ParseError, UnsupportedError
from gradbase.frontend.binder import bind_query
from gradbase.frontend.names import lookup
from gradbase.ir.conversion import ToTable
from gradbase.ir.inspection import (
    CompareModels,
    Keep,
    RocCurve,
    SchemaDrift,
    Weights,
)
from gradbase.ir.learning import Evaluate
from gradbase.ir.node import find
from gradbase.ir.scalar import Literal
from gradbase.ir.types import FLOAT64, INT64, TEXT, SqlType

LABELLED = "(SELECT *, 'no' AS churned FROM t)"
ROC = (
    "threshold", "recall", "false_positive_rate", "true_positives", "false_positives",
    "true_negatives", "false_negatives",
)  # fmt: skip


def types_of(relation):
    return {f.name: str(f.type) for f in relation.schema}


@pytest.mark.parametrize("rows", ["", f", {LABELLED}"])
def test_confusion_matrix(rows, relations, models):
    """expected_label in the label's type, a BIGINT per class."""
    found = bind_query(f"SELECT * FROM ML.CONFUSION_MATRIX(MODEL m{rows})", relations, models)
    assert types_of(found) == {"expected_label": "text", "no": "int64", "yes": "int64"}
    assert bool(rows) == any(isinstance(n, Evaluate) for n in find(found, Evaluate))


@pytest.mark.parametrize(
    ("classes", "kind", "names"),
    [
        ((0, 1), INT64, ["_0", "_1"]),
        ((-1, 1), INT64, ["_1", "_1_1"]),
        ((0.5, 2.0), FLOAT64, ["_0_5", "_2_0"]),
        ((False, True), SqlType("bool"), ["false", "true"]),
        (("", "a b"), TEXT, ["_", "a_b"]),
        (("EXPECTED_LABEL", "été"), TEXT, ["EXPECTED_LABEL_1", "été"]),
    ],
)
def test_classes_are_columns(classes, kind, names, relations, models):
    """Under legal and distinct names, in ascending order."""
    literals = tuple(Literal(c, kind) for c in classes)
    model = models._models["m"]
    outputs = tuple(
        ToTable(o.x, o.method, kind if o.method == "label" else o.type, literals)
        for o in model.outputs
    )
    models._models["m"] = model.replace(outputs=outputs)
    found = bind_query("SELECT * FROM ML.CONFUSION_MATRIX(MODEL m)", relations, models)
    assert list(found.schema.names) == ["expected_label", *names]
    assert found.schema.type_of("expected_label") == kind


@pytest.mark.parametrize(
    ("arguments", "thresholds"),
    [
        ("", ()),
        (", [0.5, 0.25]", (0.25, 0.5)),
        (", ARRAY[0, 1]", (0, 1)),
        (f", {LABELLED}", ()),
        (f", {LABELLED}, GENERATE_ARRAY(0.1, 0.9, 0.4)", (0.1, 0.5, 0.9)),
        (", GENERATE_ARRAY(0, 1)", (0, 1)),
        (", GENERATE_ARRAY(0.4, 0.6, 0.01), STRUCT(1 AS trial_id)",
         tuple(round(0.4 + i / 100, 2) for i in range(21))),
        (", GENERATE_ARRAY(0.3, 0.1, -0.1)", (0.1, 0.2, 0.3)),
    ],
)  # fmt: skip
def test_roc_curve(arguments, thresholds, relations, models):
    """Thresholds as a list or generated, with and without rows."""
    found = bind_query(f"SELECT * FROM ML.ROC_CURVE(MODEL m{arguments})", relations, models)
    assert found.schema.names == ROC
    (curve,) = find(found, RocCurve)
    assert curve.thresholds == thresholds


def test_weights(relations, models):
    """All trials of a tuned model, the number first; one where it is named."""
    found = bind_query("SELECT * FROM ML.WEIGHTS(MODEL m)", relations, models)
    assert types_of(found) == {
        "processed_input": "text", "weight": "float64",
        "category_weights": "list<struct<category: text, weight: float64>>",
    }  # fmt: skip
    (node,) = find(bind_query("FROM ML.WEIGHTS(MODEL Tuned)", relations, models), Weights)
    assert (len(node.models), node.with_trial, node.standardize) == (2, True, False)
    one = "FROM ML.WEIGHTS(MODEL Tuned, STRUCT(TRUE AS standardize, 2 AS trial_id))"
    (node,) = find(bind_query(one, relations, models), Weights)
    assert ([m.trial for m in node.models], node.with_trial, node.standardize) == ([2], True, True)


def test_comparing(relations, models):
    """Both models read the same rows, kept once, and only the columns they need."""
    query = f"SELECT * FROM ML.COMPARE(MODEL m, MODEL m@old, {LABELLED})"
    found = bind_query(query, relations, models)
    assert types_of(found) == {
        "metric": "text", "first": "float64", "second": "float64", "difference": "float64",
    }  # fmt: skip
    (node,) = find(found, CompareModels)
    assert [e.model.version for e in node.metrics] == [1, 7]
    (kept,) = set(find(found, Keep))
    assert kept.schema.names == ("x", "y", "churned")
    without = bind_query("FROM ML.COMPARE(MODEL m, MODEL m@old, TABLE t)", relations, models)
    (node,) = find(without, CompareModels)
    assert node.metrics == ()


def test_schema_drift(relations, models):
    """Every column, whether or not a prediction would be possible."""
    query = "FROM ML.SCHEMA_DRIFT(MODEL m, (SELECT 'a' AS X, churned, 1 AS z FROM (SELECT 'no' AS churned)))"
    (node,) = find(bind_query(query, relations, models), SchemaDrift)
    told = [(c.column, c.status, c.name) for c in node.columns]
    assert told == [("x", "type changed", "X"), ("y", "missing", ""), ("z", "extra", "z")]
    assert (node.columns[0].null_share, node.columns[0].mean) == (0.25, 1.5)
    query = "FROM ML.SCHEMA_DRIFT(MODEL m, (SELECT x, y::FLOAT AS y FROM t))"
    (node,) = find(bind_query(query, relations, models), SchemaDrift)
    assert [c.status for c in node.columns] == ["ok", "converted"]


def test_describing_in_a_query(relations, models):
    """As a table function."""
    found = bind_query("SELECT section FROM ML.DESCRIBE(MODEL m)", relations, models)
    assert found.schema.names == ("section",)


@pytest.mark.parametrize(
    ("query", "error", "text"),
    [
        ("ML.CONFUSION_MATRIX(MODEL r)", BindError, r"is for classes, `r` is regression"),
        (
            f"ML.CONFUSION_MATRIX(MODEL m, {LABELLED}, STRUCT(1.5 AS threshold))",
            BindError,
            r"\[0, 1\]",
        ),
        ("ML.CONFUSION_MATRIX(MODEL m, TABLE t)", BindError, "needs the label `churned`"),
        ("ML.ROC_CURVE(MODEL r)", BindError, r"is for two classes, `r` is regression"),
        (
            "ML.ROC_CURVE(MODEL m, STRUCT(0.5 AS threshold))",
            BindError,
            r"STRUCT takes value AS trial_id",
        ),
        ("ML.ROC_CURVE(MODEL m, [])", BindError, r"list of numbers(.|\n)*\[0\.25"),
        ("ML.ROC_CURVE(MODEL m, [2])", BindError, r"threshold is in \[0, 1\], found 2"),
        ("ML.ROC_CURVE(MODEL m, ['a'])", BindError, r"`threshold` is a number"),
        (
            "ML.ROC_CURVE(MODEL m, GENERATE_ARRAY(0, 1, 0))",
            BindError,
            r"step of GENERATE_ARRAY is 0",
        ),
        (
            "ML.ROC_CURVE(MODEL m, GENERATE_ARRAY(0, 1, 1e-9))",
            BindError,
            r"makes 1,000,000,00. values",
        ),
        ("ML.ROC_CURVE(MODEL m, GENERATE_ARRAY('a'))", BindError, r"two or three numbers"),
        ("ML.ROC_CURVE(MODEL m, GENERATE_ARRAY(1, 0))", BindError, r"list of numbers"),
        ("ML.ROC_CURVE(MODEL m, TABLE t, TABLE t)", ParseError, r"one relation"),
        ("ML.FEATURE_INFO(MODEL m, TABLE t)", BindError, r"takes no rows"),
        (
            "ML.FEATURE_INFO(MODEL m, STRUCT(1 AS trial_id))",
            BindError,
            r"STRUCT takes nothing here",
        ),
        ("ML.WEIGHTS(MODEL m, STRUCT(1 AS standardize))", BindError, r"is TRUE or FALSE"),
        ("ML.WEIGHTS(MODEL m, TABLE t)", BindError, r"takes no rows"),
        ("ML.COMPARE(MODEL m, TABLE t)", ParseError, r"needs two models(.|\n)*MODEL m@2"),
        ("ML.COMPARE(MODEL m, MODEL m)", BindError, r"needs rows"),
        ("ML.COMPARE(MODEL m, MODEL r, TABLE t)", BindError, r"different tasks(.|\n)*`price`"),
        ("ML.COMPARE(MODEL m, MODEL nope, TABLE t)", BindError, r"no model `nope`"),
        ("ML.SCHEMA_DRIFT(MODEL m)", BindError, r"ML\.SCHEMA_DRIFT needs rows"),
        ("ML.ADVANCED_WEIGHTS(MODEL m)", UnsupportedError, r"not offered yet"),
        ("ML.EXPLAIN_PREDICT(MODEL m, TABLE t)", UnsupportedError, r"not offered yet"),
        ("ML.GLOBAL_EXPLAIN(MODEL m)", UnsupportedError, r"not offered yet"),
        ("ML.FEATURE_IMPORTANCE(MODEL m)", UnsupportedError, r"not offered yet"),
        ("ML.VALIDATE_DATA_DRIFT(TABLE t)", UnsupportedError, r"not offered(.|\n)*SCHEMA_DRIFT"),
    ],
)
def test_errors(query, error, text, relations, models):
    """Say what, where and what to do."""
    with pytest.raises(error, match=text) as caught:
        bind_query(f"SELECT * FROM {query}", relations, models)
    assert "^" in str(caught.value)


def test_all_columns_that_do_not_fit_are_listed(relations, models):
    """Type then and now, what is missing, what is not read, near names."""
    rows = "(SELECT 'a' AS x, 1 AS yy, 2 AS other)"
    for query in (
        f"SELECT PREDICT(m, *) FROM {rows}",
        f"SELECT * FROM ML.PREDICT(MODEL m, {rows})",
        f"SELECT * FROM ML.EVALUATE(MODEL m, {rows})",
    ):
        with pytest.raises(BindError) as caught:
            bind_query(query, relations, models)
        lines = caught.value.message.splitlines()
        assert "columns have drifted" in lines[0]
        assert "  `x`: trained as float64, found text" in lines
        assert "  `y`: trained as int64, not there" in lines
        assert lines[-1] == "  not read: yy, other"
    assert "`y`: did you mean" in str(caught.value) or "cast or rename" in caught.value.hint
    positional = "SELECT PREDICT(m, 'a', 'b')"
    with pytest.raises(
        BindError, match=r"`x`: trained as float64, found text\n  `y`: .* found text"
    ):
        bind_query(positional, relations, models)


def test_names_are_found_whatever_their_case():
    """Exact ones first."""
    assert lookup("a", ["A", "a"]) == "a"
    assert lookup("a", ["b"]) is None
