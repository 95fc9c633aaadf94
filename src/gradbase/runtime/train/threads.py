"""How many threads torch uses for what the calling thread asks of it."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import torch


@contextlib.contextmanager
def torch_threads(count: int) -> Generator[None]:
    """Use `count` torch threads inside; other Python threads keep their own number."""
    before = torch.get_num_threads()
    if before == count:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
