"""``zerocon direction``: estimate an edit direction once, for many edits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from zerocon.errors import about
from zerocon.image.naming import slug
from zerocon.image.read_options import ReadOptions
from zerocon.storage.escaping import markdown_row

from .. import options, render, stdio
from ..help import group

if TYPE_CHECKING:
    from PIL.Image import Image

    from zerocon import Direction, Model

EXTENSION = ".safetensors"
FILE = click.Path(path_type=Path)
SHOWN = 3  # sentences of each side on a page


@group(
    "direction",
    invoke_without_command=True,
    examples=(
        'zerocon direction --from "by day" --to "at night"',
        "zerocon direction --from-file cats.txt --to-file dogs.txt -o cat2dog.safetensors",
        "zerocon direction test cat2dog.safetensors cat.jpg",
        "zerocon edit cat.jpg --direction cat2dog.safetensors:0.8",
    ),
)
@cloup.option_group(
    "Prompt",
    click.option("--from", "from_", metavar="TEXT", help='Source: "cat", "by day".'),
    click.option("--to", "target", metavar="TEXT", help='Target: "dog", "at night".'),
    click.option(
        "--from-file",
        metavar="FILE",
        type=FILE,
        help="Source sentences, one per line; # begins a comment.",
    ),
    click.option("--to-file", metavar="FILE", type=FILE, help="Target sentences."),
)
@cloup.option_group(
    "Output",
    options.output_file("-o", "--output", help=f"Direction file. [default: FROM-to-TO{EXTENSION}]"),
    options.overwrite,
)
@options.model
@options.output_format
@options.verbosity
@click.pass_context
def command(ctx: click.Context, /, **values: Any) -> None:
    """Estimate an edit direction between two texts and save it.

    It is the difference of the mean embeddings of target and source sentences, from a sentence
    bank or from your own UTF-8 files; --from and --to then only name it.
    """
    if ctx.invoked_subcommand:
        if any(map(options.on_command_line, values)):
            raise click.UsageError(f"options come after {ctx.invoked_subcommand}, not before it")
        return
    import zerocon
    from zerocon.diagnostics.text_check import check_direction
    from zerocon.image.saving import check_output

    texts, files = (values["from_"], values["target"]), (values["from_file"], values["to_file"])
    if not all(file or (text or "").strip() for text, file in zip(texts, files, strict=True)):
        raise click.UsageError("give both sides: --from cat --to dog, or --from-file and --to-file")
    names = (texts[0] or files[0].stem, texts[1] or files[1].stem)
    output = values["output"] or Path(f"{slug(' to '.join(names))}{EXTENSION}")
    inputs = options.input_files(values, *files)
    check_output(output, overwrite=values["overwrite"], inputs=inputs, endings=(EXTENSION,))
    sides = [_sentences(name, file) for name, file in zip(names, files, strict=True)]
    model = options.load_model(values)
    if any(files):
        direction = zerocon.Direction.between(model, *sides, words=names)
    else:
        direction = zerocon.Direction.of_words(model, *names)
    direction.save(output, overwrite=values["overwrite"])
    render.warn(check_direction(model, direction))
    if not options.is_quiet():
        render.print_message(_summary(direction))
    record = {"output": str(output), **_record(direction)}
    render.print_result(values["form"], str(output), record)


def _sentences(name: str, file: Path | None) -> list[str]:
    """The sentences of one side: of its file, else of the sentence bank."""
    from zerocon.prompt import sentence_bank

    with about(file):
        return sentence_bank.read(file) if file else sentence_bank.about(name)


@command.subcommand("show", examples=("zerocon direction show cat-to-dog.safetensors",))
@click.argument("file", type=FILE)
@options.output_format
@options.verbosity
def show(file: Path, form: str) -> None:
    """Show a direction's texts, model and norm per token.

    Norms are relative to those of the source sentences' tokens; "share" is of the squared norm.
    Position 0 is the start token, which is the same in all sentences; most positions are padding.
    """
    import zerocon

    direction = zerocon.Direction.load(file)
    render.print_result(form, _page(direction), {"file": str(file), **_record(direction)})


@command.subcommand("test", examples=("zerocon direction test cat-to-dog.safetensors cat.jpg",))
@click.argument("file", type=FILE)
@click.argument("images", nargs=-1, required=True, type=FILE)
@cloup.option_group("Prompt", options.caption)
@options.model
@options.max_megapixels
@options.output_format
@options.verbosity
def test(file: Path, images: tuple[Path, ...], **values: Any) -> None:
    """Compare IMAGES with both sides of a direction by CLIP.

    An image should be more similar to the source than to the target. "length" is the direction's
    norm relative to the tokens of the image's caption: below 0.1 an edit changes little.
    """
    import zerocon

    reading = ReadOptions.of(values)
    opened, direction = [stdio.read(i, reading).image for i in images], zerocon.Direction.load(file)
    model = options.load_model(values)
    rows = [
        {"input": str(image_path), **_similarity(image, direction, model, values["caption"])}
        for image_path, image in zip(images, opened, strict=True)
    ]
    sides = {"from": list(direction.source), "to": list(direction.target)}
    facts = {"file": str(file), **sides, "model": model.name, "images": rows}
    record = {"schema": "zerocon.direction-test/1", **facts}
    render.print_result(values["form"], _similarity_table(direction, rows), record)


def _similarity(
    image: Image, direction: Direction, model: Model, caption: str | None
) -> dict[str, Any]:
    """CLIP similarity of an image to both sides, and the direction's relative norm."""
    from zerocon.direction import relative_length
    from zerocon.errors import ModelNotFoundError
    from zerocon.model.captioner import caption_image
    from zerocon.settings import DEFAULT_CLIP

    step = direction.on(model)
    scorer = model.scorer
    if scorer is None:
        raise ModelNotFoundError(
            f"no CLIP model; get it with: zerocon models pull {DEFAULT_CLIP}, or name one: --clip"
        )
    sides = [", ".join(direction.source), ", ".join(direction.target)]
    similarity = scorer.similarity(image, sides)
    caption = caption_image(image, model) if caption is None else caption
    length = relative_length(step, model.embed([caption]))
    return {"caption": caption, "from": similarity[0], "to": similarity[1], "length": length}


