"""Trials come to the same bits on Ray, also where its actors die."""

from __future__ import annotations

import pytest
import worker_networks
from test_workers import MLP, db, outcome, trained  # noqa: F401 (db is a fixture)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
ray = pytest.importorskip("ray")


def test_on_ray_it_is_the_same(db, monkeypatch):  # noqa: F811
    from gradbase.selection.executors import on_ray

    asked, ask = [], on_ray.RayLink.ask

    def killing(self, message, check):
        asked.append(self)
        if len(asked) == 7:
            ray.kill(self._actor, no_restart=True)
        return ask(self, message, check)

    monkeypatch.setattr(on_ray.RayLink, "ask", killing)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        for network in (MLP, worker_networks.normalised, worker_networks.attending):
            trained(db, network)
            expected = outcome(db)
            trained(db, network, executor="ray", workers=2)
            assert outcome(db) == expected
        assert ray.is_initialized()  # the user's own cluster is left as it is
    finally:
        ray.shutdown()
