from dataclasses import replace
from functools import partial

import pytest
import tiny
import torch
from conftest import gradient
from safetensors.torch import save_file

import zerocon
from zerocon import api
from zerocon.direction import Direction, mean_conditioning, relative_length
from zerocon.errors import PromptError
from zerocon.prompt.sentence_bank import about, read
from zerocon.trajectory import Inversion

CATS, DOGS = ["a cat", "a cat in a box", "my cat"], ["a dog", "the dog"]


@pytest.fixture(scope="module")
def model():
    return tiny.model()


@pytest.fixture(scope="module")
def other():
    return tiny.model(seed=1)


@pytest.fixture(scope="module")
def image():
    return gradient(90, 51)


@pytest.fixture
def cat_to_dog(model):
    return Direction.between(model, CATS, DOGS, words=("cat", "dog"))


def same(one, two):
    """Equal in everything that is kept."""
    plain = [
        replace(d, tokens=torch.zeros(1, 1, 1), origin=torch.zeros(1, 1, 1)) for d in (one, two)
    ]
    alike = repr(plain[0]) == repr(plain[1])
    return alike and torch.equal(one.tokens, two.tokens) and torch.equal(one.origin, two.origin)


def test_a_direction_is_the_difference_of_means_and_reverses_with_its_sides(model):
    source, target = (mean_conditioning(model, sentences) for sentences in (CATS, DOGS))
    step = target - source
    means = [model.embed(sentences).tokens.mean(0, keepdim=True) for sentences in (CATS, DOGS)]
    assert torch.allclose(step.tokens, means[1] - means[0])
    assert torch.equal((source - target).tokens, -step.tokens)
    assert (source - source).tokens.abs().max() == 0


def test_sentences_are_encoded_once_per_model(monkeypatch):
    model, calls = tiny.model(), []
    embed = model.embed
    monkeypatch.setattr(model, "embed", lambda sentences: calls.append(1) or embed(sentences))

    def mean(model, *sentences):
        return mean_conditioning(model, sentences).tokens

    first = mean(model, "a cat", "a dog")
    assert torch.equal(first, mean(model, "a cat", "a dog")) and len(calls) == 1
    assert not torch.equal(first, mean(model, "a dog", "a hen"))
    assert not torch.equal(first, mean(tiny.model(seed=1), "a cat", "a dog"))


def test_the_length_is_relative_to_the_caption():
    c = tiny.model().embed(["a cat"])
    assert relative_length(0.5 * c, c) == pytest.approx(0.5)
    assert relative_length(0 * c, c) == 0


# a direction and its origin


def test_a_direction_between_given_sentences(model, cat_to_dog):
    cats = torch.stack([model.embed([each]).tokens[0] for each in CATS])
    dogs = torch.stack([model.embed([each]).tokens[0] for each in DOGS])
    assert (
        cat_to_dog.tokens.shape == (1, tiny.POSITIONS, 16)
        and cat_to_dog.tokens.dtype == torch.float32
    )
    assert torch.allclose(cat_to_dog.tokens[0], dogs.sum(0) / 2 - cats.sum(0) / 3, atol=1e-5)
    assert torch.allclose(cat_to_dog.origin[0], cats.sum(0) / 3, atol=1e-5)
    assert (cat_to_dog.source, cat_to_dog.target) == (("cat",), ("dog",))
    assert cat_to_dog.sentences == (tuple(CATS), tuple(DOGS))
    assert (cat_to_dog.model, cat_to_dog.version) == ("tiny", zerocon.__version__)
    assert cat_to_dog.encoder == model.embed([""]).encoder


@pytest.mark.parametrize("sides", [([], DOGS), (CATS, [])])
def test_both_sides_need_sentences(model, sides):
    with pytest.raises(ValueError, match="there are no sentences for"):
        Direction.between(model, *sides, words=("cat", "dog"))


