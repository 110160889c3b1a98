"""A job: one edit of one image, and the name of its result."""

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

PROMPT_FIELDS = ("to", "from_", "to_caption", "caption")  # arguments of ``zerocon.edit``


@dataclass(frozen=True)
class Job:
    """One edit of a batch.

    Args:
        image: The image file.
        name: Path of the result, relative to the output directory.
        prompt: Arguments of ``zerocon.edit`` by name (``PROMPT_FIELDS``); absent ones are not set.
        settings: Settings that differ from the model's own.
        directions: Files of edit directions, each with its weight.
        mask: File of a mask: white where the image may change.
        mask_text: What may change, in words, instead of ``mask``.

    Raises:
        CommandError: For both a mask and a text.
    """

    image: Path
    name: PurePosixPath
    prompt: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    directions: tuple[tuple[str, float], ...] = ()
    mask: Path | None = None
    mask_text: str | None = None

    def __post_init__(self) -> None:
        if self.mask and self.mask_text:
            raise CommandError(f"the job {self.name} has a mask and a mask_text; give one of them")

    def to_json(self) -> str:
        """Return one line of ASCII JSON; equal jobs give equal lines."""
        fields = asdict(self) | {"image": str(self.image), "name": str(self.name)}
        fields["mask"] = self.mask and str(self.mask)
        return json.dumps(fields, sort_keys=True)  # ASCII: a file name may be invalid UTF-8

    @classmethod
    def from_json(cls, line: str) -> Job:
        """Parse what ``to_json`` returned, also before there were masks."""
        fields = json.loads(line)
        mask = fields.get("mask")
        return cls(
            Path(fields["image"]),
            PurePosixPath(fields["name"]),
            fields["prompt"],
            fields["settings"],
            tuple((file, weight) for file, weight in fields["directions"]),
            None if mask is None else Path(mask),
            fields.get("mask_text"),
        )

    def hash(self, shared: Mapping[str, Any]) -> str:
        """Hash everything that determines the result except the image.

        Args:
            shared: What is common to all jobs of a run: weights, metadata level and the like.

        Returns:
            32 hexadecimal digits.
        """
        fields = {
            "prompt": dict(self.prompt),
            "settings": dict(self.settings),
            "directions": [(file_hash(Path(file)), weight) for file, weight in self.directions],
            "mask": self.mask and _content(self.mask),
            "mask_text": self.mask_text,
            "suffix": self.name.suffix.lower(),
            "shared": dict(shared),
        }
        return blake2b(json.dumps(fields, sort_keys=True).encode(), digest_size=16).hexdigest()


def _content(file: Path) -> str:
    """Hash of a file's bytes; "" if it cannot be read, for which the job will give the reason."""
    try:
        return file_hash(file)
    except OSError:
        return ""


def require_distinct(jobs: Iterable[Job]) -> None:
    """Check that no two results have the same name, also where case is ignored.

    Some file systems distinguish ``Cat.png`` from ``cat.png``, or composed from decomposed
    accents, and some do not; an output directory may be copied to one that does not.

    Raises:
        CommandError: For the first two jobs whose results have one name.
    """
    seen: dict[str, Job] = {}
    for job in jobs:
        name = unicodedata.normalize("NFC", str(job.name)).casefold()
        other = seen.setdefault(name, job)
        if other is job:
            continue
        if other.image != job.image:
            clash, fields = f"{other.image} and {job.image}", "{stem}, {to}, {from}, {seed}"
        else:
            clash, fields = f"two edits of {job.image}", "{to}, {from}, {seed}"
        raise CommandError(
            f"{clash} would both be saved as {job.name}; make the names distinct with --name, "
            f"which may use {fields} and {{strength}}"
        )
