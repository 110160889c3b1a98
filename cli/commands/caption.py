"""``zerocon caption``: the sentence that an edit would start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .. import options, render, stdio


@click.command("caption")
@options.image_path
@options.form
@options.talk
@options.weights
def command(image_path: Path, **values: Any) -> None:
    """Describe IMAGE in one sentence.

    It is the one that an edit without --caption starts from.
    """
    image = stdio.read(image_path).image
    model = options.load(values)

    from zerocon.model.captioner import caption_image
    from zerocon.prompt import degenerate

    sentence = caption_image(image, model)
    warnings = [fault] if (fault := degenerate(sentence)) else []
    render.warn(warnings)
    facts = {
        "input": str(image_path),
        "caption": sentence,
        "model": model.name,
        "warnings": warnings,
    }
    render.tell(values["form"], sentence, {"schema": "zerocon.caption/1", **facts})
