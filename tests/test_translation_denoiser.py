"""Training of the prior and the denoiser: losses, dropouts, and a run of the stages."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from torch import Tensor

from zerocon.cli import main
from zerocon.exemplar.networks import WEIGHTS, Guide, load_weights
from zerocon.model import ModelSpec, load
from zerocon.training import translation_denoiser
from zerocon.training.initial_translation import start_from
from zerocon.training.matcher import MatcherStage
from zerocon.training.translation_denoiser import (
    DenoiserStage,
    PriorStage,
    TranslationExportStage,
)
from zerocon.training.triplets import TripletsStage
from zerocon.training.unet import alpha_bars
from zerocon.training.workspace import Workspace

SHORT: dict[str, Any] = {"steps": 2, "batch": 4, "warmup": 0, "width": 24, "channels": (16, 16)}
QUICK: dict[str, Any] = {"compiled": False, **SHORT}
NAMES = ("matcher", "prior", "denoiser")


@pytest.fixture(scope="module")
def triplets(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a few triplets."""
    work = Workspace(tmp_path_factory.mktemp("work"), say=lambda line: None)
    TripletsStage(train=8, validation=4, distortions=1).run(work)
    return work


@pytest.fixture(scope="module")
def trained(triplets: Workspace) -> Workspace:
    """The same workspace after all stages, with few samples on the sheets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(translation_denoiser, "SHOWN", 2)
        patch.setattr(translation_denoiser, "STEPS", 2)
        MatcherStage(steps=1, batch=2, width=16).run(triplets)
        PriorStage(**SHORT).run(triplets)
        DenoiserStage(**QUICK).run(triplets)
    return triplets


def guide(P: Tensor) -> Guide:
    return Guide(P, torch.randn(len(P), 5, 16, 16), P[:, :0], torch.randn(len(P), 36, 160))


# losses


@pytest.mark.parametrize("prior", ["terminal", "quadratic", "noise", "none"])
def test_a_perfect_network_has_no_loss(prior: str, tmp_path: Path) -> None:
    z0, P = torch.randn(2, 6, 4, 16, 16)
    levels = alpha_bars()

    def predict(x: Tensor, t: Tensor, *_: Any, **__: Any) -> tuple[Tensor]:
        a = levels[t][:, None, None, None]
        return ((x[:, :4] - a.sqrt() * z0) / (1 - a).sqrt(),)

    def worse(*inputs: Any, **options: Any) -> tuple[Tensor]:
        return (predict(*inputs)[0] + 0.1,)

    stage, times, work = DenoiserStage(prior=prior), torch.rand(6), Workspace(tmp_path)
    loss, other = (
        stage.loss(call, guide(P), z0, times, levels, work)["eps"] for call in (predict, worse)
    )
    assert loss < 1e-6 < 1e-3 < other


def test_a_perfect_bridge_has_no_loss(tmp_path: Path) -> None:
    z0, y = torch.randn(2, 6, 4, 16, 16)

    def predict(x: Tensor, *_: Any, **__: Any) -> tuple[Tensor]:
        return (x[:, :4] - z0,)

    stage, work = DenoiserStage(bridge=True), Workspace(tmp_path)
    terms = stage.loss(predict, guide(y), z0, torch.rand(6), alpha_bars(), work)
    assert terms["bridge"] == 0


def test_shares_of_dropped_inputs(tmp_path: Path) -> None:
    stage = DenoiserStage(batch=40_000)
    condition, exemplar = stage.used(Workspace(tmp_path), np.random.default_rng(0))
    shares = {
        (c, r): float(((condition == c) & (exemplar == r)).float().mean())
        for c in (0, 1)
        for r in (0, 1)
    }
    expected = {(0, 0): 0.05, (0, 1): 0.1, (1, 0): 0.1, (1, 1): 0.75}
    assert shares == pytest.approx(expected, abs=0.01)


# stages


def test_training_writes_samples_and_numbers(trained: Workspace) -> None:
    folder = trained.folder / "denoiser"
    assert len(list((folder / "samples").glob("*.png"))) == 1
    last = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
    assert last.keys() == {"step", "warp", "prior", "psnr"}
    assert trained.facts("denoiser") == {"step": 2, "samples": 8}


def test_what_the_base_model_keeps_is_not_trained(trained: Workspace) -> None:
    base = load(ModelSpec("mini", device="cpu", dtype="float32")).unet
    stage = DenoiserStage(width=24)
    network = stage.network(base)
    fixed = {n for n, p in network.named_parameters() if not p.requires_grad}
    assert fixed == {n for n, _ in network.named_parameters() if network.is_frozen(n)} != set()
    assert all(p.any() for p in network.parameters() if p.requires_grad)


def test_the_denoiser_starts_with_the_trained_prior(trained: Workspace) -> None:
    base = load(ModelSpec("mini", device="cpu", dtype="float32")).unet
    tuned = translation_denoiser.load(trained, base)
    prior = torch.load(trained.folder / "prior" / "checkpoint.pt", weights_only=True)["average"]
    name = "prior.stem.1.weight"
    assert tuned.state_dict()[name].allclose(prior[name], atol=5e-3)
    untrained = DenoiserStage(**QUICK).network(base).state_dict()[name]
    assert not tuned.state_dict()[name].equal(untrained)


@pytest.mark.parametrize("fields", [{"bridge": True}, {"prior": "none", "prior_weight": 0.0}])
def test_baselines_are_trained_and_loaded(
    trained: Workspace, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    monkeypatch.setattr(translation_denoiser, "SHOWN", 2)
    monkeypatch.setattr(translation_denoiser, "STEPS", 2)
    DenoiserStage(**QUICK, **fields, name="baseline", start="", seed=len(fields)).run(trained)
    base = load(ModelSpec("mini", device="cpu", dtype="float32")).unet
    network = translation_denoiser.load(trained, base, "baseline")
    assert network.config.bridge == fields.get("bridge", False)
    (trained.folder / "baseline" / "checkpoint.pt").unlink()


def test_the_export_is_loaded(trained: Workspace, tmp_path: Path) -> None:
    TranslationExportStage(to=str(tmp_path / "weights")).run(trained)
    base = load(ModelSpec("mini", device="cpu", dtype="float32")).unet
    network, _ = load_weights(base, tmp_path / "weights")
    assert network.config.channels == (16, 16) and network.config.prior == "terminal"


def test_training_continues_from_exported_weights(trained: Workspace, tmp_path: Path) -> None:
    """All three stages begin with them, and an existing checkpoint is never replaced."""
    folder, new = tmp_path / "weights", replace(trained, folder=tmp_path / "work")
    TranslationExportStage(to=str(folder)).run(trained)
    start_from(new, folder)
    again = tmp_path / "again"
    TranslationExportStage(to=str(again)).run(new)
    first, second = (load_file(at / "model.safetensors") for at in (folder, again))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (folder / "config.json").read_bytes() == (again / "config.json").read_bytes()
    before = [(new.folder / name / "checkpoint.pt").read_bytes() for name in NAMES]
    start_from(new, folder)
    assert before == [(new.folder / name / "checkpoint.pt").read_bytes() for name in NAMES]


def test_the_command_continues_from_the_shipped_weights(trained: Workspace, tmp_path: Path) -> None:
    """Without a step, what is exported is what is shipped."""
    work, out = tmp_path / "work", tmp_path / "weights"
    args = ["train", "translate", "--work", work, "--out", out, "--start-from", "shipped"]
    result = CliRunner().invoke(main, [*map(str, args), "--stage", "prior", "--stage", "export"])
    assert result.exit_code != 0 and "no encoded train triplets" in result.output
    shutil.copytree(trained.folder / "triplets", work / "triplets", dirs_exist_ok=True)
    result = CliRunner().invoke(main, [*map(str, args), "--stage", "prior", "--stage", "export"])
    assert result.exit_code == 0, result.output
    first, second = (load_file(at / "model.safetensors") for at in (WEIGHTS, out))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    args[3], args[-1] = tmp_path / "other", tmp_path / "none"
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code != 0 and "there is no config.json" in result.output
