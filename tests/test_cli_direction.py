"""``zerocon direction``, its subcommands, and edits with direction files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tiny
from click.testing import CliRunner, Result
from conftest import gradient
from PIL import Image

import zerocon
from zerocon.cli import main
from zerocon.image.reading import Photograph
from zerocon.model.stable_diffusion import StableDiffusion

Run = Callable[..., Result]
KEPT = "cat-to-dog.safetensors"


class TinyClip:
    """The similarity of any image and a sentence is the sentence's length: "cat" is 0.03."""

    def similarity(self, image: Image.Image, sentences: Sequence[str]) -> list[float]:
        return [len(sentence) / 100 for sentence in sentences]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return lambda *args: CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> StableDiffusion:
    """The model that every command gets, whatever it names."""
    return use(tiny.model(), monkeypatch)


def use(model: StableDiffusion, monkeypatch: pytest.MonkeyPatch) -> StableDiffusion:
    monkeypatch.setattr(zerocon, "load", lambda name, **options: model, raising=False)
    return model


def no_load(name: str | None, **options: str | None) -> StableDiffusion:
    raise AssertionError("this needs no model")


def names() -> set[str]:
    return {path.name for path in Path().iterdir()}


def pixels(name: str) -> np.ndarray:
    return np.asarray(Photograph.read(name).image)


# estimate and show


@pytest.mark.usefixtures("model")
def test_a_direction_file_is_named_after_its_texts(run: Run) -> None:
    done = run("direction", "--from", "cat", "--to", "dog")
    assert (done.exit_code, done.stdout) == (0, f"{KEPT}\n")
    assert done.stderr.startswith("cat -> dog: 72 and 72 sentences; ")
    assert names() == {KEPT}
    assert zerocon.Direction.load(KEPT).source == ("cat",)
    assert run("direction", "--from", "cat", "--to", "dog", "-q", "--overwrite").stderr == ""


@pytest.mark.usefixtures("model")
def test_sentences_from_files_on_both_sides_or_one(run: Run) -> None:
    Path("cats.txt").write_text("# mine\na cat\n\nmy cat\n")
    Path("dogs.txt").write_text("a dog\n")
    files = ["--from-file", "cats.txt", "--to-file", "dogs.txt"]
    direction = json.loads(run("direction", *files, "--format", "json").stdout)
    assert direction["output"] == "cats-to-dogs.safetensors"
    assert direction["sentences"] == {"from": ["a cat", "my cat"], "to": ["a dog"]}
    named = json.loads(run("direction", *files, "--to", "dog", "--format", "json").stdout)
    assert (named["from"], named["to"]) == (["cats"], ["dog"])
    run("direction", "--from", "cat", *files[2:], "-o", "mixed.safetensors")
    source, target = zerocon.Direction.load("mixed.safetensors").sentences
    assert (source[0], len(source), target) == ("a cat", 72, ("a dog",))


