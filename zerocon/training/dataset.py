"""Stage 1: scenes drawn once, with what is known of them."""

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
from zerocon.training.array_file import ArrayFile

if TYPE_CHECKING:
    from zerocon.training.workspace import Workspace

SIZE = 128  # pixels a side, of everything the embedded model sees
LOOKS = 5 * 10**7  # training seeds from here on give dressed scenes their looks
CHUNK = 64


@dataclass(frozen=True)
class ScenesStage:
    """Draw the scenes that all other stages learn from."""

    train: int = 40_000
    validation: int = 1_500
    dressed: int = 8_000  # outlines in another scene's colours, for the VAE alone

    def run(self, work: Workspace) -> None:
        counts = {"train": self.train, "validation": self.validation, "dressed": self.dressed}
        for split, count in counts.items():
            _draw_split(work, split, count)


@dataclass(frozen=True)
class DrawnScenes:
    """Scenes as they lie in the work folder; a dressed scene has neither caption nor truth."""

    images: np.ndarray[Any, Any]  # (n, SIZE, SIZE, 3) uint8, mapped
    captions: list[str]
    truths: list[dict[str, str]]

    def __len__(self) -> int:
        return len(self.images)


def drawn(work: Workspace, split: str) -> DrawnScenes:
    """The scenes of ``train``, ``validation`` or ``dressed``; ``ValueError`` if there are none."""
    records, lines = _records(work, split), _lines(work, split)
    count = min(len(records), len(lines))
    if not count:
        raise ValueError(f"there are no {split} scenes in {work.folder}; run --stage scenes first")
    known = [json.loads(line) for line in lines[:count]]
    captions = [fact["caption"] for fact in known]
    return DrawnScenes(records.read()[:count], captions, [fact["truth"] for fact in known])


def _draw_split(work: Workspace, split: str, count: int) -> None:
    records, lines = _records(work, split), _lines(work, split)
    start = min(len(records), len(lines))
    records.cut(start)
    page = work.place("scenes") / f"{split}.jsonl"
    page.write_text("".join(lines[:start]))
    with _mapper(work.workers) as apply, page.open("a") as file:
        for first in range(start, count, CHUNK):
            if work.spent() > 1:
                return
            numbers = range(first, min(first + CHUNK, count))
            images, facts = zip(*apply(partial(_draw, split), numbers), strict=True)
            records.append(np.stack(images))
            file.writelines(json.dumps(fact) + "\n" for fact in facts)
            file.flush()
            if first % (CHUNK * 50) == 0 or numbers.stop == count:
                work.say(f"scenes: {split} {numbers.stop} of {count}")


def _draw(split: str, number: int) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    if split == "dressed":
        scene = world.dress(world.sample(LOOKS - 1 - number), world.sample(LOOKS + number))
        known: dict[str, Any] = {"caption": "", "truth": {}}
    else:
        seeds = world.TRAIN if split == "train" else world.VALIDATION
        scene = world.sample(seeds[number])
        known = {"caption": world.caption(scene), "truth": world.truth(scene)}
    return np.asarray(world.render(scene, SIZE)), {"seed": scene.seed, **known}


@contextmanager
def _mapper(workers: int) -> Iterator[Any]:
    """``map``, by several processes if asked for."""
    if workers < 2:
        yield map
        return
    # a fork would copy torch's locked threads, if an earlier stage has run
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield pool.map


def _records(work: Workspace, split: str) -> ArrayFile:
    return ArrayFile(work.place("scenes") / f"{split}.u8", (SIZE, SIZE, 3))


def _lines(work: Workspace, split: str) -> list[str]:
    page = work.place("scenes") / f"{split}.jsonl"
    if not page.exists():
        return []
    return [line for line in page.read_text().splitlines(keepends=True) if line.endswith("\n")]
