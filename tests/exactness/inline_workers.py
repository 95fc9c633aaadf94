"""Workers without processes of their own: what they do is the same, and they start at once."""

from __future__ import annotations

import pytest

from gradbase.selection.executors import processes
from gradbase.selection.executors.worker import Worker


class Here:
    """See `base.Link`."""

    def __init__(self):
        self.worker = Worker()

    def ask(self, message, check):
        check()
        return self.worker.handle(message)

    def close(self):
        pass


@pytest.fixture
def inline(monkeypatch):
    def started(_threads, hello, check):
        link = Here()
        return link, link.ask(hello, check)

    monkeypatch.setattr(processes, "started", started)
