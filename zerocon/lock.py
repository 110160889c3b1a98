"""The latent lock: the difference D is held at zero outside the support during the steps.

Everything that the loop does outside the support is undone step by step, as in blended latent
diffusion (arXiv 2206.02779), but in difference form: with ``D = 0`` the latents are the source's.
Where no mask is given, the support is found from D itself after a share of the steps, before it is
complete: a lock that is too tight cuts new shapes off. It is therefore soft, grown by a latent, and
lifted for the last steps, in which the latents at its edge fit together again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from zerocon.activations import Observation
from zerocon.image.support import SupportRule, grown_mask, rules_for
from zerocon.tensor_types import Latents

FIRST, LAST = 0.3, 0.8  # shares of the steps in which an estimated support is locked


@dataclass
class LatentLock:
    """A constraint of ``zerocon.editing.edit``: multiplies D by the masks of a batch.

    Attributes:
        steps: Number of denoising steps.
        kinds: Every image's kinds of change, keys of ``zerocon.image.support.RULES``.
        masks: Every image's mask (rows, columns) of the latents in 0..1 where one is given: it
            holds in all steps; None to estimate the support, which holds from 30 % to 80 % of the
            steps of the edit.
        begins: Every image's share of the steps before its edit begins; zeros by default.
    """

    steps: int
    kinds: Sequence[frozenset[str]]
    masks: Sequence[Tensor | None]
    begins: Sequence[float] = ()
    estimated: dict[int, Tensor] = field(default_factory=dict, repr=False)
    level: int = field(default=0, repr=False)

    def __call__(
        self, source: Observation, edited: Observation, difference: Latents, level: int
    ) -> Latents:
        """``M D``; see ``zerocon.editing.Constraint``."""
        if level >= self.level:  # a first step, perhaps of another try with less memory
            self.estimated = {}
        self.level = level
        progress = 1 - level / self.steps
        begins = self.begins or (0.0,) * len(difference)
        rows = [
            self._mask(i, row, (progress - begins[i]) / (1 - begins[i])) * row
            for i, row in enumerate(difference)
        ]
        return torch.stack(rows)

    def _mask(self, i: int, difference: Tensor, progress: float) -> Tensor:
        """The mask of one image after this share of the steps: (rows, columns), or one number."""
        given = self.masks[i]
        if given is not None:
            return given.to(difference)
        if not FIRST <= progress <= LAST:
            return difference.new_ones(())
        if i not in self.estimated:
            self.estimated[i] = self._find(difference, rules_for(self.kinds[i]))
        return self.estimated[i]

    def _find(self, difference: Tensor, rules: Sequence[SupportRule]) -> Tensor:
        """The support of a change in the latents: ones where it is not local."""
        if any(rule.extent != "local" for rule in rules):
            return difference.new_ones(())
        values = difference.float().permute(1, 2, 0).cpu().numpy()
        mask = np.maximum.reduce([grown_mask(values, rule) for rule in rules])
        return torch.from_numpy(mask).to(difference)
