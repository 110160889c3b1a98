"""Which diffusion models the door understands, and in one line why not the others."""

from __future__ import annotations

from typing import Any

from zerocon.errors import UnsupportedModelError

UNDERSTOOD = "zerocon edits with Stable Diffusion 1.x and 2.x"
PREDICTIONS = ("epsilon", "v_prediction")
OTHERS = {  # what a pipeline's class name begins with, the longest first
    "StableDiffusionXL": "Stable Diffusion XL",
    "StableDiffusion3": "Stable Diffusion 3",
    "Flux": "Flux",
}
OURS = ("StableDiffusion", "LatentConsistency")
MORE_CHANNELS = {  # what a U-Net is for that reads more than noisy latents
    9: "inpainting",
    8: "instructions (InstructPix2Pix)",
    7: "upscaling",
    5: "depth maps",
}

NOISE: dict[str, Any] = {  # the schedule of every Stable Diffusion that was released
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


def require_pipeline(name: str, pipeline: str) -> None:
    """Raise ``ValueError`` for a class name of diffusers' pipelines that is of another family."""
    for beginning, family in OTHERS.items():
        if pipeline.startswith(beginning):
            raise UnsupportedModelError(f"{name} is {family} ({pipeline}); {UNDERSTOOD}")
    if not pipeline.startswith(OURS):
        raise UnsupportedModelError(f"{name} is a {pipeline}; {UNDERSTOOD}")


def require_scheduler(name: str, scheduler: str) -> None:
    """Raise ``ValueError`` for a class name of schedulers that know no noise levels of ours."""
    if "Flow" in scheduler:
        raise UnsupportedModelError(
            f"{name} was trained by flow matching ({scheduler}); {UNDERSTOOD}"
        )


def require_networks(name: str, unet: Any, vae: Any, scheduler: Any) -> None:
    """Raise ``ValueError`` for networks that cannot be asked for eps of latents and tokens alone.

    ``unet`` and ``vae`` are diffusers' networks, ``scheduler`` its DDIM scheduler.
    """
    channels, latents = unet.config.in_channels, vae.config.latent_channels
    if unet.config.addition_embed_type == "text_time":
        raise UnsupportedModelError(f"{name} has the U-Net of Stable Diffusion XL; {UNDERSTOOD}")
    if channels != latents:
        use = MORE_CHANNELS.get(channels, "something else")
        raise UnsupportedModelError(
            f"{name} is made for {use}: its U-Net reads {channels} channels, and an edit has "
            f"{latents}; take the base model it comes from"
        )
    prediction = scheduler.config.prediction_type
    if prediction not in PREDICTIONS:
        raise UnsupportedModelError(
            f'{name} predicts "{prediction}"; {" and ".join(PREDICTIONS)} are known'
        )
    if prediction == "epsilon" and scheduler.config.rescale_betas_zero_snr:
        raise UnsupportedModelError(
            f"{name} predicts epsilon on a schedule with zero terminal SNR, where epsilon is the "
            "input itself and says nothing of the picture; such a model must predict v"
        )
