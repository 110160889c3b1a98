"""Trained networks of translation: exported ones, and those of a training in progress."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from zerocon.errors import ModelNotFoundError
from zerocon.exemplar.encoders import Matcher
from zerocon.exemplar.networks import CONFIG_FILE, WEIGHTS_FILE, TranslationNetwork, load_weights
from zerocon.training import matcher as matcher_stage
from zerocon.training import translation_denoiser as denoiser_stage
from zerocon.training.loop import restore
from zerocon.training.workspace import Workspace

if TYPE_CHECKING:
    from zerocon.model.stable_diffusion import StableDiffusion

CHECKPOINT = "checkpoint.pt"  # in the directory of a training stage


class Networks(NamedTuple):
    """What a directory has; a matcher's checkpoint has no denoiser."""

    matcher: Matcher
    denoiser: TranslationNetwork | None


@lru_cache(maxsize=4)
def load_networks(model: StableDiffusion, folder: Path) -> Networks:
    """The networks of a directory, on top of the model's U-Net.

    Args:
        model: The embedded model.
        folder: With exported weights, or that of a training stage: a matcher, or a denoiser whose
            matcher is that of the same workspace.

    Raises:
        ModelNotFoundError: There are none.
        FileFormatError: They are damaged, or of another architecture.
    """
    if not (folder / CHECKPOINT).is_file():
        denoiser, matcher = load_weights(model.unet, folder)
        return Networks(matcher, denoiser)
    work = Workspace(folder.parent, device=str(model.device))
    settings, _ = restore(work, folder.name)
    if "geometry" in settings:  # a matcher's alone
        return Networks(matcher_stage.load(work, folder.name), None)
    return Networks(matcher_stage.load(work), denoiser_stage.load(work, model.unet, folder.name))


def weights_hash(folder: Path) -> str:
    """A hash of the files that ``load_networks`` reads; ``ModelNotFoundError`` without them."""
    names = [CHECKPOINT] if (folder / CHECKPOINT).is_file() else [CONFIG_FILE, WEIGHTS_FILE]
    total = blake2b(digest_size=8)
    for name in names:
        file = folder / name
        if not file.is_file():
            raise ModelNotFoundError(f"there is no {name} of a translation network in {folder}")
        total.update(file.read_bytes())
    return total.hexdigest()
