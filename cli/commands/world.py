"""``zerocon bench world``: edits of drawn scenes, judged against the known truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .. import options
from ..progress import progress_bar
from . import comparing, tables


@click.command("world")
@comparing.what
@tables.layout
@options.overwrite
@options.talk
@options.method
@options.weights
def command(methods: str, lines: Path | None, sheet: Path | None, **values: Any) -> None:
    """Edit scenes of the drawn world and print tables: was it done, and did the rest stay?

    "asked change seen": the judges of the changed parameters see their new values. "rest
    unchanged": all other judges say what they say of the source after the VAE alone. dB are PSNR,
    inside the region that should change to the truth, outside it to the source after the VAE. On
    the embedded model, unless --model names another; settings are those of `default`.
    """
    from zerocon.image.saving import check_output, save_image

    overwrite, given, kinds = values["overwrite"], options.given(values), values["kinds"]
    if sheet:
        check_output(sheet, overwrite=overwrite)
    if sheet and lines and lines.exists() and not overwrite:
        raise click.UsageError(f"{lines} has rows without their pictures; leave --sheet out")

    from zerocon.bench import classifiers, inputs, results, runner, tasks
    from zerocon.bench.methods import split

    names, done = split(methods), []
    if sheet and len(names) > 1:
        raise click.UsageError("a sheet shows one method; name it with --methods")
    if kinds and kinds not in names:
        raise click.UsageError(f"--by-kind {kinds} is not among the methods")
    model: Any = options.load(values | {"model": values["model"] or "mini"})
    settings = inputs.MethodSettings(model.settings, given)
    how = (settings, values["true_captions"], values["batch_size"])
    comparison = runner.BenchmarkRun(model, classifiers.load(), names, *how)
    which = (values[name] for name in ("split", "per_kind", "skip"))
    todo = runner.share(tasks.choose(*which), *values["shard"])
    with results.keeping(lines, comparison.check, overwrite=overwrite) as book:
        work = comparison.work(todo, book.rows)
        with progress_bar("Editing", options.hushed()) as tick:
            for edited in comparison.run(work):
                book.add(edited[0])
                done.append(edited)
                if tick:
                    tick(len(done), sum(len(left) for _, left in work))
    if sheet:
        save_image(runner.page(todo, done), sheet, overwrite=overwrite)
    tables.tell(comparison.among(book.rows, todo), values["form"], kinds)
