"""Translations by the methods that need no trained weights, on the embedded model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from conftest import gradient
from PIL import Image

import zerocon
from zerocon import world
from zerocon.errors import (
    MethodError,
    MismatchError,
    ModelNotFoundError,
    NotFiniteError,
    SettingError,
)
from zerocon.exemplar.condition import read_condition
from zerocon.exemplar.correspondence import Correspondence
from zerocon.exemplar.encoders import Matcher
from zerocon.exemplar.networks import TranslationConfig, TranslationNetwork, save_weights
from zerocon.exemplar.translation import Translation, translate
from zerocon.exemplar.translation_checks import Exemplar, check_result
from zerocon.exemplar.translation_settings import TranslationSettings
from zerocon.exemplar.translators import TranslatedLatents, TranslationInputs, find_correspondence
from zerocon.image.reading import Photograph
from zerocon.model import Model
from zerocon.storage.hashing import file_hash

ONE, OTHER = world.sample(11), world.sample(12)
LABELS, EDGES, EXEMPLAR = world.labels(ONE), world.edges(ONE), world.render(OTHER)
WARP = {"method": "warp", "matcher": "position"}


@pytest.fixture(scope="module")
def mini() -> Model:
    return zerocon.load("mini", device="cpu")


def levels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"), np.float32)


def test_warping_by_position_reconstructs_the_exemplar(mini: Model) -> None:
    result = translate(LABELS, EXEMPLAR, **WARP, model=mini)
    decoded = mini.decode(mini.encode(_pixels(EXEMPLAR, mini)))
    expected = ((decoded[0].permute(1, 2, 0) + 1) * 127.5).clamp(0, 255).numpy()
    assert np.abs(levels(result.image) - expected).mean() < 1
    assert result.warped is not None and result.warped.tobytes() == result.image.tobytes()
    assert result.confidence is not None and result.confidence.getextrema() == (255, 255)
    assert result.evaluations.total == 0


def _pixels(image: Image.Image, model: Model) -> torch.Tensor:
    return read_condition(image, "image").prepare(model.working_size).pixels


def test_position_matches_the_same_place_of_an_exemplar_of_another_size(mini: Model) -> None:
    left, right = Image.new("RGB", (64, 32), "red"), Image.new("RGB", (32, 32), "blue")
    left.paste(right, (32, 0))
    result = translate(LABELS, left, **WARP, model=mini)
    halves = levels(result.image)[:, :40].mean((0, 1)), levels(result.image)[:, -40:].mean((0, 1))
    assert halves[0][0] > 150 > 100 > halves[0][2]
    assert halves[1][2] > 150 > 100 > halves[1][0]


@pytest.mark.parametrize("weights", [(1.0, 1.0), (3.0, 1.0)])
def test_exemplars_are_mixed_by_their_weights(weights: tuple[float, float], mini: Model) -> None:
    pair = (EXEMPLAR, world.render(ONE))
    settings = TranslationSettings(**WARP)
    pixels = [_pixels(each, mini) for each in pair]
    inputs = TranslationInputs(mini, pixels[0], pixels, weights, settings, lambda *_: None)
    found = find_correspondence(inputs).warped
    expected = sum(w * z for w, z in zip(weights, inputs.encoded, strict=True)) / sum(weights)
    assert torch.allclose(found, expected, atol=1e-2)


def test_adain_gives_the_condition_the_statistics_of_the_exemplar(mini: Model) -> None:
    result = translate(
        world.render(ONE), EXEMPLAR, method="adain", condition_kind="image", model=mini
    )
    encoded = mini.encode(_pixels(result.image, mini))
    wanted = mini.encode(_pixels(EXEMPLAR, mini))
    assert (encoded.mean((2, 3)) - wanted.mean((2, 3))).abs().max() < 0.25
    assert result.warped is None and result.confidence is None


@pytest.mark.parametrize(
    "arguments",
    [
        {"method": "promote", "steps": 1},
        {"method": "attention", "steps": 2},
        {"method": "warp"},
        {"method": "adain", "color_match": "global"},
    ],
)
def test_weights_act_in_every_method(arguments: dict[str, object], mini: Model) -> None:
    """One image twice is the same as once; one with hardly any weight has no effect."""
    other = Image.new("RGB", (96, 96), "teal")
    other.paste(gradient(60, 60), (20, 20))

    def run(*exemplars: tuple[Image.Image, float]) -> np.ndarray:
        return levels(translate(LABELS, exemplars, **arguments, model=mini).image)

    alone = run((EXEMPLAR, 1.0))
    assert np.abs(run((EXEMPLAR, 3.0), (EXEMPLAR, 1.0)) - alone).mean() < 0.5
    assert np.abs(run((EXEMPLAR, 1e308), (other, 1e-300)) - alone).mean() < 0.5
    mixed = [run((EXEMPLAR, 1.0), (other, weight)) for weight in (1.0, 20.0)]
    assert np.abs(mixed[0] - alone).mean() > 1 < np.abs(mixed[1] - mixed[0]).mean()


def test_color_match_moves_a_result_towards_the_exemplar(mini: Model) -> None:
    """The mean of two exemplars has less contrast than either; the match restores it."""
    bright = Image.new("RGB", (128, 128), (250, 240, 200))
    bright.paste(EXEMPLAR.resize((20, 20)), (50, 50))
    exemplars = [(EXEMPLAR, 1.0), (bright, 1.0)]
    plain = translate(LABELS, exemplars, **WARP, model=mini)
    matched = translate(LABELS, exemplars, **WARP, color_match="global", model=mini)
    assert levels(matched.image).std() > levels(plain.image).std() + 4


def test_the_result_has_the_size_of_the_condition(mini: Model) -> None:
    condition = LABELS.resize((300, 180), Image.Resampling.NEAREST)
    lines: list[str] = []
    result = translate(condition, gradient(50, 90), **WARP, model=mini, on_warning=lines.append)
    sizes = {each.size for each in (result.image, result.warped, result.confidence) if each}
    assert sizes == {(300, 180)} and result.size == (128, 96)
    assert "computed at 128x77 pixels" in lines[0] and "enlarged 2.3 times" in lines[0]
    assert tuple(lines) == result.warnings


def test_attention_runs_on_any_model_and_takes_something_of_the_exemplar() -> None:
    model, seen = tiny.model(), []
    arguments = {"method": "attention", "steps": 2, "model": model}
    results = [
        translate(gradient(64, 64), exemplar, **arguments, progress=lambda *each: seen.append(each))
        for exemplar in (EXEMPLAR, world.render(ONE))
    ]
    assert results[0].image.tobytes() != results[1].image.tobytes()
    assert seen == [(1, 2), (2, 2)] * 2
    assert results[0].evaluations.total > 0 and results[0].model == "tiny"


@pytest.mark.parametrize("matcher", ["trained", "position"])
def test_missing_weights_are_named(matcher: str, mini: Model, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"config\.json"):
        translate(LABELS, EXEMPLAR, matcher=matcher, model=mini, network=tmp_path)


def test_the_trained_matcher_serves_other_models(mini: Model, tmp_path: Path) -> None:
    save_weights(tmp_path, *_untrained(mini))
    arguments = {"method": "warp", "model": tiny.model(), "network": tmp_path}
    result = translate(LABELS, EXEMPLAR, **arguments)
    assert result.model == "tiny" and result.network == file_hash(tmp_path / "model.safetensors")


@pytest.mark.parametrize("matcher", ["trained", "position"])
def test_promote_samples_with_given_weights(matcher: str, mini: Model, tmp_path: Path) -> None:
    save_weights(tmp_path, *_untrained(mini))
    seen: list[tuple[int, int]] = []
    arguments = {"matcher": matcher, "steps": 3, "model": mini, "network": tmp_path}
    arguments |= {"progress": lambda *each: seen.append(each)}
    first, again, seeded = (
        translate(LABELS, EXEMPLAR, seed=seed, **arguments) for seed in (0, 0, 1)
    )
    assert first.image.tobytes() == again.image.tobytes() != seeded.image.tobytes()
    assert first.evaluations.forwards == 2 * 3 and first.warped is not None
    assert seen[:3] == [(1, 3), (2, 3), (3, 3)]


def test_promote_needs_the_model_of_its_weights(mini: Model, tmp_path: Path) -> None:
    save_weights(tmp_path, *_untrained(mini))
    with pytest.raises(MismatchError, match="belong to the model mini, not to tiny"):
        translate(LABELS, EXEMPLAR, model=tiny.model(), network=tmp_path)


def _untrained(model: Model) -> tuple[TranslationNetwork, Matcher]:
    torch.manual_seed(0)
    return TranslationNetwork(model.unet, TranslationConfig()), Matcher()


def test_dift_matches_an_image_with_itself_and_depends_on_the_seed(mini: Model) -> None:
    arguments = {"method": "warp", "matcher": "dift", "condition_kind": "image", "model": mini}
    result = translate(EXEMPLAR, EXEMPLAR, **arguments)
    assert np.abs(levels(result.image) - levels(EXEMPLAR)).mean() < 20
    assert result.evaluations.forwards == 16
    other = translate(EXEMPLAR, EXEMPLAR, **arguments, seed=1)
    assert other.image.tobytes() != result.image.tobytes()


# --- warnings


def warnings_of(condition: Image.Image, exemplar: Image.Image, model: Model, **more: str) -> str:
    return "\n".join(translate(condition, exemplar, **{**WARP, **more}, model=model).warnings)


def test_an_exemplar_of_one_color_has_a_warning(mini: Model) -> None:
    assert "has one color" in warnings_of(LABELS, Image.new("RGB", (40, 40), "teal"), mini)


def test_an_empty_label_map_has_a_warning(mini: Model) -> None:
    lines = warnings_of(Image.new("RGB", (40, 40), "teal"), EXEMPLAR, mini)
    assert "the label map is empty" in lines


def test_an_exemplar_that_is_the_condition_has_a_warning_and_so_has_a_copy(mini: Model) -> None:
    image = world.render(ONE)
    lines = warnings_of(image, image, mini, condition_kind="image")
    assert "is the image of the condition itself" in lines
    assert "nearly a copy" in warnings_of(LABELS, EXEMPLAR, mini)
    assert warnings_of(LABELS, EXEMPLAR, mini, method="adain") == ""


def test_a_result_that_is_the_condition_has_a_warning(mini: Model) -> None:
    """Without the exemplar's influence, attention and statistics alike."""
    image, other = world.render(ONE), Image.new("RGB", (64, 64), "teal")
    other.paste(gradient(30, 30), (20, 20))
    lines = warnings_of(image, other, mini, condition_kind="image", method="attention:scale=0")
    assert "nearly a copy" not in lines, "it has the exemplar's colors"
    result = translate(image, image.rotate(180), method="adain", condition_kind="image", model=mini)
    assert result.warnings == ("the result is nearly a copy of the condition",)