@pytest.mark.parametrize(
    ("source", "target", "first"),
    [
        ("cat", "dog", ("a cat", "a dog")),
        ("a cat", "a cat in a red hat", ("a cat", "a cat in a red hat")),
        ("red", "blue", ("a red cat", "a blue cat")),
        ("day", "night", ("a cat in daylight", "a cat at night")),
        ("a photo", "a pencil sketch", ("a photo of a cat", "a pencil sketch of a cat")),
    ],
)
def test_words_become_many_sentences(model, source, target, first):
    made = Direction.of_words(model, source, target)
    assert (made.source, made.target) == ((source,), (target,))
    assert tuple(side[0] for side in made.sentences) == first
    assert all(len(side) >= 64 for side in made.sentences)
    assert torch.allclose(Direction.of_words(model, target, source).tokens, -made.tokens, atol=1e-6)


@pytest.mark.parametrize(
    ("words", "message"), [(("cat", "a cat"), "nothing changes"), (("cat", "?!"), "names nothing")]
)
def test_words_that_change_nothing_are_rejected(model, words, message):
    with pytest.raises(ValueError, match=message):
        Direction.of_words(model, *words)


def test_two_changes_at_once_are_the_sum_of_both(model):
    whole = Direction.of_words(model, "a cat", "a dog at night")
    dog, night = (
        Direction.of_words(model, "a cat", wanted) for wanted in ("a dog", "a cat at night")
    )
    assert torch.allclose(whole.tokens, dog.tokens + night.tokens, atol=1e-6)
    assert str(whole) == "a cat -> a dog at night"


def test_directions_scale_and_add_as_vectors(model, cat_to_dog):
    night = Direction.between(model, ["day"], ["night"], words=("day", "night"))
    half, reversed_ = cat_to_dog * 0.5, -1 * cat_to_dog
    assert torch.equal(half.tokens, cat_to_dog.tokens / 2) and torch.equal(
        reversed_.tokens, -cat_to_dog.tokens
    )
    assert same(replace(half, tokens=cat_to_dog.tokens), cat_to_dog)
    both = half + night
    assert torch.equal(both.tokens, half.tokens + night.tokens)
    assert str(both) == "cat -> dog, day -> night"
    assert both.sentences == ((*CATS, "day"), (*DOGS, "night"))
    everything = model.embed([*CATS, "day"]).tokens.mean(0, keepdim=True)
    assert torch.allclose(both.origin, everything, atol=1e-5)
    for factor in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match=str(factor)):
            _ = cat_to_dog * factor


def test_directions_of_two_text_encoders_do_not_add(model, other, cat_to_dog):
    theirs = Direction.between(other, ["day"], ["night"], words=("day", "night"))
    with pytest.raises(ValueError, match="cat -> dog") as caught:
        _ = cat_to_dog + theirs
    assert all(
        text in str(caught.value) for text in ("day -> night", cat_to_dog.encoder, theirs.encoder)
    )
    with pytest.raises(ValueError, match="cat -> dog"):
        cat_to_dog.on(other)
    assert torch.equal(cat_to_dog.on(model).tokens, cat_to_dog.tokens)


def test_the_profile_is_relative_to_the_source_sentences(model, cat_to_dog):
    lengths, relative = cat_to_dog.profile()
    assert torch.allclose(lengths, cat_to_dog.tokens[0].norm(dim=1))
    assert lengths[0] < 1e-5 < lengths[-1]  # every sentence starts with the same token
    assert float(relative.mean()) == pytest.approx(
        relative_length(cat_to_dog.on(model), replace(model.embed(["x"]), tokens=cat_to_dog.origin))
    )
    assert torch.allclose((cat_to_dog * 2).profile()[1], 2 * relative)


def test_a_saved_direction_loads_whole_and_always_has_the_same_bytes(cat_to_dog, tmp_path):
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    cat_to_dog.save(one)
    back = Direction.load(one)
    assert same(back, cat_to_dog)
    back.save(two)
    assert one.read_bytes() == two.read_bytes()
    with pytest.raises(FileExistsError):
        cat_to_dog.save(one)
    (cat_to_dog * 2).save(one, overwrite=True)
    assert torch.equal(Direction.load(one).tokens, 2 * cat_to_dog.tokens)


def test_other_files_are_rejected(model, image, tmp_path):
    text, foreign, kept = (tmp_path / name for name in ("cat.txt", "weights.st", "kept.st"))
    text.write_text("a cat")
    save_file({"tokens": torch.zeros(1)}, foreign)
    zerocon.invert(image, model).save(kept)
    assert Inversion.load(kept)
    for path in (text, foreign, kept, tmp_path / "missing.st", tmp_path):
        with pytest.raises(ValueError, match=path.name):
            Direction.load(path)


