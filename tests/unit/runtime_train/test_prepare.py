"""From rows to training data: encodings by type, errors by name, independence of order."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
import torch
from training_tables import context_of, dataset_of, fit_of, make_table, prepared

from gradbase.errors import CancelledError, DataError, StoreError, UnsupportedError
from gradbase.ir.conversion import Category, Numeric, Vector
from gradbase.ir.learning import FusedFit, Split
from gradbase.ir.tensor import Const
from gradbase.runtime.train.features import embedding_width
from gradbase.runtime.train.prepare import prepare
from gradbase.runtime.train.sharded import ShardedData
from gradbase.runtime.train.trainer import make_trainer

ROWS = 200


def encodings(column, **options):
    table = pa.table({"x": column, "y": [f"c{i % 2}" for i in range(len(column))]})
    data = prepared(table, split=Split("none", 0, 0), **options)
    return data, [t.encoding for t in (*data.inputs.dense, *data.inputs.embedded)]


def test_numbers_are_standardised_with_an_indicator_where_some_are_missing():
    data, [encoding] = encodings(pa.array([1.0, 3.0, None, float("nan")] * 50))
    assert encoding == Numeric(2.0, 1.0, indicator=True)
    assert data.x[:4].tolist() == [[-1, 0, 1], [1, 0, 1], [0, 1, 1], [0, 1, 1]]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, 3] * 100, pa.int32()),
        pa.array([1, 3] * 100, pa.float32()),
        pa.array([Decimal("1.0"), Decimal("3.0")] * 100, pa.decimal128(9, 1)),
    ],
    ids=lambda c: str(c.type),
)
def test_every_kind_of_number(column):
    assert encodings(column)[1] == [Numeric(2.0, 1.0, indicator=False)]


def test_booleans_are_numbers():
    assert encodings(pa.array([True, False] * 100))[1] == [Numeric(0.5, 2.0, indicator=False)]


def test_few_categories_become_columns():
    data, [encoding] = encodings(pa.array(["b", "a", None, "c"] * 50))
    assert encoding == Category(("a", "b", "c"), 4)
    assert data.x[:4].tolist() == [
        [0, 1, 0, 0, 1],
        [1, 0, 0, 0, 1],
        [0, 0, 0, 1, 1],
        [0, 0, 1, 0, 1],
    ]
    assert data.codes is None


def test_many_categories_are_embedded():
    data, [encoding] = encodings(pa.array([f"v{i % 100:03}" for i in range(ROWS)]))
    assert encoding.codes == 101
    assert data.inputs.embeddings == ((101, embedding_width(101)),)
    assert data.codes[:3].tolist() == [[1], [2], [3]]
    assert data.x.shape == (ROWS, 1)


def test_without_embeddings_rare_categories_are_unknown_and_that_is_said():
    values = [f"v{i:04}" for i in range(400)] + ["v0000"] * 200
    data, [encoding] = encodings(pa.array(values), embeddings=False)
    assert len(encoding.vocabulary) == 255
    assert data.codes is None
    assert "400 distinct values; the 255 most frequent are known" in data.warnings[0]


def test_dates_become_parts_that_vary():
    days = [dt.date(2024, 1 + i % 3, 1 + i % 28) for i in range(ROWS)]
    parts = [e.part for e in encodings(pa.array(days))[1]]
    assert parts == ["epoch_s", "month", "day", "weekday"]
    times = pa.array([3_600_000_000 * (i % 24) for i in range(ROWS)], pa.timestamp("us"))
    assert [e.part for e in encodings(times)[1]] == ["epoch_s", "hour"]


def test_vectors_are_standardised_by_position():
    values = [[float(i % 2), 10.0 * (i % 2)] for i in range(ROWS)]
    data, [encoding] = encodings(pa.array(values, pa.list_(pa.float32(), 2)))
    assert encoding == Vector(
        2, Const((0.5, 5.0), (2,), "float64"), Const((2.0, 0.2), (2,), "float64")
    )
    assert data.x[:2].tolist() == [[-1, -1, 1], [1, 1, 1]]


def test_long_vectors_keep_their_statistics_with_the_model():
    values = np.random.default_rng(0).normal(size=(ROWS, 20))
    data, [encoding] = encodings(pa.array(values.tolist(), pa.list_(pa.float64(), 20)))
    assert set(data.inputs.params) == {encoding.mean.hash, encoding.scale.hash}
    assert np.allclose(data.x[:, :20].std(0), 1, atol=1e-5)


def test_a_column_without_values_is_left_out_and_that_is_said():
    table = make_table(50).append_column("empty", pa.nulls(50, pa.float64()))
    table = table.append_column("nothing", pa.nulls(50))
    data = prepared(table)
    assert {"empty", "nothing"}.isdisjoint(f.name for f in data.inputs.features)
    assert data.warnings == tuple(
        f"column `{n}` is NULL in all training rows and was left out" for n in ("empty", "nothing")
    )


def test_statistics_come_from_training_rows_only():
    table = make_table()
    data = prepared(table)
    b = table.column("b").to_numpy()
    encoding = next(t.encoding for t in data.inputs.dense if t.column == "b")
    assert encoding.mean == pytest.approx(b[data.parts.train].mean(), abs=1e-12)
    assert encoding.mean != pytest.approx(b.mean(), abs=1e-6)


def test_rows_without_a_label_are_left_out_and_counted():
    table = make_table(100)
    holes = pa.array([None if i % 4 == 0 else v for i, v in enumerate(table["y"].to_pylist())])
    with_holes = table.set_column(table.column_names.index("y"), "y", holes)
    data = prepared(with_holes)
    clean = prepared(with_holes.filter(holes.is_valid()))
    assert data.without_label == 25
    assert data.relation_hash == clean.relation_hash
    assert np.array_equal(data.x, clean.x)


LABELS = [
    (pa.array(["no", "yes"] * 25), "binary", ["no", "yes"]),
    (pa.array([True, False] * 25), "binary", [False, True]),
    (pa.array([10, 2] * 25), "binary", [2, 10]),
    (pa.array([2, 10, 3, 2, 1] * 10), "multiclass", [1, 2, 3, 10]),
    (pa.array(["b", "a", "é", "Z", "a"] * 10), "multiclass", ["Z", "a", "b", "é"]),
]


@pytest.mark.parametrize(("label", "task", "classes"), LABELS, ids=lambda v: str(v)[:20])
def test_classes_are_ascending_and_keep_their_type(label, task, classes):
    data = prepared(pa.table({"x": np.arange(50.0), "y": label}), task="multiclass")
    assert (data.task, [c.value for c in data.target.classes]) == (task, classes)
    values = np.array(label.to_pylist(), object)
    assert [classes[int(k)] for k in data.target.y] == values.tolist()


def test_class_weights_balance_the_training_rows():
    data = prepared(
        pa.table({"x": np.arange(40.0), "y": ["a", "b", "b", "b"] * 10}), split=Split("none", 0, 0)
    )
    assert data.target.balanced == pytest.approx((2.0, 2 / 3))


def test_regression_targets_are_standardised_and_undone():
    table = make_table().drop_columns(["y"])
    data = prepared(table, "value", "regression")
    assert data.target.y[data.parts.train].std() == pytest.approx(1)
    values = data.target.y * data.target.scale + data.target.mean
    assert np.allclose(values, table["value"].to_numpy())


def base(**columns):
    return pa.table({"x": [1.0, 2.0, 3.0, 4.0], "y": ["a", "b", "a", "b"]} | columns)


INFINITE = [1.0, 2.0, float("-inf"), 4.0]
BAD = [
    (base().slice(0, 0), {}, DataError, "returns no rows"),
    (base().slice(0, 1), {}, DataError, "one row with a label, at least two"),
    (base(y=pa.nulls(4, pa.string())), {}, DataError, "label `y` is NULL in all 4 rows"),
    (base(y=["a"] * 4), {}, DataError, "label `y` is constant: it is 'a' in all"),
    (base(y=[1.5] * 4), {"task": "regression"}, DataError, "label `y` is constant: it is 1.5"),
    (base(y=INFINITE), {"task": "regression"}, DataError, "label `y` is infinite in row 3"),
    (base(y=["a", "b", "c", "a"]), {}, DataError, "label `y` has 3 classes"),
    (base(x=INFINITE), {}, DataError, "column `x` holds -inf in row 3"),
    (base(x=INFINITE, y=[None, "b", "a", "b"]), {}, DataError, "column `x` holds -inf in row 3"),
    (base(x=[b"a"] * 4), {}, UnsupportedError, "column `x` of type blob cannot be a feature"),
    (base(x=pa.nulls(4, pa.float64())), {}, DataError, "no column is left to learn from"),
    (base(y=[b"a", b"b"] * 2), {}, DataError, "label `y` holds bytes values"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "options", "kind", "text"), BAD, ids=[b[3][:30] for b in BAD])
def test_rows_that_cannot_be_used(table, options, kind, text):
    with pytest.raises(kind, match=text):
        prepared(table, split=Split("none", 0, 0), **options)


def test_too_many_classes():
    table = pa.table({"x": np.arange(3000.0), "y": np.arange(3000) % 1001})
    with pytest.raises(DataError, match=r"1,001 distinct values, at most 1,000 classes"):
        prepared(table, task="multiclass")


def weights_after_training(table, **options):
    data = prepared(table, **options)
    node = dataset_of(
        table, **{k: v for k, v in options.items() if k in ("label", "task", "row_key", "seed")}
    )
    trainer = make_trainer(FusedFit((fit_of(node), fit_of(node, 2, learn_rate=0.02))), data)
    for shard in range(len(data.shards)):
        trainer.run_unit(0, shard)
    return trainer.state(0)["weights"], data


@pytest.mark.parametrize("row_key", [(), ("id",)], ids=["content", "key"])
def test_nothing_depends_on_physical_order_batches_or_memory(row_key):
    """With duplicates, without a key: the same weights, bit for bit, and the same relation hash."""
    table = make_table(200).drop_columns(["value"])
    table = pa.concat_tables([table, table.slice(0, 60), table.slice(0, 20)])
    if row_key:
        table = table.append_column("id", pa.array(range(280)))
    weights, data = weights_after_training(table, row_key=row_key)
    order = np.random.default_rng(4).permutation(280)
    for options in ({"batch_rows": 7}, {"batch_rows": 1000}, {"memory_bytes": 20_000}):
        again, other = weights_after_training(table.take(order), row_key=row_key, **options)
        assert torch.equal(weights, again)
        assert data.relation_hash == other.relation_hash
        other.close()


def test_other_rows_or_seeds_give_other_weights():
    table = make_table(200).drop_columns(["value"])
    weights, data = weights_after_training(table)
    other, changed = weights_after_training(table.slice(1))
    assert not torch.equal(weights, other)
    assert data.relation_hash != changed.relation_hash
    assert not torch.equal(weights, weights_after_training(table, seed=8)[0])


def test_spilled_rows_leave_no_file_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data = prepared(make_table(), memory_bytes=20_000)
    assert list(tmp_path.iterdir())
    assert isinstance(data, ShardedData)
    data.close()
    assert not list(tmp_path.iterdir())


def test_files_are_removed_after_a_failure_too(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    table = make_table().append_column("z", pa.array([1.0] * 299 + [float("inf")]))
    with pytest.raises(DataError, match="column `z` holds inf in row 300"):
        prepared(table, memory_bytes=20_000)
    assert not list(tmp_path.iterdir())


def test_memory_is_leased_until_closed():
    table = make_table()
    context = context_of(table)
    data = prepare(dataset_of(table), context)
    assert (
        sum(lease.size_bytes for lease in context.broker.leases())
        == data.x.nbytes + data.codes.nbytes
    )
    data.close()
    assert not context.broker.leases()


def test_reading_can_be_cancelled():
    table = make_table()
    context = context_of(table)
    context.cancelled.set()
    with pytest.raises(CancelledError):
        prepare(dataset_of(table), context)


def test_a_full_disk_is_said(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.write", full)
    with pytest.raises(StoreError, match="do not fit into memory and could not be written to"):
        prepared(make_table(), memory_bytes=20_000)
