"""Paths and models that a journal names: those of a stranger need the command line's word."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from glob import glob, has_magic
from os import PathLike
from pathlib import Path

from zerocon.batch.commit import inputs_of
from zerocon.batch.job import Job
from zerocon.batch.parameters import BatchOptions, RunParameters
from zerocon.errors import UntrustedReferenceError
from zerocon.storage.paths import names_path


def require_named(options: BatchOptions, parameters: RunParameters, jobs: Iterable[Job]) -> None:
    """Check what the last run of a journal reads, if it is not known to be this user's own.

    Files must be in the output directory, or be or be below what the command names as images.
    Models must be named by the command, or be ``mini`` or Hub ids: those are read from the cache.
    Less privacy, and a higher limit of pixels, need an option of the command.

    Args:
        options: Of this command.
        parameters: Of the run, as the journal has them.
        jobs: Of the run.

    Raises:
        UntrustedReferenceError: For the first file, model or parameter that is none of these.
    """
    roots = {options.output.resolve(), *(Path(each).resolve() for each in _named(options))}
    for file in sorted(inputs_of(jobs)):
        if not _below(file, roots):
            raise UntrustedReferenceError(
                f"the journal of {options.output} names {file}, which this command does not; name "
                f"the directories of the images: zerocon batch DIR -o {options.output} --resume"
            )
    models = {"model": parameters.model, "segmenter": parameters.segmenter}
    models |= {name: parameters.load.get(name) for name in ("captioner", "clip", "vae")}
    for name, value in models.items():
        if value is None or name in options.given:
            continue
        if not isinstance(value, str) or names_path(value, part=name != "model"):
            raise UntrustedReferenceError(
                f"the journal of {options.output} names the {name} {value!r}, a path that this "
                f"command does not name; give --{name}"
            )
    for option, weakened in _weakened(parameters).items():
        if weakened and option not in options.given:
            raise UntrustedReferenceError(
                f"the journal of {options.output} sets {option.replace('_', ' ')} to "
                f"{getattr(parameters, option)!r}, which this command does not; give "
                f"--{option.replace('_', '-')}"
            )


def _weakened(parameters: RunParameters) -> dict[str, bool]:
    """Which parameters give away more than the defaults do, or admit larger images."""
    usual = RunParameters()
    return {
        "keep_gps": parameters.keep_gps and not usual.keep_gps,
        "metadata": parameters.metadata != usual.metadata,
        "max_megapixels": parameters.max_megapixels > usual.max_megapixels,
    }


def _named(options: BatchOptions) -> Iterator[str | PathLike[str]]:
    """The files and directories that the command names, patterns expanded."""
    for each in options.images:
        if isinstance(each, str):
            yield each
            if has_magic(each):
                yield from glob(each, recursive=True)


def _below(file: Path, roots: Iterable[Path]) -> bool:
    real = file.resolve()
    return any(real.is_relative_to(root) for root in roots)
