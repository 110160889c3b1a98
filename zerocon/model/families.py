"""The families of diffusion models: which are supported, and how a file tells its family.

To support a family, write one module with a function ``load(path, spec) -> Model`` and name it in
the family's row of ``FAMILIES``; a family that is not listed gets a row of its own.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from zerocon.errors import UnsupportedModelError

if TYPE_CHECKING:
    from pathlib import Path

    from zerocon.model import Model
    from zerocon.model.spec import ModelSpec

UNET_PREFIX = "model.diffusion_model."  # of the U-Net's keys in a single-file checkpoint
PREDICTIONS = ("epsilon", "v_prediction")
CHANNELS = {  # uses of U-Nets that take more than noisy latents, by number of input channels
    9: "inpainting",
    8: "instructions (InstructPix2Pix)",
    7: "upscaling",
    5: "depth maps",
}


@dataclass(frozen=True)
class Family:
    """A family of models.

    Attributes:
        name: As it is written in messages.
        pipelines: What the pipeline's class name in ``model_index.json`` starts with.
        keys: What keys of a single-file checkpoint start with in this family only, without the
            U-Net's prefix.
        module: The module that loads it; None if it is not supported.
    """

    name: str
    pipelines: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    module: str | None = None

    def load(self, path: Path, spec: ModelSpec) -> Model:
        """Load the model in ``path`` (a directory or file)."""
        assert self.module is not None  # unsupported families are refused before
        model: Model = import_module(self.module).load(path, spec)
        return model


STABLE_DIFFUSION = Family(
    "Stable Diffusion 1.x and 2.x",
    pipelines=("StableDiffusion", "LatentConsistency"),
    module="zerocon.model.stable_diffusion",
)
FAMILIES = (  # the first one whose beginning fits: longer names before shorter ones
    Family("Stable Diffusion XL", ("StableDiffusionXL",), ("conditioner.", "label_emb.")),
    Family("Stable Diffusion 3", ("StableDiffusion3",), ("joint_blocks.",)),
    Family("Flux", ("Flux",), ("double_blocks.",)),
    STABLE_DIFFUSION,
)
SUPPORTED = "zerocon edits with " + ", ".join(each.name for each in FAMILIES if each.module)


def family_of_pipeline(name: str, pipeline: str) -> Family:
    """The family of a class of diffusers' pipelines.

    Raises:
        UnsupportedModelError: The family of the model ``name`` is unknown or not supported.
    """
    family = next((each for each in FAMILIES if pipeline.startswith(each.pipelines)), None)
    if family is None:
        raise UnsupportedModelError(f"{name} is a {pipeline}; {SUPPORTED}")
    if family.module is None:
        raise UnsupportedModelError(f"{name} is {family.name} ({pipeline}); {SUPPORTED}")
    return family


def family_of_keys(name: str, keys: Collection[str]) -> Family:
    """The family of a single-file checkpoint: Stable Diffusion unless a key says otherwise.

    Raises:
        UnsupportedModelError: The family of the file ``name`` is not supported.
    """
    bare = [key.removeprefix(UNET_PREFIX) for key in keys]
    for family in FAMILIES:
        if any(key.startswith(family.keys) for key in bare):
            if family.module is None:
                raise UnsupportedModelError(f"{name} is {family.name}; {SUPPORTED}")
            return family
    return STABLE_DIFFUSION


def require_scheduler(name: str, scheduler: str) -> None:
    """Raise ``UnsupportedModelError`` for a scheduler class without DDPM noise levels."""
    if "Flow" in scheduler:
        raise UnsupportedModelError(
            f"{name} was trained by flow matching ({scheduler}); {SUPPORTED}"
        )


def require_networks(name: str, unet: Any, vae: Any, scheduler: Any) -> None:
    """Raise ``UnsupportedModelError`` for a U-Net that takes more than latents and tokens.

    Args:
        name: For error messages.
        unet: diffusers' ``UNet2DConditionModel``.
        vae: diffusers' ``AutoencoderKL``.
        scheduler: diffusers' ``DDIMScheduler``.
    """
    channels, latents = unet.config.in_channels, vae.config.latent_channels
    if unet.config.addition_embed_type == "text_time":
        raise UnsupportedModelError(f"{name} has the U-Net of Stable Diffusion XL; {SUPPORTED}")
    if channels != latents:
        use = CHANNELS.get(channels, "something else")
        raise UnsupportedModelError(
            f"{name} is for {use}: its U-Net takes {channels} channels instead of {latents}; "
            "use the base model"
        )
    prediction = scheduler.config.prediction_type
    if prediction not in PREDICTIONS:
        raise UnsupportedModelError(
            f'{name} predicts "{prediction}"; supported: {" and ".join(PREDICTIONS)}'
        )
    if prediction == "epsilon" and scheduler.config.rescale_betas_zero_snr:
        raise UnsupportedModelError(
            f"{name} predicts epsilon on a schedule with zero terminal SNR, where epsilon is the "
            "input itself and holds no image; such a model must predict v"
        )
