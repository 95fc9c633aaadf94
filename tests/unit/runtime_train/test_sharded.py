"""Rows in files give the batches that rows in memory give."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import gradbase as gb
from gradbase.errors import StoreError
from gradbase.runtime.train import prepare
from gradbase.runtime.train.sharded import MANIFEST, ShardedData, open_shards, write_shards
from gradbase.runtime.train.spill import MappedFile


@pytest.fixture
def dealt(monkeypatch):
    """The rows of a search as they were dealt out, open until the test ends."""
    found = []
    deal = prepare.Preparation.deal
    monkeypatch.setattr(prepare.TrainingData, "close", lambda _self: None)
    monkeypatch.setattr(
        prepare.Preparation, "deal", lambda self, d: found.append(deal(self, d)) or found[-1]
    )
    return found


def data_of(dealt, rows=700, limit="", **options):
    with gb.connect(":memory:", progress=False) as db:
        db.sql(
            "CREATE TABLE t AS SELECT sin(i) AS a, 'k' || i % 90 AS c, i % 3 + 1.0 AS w, "
            f"sin(i) > 0 AS y FROM range({rows}) r(i)"
        )
        if limit:
            db.sql(f"SET gradbase.memory_limit = '{limit}'")
        db.table("t").fit(gb.mlp(hidden=[2]), target="y", name="m", epochs=1, shards=3, **options)
    return dealt[-1]


def same(one, two):
    pairs = list(zip(one, two, strict=True))
    return pairs and all(
        (p is None and q is None) or torch.equal(p, q)
        for a, b in pairs for p, q in zip(a, b, strict=True)
    )  # fmt: skip


@pytest.mark.parametrize("cache_bytes", [1 << 30, 0], ids=["whole shards", "batch by batch"])
@pytest.mark.parametrize("options", [{"weight_column": "w"}, {"split": "no_split"}], ids=str)
def test_batches_and_parts_are_the_same(dealt, tmp_path, cache_bytes, options):
    data = data_of(dealt, **options)
    size = write_shards(data, tmp_path / "s")
    opened = open_shards(tmp_path / "s", cache_bytes)
    assert size > data.x.nbytes
    for epoch in range(2):
        for shard in range(3):
            assert same(data.batches(epoch, shard, 16), opened.batches(epoch, shard, 16))
    part = "eval" if data.has("eval") else "train"
    assert opened.has("eval") == data.has("eval")
    assert same(data.evaluation(part), opened.evaluation(part))
    assert np.array_equal(data.labels(part), opened.labels(part))
    assert (opened.inputs.width, opened.inputs.embeddings) == (
        data.inputs.width, data.inputs.embeddings
    )  # fmt: skip
    assert opened.class_weights is not None
    assert opened.relation_hash == data.relation_hash


def test_rows_that_do_not_fit_give_the_same_batches(dealt, monkeypatch):
    whole = data_of(dealt)
    monkeypatch.setattr(prepare.Preparation, "free_bytes", lambda _self: 1_000)
    mapped = data_of(dealt)
    assert isinstance(mapped, ShardedData)
    assert not isinstance(whole, ShardedData)
    assert same(whole.batches(1, 0, 16), mapped.batches(1, 0, 16))


@pytest.mark.parametrize(
    ("file", "text"), [(MANIFEST, '{"format": 0}'), ("shard-0.arrow", "no arrow"), (MANIFEST, "{")]
)
def test_damaged_shards_are_said(dealt, tmp_path, file, text):
    write_shards(data_of(dealt), tmp_path / "s")
    (tmp_path / "s" / file).write_text(text)
    with pytest.raises(StoreError, match="cannot be read"):
        open_shards(tmp_path / "s", 0)
    with pytest.raises(StoreError, match="could not be written"):
        write_shards(dealt[-1], tmp_path / "s")


def test_a_mapped_file_reads_rows_anywhere(tmp_path):
    array = np.arange(60, dtype="<f4").reshape(20, 3)
    (tmp_path / "f").write_bytes(bytes(8) + array.tobytes())
    file = MappedFile(tmp_path / "f")
    out = np.empty((3, 3), "<f4")
    file.read_rows(out, np.array([19, 0, 7]), 8)
    file.release()
    assert np.array_equal(out, array[[19, 0, 7]])
    assert np.array_equal(file.array("<f4", (20, 3), 8), array)
