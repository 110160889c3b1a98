import re
import sys
from collections import Counter
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from io import BytesIO
from pathlib import Path
from typing import ClassVar

import numpy as np
import PIL.Image
import pytest
import tiny
import torch
from click.testing import CliRunner
from conftest import gradient

import zerocon
from zerocon import api, registry
from zerocon import request as request_module
from zerocon.cli import main
from zerocon.errors import ImageFormatError, SettingError
from zerocon.evaluation_count import count_evaluations
from zerocon.image.transforms import prepare, unfit
from zerocon.settings import FAST
from zerocon.storage.hashing import image_hash

PAPER = {"preset": "paper", "steps": 4}
FOX = Path(__file__).parent.parent / "examples" / "fox.png"


@pytest.fixture(scope="module")
def model():
    return tiny.model()


@pytest.fixture(scope="module")
def image():
    return gradient(90, 51)


def test_an_edit_has_the_size_of_its_source_and_everything_it_depends_on(model, image):
    edited = zerocon.edit(image, model=model, to="dog", **PAPER)
    assert edited.image.size == image.size
    assert edited.caption == "a cat on a bench"
    assert edited.target_caption == "a dog on a bench"
    assert edited.request.sentences >= 128
    assert edited.request.similarity is None
    assert any("no CLIP" in warning for warning in edited.request.warnings)
    assert edited.evaluations.total == pytest.approx(5 + 4 * 3 + 4 * 1.15)
    assert edited.inversion.latents.shape[0] == 5


def test_the_same_prompt_gives_the_same_image(model, image):
    one, two = (zerocon.edit(image, model=model, to="dog").image for _ in range(2))
    assert one.tobytes() == two.tobytes()
    other = zerocon.edit(image, model=model, to="bus").image
    assert other.tobytes() != one.tobytes()


def test_strength_zero_returns_the_image_or_with_composite_model_its_reconstruction(model, image):
    settings = replace(model.settings, strength=0.0, cache_source=False)
    same = zerocon.edit(image, model=model, to="dog", settings=settings).image
    assert same.tobytes() == image.tobytes()
    settings = replace(settings, composite="model")
    same = zerocon.edit(image, model=model, to="dog", settings=settings).image
    prepared = prepare(image, model.working_size)
    again = unfit(model.decode(model.encode(prepared.pixels))[0], prepared.frame)
    assert np.array_equal(np.asarray(same), np.asarray(again))


def test_a_given_inversion_gives_the_same_edit_with_fewer_evaluations(model, image, tmp_path):
    inversion = zerocon.invert(image, model, **PAPER)
    first = zerocon.edit(image, model=model, to="dog", **PAPER)
    second = zerocon.edit(image, model=model, to="dog", inversion=inversion, **PAPER)
    assert second.image.tobytes() == first.image.tobytes()
    assert second.evaluations.forwards == first.evaluations.forwards - 5
    inversion.save(tmp_path / "cat.safetensors")
    loaded = zerocon.Inversion.load(tmp_path / "cat.safetensors")
    third = zerocon.edit(image, model=model, to="dog", inversion=loaded, **PAPER)
    assert third.image.tobytes() == first.image.tobytes()
    assert third.evaluations.forwards == first.evaluations.forwards - 1


def test_an_inversion_of_another_image_model_or_caption_is_rejected(model, image):
    inversion = zerocon.invert(image, model)
    with pytest.raises(ValueError, match="does not match the image"):
        zerocon.edit(gradient(90, 52), model=model, to="dog", inversion=inversion)
    with pytest.raises(ValueError, match="tiny"):
        zerocon.edit(image, model=tiny.model(seed=1), to="dog", inversion=inversion)
    with pytest.raises(ValueError, match="a cat on a bench"):
        zerocon.edit(image, model=model, to="dog", inversion=inversion, caption="a bus")


def test_a_given_caption_needs_no_captioner(image):
    def missing():
        raise zerocon.MissingError("no captioner here")

    model = tiny.model()
    model._load_captioner = missing
    with pytest.raises(zerocon.MissingError):
        zerocon.edit(image, model=model, to="dog")
    edited = zerocon.edit(image, model=model, to="dog", caption="a cat in a box")
    assert edited.target_caption == "a dog in a box"


