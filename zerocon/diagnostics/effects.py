"""Settings without effect: those whose value cannot change an edit's result, with the reason."""

from __future__ import annotations

from collections.abc import Collection

from zerocon.editing import Plan
from zerocon.finishing import ENLARGED
from zerocon.image.transforms import Prepared
from zerocon.settings import Settings

# Settings of guidance alone: without it they are not read.
OF_GUIDANCE = (
    "guidance_range", "guidance_prompt", "reuse_prediction", "guidance_balance", "guidance_limit",
    "push_limit", "polyak_step",
)  # fmt: skip
NO_DRAW = "has no effect: nothing random is drawn with these settings"


def find_ineffective(
    settings: Settings,
    image: Prepared,
    vae_scale_factor: int,
    *,
    inverted: bool = False,
    masked: bool = False,
    changes: Collection[str] = (),
) -> dict[str, str]:
    """Settings that cannot change the result, by name, each with a phrase that says why.

    What cannot be known is left out, such as whether a loss of another package draws random
    numbers. The phrase follows the setting's name: "has no effect without guidance".

    Args:
        settings: Of the edit, complete.
        image: The source image at the model's working size.
        vae_scale_factor: Pixels per latent along a side.
        inverted: Whether the edit is given an inversion.
        masked: Whether it is given a mask.
        changes: Its kinds of change.
    """
    plan = Plan.of(settings, [changes])
    if plan.keeps_source:
        return _of_no_edit(settings)
    width, height = image.size
    latents = height // vae_scale_factor, width // vae_scale_factor
    steps = [1 - i / settings.steps for i in range(settings.steps, 0, -1)]
    edited = [progress for progress in steps if plan.edits(progress)]
    guided = any(map(plan.guides, edited))
    reasons = {} if guided else dict.fromkeys(OF_GUIDANCE, "has no effect without guidance")
    if not guided and plan.guidance:
        reasons = dict.fromkeys(OF_GUIDANCE, "has no effect: no step is guided")
        del reasons["guidance_range"]  # it is the cause
    elif len(plan.guidance) < 2:
        reasons["guidance_balance"] = "has no effect without two guidance losses"
    if guided and settings.push_limit is not None:
        reasons["polyak_step"] = "has no effect: a push limit implies it"
    controlled = [progress for progress in edited if plan.controlled_layers(progress)]
    if guided and {*filter(plan.guides, edited)} <= {*controlled}:
        reasons["reuse_prediction"] = "has no effect: attention control acts at every guided step"
    if plan.images[0].difference_threshold and not any(
        any(plan.thresholds_at(progress + 1 / settings.steps)) for progress in edited
    ):
        reasons["difference_threshold"] = "has no effect: it acts at no step"
    if settings.attention and not controlled:
        reasons["attention"] = "has no effect: it acts at no step"
    if not (guided and plan.guidance_draws(latents)) and (inverted or not plan.inverter_draws):
        reasons["seed"] = NO_DRAW
    return reasons | _of_region(settings, image, masked)


def _of_no_edit(settings: Settings) -> dict[str, str]:
    """Of an edit that keeps the source at every step: the one setting that makes it so."""
    whole = "the source image"
    if settings.composite == "model":
        whole += " as the autoencoder reconstructs it"
    cause = "strength" if settings.strength == 0 else "guidance_scale"
    return {cause: f"0 edits nothing: the result is {whole}"}


def _of_region(settings: Settings, image: Prepared, masked: bool) -> dict[str, str]:
    """The reasons of settings that decide which pixels change."""
    reasons = {}
    if settings.lock != "latent":
        if settings.composite == "model":
            reasons["lock"] = "has no effect with composite model, which changes every pixel"
        elif masked:
            reasons["lock"] = "has no effect with a mask, which is kept in any case"
    if settings.crop == "auto":
        if settings.composite == "model":
            reasons["crop"] = "auto has no effect with composite model, which has no support"
        elif max(image.image.size) <= ENLARGED * max(image.frame.inner):
            least = f"{ENLARGED:g} times the working size"
            reasons["crop"] = f"auto has no effect: the image is not over {least}"
    return reasons
