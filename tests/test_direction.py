from dataclasses import replace
from functools import partial

import pytest
import tiny
import torch
from conftest import gradient
from safetensors.torch import save_file

import zerocon
from zerocon import api
from zerocon.direction import Direction, between, mean_tokens, weight
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
def own(model):
    return Direction.between(model, CATS, DOGS, words=("cat", "dog"))


def same(one, two):
    """Equal in everything that is kept."""
    plain = [
        replace(d, tokens=torch.zeros(1, 1, 1), origin=torch.zeros(1, 1, 1)) for d in (one, two)
    ]
    alike = repr(plain[0]) == repr(plain[1])
    return alike and torch.equal(one.tokens, two.tokens) and torch.equal(one.origin, two.origin)


def test_a_direction_is_the_difference_of_means_and_turns_with_its_sides():
    source, target = torch.randn(5, 8, 4), torch.randn(7, 8, 4)
    step = between(source, target)
    assert torch.allclose(step, target.mean(0) - source.mean(0))
    assert torch.equal(between(target, source), -step)
    assert between(source, source).abs().max() == 0


def test_sentences_are_encoded_once_per_model(monkeypatch):
    model, asked = tiny.model(), []
    embed = model.embed
    monkeypatch.setattr(model, "embed", lambda sentences: asked.append(1) or embed(sentences))
    first = mean_tokens(model, ["a cat", "a dog"])
    assert torch.equal(first, mean_tokens(model, ["a cat", "a dog"])) and len(asked) == 1
    assert not torch.equal(first, mean_tokens(model, ["a dog", "a hen"]))
    other = tiny.model(seed=1)
    assert not torch.equal(first, mean_tokens(other, ["a cat", "a dog"]))


def test_weight_is_relative_to_the_caption():
    c = tiny.model().embed(["a cat"])
    assert weight(0.5 * c.tokens, c) == pytest.approx(0.5)
    assert weight(0 * c.tokens, c) == 0


# a direction with its history


def test_own_sentences_by_hand(model, own):
    cats = torch.stack([model.embed([each]).tokens[0] for each in CATS])
    dogs = torch.stack([model.embed([each]).tokens[0] for each in DOGS])
    assert own.tokens.shape == (1, tiny.POSITIONS, 16) and own.tokens.dtype == torch.float32
    assert torch.allclose(own.tokens[0], dogs.sum(0) / 2 - cats.sum(0) / 3, atol=1e-5)
    assert torch.allclose(own.origin[0], cats.sum(0) / 3, atol=1e-5)
    assert (own.source, own.target) == (("cat",), ("dog",))
    assert own.sentences == (tuple(CATS), tuple(DOGS))
    assert (own.model, own.version) == ("tiny", zerocon.__version__)
    assert own.encoder == model.embed([""]).encoder


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
def test_words_are_said_in_many_sentences(model, source, target, first):
    made = Direction.of_words(model, source, target)
    assert (made.source, made.target) == ((source,), (target,))
    assert tuple(side[0] for side in made.sentences) == first
    assert all(len(side) >= 64 for side in made.sentences)
    assert torch.allclose(Direction.of_words(model, target, source).tokens, -made.tokens, atol=1e-6)


@pytest.mark.parametrize(
    ("words", "message"), [(("cat", "a cat"), "nothing changes"), (("cat", "?!"), "names nothing")]
)
def test_words_that_lead_nowhere(model, words, message):
    with pytest.raises(ValueError, match=message):
        Direction.of_words(model, *words)


def test_two_changes_at_once_are_the_sum_of_both(model):
    whole = Direction.of_words(model, "a cat", "a dog at night")
    dog, night = (
        Direction.of_words(model, "a cat", wanted) for wanted in ("a dog", "a cat at night")
    )
    assert torch.allclose(whole.tokens, dog.tokens + night.tokens, atol=1e-6)
    assert str(whole) == "a cat -> a dog at night"


def test_directions_scale_and_add_as_vectors(model, own):
    night = Direction.between(model, ["day"], ["night"], words=("day", "night"))
    guidance_prompt, turned = own * 0.5, -1 * own
    assert torch.equal(guidance_prompt.tokens, own.tokens / 2) and torch.equal(
        turned.tokens, -own.tokens
    )
    assert same(replace(guidance_prompt, tokens=own.tokens), own)
    both = guidance_prompt + night
    assert torch.equal(both.tokens, guidance_prompt.tokens + night.tokens)
    assert str(both) == "cat -> dog, day -> night"
    assert both.sentences == ((*CATS, "day"), (*DOGS, "night"))
    everything = model.embed([*CATS, "day"]).tokens.mean(0, keepdim=True)
    assert torch.allclose(both.origin, everything, atol=1e-5)
    for factor in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match=str(factor)):
            _ = own * factor


