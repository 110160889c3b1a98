"""Reproducible random numbers: a stream for every key, the same on every machine."""

from __future__ import annotations

import hashlib

import torch


def seeded_generator(key: str) -> torch.Generator:
    """A CPU generator whose seed is a hash of ``key``; torch's global state is not used."""
    digest = hashlib.blake2b(key.encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))