def test_the_request_is_reported_before_the_first_evaluation(model, image):
    requests = []
    with count_evaluations() as spent:

        def on_request(request):
            requests.append((request, spent.forwards))

        steps = []
        zerocon.edit(
            image,
            model=model,
            to="dog",
            on_request=on_request,
            progress=lambda done, total: steps.append((done, total)),
        )
    assert [forwards for _, forwards in requests] == [0]
    assert steps[-1] == (9, 9) and [done for done, _ in steps] == list(range(1, 10))


@pytest.mark.parametrize("sentences", ["bank", "caption", "mean"])
def test_directions_from_the_bank_the_caption_or_both(model, image, sentences):
    settings = replace(model.settings, direction_from=sentences)
    request = api.parse_request(image, model, to="dog", settings=settings)
    caption = model.embed(["a dog on a bench"]).tokens - model.embed(["a cat on a bench"]).tokens
    assert torch.allclose(request.direction.tokens, caption, atol=1e-6) == (sentences == "caption")


def test_a_whole_target_caption_is_a_prompt(model, image):
    edited = zerocon.edit(image, model=model, to_caption="a dog on a red sofa")
    assert edited.target_caption == "a dog on a red sofa"


def test_an_edit_without_a_prompt_is_rejected(model, image):
    with pytest.raises(ValueError):
        zerocon.edit(image, model=model)


def test_a_weak_direction_gives_a_warning(model, image, monkeypatch):
    monkeypatch.setattr(request_module, "WEAK", 1e9)
    request = api.parse_request(image, model, to="dog", settings=tiny.SETTINGS)
    assert any("weak" in warning for warning in request.warnings)


def test_image_hashes_are_of_pixels_and_size():
    assert image_hash(gradient(20, 30)) == image_hash(gradient(20, 30))
    assert image_hash(gradient(20, 30)) != image_hash(gradient(30, 20))


# the forms of an image


@pytest.fixture(scope="module")
def mini():
    return zerocon.load("mini", device="cpu")


FORMS = {
    "path": lambda file: file,
    "str": str,
    "bytes": Path.read_bytes,
    "BytesIO": lambda file: BytesIO(file.read_bytes()),
    "PIL": PIL.Image.open,
    "ndarray": lambda file: np.asarray(PIL.Image.open(file)),
    "Photograph": zerocon.Photograph.read,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_an_image_gives_the_same_edit(model, image, image_file, form):
    expected = zerocon.edit(image, model=model, to="dog")
    edited = zerocon.edit(FORMS[form](image_file), model=model, to="dog")
    assert edited.image.tobytes() == expected.image.tobytes()
    inversion = zerocon.invert(FORMS[form](image_file), model)
    assert inversion.images == expected.inversion.images


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((64, 96), np.uint8),
        np.zeros((64, 96, 4), np.uint8),
        np.zeros((3, 64, 96), np.uint8),
        np.zeros((64, 96, 3)),
        np.zeros((1, 64, 96, 3), np.uint8),
    ],
    ids=["gray", "alpha", "channels first", "float", "batch"],
)
def test_another_array_is_an_image_format_error(model, array):
    message = f"must be (height, width, 3) of uint8, not {array.shape} of {array.dtype}"
    with pytest.raises(ImageFormatError, match=re.escape(message)):
        zerocon.edit(array, model=model, to="dog")


# models, presets and settings by name


def test_a_named_model_is_loaded_once(mini, monkeypatch):
    names = []
    api._named_model.cache_clear()
    monkeypatch.setattr(api, "load", lambda name: names.append(name) or mini)
    one = zerocon.edit(FOX, to="dog", model="mini", steps=1, guidance=())
    two = zerocon.edit(FOX, to="dog", model="mini", steps=1, guidance=())
    inversion = zerocon.invert(FOX, "mini", steps=1, guidance=())
    api._named_model.cache_clear()
    assert names == ["mini"]
    assert one.image.tobytes() == two.image.tobytes() and inversion.model == mini.name


