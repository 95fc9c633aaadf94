"""PostgreSQL keeps the contract of engines."""

from __future__ import annotations

from gradbase.engines import connect
from gradbase.errors import UnsupportedError
from gradbase.testing.engines import EngineContract, Gap, TestConf
from gradbase.testing.servers import postgres_url


class TestPostgres(EngineContract):
    conf = TestConf(
        "postgresql",
        connect=lambda _: connect(postgres_url()),
        gaps={
            "functions_of_one_statement": Gap(
                "never", UnsupportedError, "the server cannot call functions of this program"
            )
        },
    )
