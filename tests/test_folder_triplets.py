"""Training pairs of translation from a folder of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from zerocon import world
from zerocon.cli import main
from zerocon.errors import CommandError, MismatchError
from zerocon.exemplar.condition import detect
from zerocon.training.folder_triplets import (
    FolderTripletsStage,
    listed,
    nearest,
    recolored,
    split_names,
)
from zerocon.training.triplets import TripletSampler
from zerocon.training.workspace import Workspace

SCENES = [world.sample(seed) for seed in range(5, 13)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for number, scene in enumerate(SCENES):
        image = world.render(scene, 160).crop((0, 8, 160, 152))
        image.save(tmp_path / "images" / f"{number}.jpg", quality=95)
        labels = world.labels(scene, 160).crop((0, 8, 160, 152))
        labels.save(tmp_path / "labels" / f"{number}.png")
    return tmp_path


def test_a_folder_becomes_triplets(data: Path) -> None:
    args = ["train", "translate", str(data), "--work", str(data / "work"), "--stage", "triplets"]
    assert CliRunner().invoke(main, [*args, "--quiet"]).exit_code == 0
    work = Workspace(data / "work")
    sampler, unseen = TripletSampler(work), TripletSampler(work, "validation")
    assert (len(sampler), len(unseen)) == (7, 1)
    kinds = ["edge", "label", "sketch", "image"]
    batch = sampler.select(np.arange(4), kinds, np.full(4, -1))
    pixels = ((batch.condition + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    found = [detect(Image.fromarray(each)).kind for each in pixels]
    assert found[1:2] + found[3:] == ["label", "image"]
    drawn = {tuple(c) for s in SCENES for c in np.asarray(world.labels(s, 160)).reshape(-1, 3)}
    assert {tuple(color) for color in pixels[1].reshape(-1, 3)} <= drawn
    assert (batch.target - batch.exemplar).abs().mean((1, 2, 3)).min() > 0.05
    assert (batch.target_latents - batch.exemplar_latents).abs().mean() > 0.1
    before = [file.stat().st_mtime_ns for file in (data / "work" / "triplets").glob("*.u8")]
    assert CliRunner().invoke(main, [*args, "--quiet"]).exit_code == 0
    assert before == [file.stat().st_mtime_ns for file in (data / "work" / "triplets").glob("*.u8")]


def test_without_label_maps_no_condition_is_one(data: Path) -> None:
    for file in (data / "labels").iterdir():
        file.unlink()
    work = Workspace(data / "work", say=lambda _: None)
    FolderTripletsStage(folder=str(data), distortions=1).run(work)
    batch = TripletSampler(work).batch(60, np.random.default_rng(0))
    assert set(batch.kinds) == {"edge", "sketch", "image"}
    images = [i for i, kind in enumerate(batch.kinds) if kind == "image"]
    assert (batch.condition - batch.target)[images].abs().mean((1, 2, 3)).min() > 0.02


def test_faults_of_a_folder_are_named(data: Path) -> None:
    work = Workspace(data / "work", say=lambda _: None)
    stage = FolderTripletsStage(folder=str(data))
    Image.new("RGB", (160, 90)).save(data / "labels" / "3.png")
    with pytest.raises(MismatchError, match=r"3\.png has another aspect ratio"):
        stage.run(work)
    (data / "labels" / "3.png").unlink()
    with pytest.raises(CommandError, match="1 of 8 images have no label map"):
        stage.run(work)
    (data / "images" / "3.jpg").unlink()
    with pytest.raises(CommandError, match="7 images; training needs at least 8"):
        listed(data)
    result = CliRunner().invoke(main, ["train", "translate", str(data / "work"), "--work", "x"])
    assert result.exit_code == 2 and "has no directory images/" in result.stderr


def test_the_nearest_other_image_is_the_partner() -> None:
    angles = np.radians([0, 10, 90, 105, 95])
    rows = np.stack([np.cos(angles), np.sin(angles)], 1)
    assert nearest(rows).tolist() == [1, 0, 4, 4, 2]


def test_a_fixed_part_is_for_validation() -> None:
    names = [f"{number}.png" for number in range(60)]
    train, validation = (split_names(names, split) for split in ("train", "validation"))
    assert len(validation) == 3 and train | validation == {*names} and not train & validation
    assert split_names([*names, "new.png"], "validation") - {"new.png"} <= validation


def test_recoloring_keeps_the_structure_and_changes_the_colors() -> None:
    image = np.asarray(world.render(SCENES[0], 64))
    changed = recolored(image, np.random.default_rng(0)).astype(int)
    assert np.abs(changed - image).mean() > 10
    flat = np.full((8, 8, 3), (10, 200, 90), np.uint8)
    assert len(np.unique(recolored(flat, np.random.default_rng(1)).reshape(-1, 3), axis=0)) == 1
