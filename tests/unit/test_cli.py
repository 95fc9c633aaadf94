"""The command line: each command in this process, the exit status in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import gradbase as gb
import shop
from gradbase.cli import app, main
from gradbase.engines import ENGINES, readiness
from gradbase.errors import BindError, DataError, StoreError


def run(*arguments, given=None):
    return CliRunner().invoke(app, [str(a) for a in arguments], input=given, catch_exceptions=False)


def test_no_command_shows_all_of_them():
    shown = run("--help")
    assert shown.exit_code == 0
    for command in ("shell", "sql", "demo", "models", "plot", "memory", "doctor", "fsck"):
        assert command in shown.output


def test_sql_prints_every_result():
    done = run(
        "sql",
        "-c",
        "CREATE TABLE t AS SELECT 40 + 2 AS answer; SELECT answer FROM t; SELECT 'b' AS x",
    )
    assert done.exit_code == 0
    assert "42" in done.output
    assert done.output.index("answer") < done.output.index("x")
    assert done.output.count("(1 row)") >= 2


def test_sql_of_a_file_and_of_standard_input(tmp_path):
    (tmp_path / "q.sql").write_text("SELECT 'über' AS word;\n")
    assert "über" in run("sql", tmp_path / "q.sql").output
    assert "piped" in run("sql", "-", given="SELECT 'piped' AS word").output


def test_sql_shows_as_many_rows_as_asked():
    done = run("sql", "--rows", "3", "-c", "FROM range(9)")
    assert "(9 rows, 3 shown)" in done.output


@pytest.mark.parametrize(
    ("form", "shown"),
    [("csv", "a,s\n1,x\n"), ("json", '[\n {"a": 1, "s": "x"}\n]\n'), ("jsonl", '{"a": 1, "s": "x"}\n'),
     ("markdown", "| a | s |\n|---|---|\n| 1 | x |\n"), ("line", "a = 1\ns = x\n")],
)  # fmt: skip
def test_sql_in_the_format_of_other_programs(form, shown):
    """Statements without rows write nothing, so that the output is one document."""
    done = run("sql", "--format", form, "-c", "CREATE TABLE t AS SELECT 1 AS a, 'x' AS s; FROM t")
    assert done.output == shown


def test_sql_names_an_unknown_format_and_a_missing_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gradbase", "sql", "-f", "cvs", "-c", "SELECT 1"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    assert "did you mean `csv`" in capsys.readouterr().err
    missing = run("sql", tmp_path / "nowhere.sql")
    assert missing.exit_code == 2
    assert "cannot read" in missing.output


def test_shell_runs_what_is_piped_in(own_shop):
    """To the first error, whose status it has; commands of the shell work as well."""
    text = "SELECT count(PREDICT(churn, *)) AS n\nFROM customers;\n.mode csv\nSELECT 1 AS a; SELECT 2 AS b"
    done = run("shell", own_shop, given=text)
    assert done.exit_code == 0
    assert str(shop.ROWS) in done.output
    assert done.output.endswith("a\n1\nb\n2\n")
    with pytest.raises(gb.errors.EngineError):
        run("shell", given="SELECT 1; SELECT * FROM nowhere; SELECT 3")
    looking = run("shell", "--read-only", own_shop, given="SELECT 1 AS one;")
    assert "one" in looking.output


@pytest.mark.parametrize("arguments", [["sql"], ["sql", "-c", "SELECT 1", "file.sql"]])
def test_sql_takes_one_source(arguments):
    done = run(*arguments)
    assert done.exit_code == 2
    assert "not both" in done.output


def test_train_and_list_and_check(tmp_path):
    path = tmp_path / "shop.duckdb"
    with gb.connect(str(path)) as db:
        shop.load(db)
    made = run("sql", "-d", path, "-c", shop.create_model("m", max_epochs=1))
    assert made.exit_code == 0
    assert "roc_auc" in made.output
    listed = run("models", "-d", path)
    assert "m" in listed.output
    assert "dnn_classifier" in listed.output
    checked = run("fsck", "-d", path)
    assert checked.exit_code == 0
    assert "1 model versions" in checked.output


def test_fsck_fails_where_something_is_wrong(own_shop):
    for blob in own_shop.with_name(own_shop.name + ".gradbase").glob("blobs/**/*"):
        if blob.is_file():
            blob.write_bytes(b"rubbish")
    broken = run("fsck", "-d", own_shop)
    assert broken.exit_code == 1
    assert "churn@1" in broken.output
    assert run("fsck", "-d", own_shop).exit_code == 1
    run("fsck", "-d", own_shop, "--repair")
    assert run("fsck", "-d", own_shop).exit_code == 0


def test_looking_changes_nothing(own_shop):
    before = own_shop.read_bytes()
    assert run("models", "-d", own_shop).exit_code == 0
    assert run("fsck", "-d", own_shop).exit_code == 0
    assert own_shop.read_bytes() == before


def test_the_database_comes_from_the_environment(own_shop, monkeypatch):
    monkeypatch.setenv("GRADBASE_DATABASE", str(own_shop))
    assert "spend" in run("models").output


def test_doctor_says_what_an_operator_asks():
    shown = run("doctor")
    assert shown.exit_code == 0
    lines = dict(
        line.split(None, 1) for line in shown.output.splitlines() if len(line.split(None, 1)) == 2
    )
    assert lines["duckdb"]
    assert lines["python"].startswith("3.")
    for name in ("cores", "memory", "gemm_flops", "engine", "calibration"):
        assert name in shown.output
    assert lines["gemm_flops"] == "100 GFLOP/s"
    assert lines["batch_s"] == "200 µs"
    assert lines["udf_rows"] == "2,048"


def test_doctor_says_which_engines_can_be_used(monkeypatch):
    """Each with its driver and what lies under it, or with what is missing."""
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    monkeypatch.setitem(sys.modules, "psycopg", None)
    for module in [m for m in sys.modules if m.startswith("gradbase.engines.postgres")]:
        monkeypatch.delitem(sys.modules, module)
    found = {name: readiness(name) for name in ENGINES}
    assert found["duckdb"].startswith("usable: duckdb 2")
    assert found["postgresql"].endswith("`psycopg` is missing; pip install 'gradbase[postgres]'")
    assert found["spark"].startswith("not usable: ")


def test_errors_are_printed_without_a_traceback(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gradbase", "sql", "-c", "SELECT PREDICT(chrun, *) FROM t"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("BindError: ")
    assert "Traceback" not in said
    assert said.count("BindError") == 1


def test_a_process_of_its_own(tmp_path):
    """`python -m gradbase` and its exit status; the results before an error are printed."""
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "gradbase",
        "sql",
        "-c",
        "SELECT 7 AS n; SELECT * FROM nowhere",
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ}
    )
    assert done.returncode == 1
    assert "7" in done.stdout
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr


def test_control_c_gives_130(monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("gradbase.cli.app", interrupted)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 130


def test_demo_in_small(tmp_path, monkeypatch):
    """The demo from table to picture; with fewer epochs, as this is no benchmark."""
    from gradbase.session import demo

    monkeypatch.setattr(demo, "CREATE", demo.CREATE.replace("max_epochs = 20", "max_epochs = 2"))
    done = run("demo", "--folder", tmp_path)
    assert done.exit_code == 0
    assert (tmp_path / "learning_curves.png").stat().st_size > 10_000
    for shown in ("malignancy", "predicted_diagnosis", "Predict", "clinic", "is_optimal"):
        assert shown in done.output


def test_plot_draws_a_model(own_shop, tmp_path):
    """Any kind, with or without rows; an error says which kinds there are."""
    done = run("plot", own_shop, "churn", "--kind", "history", "--out", tmp_path / "h.svg")
    assert done.output.strip() == str(tmp_path / "h.svg")
    assert "best so far" in (tmp_path / "h.svg").read_text()
    roc = tmp_path / "roc.png"
    run("plot", own_shop, "churn@1", "--kind", "roc", "--data", "customers", "--out", roc)
    assert roc.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(BindError, match="there are curves, history"):
        run("plot", own_shop, "churn", "--kind", "rok")
    with pytest.raises(StoreError):
        run("plot", tmp_path / "none.duckdb", "churn")


STEP = """
import torch

