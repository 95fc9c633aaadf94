"""Sessions on PostgreSQL: bitwise models, many at once, roles, dumps, faults."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

import gradbase as gb
from gradbase.engines.postgres.languages import why_no_functions
from gradbase.errors import (
    BindError,
    CancelledError,
    EngineError,
    GradbaseError,
    StoreError,
    UnsupportedError,
)
from gradbase.ir.printer import print_plan
from gradbase.selection import waiting
from gradbase.testing.servers import postgres_programs, postgres_url

ROWS = (
    "SELECT i AS id, (i % 7) - 3.0::double precision AS x, i % 5 AS y, "
    "CASE WHEN i % 4 > 0 THEN 'k' || i % 3 END AS colour, "
    "CAST(i % 9 AS decimal(6, 2)) AS price, DATE '2024-01-01' + CAST(i % 90 AS integer) AS day, "
    "(i % 7) + i % 5 > 6 AS label FROM "
)
TRAIN = """CREATE MODEL {name} OPTIONS (model_type = 'dnn_classifier', input_label_cols = ['label'],
 row_key = ['id'], hidden_units = [16], max_epochs = 2, num_trials = 2, seed = 3,
 learn_rate = HPARAM_CANDIDATES([0.01, 0.1]), hparam_tuning_algorithm = 'grid_search')
 AS SELECT * FROM points"""


def connect(url, **options):
    return gb.connect(url, progress=False, **options)


@pytest.fixture
def url():
    return postgres_url()


@pytest.fixture
def db(url):
    with connect(url) as session:
        session.sql(f"CREATE TABLE points AS {ROWS} generate_series(0::bigint, 299) i").fetchall()
        yield session


@pytest.fixture
def model(db):
    db.sql(
        "CREATE MODEL m OPTIONS (model_type = 'dnn_classifier', input_label_cols = ['label'], "
        "hidden_units = [16], row_key = ['id'], max_epochs = 1, seed = 1) "
        "AS SELECT id, x, y, label FROM points"
    )
    return db


def test_same_model_as_on_duckdb_bit_by_bit(db):
    """The program names its weights by their hash: its text is the whole model."""
    with connect(":memory:") as other:
        other.sql(f"CREATE TABLE points AS {ROWS} range(300) r(i)")
        other.sql("ALTER TABLE points ALTER y TYPE BIGINT")
        db.sql("ALTER TABLE points ALTER y TYPE bigint").fetchall()
        for session in (db, other):
            session.sql(TRAIN.format(name="m"))
        for trial in (1, 2):
            mine, theirs = (print_plan(s.model("m", trial=trial).model) for s in (db, other))
            assert mine == theirs
        query = "SELECT PREDICT_PROBA(m, *) AS p FROM points ORDER BY id"
        assert db.sql(query).arrow().equals(other.sql(query).arrow())


def test_moments_equal_duckdb_bit_by_bit(db):
    """Statistics in the server add exactly; products that underflow there are no errors."""
    values = "(VALUES (0, '1e300'), (1, '1e-300'), (2, '-3.3'), (3, '0.1'), (4, 'NaN'), (5, NULL)) "
    values += "v(i, a)"
    sql = f"SELECT CAST(a AS double precision) AS a, i % 2 = 0 AS b FROM {values}"
    with connect(":memory:") as other:
        found = [s.engine.exact_moments(sql, ["a", "b"]) for s in (db, other)]
    assert found[0] == found[1]
    assert found[0]["a"].count == 4


def test_vectors_are_features(db):
    """pgvector's `vector(n)` trains and predicts."""
    db.sql("CREATE TABLE docs AS SELECT id, ('[' || x || ',' || y || ']')::vector(2) AS v, label "
           "FROM points").fetchall()  # fmt: skip
    db.sql("CREATE MODEL d OPTIONS (model_type = 'logistic_reg', input_label_cols = ['label'], "
           "row_key = ['id'], max_epochs = 1) AS SELECT * FROM docs")  # fmt: skip
    sql = "SELECT count(*) FROM docs WHERE PREDICT_PROBA(d, *) BETWEEN 0 AND 1"
    assert db.sql(sql).fetchall() == [(300,)]


