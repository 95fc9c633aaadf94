"""The marks of the engine contract: a gap must fail, with the error it names."""

from __future__ import annotations

import pytest

from gradbase.testing.engines import EngineContract, Gap, TestConf

pytest_plugins = ["pytester"]

FILE = """
import pytest
from gradbase.engines import connect
from gradbase.errors import EngineError, StoreError
from gradbase.testing.engines import EngineContract, Gap, TestConf

class TestBroken(EngineContract):
    conf = TestConf("duckdb", connect=lambda _: connect(), gaps={
        "statistics": Gap("notyet", EngineError, "passes in truth"),
        "names_of_any_shape": Gap("never", ZeroDivisionError, "passes in truth"),
        "errors_keep_their_cause": Gap("notimpl", AssertionError, "passes in truth"),
    })

    @pytest.fixture
    def engine(self):
        class Half:
            name = "half"
            statistics = property(lambda self: (_ for _ in ()).throw(EngineError("no")))
            def exact_moments(self, *a): raise StoreError("other error")
            def run(self, *a): pass
            def fetch(self, *a): return None
            def compile(self, *a): return ""
        return Half()
"""


@pytest.mark.filterwarnings("ignore")
def test_gaps_are_strict(pytester):
    """The named error: expected failure; another error, or none: a failure."""
    pytester.makeini("[pytest]\nmarkers =\n    notyet: x\n    never: x\n    notimpl: x\n")
    pytester.makepyfile(FILE)
    kept = "test_statistics or test_names or test_errors"
    found = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-k", kept)
    outcomes = found.parseoutcomes()
    assert outcomes["xfailed"] == 1
    assert outcomes["failed"] == 4


def test_unknown_gaps_are_noticed():
    """A gap for a test that is not there, or of an unknown mark."""
    with pytest.raises(AttributeError, match="test_no_such"):
        type(
            "T",
            (EngineContract,),
            {"conf": TestConf("x", print, gaps={"no_such": Gap("never", OSError, "")})},
        )
    with pytest.raises(AssertionError):
        Gap("someday", OSError, "")
