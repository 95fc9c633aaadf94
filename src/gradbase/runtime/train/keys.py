"""Random streams named by what they are for, so that nobody's draws depend on anybody else's."""

from __future__ import annotations

import blake3
import torch


def derive(seed: int, purpose: str, epoch: int = 0, shard: int = 0) -> int:
    """A 63-bit seed for the stream (seed, purpose, epoch, shard).

    Examples
    --------
    >>> derive(7, "weights") == derive(7, "weights"), derive(7, "weights") == derive(8, "weights")
    (True, False)
    """
    digest = blake3.blake3(f"{seed}|{purpose}|{epoch}|{shard}".encode()).digest(8)
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, purpose: str, epoch: int = 0, shard: int = 0) -> torch.Generator:
    """A fresh CPU generator at the start of the stream (seed, purpose, epoch, shard)."""
    made = torch.Generator()
    made.manual_seed(derive(seed, purpose, epoch, shard))
    return made
