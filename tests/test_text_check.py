"""Text that the text encoder does not read, and words that it was not trained on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import tiny
from click.testing import CliRunner
from PIL import Image

import zerocon
from zerocon import mini as embedded
from zerocon import world
from zerocon.cli import main
from zerocon.diagnostics.text_check import check_direction
from zerocon.errors import PromptError, SettingError, UnknownWordError
from zerocon.model.defaults import ModelDefaults
from zerocon.model.stable_diffusion import StableDiffusion
from zerocon.model.tokenizing import unknown_words, unread_text
from zerocon.request import parse_request

FOX = Path(__file__).parent.parent / "examples" / "fox.png"
COLORS = ("blue", "green", "white", "pink", "purple", "orange", "yellow", "red")
# More than the 32 tokens of mini.
BALLS = " ".join(["a fox", *(f"next to a {color} ball" for color in COLORS)])


class ShortClip:
    """A CLIP that reads ten tokens; any cosine is 0.5."""

    max_tokens = 10

    def unread_text(self, text: str) -> str:
        return unread_text(tiny.tokenizer(), text, self.max_tokens)

    def similarity(self, image: Image.Image, texts: Sequence[str]) -> list[float]:
        return [0.5] * len(texts)


@pytest.fixture(scope="module")
def mini() -> StableDiffusion:
    return zerocon.load("mini", device="cpu")  # type: ignore[return-value]


@pytest.fixture(scope="module")
def fox() -> Image.Image:
    return Image.open(FOX).convert("RGB")


# What is read: the tokenizer of the tiny model has one token for every letter, and 16 positions,
# start and end token included.


@pytest.mark.parametrize(
    ("text", "unread"),
    [
        ("", ""),
        ("a cat on a bench", ""),
        ("a cat on a bench is", ""),  # 14 letters
        ("a cat on a bench was", "was"),
        ("a cat on a bench by a lake", "a lake"),
        ("a cat on a bench, at night", "at night"),  # the comma is a token
        ("supercalifragilistic cats", "supercalifragilistic cats"),
    ],
)
def test_the_end_of_a_long_text_is_unread_from_a_whole_word_on(text: str, unread: str) -> None:
    model = tiny.model()
    assert model.max_tokens == 16
    assert model.unread_text(text) == unread


def test_a_tokenizer_without_a_limit_is_limited_by_the_positions() -> None:
    model = tiny.model()
    model.tokenizer.model_max_length = int(1e30)
    assert model.max_tokens == 16
    long = model.embed(["a cat on a bench by a lake"])
    assert long.ids == model.embed(["a cat on a bench by"]).ids != model.embed(["a cat"]).ids


def test_text_that_is_cut_is_named(image: Image.Image) -> None:
    model = tiny.model()
    request = parse_request(image, model, to="dog", caption="a cat on a bench by the sea at night")
    (warning,) = (line for line in request.warnings if "tokens" in line)
    assert warning == 'the text encoder reads 16 tokens; cut: "the sea at night"'
    short = parse_request(image, model, to="dog", caption="a cat on a bench")
    assert not any("tokens" in line for line in short.warnings)


def test_of_a_long_cut_only_the_end_is_named(mini: StableDiffusion, fox: Image.Image) -> None:
    request = parse_request(fox, mini, to="dog", caption=f"{BALLS} in the snow")
    (warning,) = request.warnings
    assert warning == 'the text encoder reads 32 tokens; cut: "... next to a red ball in the snow"'


def test_a_change_that_is_cut_is_refused(mini: StableDiffusion, fox: Image.Image) -> None:
    with pytest.raises(PromptError, match=r'in the 32 tokens .* is cut: ".* red ball at night"$'):
        parse_request(fox, mini, to="at night", caption=BALLS)


def test_the_sentence_bank_still_has_a_change_that_is_cut(
    mini: StableDiffusion, fox: Image.Image
) -> None:
    settings = mini.settings.overlay({"direction_from": "bank"})
    request = parse_request(fox, mini, to="at night", caption=BALLS, settings=settings)
    (warning,) = request.warnings
    assert 'cut, and with it the change: "' in warning
    assert request.direction.tokens.any()


def test_a_clip_that_reads_less_is_named(image: Image.Image) -> None:
    model = tiny.model()
    model._load_scorer = ShortClip  # type: ignore[assignment]
    request = parse_request(image, model, to="dog", caption="a cat on a bench")
    assert request.warnings == ('CLIP reads 10 tokens; cut: "bench"',)


# words


def test_mini_knows_the_words_of_its_captions_and_no_others(mini: StableDiffusion) -> None:
    scenes = [world.sample(seed) for seed in range(400)]
    captions = " ".join(world.caption(scene) for scene in scenes)
    assert mini.unknown_words(captions) == ()
    assert set(captions.split()) == set(ModelDefaults.read(embedded.path()).words)
    others = "A sofa, 3 cats and a fox's red-orange sofa - by day"
    assert mini.unknown_words(others) == ("sofa", "3", "cats", "and", "by", "day")


def test_word_pieces_spell_every_word_and_other_vocabularies_do_not() -> None:
    pieces = zerocon.load("mini", device="cpu").tokenizer  # type: ignore[attr-defined]
    assert unknown_words(pieces, "a sofa, \u72ac 33", frozenset()) == ()
    assert unknown_words(tiny.tokenizer(), "a sofa, \u72ac 33", frozenset()) == ("\u72ac", "33")


@pytest.mark.parametrize(
    ("to", "unknown", "instead"),
    [
        ("giraffe", '"giraffe"', ("cat", "dog", "fox")),
        ("two cats", '"two", "cats"', ("cat", "dog", "fox")),
        ("in the garden", '"garden"', ("in a meadow", "on the beach", "in the snow")),
        ("a red helmet", '"helmet"', ("hat", "crown", "flower crown")),
    ],
)
def test_new_words_that_are_unknown_are_refused_with_related_ones(
    to: str, unknown: str, instead: tuple[str, ...], mini: StableDiffusion, fox: Image.Image
) -> None:
    with pytest.raises(UnknownWordError) as caught:
        parse_request(fox, mini, to=to, caption="a fox wearing a hat in a forest")
    assert str(caught.value) == (
        f"the model mini does not know {unknown}; it knows: {', '.join(instead)} (--to-caption "
        "takes any words)"
    )
    assert caught.value.hints == instead


@pytest.mark.parametrize("to", ["dog", "with a hat and a scarf", "in the snow", "a mosaic"])
def test_prompts_of_the_captions_words_are_accepted(
    to: str, mini: StableDiffusion, fox: Image.Image
) -> None:
    assert parse_request(fox, mini, to=to, caption="a drawing of a fox in a forest").warnings == ()


@pytest.mark.parametrize(
    "prompt",
    [
        {"to_caption": "a sofa in a forest", "caption": "a fox in a forest"},
        {"to": "dog", "caption": "a fox on a sofa"},
        {"to": "dog", "from_": "sofa", "caption": "a sofa in a forest"},
    ],
)
def test_other_unknown_words_are_a_warning(
    prompt: dict[str, str], mini: StableDiffusion, fox: Image.Image
) -> None:
    request = parse_request(fox, mini, **prompt)  # type: ignore[arg-type]
    assert request.warnings == ('the model mini does not know "sofa": their effect is random',)


def test_the_command_refuses_before_the_edit(tmp_path: Path) -> None:
    output = tmp_path / "sofa.png"
    command = ["edit", str(FOX), "--to", "sofa", "--model", "mini", "-o", str(output)]
    done = CliRunner().invoke(main, command)
    (line,) = done.stderr.splitlines()
    assert (done.exit_code, done.stdout, output.exists()) == (2, "", False)
    assert line.startswith('Error: the model mini does not know "sofa"') and "ZC-E043" in line


def test_a_whole_target_caption_takes_any_words(tmp_path: Path) -> None:
    command = ["edit", str(FOX), "--to-caption", "a sofa in a forest", "--model", "mini"]
    done = CliRunner().invoke(main, [*command, "--dry-run", "--format", "json"])
    assert done.exit_code == 0
    assert 'Warning: the model mini does not know "sofa"' in done.stderr
    assert json.loads(done.stdout)["target_caption"] == "a sofa in a forest"


@pytest.mark.parametrize("words", ['"cat"', "[1, 2]", '{"cat": 1}'])
def test_a_model_lists_its_words_as_a_list(words: str, tmp_path: Path) -> None:
    (tmp_path / "zerocon.json").write_text(f'{{"words": {words}}}')
    with pytest.raises(SettingError, match=r"words must be a list of words$"):
        ModelDefaults.read(tmp_path)


# directions


@pytest.mark.parametrize(
    ("source", "target", "unknown"),
    [
        ("a cat", "a cat at night", ""),
        ("red", "blue", ""),
        ("by day", "at night", '"day"'),
        ("sofa", "chair", '"chair", "sofa"'),
    ],
)
def test_a_direction_of_unknown_words_is_a_warning(
    source: str, target: str, unknown: str, mini: StableDiffusion, fox: Image.Image
) -> None:
    direction = zerocon.Direction.of_words(mini, source, target)
    warnings = [
        f'the model mini does not know {unknown} of the direction "{direction}": an edit with it '
        "may distort the image"
    ]
    assert check_direction(mini, direction) == (warnings if unknown else [])
    request = parse_request(fox, mini, directions=[(direction, 1.0)], caption="a fox")
    assert list(request.warnings) == (warnings if unknown else [])


def test_words_that_both_sides_share_do_not_matter(mini: StableDiffusion) -> None:
    sides = ["a cat on a sofa", "the cat sleeps"], ["a dog on a sofa", "the dog sleeps"]
    direction = zerocon.Direction.between(mini, *sides, words=("cats", "dogs"))
    assert check_direction(mini, direction) == []


def test_the_command_warns_when_it_makes_such_a_direction(tmp_path: Path) -> None:
    output = tmp_path / "night.safetensors"
    command = ["direction", "--from", "by day", "--to", "at night", "--model", "mini"]
    done = CliRunner().invoke(main, [*command, "-o", str(output)])
    assert done.exit_code == 0 and output.exists()
    assert 'Warning: the model mini does not know "day" of the direction' in done.stderr