def test_only_what_sql_reads_of_predictions_goes_back(model, monkeypatch):
    """A temporary table has the columns that the SQL above names."""
    from gradbase.engines.postgres import views

    seen = []
    plain = views.made
    monkeypatch.setattr(views, "made", lambda schema: seen.append(schema.names) or plain(schema))
    sql = "SELECT y, avg(PREDICT_PROBA(m, *)) AS p, count(*) AS n FROM points GROUP BY y"
    assert sum(n for _, _, n in model.sql(sql).fetchall()) == 300
    assert [len(names) for names in seen] == [2]
    assert "y" in seen[0]
    assert model.sql("SELECT count(PREDICT(m, *)) FROM points").fetchall() == [(300,)]


# -- many sessions -------------------------------------------------------------------------------


def test_models_of_other_sessions(url, model):
    """Seen when they are committed, forgotten when they are dropped."""
    with connect(url) as other:
        assert other.sql("SELECT count(PREDICT(m, *)) FROM points").fetchall() == [(300,)]
        model.sql("DROP MODEL m")
        with pytest.raises(BindError, match="there is no model `m`"):
            other.sql("SELECT PREDICT(m, *) FROM points")


def test_two_sessions_make_the_same_model(url, db):
    """One wins, the other is told; nothing is half there."""
    errors = []

    def train(session):
        try:
            session.sql(TRAIN.format(name="same"))
        except BindError as error:
            errors.append(error.message)

    with connect(url) as other, ThreadPoolExecutor(2) as pool:
        list(pool.map(train, (db, other)))
    assert errors == ["model `same` exists already"]
    assert db.sql("SELECT count(*) FROM gradbase.versions").fetchall() == [(1,)]
    assert db.fsck().ok


def test_many_threads(url, model):
    """16 threads, statements of all kinds: nothing lost, nothing half-visible."""
    model.sql("CREATE TABLE seen (worker integer, n bigint)").fetchall()

    def work(number):
        for k in range(6):
            rows = model.sql("SELECT count(PREDICT(m, *)) FROM points WHERE id < $1", [10 * k])
            assert rows.fetchall() == [(10 * k,)]
            model.sql("INSERT INTO seen VALUES ($1, $2)", [number, k]).fetchall()
            assert model.sql("SELECT 1").fetchall() == [(1,)]

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    found = model.sql("SELECT count(*), count(DISTINCT (worker, n)) FROM seen").fetchall()
    assert found == [(96, 96)]


# -- roles and backups ---------------------------------------------------------------------------


@pytest.fixture
def reader(url, model):
    """The URL of a role that may read."""
    name = f"reader_{time.time_ns()}"
    for sql in (
        f"CREATE ROLE {name} LOGIN",
        f"GRANT USAGE ON SCHEMA public, gradbase TO {name}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public, gradbase TO {name}",
    ):
        model.sql(sql).fetchall()
    return url.replace("postgres:", f"{name}:", 1), name


def test_a_reader_predicts_and_cannot_create(reader, model):
    """The server's own words, before anything is trained."""
    with connect(reader[0]) as session:
        sql = "SELECT count(*) FROM points WHERE PREDICT_PROBA(m, *) >= 0"
        assert session.sql(sql).fetchall() == [(300,)]
        with pytest.raises(StoreError, match="permission denied for table"):
            session.sql(TRAIN.format(name="mine"))
        with pytest.raises(StoreError, match="permission denied"):
            session.sql("DROP MODEL m")
    assert model.store.names() == ("m",)


def test_what_a_role_lacks_is_named(reader, model):
    """The schema of the models, and temporary tables."""
    model.sql(f"REVOKE USAGE ON SCHEMA gradbase FROM {reader[1]}").fetchall()
    with connect(reader[0]) as session:
        with pytest.raises(StoreError, match=r"permission denied for schema gradbase[\s\S]*GRANT"):
            session.sql("SELECT PREDICT(m, *) FROM points")
        assert session.sql("SELECT count(*) FROM points").fetchall() == [(300,)]


def test_read_only_sessions(url, model):
    """They predict, also where rows go back to the server, and write nothing."""
    with connect(url, read_only=True) as session:
        sql = "SELECT y, count(*) FROM points WHERE PREDICT_PROBA(m, *) > 2 GROUP BY y"
        assert session.sql(sql).fetchall() == []
        with pytest.raises(StoreError, match="read-only"):
            session.sql("DELETE FROM points").fetchall()
        with pytest.raises(StoreError, match="read-only"):
            session.sql("DROP MODEL m")


