"""What a worker answers, and what it takes to be let in."""

from __future__ import annotations

import types

import pytest

from gradbase.errors import BindError, EngineError, UnsupportedError
from gradbase.frontend.options import checked
from gradbase.selection.executors import on_ray
from gradbase.selection.executors.messages import heard, pack, unpack
from gradbase.selection.executors.versions import versions
from gradbase.selection.executors.worker import Worker


def hello(**changes):
    message = {
        "do": "hello", "versions": versions(), "path": [], "modules": [], "functions": {},
        "threads": 1, "cache_bytes": 0,
    }  # fmt: skip
    return unpack(Worker().handle(pack(message | changes)))[0]


def test_a_worker_of_the_same_code_is_let_in():
    assert hello() == {"ok": True}


@pytest.mark.parametrize("what", ["gradbase", "torch", "processor"])
def test_a_worker_with_another_version_says_so(what):
    error = heard(hello(versions=versions() | {what: "0.1"})["error"])
    assert isinstance(error, UnsupportedError)
    assert f"a worker has {what} {versions()[what]}, expected 0.1" in str(error)
    assert "same versions" in error.hint


def test_a_worker_with_other_user_code_says_so():
    place = "gradbase.selection.grid:Grid"
    error = heard(hello(functions={"Grid@000000000000": place})["error"])
    assert isinstance(error, BindError)
    assert "another source" in str(error)


@pytest.mark.parametrize("data", [b"", b"\x80\x04N.", pack({"do": "dance"})])
def test_what_is_no_message_is_an_error(data):
    assert "error" in unpack(Worker().handle(data))[0]


def test_a_cluster_that_cannot_be_reached_is_said(monkeypatch):
    def init(**_):
        raise ConnectionError("nobody there\nat all")

    ray = types.SimpleNamespace(is_initialized=lambda: False, init=init)
    monkeypatch.setattr(on_ray, "_ray", lambda: ray)
    with pytest.raises(EngineError, match=r"ray://far:10001 cannot be reached.*nobody there") as e:
        on_ray.Cluster.joined("ray://far:10001", 2)
    assert "ray start --head" in e.value.hint


def test_an_executor_is_one_of_its_names_or_an_address():
    assert checked("executor", "ray://far:10001") == "ray://far:10001"
    with pytest.raises(BindError, match="in_process"):
        checked("executor", "threads")
