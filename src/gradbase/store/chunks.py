"""Where to cut large blobs, by their content: an edit moves only the cuts beside it."""

from __future__ import annotations

import numpy as np

SMALLEST, LARGEST = 256 << 10, 4 << 20
"""Bytes of a chunk (the last may be smaller)."""
CHUNKED_ABOVE = 1 << 20
"""Blobs up to this many bytes stay one file."""
RARITY_BITS = 19
"""One position in 2**19 is a place to cut, so chunks have 768 KB on average."""

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_LIMIT = np.uint64((1 << 64) - (1 << (64 - RARITY_BITS)))  # a run of zeros is no place to cut
_BLOCK = 1 << 18


def cut(data: memoryview) -> list[memoryview]:
    """Chunks of `data` in order.

    A cut lies behind any 8 bytes whose multiplicative hash is among the highest 2**-19, with at
    least `SMALLEST` and at most `LARGEST` bytes between cuts. Source: own; after content-defined
    chunking by a rolling hash (Muthitacharoen et al., LBFS, 2001).
    """
    if len(data) <= CHUNKED_ABOVE:
        return [data]
    chunks: list[memoryview] = []
    start = 0
    for place in (*_places(data), len(data)):
        while place - start > LARGEST:
            chunks.append(data[start : start + LARGEST])
            start += LARGEST
        if place - start >= SMALLEST or (place == len(data) and place > start):
            chunks.append(data[start:place])
            start = place
    return chunks


def _places(data: memoryview) -> list[int]:
    """Sorted positions at which the content allows a cut."""
    found: list[np.ndarray] = []
    for shift in range(8):
        words = np.frombuffer(data, "<u8", count=(len(data) - shift) // 8, offset=shift)
        for first in range(0, len(words), _BLOCK):
            hashed = words[first : first + _BLOCK] * _MULTIPLIER
            hits = np.flatnonzero(hashed >= _LIMIT)
            if len(hits):
                found.append((hits + first) * 8 + shift + 8)
    return sorted(np.concatenate(found).tolist()) if found else []