def test_the_default_model_follows_the_environment(monkeypatch):
    """Also where another default was loaded before: the model that is kept is that of a name."""
    loaded = {"one": tiny.model(), "two": tiny.model(seed=1)}
    monkeypatch.setattr(api, "load", loaded.__getitem__)
    api._named_model.cache_clear()
    for name in ("one", "two", "one"):
        monkeypatch.setenv("ZEROCON_MODEL", name)
        inversion = zerocon.invert(gradient(64, 48), caption="a cat", steps=1)
        expected = zerocon.invert(gradient(64, 48), loaded[name], caption="a cat", steps=1)
        assert torch.equal(inversion.latents[-1], expected.latents[-1])
    api._named_model.cache_clear()


def test_preset_and_single_settings_override_those_of_the_model(mini):
    edited = zerocon.edit(FOX, to="dog", model=mini, preset="fast", steps=4, caption="a fox")
    assert edited.settings == mini.settings.overlay(FAST).overlay({"steps": 4})
    assert edited.settings.guidance_scale == 1.75 and edited.settings.guidance == ()
    assert edited.inversion.schedule.steps == 4


def test_a_guidance_scale_is_measured_once_per_checkpoint(image, tmp_path, monkeypatch):
    monkeypatch.setenv("ZEROCON_CACHE", str(tmp_path / "cache"))
    folder, lines = tiny.save(tmp_path / "weights"), []
    (folder / "zerocon.json").unlink()  # it names a scale
    ask = {"to": "dog", "caption": "a cat", "steps": 2, "on_warning": lines.append}
    edits = [zerocon.edit(image, model=zerocon.load(str(folder)), **ask) for _ in range(2)]
    scale = edits[0].settings.guidance_scale
    (line,) = [line for line in lines if "guidance scale" in line]
    assert line.startswith(f"guidance scale {scale:g} measured on ") and scale > 0
    assert edits[1].settings == edits[0].settings
    assert edits[0].image.tobytes() == edits[1].image.tobytes()
    assert edits[0].evaluations == edits[1].evaluations, "the measurement is not the edit's"
    given = zerocon.edit(image, model=zerocon.load(str(folder)), guidance_scale=2.0, **ask)
    assert given.settings.guidance_scale == 2.0


def test_single_settings_override_given_settings(model, image):
    given = replace(tiny.SETTINGS, steps=3, seed=7)
    edited = zerocon.edit(image, model=model, to="dog", settings=given, strength=0.5)
    assert edited.settings == replace(given, strength=0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "slow"}, 'no preset "slow"; there are: default, fast, paper'),
        ({"stepps": 3}, "no setting 'stepps'; there are: steps,"),
        ({"steps": 0}, "steps must be an integer from 1 to 10000, not 0"),
        ({"guidance": (3,)}, "guidance must be names of guidance losses"),
    ],
)
def test_an_unknown_preset_or_a_bad_setting_is_a_setting_error(model, image, arguments, message):
    for call in (zerocon.edit, zerocon.invert):
        prompt = {"to": "dog"} if call is zerocon.edit else {}
        with pytest.raises(SettingError, match="^" + re.escape(message)):
            call(image, model=model, **prompt, **arguments)


# progress and representations


def test_progress_true_shows_a_bar(model, image, capfd):
    zerocon.edit(image, model=model, to="dog", progress=True)
    zerocon.invert(image, model, progress=True)
    stdout, stderr = capfd.readouterr()
    assert stdout == "" and "Editing: 100%" in stderr and "9/9" in stderr
    assert "Inverting: 100%" in stderr and "5/5" in stderr
    zerocon.edit(image, model=model, to="dog")
    assert capfd.readouterr().err == ""


def test_an_edit_is_saved_with_the_mode_of_its_file_and_the_mark_of_ai_edits(model, tmp_path):
    source, output = tmp_path / "cat.png", tmp_path / "dog.png"
    gradient(96, 64).convert("RGBA").save(source)
    edited = zerocon.edit(source, model=model, to="dog")
    edited.save(output)
    with PIL.Image.open(output) as saved:
        assert saved.mode == "RGBA"
        assert np.array_equal(np.asarray(saved)[..., :3], np.asarray(edited.image))
    assert b"compositeWithTrainedAlgorithmicMedia" in output.read_bytes()
    with pytest.raises(FileExistsError):
        edited.save(output)
    edited.save(output, overwrite=True)


