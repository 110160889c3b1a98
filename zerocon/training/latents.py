"""Stage 5: the training scenes, encoded once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from zerocon.training.array_file import ArrayFile
from zerocon.training.augment import as_pixels
from zerocon.training.dataset import SIZE, drawn
from zerocon.training.vae import load

if TYPE_CHECKING:
    from zerocon.training.workspace import Workspace


@dataclass(frozen=True)
class LatentsStage:
    """Encode the training scenes; starts anew if the encoder has changed."""

    batch: int = 32

    def run(self, work: Workspace) -> None:
        vae, scenes, records = load(work), drawn(work, "train"), _records(work)
        mark = encoder_mark(vae)
        if work.facts("latents").get("encoder") != mark:
            records.cut(0)
            work.note("latents", encoder=mark)
        records.cut(len(records))
        for first in range(len(records), len(scenes), self.batch):
            if work.spent() > 1:
                return
            x = as_pixels(scenes.images[first : first + self.batch]).to(work.device)
            with torch.no_grad(), work.autocast():
                means = vae.encode(x).latent_dist.mode().float() * vae.config.scaling_factor
            records.append(means.cpu().numpy())
            if first // self.batch % 50 == 0 or len(records) == len(scenes):
                work.say(f"latents: {len(records)} of {len(scenes)}")


def encoded(work: Workspace, vae: Any) -> np.ndarray[Any, Any]:
    """The scaled latents (n, 4, 16, 16) of the training scenes, a float16 memory map.

    Raises:
        ValueError: They do not exist, or were computed with another encoder than ``vae``'s.
    """
    if work.facts("latents").get("encoder") != encoder_mark(vae):
        raise ValueError(
            "the latents were not computed with this autoencoder; run --stage latents first"
        )
    return _records(work).read()


def encoder_mark(vae: Any) -> str:
    """A string that differs between trained encoders."""
    weights = [
        p.double().abs().sum() for p in (*vae.encoder.parameters(), *vae.quant_conv.parameters())
    ]
    return f"{float(sum(weights)):.6f} {vae.config.scaling_factor:.6f}"


def _records(work: Workspace) -> ArrayFile:
    return ArrayFile(work.place("latents") / "train.f16", (4, SIZE // 8, SIZE // 8), "float16")