# sentences of one side


def test_one_side_of_the_sentence_bank():
    assert about("cat")[:2] == about("a cat")[:2] == ["a cat", "a photo of a cat"]
    assert about("at night", limit=1) == ["a cat at night"]
    assert all("blue" in sentence for sentence in about("blue"))
    assert "a photo of a dog at night" in about("a dog at night")
    for phrase in ("cat", "blue", "at night", "a dog at night"):
        assert len(set(about(phrase))) == len(about(phrase)) >= 64
    with pytest.raises(ValueError, match="names nothing"):
        about("?!")


def test_sentences_of_a_file(tmp_path):
    path = tmp_path / "cats.txt"
    path.write_bytes("\ufeff# cats\na cat\r\n\n   une  forêt \n  # no\n".encode())
    assert read(path) == ["a cat", "une forêt"]
    path.write_text("\n# nothing\n")
    for file, content in ((path, None), (tmp_path / "gone.txt", None), (path, b"\xff\xfe\x00")):
        if content:
            file.write_bytes(content)
        with pytest.raises(ValueError, match=file.name) as caught:
            read(file)
        assert "\n" not in str(caught.value)


# edits along directions


def test_an_edit_with_a_direction_is_the_edit_by_its_words(model, image):
    """But for the support, attention control and begin: a direction has no kind of change."""
    settings = replace(
        model.settings, direction_from="bank", composite="model", attention=(), begin=0.0
    )
    edit = partial(zerocon.edit, image, model=model, settings=settings)
    by_words = edit(to="dog")
    kept = Direction.of_words(model, "cat", "dog")
    along = edit(directions=[(kept, 1.0)])
    assert along.image.tobytes() == by_words.image.tobytes()
    assert along.target_caption == along.caption == by_words.caption
    assert along.request.directions == ((kept, 1.0),)
    assert along.request.sentences == by_words.request.sentences
    assert along.request.warnings == ()  # there are no two captions to compare with a CLIP


def test_directions_add_to_each_other_and_to_the_prompt(model, image):
    parse_request = partial(api.parse_request, image, model)
    dog, night = (Direction.of_words(model, *w) for w in (("cat", "dog"), ("by day", "at night")))
    both = parse_request(directions=[(dog, 0.5), (night, -2.0)])
    assert torch.allclose(both.direction.tokens, 0.5 * dog.tokens - 2 * night.tokens, atol=1e-6)
    words = parse_request(to="bus")
    more = parse_request(to="bus", directions=[(night, 0.25)])
    assert torch.allclose(
        more.direction.tokens, words.direction.tokens + 0.25 * night.tokens, atol=1e-6
    )
    assert more.rewrite == words.rewrite
    assert more.sentences == words.sentences + 144


def test_strength_scales_the_sum(model, image):
    kept = Direction.of_words(model, "cat", "dog")
    settings = replace(model.settings, strength=0.5)
    half = zerocon.edit(image, model=model, directions=[(kept, 1.0)], settings=settings)
    same = zerocon.edit(image, model=model, directions=[(kept, 0.5)])
    assert half.image.tobytes() == same.image.tobytes()


def test_without_a_prompt_all_positions_change_with_a_warning(model, image):
    kept = Direction.of_words(model, "cat", "dog")
    edit = partial(zerocon.edit, image, model=model, directions=[(kept, 1.0)])
    everywhere, changed = (
        edit(),
        edit(settings=replace(model.settings, direction_positions="changed")),
    )
    assert changed.image.tobytes() == everywhere.image.tobytes()
    assert any("all positions" in warning for warning in changed.request.warnings)


def test_another_text_encoder_is_rejected_before_the_image_is_captioned(cat_to_dog, other, image):
    def fail():
        raise AssertionError("too late")

    other._load_captioner = fail
    with pytest.raises(ValueError, match="cat -> dog"):
        zerocon.edit(image, model=other, directions=[(cat_to_dog, 1.0)])


def test_a_source_alone_is_no_prompt(model, cat_to_dog, image):
    with pytest.raises(PromptError, match="the prompt is missing"):
        zerocon.edit(image, model=model, from_="cat", directions=[(cat_to_dog, 1.0)])