def test_show_needs_no_model(
    run: Run, model: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("direction", "--from", "cat", "--to", "dog")
    monkeypatch.setattr(zerocon, "load", no_load, raising=False)
    shown = run("direction", "show", KEPT)
    kept = zerocon.Direction.load(KEPT)
    assert (shown.exit_code, shown.stderr) == (0, "")
    lines = shown.stdout.splitlines()
    assert lines[0].startswith("cat -> dog: 72 and 72 sentences; ")
    assert all(record in lines[1] for record in ("tiny", kept.encoder, zerocon.__version__))
    assert lines[2] == "from: a cat; a photo of a cat; a picture of a cat; ..."
    rows = [line.split(" | ")[0] for line in lines[7:]]
    assert rows == ["| 0", "| 1", "| 2..3", "| 4..7", "| 8..15"]

    record = json.loads(run("direction", "show", KEPT, "--format", "json").stdout)
    assert record["schema"] == "zerocon.direction/1"
    assert (record["from"], record["to"], record["file"]) == (["cat"], ["dog"], KEPT)
    assert record["sentences"]["to"] == list(kept.sentences[1])
    assert (record["encoder"], record["model"]) == (kept.encoder, "tiny")
    assert record["lengths"] == pytest.approx(kept.tokens[0].norm(dim=1).tolist())
    relative = record["relative_lengths"]
    assert record["relative_length"] == pytest.approx(sum(relative) / tiny.POSITIONS)


# test


def test_images_are_compared_with_both_sides(
    run: Run, model: StableDiffusion, image_file: Path
) -> None:
    model._load_scorer = TinyClip  # type: ignore[assignment]
    run("direction", "--from", "cat", "--to", "big dog", "-o", KEPT)
    gradient(64, 64).save("b.png")
    done = run("direction", "test", KEPT, "cat.png", "b.png")
    assert (done.exit_code, done.stderr) == (0, "")
    head, _, *rows = done.stdout.splitlines()
    assert head == "| image | caption | cat | big dog | length |"
    assert rows[0].startswith("| cat.png | a cat on a bench | 0.030 | 0.070 | ")
    assert rows[1].startswith("| b.png | ")
    ask = ["direction", "test", KEPT, "cat.png", "--format", "json", "--caption"]
    record = json.loads(run(*ask, "a hen").stdout)
    assert (record["schema"], record["from"]) == ("zerocon.direction-test/1", ["cat"])
    (row,) = record["images"]
    assert (row["input"], row["caption"]) == ("cat.png", "a hen")
    assert (row["from"], row["to"]) == (0.03, 0.07)
    kept, c = zerocon.Direction.load(KEPT), model.embed(["a hen"]).tokens
    by_hand = (kept.tokens.norm(dim=-1) / c.norm(dim=-1)).mean()
    assert row["length"] == pytest.approx(float(by_hand))


@pytest.mark.usefixtures("model")
def test_without_clip_there_is_no_comparison(run: Run, image_file: Path) -> None:
    run("direction", "--from", "cat", "--to", "dog")
    done = run("direction", "test", KEPT, image_file)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (3, "", 1)
    assert "CLIP" in done.stderr and "--clip" in done.stderr


# editing


@pytest.mark.usefixtures("model")
def test_an_edit_by_a_direction_file_equals_the_edit_by_its_texts(
    run: Run, image_file: Path
) -> None:
    run("direction", "--from", "cat", "--to", "dog")
    # the support of a direction is all that it changes, and it has no kind of change
    model = ("--composite", "model", "--begin", "0", "--attention", "none")
    done = run("edit", "cat.png", "--direction", KEPT, "--compare", "both.png", *model)
    assert (done.exit_code, done.stdout) == (0, "cat-cat-to-dog.png\n")
    # random weights may damage the image, which is a further line
    assert (
        done.stderr.splitlines()[0] == '"a cat on a bench": cat -> dog (direction); 144 sentences'
    )
    run("edit", "cat.png", "--to", "dog", "--direction-from", "bank", *model)
    assert np.array_equal(pixels("cat-cat-to-dog.png"), pixels("cat-dog.png"))


@pytest.mark.usefixtures("model")
def test_two_directions_with_weights(run: Run, image_file: Path) -> None:
    run("direction", "--from", "cat", "--to", "dog")
    run("direction", "--from", "red", "--to", "blue")
    both = ["--direction", f"{KEPT}:0.5", "--direction", "red-to-blue.safetensors:-2"]
    done = run("edit", "cat.png", *both, "--format", "json")
    assert "cat -> dog (direction x 0.5); red -> blue (direction x -2)" in done.stderr
    record = json.loads(done.stdout)
    assert record["output"] == "cat-cat-to-dog-red-to-blue.png"
    assert record["caption"] == record["target_caption"] == "a cat on a bench"
    assert (record["to"], record["changes"], record["similarity"]) == (None, [], None)
    assert record["directions"] == [
        {"file": KEPT, "from": ["cat"], "to": ["dog"], "weight": 0.5},
        {"file": "red-to-blue.safetensors", "from": ["red"], "to": ["blue"], "weight": -2.0},
    ]
    cat, blue = (zerocon.Direction.load(name) for name in (KEPT, "red-to-blue.safetensors"))
    (0.5 * cat + -2 * blue).save("sum.safetensors")
    assert run("edit", "cat.png", "--direction", "sum.safetensors", "-o", "s.png").exit_code == 0
    assert np.abs(pixels("s.png").astype(int) - pixels(record["output"])).max() <= 1


@pytest.mark.usefixtures("model")
def test_a_prompt_and_a_direction_add_up(run: Run, image_file: Path) -> None:
    run("direction", "--from", "red", "--to", "blue")
    blue = ["--direction", "red-to-blue.safetensors"]
    bank = ("--direction-from", "bank")
    done = run("edit", "cat.png", "--to", "dog", *blue, *bank, "--format", "json")
    record = json.loads(done.stdout)
    assert record["output"] == "cat-dog-red-to-blue.png"
    assert record["target_caption"] == "a dog on a bench"
    assert "cat -> dog (object); red -> blue (direction); 288 sentences" in done.stderr
    run("edit", "cat.png", "--to", "dog", *blue[:1], f"{blue[1]}:0", *bank, "-o", "zero.png")
    run("edit", "cat.png", "--to", "dog", *bank)
    assert np.array_equal(pixels("zero.png"), pixels("cat-dog.png"))
    assert not np.array_equal(pixels("zero.png"), pixels(record["output"]))


def test_a_direction_of_another_text_encoder_is_refused(
    run: Run, model: StableDiffusion, monkeypatch: pytest.MonkeyPatch, image_file: Path
) -> None:
    run("direction", "--from", "cat", "--to", "dog")
    other = use(tiny.model(seed=1), monkeypatch)
    other._load_scorer = TinyClip  # type: ignore[assignment]
    before = names()
    for args in (["edit", "cat.png", "--direction", KEPT], ["direction", "test", KEPT, "cat.png"]):
        done = run(*args)
        assert (done.exit_code, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert "cat -> dog" in line and "text encoder" in line
    assert names() == before


# invalid input

MISTAKES = [
    ("nothing", [], "give both sides: --from cat --to dog"),
    ("one side", ["--from", "cat"], "give both sides"),
    ("an empty side", ["--from", "cat", "--to", " "], "give both sides"),
    ("no words", ["--from", "cat", "--to", "?!"], "'?!' names nothing"),
    ("no change", ["--from", "cat", "--to", "a cat"], 'nothing changes from "cat" to "a cat"'),
    ("no sentences file", ["--from", "cat", "--to-file", "gone.txt"], "sentences from gone.txt"),
    ("a folder of sentences", ["--from", "cat", "--to-file", "folder"], "sentences from folder"),
    (
        "empty sentences",
        ["--from", "cat", "--to-file", "empty.txt"],
        "empty.txt contains no sentences",
    ),
    (
        "comments only",
        ["--from", "cat", "--to-file", "notes.txt"],
        "notes.txt contains no sentences",
    ),
    ("no text", ["--from", "cat", "--to-file", "cat.png"], "cat.png is not UTF-8 text"),
    ("taken", ["--from", "a", "--to", "b", "-o", "taken.safetensors"], "exists already"),
    ("no kind", ["--from", "a", "--to", "b", "-o", "x.png"], "x.png must end in .safetensors"),
    (
        "nowhere",
        ["--from", "a", "--to", "b", "-o", "no/x.safetensors"],
        "the directory no of x.safetensors does not exist",
    ),
    ("early options", ["--from", "a", "show", "x"], "options come after show"),
    ("no such subcommand", ["shew", "x"], "No such command 'shew'"),
    ("showing nothing", ["show", "gone.safetensors"], "gone.safetensors"),
    ("showing text", ["show", "notes.txt"], "cannot read notes.txt as a direction"),
    ("testing no direction", ["test", "notes.txt", "cat.png"], "cannot read notes.txt"),
    ("testing no image", ["test", "taken.safetensors", "notes.txt"], "is not an image"),
    ("testing nothing", ["test", "taken.safetensors"], "Missing argument 'IMAGES...'"),
]

EDITS = [
    ("missing file", "gone.safetensors", "cannot read gone.safetensors as a direction"),
    ("text as direction", "notes.txt", "cannot read notes.txt as a direction"),
    ("image as direction", "cat.png:2", "cannot read cat.png as a direction"),
    ("no number", "taken.safetensors:half", "'half' is not a number"),
    ("no weight", "taken.safetensors:", "'' is not a number"),
    ("not finite", "taken.safetensors:nan", "'nan' is not a number"),
]


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(
    ("args", "message"),
    [
        *((["direction", *args], message) for _, args, message in MISTAKES),
        *((["edit", "cat.png", "--direction", file], message) for _, file, message in EDITS),
        (["edit", "cat.png", "--direction", "gone", "--to", ""], "the prompt is missing"),
        (["edit", "cat.png", "--direction", "gone", "--from", "a"], "the prompt is missing"),
    ],
)
def test_invalid_input_prints_one_line_and_writes_nothing(
    run: Run, image_file: Path, args: list[str], message: str
) -> None:
    Path("taken.safetensors").write_bytes(b"taken")
    Path("notes.txt").write_text("# nothing\n" * 20)
    Path("empty.txt").touch()
    Path("folder").mkdir()
    before = {path: path.is_file() and path.read_bytes() for path in Path().iterdir()}
    done = run(*args)
    assert (done.exit_code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ") and message in line
    assert {path: path.is_file() and path.read_bytes() for path in Path().iterdir()} == before


@pytest.mark.usefixtures("model")
def test_a_name_with_a_colon_is_a_file_where_there_is_one(run: Run, image_file: Path) -> None:
    run("direction", "--from", "cat", "--to", "dog", "-o", "cat2.safetensors")
    Path("cat2.safetensors").rename("cat:2")
    done = run("edit", "cat.png", "--direction", "cat:2", "--format", "json")
    assert json.loads(done.stdout)["directions"][0]["weight"] == 1
    done = run("edit", "cat.png", "--direction", "cat:2:3", "--format", "json", "-o", "x.png")
    assert json.loads(done.stdout)["directions"][0]["weight"] == 3
