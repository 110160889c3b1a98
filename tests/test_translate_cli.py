"""``zerocon translate``: options, outputs, messages, recipes and replays."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from conftest import gradient
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from zerocon import Recipe, world
from zerocon.cli import main
from zerocon.errors import FileFormatError
from zerocon.exemplar.translators import AdainTranslator
from zerocon.image.metadata import KEYWORD
from zerocon.image.reading import Photograph
from zerocon.recipe.translation_recipe import TranslationRecipe
from zerocon.storage.hashing import image_hash

ROOT = Path(__file__).parent.parent
WARP = ["--method", "warp", "--matcher", "position"]
RUN = ["translate", "labels.png", "-e", "exemplar.png", *WARP]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("translate")
    scene = world.sample(11)
    world.labels(scene).save(folder / "labels.png")
    world.edges(scene).save(folder / "edges.png")
    world.render(world.sample(12)).save(folder / "exemplar.png")
    gradient(80, 60).save(folder / "other.png")
    return folder


@pytest.fixture(autouse=True)
def here(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_models: None
) -> None:
    for file in inputs.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.chdir(tmp_path)


def run(*args: str) -> Result:
    return CliRunner().invoke(main, list(args))


def done(*args: str) -> Result:
    result = run(*args)
    assert result.exit_code == 0, result.output
    return result


def test_a_translation_is_written_next_to_the_condition() -> None:
    result = done(*RUN)
    assert result.stdout == "labels-exemplar.png\n"
    assert "Condition: label map (it has " in result.stderr
    assert "if it is none: --condition edge or sketch or image" in result.stderr
    assert Photograph.read("labels-exemplar.png").size == (128, 128)


def test_all_outputs_are_written_with_their_sizes_and_marks() -> None:
    done(*RUN, "-e", "other.png:0.5", "-o", "out.jpg", "--save-warp", "warp.png",
         "--save-confidence", "sure.png", "--compare", "all.png")  # fmt: skip
    read = {name: Photograph.read(name) for name in ("out.jpg", "warp.png", "sure.png", "all.png")}
    assert [each.size for each in read.values()][:3] == [(128, 128)] * 3
    assert read["all.png"].size[0] >= 4 * 128
    low, high = read["sure.png"].image.convert("L").getextrema()
    assert low < high > 200
    assert [name for name, each in read.items() if each.recipe] == ["out.jpg"]
    marked = [name for name, each in read.items() if b"TrainedAlgorithmicMedia" in each.kept.xmp]
    assert marked == ["out.jpg", "warp.png", "all.png"]


@pytest.mark.parametrize(("level", "recipe", "mark"), [("minimal", 0, 1), ("none", 0, 0)])
def test_metadata_levels(level: str, recipe: bool, mark: bool) -> None:
    done(*RUN, "-o", "out.png", "--metadata", level)
    read = Photograph.read("out.png")
    assert (bool(read.recipe), b"TrainedAlgorithmic" in read.kept.xmp) == (recipe, mark)


def test_the_sheet_shows_exemplars_in_the_size_of_the_condition() -> None:
    with Image.open("exemplar.png") as exemplar:
        exemplar.resize((700, 350)).save("large.png")
    done(*RUN, "-e", "large.png", "-o", "out.png", "--compare", "all.png")
    assert Photograph.read("all.png").size[0] == 4 * 128


def test_a_pipe_gets_a_png() -> None:
    labels = Path("labels.png").read_bytes()
    args = ["translate", "-", "-e", "exemplar.png", *WARP, "-o", "-"]
    result = CliRunner().invoke(main, args, input=labels)
    assert result.exit_code == 0, result.stderr
    assert Photograph.read(result.stdout_bytes).kind == "PNG"


def test_the_record_has_what_was_decided() -> None:
    record = json.loads(done(*RUN, "--format", "json", "--seed", "3").stdout)
    assert record["condition"]["kind"] == "label" and record["condition"]["detected"]
    assert record["exemplars"] == [{"file": "exemplar.png", "weight": 1.0}]
    assert record["settings"]["condition"] == "label" and record["seed"] == 3
    assert record["mean_confidence"] == 1.0 and record["evaluations"]["total"] == 0
    assert record["warnings"][0] == "--seed has no effect with --method warp"
    given = json.loads(
        done(*RUN, "--condition", "image", "-n", "--overwrite", "--format", "json").stdout
    )
    assert given["condition"] == {"kind": "image", "detected": False, "reason": None}


def test_a_dry_run_computes_and_writes_nothing() -> None:
    before = {*Path().iterdir()}
    result = done("translate", "labels.png", "-e", "exemplar.png", "--appearance", "2", "-n")
    assert result.stdout.startswith("labels-exemplar.png: 60.0 U-Net evaluations, ")
    assert " GB peak memory (" in result.stdout and "; at 128x128 pixels" in result.stdout
    assert {*Path().iterdir()} == before


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--structure", "2"), "--structure has no effect with --method warp"),
        (("--range", "0..0.5"), "--range has no effect with --method warp"),
        (("--prompt", "a fox"), "--prompt has no effect with --method warp"),
    ],
)
def test_options_without_effect_have_a_warning(args: tuple[str, ...], words: str) -> None:
    assert f"Warning: {words}\n" in done(*RUN, *args, "-n").stderr


def test_promote_has_its_own_model() -> None:
    promote = ["translate", "labels.png", "-e", "exemplar.png", "-n"]
    stderr = done(*promote, "--model", "gone").stderr
    assert "--model has no effect with --method promote, whose weights belong to mini" in stderr
    assert run(*promote, "--method", "adain", "--model", "gone").exit_code == 3
    stderr = done(*promote, "--range", "0.5..1").stderr
    assert "--range has no effect without promote:reinjection=X" in stderr


def test_weights_that_a_method_does_not_use_have_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of this package use them; one of another package may not."""
    args = ["translate", "labels.png", "-e", "exemplar.png", "-e", "other.png:2", "-n"]
    words = "the weight of an exemplar has no effect"
    for method in ("promote", "attention", "warp", "adain"):
        assert words not in done(*args, "--method", method, "--steps", "1").stderr
    monkeypatch.setattr(AdainTranslator, "USES", frozenset())
    assert words in done(*args, "--method", "adain").stderr


