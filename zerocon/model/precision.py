"""Half precision that is not enough: what is not finite is computed once more in float32.

VAE, text encoder, captioner and CLIP compute each call alone: rows of a call that are not finite
are computed again at once (``compute_finite``). A U-Net's values depend on those of earlier calls:
an edit is repeated with the U-Net in float32 (``Runtime.upcast``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from zerocon.errors import NotFiniteError
from zerocon.tensor_types import not_finite

PARTS = {  # as they are recorded, and in messages
    "captioner": "captioner",
    "clip": "CLIP",
    "segmenter": "segmentation model",
    "text_encoder": "text encoder",
    "unet": "U-Net",
    "vae": "VAE",
}


@dataclass
class Float32Record:
    """Which parts computed in float32 what was not finite in half precision, by row of the batch.

    The text of a record is part names with plus signs: "unet+vae"; "" where there was none.
    """

    rows: defaultdict[int, set[str]] = field(default_factory=lambda: defaultdict(set))

    def add(self, part: str, rows: Iterable[int]) -> None:
        """Record one part for some rows."""
        for row in rows:
            self.rows[row].add(part)

    def text(self, row: int) -> str:
        """The record of one row."""
        return join(self.rows.get(row, ()))

    def all(self) -> str:
        """The record of all rows together."""
        return join(chain(*self.rows.values()))

    def warnings(self, dtype: str) -> tuple[str, ...]:
        """A warning for each recorded part."""
        return warnings([self.all()], dtype)


def join(parts: Iterable[str]) -> str:
    """The text of a record from part names, or from other texts."""
    return "+".join(sorted({name for part in parts for name in part.split("+") if name}))


def warnings(texts: Iterable[str], dtype: str) -> tuple[str, ...]:
    """A warning for each part that is in texts of records."""
    return tuple(warning(part, dtype) for part in join(texts).split("+") if part)


def warning(part: str, dtype: str) -> str:
    """One line for the user."""
    return (
        f"the {PARTS[part]} computed NaN or infinity in {dtype}; it was computed again in float32"
    )


_open: ContextVar[tuple[Float32Record, ...]] = ContextVar("open records", default=())


@contextmanager
def record_float32() -> Iterator[Float32Record]:
    """Record what is computed again in float32 inside the block; blocks may be nested."""
    record = Float32Record()
    token = _open.set((*_open.get(), record))
    try:
        yield record
    finally:
        _open.reset(token)


@contextmanager
def in_float32(network: nn.Module) -> Iterator[None]:
    """Have a network compute in float32 inside the block; afterwards its weights are as before."""
    tensors = [t for t in chain(network.parameters(), network.buffers()) if t.is_floating_point()]
    dtypes = [tensor.dtype for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.data = tensor.data.float()
        yield
    finally:  # half to float32 and back is exact
        for tensor, dtype in zip(tensors, dtypes, strict=True):
            tensor.data = tensor.data.to(dtype)


def cast(network: nn.Module, dtype: torch.dtype) -> None:
    """Have a network compute in ``dtype``; half to float32 and back is exact.

    ``to`` of diffusers' networks would warn of layers kept in float32, of which there are none.
    """
    nn.Module.to(network, dtype=dtype)


def compute_finite(
    part: str, network: Any, call: Callable[[Tensor], Tensor], inputs: Tensor, what: str
) -> Tensor:
    """``call(inputs)``, whose rows that are not finite are computed once more in float32.

    Args:
        part: Of ``PARTS``.
        network: What ``call`` computes with; inputs are to be cast to its dtype by ``call``.
        call: From a batch to float32 values, row by row.
        inputs: The batch.
        what: Name of the values, for a message.

    Raises:
        NotFiniteError: if the values are NaN or infinite in float32 too.
    """
    output = call(inputs)
    bad = _bad_rows(output)
    if bad.numel() and network.dtype != torch.float32:
        with in_float32(network):
            again = call(inputs[bad.to(inputs.device)])
        output = output.index_copy(0, bad, again)
        for record in _open.get():
            record.add(part, bad.tolist())
        bad = _bad_rows(output)
    if bad.numel():
        raise not_finite(f"{what} in float32", part)
    return output


def call_finite(
    part: str, network: Any, call: Callable[[Tensor], Tensor], inputs: Tensor
) -> Tensor:
    """``call(inputs)``, repeated in float32 if it raises ``NotFiniteError``."""
    try:
        return call(inputs)
    except NotFiniteError:
        if network.dtype == torch.float32:
            raise
    with in_float32(network):
        output = call(inputs)
    for record in _open.get():
        record.add(part, range(len(inputs)))
    return output


def _bad_rows(values: Tensor) -> Tensor:
    """Indices of the rows that are not finite."""
    return (~values.isfinite().flatten(1).all(1)).nonzero().flatten()
