"""Databases that cannot be written, opened or read as they should: what to do is said."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import gradbase as gb
import shop
from gradbase.errors import BindError, EngineError, StoreError

PREDICT = "SELECT count(*) FROM customers WHERE PREDICT_PROBA(churn, *) <= 1"
FRESH = PREDICT.replace("churn", "fresh")
HERE = Path(__file__).parent


def child(code, *args):
    """A Python process in this folder's company, running."""
    command = [sys.executable, "-W", "error", "-u", "-c", code, *map(str, args)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=HERE.parent, env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


# -- read-only ---------------------------------------------------------------------------------


@pytest.mark.parametrize("statement", [shop.create_model("m"), "DROP MODEL churn"])
def test_read_only_refuses_before_doing_anything(own_shop, statement):
    before = sorted(own_shop.parent.rglob("*"))
    with gb.connect(str(own_shop), read_only=True, progress=False) as db:
        with pytest.raises(
            StoreError, match=r"(?s)open read-only: models cannot be .*read_only=True"
        ):
            db.sql(statement)
        assert db.sql(PREDICT).fetchall() == [(shop.ROWS,)]
        assert len(db.sql("SHOW MODELS").fetchall()) == 4
        assert db.model("spend").predict("customers").shape == (shop.ROWS,)
    assert sorted(own_shop.parent.rglob("*")) == before


def test_read_only_needs_a_file(tmp_path):
    with pytest.raises(StoreError, match="check the path"):
        gb.connect(str(tmp_path / "none.duckdb"), read_only=True)
    with pytest.raises(StoreError, match="name a file"):
        gb.connect(read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_read_only_of_a_database_without_models(tmp_path):
    path = str(tmp_path / "plain.duckdb")
    with gb.connect(path) as db:
        db.sql("CREATE TABLE t AS SELECT 1 AS a")
    with gb.connect(path, read_only=True) as db:
        assert db.sql("SHOW MODELS").fetchall() == []
        with pytest.raises(BindError, match="no model `m`"):
            db.sql("SELECT PREDICT(m, *) FROM t")
    assert [p.name for p in tmp_path.iterdir()] == ["plain.duckdb"]


# -- locked ------------------------------------------------------------------------------------

HOLD = "import sys, gradbase; db = gradbase.connect(sys.argv[1]); print('open'); sys.stdin.read()"


def test_locked_by_another_process(own_shop):
    holder = child(HOLD, own_shop)
    try:
        assert holder.stdout.readline() == "open\n"
        for read_only in (False, True):
            with pytest.raises(StoreError, match=r"(?s)lock.*close the other program"):
                gb.connect(str(own_shop), read_only=read_only)
    finally:
        holder.communicate("")
    with gb.connect(str(own_shop)) as db:
        assert db.sql(PREDICT).fetchall() == [(shop.ROWS,)]


def test_open_the_other_way_in_this_process(own_shop):
    with gb.connect(str(own_shop)), pytest.raises(StoreError, match="open both the same way"):
        gb.connect(str(own_shop), read_only=True)


# -- what is no database of ours ---------------------------------------------------------------


def test_files_that_are_no_database(tmp_path):
    (tmp_path / "note.duckdb").write_text("dear diary " * 1000)
    with pytest.raises(StoreError, match=r"(?i)not a valid duckdb database"):
        gb.connect(str(tmp_path / "note.duckdb"))
    with pytest.raises(StoreError, match="the folder must exist"):
        gb.connect(str(tmp_path / "no" / "such" / "folder.duckdb"))
    with pytest.raises(StoreError, match="the connection to the server is lost or cannot be made"):
        gb.connect("postgresql://localhost:1/shop")
    with pytest.raises(BindError, match="did you mean `duckdb`"):
        gb.connect("duckbd://shop")


# -- blobs -------------------------------------------------------------------------------------


@pytest.fixture
def blobs(own_shop):
    """The files with the models' weights, of which model `fresh` was never used in this process."""
    with gb.connect(str(own_shop), progress=False) as db:
        db.sql(shop.create_model("fresh", seed=99))
    folder = own_shop.with_name(own_shop.name + ".gradbase") / "blobs"
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert files
    return files


def test_corrupted_blob_names_its_model(own_shop, blobs):
    for path in blobs:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0x10
        path.write_bytes(data)
    with gb.connect(str(own_shop), progress=False) as db:
        with pytest.raises(StoreError, match=r"(?s)is damaged: .*`fresh@1` trial.*gradbase fsck"):
            db.sql(FRESH).fetchall()
        with pytest.raises(StoreError, match="is damaged"):
            db.model("fresh").predict("customers")
        report = db.fsck()
        assert not report.ok
        db.fsck(repair=True)
        assert db.fsck().ok
        with pytest.raises(BindError, match=r"trial \d of model `fresh` cannot be used: FAILED"):
            db.sql(FRESH).fetchall()
        db.sql(shop.create_model("fresh", verb="CREATE OR REPLACE MODEL"))
        assert db.sql(FRESH).fetchall() == [(shop.ROWS,)]
        assert db.fsck().ok


def test_missing_blob_and_missing_folder(own_shop, blobs):
    for path in blobs:
        path.unlink()
    with gb.connect(str(own_shop)) as db, pytest.raises(StoreError, match="is missing in"):
        db.sql(FRESH).fetchall()
    shutil.rmtree(own_shop.with_name(own_shop.name + ".gradbase"))
    with gb.connect(str(own_shop)) as db, pytest.raises(StoreError, match="copied without it"):
        db.sql(FRESH).fetchall()


# -- a full disk -------------------------------------------------------------------------------

FULL = """
import resource, sys, shop, gradbase as gb
from gradbase.errors import StoreError
with gb.connect(sys.argv[1], progress=False) as db:
    small = shop.create_model("small", max_epochs=1)
    shop.load(db)
    db.sql("CHECKPOINT")
    db.sql(small)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
    if sys.argv[3]:
        db.sql(f"SET gradbase.memory_limit = '{sys.argv[3]}'")
    try:
        db.sql(shop.create_model("large", sys.argv[4], hidden_units=[700, 700], max_epochs=1))
    except StoreError as error:
        print(error)
    print(db.store.names(), db.fsck().ok, shop.leftovers(db))
    print(db.sql("SELECT count(PREDICT(small, *)) FROM customers").fetchall())
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    db.sql("RESET gradbase.memory_limit")
    db.sql(shop.create_model("large", hidden_units=[700, 700], max_epochs=1))
    print(db.store.names())
"""
MANY = "SELECT c.* EXCLUDE (plan, spent), r.i FROM customers c, range(500) r(i)"
CASES = {
    "weights": (900_000, "", shop.rows_for("churned"), "the disk is full"),
    "spill": (2_000_000, "40MB", MANY, "could not be written"),
}


@pytest.mark.parametrize("case", CASES)
def test_full_disk_leaves_what_was_there(tmp_path, case):
    """A process that may write no large file gets a StoreError; with room it goes on."""
    *arguments, expected = CASES[case]
    done = child(FULL, tmp_path / "shop.duckdb", *arguments)
    out, err = done.communicate(timeout=120)
    assert done.returncode == 0, err
    assert expected in out
    assert "hint: " in out
    assert "('small',) True []" in out
    assert f"[({shop.ROWS},)]" in out
    assert "('large', 'small')" in out


# -- closed ------------------------------------------------------------------------------------


def test_closed_session(tmp_path):
    db = gb.connect(str(tmp_path / "c.duckdb"), progress=False)
    shop.load(db)
    lazy = db.sql("SELECT * FROM customers")
    db.close()
    db.close()
    for statement in (
        "SELECT 1",
        "SHOW MODELS",
        shop.create_model("m"),
        "SELECT PREDICT(m, *) FROM t",
    ):
        with pytest.raises(StoreError, match=r"(?s)closed.*connect again"):
            db.sql(statement)
    for use in (lambda: db.model("m"), lambda: db.study("m"), lambda: db.table("customers").columns,
                lazy.fetchall, lambda: db.explain("SELECT 1"), db.fsck,
                lambda: db.register("x", shop.customers(2)), lambda: db.table("customers").df()):  # fmt: skip
        with pytest.raises(StoreError, match=r"(?s)closed.*connect again"):
            use()


def test_native_errors_are_the_engine_s_own(db):
    with pytest.raises(EngineError, match=r"(?s)custmers.*customers") as error:
        db.sql("SELECT * FROM custmers").fetchall()
    assert type(error.value.__cause__).__module__.startswith(("duckdb", "_duckdb"))
