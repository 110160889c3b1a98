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
from safetensors.torch import save as serialize
from torch import Tensor

from zerocon.errors import FileFormatError, OutputFormatError
from zerocon.storage import strict_json
from zerocon.storage.atomic import writing
from zerocon.storage.bounded import open_now
from zerocon.storage.escaping import has_control_characters

LONGEST_HEADER = 4_000_000  # bytes; a direction of 10,000 sentences has 1 MB
LARGEST_FILE = 140_000_000  # bytes; an inversion of 512x512 pixels and 1000 steps has 131 MB
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
        FileFormatError: It is another file, is larger than ``LARGEST_FILE``, or one of these rules
            is broken.
    """
    _require_regular(path, noun)

    def read(name: str) -> Tensor:
        # opened for each, since what is read of an opened file stays in memory with its copy
        with safe_open(path, framework="pt") as file:
            part = file.get_slice(name)
            shape = part.get_shape()
            if name not in names or part.get_dtype() != "F32" or not dimensions(name, shape):
                kind = f"{part.get_dtype()}, {str(shape)[:40]}"
                raise ValueError(f"the tensor {name[:40]!r} ({kind})")
            # a copy: a file that is cut off while it is mapped would end the process
            tensor: Tensor = file.get_tensor(name).clone()
        return _require_finite(name, tensor)

    try:
        with safe_open(path, framework="pt") as file:
            metadata = _metadata(path, file.metadata() or {}, entry, format, noun)
            listed = list(file.keys())
        tensors = {name: read(name) for name in listed}
    except (SafetensorError, OSError) as error:
        raise FileFormatError(f"cannot read {path} as {noun}: {error}") from error
    except ValueError as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(f"{path} is damaged or was not made by zerocon: {error}") from None
    return TensorFile(tensors, metadata)


def write_tensor_file(
    path: Path, tensors: Mapping[str, Tensor], entry: str, line: str, *, noun: str, overwrite: bool
) -> None:
    """Write what ``read_tensor_file`` reads, atomically.

    Args:
        path: The file.
        tensors: By name.
        entry: Name of the metadata entry: a single one, since the order of several is random.
        line: The entry, one line of JSON.
        noun: What the file is: "a direction".
        overwrite: Replace an existing file.

    Raises:
        OutputExistsError: ``path`` exists, unless ``overwrite``.
        OutputFormatError: The file would be too large to be read.
    """
    parts = {name: tensor.contiguous() for name, tensor in tensors.items()}
    require_readable(sum(part.nbytes for part in parts.values()), noun)
    data = serialize(parts, {entry: line})  # save_file would raise an error without errno
    if int.from_bytes(data[:8], "little") > LONGEST_HEADER:
        raise OutputFormatError(f"the texts of {noun} have over {LONGEST_HEADER / 1e6:.0f} MB")
    with writing(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(data)


def require_readable(size: int, noun: str, hint: str = "") -> None:
    """Raise ``OutputFormatError`` if tensors of so many bytes are more than a file may have."""
    most = LARGEST_FILE - LONGEST_HEADER - 8
    if size > most:
        raise OutputFormatError(
            f"{noun} in a file has at most {most / 1e6:.0f} MB, this one has {size / 1e6:.0f}{hint}"
        )


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
        with open(path, "rb", opener=open_now) as file:
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
    if status.st_size > LARGEST_FILE:
        raise FileFormatError(
            f"cannot read {path} as {noun}: it has {status.st_size / 1e6:.0f} MB, more than "
            f"{LARGEST_FILE / 1e6:.0f}"
        )
    if length > min(LONGEST_HEADER, status.st_size):
        raise FileFormatError(f"cannot read {path} as {noun}: its header would have {length} bytes")


def _require_finite(name: str, values: Tensor) -> Tensor:
    low, high = map(float, torch.aminmax(values)) if values.numel() else (0.0, 0.0)
    if not -LARGEST_VALUE <= low <= high <= LARGEST_VALUE:  # false for NaN too
        kind = "not finite" if not bool(torch.isfinite(values).all()) else "too large"
        raise ValueError(f"values of the tensor {name!r} are {kind}")
    return values
