"""Rows that do not fit into memory are told apart, dealt out and put in order as in memory."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from training_tables import make_table, prepared

from gradbase.errors import DataError
from gradbase.ir.learning import Split
from gradbase.runtime.train import on_disk, ordered, prepare, ranks, sharded, spill
from gradbase.runtime.train.identity import identities
from gradbase.runtime.train.reading import Hashes
from gradbase.runtime.train.sharded import ShardedData


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Several buckets, chunks and passes for a few rows."""
    monkeypatch.setattr(prepare, "LEAST_PART", 2_000)
    monkeypatch.setattr(sharded, "_LEAST_PART", 1_000)
    monkeypatch.setattr(ordered, "_CHUNK_ROWS", 50)
    monkeypatch.setattr(on_disk, "CHUNK_ROWS", 64)
    monkeypatch.setattr(ranks, "FEW", 8)


def table_of(rows=300):
    """Rows of which many are equal; the first column has ties, the label is NULL in some."""
    table = make_table(rows)
    table = pa.concat_tables([table, table.slice(0, 90), table.slice(0, 40), table.slice(10, 1)])
    count, some = table.num_rows, np.random.default_rng(1)
    part = some.choice(["train", "eval", "TEST"], count, p=[0.6, 0.3, 0.1])
    columns = {
        "day": pa.array(np.where(some.random(count) < 0.1, np.nan, some.integers(0, 9, count))),
        "name": pa.array([f"n{i % 13}" if i % 7 else None for i in range(count)]),
        "part": pa.array(part), "late": pa.array(some.random(count) < 0.3),
        "w": pa.array(some.random(count)), "key": pa.array(some.integers(0, 150, count)),
    }  # fmt: skip
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table


CASES = {
    "random": {"split": Split("random", 0.2, 0.1)},
    "nothing held out": {"split": Split("none", 0.0, 0.0)},
    "by a number": {"split": Split("seq", 0.2, 0.1, "day")},
    "by a text": {"split": Split("seq", 0.2, 0.1, "name")},
    "by name": {"split": Split("custom", 0.0, 0.0, "part")},
    "by a boolean": {"split": Split("custom", 0.0, 0.0, "late")},
    "a fold": {"split": Split("k_fold", 0.0, 0.0, folds=3, fold=2)},
    "weights, a key that is not unique": {"weight": "w", "row_key": ("key",)},
    "many shards": {"shards": 7},
}


def everything(data):
    """All batches of two epochs and of the parts that are evaluated."""
    batches = [b for e in range(2) for s in range(len(data.shards)) for b in data.batches(e, s, 16)]
    parts = ("eval", "test") if data.has("eval") else ("train",)
    labels = [torch.from_numpy(np.array(data.labels(part))) for part in parts]
    held = [b for part in parts for b in data.evaluation(part)]
    return [t for b in (*batches, *held) for t in b if t is not None] + labels


@pytest.mark.parametrize("narrow", [2_048, 0], ids=["rows again", "places"])
@pytest.mark.parametrize("case", CASES)
def test_everything_is_as_in_memory(monkeypatch, case, narrow):
    monkeypatch.setattr(ordered, "_NARROW_BYTES", narrow)
    table = table_of()
    whole = prepared(table, **CASES[case])
    order = np.random.default_rng(2).permutation(table.num_rows)
    filed = prepared(table.take(order), memory_bytes=20_000, batch_rows=70, **CASES[case])
    assert isinstance(filed, ShardedData)
    assert not isinstance(whole, ShardedData)
    pairs = list(zip(everything(whole), everything(filed), strict=True))
    assert pairs
    assert all(torch.equal(a, b) for a, b in pairs)
    assert filed.inputs == whole.inputs
    assert filed.summaries == whole.summaries
    assert filed.relation_hash == whole.relation_hash
    assert [len(p) for p in filed.shards] == [len(p) for p in whole.shards]
    target, other = filed.target, whole.target
    assert (target.classes, target.balanced) == (other.classes, other.balanced)
    filed.close()


@pytest.mark.parametrize("of", ["content", "key"])
def test_rows_that_are_equal_are_counted(tmp_path, of):
    """Also so many of them that a bucket does not fit."""
    draws = np.random.default_rng(3)
    words = draws.integers(0, 2**63, (40, 2)).astype(np.uint64)
    key = words[np.minimum(draws.geometric(0.3, 900), 40) - 1]
    content = key if of == "content" else words[draws.integers(0, 40, 900)]
    spools = [spill.Spool(np.uint64, 2) for _ in range(2)]
    for spool, rows in zip(spools, (key, content), strict=True):
        for start in range(0, 900, 130):
            spool.append(rows[start : start + 130])
        spool.spill(tmp_path)
    hashes = Hashes(spools[0], spools[0] if of == "content" else spools[1])
    expected, _ = identities(key, key if of == "content" else content)
    found = on_disk.identified(hashes, tmp_path, 500)
    assert np.array_equal(found.whole(), expected)
    assert not list(tmp_path.iterdir())


NUMBERS = {
    "floats": np.array([3.5, -0.0, 0.0, -2.0, 1e300, -1e-300, 7.0] * 9),
    "integers": np.array([5, -3, 2**62, -(2**62), 0] * 7),
    "large": np.array([2**64 - 1, 2**63, 1], np.uint64),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_a_rank_is_that_of_sorting(kind):
    values = NUMBERS[kind]
    ordered_ = np.sort(values.astype(np.float64) + 0.0 if kind == "floats" else values)
    words = ranks.ascending(values)
    for rank in range(len(values)):
        found = ranks.of_rank(lambda: iter([words[:4, None], words[4:, None]]), rank)
        assert found[0] == ranks.ascending(ordered_)[rank]
        if kind == "floats":
            assert ranks.numbers_of(found)[0] == ordered_[rank]


def test_errors_name_what_is_wrong_as_in_memory():
    table = table_of(200).drop_columns(["y"])
    label = pa.array([1.0] * (table.num_rows - 1) + [float("inf")])
    with pytest.raises(DataError, match=rf"infinite in row {table.num_rows}"):
        prepared(table.append_column("y", label), task="regression", memory_bytes=20_000)
    with pytest.raises(DataError, match=r"none of the .* rows is left"):
        prepared(table_of(), memory_bytes=20_000, split=Split("random", 1.0, 0.0))
