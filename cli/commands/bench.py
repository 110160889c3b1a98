"""``zerocon bench``: measure edits of drawn scenes, and their speed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
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

    from zerocon.bench.altered_models import Variant
    from zerocon.bench.inputs import MethodSettings
    from zerocon.bench.results import ResultRow, ResultsFile, RowFormat
    from zerocon.bench.runner import BenchmarkRun, Cell, Work
    from zerocon.bench.suite import SuiteRow
    from zerocon.bench.tables import Table
    from zerocon.bench.tasks import Task
    from zerocon.bench.translation_row import TranslationRow

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
        "zerocon bench sensitivity --per-kind 5 --methods default,fast",
        "zerocon bench transfer --results transfer",
        "zerocon bench translate --per-kind 4 --sheet sheet.png",
        "zerocon bench speed --steps 20 --repeats 3",
    ),
)
def command() -> None:
    """Measure quality and speed of edits with known answers."""


def scenes(per_kind: int, skip: int = 0, kinds: str = "edit") -> tuple[Callable[[Any], Any], ...]:
    """The options that choose scenes of different ``kinds``, with these defaults."""
    return (
        options.count("--per-kind", per_kind, f"Scenes of each kind of {kinds}."),
        click.option(
            "--split",
            type=click.Choice(["validation", "test"]),
            default="validation",
            show_default=True,
            help="Split of the scenes; do not tune on test.",
        ),
        options.count(
            "--skip",
            skip,
            "Scenes of each kind to skip first, such as those that settings were tuned on.",
            least=0,
        ),
    )


shard = click.option(
    "--shard",
    type=options.shard,
    default="1/1",
    show_default=True,
    metavar="I/N",
    help="Run part I of N.",
)
true_captions = click.option(
    "--true-captions", is_flag=True, help="Use the true captions instead of the captioner's."
)
batch_size = options.count(
    "--batch-size", 1, "Scenes edited together; seconds are then a scene's share."
)


def results_in(help: str, metavar: str = "FILE") -> Callable[[Any], Any]:
    """``--results``, the file or directory of results."""
    files = metavar == "FILE"
    kind = click.Path(path_type=Path, dir_okay=not files, file_okay=files)
    return click.option("--results", metavar=metavar, type=kind, help=help)


def printed_as(*forms: str, what: str = "tables") -> Callable[[Any], Any]:
    """``--format``, of which the first one is the default."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(forms),
        default=forms[0],
        show_default=True,
        help=f"Format of the {what} on stdout.",
    )


