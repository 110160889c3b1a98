"""Inversions kept on disk: the second edit of a picture does none of the source's work.

An entry is found under the hash of all that it depends on, so that an edit beside it comes out the
same, to the bit, as one without. It costs no more than time where the folder is full, may not be
written or holds something else; several programs may use it at once.
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

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as deserialize
from safetensors.torch import save as serialize
from torch import Tensor

from zerocon.editing import Plan
from zerocon.errors import ConfigurationError, FileFormatError, SettingError
from zerocon.model.fingerprint import cache_folder
from zerocon.registry import available, parse
from zerocon.settings import Settings
from zerocon.storage.atomic import writing
from zerocon.storage.versions import package_versions
from zerocon.trajectory import FORMAT, Inversion

if TYPE_CHECKING:
    from zerocon.model import Model

FOLDER, ENDING = "inversions", ".safetensors"
LIMIT = "2GB"  # in all; 54 pictures of mini with what they showed, or 299 paths of 512x512 pixels
VARIABLE = "ZEROCON_CACHE_LIMIT"  # says another limit
# What the network showed is kept up to this part of the limit, else only the path. Mini's is 36 MB,
# read in a tenth of the time that it took on a CPU core. Stable Diffusion 1's at 512 pixels is
# 2.3 GB in float16: more than a second picture leaves room for, and long to write after every edit.
PART = 0.5
UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
FACTS = ("caption", "model", "steps", "seen")
TROUBLE = (OSError, RuntimeError, MemoryError)  # torch says "can't allocate" by RuntimeError


@dataclass(frozen=True)
class CacheEntry:
    """A file of the cache: its size, and when it was last of use, in seconds since 1970."""

    path: Path
    bytes: int
    used: float

    def facts(self) -> dict[str, Any]:
        """Caption, model, steps, and whether it holds what was seen; None for what is not known."""
        try:
            with safe_open(self.path, framework="pt") as file:
                said = json.loads(file.metadata()["inversion"])
            steps = len(said["schedule"]["times"]) - 1
            about = said["captions"][0], said["model"], steps, "watches" in said
        except (SafetensorError, OSError, RuntimeError, ValueError, LookupError, TypeError):
            return dict.fromkeys(FACTS)
        return dict(zip(FACTS, about, strict=True))


class Cache:
    """Inversions by key, never more than ``limit`` bytes: those unused for longest go first.

    ``folder`` defaults to ``inversions`` in ``zerocon.model.fingerprint.cache_folder()``, ``limit`` to
    ``ZEROCON_CACHE_LIMIT``, then to 2 GB. ``on_warning`` hears of each damaged entry, and once of a
    folder that is of no use, which is then left alone. Raises ``ValueError`` for a variable that is
    no size.
    """

    def __init__(
        self,
        folder: Path | None = None,
        limit: int | None = None,
        on_warning: Callable[[str], None] | None = None,
    ) -> None:
        self.limit = usual_limit() if limit is None else limit
        self._folder, self._on_warning, self._useless = folder, on_warning, False

    @property
    def folder(self) -> Path:
        """Where the entries lie."""
        return self._folder or cache_folder() / FOLDER

    def find(self, key: str) -> Inversion | None:
        """What is kept under ``key``, in the computer's memory; None if nothing is.

        What is there but damaged is removed, after a warning.
        """
        if self._useless:
            return None
        try:
            path = self._path(key)
            found = read(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except FileFormatError as error:
            self._remove_damaged(path, error)
            return None
        except TROUBLE as error:
            self._give_up(error)
            return None
        with suppress(OSError):  # may only be read; then others go first
            os.utime(path)
        return found

    def keep(self, key: str, inversion: Inversion) -> None:
        """Write one picture's ``inversion``, whole or not at all, and make room for it.

        What the network showed is left out where it is too large; what is larger than the limit
        even so is not kept.
        """
        if self._useless:
            return
        try:
            small = inversion.shown <= PART * self.limit
            tensors, history = inversion.parts(seen=small and bool(inversion.layer_patterns))
            if sum(part.nbytes for part in tensors.values()) > self.limit:
                return
            orders = {name: _order(part) for name, part in tensors.items()}
            for name, order in orders.items():
                tensors[name] = tensors[name].permute(order).contiguous()
            metadata = {"inversion": history, "orders": json.dumps(orders)}
            metadata["hash"] = _hash(key, metadata, tensors)
            # copies of private pictures: for their owner's eyes only
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with writing(self._path(key), overwrite=True) as temporary:
                temporary.write_bytes(serialize(tensors, metadata))
            self.prune()
        except FileNotFoundError:  # somebody cleared it meanwhile, half written files and all
            pass
        except TROUBLE as error:
            self._give_up(error)

    def entries(self) -> list[CacheEntry]:
        """All files, those unused for longest first."""
        found = []
        with suppress(FileNotFoundError, NotADirectoryError):
            for path in self.folder.iterdir():
                with suppress(FileNotFoundError):  # evicted meanwhile
                    state = path.lstat()
                    found.append(CacheEntry(path, state.st_size, state.st_mtime))
        return sorted(found, key=lambda entry: (entry.used, entry.path))

    def prune(self, limit: int | None = None) -> list[CacheEntry]:
        """Remove entries until the rest takes ``limit`` bytes at most, or the cache's own limit."""
        limit = self.limit if limit is None else limit
        there, gone = self.entries(), []
        size = sum(entry.bytes for entry in there)
        for entry in there:
            # a limit of nothing: no empty file either
            if (size > limit or limit == 0) and self.remove([entry]):
                size -= entry.bytes
                gone.append(entry)
        return gone

    def damaged(self) -> list[CacheEntry]:
        """Entries that are not what was written; all of them are read."""
        found = []
        for entry in self.entries():
            if entry.path.suffix != ENDING:  # somebody is writing it, or was killed meanwhile
                continue
            try:
                read(entry.path)
            except FileNotFoundError:  # evicted meanwhile
                continue
            except (FileFormatError, OSError):
                found.append(entry)
        return found

    def remove(self, entries: Iterable[CacheEntry]) -> list[CacheEntry]:
        """Remove them; those that could be."""
        gone = []
        for entry in entries:
            with suppress(OSError):  # on some systems nobody can while somebody reads it
                _unlink(entry.path)
                gone.append(entry)
        return gone

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{ENDING}"

    def _remove_damaged(self, path: Path, error: FileFormatError) -> None:
        try:
            _unlink(path)
        except OSError as trouble:
            self._give_up(trouble)
        else:
            self._say(f"a cached inversion is damaged and made again: {path.name}: {error}")

    def _give_up(self, error: BaseException) -> None:
        self._useless = True
        self._say(f"inversions are not cached: {error}")

    def _say(self, warning: str) -> None:
        if self._on_warning is not None:
            self._on_warning(" ".join(warning.split()))


