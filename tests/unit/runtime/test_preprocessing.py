"""Preprocessing functions: the same bits in SQL and in the program, and what they learn."""

from __future__ import annotations

import math
import types

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradbase.engines import connect
from gradbase.errors import DataError
from gradbase.ir.analytic import Analytic
from gradbase.ir.derived import Derived
from gradbase.ir.preprocessing import (
    NUMBERS,
    TEXTS,
    Bucketize,
    Cross,
    HashBucket,
    Impute,
    Member,
    NGrams,
    Normalize,
    Product,
    Rescale,
    feature_cross,
    polynomial_expand,
)
from gradbase.ir.relational import Project, Scan
from gradbase.ir.scalar import Column, Literal
from gradbase.ir.types import FLOAT64, INT64, TEXT, Schema, struct_of
from gradbase.ir.vocabulary import (
    LabelCode,
    MultiHotCode,
    OneHotCode,
    TermCounts,
    TermWeights,
    Vocabulary,
)
from gradbase.runtime.expressions import compile_scalar
from gradbase.runtime.preprocess.learn import Blobs, learned
from gradbase.runtime.preprocess.rows import StoredExamples, derive
from gradbase.runtime.train.rows import RowStore

TYPES = {"i": INT64, "x": FLOAT64, "t": TEXT, "w": TEXTS, "v": NUMBERS, "s": struct_of(p=INT64)}
I, X, T, W, V, S = (Column(n, of) for n, of in TYPES.items())
OTHERS = "abcdkn"
"""Columns that are only there: parameters in the SQL of functions must not be called like them."""
WORDS = Vocabulary(3, ("", "a", "it's ä"), (0.1, 0.2, 1 / 3, 0.7))
NONE = Vocabulary(0, (), (0.5,))
FUNCTIONS = (
    Rescale(X, 0.1, 0.3),
    Rescale(I, 1.0, 3.0, clipped=True),
    Rescale(Rescale(X, -7.0, 1e3), 0.1, 0.3, clipped=True),
    Bucketize(X, (-1.5, 0.0, 2.5), "bucket_ranges"),
    Bucketize(I, ()),
    Impute(X, Literal(0.7, FLOAT64)),
    Impute(T, Literal("q'", TEXT)),
    Impute(T, Literal(None, TEXT)),
    *(Normalize(V, p) for p in (0.0, 1.0, 2.0, math.inf)),
    Product((X, I, X)),
    Cross((T, T)),
    HashBucket(T, 0),
    HashBucket(T, 7),
    NGrams(W, 1, 3, "#"),
    NGrams(W, 2, 2),
    LabelCode(T, WORDS),
    LabelCode(T, NONE),
    OneHotCode(T, WORDS, 2),
    MultiHotCode(W, WORDS),
    TermCounts(W, WORDS),
    TermCounts(NGrams(W, 1, 2), NONE),
    TermWeights(W, WORDS),
    feature_cross(("a", "b"), (T, T), 2),
    polynomial_expand(("a", "b"), (X, I), 3),
    Member(S, "p"),
)

ENGINE = connect(":memory:")
NUMBER = st.one_of(st.floats(), st.sampled_from([0.0, -0.0, math.nan, 2.5, -1.5]))
TEXT_ = st.one_of(st.sampled_from(["", "a", "it's ä", "zebra"]), st.text(max_size=3))
ROW = st.fixed_dictionaries(
    {
        "i": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
        "x": st.one_of(st.none(), NUMBER),
        "t": st.one_of(st.none(), TEXT_),
        "w": st.one_of(st.none(), st.lists(st.one_of(st.none(), TEXT_), max_size=6)),
        "v": st.one_of(st.none(), st.lists(st.one_of(st.none(), NUMBER), max_size=12)),
        "s": st.one_of(st.none(), st.fixed_dictionaries({"p": st.integers(0, 9)})),
    }
)
ARROW = pa.schema(
    [
        ("i", pa.int64()), ("x", pa.float64()), ("t", pa.string()), ("w", pa.list_(pa.string())),
        ("v", pa.list_(pa.float64())), ("s", pa.struct([("p", pa.int64())])),
    ]
)  # fmt: skip


