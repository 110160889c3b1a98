"""A job: one edit of one image, and the name of its result."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import Any

from zerocon.errors import CommandError
from zerocon.storage.hashing import file_hash
from zerocon.storage.paths import result_fault

TEXTS = ("image", "name")  # fields of the record of a job
PARTS = ("prompt", "settings", "directions", "mask", "mask_text", "exemplars")
MOST_VALUES = 64  # settings of a job, and values of one setting
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
        exemplars: Files of exemplars, each with its weight: the job is a translation, ``image`` its
            condition, ``settings`` are of ``TranslationSettings``, and there is no prompt.

    Raises:
        CommandError: For both a mask and a text, or an exemplar and parts of an edit.
    """

    image: Path
    name: PurePosixPath
    prompt: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    directions: tuple[tuple[str, float], ...] = ()
    mask: Path | None = None
    mask_text: str | None = None
    exemplars: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        if self.mask and self.mask_text:
            raise CommandError(f"the job {self.name} has a mask and a mask_text; give one of them")
        if self.exemplars and (self.prompt or self.directions or self.mask or self.mask_text):
            raise CommandError(f"the job {self.name} has an exemplar: a translation has no edit")

    def to_json(self) -> str:
        """Return one line of ASCII JSON; equal jobs give equal lines."""
        fields = asdict(self) | {"image": str(self.image), "name": str(self.name)}
        fields["mask"] = self.mask and str(self.mask)
        return json.dumps(fields, sort_keys=True)  # ASCII: a file name may be invalid UTF-8

    @classmethod
    def from_json(cls, line: str) -> Job:
        """Parse what ``to_json`` returned, also before there were masks.

        Raises:
            ValueError: It is something else, or its result is outside of the output directory.
        """
        fields = json.loads(line)
        if fault := _fault(fields) or result_fault(fields["name"]):
            raise ValueError(fault)
        mask = fields.get("mask")
        return cls(
            Path(fields["image"]),
            PurePosixPath(fields["name"]),
            fields["prompt"],
            fields["settings"],
            tuple((file, weight) for file, weight in fields["directions"]),
            None if mask is None else Path(mask),
            fields.get("mask_text"),
            tuple((file, weight) for file, weight in fields.get("exemplars", ())),
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
        if self.exemplars:  # else the hash is that of jobs before there were translations
            fields["exemplars"] = [(_content(Path(f)), weight) for f, weight in self.exemplars]
        return blake2b(json.dumps(fields, sort_keys=True).encode(), digest_size=16).hexdigest()


def _fault(fields: Any) -> str | None:
    """What in a record of a job has a wrong type; None for a right one."""
    if not isinstance(fields, dict) or not set(TEXTS) <= fields.keys() <= {*TEXTS, *PARTS}:
        return "it is not the record of a job"
    texts = [fields[name] for name in TEXTS]
    texts += [fields[name] for name in ("mask", "mask_text") if fields.get(name) is not None]
    prompt, settings, directions = (fields.get(name) for name in PARTS[:3])
    if not isinstance(prompt, dict) or not isinstance(settings, dict):
        return "prompt or settings are no records"
    if len(settings) > MOST_VALUES or not all(map(_is_setting, settings.values())):
        return "its settings are not values, or lists of them"
    if not prompt.keys() <= {*PROMPT_FIELDS} or not all(isinstance(n, str) for n in settings):
        return "it has an unknown prompt"
    if not all(isinstance(text, str) and "\0" not in text for text in [*texts, *prompt.values()]):
        return "a text has another type"
    for name, pairs in (("directions", directions), ("exemplars", fields.get("exemplars", []))):
        if not isinstance(pairs, list):
            return f"its {name} are no pairs"
        if not all(isinstance(each, list) and len(each) == 2 for each in pairs):
            return f"its {name} are no pairs"
        if not all(isinstance(file, str) and _is_number(weight) for file, weight in pairs):
            return f"its {name} are no files with weights"
    return None


def _is_setting(value: object) -> bool:
    """Whether it is a value or a list of some: others take much memory."""
    values = value if isinstance(value, list) else [value]
    return len(values) <= MOST_VALUES and not any(isinstance(v, list | dict) for v in values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


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