@pytest.mark.parametrize(
    ("args", "status", "error"),
    [
        (("translate", "labels.png"), 2, "ZC-E010"),
        (("translate", "gone.png", "-e", "exemplar.png"), 2, "ZC-E020"),
        (("translate", "labels.png", "-e", "gone.png"), 2, "ZC-E020"),
        (("translate", "labels.png", "-e", "exemplar.png:0"), 2, "ZC-E012"),
        (("translate", "labels.png", "-e", "exemplar.png:1e-400"), 2, "ZC-E012"),
        (("translate", "labels.png", "-e", "exemplar.png:inf"), 2, "ZC-E010"),
        (("translate", "labels.png", "-e", "exemplar.png:x"), 2, "ZC-E010"),
        (("translate", "labels.png", "-e", "-", "-o", "a.png"), 2, "ZC-E010"),
        (("translate", "-", "-e", "-:2", "-o", "-"), 2, "ZC-E010"),
        (("translate", "labels.png", "-e", "exemplar.png", "--steps", "1001", "-n"), 2, "ZC-E012"),
        ((*RUN, "--prompt", "a\x1b[2J fox"), 2, "ZC-E012"),
        ((*RUN, "--condition", "pose"), 2, "ZC-E010"),
        ((*RUN, "--method", "cut"), 2, "ZC-E013"),
        ((*RUN, "--method", "promote:reinjection=2"), 2, "ZC-E013"),
        ((*RUN, "--steps", "0"), 2, "ZC-E012"),
        ((*RUN, "--appearance", "nan"), 2, "ZC-E012"),
        ((*RUN, "--range", "1..0"), 2, "ZC-E012"),
        ((*RUN, "-o", "labels.png", "--overwrite"), 2, "ZC-E031"),
        ((*RUN, "-o", "exemplar.png", "--overwrite"), 2, "ZC-E031"),
        ((*RUN, "--save-warp", "exemplar.png", "--overwrite"), 2, "ZC-E031"),
        ((*RUN, "-o", "other.png"), 2, "ZC-E030"),
        ((*RUN, "-o", "a.png", "--compare", "./a.png"), 2, "ZC-E010"),
        ((*RUN, "-o", "gone/a.png"), 2, "ZC-E032"),
        ((*RUN, "-o", "a.gif"), 2, "ZC-E033"),
        ((*RUN, "-o", "-", "--format", "json"), 2, "ZC-E010"),
        ((*RUN, "--method", "adain", "--save-warp", "w.png"), 2, "ZC-E010"),
        ((*RUN, "--method", "attention", "--save-confidence", "w.png"), 2, "ZC-E010"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    args: tuple[str, ...], status: int, error: str
) -> None:
    before = {file: file.read_bytes() for file in Path().iterdir()}
    result = run(*args)
    assert result.exit_code == status
    *_, line = result.stderr.splitlines()
    assert line.startswith("Error: ") and line.endswith(f"[{error}]")
    assert {file: file.read_bytes() for file in Path().iterdir()} == before


def test_doubtful_input_has_a_warning_and_a_result() -> None:
    Image.new("RGB", (64, 64), "teal").save("even.png")
    stderr = done("translate", "even.png", "-e", "even.png", *WARP, "-o", "out.png").stderr
    for words in ("label map is empty", "even.png has one color", "condition itself"):
        assert words in stderr


def warnings_of(*args: str) -> list[str]:
    lines = done("translate", *args, "-n").stderr.splitlines()
    return [line for line in lines if line.startswith("Warning: ")]


def test_transparent_parts_have_a_warning() -> None:
    image = Image.open("exemplar.png").convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 64, 128))
    image.save("clear.png")
    paletted = Image.open("labels.png").convert("P")
    paletted.save("palette.png", transparency=paletted.getpixel((0, 0)))
    first, second = warnings_of("palette.png", "-e", "clear.png", *WARP)
    assert "palette.png: " in first and "of it is transparent, which is taken as white" in first
    assert second == "Warning: clear.png: 50% of it is transparent, which is taken as white"


