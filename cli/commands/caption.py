"""``zerocon caption``: caption an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zerocon.image.read_options import ReadOptions

from .. import options, render, stdio
from ..help import command as help_command


@help_command(
    "caption",
    examples=(
        "zerocon caption fox.png --model mini",
        "zerocon caption cat.jpg --captioner Salesforce/blip-image-captioning-large",
        "cat cat.jpg | zerocon caption - --format json",
    ),
)
@options.image_path
@options.lenient
@options.model
@options.max_megapixels
@options.output_format
@options.verbosity
def command(image_path: Path, **values: Any) -> None:
    """Print the caption that an edit of IMAGE starts from."""
    photograph = stdio.read(image_path, ReadOptions.of(values))
    model = options.load_model(values)

    from zerocon.model.captioner import caption_image
    from zerocon.prompt import degenerate

    with options.loading("the captioner"):
        caption = caption_image(photograph.image, model)
    warnings = [*photograph.truncation, *([fault] if (fault := degenerate(caption)) else [])]
    render.warn(warnings)
    facts = {
        "input": str(image_path),
        "caption": caption,
        "model": model.name,
        "warnings": warnings,
    }
    render.print_result(values["form"], caption, {"schema": "zerocon.caption/1", **facts})
