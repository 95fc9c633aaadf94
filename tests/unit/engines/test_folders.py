"""Folders of data files as databases."""

from __future__ import annotations

import gzip
import shutil

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gradbase as gb
from gradbase.errors import DataError, EngineError, StoreError

ROWS = pa.table({"a": [1.0, 2.0, 3.0, 4.0] * 20, "y": ["x", "y"] * 40})
FIT = "CREATE MODEL m OPTIONS (model_type = 'logistic_reg', input_label_cols = ['y'], max_epochs = 1) AS "


@pytest.fixture
def folder(tmp_path):
    """Files of all kinds, with odd names."""
    folder = tmp_path / "o'hare [data]"
    (folder / "parts" / "year=2024").mkdir(parents=True)
    (folder / "mixed").mkdir()
    pq.write_table(ROWS, folder / "customers.parquet")
    pq.write_table(ROWS.select(["a"]), folder / "parts" / "year=2024" / "1.parquet")
    pq.write_table(ROWS, folder / "parts" / "2.parquet")
    pq.write_table(ROWS, folder / "mixed" / "1.parquet")
    (folder / "mixed" / "2.csv").write_text("a\n1\n")
    (folder / 'we[i]rd "n*me.tsv').write_text("a\tb\n1\t2\n")
    (folder / "lines.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
    (folder / "packed.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n3,4\n5,6\n"))
    (folder / "notes.txt").write_text("dear diary")
    return folder


def open_folder(folder, **options):
    return gb.connect(str(folder), progress=False, **options)


def tables(db):
    return [name for (name,) in db.sql("SHOW TABLES").fetchall()]


def test_files_and_folders_are_tables(folder):
    with open_folder(folder) as db:
        counts = {t: db.sql(f'SELECT * FROM "{t.replace(chr(34), chr(34) * 2)}"').arrow().num_rows
                  for t in tables(db)}  # fmt: skip
    assert counts == {
        "customers": 80, "lines": 2, "packed": 3, "parts": 160, 'we[i]rd "n*me': 1,
    }  # fmt: skip


def test_models_of_a_folder_are_kept_and_move_with_it(folder, tmp_path):
    with open_folder(folder) as db:
        db.sql(FIT + "SELECT * FROM customers")
        before = db.sql("SELECT PREDICT_PROBA(m, *) FROM customers").fetchall()
    moved = shutil.move(folder, tmp_path / "moved")
    with open_folder(moved) as db:
        assert db.sql("SELECT PREDICT_PROBA(m, *) FROM customers").fetchall() == before
        assert gb.runs(moved)[0].model == "m"


def test_files_come_and_go_and_tables_of_ones_own_stay(folder):
    with open_folder(folder) as db:
        db.sql("CREATE TABLE later AS SELECT 1 AS mine")
    (folder / "lines.jsonl").unlink()
    (folder / "later.csv").write_text("a\n1\n")
    (folder / "new.csv").write_text("a\n1\n")
    with open_folder(folder) as db:
        assert {"later", "new"} <= set(tables(db))
        assert "lines" not in tables(db)
        assert db.sql("SELECT * FROM later").df().columns.tolist() == ["mine"]


def test_names_that_two_files_would_share_keep_their_endings(folder):
    pq.write_table(ROWS, folder / "Customers.csv.parquet")
    (folder / "customers.csv").write_text("a\n1\n")
    with open_folder(folder) as db:
        assert {"Customers.csv.parquet", "customers.csv", "customers.parquet"} <= set(tables(db))
        assert "customers" not in tables(db)


def test_a_damaged_file_is_said_when_it_is_read(folder):
    (folder / "bad.parquet").write_bytes(b"PAR1")
    with open_folder(folder) as db:
        assert db.table("customers").arrow().num_rows == 80
        for query in ("FROM bad", "SELECT count(*) FROM bad", "SELECT minutes FROM bad"):
            with pytest.raises(EngineError, match="the file of table bad cannot be read"):
                db.sql(query).fetchall()


