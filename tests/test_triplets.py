"""Triplets for training translation: the target is exact, splits are apart, exemplars differ."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zerocon import world
from zerocon.training.triplet_scenes import CONDITIONS, scenes_of, sketch
from zerocon.training.triplets import (
    TripletBatch,
    TripletSampler,
    TripletsStage,
    distorted,
    triplet,
)
from zerocon.training.workspace import Workspace

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "mini.md").read_text("utf-8")
STAGE = TripletsStage(train=5, validation=2, batch=4)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a few triplets."""
    work = Workspace(tmp_path_factory.mktemp("work"), say=lambda line: None)
    STAGE.run(work)
    return work


def pixels_of(scene: world.Scene) -> np.ndarray:
    return np.asarray(world.labels(scene)).reshape(-1, 3)


def as_images(pixels: torch.Tensor) -> np.ndarray:
    return ((pixels.permute(0, 2, 3, 1).numpy() + 1) * 127.5).round().astype(np.uint8)


@pytest.mark.parametrize("kind", CONDITIONS)
def test_a_triplet_is_a_function_of_its_seed_and_split(kind: str) -> None:
    one, same, other = (triplet(seed, "validation", kind) for seed in (3, 3, 4))
    assert one.kind == kind
    for name in ("condition", "exemplar", "target", "classes_c", "classes_r"):
        assert getattr(one, name).dtype == np.uint8
        assert np.array_equal(getattr(one, name), getattr(same, name))
        assert not np.array_equal(getattr(one, name), getattr(other, name))
    assert not np.array_equal(one.target, triplet(3, "test", kind).target)
    assert not np.array_equal(one.target, one.exemplar)


def test_the_target_has_the_conditions_structure_in_the_exemplars_colors() -> None:
    for seed in range(12):
        scenes = scenes_of(seed, "train")
        target, exemplar, other = scenes
        assert np.array_equal(world.edges(target), world.edges(other))
        assert np.array_equal(world.classes(target), world.classes(other))
        assert target.appearance == exemplar.appearance != other.appearance
        assert (target.time, target.style) == (exemplar.time, exemplar.style)
        assert target.geometry != exemplar.geometry
        for name in ("accessory", "companion"):
            shown = {getattr(target, name), getattr(exemplar, name)} - {"none"}
            assert len(shown) < 2
        assert exemplar.companion != exemplar.kind
        made = triplet(seed, "train", "edge")
        assert np.array_equal(made.condition, world.edges(target))
        assert np.array_equal(made.target, world.render(target))
        assert np.array_equal(made.classes_c, world.classes(target))
        assert np.array_equal(made.classes_r, world.classes(exemplar))


def test_half_of_the_appearances_are_recolored() -> None:
    free = [scenes_of(seed, "train").target.appearance.free_seed is not None for seed in range(400)]
    assert 0.42 < np.mean(free) < 0.58


@pytest.mark.parametrize(("split", "seeds"), [("train", world.TRAIN), ("test", world.TEST)])
def test_every_scene_of_a_triplet_is_of_its_split(split: str, seeds: range) -> None:
    for seed in (0, 1, len(seeds) // 4 - 1):
        for scene in scenes_of(seed, split):
            free = scene.appearance.free_seed
            assert scene.seed in seeds and (free is None or free in seeds)


def test_the_examples_are_a_triplet_of_the_validation_split() -> None:
    seed = int(re.search(r'triplet\((\d+), "validation", kind\)', PAGE).group(1))
    for kind in ("label", "edge"):
        drawn = triplet(seed, "validation", kind)
        arrays = {kind: drawn.condition, "exemplar": drawn.exemplar, "target": drawn.target}
        for name, array in arrays.items():
            file = ROOT / "examples" / f"{name}.png"
            saved = np.asarray(Image.open(file).convert("RGB"), np.int16)
            assert np.abs(saved - array).mean() < 0.1, name
            assert file.stat().st_size < 20 * 1024


def test_the_page_has_the_colors_of_label_maps() -> None:
    named = dict(re.findall(r"(\w+)(?: \|)?\s`#(\w{6})`", PAGE))
    for seed, kind in enumerate(world.KINDS):
        scene = replace(world.sample(seed), kind=kind, accessory="none", companion="none")
        shown = {bytes(color).hex() for color in np.unique(pixels_of(scene), axis=0)}
        assert {named[kind], named["sky"]} <= shown  # every place has a sky or a window
        assert shown <= set(re.findall(r"`#(\w{6})`", PAGE))


@pytest.mark.parametrize("seed", [-1, 25_000_000])
def test_a_triplet_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match="limit is 25000000"):
        triplet(seed)


def test_an_unknown_kind_of_condition_is_refused() -> None:
    with pytest.raises(ValueError, match="edge, label, sketch, image"):
        triplet(0, kind="pose")


