"""``zerocon translate`` with the networks of the package, on the examples and on drawn scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from zerocon import world
from zerocon.bench.metrics import psnr
from zerocon.cli import main
from zerocon.exemplar.networks import WEIGHTS

EXAMPLES = Path(__file__).parent.parent / "examples"
LARGEST = 16_000_000  # bytes of the shipped networks, 3 million of which are frozen tensors
SEEDS = range(world.VALIDATION.start + 900, world.VALIDATION.start + 906)


def pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file).convert("RGB"), np.float64)


def similarity(one: Path, other: Path) -> float:
    values = pixels(one)
    result = psnr(values, pixels(other), np.ones(values.shape[:2], bool))
    assert result is not None
    return result


def translated(condition: Path, exemplar: Path, output: Path, *options: str) -> Path:
    args = ["translate", str(condition), "-e", str(exemplar), "-o", str(output), *options]
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 0, result.output
    return output


def test_the_networks_are_small() -> None:
    assert sum(file.stat().st_size for file in WEIGHTS.iterdir()) < LARGEST


@pytest.mark.parametrize("condition", ["label.png", "edge.png"])
def test_the_examples_follow_condition_and_exemplar(
    condition: str, tmp_path: Path, shared_models: None
) -> None:
    exemplar, target = EXAMPLES / "exemplar.png", EXAMPLES / "target.png"
    result = translated(EXAMPLES / condition, exemplar, tmp_path / "out.png", "--steps", "20")
    adain = translated(EXAMPLES / condition, exemplar, tmp_path / "a.png", "--method", "adain")
    assert pixels(result).shape == (128, 128, 3)
    # 17 dB where measured; the exemplar itself has 11.5 dB, and AdaIN of the condition 12
    assert similarity(result, target) > 15.5
    assert similarity(result, target) > similarity(adain, target) + 2
    assert similarity(result, exemplar) < similarity(result, target)


def test_the_same_command_gives_the_same_bytes(tmp_path: Path, shared_models: None) -> None:
    inputs = EXAMPLES / "edge.png", EXAMPLES / "exemplar.png"
    first, second, third = (
        translated(*inputs, tmp_path / f"{name}.png", "--steps", "4", "--seed", seed).read_bytes()
        for name, seed in (("one", "1"), ("two", "1"), ("three", "2"))
    )
    assert first == second != third


def test_scenes_are_dressed_like_other_scenes(tmp_path: Path, shared_models: None) -> None:
    gains = []
    for seed in SEEDS:
        structure, appearance = world.sample(seed), world.sample(seed + 1000)
        files = {name: tmp_path / f"{seed}-{name}.png" for name in ("edge", "exemplar", "target")}
        world.edges(structure).save(files["edge"])
        world.render(appearance).save(files["exemplar"])
        world.render(world.dress(structure, appearance)).save(files["target"])
        out = tmp_path / f"{seed}-out.png"
        translated(files["edge"], files["exemplar"], out, "--steps", "8")
        gains.append(
            similarity(out, files["target"]) - similarity(files["exemplar"], files["target"])
        )
    assert np.mean(gains) > 1.5
    assert min(gains) > -2