def test_an_exemplar_that_is_given_twice_has_a_warning() -> None:
    Path("same.png").symlink_to("exemplar.png")
    args = ["labels.png", "-e", "exemplar.png", "-e", "same.png:2", "-e", "other.png", *WARP]
    assert warnings_of(*args) == [
        "Warning: same.png is the same image as exemplar.png: their weights add up"
    ]


@pytest.mark.parametrize(
    ("file", "kind", "words"),
    [
        ("labels.png", "edge", "the edge condition has areas, not lines"),
        ("exemplar.png", "sketch", "the sketch condition has areas, not lines"),
        ("edges.png", "sketch", "the sketch condition has areas, not lines"),
        ("exemplar.png", "label", "the label map has many colors; "),
        ("edges.png", "edge", None),
        ("labels.png", "label", None),
        ("labels.png", "image", None),
    ],
)
def test_a_condition_of_another_kind_than_it_is_declared_has_a_warning(
    file: str, kind: str, words: str | None
) -> None:
    lines = warnings_of(file, "-e", "other.png", *WARP, "--condition", kind)
    assert len(lines) == (words is not None)
    assert words is None or words in lines[0]


def test_a_network_that_is_not_used_has_a_warning() -> None:
    line = "Warning: --network has no effect with --method warp and --matcher position"
    Path("empty").mkdir()
    assert line in warnings_of("labels.png", "-e", "other.png", *WARP, "--network", "empty")
    result = run("translate", "labels.png", "-e", "other.png", "--network", "empty", "-n")
    assert result.exit_code == 3 and "no config.json" in result.stderr


def test_a_message_of_one_kind_can_be_silenced() -> None:
    result = done(*RUN, "--quiet")
    assert "Condition:" not in result.stderr