def test_an_edit_of_pixels_is_saved_too(model, image, tmp_path):
    edited = zerocon.edit(image, model=model, to="dog")
    edited.save(tmp_path / "dog.png")
    with PIL.Image.open(tmp_path / "dog.png") as saved:
        assert np.array_equal(np.asarray(saved), np.asarray(edited.image))


def test_representations_are_short_and_notebooks_show_the_image(model, image, tmp_path):
    caption, steps = "a cat " + "on a bench in a small park " * 9, []
    edited = zerocon.edit(image, model=model, to="dog", caption=caption, on_step=steps.append)
    direction = zerocon.Direction.of_words(model, caption, caption.replace("cat", "dog"))
    parts = (edited, edited.inversion, edited.request, edited.direction, direction, steps[0])
    observations = edited.inversion.observations
    for each in (*parts, edited.source, observations[1], zerocon.Cache(tmp_path)):
        assert 5 < len(repr(each)) < 200 and "\n" not in repr(each), type(each)
    with PIL.Image.open(BytesIO(edited._repr_png_())) as shown:
        assert np.array_equal(np.asarray(shown), np.asarray(edited.image))


# a guidance loss of one's own


@dataclass(frozen=True)
class NoiseLoss:
    """Keep the predicted noise of the source."""

    weight: float = 0.5

    layer_patterns: ClassVar[tuple[str, ...]] = ()

    def __call__(self, source, edited):
        return (edited.eps - source.eps).square().sum((1, 2, 3))


@dataclass(frozen=True)
class LatentLoss:
    """Keep the latents of the source."""

    weight: float = 0.5

    layer_patterns: ClassVar[tuple[str, ...]] = ()

    def __call__(self, source, edited):
        return (edited.x - source.x).square().sum((1, 2, 3))


@dataclass(frozen=True)
class ConstantLoss:
    """Depend on the source only."""

    weight: float = 0.5

    layer_patterns: ClassVar[tuple[str, ...]] = ()

    def __call__(self, source, edited):
        return source.x.square().sum((1, 2, 3))


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    """A model with a fingerprint, as the cache needs."""
    return zerocon.load(str(tiny.save(tmp_path_factory.mktemp("models") / "weights")), device="cpu")


@pytest.fixture
def entry_points(monkeypatch):
    """The losses above under names, as another package would register them."""
    classes = {"noise": NoiseLoss, "latents": LatentLoss}
    points = [
        EntryPoint(name, f"{__name__}:{cls.__name__}", "zerocon.guidance")
        for name, cls in classes.items()
    ]
    found = lambda group: [point for point in points if point.group == group]  # noqa: E731
    monkeypatch.setattr(registry, "entry_points", found)
    clear_registry()
    yield
    clear_registry()


def clear_registry():
    registry.available.cache_clear()
    registry._resolve_text.cache_clear()


@pytest.mark.parametrize("cache_source", [True, False])
@pytest.mark.parametrize("loss", [NoiseLoss(), LatentLoss()])
def test_a_loss_without_layers_works_with_any_inversion(
    saved_model, image, tmp_path, loss, cache_source
):
    def edit(**arguments):
        return zerocon.edit(
            image, model=saved_model, to="dog", caption="a cat", **PAPER,
            cache_source=cache_source, **arguments,
        )  # fmt: skip

    cache = zerocon.Cache(tmp_path / "cache")
    free = edit(guidance=())
    computed, cached = (edit(guidance=(loss,), cache=cache) for _ in range(2))
    computed.inversion.save(tmp_path / "cat.safetensors")
    loaded = zerocon.Inversion.load(tmp_path / "cat.safetensors")
    given = edit(guidance=(loss,), inversion=loaded)
    edits = (computed, cached, given)
    assert [each.inversion_source for each in edits] == ["computed", "cached", "given"]
    assert len({each.image.tobytes() for each in edits}) == 1
    assert computed.image.tobytes() != free.image.tobytes()
    assert cached.evaluations == given.evaluations