def key_of(
    model: Model, settings: Settings, image: str, caption: str, *, together: int = 1
) -> str | None:
    """The hash of all that an inversion depends on; None for a model without a fingerprint.

    ``image`` is its ``fingerprint``. In a batch each picture comes out as alone but for rounding,
    so ``together``, how many were inverted in one, makes another key. So do the layers that are
    watched, which compute in another order meanwhile, and the number of threads.
    """
    known = model.fingerprint()
    if known is None:
        return None
    inverter = parse(settings.inverter, available("inverter"), "inverter")
    told = {
        "format": FORMAT,
        "versions": package_versions(),
        "weights": known,
        "prediction": model.prediction,
        "compute": model.runtime.compute_options(),
        "size": (model.size, model.multiple),  # with the picture's own: that at which it is seen
        "schedule": asdict(model.schedule(settings.steps)),
        "inverter": repr(inverter),
        "seed": settings.seed if getattr(inverter, "chance", True) else None,
        "watches": sorted(Plan.of(settings).layer_patterns) if settings.cache_source else [],
        "image": image,
        "caption": caption,
        "together": together,
    }
    line = json.dumps(told, sort_keys=True)
    return hashlib.blake2b(line.encode(), digest_size=16).hexdigest()


def read(path: Path) -> Inversion:
    """What ``Cache.keep`` wrote, every byte checked; anything else is a ``ValueError``."""
    if path.is_dir():
        raise FileFormatError("it is a folder")
    data = path.read_bytes()  # at once: meanwhile another may be put in its place
    try:
        tensors = deserialize(data)
    except SafetensorError as error:
        raise FileFormatError(str(error)) from error
    said = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
    if said.pop("hash", None) != _hash(path.stem, said, tensors):
        raise FileFormatError("its content is not what was written")
    for name, order in json.loads(said["orders"]).items():
        back = [order.index(i) for i in range(len(order))]
        tensors[name] = tensors[name].permute(back).clone()  # a clone is aligned as new ones are
    return Inversion.of_parts(tensors, json.loads(said["inversion"]))


def _unlink(path: Path) -> None:
    """Remove a file, or an empty folder in its place."""
    path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def size_of(text: str) -> int:
    """Bytes of a size: "500MB", "2 GB", "0"; ``ValueError`` for anything else."""
    said = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]B)", text.strip().upper())
    if said is None and text.strip() != "0":
        raise SettingError(f'a size is like 500MB or 2GB, not "{text}"')
    return 0 if said is None else int(float(said[1]) * UNITS[said[2]])


def usual_limit() -> int:
    """What the environment says, else ``LIMIT``."""
    try:
        return size_of(os.environ.get(VARIABLE) or LIMIT)
    except SettingError as error:
        raise ConfigurationError(f"{VARIABLE}: {error}") from None


def _order(part: Tensor) -> list[int]:
    """Dimensions, the longest stride first: rounding depends on how a tensor lies in memory."""
    dims = list(range(part.ndim))
    return dims if part.is_contiguous() else sorted(dims, key=part.stride, reverse=True)


def _hash(key: str, said: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    told = json.dumps([key, said], sort_keys=True)
    digest = hashlib.blake2b(told.encode(), digest_size=16)
    for name in sorted(tensors):
        part = tensors[name]
        digest.update(f"{name} {part.dtype} {tuple(part.shape)}\n".encode())
        digest.update(part.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