def test_configuration_and_environment_apply(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("zerocon.toml").write_text('metadata = "none"\nsteps = 7\n')
    record = json.loads(done(*RUN, "-n", "--format", "json").stdout)
    assert record["settings"]["steps"] == 7
    monkeypatch.setenv("ZEROCON_STEPS", "9")
    record = json.loads(done(*RUN, "-n", "--format", "json").stdout)
    assert record["settings"]["steps"] == 9 and "steps" not in "".join(record["warnings"])


# --- recipes


def test_a_translation_is_replayed_byte_for_byte() -> None:
    done(*RUN, "-e", "other.png:0.5", "-o", "out.png", "--color-match", "global")
    page = done("inspect", "out.png").stdout
    assert re.search(r"^condition  [0-9a-f]{32}, resized to 128x128$", page, re.M)
    assert re.search(r"^exemplar   [0-9a-f]{32}, weight 0.5$", page, re.M)
    replay = ["replay", "out.png", "--source", "labels.png", "-e", "other.png"]
    result = done(*replay, "-e", "exemplar.png", "-o", "again.png")
    assert result.stdout == "identical, byte for byte\n"
    assert Path("again.png").read_bytes() == Path("out.png").read_bytes()
    missing = run(*replay)
    assert missing.exit_code == 2 and "1 of the recipe's 2 exemplars are missing" in missing.stderr
    surplus = run(*replay, "-e", "exemplar.png", "-e", "edges.png")
    assert surplus.exit_code == 2 and "not one of the recipe's" in surplus.stderr
    other = run("replay", "out.png", "--source", "edges.png", "-e", "exemplar.png")
    assert other.exit_code == 2 and "the source is another image" in other.stderr


def test_translations_of_a_folder_are_inspected_and_replayed() -> None:
    Path("out").mkdir()
    done(*RUN, "-o", "out/one.png")
    done("translate", "edges.png", "-e", "other.png", *WARP, "-o", "out/two.webp")
    listed = json.loads(done("inspect", "out", "--format", "json").stdout)
    schemas = [each["recipe"]["schema"] for each in listed["images"]]
    assert schemas == ["zerocon.translation-recipe/1"] * 2
    assert done("replay", "out", "--source", ".").stdout.endswith("2 of 2 came out the same\n")
    Path("other.png").unlink()
    result = run("replay", "out", "--source", ".")
    assert result.exit_code == 1 and "no image has the pixels" in result.stdout


def test_a_recipe_is_read_as_it_was_written() -> None:
    done(*RUN, "-o", "out.png")
    text = str(Photograph.read("out.png").recipe)
    recipe = TranslationRecipe.from_json(text)
    assert recipe.to_json() == text and recipe.settings.condition == "label"
    later = json.dumps(json.loads(text) | {"mood": 1}, sort_keys=True, separators=(",", ":"))
    assert TranslationRecipe.from_json(later).to_json() == later
    with pytest.raises(FileFormatError, match="schema"):
        Recipe.from_json(text)


@pytest.mark.parametrize(
    "change",
    [
        {"exemplars": []},
        {"exemplars": [{"hash": "0", "weight": -1.0}]},
        {"size": [0, 1]},
        {"size": [128]},
        {"condition": 7},
        {"model": "\x1b[2J"},
        {"settings": {"steps": "7"}},
        {"settings": {"mood": 1}},
        {"compute": {}},
        {"versions": []},
        {"schema": "zerocon.translation-recipe/2"},
    ],
)
def test_damaged_recipes_are_refused(change: dict[str, object]) -> None:
    record = json.loads(RECIPE) | change
    with pytest.raises(FileFormatError):
        TranslationRecipe.from_json(json.dumps(record))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"settings": {"steps": 2000, "condition": "edge"}}, "2000 steps are more than the 1000"),
        ({"settings": {"method": "promote", "condition": "edge"}}, "translation network"),
        ({"settings": {"method": "warp"}}, "which kind the condition has"),
        ({"model": "./own"}, "is or could be a path"),
    ],
)
def test_recipes_of_strangers_are_bounded(change: dict[str, object], words: str) -> None:
    record = json.loads(RECIPE) | {"network": "0" * 32, **change}
    if "network" not in words:
        record["network"] = None
    image = Photograph.read("exemplar.png").image
    record["condition"] = record["exemplars"][0]["hash"] = _hash("exemplar.png")
    chunks = PngInfo()
    chunks.add_itxt(KEYWORD, json.dumps(record))
    image.save("foreign.png", pnginfo=chunks)
    result = run("replay", "foreign.png", "--source", "exemplar.png", "-e", "exemplar.png")
    assert result.exit_code == 2 and words in result.stderr


def _hash(file: str) -> str:
    return image_hash(Photograph.read(file).image)


RECIPE = json.dumps(
    {
        "schema": "zerocon.translation-recipe/1",
        "condition": "a" * 32,
        "exemplars": [{"hash": "b" * 32, "weight": 1.0}],
        "size": [128, 128],
        "model": "mini",
        "weights": "c" * 32,
        "network": None,
        "prediction": "epsilon",
        "compute": {"device": "cpu", "dtype": "float32"},
        "settings": {
            "method": "warp", "matcher": "position", "condition": "edge", "steps": 30, "seed": 0,
            "structure": 1.0, "appearance": 1.0, "range": [0.0, 1.0], "color_match": "none",
            "prompt": "",
        },
        "versions": {"zerocon": "0.2.0"},
    }
)  # fmt: skip


def test_an_edit_takes_no_exemplar_and_a_translation_no_mask() -> None:
    done(*RUN, "-o", "out.png")
    args = ["replay", "out.png", "--source", "labels.png", "-e", "exemplar.png"]
    for option in ("--mask", "--inversion", "--direction"):
        result = run(*args, option, "other.png")
        assert result.exit_code == 2 and f"{option} is for an edit" in result.stderr


def test_a_jpeg_condition_is_read_through_its_noise() -> None:
    image = Image.new("RGB", (300, 200))
    ImageDraw.Draw(image).line([(20, 180), (150, 20), (280, 180)], fill="white", width=3)
    image.save("noisy.jpg", quality=40)
    result = done("translate", "noisy.jpg", "-e", "exemplar.png", *WARP)
    assert result.stdout == "noisy-exemplar.png\n" and "edge map" in result.stderr
    assert "enlarged 2.3 times" in result.stderr