@pytest.mark.usefixtures("entry_points")
@pytest.mark.parametrize("guidance", ["noise:weight=0.5", "latents:weight=0.5"])
def test_a_loss_by_the_name_of_its_entry_point_is_that_loss(model, image, guidance):
    loss = NoiseLoss() if guidance.startswith("noise") else LatentLoss()
    by_name = zerocon.edit(image, model=model, to="dog", guidance=(guidance,), **PAPER)
    as_object = zerocon.edit(image, model=model, to="dog", guidance=(loss,), **PAPER)
    assert by_name.image.tobytes() == as_object.image.tobytes()
    assert by_name.settings.guidance == (guidance,)
    assert as_object.settings.guidance == (guidance.partition(":")[0],)


def test_a_loss_that_does_not_depend_on_the_edit_changes_nothing(model, image):
    free = zerocon.edit(image, model=model, to="dog", guidance=())
    constant = zerocon.edit(image, model=model, to="dog", guidance=(ConstantLoss(),))
    assert constant.image.tobytes() == free.image.tobytes()


def test_an_object_replaces_an_earlier_one_of_the_same_text(model, image):
    """As in a notebook, where a class is changed and its cell is run again."""

    def loss(factor):
        @dataclass(frozen=True)
        class Changed:
            weight: float = 0.5

            layer_patterns: ClassVar[tuple[str, ...]] = ()

            def __call__(self, source, edited):
                return factor * (edited.x - source.x).square().sum((1, 2, 3))

        return Changed()

    first, second = (
        zerocon.edit(image, model=model, to="dog", guidance=(loss(factor),), **PAPER)
        for factor in (0.1, 1.0)
    )
    assert first.settings.guidance == second.settings.guidance
    assert first.image.tobytes() != second.image.tobytes()


# one edit resolves everything once


@pytest.fixture
def counts(monkeypatch):
    """Counts entry point scans, parsed methods, image hashes and resizes by zerocon."""
    counts = {name: Counter() for name in ("scans", "parses", "hashes", "resizes")}
    scan, parse = registry.entry_points, registry.parse
    resize, root = PIL.Image.Image.resize, str(Path(zerocon.__file__).parent)

    def counting_scan(*, group):
        counts["scans"][group] += 1
        return scan(group=group)

    def counting_parse(text, *arguments):
        counts["parses"][text] += 1
        return parse(text, *arguments)

    def counting_hash(image):
        counts["hashes"][image.size] += 1
        return image_hash(image)

    def counting_resize(self, size, *arguments, **options):
        caller = sys._getframe(1).f_code
        if caller.co_filename.startswith(root):
            counts["resizes"][f"{Path(caller.co_filename).stem}.{caller.co_name}"] += 1
        return resize(self, size, *arguments, **options)

    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("zerocon"):
            if vars(module).get("image_hash") is image_hash:
                monkeypatch.setattr(module, "image_hash", counting_hash)
    monkeypatch.setattr(registry, "entry_points", counting_scan)
    monkeypatch.setattr(registry, "parse", counting_parse)
    monkeypatch.setattr(PIL.Image.Image, "resize", counting_resize)
    clear_registry()
    yield counts
    clear_registry()


@pytest.mark.parametrize("metadata", ["full", "none"])
def test_one_edit_resolves_methods_and_image_once(counts, metadata, tmp_path, monkeypatch, mini):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ZEROCON_NO_CACHE")
    monkeypatch.setenv("ZEROCON_CACHE", str(tmp_path / "cache"))
    command = ["edit", str(FOX), "--to", "bear", "--model", "mini", "--device", "cpu"]
    options = ["--steps", "2", "--begin", "0", "--guidance-scale", "7.5"]
    options += ["-o", "bear.png", "--metadata", metadata]
    result = CliRunner().invoke(main, [*command, *options])
    assert result.exit_code == 0, result.output
    assert len(list(Path("cache/inversions").iterdir())) == 1
    assert max(counts["scans"].values()) == 1, counts["scans"]
    settings = mini.settings
    methods = {settings.inverter, *settings.guidance, *settings.attention_controls}
    # those of a registered object, as another test may have registered one, are not parsed
    assert {*counts["parses"].values()} == {1} and counts["parses"].keys() <= methods
    with PIL.Image.open(FOX) as fox:
        assert counts["hashes"] == {fox.size: 1}
    enlargements = counts["resizes"].pop("compositing._enlarged")
    assert counts["resizes"] == {"transforms.pixels": 1}
    # mask, nine gains and three offsets, each once: the image has fewer rows than a strip
    assert enlargements == 1 + 9 + 3
