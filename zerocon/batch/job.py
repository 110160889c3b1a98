"""One edit of many: what is asked of which picture, and what the result is called."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any

from zerocon.errors import CommandError
from zerocon.storage.hashing import file_hash

WORDS = ("to", "from_", "to_caption", "caption")


@dataclass(frozen=True)
class Job:
    """An edit to be made.

    ``image`` is a file, ``name`` the result's place below the output folder, ``words`` what
    ``zerocon.edit`` is told (``WORDS``, as far as given), ``settings`` those that are not the
    model's own, ``directions`` files and their weights.
    """

    image: Path
    name: PurePosixPath
    words: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    directions: tuple[tuple[str, float], ...] = ()

    def to_json(self) -> str:
        """One line; equal orders, equal lines."""
        said = asdict(self) | {"image": str(self.image), "name": str(self.name)}
        return json.dumps(said, sort_keys=True)  # in ASCII: a file's name may be no text

    @classmethod
    def from_json(cls, line: str) -> Job:
        """What ``to_json`` wrote."""
        said = json.loads(line)
        return cls(
            Path(said["image"]),
            PurePosixPath(said["name"]),
            said["words"],
            said["settings"],
            tuple((file, weight) for file, weight in said["directions"]),
        )

    def hash(self, shared: Mapping[str, Any]) -> str:
        """Of all that decides the result but the picture itself; ``shared`` is told of all."""
        said = {
            "words": dict(self.words),
            "settings": dict(self.settings),
            "directions": [(file_hash(Path(file)), weight) for file, weight in self.directions],
            "kind": self.name.suffix.lower(),
            "shared": dict(shared),
        }
        return blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=16).hexdigest()


def require_distinct(jobs: Iterable[Job]) -> None:
    """Raise ``CommandError`` if two results would have one name, also where letters' case is lost.

    Some file systems tell ``Cat.png`` from ``cat.png``, or two ways to write an accent, and some do
    not; a folder made here may be copied there.
    """
    seen: dict[str, Job] = {}
    for job in jobs:
        name = unicodedata.normalize("NFC", str(job.name)).casefold()
        other = seen.setdefault(name, job)
        if other is not job:
            raise CommandError(
                f"{other.image} and {job.image} would both become {job.name}; tell them "
                "apart with --name, which may use {stem}, {to}, {from}, {seed} and {strength}"
                if other.image != job.image
                else f"two edits of {job.image} would both become {job.name}; tell them "
                "apart with --name, which may use {to}, {from}, {seed} and {strength}"
            )