results_file = results_in(
    "Append a JSON line for every edit; the same command resumes from the file."
)
table_format = printed_as("text", "markdown", "json")
tables = options.together(
    table_format,
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
    *scenes(25),
    click.option(
        "--kinds",
        metavar="NAME,NAME,...",
        default="",
        help="Kinds of edit: object, color, add, remove, place, time, style, two. [default: all]",
    ),
    click.option(
        "--render",
        metavar="N",
        type=click.IntRange(128, 2048),
        help="Render the scenes at N pixels, and measure edits at that size against the source "
        "itself. [default: 128 pixels, against the source after the VAE]",
    ),
    shard,
    true_captions,
)
@cloup.option_group(
    "Methods",
    click.option(
        "--methods",
        metavar="NAME,NAME,...",
        default=METHODS,
        show_default=True,
        help="Methods to compare; also version-0.1, bank, caption, mean (the source of the "
        "direction), a baseline with options, such as pix2pix-zero:amount=0.3, and "
        "folder:path=DIR for images DIR/SEED.png of another program (no comma in DIR).",
    ),
    batch_size,
)
@cloup.option_group(
    "Output",
    results_file,
    options.written_file(
        "--sheet", help="Save source, edit and true target of every scene (one method only)."
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
        _check_sheet(sheet, results, overwrite, options.input_files(values))
    _check_results(results, options.input_files(values))

    from zerocon.bench import classifiers, runner, tasks
    from zerocon.bench import results as result_files
    from zerocon.image.saving import save_image

    names, by_kind = _split(methods), _split(values["by_kind"])
    if sheet and len(names) > 1:
        raise click.UsageError("a sheet shows one method; select it with --methods")
    _check_kinds(names, by_kind)
    kinds = _split(values["kinds"]) or tasks.KINDS
    for kind in kinds:
        if kind not in tasks.KINDS:
            raise click.UsageError(f"no kind of edit {kind}; there are: {', '.join(tasks.KINDS)}")
    model: Any = options.load_model(values | {"model": values["model"] or "mini"})
    # at the model's size the method is measured, with --render the images that users get
    composite = {} if values["render"] else {"composite": "model"}
    setup = _method_settings(model, composite | explicit)
    judges, captions = classifiers.load(), values["true_captions"]
    run = runner.BenchmarkRun(
        model, judges, names, setup, captions, values["batch_size"], values["render"]
    )
    size = values["render"] or tasks.SIZE
    chosen = tasks.choose(values["split"], values["per_kind"], values["skip"], size, kinds)
    todo = runner.share(chosen, *values["shard"])
    with result_files.EDITS.keeping(results, run.check, overwrite=overwrite) as file:
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

    FILES are those of `zerocon bench world --results` or of `zerocon bench translate --results`, of
    equal weights and settings. No model is loaded.
    """
    from zerocon.bench import results
    from zerocon.bench.translation_row import TRANSLATIONS

    translated = TRANSLATIONS.is_schema_of(files[0])
    kind: RowFormat[Any] = TRANSLATIONS if translated else results.EDITS
    rows = [row for file in files for row in kind.read(file)]
    if not rows:
        raise click.UsageError("the files have no rows")
    results.check(rows)
    show = _print_translation_tables if translated else _print_tables
    show(rows, form, _split(by_kind))


@command.subcommand(
    "sensitivity",
    examples=(
        "zerocon bench sensitivity --per-kind 5 --methods default,fast",
        "zerocon bench sensitivity --results rows.jsonl --format markdown",
    ),
)
@cloup.option_group("Tasks", *scenes(5), true_captions)
@cloup.option_group(
    "Methods",
    click.option(
        "--methods",
        metavar="NAME,NAME,...",
        default="default,fast",
        show_default=True,
        help="Methods to compare, of `zerocon bench world`.",
    ),
)
@cloup.option_group("Output", results_file, table_format, options.overwrite)
@options.method
@options.model
@options.verbosity
def sensitivity(methods: str, results: Path | None, form: str, **values: Any) -> None:
    """Measure how rounding changes the edits of drawn scenes.

    "batch" compares an edit alone with the same in a batch of two, next to the mirror image with
    the same prompt; "threads" compares 1 CPU thread with 2. PSNR is in dB, 99 for identical
    images; "identical" is the share of these, "levels" the largest difference of any sample in
    levels of 0..255. Uses the embedded model unless --model names another; settings apply to
    `default`. The model's output is compared, without --composite native.
    """
    explicit, overwrite = options.explicit_settings(values), values["overwrite"]
    _check_results(results, options.input_files(values))

    from zerocon.bench import sensitivity, tasks
    from zerocon.bench import tables as result_tables

    model: Any = options.load_model(values | {"model": values["model"] or "mini"})
    setup = _method_settings(model, {"composite": "model"} | explicit)
    run = sensitivity.SensitivityRun(model, _split(methods), setup, values["true_captions"])
    chosen = tasks.choose(values["split"], values["per_kind"], values["skip"])
    with sensitivity.ROWS.keeping(results, run.check, overwrite=overwrite) as file:
        work = run.work(chosen, file.rows)
        with progress_bar("Editing", options.is_quiet()) as tick:
            for done, row in enumerate(run.run(work), 1):
                file.add(row)
                if tick:
                    tick(done, sum(len(names) for _, names in work))
    rows = run.among(file.rows, chosen)
    forms = {"text": result_tables.aligned, "markdown": result_tables.markdown}
    _print(form, lambda: sensitivity.as_json(rows), lambda: forms[form](sensitivity.cells(rows)))


@command.subcommand(
    "transfer",
    examples=(
        "zerocon bench transfer --per-kind 2 --factors 0.5 --scales 1.5,3",
        "zerocon bench transfer --results transfer --format markdown",
    ),
)
@cloup.option_group("Tasks", *scenes(12, skip=140))
@cloup.option_group(
    "Models",
    click.option(
        "--factors",
        metavar="X,X,...",
        type=options.positive_numbers,
        default="0.5,2",
        show_default=True,
        help="Multiply the output of the U-Net's cross-attention by X, one altered copy each.",
    ),
    click.option(
        "--scales",
        metavar="W,W,...",
        type=options.positive_numbers,
        default="1,1.5,2,3",
        show_default=True,
        help="Guidance scales of altered copies, besides the measured one.",
    ),
    batch_size,
)
@cloup.option_group(
    "Output",
    results_in(
        "Append a JSON line for every edit to a file for each model and scale; the same command "
        "resumes from them.",
        "DIR",
    ),
    table_format,
    options.overwrite,
)
@options.verbosity
def transfer(results: Path | None, form: str, **values: Any) -> None:
    """Measure the default settings on copies of mini.

    Compared with the embedded model are a copy that has its guidance scale, but none of its other
    settings, and one whose guidance scale is measured. In altered copies the measured scale is
    compared with the best of the --scales. "from-scratch" is the true target caption sampled from
    noise, the bound of success. The columns are those of `zerocon bench world`.
    """
    from tempfile import TemporaryDirectory

    from zerocon.bench import altered_models as measurement
    from zerocon.bench import classifiers, runner, tasks
    from zerocon.bench import tables as result_tables

    if results:
        results.mkdir(exist_ok=True)
    judges = classifiers.load()
    chosen = tasks.choose(values["split"], values["per_kind"], values["skip"])
    rows: dict[Variant, list[ResultRow]] = {}
    equal: dict[tuple[str, ...], list[ResultRow]] = {}  # where a measured scale is the given one
    with TemporaryDirectory(prefix="zerocon-") as folder:
        for variant, model, settings in measurement.setups(
            Path(folder), values["factors"], values["scales"]
        ):
            run = runner.BenchmarkRun(
                model, judges, variant.methods, settings, False, values["batch_size"]
            )
            file = results / variant.file if results else None
            recipes = tuple(run.recipe(method).hash for method in variant.methods)
            if recipes not in equal:
                equal[recipes] = _rows(
                    run, chosen, file, variant.name, overwrite=values["overwrite"]
                )
            rows[variant] = equal[recipes]
    shown = measurement.tables(rows)
    _show(form, shown, lambda: result_tables.record(shown, *measurement.facts(rows)))


def _rows(
    run: BenchmarkRun, chosen: Sequence[Task], path: Path | None, label: str, *, overwrite: bool
) -> list[ResultRow]:
    """The rows of a run, of the file as far as it has them."""
    from zerocon.bench.results import EDITS

    with EDITS.keeping(path, run.check, overwrite=overwrite) as file:
        _run(run, run.work(chosen, file.rows), file, label=label)
    return run.among(file.rows, chosen)


def _method_settings(model: Any, overrides: dict[str, Any]) -> MethodSettings:
    """The model's settings with its guidance scale, and over them ``overrides``."""
    from zerocon import api
    from zerocon.bench import inputs

    return inputs.MethodSettings(api.with_guidance_scale(model.settings, model), overrides)


def _check_results(results: Path | None, inputs: Sequence[Path]) -> None:
    """Raise if the results file is one that the command reads for something else."""
    from zerocon.storage.paths import require_no_inputs, require_output_name

    if results:
        require_no_inputs([results], inputs)
        require_output_name(results)


def _check_sheet(
    sheet: Path, results: Path | None, overwrite: bool, inputs: Sequence[Path]
) -> None:
    """Raise if the sheet cannot be written, or would miss the images of resumed results."""
    from zerocon.image.saving import check_output

    check_output(sheet, overwrite=overwrite, inputs=[*inputs, *([results] if results else [])])
    if results and results.exists() and not overwrite:
        raise click.UsageError(f"{results} has rows without images; omit --sheet")


def _run(
    run: BenchmarkRun,
    work: Work,
    results: ResultsFile[ResultRow],
    *,
    with_cells: bool = False,
    label: str = "Editing",
) -> list[Cell]:
    """Edit and save each row; with ``with_cells``, returns what a contact sheet shows."""
    from zerocon.bench import runner

    cells: list[Cell] = []
    tasks = {task.seed: task for task, _ in work}
    total = sum(len(methods) for _, methods in work)
    with progress_bar(label, options.is_quiet()) as tick:
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


def _show(form: str, shown: Sequence[Table], record: Callable[[], str]) -> None:
    """Print tables as ``--format`` says; ``record`` returns them as JSON."""
    from zerocon.bench import tables

    forms = {"text": tables.as_text, "markdown": tables.as_markdown}
    _print(form, record, lambda: forms[form](shown))


def _print(form: str, record: Callable[[], str], text: Callable[[], str]) -> None:
    render.print_lines((record() if form == "json" else text()).split("\n"))


def _print_tables(rows: Sequence[ResultRow], form: str, by_kind: Sequence[str]) -> None:
    """The tables of ``rows``, and those of the methods ``by_kind`` by kind of edit."""
    from zerocon.bench import tables

    every = [tables.compare(rows), tables.differ(rows)]
    every += [tables.by_kind(rows, name) for name in by_kind]
    shown = [table for table in every if table]
    _show(form, shown, lambda: tables.as_json(shown, rows))


@command.subcommand(
    "translate",
    examples=(
        "zerocon bench translate --per-kind 4 --sheet sheet.png",
        "zerocon bench translate --methods copy,true-warp,true-warp:corruption=0.2",
        "zerocon bench translate --split test --results rows.jsonl --shard 1/4",
    ),
)
@cloup.option_group(
    "Tasks",
    *scenes(10, kinds="condition"),
    click.option(
        "--conditions",
        metavar="KIND,KIND,...",
        default="edge,label",
        show_default=True,
        help="Kinds of conditions: edge, label, sketch, image.",
    ),
    shard,
)
@cloup.option_group(
    "Methods",
    click.option(
        "--methods",
        metavar="NAME,NAME,...",
        help="Methods to compare, with options after a colon, such as true-warp:corruption=0.5. "
        "[default: all that need only the weights of the package]",
    ),
    options.count("--samples", 3, "Random seeds of methods that sample."),
    options.count("--mean-of", 8, "Samples of the mean image, which is a row of its own.", least=2),
    options.count(
        "--batch-size", 8, "Images translated together; seconds are then an image's share."
    ),
)
@cloup.option_group(
    "Output",
    results_file,
    options.written_file(
        "--sheet",
        help="Save condition, exemplar, target and every method's result of all tasks.",
    ),
    tables,
    options.overwrite,
)
@options.device
@options.verbosity
def translate(methods: str | None, results: Path | None, sheet: Path | None, **values: Any) -> None:
    """Evaluate translations of drawn scenes against the exact target.

    A condition has the structure of one scene, the exemplar the appearance of another; the target
    is the first scene in the second one's appearance. "matched" are pixels whose class the exemplar
    has too, "copied" is the share of results that are nearer to the exemplar than to the target.
    docs/measurements.md describes all metrics; features are those of the embedded model's CLIP.
    """
    overwrite = values["overwrite"]
    if sheet:
        _check_sheet(sheet, results, overwrite, ())
    _check_results(results, ())

    from zerocon.bench import runner, translation_methods, translation_run, translation_tasks
    from zerocon.bench.translation_row import TRANSLATIONS
    from zerocon.image.saving import save_image

    names = _split(methods) if methods else translation_methods.default_methods()
    by_kind = _split(values["by_kind"])
    _check_kinds(names, by_kind)
    chosen = translation_tasks.choose(
        values["split"], values["per_kind"], values["skip"], _split(values["conditions"])
    )
    todo = runner.share(chosen, *values["shard"])
    model: Any = options.load_model({"model": "mini", "device": values["device"]})
    run = translation_run.TranslationBenchmark(
        model, names, values["samples"], values["mean_of"], values["batch_size"]
    )
    shown = []
    with TRANSLATIONS.keeping(results, run.check, overwrite=overwrite) as file:
        work = run.work(todo, file.rows)
        with progress_bar("Translating", options.is_quiet()) as tick:
            for done, (row, image) in enumerate(run.run(work), 1):
                file.add(row)
                if sheet:
                    shown.append((row, image))
                if tick:
                    tick(done, sum(len(each) for _, each in work))
    if sheet:
        save_image(translation_run.page(todo, names, shown), sheet, overwrite=overwrite)
    _print_translation_tables(run.among(file.rows, todo), values["form"], by_kind)


def _check_kinds(names: Sequence[str], by_kind: Sequence[str]) -> None:
    """Raise if a table by kind is wanted of a method that is not measured."""
    for name in by_kind:
        if name not in names:
            raise click.UsageError(f"--by-kind {name} is not one of the --methods")


def _print_translation_tables(
    rows: Sequence[TranslationRow], form: str, by_kind: Sequence[str]
) -> None:
    """The tables of ``rows``, and those of the methods ``by_kind`` by kind of condition."""
    from zerocon.bench import translation_tables

    shown = translation_tables.tables(rows, by_kind)
    _show(form, shown, lambda: translation_tables.as_json(shown, rows))


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
@results_in("With --suite: save the rows as JSON, after each of them.")
@options.overwrite
@click.option(
    "--shape",
    type=click.Choice(["mini", "sd1", "sd2"]),
    default="mini",
    show_default=True,
    help="The embedded model, or random weights of Stable Diffusion 1.x at 512 or 2.1 at 768 "
    "pixels.",
)
@options.count("--steps", 50, "Denoising steps.", least=2)
@options.count("--repeats", 1, "Repetitions of each measurement; the median is printed.")
@options.count("--batch-size", 1, "Images edited together.")
@options.compiled
@options.device
@options.dtype
@printed_as("markdown", "json", what="table")
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
    render.print_result(form, speed.as_markdown(laps, rate).split("\n"), record)


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
    rows: list[SuiteRow] = []
    if form == "markdown":
        render.print_lines(timing_table.markdown_head().split("\n"))
    for row in timings.run(budget):
        rows.append(row)
        report = suite.to_json(timings, rows)
        if results:
            with writing(results, overwrite=overwrite or len(rows) > 1) as file:
                file.write_text(json.dumps(report, indent=2) + "\n")
        if form == "markdown":
            render.print_lines([timing_table.markdown_row(report["rows"][len(rows) - 1])])
    targets = timing_table.markdown_targets(report["targets"]).split("\n")
    render.print_result(form, ["", *targets], report)
