"""The tasks of ``zerocon bench translate``: a condition, an exemplar, and the exact target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from zerocon import world
from zerocon.bench.translation_metrics import ClassMap, Pixels8
from zerocon.errors import MethodError
from zerocon.training.triplet_scenes import CONDITIONS, scenes_of, triplet

if TYPE_CHECKING:
    from zerocon.model.stable_diffusion import StableDiffusion
    from zerocon.tensor_types import Latents, Pixels


class TaskNumber(NamedTuple):
    """Which task; ``draw`` draws it."""

    seed: int
    kind: str
    split: str


@dataclass(frozen=True, eq=False)
class TranslationTask:
    """One condition and exemplar of the drawn world, of one size.

    Attributes:
        seed: Of the triplet.
        kind: What the condition is, one of ``triplets.CONDITIONS``.
        condition: The structure, as the method gets it.
        exemplar: The appearance.
        target: The exact result: the scene of the condition in the exemplar's appearance.
        edges: The structure's edges, (height, width).
        classes: Class of every pixel of condition and target, an index of ``world.CLASSES``.
        exemplar_classes: Class of every pixel of the exemplar.
    """

    seed: int
    kind: str
    condition: Pixels8
    exemplar: Pixels8
    target: Pixels8
    edges: NDArray[np.bool_]
    classes: ClassMap
    exemplar_classes: ClassMap


def choose(
    split: str, per_kind: int, skip: int = 0, kinds: Sequence[str] = CONDITIONS
) -> list[TaskNumber]:
    """So many tasks of every kind of condition, after leaving out the first ``skip``.

    Raises:
        MethodError: There is no such kind.
    """
    for kind in kinds:
        if kind not in CONDITIONS:
            raise MethodError(f'no condition "{kind}"; there are: {", ".join(CONDITIONS)}')
    return [
        TaskNumber(CONDITIONS.index(kind) + len(CONDITIONS) * number, kind, split)
        for kind in kinds
        for number in range(skip, skip + per_kind)
    ]


def draw(number: TaskNumber) -> TranslationTask:
    """The images of a task."""
    drawn = triplet(number.seed, number.split, number.kind)
    edges = world.edges(scenes_of(number.seed, number.split).target, len(drawn.target))
    return TranslationTask(
        number.seed, number.kind, drawn.condition, drawn.exemplar, drawn.target,
        np.asarray(edges)[..., 0] > 0, drawn.classes_c, drawn.classes_r,
    )  # fmt: skip


class TranslationBatch:
    """Tasks that a method translates together; encoded images are shared by the methods."""

    def __init__(self, tasks: Sequence[TranslationTask], model: StableDiffusion) -> None:
        self.tasks, self.model = tuple(tasks), model

    def __len__(self) -> int:
        return len(self.tasks)

    @cached_property
    def condition(self) -> Pixels:
        """The conditions."""
        return self._pixels([task.condition for task in self.tasks])

    @cached_property
    def exemplar(self) -> Pixels:
        """The exemplars."""
        return self._pixels([task.exemplar for task in self.tasks])

    @cached_property
    def target(self) -> Pixels:
        """The exact targets."""
        return self._pixels([task.target for task in self.tasks])

    @cached_property
    def exemplar_latents(self) -> Latents:
        """The encoded exemplars."""
        return self.model.encode(self.exemplar)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the latents, which are the tokens of a correspondence."""
        rows, columns = self.exemplar_latents.shape[2:]
        return rows, columns

    @cached_property
    def exemplar_shares(self) -> Tensor:
        """Share of each class in the pixels of the exemplars' tokens, see ``token_shares``."""
        maps = torch.from_numpy(np.stack([task.exemplar_classes for task in self.tasks]))
        return token_shares(maps, self.grid).to(self.model.device)

    def decode(self, latents: Latents) -> Pixels:
        """The images of latents, clipped to -1..1."""
        return self.model.decode(latents).clamp(-1, 1)

    def _pixels(self, images: Sequence[Pixels8]) -> Pixels:
        values = torch.from_numpy(np.stack(images)).to(self.model.device)
        return values.permute(0, 3, 1, 2).float() / 127.5 - 1


def token_shares(classes: Tensor, grid: tuple[int, int]) -> Tensor:
    """Share of each class of ``world.CLASSES`` in every token, (batch, tokens, classes).

    Args:
        classes: Class of every pixel, (batch, height, width).
        grid: Rows and columns of tokens.
    """
    inside = F.one_hot(classes.long(), len(world.CLASSES)).float().permute(0, 3, 1, 2)
    return F.adaptive_avg_pool2d(inside, grid).flatten(2).mT
