"""``zerocon direction test``: whether a direction suits a picture, before any edit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import options, render, stdio
from . import account

if TYPE_CHECKING:
    from PIL.Image import Image

    from zerocon import Direction, Model


@click.command("test")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--caption", metavar="SENTENCE", help="Of every picture. [default: looked at]")
@options.form
@options.talk
@options.weights
def command(file: Path, images: tuple[Path, ...], **values: Any) -> None:
    """Ask CLIP how alike each of IMAGES is to the words of FILE's two sides.

    A picture that is not more like the source than like the target has little to be changed.
    "length" is the direction's, relative to the tokens of the picture's caption: below 0.1 an edit
    hardly moves.
    """
    import zerocon

    seen, direction = [stdio.read(i).image for i in images], zerocon.Direction.load(file)
    model = options.load(values)
    rows = [
        {"input": str(image_path), **_look(image, direction, model, values["caption"])}
        for image_path, image in zip(images, seen, strict=True)
    ]
    sides = {"from": list(direction.source), "to": list(direction.target)}
    facts = {"file": str(file), **sides, "model": model.name, "images": rows}
    table = account.likenesses(direction, rows)
    render.tell(values["form"], table, {"schema": "zerocon.direction-test/1", **facts})


def _look(image: Image, direction: Direction, model: Model, said: str | None) -> dict[str, Any]:
    from zerocon.direction import weight
    from zerocon.errors import ModelNotFoundError
    from zerocon.model.captioner import caption_image
    from zerocon.settings import DEFAULT_CLIP

    step = direction.on(model)
    scorer = model.scorer
    if scorer is None:
        raise ModelNotFoundError(
            f"no CLIP here; get it with: hf download {DEFAULT_CLIP}, or --clip NAME"
        )
    likeness = scorer.similarity(image, [", ".join(direction.source), ", ".join(direction.target)])
    caption = caption_image(image, model) if said is None else said
    length = weight(step, model.embed([caption]))
    return {"caption": caption, "from": likeness[0], "to": likeness[1], "length": length}
