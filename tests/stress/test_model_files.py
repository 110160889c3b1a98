"""Model files with random faults: loaded, or refused with an error of zerocon's own."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny

import zerocon
from zerocon import mini
from zerocon.errors import ZeroconError

SEEDS = range(40)
PER_SEED = 25
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1, 2, 10**9, 10**30, 1e308, -0.5, "", "x", "1", [], [1], [[1]], {}, {"a": 1},
)  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny.save(tmp_path_factory.mktemp("models") / "base")
    for name in ("captioner", "clip"):
        shutil.copytree(mini.path() / name, folder / name)
    return folder


def mutate_json(values: Any, draw: random.Random) -> Any:
    """One value of a JSON document replaced, removed, or moved."""
    if isinstance(values, dict) and values and draw.random() < 0.9:
        key = draw.choice(sorted(values))
        if draw.random() < 0.2:
            return {k: v for k, v in values.items() if k != key}
        return values | {key: mutate_json(values[key], draw)}
    if isinstance(values, list) and values and draw.random() < 0.7:
        place = draw.randrange(len(values))
        return [*values[:place], mutate_json(values[place], draw), *values[place + 1 :]]
    return draw.choice(VALUES)


def mutate_bytes(content: bytes, draw: random.Random) -> bytes:
    """A few bytes changed, mostly in the header, or the end cut off."""
    data = bytearray(content)
    if draw.random() < 0.2:
        return bytes(data[: draw.randrange(len(data))])
    for _ in range(draw.randint(1, 8)):
        reach = len(data) if draw.random() < 0.3 else min(len(data), 4000)
        data[draw.randrange(reach)] = draw.randrange(256)
    return bytes(data)


def mutate(file: Path, draw: random.Random) -> None:
    if file.suffix == ".json" and draw.random() < 0.8:
        values = mutate_json(json.loads(file.read_text()), draw)
        file.write_text(json.dumps(values))
    else:
        file.write_bytes(mutate_bytes(file.read_bytes(), draw))


@pytest.mark.stress
@pytest.mark.parametrize("seed", SEEDS)
def test_only_errors_of_zerocon(base: Path, tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    files = sorted(
        f.relative_to(base) for f in base.rglob("*") if f.suffix in (".json", ".safetensors")
    )
    for number in range(PER_SEED):
        folder = shutil.copytree(base, tmp_path / str(number))
        name = draw.choice(files)
        mutate(folder / name, draw)
        print(f"seed {seed}, file {number}: {name}")
        try:
            model = zerocon.load(str(folder), device="cpu")
            assert model.captioner and model.scorer
            model.embed(["a cat"])
            model.schedule(3)
        except ZeroconError as error:
            assert "\n" not in str(error)
        shutil.rmtree(folder)