def test_directions_of_two_text_encoders_do_not_add(model, other, own):
    theirs = Direction.between(other, ["day"], ["night"], words=("day", "night"))
    with pytest.raises(ValueError, match="cat -> dog") as caught:
        _ = own + theirs
    assert all(said in str(caught.value) for said in ("day -> night", own.encoder, theirs.encoder))
    with pytest.raises(ValueError, match="cat -> dog"):
        own.on(other)
    assert torch.equal(own.on(model), own.tokens)


def test_the_profile_is_relative_to_the_source_sentences(model, own):
    lengths, relative = own.profile()
    assert torch.allclose(lengths, own.tokens[0].norm(dim=1))
    assert lengths[0] < 1e-5 < lengths[-1]  # every sentence begins alike
    assert float(relative.mean()) == pytest.approx(
        weight(own.tokens, replace(model.embed(["x"]), tokens=own.origin))
    )
    assert torch.allclose((own * 2).profile()[1], 2 * relative)


def test_a_saved_direction_comes_back_whole_and_always_as_the_same_bytes(own, tmp_path):
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    own.save(one)
    back = Direction.load(one)
    assert same(back, own)
    back.save(two)
    assert one.read_bytes() == two.read_bytes()
    with pytest.raises(FileExistsError):
        own.save(one)
    (own * 2).save(one, overwrite=True)
    assert torch.equal(Direction.load(one).tokens, 2 * own.tokens)


def test_other_files_are_refused(model, image, tmp_path):
    text, foreign, kept = (tmp_path / name for name in ("cat.txt", "weights.st", "kept.st"))
    text.write_text("a cat")
    save_file({"tokens": torch.zeros(1)}, foreign)
    zerocon.invert(image, model).save(kept)
    assert Inversion.load(kept)
    for path in (text, foreign, kept, tmp_path / "missing.st", tmp_path):
        with pytest.raises(ValueError, match=path.name):
            Direction.load(path)


# sentences of one side


def test_one_side_of_the_bank_by_itself():
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


def test_an_edit_along_a_direction_is_the_edit_by_its_words(model, image):
    settings = replace(model.settings, direction_from="bank")
    edit = partial(zerocon.edit, image, model=model, settings=settings)
    by_words = edit(to="dog")
    kept = Direction.of_words(model, "cat", "dog")
    along = edit(directions=[(kept, 1.0)])
    assert along.image.tobytes() == by_words.image.tobytes()
    assert along.rewrite.target_caption == along.caption == by_words.caption
    assert along.request.directions == ((kept, 1.0),)
    assert along.request.sentences == by_words.request.sentences
    assert along.request.warnings == ()  # there are no two captions to ask a CLIP about


def test_directions_add_to_each_other_and_to_words(model, image):
    parse_request = partial(api.parse_request, image, model)
    dog, night = (Direction.of_words(model, *w) for w in (("cat", "dog"), ("by day", "at night")))
    both = parse_request(directions=[(dog, 0.5), (night, -2.0)])
    assert torch.allclose(both.direction, 0.5 * dog.tokens - 2 * night.tokens, atol=1e-6)
    words = parse_request(to="bus")
    more = parse_request(to="bus", directions=[(night, 0.25)])
    assert torch.allclose(more.direction, words.direction + 0.25 * night.tokens, atol=1e-6)
    assert more.rewrite == words.rewrite
    assert more.sentences == words.sentences + 144


def test_strength_scales_the_sum(model, image):
    kept = Direction.of_words(model, "cat", "dog")
    settings = replace(model.settings, strength=0.5)
    guidance_prompt = zerocon.edit(image, model=model, directions=[(kept, 1.0)], settings=settings)
    same = zerocon.edit(image, model=model, directions=[(kept, 0.5)])
    assert guidance_prompt.image.tobytes() == same.image.tobytes()


def test_without_words_all_positions_are_moved_and_that_is_said(model, image):
    kept = Direction.of_words(model, "cat", "dog")
    edit = partial(zerocon.edit, image, model=model, directions=[(kept, 1.0)])
    everywhere, changed = (
        edit(),
        edit(settings=replace(model.settings, direction_positions="changed")),
    )
    assert changed.image.tobytes() == everywhere.image.tobytes()
    assert any("all positions" in warning for warning in changed.request.warnings)


def test_another_text_encoder_is_refused_before_the_picture_is_looked_at(own, other, image):
    def nobody():
        raise AssertionError("too late")

    other._load_captioner = nobody
    with pytest.raises(ValueError, match="cat -> dog"):
        zerocon.edit(image, model=other, directions=[(own, 1.0)])


def test_a_source_alone_is_no_wish(model, own, image):
    with pytest.raises(ValueError, match="the prompt is missing"):
        zerocon.edit(image, model=model, from_="cat", directions=[(own, 1.0)])
