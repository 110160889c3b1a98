"""Checkpoints made of trained translation networks, from which their stages continue."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from zerocon.exemplar.networks import TranslationNetwork, load_weights
from zerocon.model import ModelSpec, load
from zerocon.training.loop import write_initial
from zerocon.training.matcher import MatcherStage
from zerocon.training.translation_denoiser import DenoiserStage, PriorStage

if TYPE_CHECKING:
    from zerocon.training.workspace import Workspace


def start_from(work: Workspace, folder: Path) -> None:
    """Write a checkpoint for every stage that trains a network and has none yet.

    The weights are those of ``zerocon.exemplar.networks.save_weights``. Matcher and prior are
    complete: their stages have no steps left. The steps of the denoiser count anew, and so does its
    optimizer.

    Raises:
        ModelNotFoundError: A file is missing; or ``FileFormatError``, ``NotFiniteError``.
    """
    base = load(ModelSpec("mini", device="cpu", dtype="float32")).unet
    network, matcher = load_weights(base, folder)
    config = matcher.config
    encoders = replace(MatcherStage(), width=config.width, temperature=config.temperature)
    prior, denoiser = _settings(network)
    for name, settings, step, trained in (
        ("matcher", encoders, encoders.steps, matcher),
        ("prior", prior, prior.steps, network),
        ("denoiser", denoiser, 0, network),
    ):
        if (work.folder / name / "checkpoint.pt").exists():
            continue
        write_initial(work, name, settings, step, trained)
        work.note(name, step=step)
        work.say(f"{name}: starts from {folder}")


def _settings(network: TranslationNetwork) -> tuple[PriorStage, DenoiserStage]:
    """The stages that build such a network."""
    config = network.config
    shape = {name: getattr(config, name) for name in ("width", "channels", "gated", "structure")}
    denoiser = DenoiserStage(prior=config.prior, bridge=config.bridge)
    return replace(PriorStage(), **shape), replace(denoiser, **shape)
