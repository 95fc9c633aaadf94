from __future__ import annotations

import pytest

from gradbase.engines import connect


@pytest.fixture
def engine():
    engine = connect(":memory:")
    yield engine
    engine.close()
