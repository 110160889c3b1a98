"""Expansion of images x prompts x strengths x seeds into jobs, and their division into shards."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any

from zerocon.batch import discovery, manifest
from zerocon.batch.job import Job, require_distinct
from zerocon.batch.parameters import BatchOptions
from zerocon.errors import CommandError, PromptError
from zerocon.image import naming
from zerocon.settings import PRESETS, Settings, without_none
from zerocon.storage.atomic import require_short


@dataclass(frozen=True)
class JobTemplate:
    """One image and what is set for it alone; expands to one job or several.

    ``relative`` is the image's path below the output directory.
    """

    image: Path
    relative: PurePosixPath
    prompt: Mapping[str, str]
    settings: Mapping[str, Any]
    name: str
    mask: Path | None = None
    mask_text: str | None = None
    exemplars: tuple[tuple[Path, float], ...] = ()


def expand(options: BatchOptions) -> list[Job]:
    """Return all jobs of a batch, in order, before sharding.

    Raises:
        ValueError: For anything that would fail in every run: missing images, prompts without a
            meaning, unknown settings, results with equal names.
    """
    settings = check_settings({**PRESETS.get(options.preset or "", {}), **options.settings})
    jobs = [each for each in options.images if isinstance(each, Job)]
    jobs += [job for each in _from_names(options) for job in _product(each, options, settings)]
    jobs += _from_manifest(options, settings)
    require_distinct(jobs)
    if not jobs:
        names = ", ".join(str(each) for each in options.images)
        raise CommandError(f"no images in {names or options.files_from or options.manifest}")
    return jobs


def ignored_files(options: BatchOptions) -> tuple[Path, ...]:
    """Return the files in the input directories that are no images by their endings."""
    names = [each for each in options.images if isinstance(each, str)]
    files = discovery.find_ignored(names, output=options.output)
    captions = {naming.SIDECAR} if options.sidecars else set[str]()
    return tuple(file for file in files if file.suffix not in captions)


def in_shard(image: Path, shard: tuple[int, int] | None) -> bool:
    """Whether an image belongs to part I of N; all edits of one image do, on every machine."""
    if shard is None:
        return True
    digest = blake2b(os.fsencode(image), digest_size=8).digest()
    return int.from_bytes(digest) % shard[1] == shard[0] - 1


def check_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with ``guidance`` as a tuple ("none": empty), if all of them are valid.

    Raises:
        ValueError: For an unknown setting, method or method option, or an invalid value.
    """
    from zerocon.registry import available, parse

    checked = dict(values)
    for name in ("guidance", "attention"):
        if isinstance(checked.get(name), str):
            checked[name] = (checked[name],)
    checked = without_none(checked)
    settings = _usual().overlay(checked)
    methods = [("guidance", text) for text in checked.get("guidance", ())]
    methods += [("inverter", checked["inverter"])] if "inverter" in checked else []
    if "attention" in checked:
        methods += [("attention", text) for text in settings.attention_controls]
    for family, text in methods:
        parse(text, available(family), family)
    return checked


@cache
def _usual() -> Settings:
    return Settings()


def _product(
    template: JobTemplate, options: BatchOptions, settings: Mapping[str, Any]
) -> Iterator[Job]:
    """Yield a job for every combination of the values that the template does not set itself."""
    if template.exemplars:
        yield from _translations(template, options, settings)
        return
    fixed = {**template.prompt, **template.settings}
    axes: dict[str, tuple[Any, ...]] = {
        "to": () if "to_caption" in fixed else options.to,
        "strength": options.strength,
        "seed": options.seed,
    }
    values = [(None,) if name in fixed else axis or (None,) for name, axis in axes.items()]
    for to, strength, seed in product(*values):
        prompt = {**({} if to is None else {"to": to}), **template.prompt}
        numbers = {"strength": strength, "seed": seed}
        numbers = {name: number for name, number in numbers.items() if number is not None}
        merged = {**settings, **numbers, **template.settings}
        name = _result_name(template, prompt, merged, optional=bool(options.directions))
        yield Job(
            template.image.absolute(), name, prompt, merged, options.directions,
            template.mask and template.mask.absolute(), template.mask_text or None,
        )  # fmt: skip


