"""Reproducible random numbers: an independent stream for every key, equal on every machine."""

from __future__ import annotations

import hashlib

import torch


def seeded_generator(key: str) -> torch.Generator:
    """A CPU generator that is a pure function of ``key``; no global state is read or touched."""
    digest = hashlib.blake2b(key.encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))