def bits(value):
    """A value that is equal only for the same bits."""
    match value:
        case float():
            return "nan" if math.isnan(value) else value.hex()
        case list():
            return [bits(v) for v in value]
        case dict():
            return {k: bits(v) for k, v in value.items()}
    return value


@given(st.lists(ROW, max_size=8))
@settings(max_examples=40, deadline=None)
def test_sql_and_program_give_the_same_bits(rows):
    """Every function, on messy rows: NULL, NaN, ±Inf, empty and unseen texts, arrays with NULLs."""
    table = pa.Table.from_pylist(rows, schema=ARROW)
    for name in OTHERS:
        table = table.append_column(name, pa.array(["?"] * len(rows), pa.string()))
    names = tuple(f"c{i}" for i in range(len(FUNCTIONS)))
    scan = Scan("messy", "", Schema.of(**TYPES, **dict.fromkeys(OTHERS, TEXT)))
    sql = ENGINE.compile(Project(scan, names, FUNCTIONS))
    expected = ENGINE.fetch(sql, views={"messy": table})
    (batch,) = table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]
    for name, function in zip(names, FUNCTIONS, strict=True):
        found = compile_scalar(function, {})(batch)
        assert found.type == expected.schema.field(name).type, function
        assert bits(found.to_pylist()) == bits(expected[name].to_pylist()), function


def test_a_slice_of_a_batch_is_computed_like_the_rows_alone():
    """Offsets of sliced Arrow arrays are not forgotten."""
    rows = [{"w": w, "v": v, "s": {"p": 1}} for w, v in [(["a"], [1.0]), (["", None], [2.0, 3.0])]]
    table = pa.Table.from_pylist(rows, schema=ARROW).combine_chunks()
    (batch,) = table.to_batches()
    for function in (TermCounts(W, WORDS), Normalize(V), NGrams(W, 1, 1), Member(S, "p")):
        compute = compile_scalar(function, {})
        assert compute(batch.slice(1)).to_pylist() == compute(batch).to_pylist()[1:]


# -- what is learnt ------------------------------------------------------------------------------

CONTEXT = types.SimpleNamespace(engine=ENGINE, parameters={}, check_cancelled=lambda: None)


def learn(function, values, *options, trains=None, of=None):
    """(what the function becomes, its values) for rows of one column `f`."""
    kinds = {"int64": INT64, "double": FLOAT64, "string": TEXT, "list<item: string>": TEXTS}
    column = pa.array(values, of)
    store = RowStore(1 << 30, lambda: None)
    store.append(pa.RecordBatch.from_arrays([column], ["f"]), 0, None)
    store.finish()
    arg = Column("f", kinds[str(column.type)])
    mask = None if trains is None else np.array(trains)
    blobs = Blobs()
    examples = StoredExamples(store, mask, CONTEXT, blobs)
    (found,) = learned((Derived("z", Analytic(function, arg, options)),), examples, blobs)
    made = RowStore(1 << 30, lambda: None)
    derive(store, [found], made, CONTEXT, blobs)
    return found.expr, [v for block in made.blocks() for v in block.rows.column(0).to_pylist()]


def test_scalers_agree_with_scikit_learn():
    """Apart from the sample deviation and quantiles by rank, which are BigQuery's."""
    from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler

    rng = np.random.default_rng(3)
    values = rng.normal(5, 20, 501)
    for function, scaler in (
        ("min_max_scaler", MinMaxScaler()),
        ("max_abs_scaler", MaxAbsScaler()),
    ):
        expected = scaler.fit_transform(values[:, None])[:, 0]
        np.testing.assert_allclose(learn(function, values)[1], expected, atol=1e-12)
    found = np.array(learn("standard_scaler", values)[1])
    np.testing.assert_allclose(found, (values - values.mean()) / values.std(ddof=1), rtol=1e-12)
    low, middle, high = (np.quantile(values, q, method="inverted_cdf") for q in (0.1, 0.5, 0.9))
    found = learn("robust_scaler", values, 10, 90, True, True)[1]
    np.testing.assert_allclose(found, (values - middle) / (high - low), rtol=1e-12)