def _translations(
    template: JobTemplate, options: BatchOptions, settings: Mapping[str, Any]
) -> Iterator[Job]:
    """Yield a translation for every seed; of the settings for all rows it takes steps and seed."""
    from zerocon.batch.translating import translation_settings

    seeds: Sequence[int | None] = () if "seed" in template.settings else options.seed
    exemplars = tuple((str(file.absolute()), weight) for file, weight in template.exemplars)
    common = {name: value for name, value in settings.items() if name in ("steps", "seed")}
    for seed in seeds or (None,):
        number = {} if seed is None else {"seed": seed}
        merged = translation_settings([common, number, template.settings])
        words = {"to": template.exemplars[0][0].stem, "seed": merged.get("seed", Settings.seed)}
        suffix = naming.suffix_of(template.image)
        name = naming.fill(
            template.name, template.relative, {"from": "", "strength": 1.0, **words}, suffix=suffix
        )
        require_short(name)
        yield Job(template.image.absolute(), name, {}, merged, exemplars=exemplars)


def _result_name(
    template: JobTemplate, prompt: Mapping[str, str], settings: Mapping[str, Any], *, optional: bool
) -> PurePosixPath:
    text = naming.prompt_of(
        prompt.get("to"), prompt.get("from_"), prompt.get("to_caption"), optional=optional
    )
    numbers = {name: settings.get(name, getattr(Settings, name)) for name in ("seed", "strength")}
    values = {"to": text, "from": prompt.get("from_", ""), **numbers}
    suffix = naming.suffix_of(template.image)
    name = naming.fill(template.name, template.relative, values, suffix=suffix)
    require_short(name)
    return name


def _shared_prompt(options: BatchOptions) -> dict[str, str]:
    """The parts of a prompt that are one for all images."""
    names = ("from_", "to_caption", "caption")
    values = {name: getattr(options, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _from_names(options: BatchOptions) -> Iterator[JobTemplate]:
    """Yield the images that arguments and the list of names refer to."""
    names = [each for each in options.images if isinstance(each, str)]
    if options.files_from:
        names += discovery.read_names(options.files_from, null=options.null)
    for image in discovery.find_images(names, output=options.output):
        caption = image.caption() if options.sidecars else None
        prompt = {**_shared_prompt(options), **({} if caption is None else {"caption": caption})}
        yield JobTemplate(
            image.file, image.relative, prompt, {}, options.name, mask_text=options.mask_text
        )


def _from_manifest(options: BatchOptions, settings: Mapping[str, Any]) -> list[Job]:
    """Return the jobs of the manifest; what a row does not set is as for all images."""
    if not options.manifest:
        return []
    folder = options.manifest.parent

    def convert(row: manifest.ManifestRow) -> list[Job]:
        template = _template(row, options, folder)
        try:
            return list(_product(template, options, settings))
        except PromptError:
            problem = "no prompt; fill in to or to_caption, or give --to for all rows"
            raise manifest.cell_error("to", problem) from None
        except CommandError as error:
            if row.name is None:
                raise  # the template for all rows is at fault
            raise manifest.cell_error("name", error) from None

    return [job for jobs in manifest.read_manifest(options.manifest, convert) for job in jobs]


def _template(row: manifest.ManifestRow, options: BatchOptions, folder: Path) -> JobTemplate:
    relative, name = _relative(row.image, folder), row.name or options.name
    if row.exemplars:
        return _translation_template(row, relative, name)
    complete = {"to", "to_caption"} & {*row.prompt}
    prompt = {**({} if complete else _shared_prompt(options)), **row.prompt}
    settings: dict[str, Any] = {}
    for column, value in row.settings.items():
        try:
            settings |= check_settings({column: value})
        except ValueError as error:
            raise manifest.cell_error(column, error) from None
    text = options.mask_text if row.mask is None and row.mask_text is None else row.mask_text
    return JobTemplate(row.image, relative, prompt, settings, name, row.mask, text)


def _translation_template(
    row: manifest.ManifestRow, relative: PurePosixPath, name: str
) -> JobTemplate:
    from zerocon.batch.translating import translation_settings

    for column, value in row.settings.items():
        try:
            translation_settings([{column: value}])
        except ValueError as error:
            raise manifest.cell_error(column, error) from None
    return JobTemplate(row.image, relative, {}, row.settings, name, exemplars=row.exemplars)


def _relative(image: Path, folder: Path) -> PurePosixPath:
    """The image's path below the manifest's directory, or its name if it is not below it."""
    below = image.is_relative_to(folder) and ".." not in image.relative_to(folder).parts
    return PurePosixPath(image.relative_to(folder).as_posix() if below else image.name)
