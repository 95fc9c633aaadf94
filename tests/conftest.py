"""What all tests share: seeds, the constants of a machine, a shop with trained models."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

import gradbase as gb
import shop
from gradbase.resources.calibration import Calibration, default_path


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """Ctrl-C does what it does in a terminal, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def calibrated(tmp_path_factory):
    """Plans follow from the same constants on every machine, and nothing is measured."""
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    with pytest.MonkeyPatch.context() as patch:
        if "MPLCONFIGDIR" not in os.environ:  # matplotlib's list of fonts takes long to make
            patch.setenv("MPLCONFIGDIR", str(home / "matplotlib"))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        Calibration().save(default_path())
        yield


@pytest.fixture(scope="session", autouse=True)
def dialect():
    """An editable install knows the entry points of the day it was made; this one may be newer."""
    from sqlalchemy.dialects import registry

    registry.register("gradbase", "gradbase.dbapi.sqlalchemy", "GradbaseDialect")


@pytest.fixture(autouse=True)
def seeded():
    """Every test starts from the same random numbers."""
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 (what a user's code draws from)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(1)


@pytest.fixture
def db(tmp_path):
    """A session on a new database with the table `customers`."""
    with gb.connect(str(tmp_path / "shop.duckdb"), progress=False) as session:
        shop.load(session)
        yield session


@pytest.fixture(scope="session")
def shop_folder(tmp_path_factory):
    """A closed database with models of all tasks: churn (6 trials), plans, spend, linear."""
    folder = tmp_path_factory.mktemp("trained")
    with gb.connect(str(folder / "shop.duckdb"), progress=False) as session:
        shop.load(session)
        session.sql(shop.create_model("churn", **shop.SIX, max_epochs=8))
        session.sql(shop.create_model("plans", label="plan", hidden_units=[8, 4], max_epochs=8))
        session.sql(shop.create_model("spend", label="spent", activation_fn="gelu", max_epochs=8))
        session.sql(
            shop.create_model("linear", model_type="logistic_reg", hidden_units=None, max_epochs=8)
        )
    return folder


@pytest.fixture(scope="session")
def trained(shop_folder, tmp_path_factory):
    """A session on such a database, to look at and predict with, not to change."""
    folder = tmp_path_factory.mktemp("shared") / "shop"
    shutil.copytree(shop_folder, folder)
    with gb.connect(str(folder / "shop.duckdb"), progress=False) as session:
        yield session


@pytest.fixture
def own_shop(shop_folder, tmp_path):
    """The path of a copy of that database that belongs to one test."""
    folder = tmp_path / "shop"
    shutil.copytree(shop_folder, folder)
    return folder / "shop.duckdb"