def test_classes_without_a_counterpart_are_named(mini: Model) -> None:
    condition = read_condition(LABELS, "label")
    prepared = condition.prepare(mini.working_size)
    result = translate(LABELS, EXEMPLAR, **WARP, model=mini)
    labels = np.asarray(LABELS)[4::8, 4::8]
    color = tuple(labels[0, 0])
    confidence = torch.from_numpy((labels != color).any(-1)).float()[None, None]
    found = TranslatedLatents(torch.zeros(1), _correspondence(confidence))
    (line,) = check_result(result.image, [], condition, prepared, found)
    assert "match of 1 of" in line and line.endswith("#{:02x}{:02x}{:02x}".format(*color))
    certain = TranslatedLatents(torch.zeros(1), _correspondence(torch.ones(1, 1, 16, 16)))
    assert list(check_result(result.image, [], condition, prepared, certain)) == []


def test_edges_that_match_nothing_have_a_warning(mini: Model) -> None:
    condition = read_condition(EDGES)
    prepared = condition.prepare(mini.working_size)
    found = TranslatedLatents(torch.zeros(1), _correspondence(torch.full((1, 1, 16, 16), 0.1)))
    (line,) = check_result(EXEMPLAR, [], condition, prepared, found)
    assert "little of the condition matches" in line


