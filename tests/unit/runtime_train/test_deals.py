"""One reading, dealt out for every fold: each learns from its own training rows alone."""

from __future__ import annotations

import threading

import numpy as np
import pyarrow as pa
import pytest
from training_tables import context_of, dataset_of, make_table

from gradbase.errors import DataError
from gradbase.ir.learning import ClassWeight, Split
from gradbase.runtime.train.prepare import Preparation
from gradbase.selection.deals import Deals
from gradbase.selection.folds import on_all_rows

FOLDS = 4


def fold(number, folds=FOLDS):
    return Split("k_fold", 0.0, 0.0, folds=folds, fold=number)


def dealt(table, *folds, **options):
    nodes = [dataset_of(table, split=fold(f), **options) for f in folds]
    context = context_of(table)
    preparation = Preparation(nodes[0], context)
    try:
        return [preparation.deal(n) for n in nodes]
    finally:
        preparation.close()


@pytest.fixture(scope="module")
def table():
    return make_table(203).drop_columns(["value"])


def test_every_row_evaluates_once_and_trains_in_the_other_folds(table):
    parts = [d.parts for d in dealt(table, *range(1, FOLDS + 1))]
    assert sorted(np.concatenate([p.eval for p in parts]).tolist()) == list(range(203))
    for part in parts:
        assert len(part.eval) in (50, 51)
        assert sorted([*part.eval, *part.train]) == list(range(203))
        assert not len(part.test)


def test_fold_zero_trains_on_everything(table):
    (whole,) = dealt(table, 0)
    assert (len(whole.parts.train), whole.has("eval")) == (203, False)


def test_folds_follow_the_rows_not_their_places(table):
    shuffled = table.take(np.random.default_rng(3).permutation(203))
    one, other = (
        t.take(pa.array(dealt(t, 2)[0].parts.eval)).to_pylist() for t in (table, shuffled)
    )
    assert one == other
    assert one != table.take(pa.array(dealt(table, 2, seed=8)[0].parts.eval)).to_pylist()


def test_statistics_vocabulary_and_weights_are_of_the_folds_own_training_rows(table):
    """Nothing that is learnt has seen the rows that evaluate."""
    weighted = table.append_column("w", pa.array(np.arange(203.0)))
    for data in dealt(weighted, 1, 2, 3, 4, weight="w"):
        train = weighted.take(pa.array(data.parts.train))
        encodings = {t.column: t.encoding for t in (*data.inputs.dense, *data.inputs.embedded)}
        assert encodings["b"].mean == pytest.approx(np.mean(train["b"].to_numpy()), abs=1e-12)
        assert set(encodings["code"].vocabulary) == set(train["code"].to_pylist())
        assert data.weights[data.parts.train].mean() == pytest.approx(1)
        share = np.mean(np.array(train["y"].to_pylist()) == "class0")
        assert data.target.balanced[0] == pytest.approx(1 / (2 * share))


def test_a_regression_is_standardised_by_the_folds_own_training_rows():
    table = make_table(120).drop_columns(["y"])
    for data in dealt(table, 1, 2, label="value", task="regression"):
        train = table.take(pa.array(data.parts.train))["value"].to_numpy()
        assert data.target.mean == pytest.approx(train.mean(), abs=1e-12)


def test_more_folds_than_rows_are_refused(table):
    with pytest.raises(
        DataError, match="4 folds need at least as many rows with a label, there are 3"
    ):
        dealt(table.slice(0, 3), 1)


def test_a_fold_that_leaves_one_class_says_which():
    rows = pa.table({"x": np.arange(6.0), "y": ["a", "b", "b", "b", "b", "b"]})
    with pytest.raises(
        DataError, match=r"without fold \d of 4: label `y` is constant(.|\n)*lower num_folds"
    ):
        dealt(rows, 1, 2, 3, 4)


def test_class_weights_fit_all_classes_even_where_a_fold_lacks_one(table):
    weights = (ClassWeight("class0", 1.0), ClassWeight("class1", 2.0))
    for data in dealt(table, 1, 2, class_weights=weights):
        assert data.target.class_weights == (1.0, 2.0)


# -- who holds them ------------------------------------------------------------------------------


def test_rows_are_freed_after_their_last_use(table):
    """A fold when its last group has ended, what was read when the last dataset is dealt."""
    context = context_of(table)
    first, second = (dataset_of(table, split=fold(f, 2)) for f in (1, 2))
    whole = on_all_rows(first)
    preparation = Preparation(first, context)
    deals = Deals(preparation, [first, second, whole])
    deals.expect([first, first, second, whole])
    purposes = lambda: len(context.broker.leases())  # noqa: E731
    one = deals.take(first)
    assert deals.take(first) is one
    deals.give_back(first)
    assert purposes() == 1
    deals.give_back(first)
    assert purposes() == 0
    deals.take(second)
    closed = []
    preparation.rows.store.close = lambda: closed.append(True)
    deals.take(whole)
    assert closed
    deals.close()
    assert purposes() == 0


def test_several_threads_get_the_same_rows(table):
    node = dataset_of(table, split=fold(1))
    deals = Deals(Preparation(node, context_of(table)), [node] * 4)
    found = []
    threads = [threading.Thread(target=lambda: found.append(deals.take(node))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    deals.close()
