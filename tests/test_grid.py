"""Grids: several values of a setting on one sheet, from one inversion."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from click.testing import CliRunner, Result
from conftest import gradient
from PIL import Image

import zerocon
from zerocon.cli import main
from zerocon.diagnostics.cost import estimate_cost
from zerocon.diagnostics.grid import Axis, EditGrid, edit_grid, estimate_grid
from zerocon.errors import SettingError
from zerocon.image import contact_sheet
from zerocon.image.reading import Photograph
from zerocon.settings import Settings

Run = Callable[..., Result]
STEPS = 3
SETTINGS = Settings(
    steps=STEPS,
    guidance_scale=5.0,
    guidance=("contrastive:patches=4",),
    guidance_range=(0.0, 1.0),
    attention=(),
    begin=0.0,
)


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny.model()


def grid(model: Any, image: Image.Image, *axes: Axis, **options: Any) -> EditGrid:
    return edit_grid(image, axes, to="dog", **({"model": model, "settings": SETTINGS} | options))


# the library


def test_all_edits_share_one_inversion_and_equal_single_edits(
    model: Any, image: Image.Image
) -> None:
    axes = (Axis("seed", (0, 1)), Axis("strength", (0.5, 1.0)))
    edits = grid(model, image, *axes)
    assert [(each.settings.seed, each.settings.strength) for each in edits.edits] == [
        (0, 0.5), (0, 1.0), (1, 0.5), (1, 1.0),
    ]  # fmt: skip
    for each in edits.edits:
        single = zerocon.edit(image, model=model, to="dog", settings=each.settings)
        assert each.image.tobytes() == single.image.tobytes()
    assert len({each.image.tobytes() for each in edits.edits}) == 4
    inverting, editing = STEPS + 1, single.evaluations.forwards - (STEPS + 1)
    assert edits.evaluations.forwards == inverting + 4 * editing
    assert edits.evaluations.backwards == 4 * single.evaluations.backwards


def test_a_given_inversion_is_completed_once(model: Any, image: Image.Image) -> None:
    axis, inversion = (
        Axis("strength", (0.5, 1.0, 2.0)),
        zerocon.invert(image, model, settings=replace(SETTINGS, cache_source=False)),
    )
    edits = grid(model, image, axis, inversion=inversion)
    own = grid(model, image, axis)
    assert [each.image.tobytes() for each in edits.edits] == [
        each.image.tobytes() for each in own.edits
    ]
    assert edits.evaluations.forwards == own.evaluations.forwards - 1


def test_an_inverter_that_draws_inverts_once_for_every_seed(model: Any, image: Image.Image) -> None:
    settings = replace(SETTINGS, inverter="virtual", guidance=())
    axes = (Axis("seed", (0, 1)), Axis("strength", (1.0, 2.0)))
    edits = grid(model, image, *axes, settings=settings)
    assert edits.evaluations.forwards == 2 * (STEPS + 1) + 4 * 2 * STEPS
    single = zerocon.edit(image, model=model, to="dog", settings=edits.edits[2].settings)
    assert edits.edits[2].image.tobytes() == single.image.tobytes()


@pytest.mark.parametrize(
    "axes",
    [
        (Axis("strength", (0.0, 1.0)),),
        (Axis("seed", (0, 1)), Axis("guidance_scale", (1.0, (5.0, 2.0)))),
    ],
)
@pytest.mark.parametrize("inverter", ["ddim", "virtual"])
def test_the_estimate_is_what_is_spent(
    model: Any, image: Image.Image, axes: tuple[Axis, ...], inverter: str
) -> None:
    settings = replace(SETTINGS, inverter=inverter)
    first = settings.overlay({axis.name: axis.values[0] for axis in axes})
    estimate = estimate_grid(estimate_cost(model, first, image.size), model, settings, axes)
    assert estimate.evaluations == grid(model, image, *axes, settings=settings).evaluations


def test_progress_and_warnings_are_of_all_edits(model: Any, image: Image.Image) -> None:
    ticks: list[tuple[int, int]] = []
    lines: list[str] = []
    axis = Axis("strength", (1.0, 0.0, 2.0))
    grid(
        model, image, axis,
        progress=lambda *tick: ticks.append(tick), on_warning=lines.append,
    )  # fmt: skip
    done = [tick[0] for tick in ticks]
    assert done == sorted(done) and done[0] == 1
    assert {tick[1] for tick in ticks} == {done[-1]} == {1 + STEPS * 4}
    lines = [line for line in lines if "probably damaged" not in line]  # random weights
    assert [line.partition(":")[0] for line in lines] == ["strength 0.0"]


@pytest.mark.parametrize(
    ("axes", "more", "message"),
    [
        ([], {}, "one or two settings"),
        ([Axis("seed", (0, 1))] * 3, {}, "one or two settings"),
        ([Axis("steps", (2, 3))], {}, "cannot have several steps"),
        ([Axis("strength", (1, 2))], {"crop": "auto"}, 'crop="auto"'),
        ([Axis("strength", (1, "much"))], {}, "strength must be a number"),
    ],
)
def test_what_one_inversion_cannot_have_is_refused(
    model: Any, image: Image.Image, axes: list[Axis], more: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        grid(model, image, *axes, settings=replace(SETTINGS, **more))


# the sheet


def colored(count: int, *axes: Axis) -> EditGrid:
    """A grid of plain images: the source is black, edit i has the value 20 (i + 1)."""
    from types import SimpleNamespace

    edits: Any = tuple(
        SimpleNamespace(
            image=Image.new("RGB", (300, 200), (20 * (i + 1),) * 3),
            caption="a cat " * 30,
            target_caption="a dog " * 30,
        )
        for i in range(count)
    )
    return EditGrid(
        Image.new("RGB", (300, 200)), axes, edits, zerocon.evaluation_count.Evaluations()
    )


def values(sheet: Image.Image, columns: int, rows: int) -> list[list[int]]:
    """The value in the middle of each cell; a cell's label is below its image."""
    pixels, x = np.asarray(sheet.convert("L")), sheet.width / columns
    top = next(i for i, row in enumerate(pixels) if row[int(x / 2)] == 0 and row[int(x / 3)] == 0)
    height = (sheet.height - top) / rows
    places = [top + 100 + round(height * row) for row in range(rows)]
    return [[int(pixels[y, int(x * (column + 0.5))]) for column in range(columns)] for y in places]


