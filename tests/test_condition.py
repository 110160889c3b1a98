"""Conditions of a translation: which kind an image is recognized as, and what becomes of it."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from conftest import gradient
from PIL import Image, ImageDraw, ImageFilter

from zerocon import world
from zerocon.errors import SettingError
from zerocon.exemplar.condition import detect, edges_of, labels_of, read_condition
from zerocon.image.transforms import WorkingSize

SCENES = [world.sample(seed) for seed in (3, 14, 92)]
AT_128 = WorkingSize(128, 32, "longest")
Form = Callable[[Image.Image], Image.Image]


def negative(image: Image.Image) -> Image.Image:
    return Image.fromarray(255 - np.asarray(image))


def paper(image: Image.Image) -> Image.Image:
    """Dark lines on yellowish paper."""
    tint = np.array([0.95, 0.93, 0.88])
    return Image.fromarray((np.asarray(negative(image)) * tint).astype(np.uint8))


def soft(image: Image.Image) -> Image.Image:
    """Antialiased, by enlarging it."""
    return image.resize((300, 300), Image.Resampling.BICUBIC)


def jpeg(quality: int) -> Form:
    def encode(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file).convert("RGB")

    return encode


def same(image: Image.Image) -> Image.Image:
    return image


def drawn_lines(width: int = 2, size: int = 256, side: int = 0) -> Image.Image:
    """A triangle and a circle, white on black, ``side`` pixels added on the right."""
    image = Image.new("RGB", (size + side, size))
    pen = ImageDraw.Draw(image)
    points = [(0.2 * size, 0.8 * size), (0.5 * size, 0.2 * size), (0.8 * size, 0.8 * size)]
    pen.line([*points, points[0]], fill="white", width=width)
    pen.ellipse((0.4 * size, 0.45 * size, 0.6 * size, 0.65 * size), outline="white", width=width)
    return image


@pytest.mark.parametrize("form", [same, soft, jpeg(75), jpeg(30)])
@pytest.mark.parametrize("scene", SCENES)
def test_edge_maps_are_recognized(scene: world.Scene, form: Form) -> None:
    assert detect(form(world.edges(scene))).kind == "edge"


@pytest.mark.parametrize("form", [negative, paper, lambda image: jpeg(50)(negative(image))])
@pytest.mark.parametrize("scene", SCENES)
def test_sketches_are_recognized(scene: world.Scene, form: Form) -> None:
    assert detect(form(world.edges(scene))).kind == "sketch"


@pytest.mark.parametrize("form", [same, soft, lambda image: jpeg(75)(soft(image)), jpeg(95)])
@pytest.mark.parametrize("scene", SCENES)
def test_label_maps_are_recognized(scene: world.Scene, form: Form) -> None:
    assert detect(form(world.labels(scene))).kind == "label"


@pytest.mark.parametrize("form", [same, soft, jpeg(75)])
@pytest.mark.parametrize("scene", SCENES)
def test_drawn_scenes_are_images(scene: world.Scene, form: Form) -> None:
    assert detect(form(world.render(scene))).kind == "image"


def test_a_gradient_is_an_image() -> None:
    assert detect(gradient(96, 64)).kind == "image"
    assert detect(gradient(96, 64).convert("L").convert("RGB")).kind == "image"


def test_gray_class_numbers_are_labels_and_not_an_edge_map() -> None:
    classes = np.zeros((64, 64), np.uint8)
    classes[50:, 10:] = np.arange(54) // 9
    assert detect(Image.fromarray(classes).convert("RGB")).kind == "label"


def test_a_mask_of_a_small_region_is_a_label_map_and_not_lines() -> None:
    mask = Image.new("RGB", (128, 128))
    ImageDraw.Draw(mask).ellipse((50, 50, 90, 90), fill="white")
    assert detect(mask).kind == "label"
    assert detect(drawn_lines(size=128)).kind == "edge"


@pytest.mark.parametrize("size", [128, 512, 3000])
def test_a_kind_does_not_depend_on_the_size(size: int) -> None:
    lines = drawn_lines(width=max(1, size // 100), size=size)
    assert detect(lines).kind == "edge"
    assert detect(negative(lines)).kind == "sketch"


def test_a_sketch_becomes_the_edge_map_of_its_lines() -> None:
    edges = drawn_lines()
    read = read_condition(paper(edges))
    assert read.kind == "edge" and read.detected is not None and read.detected.kind == "sketch"
    assert np.array_equal(np.asarray(read.image), np.asarray(edges))
    assert read.warnings == ()


def test_noise_of_a_file_is_no_line() -> None:
    edges = drawn_lines()
    noisy = np.asarray(jpeg(40)(edges).filter(ImageFilter.GaussianBlur(0.5)))
    read = np.asarray(read_condition(Image.fromarray(noisy)).image)
    assert set(np.unique(read)) == {0, 255}
    assert (read != np.asarray(edges)).mean() < 0.02


def test_labels_are_exact_again_after_antialiasing_and_jpeg() -> None:
    labels = world.labels(SCENES[0], 128).resize((512, 512), Image.Resampling.NEAREST)
    rough = jpeg(85)(labels.filter(ImageFilter.BoxBlur(1)))
    read = np.asarray(read_condition(rough, "label").image)
    assert len(np.unique(read.reshape(-1, 3), axis=0)) <= 32
    near = np.abs(read.astype(int) - np.asarray(labels)).max(-1) <= 8
    assert near.mean() > 0.95


def test_labels_with_exact_colors_stay_as_they_are() -> None:
    labels = np.asarray(world.labels(SCENES[1]))
    assert labels_of(labels) is labels


def test_a_mixed_color_at_a_border_gets_a_color_of_one_side() -> None:
    values = np.zeros((64, 64, 3), np.uint8)
    values[:, :32], values[:, 32:] = (200, 0, 0), (0, 0, 200)
    values[:20, :20] = (100, 0, 100)  # the color of the border is a label elsewhere
    values += np.random.default_rng(0).integers(0, 5, values.shape, np.uint8)
    values[:, 31:33] = (70, 0, 130)
    read = labels_of(values)
    assert len(np.unique(read.reshape(-1, 3), axis=0)) == 3
    assert (read[:, 31:33, 1] < 5).all()
    for side in (31, 32):
        assert np.abs(read[:, side].astype(int) - (100, 0, 100)).max(-1).min() > 50


def test_thin_lines_stay_when_an_edge_map_is_reduced() -> None:
    prepared = read_condition(drawn_lines(width=1, size=2048), "edge").prepare(AT_128)
    reduced = np.asarray(prepared.image)[..., 0] > 0
    whole = np.asarray(drawn_lines(width=16, size=2048).resize((128, 128), Image.Resampling.BOX))
    assert prepared.image.size == (128, 128)
    assert reduced[whole[..., 0] > 200].mean() > 0.9
    assert reduced.mean() < 0.1


def test_labels_are_reduced_without_new_colors() -> None:
    labels = world.labels(SCENES[2], 256)
    prepared = read_condition(labels).prepare(AT_128)
    colors = {*map(tuple, np.asarray(labels).reshape(-1, 3).tolist())}
    assert {*map(tuple, np.asarray(prepared.image).reshape(-1, 3).tolist())} <= colors


def test_a_condition_has_the_frame_of_its_own_size() -> None:
    prepared = read_condition(drawn_lines(side=128)).prepare(AT_128)
    assert prepared.frame.source == (384, 256) and prepared.frame.inner == (128, 85)
    assert prepared.pixels.shape == (1, 3, 96, 128)
    assert set(prepared.pixels.unique().tolist()) == {-1.0, 1.0}


@pytest.mark.parametrize(
    ("color", "kind", "words"),
    [("black", "auto", "label map is empty"), ("black", "edge", "no lines"),
     ("white", "sketch", "no lines"), ("red", "label", "one color")],
)  # fmt: skip
def test_empty_conditions_have_a_warning(color: str, kind: str, words: str) -> None:
    (warning,) = read_condition(Image.new("RGB", (64, 64), color), kind).warnings
    assert words in warning


def test_a_given_kind_is_not_detected() -> None:
    labels = world.labels(SCENES[0])
    read = read_condition(labels, "image")
    assert (
        read.kind == "image" and read.detected is None and read.image.tobytes() == labels.tobytes()
    )
    with pytest.raises(SettingError, match="auto or edge, label, sketch, image"):
        read_condition(labels, "edges")


def test_edges_of_a_square_are_its_border() -> None:
    image = Image.new("RGB", (128, 128), (40, 90, 200))
    ImageDraw.Draw(image).rectangle((32, 40, 95, 103), fill=(200, 90, 40))
    edges = np.asarray(edges_of(image))[..., 0] > 0
    near = np.zeros_like(edges)
    near[36:108, 28:100] = True
    near[44:100, 36:92] = False
    assert not edges[~near].any()
    for rows, columns in ((slice(36, 45), 64), (slice(99, 108), 64), (72, slice(28, 37))):
        assert edges[rows, columns].sum() == 1


@pytest.mark.parametrize("scene", SCENES)
def test_edges_of_a_drawn_scene_are_like_those_of_its_outlines(scene: world.Scene) -> None:
    exact = np.asarray(world.edges(scene))[..., 0] > 0
    edges = np.asarray(edges_of(world.render(scene)))[..., 0] > 0
    thick = np.asarray(Image.fromarray(exact).convert("L").filter(ImageFilter.MaxFilter(5))) > 0
    assert 0.02 < edges.mean() < 0.25
    assert (edges & thick).sum() > 0.4 * edges.sum()
    assert detect(edges_of(world.render(scene))).kind == "edge"


def test_edges_do_not_depend_on_the_size_of_a_photograph() -> None:
    small = world.render(SCENES[0], 128)
    large = small.resize((512, 512), Image.Resampling.BICUBIC)
    few = np.asarray(edges_of(small))[..., 0] > 0
    reduced = np.asarray(read_condition(edges_of(large), "edge").prepare(AT_128).image)[..., 0] > 0
    thick = np.asarray(Image.fromarray(few).convert("L").filter(ImageFilter.MaxFilter(5))) > 0
    assert (reduced & thick).sum() > 0.8 * reduced.sum()


def test_a_large_label_map_with_noise_keeps_its_size_and_gets_exact_colors() -> None:
    """Noise is removed at a reduced size: at 12 million pixels it took minutes."""
    small = np.zeros((30, 40, 3), np.uint8)
    small[:, :20], small[10:20, 5:12], small[:, 20:] = (250, 40, 30), (20, 200, 90), (40, 60, 220)
    image = Image.fromarray(small).resize((2400, 1800), Image.Resampling.NEAREST)
    noise = np.random.default_rng(0).integers(-2, 3, (1800, 2400, 3))
    noisy = Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))
    condition = read_condition(noisy)
    assert condition.kind == "label" and condition.image.size == image.size
    assert len(condition.image.getcolors(99) or []) == 3
    difference = np.abs(np.asarray(condition.image, np.int16) - np.asarray(image)).max(-1)
    assert (difference <= 2).mean() > 0.99
