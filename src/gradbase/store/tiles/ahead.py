"""Reading and working at once."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Iterable[Item]) -> Generator[Item]:
    """The same items, none of them None; the next one is made while one is used."""
    source = iter(items)
    with ThreadPoolExecutor(1, "gradbase-ahead") as reader:
        coming = reader.submit(next, source, None)
        while (item := coming.result()) is not None:
            coming = reader.submit(next, source, None)
            yield item