def test_one_axis_is_a_row_behind_the_source() -> None:
    sheet = colored(3, Axis("strength", (0.5, 1.0, 1.5))).sheet()
    assert values(sheet, 4, 1) == [[0, 20, 40, 60]]
    assert sheet.width > 4 * 300 and sheet.height > 200


def test_two_axes_are_a_table_with_the_source_at_its_corner() -> None:
    sheet = colored(6, Axis("seed", (0, 1)), Axis("strength", (0.5, 1.0, 1.5))).sheet()
    assert values(sheet, 4, 2) == [[0, 20, 40, 60], [255, 80, 100, 120]]


def test_many_values_are_a_square() -> None:
    sheet = colored(8, Axis("seed", tuple(range(8)))).sheet()
    assert values(sheet, 3, 3) == [[0, 20, 40], [60, 80, 100], [120, 140, 160]]


@pytest.mark.parametrize(("side", "shown"), [(64, 256), (300, 300), (2000, 512)])
def test_cells_have_a_readable_size(side: int, shown: int) -> None:
    small = colored(2, Axis("seed", (0, 1)))
    source = Image.new("RGB", (side, side // 2))
    edits: Any = tuple(type(each)(**{**vars(each), "image": source}) for each in small.edits)
    sheet = replace(small, source=source, edits=edits).sheet()
    assert shown <= sheet.width / 3 < shown + 20


def test_values_are_labels_in_words() -> None:
    axis = Axis("guidance_scale", (1.5, (7.0, 3.0)))
    assert [axis.label(value) for value in axis.values] == [
        "guidance scale 1.5",
        "guidance scale 7..3",
    ]


def test_long_labels_are_wrapped_and_only_then_cut_off() -> None:
    def fits(text: str) -> bool:
        return len(text) <= 10

    wrapped = contact_sheet._wrapped
    assert wrapped("a fox", fits) == ["a fox"]
    assert wrapped("a fox in the deep snow", fits) == ["a fox in", "the deep", "snow"]
    assert wrapped("a fox in the deep snow at night", fits) == [
        "a fox in",
        "the deep",
        "snow at...",
    ]
    assert wrapped("unbreakable words", fits) == ["unbreak...", "words"]
    assert wrapped("", fits) == [""]


# the command line


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Any) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(zerocon, "load", lambda *_, **__: model, raising=False)
    gradient(96, 64).save("cat.png")
    brief = ["edit", "cat.png", "--to", "dog", "--steps", "2"]
    return lambda *args: CliRunner().invoke(main, [*brief, *map(str, args)])


GRID = ["--strength", "0.5", "--strength", "1", "--grid", "sheet.png"]


def test_the_sheet_is_all_that_is_written(run: Run) -> None:
    done = run(*GRID)
    assert (done.exit_code, done.stdout) == (0, "sheet.png\n"), done.output
    assert {path.name for path in Path().iterdir()} == {"cat.png", "sheet.png"}
    assert Photograph.read("sheet.png").recipe is None
    with Image.open("sheet.png") as marked:
        assert "AlgorithmicMedia" in str(marked.info)
        pixels = marked.tobytes()
    run(*GRID, "--metadata", "none", "--overwrite")
    with Image.open("sheet.png") as plain:
        assert "AlgorithmicMedia" not in str(plain.info)
        assert plain.tobytes() == pixels


def test_the_record_has_all_values_and_the_cost_of_all(run: Run) -> None:
    planned = json.loads(run(*GRID, "--seed", "3", "-n", "--format", "json").stdout)
    record = json.loads(run(*GRID, "--seed", "3", "--format", "json").stdout)
    assert (planned["schema"], record["schema"]) == ("zerocon.grid/1", "zerocon.grid/1")
    axes = [{"setting": "strength", "values": [0.5, 1.0]}]
    assert planned["axes"] == record["axes"] == axes
    assert planned["evaluations"] == record["evaluations"]
    assert [cell["strength"] for cell in record["cells"]] == [0.5, 1.0]
    spent = sum(cell["evaluations"]["forwards"] for cell in record["cells"])
    assert record["evaluations"]["forwards"] == spent
    assert record["warnings"][0].startswith("--seed has no effect")


def test_equal_values_are_one_value(run: Run) -> None:
    done = run("--strength", "1", "--strength", "1.0", "-o", "dog.png")
    assert (done.exit_code, done.stdout) == (0, "dog.png\n")
    assert zerocon.Recipe.read("dog.png").settings.strength == 1.0


REFUSED = [
    ("--seed 1 --seed 2", "several values of --seed need --grid FILE"),
    ("--grid a.png", "--grid needs several values of one or two of --seed, --strength"),
    ("--grid a.png --seed 1", "--grid needs several values"),
    (
        "--grid a.png --seed 1 --seed 2 --strength 1 --strength 2 "
        "--guidance-scale 1 --guidance-scale 2",
        "--grid needs several values of one or two of",
    ),
    ("--grid a.png --seed 1 --seed 2 -o b.png", "--grid writes only its sheet; omit --output"),
    ("--grid a.png --seed 1 --seed 2 --compare b.png", "omit --compare"),
    ("--grid a.png --seed 1 --seed 2 --explain b.png", "omit --explain"),
    ("--grid a.png --seed 1 --seed 2 --steps-dir b", "omit --steps-dir"),
    ("--grid cat.png --seed 1 --seed 2 --overwrite", "cat.png is an input"),
    ("--grid a.gif --seed 1 --seed 2", "a.gif must end in"),
    ("--grid a.png --seed 1 --seed -2", "seed must be an integer from 0"),
    ("--grid a.png --seed 1 --seed 2 --crop auto", 'crop="auto"'),
]


@pytest.mark.parametrize(("line", "message"), REFUSED)
def test_what_a_grid_cannot_do_is_said_in_one_line(run: Run, line: str, message: str) -> None:
    done = run(*line.split(), "-q")
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    (error,) = [each for each in done.stderr.splitlines() if not each.startswith("Warning: ")]
    assert message in error
    assert {path.name for path in Path().iterdir()} == {"cat.png"}


def test_one_value_may_still_come_from_the_file_a_preset_or_the_environment(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("zerocon.toml").write_text("strength = 0.5\n[presets.two]\nstrength = 2\nseed = 4\n")
    expected = [([], 0.5), (["--preset", "two"], 2.0), (["--strength", "3"], 3.0)]
    for args, strength in expected:
        assert run(*args, "-o", "dog.png", "--overwrite").exit_code == 0
        assert zerocon.Recipe.read("dog.png").settings.strength == strength
    monkeypatch.setenv("ZEROCON_STRENGTH", "0.25")
    run("-o", "dog.png", "--overwrite")
    assert zerocon.Recipe.read("dog.png").settings.strength == 0.25
    shown = CliRunner().invoke(main, ["config", "show"]).stdout
    assert "strength = 0.25\n" in shown and "# guidance_scale is not set\n" in shown