def test_a_result_of_one_color_has_a_warning(mini: Model) -> None:
    condition = read_condition(EDGES)
    prepared = condition.prepare(mini.working_size)
    black, nothing = Image.new("RGB", (128, 128)), TranslatedLatents(torch.zeros(1))
    (line,) = check_result(black, [Exemplar(EXEMPLAR)], condition, prepared, nothing)
    assert "the result has one color" in line


def _correspondence(confidence: torch.Tensor) -> Correspondence:
    return Correspondence(torch.zeros(1), confidence, torch.zeros(1))


def test_values_that_are_not_finite_are_no_image(
    mini: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    nan = TranslatedLatents(torch.full((1, 4, 16, 16), torch.nan))
    monkeypatch.setattr("zerocon.exemplar.translators.WarpTranslator.__call__", lambda *_: nan)
    with pytest.raises(NotFiniteError, match="latents of the translation"):
        translate(LABELS, EXEMPLAR, **WARP, model=mini)


# --- arguments


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"matcher": "best"}, SettingError, "matcher must be one of trained, dift, position"),
        ({"condition_kind": "pose"}, SettingError, "condition must be one of auto, edge"),
        ({"structure": float("nan")}, SettingError, "structure must be a number from 0 to 20"),
        ({"range": (0.5, 0.5)}, SettingError, "range must be two numbers"),
        ({"steps": 0}, SettingError, "steps must be an integer from 1"),
        ({"seed": -1}, SettingError, "seed must be an integer"),
        ({"method": "pix2pix"}, MethodError, 'no translator "pix2pix"'),
        ({"method": "promote:reinjection=2"}, MethodError, "from 0 to 1"),
        ({"color_match": "all"}, SettingError, "color_match must be one of none, global"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused(
    arguments: dict[str, object], error: type[Exception], words: str, mini: Model
) -> None:
    with pytest.raises(error, match=words):
        translate(LABELS, EXEMPLAR, **arguments, model=mini)


def test_exemplars_need_a_weight_above_zero(mini: Model) -> None:
    for weight in (0, -1.0, float("inf"), "2", True):
        with pytest.raises(SettingError, match="weight of an exemplar"):
            translate(LABELS, [(EXEMPLAR, weight)], **WARP, model=mini)
    with pytest.raises(SettingError, match="at least one exemplar"):
        translate(LABELS, [], **WARP, model=mini)


def test_one_exemplar_is_a_list_of_one(mini: Model, tmp_path: Path) -> None:
    EXEMPLAR.save(tmp_path / "exemplar.png")
    results = [
        translate(LABELS, exemplars, **WARP, model=mini)
        for exemplars in (
            [EXEMPLAR],
            (EXEMPLAR, 2.0),
            [(tmp_path / "exemplar.png", 1)],
        )
    ]
    assert len({each.image.tobytes() for each in results}) == 1
    assert results[1].exemplars[0].weight == 2.0
    assert results[2].exemplars[0].name.endswith("exemplar.png")


def test_settings_have_the_kind_that_was_detected(mini: Model) -> None:
    white = Image.fromarray(255 - np.asarray(EDGES))
    result: Translation = zerocon.translate(white, EXEMPLAR, **WARP, model=mini)
    assert result.condition_kind == "sketch" and result.condition.kind == "edge"
    again = TranslationSettings.of(vars(result.settings) | {"range": [0.0, 1.0]})
    assert again == result.settings and again == replace(again)
    with pytest.raises(SettingError, match="no setting 'scale'"):
        TranslationSettings.of({"scale": 1})


def test_a_saved_translation_has_the_mark_and_no_metadata_of_the_condition(
    mini: Model, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a map"
    LABELS.save(tmp_path / "labels.jpg", quality=95, exif=exif)
    result = translate(
        tmp_path / "labels.jpg", EXEMPLAR, **WARP, condition_kind="label", model=mini
    )
    result.save(tmp_path / "out.png")
    saved = Photograph.read(tmp_path / "out.png")
    assert saved.image.tobytes() == result.image.tobytes()
    assert not saved.exif and b"TrainedAlgorithmicMedia" in saved.kept.xmp