def test_vectorised_counts_agree_with_scikit_learn():
    """Counts of terms, all words being frequent enough."""
    from sklearn.feature_extraction.text import CountVectorizer

    rng = np.random.default_rng(4)
    documents = [[f"w{i}" for i in rng.integers(0, 20, rng.integers(1, 9))] for _ in range(60)]
    counter = CountVectorizer(analyzer=lambda words: words)
    expected = counter.fit_transform(documents).toarray()
    _, found = learn("bag_of_words", documents, 100, 1)
    dense = np.zeros_like(expected)
    for row, pairs in enumerate(found):
        for pair in pairs:
            dense[row, pair["index"] - 1] = pair["value"]
    np.testing.assert_array_equal(dense, expected)


@pytest.mark.parametrize(
    ("function", "options"),
    [
        ("standard_scaler", ()),
        ("min_max_scaler", ()),
        ("robust_scaler", (25, 75, True, True)),
        ("quantile_bucketize", (4, "bucket_names")),
        ("imputer", ("mean",)),
    ],
)
def test_what_is_learnt_does_not_depend_on_the_order_of_rows(function, options):
    """The same bits whatever the order."""
    values = np.random.default_rng(5).normal(0, 1e3, 1000) ** 3
    first = learn(function, values, *options)[0]
    assert learn(function, values[::-1].copy(), *options)[0] is first


def test_only_training_rows_are_learnt_from():
    """Rows of other parts are computed, not looked at."""
    scalar, found = learn(
        "min_max_scaler", [0.0, 10.0, 99.0, -1.0], trains=[True, True, False, False]
    )
    assert (scalar.shift, scalar.scale) == (0.0, 10.0)
    assert found == [0.0, 1.0, 1.0, 0.0]
    words, codes = learn("label_encoder", ["a", "b", "c"], 9, 1, trains=[True, False, True])
    assert words.vocabulary.words == ("a", "c")
    assert codes == [1, 0, 2]


@pytest.mark.parametrize(
    ("function", "options", "values", "of", "expected"),
    [
        ("standard_scaler", (), [7.0, 7.0], None, [0.0, 0.0]),
        ("standard_scaler", (), [7.0], None, [0.0]),
        ("standard_scaler", (), [], pa.float64(), []),
        ("standard_scaler", (), [None, None], pa.float64(), [None, None]),
        ("min_max_scaler", (), [5, 5], None, [0.0, 0.0]),
        ("max_abs_scaler", (), [0, 0, None], None, [0.0, 0.0, None]),
        ("robust_scaler", (25, 75, True, True), [1, 1, 1, 9], None, [0.0, 0.0, 0.0, 8.0]),
        ("quantile_bucketize", (3, "bucket_names"), [1, 1, 1], None, ["bin_2"] * 3),
        ("imputer", ("most_frequent",), [2, 1, None, 2, 1], None, [2.0, 1.0, 1.0, 2.0, 1.0]),
        ("imputer", ("most_frequent",), ["b", "a", None], None, ["b", "a", "a"]),
        ("imputer", ("mean",), [None], pa.int64(), [None]),
        ("label_encoder", (9, 1), [None], pa.string(), [0]),
        ("label_encoder", (1, 1), ["b", "B", "ä", "b", "B"], None, [0, 1, 0, 0, 1]),
        ("tf_idf", (9, 5), [["a"], []], None, [[{"index": 0, "value": math.log(3)}], []]),
    ],
)
def test_odd_columns(function, options, values, of, expected):
    """One row, one value, ties, nothing at all."""
    assert learn(function, values, *options, of=of)[1] == expected


def test_infinite_numbers_cannot_be_learnt_from():
    """The row is named; rows that do not train may hold them."""
    with pytest.raises(DataError, match="`f` holds -inf in row 2"):
        learn("standard_scaler", [1.0, -math.inf])
    _, found = learn("min_max_scaler", [0.0, 1.0, math.inf], trains=[True, True, False])
    assert found == [0.0, 1.0, 1.0]


def test_long_vocabularies_are_blobs():
    """They are read back from there."""
    words = [f"w{i:04}" for i in range(1000)]
    scalar, codes = learn("label_encoder", words, 5000, 1)
    assert scalar.vocabulary.words == ()
    assert scalar.vocabulary.count == 1000
    assert codes == list(range(1, 1001))