def test_a_file_with_uneven_rows_is_not_a_table_of_one_column(folder):
    """DuckDB would take the whole header for a name."""
    (folder / "uneven.csv").write_text("a,b\n1,2\n3,4\nx,y,z,5\n6,7\n" * 30)
    (folder / "marked.csv").write_text("a;b\n1;2\n")
    (folder / "single.csv").write_text("a\n1\n")
    with open_folder(folder) as db:
        assert db.sql("FROM marked").fetchall() == [(1, 2)]
        assert db.sql("FROM single").fetchall() == [(1,)]
        with pytest.raises(EngineError, match="table uneven cannot be read"):
            db.sql("SELECT a FROM uneven").fetchall()


def test_files_of_other_columns_and_types_are_one_table(folder):
    """Columns by name, NULL where a file has none, types that hold all."""
    parts = folder / "changed" / "region=u's a"
    parts.mkdir(parents=True)
    pq.write_table(pa.table({"a": [1, 2], "b": ["x", "y"]}), parts / "1.parquet")
    pq.write_table(pa.table({"a": [0.5], "c": [True]}), parts / "2.parquet")
    with open_folder(folder) as db:
        rows = db.sql("SELECT a, b, c FROM changed WHERE region = 'u''s a' ORDER BY a").fetchall()
    assert rows == [(0.5, None, True), (1.0, "x", None), (2.0, "y", None)]


def test_reading_only_needs_a_catalog(folder):
    with pytest.raises(StoreError, match="was never opened"):
        open_folder(folder, read_only=True)
    assert not (folder / ".gradbase").exists()
    open_folder(folder).close()
    with open_folder(folder, read_only=True) as db:
        assert db.table("customers").arrow().num_rows == 80


# -- rows in memory ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["arrow", "pandas", "polars", "relation"])
def test_rows_in_memory_are_a_table(form):
    rows = {
        "arrow": lambda: ROWS,
        "pandas": ROWS.to_pandas,
        "polars": lambda: __import__("polars").from_arrow(ROWS),
        "relation": lambda: duckdb.from_arrow(ROWS),
    }[form]()
    with gb.connect(progress=False) as db:
        study = db.table(rows).fit(gb.mlp(hidden=[2]), target="y", name="m", epochs=1)
        assert len(study.best.predict(rows)) == 80
        assert db.table(rows).result().fetchall()[0] == (1.0, "x")


def test_views_of_rows_are_forgotten_with_their_table():
    with gb.connect(progress=False) as db:
        for _ in range(5):
            db.table(ROWS).arrow()
        kept = db.table(ROWS)
        views = "SELECT count(*) FROM duckdb_views() WHERE view_name LIKE '__gradbase_rows%'"
        assert db.sql(views).fetchall()[0][0] <= 2
        assert kept.arrow().num_rows == 80


@pytest.mark.parametrize("rows", [3, None, [1], {"a": [1]}])
def test_what_is_no_table_is_refused(rows):
    with gb.connect(progress=False) as db:
        with pytest.raises(DataError, match=f"given as {type(rows).__name__}; expected an Arrow"):
            db.table(rows)
        with pytest.raises(DataError, match="expected an Arrow"):
            db.register("t", rows)


# -- attached databases ------------------------------------------------------------------------


def test_models_of_rows_in_an_attached_database(tmp_path):
    with duckdb.connect(str(tmp_path / "other.duckdb")) as other:
        other.register("given", ROWS)
        other.sql("CREATE SCHEMA s; CREATE TABLE s.t AS SELECT * FROM given")
    with gb.connect(str(tmp_path / "own.duckdb"), progress=False) as db:
        db.sql(f"ATTACH '{tmp_path / 'other.duckdb'}' AS other (READ_ONLY)")
        db.sql(FIT + "SELECT * FROM other.s.t")
        query = "SELECT count(*) FROM other.s.t WHERE PREDICT(m, *) IN ('x', 'y')"
        assert db.sql(query).fetchall() == [(80,)]
