"""The tasks of the benchmark: edits of drawn scenes whose exact result is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypedDict

from PIL import Image

from zerocon.world import TEST, VALIDATION, Scene, edits, phrase, render, sample, truth
from zerocon.world import caption as caption_of

SPLITS = {"validation": VALIDATION, "test": TEST}
KINDS = ("object", "color", "add", "remove", "place", "time", "style", "two")
SIZE = 128  # pixels a side of a drawn scene, unless another size is given


class TaskPrompt(TypedDict, total=False):
    """The prompt of a task, as keyword arguments of ``zerocon.edit``."""

    to: str
    from_: str
    to_caption: str


@dataclass(frozen=True)
class Task:
    """One edit of one scene, and the scene that is its exact result.

    Images are rendered with ``size`` pixels a side.
    """

    seed: int
    kind: str
    source: Scene
    target: Scene
    size: int = SIZE

    @cached_property
    def image(self) -> Image.Image:
        """The source image."""
        return render(self.source, self.size)

    @property
    def caption(self) -> str:
        """The true caption of the source image."""
        return caption_of(self.source)

    @cached_property
    def truth(self) -> Image.Image:
        """The exact result."""
        return render(self.target, self.size)

    def free_images(self) -> None:
        """Drop the rendered images; they are rendered again where they are used again."""
        for name in ("image", "truth"):
            self.__dict__.pop(name, None)

    @property
    def changed(self) -> dict[str, tuple[str, str]]:
        """Named parameters that should change: name -> (before, after)."""
        before, after = truth(self.source), truth(self.target)
        return {name: (before[name], after[name]) for name in before if before[name] != after[name]}

    @property
    def prompt(self) -> TaskPrompt:
        """The prompt that a person would type: a word or two, or a caption for two changes."""
        if len(self.changed) > 1:
            return {"to_caption": caption_of(self.target)}
        ((name, (before, after)),) = self.changed.items()
        if name == "companion" and before == "none":  # "a cat" alone would replace the subject
            near = "with" if f"with a {after}" in caption_of(self.target) else "next to"
            return {"to": f"{near} {phrase(name, after)}"}
        if name == "accessory" and before == "none":
            return {"to": phrase(name, after)}
        return {"from_": phrase(name, before), "to": phrase(name, after)}


def choose(
    split: str, per_kind: int, skip: int = 0, size: int = SIZE, kinds: Sequence[str] = KINDS
) -> list[Task]:
    """Tasks of a split: ``per_kind`` of each of ``kinds``, after leaving out the first ``skip``.

    Ordered by kind, then by seed; images are rendered with ``size`` pixels a side.
    """
    by_kind: dict[str, list[Task]] = {kind: [] for kind in KINDS if kind in kinds}
    for seed in SPLITS[split]:
        scene = sample(seed)
        target, kind = edits(scene, 0)
        if kind in by_kind and len(by_kind[kind]) < skip + per_kind:
            by_kind[kind].append(Task(seed, kind, scene, target, size))
        if all(len(tasks) == skip + per_kind for tasks in by_kind.values()):
            break
    return [task for tasks in by_kind.values() for task in tasks[skip:]]
