"""``zerocon bench``: measure edits of drawn scenes, and their speed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from .. import options, render
from ..help import group
from ..progress import progress_bar

if TYPE_CHECKING:
    import torch

    from zerocon.bench.results import ResultRow, ResultsFile
    from zerocon.bench.runner import BenchmarkRun, Cell, Work
    from zerocon.bench.suite import Row

# not "bank", "caption", "mean": one of them is the model's default and the same as "default"
METHODS = "identity,vae,from-scratch,default,fast,no-guidance,cross-attention,contrastive,"
METHODS += "plain-ddim,word-swap,pix2pix-zero"

# options of `bench speed` with and without --suite
SUITE_TIMES = ("budget", "methods", "results", "overwrite")
METHOD_TIMES = ("shape", "steps", "repeats", "batch_size", "compile")


@group(
    "bench",
    examples=(
        "zerocon bench world --per-kind 2 --methods default,fast",
        "zerocon bench world --results rows.jsonl --shard 1/4",
        "zerocon bench table rows-*.jsonl --format markdown",
        "zerocon bench speed --steps 20 --repeats 3",
    ),
)
def command() -> None:
    """Measure quality and speed of edits with known answers."""


tables = options.together(
    click.option(
        "--format",
        "form",
        type=click.Choice(["text", "markdown", "json"]),
        default="text",
        show_default=True,
        help="Format of the tables on stdout.",
    ),
    click.option(
        "--by-kind",
        "by_kind",
        metavar="NAME,NAME,...",
        default="",
        help="Also print these methods' means by kind.",
    ),
)


@command.subcommand(
    "world",
    examples=(
        "zerocon bench world --per-kind 2 --methods default,fast",
        "zerocon bench world --per-kind 1 --methods default --sheet sheet.png",
        "zerocon bench world --results rows.jsonl --shard 1/4",
        "zerocon bench world --render 1024 --per-kind 2 --methods default,fast",
    ),
)
@cloup.option_group(
    "Tasks",
    click.option(
        "--per-kind",
        metavar="N",
        type=click.IntRange(1),
        default=25,
        show_default=True,
        help="Scenes of each kind of edit.",
    ),
    click.option(
        "--split",
        type=click.Choice(["validation", "test"]),
        default="validation",
        show_default=True,
        help="Split of the scenes; do not tune on test.",
    ),
    click.option(
        "--skip",
        metavar="N",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="Scenes of each kind to skip first, such as those that settings were tuned on.",
    ),
    click.option(
        "--render",
        metavar="N",
        type=click.IntRange(128, 2048),
        help="Render the scenes at N pixels, and measure edits at that size against the source "
        "itself. [default: 128 pixels, against the source after the VAE]",
    ),
    click.option(
        "--shard",
        type=options.shard,
        default="1/1",
        show_default=True,
        metavar="I/N",
        help="Run part I of N.",
    ),
    click.option(
        "--true-captions", is_flag=True, help="Use the true captions instead of the captioner's."
    ),
)
@cloup.option_group(
    "Methods",
    click.option(
        "--methods",
        metavar="NAME,NAME,...",
        default=METHODS,
        show_default=True,
        help="Methods to compare; also bank, caption, mean (the source of the direction), a "
        "baseline with options, such as pix2pix-zero:amount=0.3, and folder:path=DIR for images "
        "DIR/SEED.png of another program (no comma in DIR).",
    ),
    click.option(
        "--batch-size",
        metavar="N",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        help="Scenes edited together; seconds are then a scene's share.",
    ),
)
@cloup.option_group(
    "Output",
    click.option(
        "--results",
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Append a JSON line for every edit; the same command resumes from the file.",
    ),
    click.option(
        "--sheet",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Save source, edit and true target of every scene (one method only).",
    ),
    tables,
    options.overwrite,
)
@options.method
@options.model
@options.verbosity
def world(methods: str, results: Path | None, sheet: Path | None, **values: Any) -> None:
    """Evaluate edits of drawn scenes against the known target.

    "success": classifiers of the changed scene parameters predict their new values, and a removal
    changes the pixels that it should. "preserved": all other classifiers that are right about the
    source after the VAE predict the same for the edit. PSNR inside the region that should change is
    to the true target, outside it to the source after the VAE. Uses the embedded model unless
    --model names another; settings apply to `default`.

    With --render, methods edit scenes of that size. The classifiers read the result reduced to 128
    pixels; "preserved" and PSNR outside compare with the source itself. The tables then have more
    columns, which docs/measurements.md describes.
    """
    explicit, overwrite = options.explicit_settings(values), values["overwrite"]
    if sheet:
        _check_sheet(sheet, results, overwrite)

    from zerocon import api
    from zerocon.bench import classifiers, inputs, runner, tasks
    from zerocon.bench import results as result_files
    from zerocon.image.saving import save_image

    names, by_kind = _split(methods), _split(values["by_kind"])
    if sheet and len(names) > 1:
        raise click.UsageError("a sheet shows one method; select it with --methods")
    for name in by_kind:
        if name not in names:
            raise click.UsageError(f"--by-kind {name} is not one of the --methods")
    model: Any = options.load_model(values | {"model": values["model"] or "mini"})
    # at the model's size the method is measured, with --render the images that users get
    composite = {} if values["render"] else {"composite": "model"}
    defaults = api.with_guidance_scale(model.settings, model)
    setup = inputs.MethodSettings(defaults, composite | explicit)
    judges, captions = classifiers.load(), values["true_captions"]
    run = runner.BenchmarkRun(
        model, judges, names, setup, captions, values["batch_size"], values["render"]
    )
    chosen = tasks.choose(
        values["split"], values["per_kind"], values["skip"], values["render"] or tasks.SIZE
    )
    todo = runner.share(chosen, *values["shard"])
    with result_files.keeping(results, run.check, overwrite=overwrite) as file:
        cells = _run(run, run.work(todo, file.rows), file, with_cells=sheet is not None)
    if sheet:
        save_image(runner.page(cells), sheet, overwrite=overwrite)
    _print_tables(run.among(file.rows, todo), values["form"], by_kind)


@command.subcommand(
    "table",
    examples=(
        "zerocon bench table rows.jsonl",
        "zerocon bench table rows-*.jsonl --format markdown --by-kind default,fast",
    ),
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@tables
def table(files: tuple[Path, ...], form: str, by_kind: str) -> None:
    """Print tables of saved results, of all shards of a run.

    FILES are those of `zerocon bench world --results`, of equal weights and settings. No model is
    loaded.
    """
    from zerocon.bench import results

    rows = [row for file in files for row in results.read(file)]
    if not rows:
        raise click.UsageError("the files have no rows")
    results.check(rows)
    _print_tables(rows, form, _split(by_kind))


def _check_sheet(sheet: Path, results: Path | None, overwrite: bool) -> None:
    """Raise if the sheet cannot be written, or would miss the images of resumed results."""
    from zerocon.image.saving import check_output

    check_output(sheet, overwrite=overwrite)
    if results and results.exists() and not overwrite:
        raise click.UsageError(f"{results} has rows without images; omit --sheet")


def _run(run: BenchmarkRun, work: Work, results: ResultsFile, *, with_cells: bool) -> list[Cell]:
    """Edit and save each row; with ``with_cells``, returns what a contact sheet shows."""
    from zerocon.bench import runner

    cells: list[Cell] = []
    tasks = {task.seed: task for task, _ in work}
    total = sum(len(methods) for _, methods in work)
    with progress_bar("Editing", options.is_quiet()) as tick:
        for done, (row, image) in enumerate(run.run(work), 1):
            results.add(row)
            if with_cells:  # before the next edit, which can free the images of the task
                cells += runner.cells(tasks[row.seed], row, image)
            if tick:
                tick(done, total)
    return cells


def _split(text: str) -> tuple[str, ...]:
    """The names of methods, separated by commas."""
    from zerocon.registry import split

    return split(text) if text else ()


def _print_tables(rows: Sequence[ResultRow], form: str, by_kind: Sequence[str]) -> None:
    """The tables of ``rows``, and those of the methods ``by_kind`` by kind of edit."""
    from zerocon.bench import tables

    every = [tables.compare(rows), tables.differ(rows)]
    every += [tables.by_kind(rows, name) for name in by_kind]
    shown = [table for table in every if table]
    if form == "json":
        click.echo(tables.as_json(shown, rows))
    else:
        click.echo(tables.as_text(shown) if form == "text" else tables.as_markdown(shown))


@command.subcommand(
    "speed",
    examples=(
        "zerocon bench speed --steps 20",
        "zerocon bench speed --shape sd1 --device cuda --dtype float16 --repeats 3",
        "zerocon bench speed --suite full --device cuda --budget 300 --results speed.json",
    ),
)
@click.option(
    "--suite",
    type=click.Choice(["full", "tiny"]),
    help="Time a fixed list instead: full-size shapes with random weights, batches, compiled and "
    "not, next to diffusers' pipelines; or the same list with tiny networks.",
)
@click.option(
    "--budget",
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True),
    default=480.0,
    show_default=True,
    help="With --suite: begin no row for which the time is too short.",
)
@click.option(
    "--methods",
    metavar="NAME,NAME,...",
    default="",
    help="With --suite: time only these methods. [default: all]",
)
@click.option(
    "--results",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="With --suite: save the rows as JSON, after each of them.",
)
@options.overwrite
@click.option(
    "--shape",
    type=click.Choice(["mini", "sd1", "sd2"]),
    default="mini",
    show_default=True,
    help="The embedded model, or random weights of Stable Diffusion 1.x at 512 or 2.1 at 768 "
    "pixels.",
)
@click.option(
    "--steps",
    metavar="N",
    type=click.IntRange(2),
    default=50,
    show_default=True,
    help="Denoising steps.",
)
@click.option(
    "--repeats",
    metavar="N",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Repetitions of each measurement; the median is printed.",
)
@click.option(
    "--batch-size",
    metavar="N",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Images edited together.",
)
@options.compiled
@options.device
@options.dtype
@click.option(
    "--format",
    "form",
    type=click.Choice(["markdown", "json"]),
    default="markdown",
    show_default=True,
    help="Format of the table on stdout.",
)
@click.pass_context
def speed(
    context: click.Context,
    /,
    suite: str | None,
    form: str,
    device: str | None,
    dtype: str | None,
    **values: Any,
) -> None:
    """Time edits and pix2pix-zero on the same images.

    Measured are an edit, a fast one, one from a cached inversion, and pix2pix-zero, in one process
    on one device and dtype, without captioning. Random weights cost what trained ones do. "Of the
    peak rate" is relative to a large matrix product; GB are of the whole process on a CPU.

    With --suite, seconds and evaluations are per image, the FLOP limit is the time that the U-Net
    evaluations take at the rate of a large matrix product, and sdxl, a shape that zerocon does not
    support, is the U-Net alone.
    """
    _check_speed(context, suite)
    from zerocon.model import ModelSpec
    from zerocon.model.runtime import pick_device, pick_dtype

    spec = ModelSpec.of("mini", device=device, dtype=dtype)
    place = pick_device(spec.device)
    kind = pick_dtype(spec.dtype, place)
    if suite:
        _time_suite(place, kind, suite == "tiny", form, **values)
    else:
        _time_methods(place, kind, form, **values)


def _check_speed(context: click.Context, suite: str | None) -> None:
    """Raise for options of the other kind of measurement."""
    for name in METHOD_TIMES if suite else SUITE_TIMES:
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            option = f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{option} is {'not for' if suite else 'for'} --suite")


def _time_methods(
    device: torch.device,
    dtype: torch.dtype,
    form: str,
    *,
    shape: str,
    steps: int,
    repeats: int,
    batch_size: int,
    compile: bool,
    **_: Any,
) -> None:
    """Time the methods on one model, and print the table."""
    import zerocon
    from zerocon.bench import speed
    from zerocon.bench.random_weights import SHAPES, random_model

    name = str(dtype).removeprefix("torch.")
    model: Any = (
        zerocon.load("mini", device=str(device), dtype=name)
        if shape == "mini"
        else random_model(SHAPES[shape], device, dtype)
    )
    if compile:
        model.runtime.compile()
    rate = speed.rate(device, dtype)
    laps = list(speed.race(model, steps, repeats=repeats, together=batch_size))
    facts = {"shape": shape, "device": str(device), "dtype": name, "steps": steps, "rate": rate}
    record = {"schema": "zerocon.speed/1", **facts, "laps": [asdict(lap) for lap in laps]}
    render.print_result(form, speed.as_markdown(laps, rate), record)


def _time_suite(
    device: torch.device,
    dtype: torch.dtype,
    tiny: bool,
    form: str,
    *,
    budget: float,
    methods: str,
    results: Path | None,
    overwrite: bool,
    **_: Any,
) -> None:
    """Time the fixed list, and print and save each row as soon as it is measured."""
    from zerocon.bench import suite, timing_table
    from zerocon.image.saving import check_output
    from zerocon.storage.atomic import writing

    if results:
        check_output(results, overwrite=overwrite, endings=(".json",))
    timings = suite.Suite(device, dtype, tiny=tiny, methods=_split(methods))
    rows: list[Row] = []
    if form == "markdown":
        click.echo(timing_table.markdown_head())
    for row in timings.run(budget):
        rows.append(row)
        report = suite.to_json(timings, rows)
        if results:
            with writing(results, overwrite=overwrite or len(rows) > 1) as file:
                file.write_text(json.dumps(report, indent=2) + "\n")
        if form == "markdown":
            click.echo(timing_table.markdown_row(report["rows"][len(rows) - 1]))
    render.print_result(form, f"\n{timing_table.markdown_targets(report['targets'])}", report)
