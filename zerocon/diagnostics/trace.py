"""How far the latents of an edit went from the source's, and a warning of a damaged result.

Measured on 24 validation scenes of ``zerocon bench world`` with the embedded model, see
docs/measurements.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from zerocon.editing import Step
    from zerocon.tensor_types import Latents, PerImage

# |D| in norms of the source's latents. Latents as large as the source's cannot differ from it by
# more, whatever they show. (In norms of the edited latents, which grow with D, it tends to 1.)
FAR = 2.0
# Excess in standard deviations. The first predictions of an edit exceed it with any large guidance
# scale and recover, hence only the second half of the steps counts.
OUTSIDE = 3.0
SEVERAL = 2  # steps that must be so


@dataclass(frozen=True)
class EditTrace:
    """What the denoising steps of an edit did to its latents, from noise to image.

    Attributes:
        difference: Norm of ``D`` after each step, in norms of the source's latents at that level.
        excess: How far the predicted noise-free latents were outside the range of the source's, in
            standard deviations of those; negative inside.
    """

    difference: tuple[float, ...] = ()
    excess: tuple[float, ...] = ()

    def doubts(self) -> tuple[str, ...]:
        """A warning if the result is probably damaged; or none."""
        far = [each for each in self.difference if each > FAR]
        second_half = self.excess[len(self.excess) // 2 :]
        outside = [each for each in second_half if each > OUTSIDE]
        reasons = []
        if len(far) >= SEVERAL:
            reasons.append(f"its latents differ from the source by {max(far):.1f} times their norm")
        if len(outside) >= SEVERAL:
            reasons.append(
                "its predicted latents are outside the source's range by "
                f"{max(outside):.1f} standard deviations"
            )
        if not reasons:
            return ()
        return (f"probably damaged: {' and '.join(reasons)}; try a smaller --guidance-scale",)


class Tracer:
    """Measures every ``Step`` of a batch of edits; two reductions of the latents each."""

    def __init__(self, source: Latents) -> None:
        """Start with the source's noise-free latents."""
        flat = source.flatten(1)
        self.lowest, self.highest = flat.min(1).values, flat.max(1).values
        self.deviation = flat.std(1).clamp_min(1e-6)
        self.difference: list[PerImage] = []
        self.excess: list[PerImage] = []

    def __call__(self, step: Step) -> None:
        """Measure one step; the results stay on the device."""
        source, clean = step.latents - step.difference, step.clean.flatten(1)
        norm = source.flatten(1).norm(dim=1).clamp_min(1e-6)
        self.difference.append(step.difference.flatten(1).norm(dim=1) / norm)
        above, below = clean.max(1).values - self.highest, self.lowest - clean.min(1).values
        self.excess.append(torch.maximum(above, below) / self.deviation)

    def traces(self) -> list[EditTrace]:
        """The trace of each image."""
        columns = zip(_columns(self.difference), _columns(self.excess), strict=True)
        traces = [EditTrace(difference, excess) for difference, excess in columns]
        return traces or [EditTrace()] * len(self.deviation)


def _columns(rows: Sequence[Tensor]) -> list[tuple[float, ...]]:
    """For each image its values of all steps."""
    return [] if not rows else [tuple(column) for column in torch.stack([*rows]).T.tolist()]