def _similarity_table(direction: Direction, rows: list[dict[str, Any]]) -> list[str]:
    source, target = ", ".join(direction.source), ", ".join(direction.target)
    head = markdown_row("image", "caption", source, target, "length")
    lines = [head, "|---|---|---|---|---|"]
    for row in rows:
        numbers = f"{row['from']:.3f}", f"{row['to']:.3f}", f"{row['length']:.2f}"
        lines.append(markdown_row(row["input"], row["caption"], *numbers))
    return lines


def _summary(direction: Direction) -> str:
    """``cat -> dog: 72 and 72 sentences; relative norm 0.83``"""
    source, target = map(len, direction.sentences)
    relative = float(direction.profile()[1].mean())
    return f"{direction}: {source} and {target} sentences; relative norm {relative:.2f}"


def _record(direction: Direction) -> dict[str, Any]:
    """Everything but the vectors, as the schema ``zerocon.direction/1``."""
    lengths, relative = (each.tolist() for each in direction.profile())
    return {
        "schema": "zerocon.direction/1",
        "from": list(direction.source),
        "to": list(direction.target),
        "sentences": dict(zip(("from", "to"), map(list, direction.sentences), strict=True)),
        "encoder": direction.encoder,
        "model": direction.model,
        "zerocon": direction.version,
        "features": direction.tokens.shape[-1],
        "relative_length": sum(relative) / len(relative),
        "lengths": lengths,
        "relative_lengths": relative,
    }


def _page(direction: Direction) -> list[str]:
    """Texts, version, model, the first sentences, and the norm per token position."""
    sides = zip(("from", "to"), direction.sentences, strict=True)
    return [
        _summary(direction),
        f"zerocon {direction.version}, model {direction.model}, text encoder {direction.encoder}",
        *(f"{side}: {_first(sentences)}" for side, sentences in sides),
        "",
        *_profile(direction),
    ]


def _first(sentences: tuple[str, ...]) -> str:
    return "; ".join(sentences[:SHOWN]) + ("; ..." if len(sentences) > SHOWN else "")


def _profile(direction: Direction) -> list[str]:
    """Rows of token positions in groups that double in size: most of the norm is in the first."""
    lengths, relative = direction.profile()
    shares = lengths**2 / (lengths**2).sum().clamp_min(1e-12)
    rows = ["| positions | length | relative | share |", "|---|---|---|---|"]
    first, last = 0, 1
    while first < len(lengths):
        last = min(last, len(lengths))
        part, name = slice(first, last), f"{first}..{last - 1}" if last - first > 1 else f"{first}"
        mean, ratio, share = lengths[part].mean(), relative[part].mean(), shares[part].sum()
        rows.append(f"| {name} | {mean:.2f} | {ratio:.2f} | {share:.0%} |")
        first, last = last, 2 * last
    return rows
