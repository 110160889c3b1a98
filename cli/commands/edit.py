"""``zerocon edit``: a picture and a few words in, a picture out."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from zerocon.image.naming import prompt_of, words_of

from .. import edit_outputs, options, render, stdio
from ..dry_run import foresee
from ..progress import progress_bar


@click.command("edit")
@options.image_path
@options.words
@options.directions
@edit_outputs.asked
@options.inversion
@options.no_cache
@options.dry_run
@options.form
@options.talk
@options.method
@options.weights
def command(image_path: Path, **values: Any) -> None:
    """Edit IMAGE by saying what should be different."""
    import zerocon

    words, files = {name: values[name] for name in options.WORDS}, values["directions"]
    prompt = prompt_of(words["to"], words["from_"], words["to_caption"], optional=bool(files))
    photograph = stdio.read(image_path, keep_gps=values["keep_gps"])
    directions = [(zerocon.Direction.load(file), weight) for file, weight in files]
    prompt = f"{prompt} {words_of(each for each, _ in directions)}"
    wanted = edit_outputs.EditOutputs.of(image_path, photograph, prompt, values)
    if values["inversion"] and (options.typed("steps") or options.typed("inverter")):
        raise click.UsageError("the inversion has its own steps and scheme; leave both out")
    given, cache = options.given(values), options.cache(values, wanted.warn)
    kept = zerocon.Inversion.load(values["inversion"]) if values["inversion"] else None
    render.warn(wanted.warnings)
    model = options.load(values)
    settings, talk = model.settings.overlay(given), partial(render.announce, options.hushed())
    asked = words | {"directions": directions, "inversion": kept, "settings": settings}
    asked |= {"cache": cache}
    if values["dry_run"]:
        return foresee(photograph.image, model, image_path, wanted.output, values, **asked)
    wanted.begin(model)
    with progress_bar("Editing", options.hushed()) as tick:
        asked |= {"on_request": talk, "progress": tick, "on_step": wanted.on_step}
        edited = zerocon.edit(photograph.image, model=model, on_warning=wanted.warn, **asked)
    recipe = partial(zerocon.Recipe.of, edited, photograph.image, model, inversion=kept)
    more = wanted.write(edited, model, recipe)
    about = (edited.request, edited.settings, model.name, edited.evaluations)
    record = render.record(*about, edited.origin, image_path, wanted.output, values)
    if wanted.output != stdio.PIPE:
        render.tell(values["form"], str(wanted.output), record | more)
