"""A cache of inversions on disk: later edits of an image do not invert it again.

An entry is found under the hash of everything it depends on, so that an edit with a cached
inversion is equal, bit for bit, to one without. A cache that is full, read-only or unusable costs
time and nothing else; several programs may use one at the same time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zerocon.errors import ConfigurationError, FileFormatError, SettingError
from zerocon.model.fingerprint import cache_folder
from zerocon.settings import CROP
from zerocon.storage.atomic import writing
from zerocon.storage.private import make_private
from zerocon.storage.versions import package_versions

if TYPE_CHECKING:  # entries are listed and removed without torch
    from torch import Tensor

    from zerocon.editing import Plan
    from zerocon.model import Model
    from zerocon.trajectory import Inversion

FOLDER, SUFFIX = "inversions", ".safetensors"
LIMIT = "2GB"  # 54 images of mini with their activations, or 299 trajectories of 512x512 pixels
VARIABLE = "ZEROCON_CACHE_LIMIT"  # sets another limit
# Activations are cached up to this share of the limit, else only the trajectory. Mini's are 36 MB,
# read in a tenth of the time that they take on a CPU core. Those of Stable Diffusion 1 at 512
# pixels are 2.3 GB in float16: too large for a second image, and slow to write at every edit.
SHARE = 0.5
UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
LONGEST_HEADER = 16_000_000  # bytes
FACTS = ("caption", "model", "steps", "activations")
UNUSABLE = (OSError, RuntimeError, MemoryError)  # torch raises RuntimeError for "can't allocate"


@dataclass(frozen=True)
class CacheEntry:
    """A file of the cache: its size in bytes, and when it was last used, in seconds since 1970."""

    path: Path
    bytes: int
    used: float

    def facts(self) -> dict[str, Any]:
        """Caption, model, steps, and whether it has activations; None for what cannot be read."""
        try:
            metadata = json.loads(_header(self.path)["inversion"])
            steps = len(metadata["schedule"]["times"]) - 1
            values = (
                metadata["captions"][0],
                metadata["model"],
                steps,
                "layer_patterns" in metadata,
            )
        except (OSError, ValueError, LookupError, TypeError):
            return dict.fromkeys(FACTS)
        return dict(zip(FACTS, values, strict=True))


class Cache:
    """Inversions by key, in at most ``limit`` bytes: the least recently used are removed first.

    Args:
        folder: Directory of the entries; ``inversions`` in zerocon's cache directory by default.
        limit: In bytes; ``ZEROCON_CACHE_LIMIT`` or 2 GB by default.
        on_warning: Called with a line for each damaged entry, and once if the directory cannot be
            used, which is then left alone.

    Raises:
        ConfigurationError: if ``ZEROCON_CACHE_LIMIT`` is not a size.
    """

    def __init__(
        self,
        folder: Path | None = None,
        limit: int | None = None,
        on_warning: Callable[[str], None] | None = None,
    ) -> None:
        self.limit = default_limit() if limit is None else limit
        self._folder, self._on_warning, self._unusable = folder, on_warning, False
        self._private = False  # until its rights are checked

    def __repr__(self) -> str:
        return f"Cache({str(self.folder)!r}, limit={self.limit})"

    @property
    def folder(self) -> Path:
        """Directory of the entries."""
        return self._folder or cache_folder() / FOLDER

    def find(self, key: str) -> Inversion | None:
        """The inversion under ``key``, on the CPU, or None. A damaged entry is removed."""
        if not self._usable():
            return None
        try:
            path = self._path(key)
            inversion = read(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except FileFormatError as error:
            self._remove_damaged(path, error)
            return None
        except UNUSABLE as error:
            self._disable(error)
            return None
        with suppress(OSError):  # in a read-only cache the order of use is not kept
            os.utime(path)
        return inversion

    def keep(self, key: str, inversion: Inversion) -> None:
        """Write one image's ``inversion`` atomically, and remove entries to make room for it.

        Activations are left out where they are too large; an inversion that is larger than the
        limit even so is not cached.
        """
        if not self._usable():
            return
        try:
            self._write(key, inversion)
            self.prune()
        except FileNotFoundError:  # the directory was removed by another program meanwhile
            pass
        except UNUSABLE as error:
            self._disable(error)

    def keeps_activations(self, inversion: Inversion) -> bool:
        """Whether an entry of one image has the activations too: if they are small enough."""
        return inversion.observation_bytes <= SHARE * self.limit

    def entries(self) -> list[CacheEntry]:
        """All files, the least recently used first."""
        entries = []
        with suppress(FileNotFoundError, NotADirectoryError):
            for path in self.folder.iterdir():
                with suppress(FileNotFoundError):  # removed meanwhile
                    state = path.lstat()
                    entries.append(CacheEntry(path, state.st_size, state.st_mtime))
        return sorted(entries, key=lambda entry: (entry.used, entry.path))

    def prune(self, limit: int | None = None) -> list[CacheEntry]:
        """Remove entries until the others take at most ``limit`` bytes; the removed ones."""
        limit = self.limit if limit is None else limit
        entries, removed = self.entries(), []
        size = sum(entry.bytes for entry in entries)
        for entry in entries:
            # with a limit of 0, files of zero bytes are removed too
            if (size > limit or limit == 0) and self.remove([entry]):
                size -= entry.bytes
                removed.append(entry)
        return removed

    def damaged(self) -> list[CacheEntry]:
        """Entries whose content is not what was written; all of them are read."""
        damaged = []
        for entry in self.entries():
            if entry.path.suffix != SUFFIX:  # being written, or left by a killed process
                continue
            try:
                read(entry.path)
            except FileNotFoundError:  # removed meanwhile
                continue
            except (FileFormatError, OSError):
                damaged.append(entry)
        return damaged

    def remove(self, entries: Iterable[CacheEntry]) -> list[CacheEntry]:
        """Remove entries; those that could be removed."""
        removed = []
        for entry in entries:
            with suppress(OSError):  # on some systems impossible while another process reads it
                _unlink(entry.path)
                removed.append(entry)
        return removed

    def _usable(self) -> bool:
        """Whether the directory can be used; rights of other users are taken away first."""
        if not self._unusable and not self._private:
            try:
                if line := make_private(self.folder):
                    self._warn(line)
                self._private = True
            except UNUSABLE as error:
                self._disable(error)
        return not self._unusable

    def _write(self, key: str, inversion: Inversion) -> None:
        from safetensors.torch import save

        observations = self.keeps_activations(inversion) and bool(inversion.layer_patterns)
        tensors, line = inversion.to_tensors(observations=observations)
        if sum(tensor.nbytes for tensor in tensors.values()) > self.limit:
            return
        orders = {name: _memory_order(tensor) for name, tensor in tensors.items()}
        for name, order in orders.items():
            tensors[name] = tensors[name].permute(order).contiguous()
        metadata = {"inversion": line, "orders": json.dumps(orders)}
        metadata["hash"] = _hash(key, metadata, tensors)
        # copies of private images: readable by their owner only
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with writing(self._path(key), overwrite=True) as temporary:
            temporary.chmod(0o600)
            temporary.write_bytes(save(tensors, metadata))

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{SUFFIX}"

    def _remove_damaged(self, path: Path, error: FileFormatError) -> None:
        try:
            _unlink(path)
        except OSError as failure:
            self._disable(failure)
        else:
            self._warn(f"removed a damaged inversion from the cache: {path.name}: {error}")

    def _disable(self, error: BaseException) -> None:
        self._unusable = True
        self._warn(f"inversions are not cached: {error}")

    def _warn(self, warning: str) -> None:
        if self._on_warning is not None:
            self._on_warning(" ".join(warning.split()))


def key_of(
    model: Model, plan: Plan, image_key: str, caption: str, *, batch_size: int = 1
) -> str | None:
    """The hash of everything that an inversion depends on; None for a model without a fingerprint.

    Rounding is part of it: a batch differs from single images, explicit attention from fused, and
    one number of threads from another. Which activations an entry has is not part of it.
    ``image_key`` is ``Prepared.key``, with the working size.
    """
    weights = model.fingerprint()
    if weights is None:
        return None
    from zerocon.trajectory import FORMAT

    settings = plan.settings
    facts = {
        "format": FORMAT,
        "versions": package_versions(),
        "weights": weights,
        "prediction": model.prediction,
        "compute": model.runtime.compute_options(),
        "schedule": asdict(model.schedule(settings.steps)),
        "inverter": repr(plan.inverter),
        "seed": settings.seed if plan.inverter_draws else None,
        "kernels": plan.explicit_layers,
        "image": image_key,
        "caption": caption,
        "batch_size": batch_size,
    }
    line = json.dumps(facts, sort_keys=True)
    return hashlib.blake2b(line.encode(), digest_size=16).hexdigest()


def inversion_key(plan: Plan) -> tuple[object, ...]:
    """What an inversion of one image, caption and model depends on, with its recorded activations.

    Plans with equal keys share inversions in memory: their edits get the same bits, at the same
    cost. Where guidance acts and when edits begin decide which activations are recorded; an
    inversion without those that an edit needs would cost further evaluations.
    """
    settings = plan.settings
    crop = settings.crop if CROP.fullmatch(settings.crop) else None  # "auto": of the whole image
    return (
        settings.steps,
        settings.inverter,
        settings.seed,
        settings.size,
        crop,
        plan.explicit_layers,
        plan.cached_layers(),
    )


def read(path: Path) -> Inversion:
    """What ``Cache.keep`` wrote, every byte checked.

    Raises:
        FileFormatError: for anything else.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    from zerocon.trajectory import Inversion

    if path.is_dir():
        raise FileFormatError("it is a directory")
    data = path.read_bytes()  # at once: another file may be put in its place meanwhile
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise FileFormatError(str(error)) from error
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
    if metadata.pop("hash", None) != _hash(path.stem, metadata, tensors):
        raise FileFormatError("its content is not what was written")
    for name, order in json.loads(metadata["orders"]).items():
        inverse = [order.index(i) for i in range(len(order))]
        tensors[name] = (
            tensors[name].permute(inverse).clone()
        )  # a clone is aligned, as new ones are
    return Inversion.from_tensors(tensors, json.loads(metadata["inversion"]))


