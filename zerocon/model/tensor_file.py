"""Safetensors files of unknown origin: every tensor and all metadata checked before they are used.

Only shapes and dtypes that the reader names are accepted, so that a header of a hundred bytes
cannot ask for gigabytes, and no file is read that is not a regular one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from zerocon.errors import FileFormatError
from zerocon.storage import strict_json
from zerocon.storage.escaping import has_control_characters

LONGEST_HEADER = 16 * 2**20  # bytes; a direction of 10,000 sentences has 1 MB
LARGEST_VALUE = 1e6  # embeddings and latents are below a thousand
LONGEST_TEXT = 10_000  # characters of a sentence or a name


@dataclass(frozen=True)
class TensorFile:
    """Tensors by name and metadata of one safetensors file.

    Attributes:
        tensors: Finite float32 tensors on the CPU, not larger than ``LARGEST_VALUE``.
        metadata: The JSON object of the file's only metadata entry.
    """

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any]


def read_tensor_file(
    path: Path | str,
    *,
    entry: str,
    format: str,
    noun: str,
    names: Sequence[str],
    dimensions: Callable[[str, Sequence[int]], bool],
) -> TensorFile:
    """Read a safetensors file that zerocon wrote.

    Args:
        path: The file.
        entry: Name of the metadata entry, JSON.
        format: The value of its key ``format``.
        noun: What the file is: "a direction".
        names: The tensors that it may have.
        dimensions: Whether a tensor, by name and shape, may have this shape; called before any
            memory is allocated.

    Raises:
        FileFormatError: It is another file, or one of these rules is broken.
    """
    _require_regular(path, noun)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = _metadata(path, file.metadata() or {}, entry, format, noun)
            tensors = {}
            for name in file.keys():
                part = file.get_slice(name)
                shape = part.get_shape()
                if name not in names or part.get_dtype() != "F32" or not dimensions(name, shape):
                    raise ValueError(f"the tensor {name[:40]!r} ({part.get_dtype()}, {shape})")
                # a copy: a file that is cut off while it is mapped would end the process
                tensors[name] = _require_finite(name, file.get_tensor(name).clone())
    except (SafetensorError, OSError) as error:
        raise FileFormatError(f"cannot read {path} as {noun}: {error}") from error
    except ValueError as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(f"{path} is damaged or was not made by zerocon: {error}") from None
    return TensorFile(tensors, metadata)


def require(holds: bool, what: str) -> None:
    """Raise ``ValueError`` about ``what`` unless ``holds``."""
    if not holds:
        raise ValueError(what)


def texts(value: object, what: str, *, most: int = 100_000) -> tuple[str, ...]:
    """A list of texts without control characters as a tuple; ``ValueError`` for anything else."""
    require(isinstance(value, list) and len(value) <= most, what)
    assert isinstance(value, list)
    return tuple(text(each, what) for each in value)


def text(value: object, what: str) -> str:
    """A text without control characters, not too long; ``ValueError`` for anything else."""
    require(isinstance(value, str) and len(value) <= LONGEST_TEXT, what)
    assert isinstance(value, str)
    require(not has_control_characters(value), f"{what}: control characters")
    return value


def numbers(value: object, what: str, low: float, high: float) -> tuple[float, ...]:
    """A list of numbers from ``low`` to ``high`` as a tuple; ``ValueError`` for anything else."""
    require(isinstance(value, list), what)
    assert isinstance(value, list)
    for each in value:
        require(type(each) in (int, float) and low <= each <= high, what)
    return tuple(value)


def _metadata(
    path: Path | str, entries: Mapping[str, str], entry: str, format: str, noun: str
) -> Mapping[str, Any]:
    metadata = strict_json.parse(entries.get(entry, "{}"), longest=LONGEST_HEADER)
    if not isinstance(metadata, dict) or metadata.get("format") != format:
        maker = {"a direction": "direction", "an inversion": "invert"}[noun]
        raise FileFormatError(f"{path} is not {noun} made by zerocon {maker}")
    return metadata


def _require_regular(path: Path | str, noun: str) -> None:
    """A pipe would wait for ever; the header's length is checked before it is read."""
    try:
        with open(path, "rb", opener=_open_now) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise FileFormatError(f"cannot read {path} as {noun}: it is no regular file")
            length = int.from_bytes(file.read(8), "little")
    except OSError as error:
        reason = error.strerror or error
        raise FileFormatError(f"cannot read {path} as {noun}: {reason}") from error
    except ValueError as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(f"cannot read {str(path)!r} as {noun}: {error}") from None
    if length > min(LONGEST_HEADER, status.st_size):
        raise FileFormatError(f"cannot read {path} as {noun}: its header would have {length} bytes")


def _open_now(name: str, flags: int) -> int:
    """Opening a pipe must not wait for a writer."""
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))


def _require_finite(name: str, values: Tensor) -> Tensor:
    largest = float(values.abs().max()) if values.numel() else 0.0
    if not largest <= LARGEST_VALUE:  # false for NaN too
        kind = "not finite" if not bool(torch.isfinite(values).all()) else "too large"
        raise ValueError(f"values of the tensor {name!r} are {kind}")
    return values