def test_dump_and_restore_carry_the_models(url, model, tmp_path):
    """The same predictions from the copy, weights included, on a machine that has nothing else."""
    programs, copy = postgres_programs(), postgres_url()
    file, wrong = tmp_path / "dump.sql", "ON_ERROR_STOP=1"
    for command in (
        [programs / "pg_dump", "-f", file, url],
        [programs / "psql", "-q", "-v", wrong, "-f", file, copy],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    sql = "SELECT id, PREDICT_PROBA(m, *) AS p FROM points ORDER BY id"
    with connect(copy) as session:
        assert session.sql(sql).arrow().equals(model.sql(sql).arrow())
        assert session.fsck().ok


def test_a_copy_of_the_database_has_the_models(url, model):
    """Nothing of a model lies anywhere else."""
    expected = model.sql(sql := "SELECT id, PREDICT_PROBA(m, *) AS p FROM points ORDER BY id")
    expected = expected.arrow()
    model.close()
    _kill_others(url)
    name = url.partition("?")[0].rpartition("/")[2]
    with psycopg.connect(url.replace(f"/{name}?", "/postgres?"), autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}_copy TEMPLATE {name}")
    with connect(url.replace(f"/{name}?", f"/{name}_copy?")) as session:
        assert session.sql(sql).arrow().equals(expected)
        assert session.fsck().ok


# -- the session's own state ---------------------------------------------------------------------


def test_settings_and_temporary_tables_are_seen_by_predictions(model):
    """On whichever connection they run."""
    model.sql("CREATE SCHEMA apart").fetchall()
    model.sql("CREATE TABLE apart.few AS SELECT * FROM points WHERE id < 7").fetchall()
    model.sql("SET search_path = apart, public").fetchall()
    assert model.sql("SELECT count(PREDICT(m, *)) FROM few").fetchall() == [(7,)]
    model.sql("CREATE TEMP TABLE mine AS SELECT * FROM points WHERE id < 3").fetchall()
    assert model.sql("SELECT count(PREDICT(m, *)) FROM mine").fetchall() == [(3,)]
    model.sql("BEGIN").fetchall()
    model.sql("DELETE FROM few").fetchall()
    assert model.sql("SELECT count(PREDICT(m, *)) FROM few").fetchall() == [(0,)]
    model.sql("ROLLBACK").fetchall()
    assert model.sql("SELECT count(PREDICT(m, *)) FROM few").fetchall() == [(7,)]


def test_frames_are_tables(model):
    """`register` and predictions over data frames."""
    import pyarrow as pa

    model.register("loaded", pa.table({"id": [1, 2], "x": [0.5, 1.5], "y": [1, 2]}))
    assert model.sql("SELECT count(PREDICT(m, *)) FROM loaded").fetchall() == [(2,)]
    model.unregister("loaded")
    with pytest.raises(EngineError, match="loaded"):
        model.sql("SELECT * FROM loaded")


NAMES = [
    'quo"te',
    "semi;colon",
    "select",
    "Größe 日本",
    "a'b",
    "100%",
    "--",
    "\\",
    "?",
    "$1",
    "n" * 63,
]


@pytest.mark.parametrize("name", NAMES)
def test_names_and_categories_of_any_shape(db, name):
    """As table, column, label, category and model."""
    quoted = '"' + name.replace('"', '""') + '"'
    text = "'" + name.replace("'", "''") + "'"
    db.sql(f"CREATE TABLE {quoted} AS SELECT id, CASE WHEN x > 0 THEN {text} ELSE 'b' END "
           f"AS {quoted}, label FROM points").fetchall()  # fmt: skip
    db.sql("CREATE MODEL m OPTIONS (model_type = 'logistic_reg', input_label_cols = ['label'], "
           f"row_key = ['id'], max_epochs = 1) AS SELECT * FROM {quoted}")  # fmt: skip
    sql = f"SELECT {quoted}, count(*) AS n FROM {quoted} WHERE PREDICT_PROBA(m, *) >= 0 GROUP BY 1"
    assert sorted(db.sql(sql).fetchall()) == sorted([(name, 128), ("b", 172)])


def test_names_that_the_server_would_cut(db):
    """It cuts a name of more than 63 bytes and says so to nobody: the column is the cut one."""
    name = "n" * 70
    db.sql(f"CREATE TABLE cut AS SELECT 1 AS {name}").fetchall()
    assert db.table("cut").columns == ["n" * 63]


# -- faults --------------------------------------------------------------------------------------


def test_cancelling_reaches_the_server(model):
    """The query is gone there too."""
    result = model.sql("SELECT count(*) FROM generate_series(1, 10000000000) i")
    timer = threading.Timer(0.3, result.cancel)
    timer.start()
    with pytest.raises(CancelledError):
        result.arrow()
    running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%10000000000%' "
    running += "AND state = 'active' AND pid <> pg_backend_pid()"
    assert model.sql(running).fetchall() == [(0,)]


def test_statement_timeout(model):
    """The user's own limit holds for our reads, and its way out is named."""
    model.sql("SET statement_timeout = '100ms'").fetchall()
    with pytest.raises(EngineError, match=r"statement timeout[\s\S]*SET statement_timeout"):
        model.sql("SELECT count(*) FROM generate_series(1, 10000000000) i").arrow()
    model.sql("RESET statement_timeout").fetchall()
    assert model.sql("SELECT 1").fetchall() == [(1,)]


def _kill_others(url):
    with psycopg.connect(url, autocommit=True) as killer:
        killer.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    time.sleep(0.2)  # until their connections are told


def test_connections_that_are_killed(url, model):
    """The statement says what to do; the next one connects anew."""
    sql = "SELECT count(PREDICT(m, *)) FROM points"
    assert model.sql(sql).fetchall() == [(300,)]
    _kill_others(url)
    assert model.sql(sql).fetchall() == [(300,)]
    timer = threading.Timer(0.3, _kill_others, [url])
    timer.start()
    with pytest.raises(StoreError, match=r"connection to the server[\s\S]*connects anew"):
        model.sql("SELECT count(*) FROM generate_series(1, 10000000000) i").arrow()
    timer.join()
    assert model.sql(sql).fetchall() == [(300,)]


def test_killed_in_the_commit_of_a_model(url, model, monkeypatch):
    """The old models are there, whole; the new one is not."""
    from gradbase.engines.postgres.transactions import PostgresTransaction

    plain = PostgresTransaction.insert

    def killed(self, table, rows):
        if table.endswith("trials"):
            _kill_others(url)
        plain(self, table, rows)

    monkeypatch.setattr(PostgresTransaction, "insert", killed)
    monkeypatch.setattr(waiting, "_MOST_LOSSES", 2)  # every commit is
    with pytest.raises(GradbaseError):
        model.sql(TRAIN.format(name="lost"))
    monkeypatch.undo()
    assert model.store.names() == ("m",)
    assert model.fsck().ok
    model.sql(TRAIN.format(name="lost"))
    assert model.store.names() == ("lost", "m")


def test_table_dropped_before_the_rows_are_asked_for(model):
    """The server's own error."""
    result = model.sql("SELECT PREDICT(m, *) AS p FROM points")
    model.sql("DROP TABLE points").fetchall()
    with pytest.raises(EngineError, match='relation "points" does not exist'):
        result.arrow()


def test_server_without_more_connections(url, model, monkeypatch):
    """A statement waits for a connection of its session to come back."""
    from gradbase.engines.postgres import connections

    monkeypatch.setattr(connections, "MOST_IDLE", 1)
    others = []
    try:
        while len(others) < 200:
            try:
                others.append(psycopg.connect(url))
            except psycopg.OperationalError:
                break
        others.pop().close()
        sql = "SELECT count(PREDICT(m, *)) FROM points"
        assert model.sql(sql).fetchall() == [(300,)]
    finally:
        for other in others:
            other.close()


def test_no_server():
    """What libpq says, and that it is about the connection."""
    with pytest.raises(StoreError, match="connection to the server is lost or cannot be made"):
        connect("postgresql://nobody@/none?host=/nowhere")


def test_predictions_inside_correlated_subqueries_are_refused(model):
    """There is no function in the server that could predict."""
    sql = (
        "SELECT p.id FROM points p WHERE EXISTS "
        "(SELECT 1 FROM points q WHERE q.id = p.id + 1 AND PREDICT(m, q.*))"
    )
    with pytest.raises(UnsupportedError, match="cannot call Python functions"):
        model.sql(sql).arrow()


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ((False, False, False), "the server has no plpython3u"),
        ((True, False, False), r"a superuser's CREATE EXTENSION plpython3u"),
        ((True, True, False), r"role r may make no functions in plpython3u"),
        ((True, True, True), r"they come here by binary COPY"),
    ],
)
def test_why_the_server_predicts_nothing(found, reason):
    """As far as it has Python, and the role may use it."""
    assert re.search(reason, why_no_functions(lambda _: [(*found, "r")]))


def test_explain_says_why_no_function(model):
    """The server of the tests has no `plpython3u`."""
    plan = model.explain("SELECT PREDICT(m, *) FROM points")
    assert "chosen: dl" in plan
    assert "the server has no plpython3u" in plan
    assert os.environ["XDG_DATA_HOME"] in str(model.store.path)