def size_of(text: str) -> int:
    """Bytes of a size such as "500MB", "2 GB" or "0"; ``SettingError`` for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]B)", text.strip().upper())
    if match is None and text.strip() != "0":
        raise SettingError(f'a size is like 500MB or 2GB, not "{text}"')
    return 0 if match is None else int(float(match[1]) * UNITS[match[2]])


def default_limit() -> int:
    """``ZEROCON_CACHE_LIMIT``, else ``LIMIT``, in bytes."""
    try:
        return size_of(os.environ.get(VARIABLE) or LIMIT)
    except SettingError as error:
        raise ConfigurationError(f"{VARIABLE}: {error}") from None


def _header(path: Path) -> dict[str, str]:
    """The metadata in a safetensors file's header, read without torch."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(path.stat().st_size, LONGEST_HEADER):
            raise ValueError("not a safetensors file")
        metadata: dict[str, str] = json.loads(file.read(length))["__metadata__"]
    return metadata


def _unlink(path: Path) -> None:
    """Remove a file, or an empty directory in its place."""
    path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def _memory_order(tensor: Tensor) -> list[int]:
    """Dimensions by stride, the longest first: rounding depends on a tensor's memory layout."""
    dims = list(range(tensor.ndim))
    return dims if tensor.is_contiguous() else sorted(dims, key=tensor.stride, reverse=True)


def _hash(key: str, metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    import torch

    line = json.dumps([key, metadata], sort_keys=True)
    digest = hashlib.blake2b(line.encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