def test_a_sketch_is_dark_on_white_and_near_the_edges() -> None:
    edges = np.asarray(world.edges(world.sample(5)))[..., 0]
    drawing = sketch(edges, np.random.default_rng(0))
    lines = drawing[..., 0] < 128
    assert drawing.max() >= 235 and 0.4 < lines.sum() / (edges > 0).sum() < 1.2
    near = np.zeros_like(lines)
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            near |= np.roll(edges > 0, (dy, dx), (0, 1))
    assert near[lines].all()


def test_a_distortion_is_strong_smooth_and_a_function_of_its_key() -> None:
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, 64)] * 2, indexing="ij")
    ramp = torch.stack([x, y])[None].expand(200, -1, -1, -1)
    keys = [(number, 0) for number in range(200)]
    moved = distorted(ramp, keys)
    assert torch.equal(moved, distorted(ramp, keys))
    assert torch.equal(moved[:3], distorted(ramp[:3], keys[:3]))
    assert not torch.equal(moved[0], distorted(ramp[:1], [(0, 1)])[0])
    assert (moved - ramp).abs().mean((1, 2, 3)).min() > 0.05
    assert moved.diff(dim=2).abs().max() < 4 * 2 / 63
    flipped = (moved[:, 0].diff(dim=2).mean((1, 2)) < 0).float().mean()
    assert 0.35 < flipped < 0.65


def test_a_batch_has_what_the_files_have(work: Workspace) -> None:
    sampler = TripletSampler(work)
    numbers = np.arange(4)
    batch = sampler.select(numbers, CONDITIONS, np.full(4, -1))
    for row, kind in enumerate(CONDITIONS):
        drawn = triplet(row, "train", kind)
        for name in ("condition", "exemplar", "target"):
            assert np.array_equal(as_images(getattr(batch, name))[row], getattr(drawn, name))
        assert np.array_equal(batch.classes_c[row], drawn.classes_c)
        assert np.array_equal(batch.classes_r[row], drawn.classes_r)


def test_latents_are_those_of_the_exemplar_in_the_batch(work: Workspace) -> None:
    from diffusers import AutoencoderKL

    from zerocon import mini

    vae = AutoencoderKL.from_pretrained(mini.path() / "vae")
    sampler = TripletSampler(work)
    batch = sampler.select(np.arange(3), ["edge"] * 3, np.array([-1, 0, 1]))
    assert not torch.equal(batch.classes_r[1], batch.classes_c[1])
    with torch.no_grad():
        for pixels, latents in (
            (batch.exemplar, batch.exemplar_latents),
            (batch.target, batch.target_latents),
        ):
            encoded = vae.encode(pixels).latent_dist.mode() * vae.config.scaling_factor
            assert (encoded - latents).abs().mean() < 0.02


def test_a_distorted_exemplar_is_never_the_target(work: Workspace) -> None:
    sampler = TripletSampler(work, distorted=1.0, shares=(0, 0, 0, 1))
    batch = sampler.batch(16, np.random.default_rng(0))
    assert set(batch.kinds) == {"image"} and len(batch) == 16
    assert (batch.exemplar - batch.target).abs().mean((1, 2, 3)).min() > 0.02
    assert set(batch.classes_r.unique().tolist()) <= set(batch.classes_c.unique().tolist())


def test_a_batch_is_a_function_of_the_generator(work: Workspace) -> None:
    sampler = TripletSampler(work)
    one, same = (sampler.batch(8, np.random.default_rng(4)) for _ in range(2))
    assert one.kinds == same.kinds and torch.equal(one.exemplar, same.exemplar)
    assert not torch.equal(one.exemplar, sampler.batch(8, np.random.default_rng(5)).exemplar)
    assert isinstance(one.to("cpu"), TripletBatch)
    assert torch.isfinite(one.exemplar_latents).all()


def test_drawing_continues_where_it_stopped(work: Workspace, tmp_path: Path) -> None:
    again = Workspace(tmp_path, say=lambda line: None)
    TripletsStage(train=3, validation=2).run(again)
    with (tmp_path / "triplets" / "train.u8").open("ab") as file:
        file.write(b"an incomplete image")
    STAGE.run(again)
    for name in ("train.u8", "train-maps.u8"):
        written = [(w.folder / "triplets" / name).read_bytes() for w in (work, again)]
        assert written[0] == written[1]
    assert len(TripletSampler(again)) == 5


def test_other_distortions_are_encoded_anew(work: Workspace, tmp_path: Path) -> None:
    again = Workspace(tmp_path, say=lambda line: None)
    TripletsStage(train=2, validation=1, distortions=0).run(again)
    assert TripletSampler(again).batch(2, np.random.default_rng(0)).exemplar.shape[0] == 2
    TripletsStage(train=2, validation=1, distortions=1).run(again)
    assert TripletSampler(again).latents.shape == (2, 3, 4, 16, 16)


def test_a_workspace_without_triplets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no encoded train triplets"):
        TripletSampler(Workspace(tmp_path))
