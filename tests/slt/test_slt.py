"""Every .slt file under every configuration; in `make test` under some, which differ by file.

On PostgreSQL each file runs once, on Spark a few do; in `make test-all` all of them, on PostgreSQL
under the other configurations too.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

import gradbase
from gradbase.optimizer.stages import all_rules
from gradbase.testing.servers import postgres_url, spark
from gradbase.testing.slt import Config, Target, load_configs, run_file

HERE = Path(__file__).parent
FILES = sorted(HERE.rglob("*.slt"))
RULES = [r.name for r in all_rules() if not r.mandatory]
CONFIGS = load_configs(HERE.parent / "configs", RULES)


ALWAYS = {"plain", "optimizer_off"}


def in_turn(name):
    """The configurations that file `name` has in `make test`: some always, one of the rest in turn."""
    rest = [c.name for c in CONFIGS if c.name not in ALWAYS]
    return ALWAYS | {rest[zlib.crc32(name.encode()) % len(rest)]}


def runs():
    for path in FILES:
        name = path.relative_to(HERE).with_suffix("").as_posix()
        # A page's file is about names, types and ranges, which no configuration changes.
        quick = {"plain"} if name.startswith("bigquery/") else in_turn(name)
        for config in CONFIGS:
            marks = [pytest.mark.slow] if config.slow or config.name not in quick else []
            yield pytest.param(path, config, id=f"{name}-{config.name}", marks=marks)


def connect(url):
    return gradbase.connect(url, progress=False)


@pytest.mark.parametrize(("path", "config"), list(runs()))
def test_slt(path, config, tmp_path):
    """Each record does what it says."""
    run_file(path, connect, config, tmp_path)


def postgres_runs():
    for path in FILES:
        name = path.relative_to(HERE).with_suffix("").as_posix()
        for config in CONFIGS:
            if config.name == "udf" or config.name.startswith("rule_off-"):
                continue  # the one is refused, the others are the same code on every engine
            marks = [] if config == Config() else [pytest.mark.slow]
            yield pytest.param(path, config, id=f"{name}-{config.name}", marks=marks)


@pytest.mark.parametrize(("path", "config"), list(postgres_runs()))
def test_slt_on_postgres(path, config, tmp_path):
    """Each record does what it says, or fails as its mark says."""
    setup = (HERE / "postgres.sql").read_text()
    target = Target("postgresql", postgres_url(), "postgres", setup)
    run_file(path, connect, config, tmp_path, target)


SPARK_CORE = ("native", "predict_joins", "predict_table", "rules_predict")
"""What runs on Spark in `make test`: statements of its own, predictions, rules."""


@pytest.mark.xdist_group("spark")
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(p, id=n, marks=[] if n in SPARK_CORE else [pytest.mark.slow])
        for p in FILES
        for n in [p.relative_to(HERE).with_suffix("").as_posix()]
    ],
)
def test_slt_on_spark(path, tmp_path):
    """Each record does what it says, or fails as its mark says; a database of Spark's per file."""
    session, database = spark().newSession(), f"slt_{path.stem}"
    session.sql(f"CREATE DATABASE {database} LOCATION '{tmp_path / 'tables'}'")
    session.sql(f"USE {database}")

    def connect(_):
        return gradbase.connect(session, store=tmp_path / "store", progress=False)

    try:
        run_file(path, connect, Config(), tmp_path, Target("spark", "", "spark"))
    finally:
        session.sql(f"DROP DATABASE {database} CASCADE")
