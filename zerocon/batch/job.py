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

WORDS = ("to", "source", "to_caption", "caption")


@dataclass(frozen=True)
class Order:
    """An edit to be made.

    ``picture`` is a file, ``name`` the result's place below the output folder, ``words`` what
    ``zerocon.edit`` is told (``WORDS``, as far as given), ``settings`` those that are not the
    model's own, ``directions`` files and their weights.
    """

    picture: Path
    name: PurePosixPath
    words: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    directions: tuple[tuple[str, float], ...] = ()

    def to_json(self) -> str:
        """One line; equal orders, equal lines."""
        said = asdict(self) | {"picture": str(self.picture), "name": str(self.name)}
        return json.dumps(said, sort_keys=True)  # in ASCII: a file's name may be no text

    @classmethod
    def from_json(cls, line: str) -> Order:
        """What ``to_json`` wrote."""
        said = json.loads(line)
        return cls(
            Path(said["picture"]),
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


def require_distinct(orders: Iterable[Order]) -> None:
    """Raise ``CommandError`` if two results would have one name, also where letters' case is lost.

    Some file systems tell ``Cat.png`` from ``cat.png``, or two ways to write an accent, and some do
    not; a folder made here may be copied there.
    """
    seen: dict[str, Order] = {}
    for order in orders:
        name = unicodedata.normalize("NFC", str(order.name)).casefold()
        other = seen.setdefault(name, order)
        if other is not order:
            raise CommandError(
                f"{other.picture} and {order.picture} would both become {order.name}; tell them "
                "apart with --name, which may use {stem}, {to}, {from}, {seed} and {strength}"
                if other.picture != order.picture
                else f"two edits of {order.picture} would both become {order.name}; tell them "
                "apart with --name, which may use {to}, {from}, {seed} and {strength}"
            )
