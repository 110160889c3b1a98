"""Stage 1: the training images, drawn once, with captions and true parameters."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from zerocon import world
from zerocon.storage.processes import use_safe_environment
from zerocon.training.array_file import ArrayFile

if TYPE_CHECKING:
    from zerocon.training.workspace import Workspace

SIZE = 128  # pixels a side of all images of the embedded model
DRESS_SEED = 5 * 10**7  # training seeds from here on give dressed scenes their appearance
CHUNK = 64


@dataclass(frozen=True)
class ScenesStage:
    """Draw the scenes for all other stages."""

    train: int = 40_000
    validation: int = 1_500
    dressed: int = 8_000  # outlines in another scene's colors, for the VAE only

    def run(self, work: Workspace) -> None:
        counts = {"train": self.train, "validation": self.validation, "dressed": self.dressed}
        for split, count in counts.items():
            _draw_split(work, split, count)


@dataclass(frozen=True)
class DrawnScenes:
    """The scenes of a split; a dressed scene has neither caption nor truth."""

    images: np.ndarray[Any, Any]  # (n, SIZE, SIZE, 3) uint8, a memory map
    captions: list[str]
    truths: list[dict[str, str]]

    def __len__(self) -> int:
        return len(self.images)


def drawn(work: Workspace, split: str) -> DrawnScenes:
    """The scenes of ``train``, ``validation`` or ``dressed``; ``ValueError`` if none exist."""
    records, lines = _records(work, split), _lines(work, split)
    count = min(len(records), len(lines))
    if not count:
        raise ValueError(f"there are no {split} scenes in {work.folder}; run --stage scenes first")
    entries = [json.loads(line) for line in lines[:count]]
    captions = [entry["caption"] for entry in entries]
    return DrawnScenes(records.read()[:count], captions, [entry["truth"] for entry in entries])


def _draw_split(work: Workspace, split: str, count: int) -> None:
    records, lines = _records(work, split), _lines(work, split)
    start = min(len(records), len(lines))
    records.cut(start)
    file = work.place("scenes") / f"{split}.jsonl"
    file.write_text("".join(lines[:start]))
    with mapper(work.workers) as apply, file.open("a") as out:
        for first in range(start, count, CHUNK):
            if work.spent() > 1:
                return
            numbers = range(first, min(first + CHUNK, count))
            images, entries = zip(*apply(partial(_draw, split), numbers), strict=True)
            records.append(np.stack(images))
            out.writelines(json.dumps(entry) + "\n" for entry in entries)
            out.flush()
            if first % (CHUNK * 50) == 0 or numbers.stop == count:
                work.say(f"scenes: {split} {numbers.stop} of {count}")


def _draw(split: str, number: int) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    if split == "dressed":
        scene = world.dress(
            world.sample(DRESS_SEED - 1 - number), world.sample(DRESS_SEED + number)
        )
        entry: dict[str, Any] = {"caption": "", "truth": {}}
    else:
        seeds = world.TRAIN if split == "train" else world.VALIDATION
        scene = world.sample(seeds[number])
        entry = {"caption": world.caption(scene), "truth": world.truth(scene)}
    return np.asarray(world.render(scene, SIZE)), {"seed": scene.seed, **entry}


@contextmanager
def mapper(workers: int) -> Iterator[Any]:
    """``map``, in several processes for ``workers`` > 1."""
    if workers < 2:
        yield map
        return
    use_safe_environment()
    # a fork could copy locks that torch's threads hold, if an earlier stage has run
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield pool.map


def _records(work: Workspace, split: str) -> ArrayFile:
    return ArrayFile(work.place("scenes") / f"{split}.u8", (SIZE, SIZE, 3))


def _lines(work: Workspace, split: str) -> list[str]:
    file = work.place("scenes") / f"{split}.jsonl"
    if not file.exists():
        return []
    return [line for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