weights = torch.zeros(64, 64, requires_grad=True)


def step():
    weights.grad = None
    (torch.ones(8, 64) @ weights).exp().sum().backward()


if __name__ == "__main__":
    raise SystemExit("run as a script")
"""


def test_memory_traces_a_function_plans_and_draws_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_step.py").write_text(STEP)
    done = run("memory", tmp_path / "a_step.py:step", "--csv", "placed.csv")
    assert done.output.startswith("Trace of ")
    assert "\nPlan of " in done.output
    assert "proved lowest" in done.output
    assert done.output.endswith("\na_step_memory.png\n")
    assert (tmp_path / "a_step_memory.png").read_bytes().startswith(b"\x89PNG")
    again = run("memory", "placed.csv", "--out", "again.svg", "--time-limit", "1")
    assert again.output.startswith("Plan of ")
    assert "</svg>" in (tmp_path / "again.svg").read_text()


def test_memory_refuses_what_is_no_step(tmp_path):
    (tmp_path / "b_step.py").write_text("def step():\n    pass\n")
    with pytest.raises(BindError, match=r"no function `stop`.*\n.*step"):
        run("memory", tmp_path / "b_step.py:stop")
    with pytest.raises(BindError, match=r"names no function.*\n.*b_step\.py:step"):
        run("memory", tmp_path / "b_step.py")
    with pytest.raises(BindError, match="there is no file"):
        run("memory", tmp_path / "none.py:step")
    with pytest.raises(DataError, match="cannot be read"):
        run("memory", tmp_path / "none.csv")


COMMANDS = [
    (["stop"], ("stop", ())),
    (["stop", "--trial", "2"], ("stop", (2,))),
    (["resume", "--trial", "2"], ("resume", (2,))),
    (["clone", "--trial", "2", "--set", "optimizer=sgd"], ("clone", (2, {"optimizer": "sgd"}))),
    (["add", "--set", "learn_rate=0.5"], ("add", ({"learn_rate": 0.5},))),
]


@pytest.mark.parametrize(("words", "expected"), COMMANDS)
def test_a_search_that_runs_is_told_what_to_do(monkeypatch, words, expected):
    class Run:
        id, trials = "r1", ()

        def __getattr__(self, name):
            return lambda *args, **_: told.append((name, args))

    told = []
    monkeypatch.setattr("gradbase.store.following.runs", lambda path: [Run()])
    done = run("runs", "d.duckdb", "--run", "r1", "--do", *words)
    assert done.exit_code == 0, done.output
    assert told == [expected]


@pytest.mark.parametrize("words", [["dance"], ["resume"], ["add", "--trial", "1"]])
def test_what_cannot_be_told_to_a_search(own_shop, words):
    done = run("runs", own_shop, "--run", gb.runs(own_shop)[0].id, "--do", *words)
    assert done.exit_code == 2
    assert "stop, resume, clone" in done.output
