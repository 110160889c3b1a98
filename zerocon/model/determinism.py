"""Deterministic kernels on CUDA, so that an edit can be repeated to the byte on one device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch

_options: Any = torch.utils.deterministic
_lock = Lock()
_depth = 0  # blocks that are open, in any thread: the flags belong to the process
_before: tuple[Any, ...] = ()


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Have torch choose deterministic kernels on a CUDA device inside the block.

    Afterwards, when no other block is open, torch's flags are as before. On other devices nothing
    is changed: kernels of the CPU are deterministic for one number of threads, and torch has no
    such choice on MPS.
    """
    if device.type != "cuda":
        yield
        return
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _depth, _before
    with _lock:
        if not _depth:
            _before = _flags()
            _set(True, False, True, True, False)
        _depth += 1


def _leave() -> None:
    global _depth
    with _lock:
        _depth -= 1
        if not _depth:
            _set(*_before)


def _flags() -> tuple[Any, ...]:
    return (
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        _options.fill_uninitialized_memory,
    )


def _set(cudnn: bool, benchmark: bool, algorithms: bool, warn_only: bool, fill: bool) -> None:
    torch.backends.cudnn.deterministic = cudnn
    torch.backends.cudnn.benchmark = benchmark
    torch.use_deterministic_algorithms(algorithms, warn_only=warn_only)
    _options.fill_uninitialized_memory = fill
