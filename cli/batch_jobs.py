"""What ``zerocon batch`` is told, as orders: pictures times wishes times strengths times seeds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from hashlib import blake2b
from itertools import product
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from zerocon.errors import FileFormatError
from zerocon.image import naming
from zerocon.settings import Settings

from . import options
from .options import shard

if TYPE_CHECKING:
    from zerocon import Model
    from zerocon.batch.job import Job

Directions = tuple[tuple[str, float], ...]
WORDS = ("from_", "to_caption", "caption")  # that are said once for all pictures
SPOKEN = {"to": "to", "from": "from_", "to_caption": "to_caption", "caption": "caption"}


def processes(text: str) -> int:
    """A number of processes; 0 for ``all``, one for every GPU."""
    if text == "all":
        return 0
    if not text.isdecimal() or int(text) < 1:
        raise click.BadParameter(f'{text!r} is neither "all" nor a number from 1')
    return int(text)


def mine(image: Path, among: tuple[int, int] | None) -> bool:
    """Whether a picture is of this part; all edits of one are of the same part, on any machine."""
    if among is None:
        return True
    digest = blake2b(os.fsencode(image), digest_size=8).digest()
    return int.from_bytes(digest) % among[1] == among[0] - 1


asked = options.together(
    click.argument("images", nargs=-1, metavar="[PICTURES]..."),
    click.option(
        "-o",
        "--output",
        "outputs",
        type=click.Path(path_type=Path, file_okay=False),
        required=True,
        metavar="FOLDER",
        help="For the results, in folders like those of the pictures, and for nothing else.",
    ),
    click.option(
        "--files-from",
        type=click.File("rb"),
        metavar="FILE",
        help="Also the pictures of a list, one a line; - is stdin.",
    ),
    click.option("-0", "--null", is_flag=True, help="That list has zero bytes between its names."),
    click.option(
        "--manifest",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Also the edits of a list: .csv, .jsonl or .toml with picture, to, from, to_caption, "
        "caption, seed, strength, name and any option of the method; what a row does not say is "
        "as for all.",
    ),
    click.option(
        "--to",
        "tos",
        multiple=True,
        metavar="WORDS",
        help='What should be there: "dog", "at night". Repeat to have each of every picture.',
    ),
    click.option("--from", "from_", metavar="WORDS", help='What it replaces; --to "" removes it.'),
    click.option("--to-caption", metavar="SENTENCE", help="The wanted pictures, described whole."),
    click.option(
        "--caption", metavar="SENTENCE", help="The pictures as they are. [default: looked at]"
    ),
    click.option(
        "--sidecars",
        is_flag=True,
        help=f"Take captions from the NAME{naming.SIDECAR} beside pictures, where there is one.",
    ),
    options.directions,
    click.option(
        "--name",
        default=naming.TEMPLATE,
        show_default=True,
        metavar="TEMPLATE",
        help=f"Of a result, with any of {', '.join(f'{{{each}}}' for each in naming.FIELDS)}; it "
        "may have folders.",
    ),
    click.option(
        "--strength",
        "strengths",
        type=float,
        multiple=True,
        help=f"Of the edit direction; repeat for several. [default: {Settings.strength}]",
    ),
    click.option(
        "--seed",
        "seeds",
        type=int,
        multiple=True,
        help=f"Of all chance there is; repeat for several. [default: {Settings.seed}]",
    ),
)


spread = options.together(
    click.option(
        "--devices",
        type=processes,
        metavar="all|N",
        help="Work in one process for every GPU, or in N; one that dies is started again.",
    ),
    click.option(
        "--backend",
        type=click.Choice(("local", "ray")),
        default="local",
        show_default=True,
        help="ray: workers of the Ray cluster that is running, or of one on this machine, one for "
        "every GPU or core, or --devices N. Needs the extra [ray].",
    ),
    click.option(
        "--shard",
        type=shard,
        metavar="I/N",
        help="Do part I of N, each with a journal of its own: for job arrays of clusters.",
    ),
    click.option("--join", type=int, hidden=True),  # a run that another process has begun
)


AUTO, MOST = "auto", 32  # pictures in a batch that nobody chose


def size(text: str) -> int:
    """A batch size; 0 is for ``count`` to choose."""
    if text == AUTO:
        return 0
    if not text.isdecimal() or int(text) < 1:
        raise click.BadParameter(f'{text!r} is neither "{AUTO}" nor a number from 1')
    return int(text)


def count(chosen: int, model: Model) -> int:
    """How many pictures go together: on a GPU, if nobody says, as many as fit into its memory."""
    if chosen or model.device.type != "cuda":
        return chosen or 1
    import torch

    from zerocon.diagnostics.cost import estimate_cost

    each = estimate_cost(model, model.settings, (model.size, model.size))
    free, _ = torch.cuda.mem_get_info(model.device)
    return max(1, min(MOST, int(0.8 * free) // (each.remembered + each.working)))


@dataclass(frozen=True)
class JobTemplate:
    """A picture, its place, and all that is said of one or more edits of it."""

    file: Path
    place: PurePosixPath
    words: Mapping[str, str]
    settings: Mapping[str, Any]
    name: str


def jobs(images: Iterable[str], values: Mapping[str, Any]) -> list[Job]:
    """Every edit that is asked for; a ``ValueError`` for what makes no sense before any begins."""
    from zerocon.batch.job import require_distinct

    given = options.explicit_settings(values)
    directions = tuple((str(file.absolute()), weight) for file, weight in values["directions"])
    prompts = [*_named(images, values), *_listed(values)]
    found = [job for prompt in prompts for job in _multiplied(prompt, values, given, directions)]
    require_distinct(found)
    return found


def _multiplied(
    prompt: JobTemplate, values: Mapping[str, Any], given: Mapping[str, Any], directions: Directions
) -> Iterator[Job]:
    """An order for everything that a wish does not say itself and that is said several times."""
    from zerocon.batch.job import Job

    many = {"to": values["tos"], "strength": values["strengths"], "seed": values["seeds"]}
    several = [
        [None] if name in {**prompt.words, **prompt.settings} else said or [None]
        for name, said in many.items()
    ]
    if "to_caption" in prompt.words:
        several[0] = [None]
    for to, strength, seed in product(*several):
        words = {**({} if to is None else {"to": to}), **prompt.words}
        own = {"strength": strength, "seed": seed}
        settings = {**given, **{k: v for k, v in own.items() if v is not None}, **prompt.settings}
        asked = naming.prompt_of(
            words.get("to"), words.get("from_"), words.get("to_caption"), optional=bool(directions)
        )
        said = {"to": asked, "from": words.get("from_", ""), **_chosen(settings)}
        name = naming.fill(prompt.name, prompt.place, said)
        yield Job(prompt.file.absolute(), name, words, settings, directions)


def _chosen(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: settings.get(name, getattr(Settings, name)) for name in ("seed", "strength")}


def _named(images: Iterable[str], values: Mapping[str, Any]) -> Iterator[JobTemplate]:
    """The pictures of the command line and of the list of names."""
    from zerocon.batch import discovery

    names = list(images)
    if values["files_from"]:
        text = os.fsdecode(values["files_from"].read())
        names += discovery.lines(text, zero=values["null"])
    words = {name: values[name] for name in WORDS if values[name] is not None}
    for each in discovery.find(names, outputs=values["outputs"]):
        said = each.caption() if values["sidecars"] else None
        own = {**words, **({} if said is None else {"caption": said})}
        yield JobTemplate(each.file, each.place, own, {}, values["name"])


def _listed(values: Mapping[str, Any]) -> Iterator[JobTemplate]:
    """The edits of a manifest; what a row does not say is as for all."""
    from zerocon.batch import manifest

    if not values["manifest"]:
        return
    words = {name: values[name] for name in WORDS if values[name] is not None}
    for row in manifest.read(values["manifest"]):
        said = dict(row.said)
        name = said.pop("name", values["name"])
        own = {word: said.pop(key) for key, word in SPOKEN.items() if key in said}
        if wrong := [
            key for key, text in {**own, "name": name}.items() if not isinstance(text, str)
        ]:
            raise FileFormatError(f"{row.where}: {wrong[0]} must be text")
        own = own if {"to", "to_caption"} & {*own} else {**words, **own}
        try:
            settings = options.validated(dict(_settings(said)))
        except (ValueError, click.UsageError) as error:
            raise FileFormatError(f"{row.where}: {error}") from None
        yield JobTemplate(
            row.image, _place(row.image, values["manifest"].parent), own, settings, name
        )


def _settings(said: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Settings of a row, which as text are what somebody would type."""
    from zerocon.batch import manifest

    ctx = click.get_current_context()
    known = {str(param.name): param for param in ctx.command.params}
    for key, value in said.items():
        name = key.replace("-", "_")
        option = known.get({"seed": "seeds", "strength": "strengths"}.get(name, name))
        if option is None or name not in {field.name for field in fields(Settings)}:
            there = ", ".join([*manifest.KEYS, *(field.name for field in fields(Settings))])
            raise FileFormatError(f'no column "{key}"; there are: {there}')
        if isinstance(value, str):
            value = option.type(value, option, ctx)
            value = (value,) if name == "guidance" else value
        yield name, tuple(value) if isinstance(value, list) else value


def _place(image: Path, folder: Path) -> PurePosixPath:
    """Where a listed picture's results lie: as it lies beside the list, if it does."""
    below = image.is_relative_to(folder) and ".." not in image.relative_to(folder).parts
    return PurePosixPath(image.relative_to(folder).as_posix() if below else image.name)
