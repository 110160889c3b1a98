"""Training of the embedded model, on a few scenes and networks of a few thousand weights."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from torch import nn

from zerocon import load as load_model
from zerocon import world
from zerocon.bench import classifiers
from zerocon.cli.commands.train import command
from zerocon.errors import MissingError
from zerocon.registry import parse
from zerocon.training import clip, unet, vae
from zerocon.training.array_file import ArrayFile
from zerocon.training.caption_fragments import SINGLE, facts, fragment, name_fact
from zerocon.training.captioner import CaptionerStage, parse_caption
from zerocon.training.classifiers import ClassifiersStage
from zerocon.training.clip import ClipStage
from zerocon.training.dataset import ScenesStage, drawn
from zerocon.training.evaluate import EvaluationStage
from zerocon.training.export import ExportStage
from zerocon.training.initial_weights import start_from
from zerocon.training.latents import LatentsStage, encoded
from zerocon.training.loop import TrainingRun, restore, train
from zerocon.training.mini import STAGES, run
from zerocon.training.regions import part_shares
from zerocon.training.tokenizers import LENGTH, clip_tokenizer, framed
from zerocon.training.unet import UNetStage
from zerocon.training.vae import VaeStage
from zerocon.training.workspace import Workspace

SHORT = {"steps": 2, "batch": 4, "warmup": 0}
SCENES = ScenesStage(train=12, validation=6, dressed=4)
TINY = {
    "vae": VaeStage(**SHORT, channels=(8, 8, 8, 8), crop=32, evaluated=2, compiled=False),
    "clip": ClipStage(**SHORT, width=16, layers=1, image_width=16, image_layers=1),
    "captioner": CaptionerStage(**SHORT, width=16, image_layers=1, layers=1),
    "unet": UNetStage(**SHORT, channels=(16, 16, 16), heads=2, compiled=False),
    "classifiers": ClassifiersStage(**SHORT, again=6, ambiguous=4),
}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace in which every stage has run."""
    work = Workspace(tmp_path_factory.mktemp("work"), say=lambda line: None)
    for stage in (
        SCENES,
        TINY["vae"],
        TINY["clip"],
        TINY["captioner"],
        LatentsStage(),
        TINY["unet"],
    ):
        run(stage, work)
    run(TINY["classifiers"], work)
    return work


@pytest.fixture(scope="module")
def exported(work: Workspace) -> Path:
    folder = work.folder / "weights"
    run(ExportStage(to=str(folder), classifiers=str(work.folder / "classifiers.safetensors")), work)
    return folder


def test_arrays_survive_a_killed_writer(tmp_path: Path) -> None:
    records = ArrayFile(tmp_path / "r", (2, 3), "int16")
    assert len(records) == 0 and records.read().shape == (0, 2, 3)
    records.append(np.arange(12).reshape(2, 2, 3))
    with records.path.open("ab") as file:
        file.write(b"partial array"[:7])
    assert len(records) == 2
    records.cut(len(records))
    records.append(np.full((1, 2, 3), 7))
    assert records.read()[:, 0, 0].tolist() == [0, 6, 7]
    with pytest.raises(ValueError, match="shape"):
        records.append(np.zeros((1, 3)))


def test_drawing_scenes_resumes_after_an_interruption(tmp_path: Path) -> None:
    work = Workspace(tmp_path, say=lambda line: None)
    run(ScenesStage(train=3, validation=1, dressed=1), work)
    file = tmp_path / "scenes" / "train.jsonl"
    file.write_text(file.read_text()[:-20])
    run(ScenesStage(train=5, validation=1, dressed=1), work)
    scenes = drawn(work, "train")
    assert len(scenes) == 5
    for i in range(5):
        scene = world.sample(world.TRAIN[i])
        assert np.array_equal(scenes.images[i], world.render(scene))
        assert scenes.captions[i] == world.caption(scene)
        assert scenes.truths[i] == world.truth(scene)


def test_shares_of_parts_are_those_of_the_masks(tmp_path: Path) -> None:
    work = Workspace(tmp_path, say=lambda line: None)
    shares = part_shares(work, 3)
    assert shares.shape == (3, 3, 16, 16) and shares.dtype == np.uint8
    for n in range(3):
        masks = world.masks(world.sample(world.TRAIN[n]))
        for part, name in enumerate(("subject", "companion", "accessory")):
            pixels = masks[name].sum() if name in masks else 0
            assert abs(shares[n, part].sum(dtype=int) / 255 * 64 - pixels) <= 256 * 64 / 510
    assert np.array_equal(part_shares(work, 5)[:3], shares)  # the rest is computed, these are kept


def test_weights_of_parts_leave_the_best_prediction_and_change_the_loss(work: Workspace) -> None:
    plain, weighted = TINY["unet"], replace(TINY["unet"], companion=4.0, accessory=8.0)
    assert plain._part_weights(work, 3) is None
    weights = weighted._part_weights(work, 12)
    shares = part_shares(work, 12) / 255
    assert weights.shape == (12, 16, 16)
    np.testing.assert_allclose(weights, 1 + 3 * shares[:, 1] + 7 * shares[:, 2], rtol=1e-5)
    losses = []
    for stage in (plain, weighted):
        other = Workspace(work.folder.parent / f"w{len(losses)}", say=lambda line: None)
        shutil.copytree(work.folder, other.folder)
        (other.folder / "unet" / "checkpoint.pt").unlink()
        (other.folder / "unet" / "log.jsonl").unlink()
        run(replace(stage, steps=1), other)
        losses.append(
            [
                json.loads(line)
                for line in (other.folder / "unet/log.jsonl").read_text().splitlines()
            ]
        )
    first = [next(row["eps"] for row in rows if "eps" in row) for rows in losses]
    assert first[0] != first[1] and abs(first[0] - first[1]) < 0.5 * first[0]


def test_a_stage_names_the_stage_that_it_needs(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    for stage in (TINY["vae"], LatentsStage(), TINY["unet"], ExportStage(to=str(tmp_path / "w"))):
        with pytest.raises(ValueError, match=r"--stage (scenes|vae|clip)"):
            run(stage, work)
    assert not (tmp_path / "w").exists()


@dataclass(frozen=True)
class Line(TrainingRun):
    """Fit one weight; each batch is a different random number."""

    steps: int = 6
    warmup: int = 0
    decay: float = 0.0

    def run(self, work: Workspace) -> float:
        torch.manual_seed(0)
        network = nn.Linear(1, 1)

        def losses(rng: np.random.Generator) -> dict[str, torch.Tensor]:
            x = torch.tensor([[rng.normal()]], dtype=torch.float32) + torch.randn(1, 1)
            return {"fit": (network(x) - 3 * x).square().mean()}

        average, _ = train(work, "line", self, network, losses, lambda average: (None, {}))
        return float(average.weight)


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, resumed = (Workspace(tmp_path / name, say=lambda line: None) for name in ("a", "b"))
    for steps in (2, 3, 6):
        last = Line(steps=steps).run(resumed)
    assert Line(steps=6).run(whole) == last


def test_a_network_with_a_part_without_gradient_is_refused(tmp_path: Path) -> None:
    network = nn.ModuleDict({"alive": nn.Linear(1, 1), "dead": nn.Linear(1, 1)})

    def losses(rng: np.random.Generator) -> dict[str, torch.Tensor]:
        one = torch.ones(1)
        return {"all": (network["alive"](one) + 0 * network["dead"](one)).sum()}

    work = Workspace(tmp_path, say=lambda line: None)
    with pytest.raises(RuntimeError, match=r"part: no gradient reaches 2 parameters, such as dead"):
        train(work, "part", TrainingRun(steps=3), network, losses, lambda average: (None, {}))
    assert not (tmp_path / "part" / "checkpoint.pt").exists()


def test_the_time_limit_ends_a_run_with_a_checkpoint(tmp_path: Path) -> None:
    work = Workspace(tmp_path, minutes=0.002, say=lambda line: None)
    Line(steps=10**9).run(work)
    assert restore(work, "line")[0]["steps"] == 10**9


@pytest.mark.parametrize(
    ("step", "first", "spent", "rate"),
    [
        (0, 0, 0.0, 0.1),  # warm-up over ten steps
        (4, 0, 0.0, 0.5),
        (50, 0, 0.0, 1.0),
        (90, 0, 0.0, 0.5),  # decays over the last fifth
        (50, 0, 0.9, 0.5),  # of the time, if that ends first
        (50, 50, 0.0, 0.1),  # a resumed run warms up again
    ],
)
def test_the_learning_rate(step: int, first: int, spent: float, rate: float) -> None:
    settings = TrainingRun(steps=100, lr=1.0, warmup=10, decay=0.2)
    assert settings.rate(step, first, spent) == pytest.approx(rate)


@pytest.mark.parametrize("name", TINY)
def test_every_network_resumes_from_its_checkpoint(
    work: Workspace, name: str, tmp_path: Path
) -> None:
    before = restore(work, name)[1]
    copy = replace(work, folder=tmp_path / "copy")
    copy.folder.mkdir()
    for folder in work.folder.iterdir():
        if folder.is_dir() and folder.name != name:
            (copy.folder / folder.name).symlink_to(folder)
    shutil.copytree(work.folder / name, copy.folder / name)
    run(replace(TINY[name], steps=3), copy)
    after = restore(copy, name)[1]
    assert copy.facts(name)["step"] == 3
    assert any(not torch.equal(before[key], after[key]) for key in before)
    log = map(json.loads, (copy.folder / name / "log.jsonl").read_text().splitlines())
    assert {line["step"] for line in log} == {2, 3}


def test_every_network_starts_from_a_trained_model(
    work: Workspace, exported: Path, tmp_path: Path
) -> None:
    """The checkpoints have the model's weights, and another export gives the same model."""
    new = replace(work, folder=tmp_path / "new")
    start_from(new, exported)
    shutil.copytree(work.folder / "scenes", new.folder / "scenes")
    for name in ("vae", "clip", "captioner", "unet"):
        (before, old), (after, weights) = restore(work, name), restore(new, name)
        assert after == before | {"steps": after["steps"]}  # all options of the model card
        assert new.facts(name)["step"] == work.facts(name)["step"] == 2
        for key, value in weights.items():
            if name != "clip" or key.startswith("clip."):
                assert torch.equal(value, old[key].half().to(value)), key
    again = tmp_path / "again"
    run(ExportStage(to=str(again), classifiers=str(tmp_path / "c.safetensors")), new)
    files = [file.relative_to(exported) for file in exported.rglob("*.safetensors")]
    assert len(files) == 5
    for file in files:
        first, second = load_file(exported / file), load_file(again / file)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)
    shipped, copied = load_file(classifiers.WEIGHTS), load_file(tmp_path / "c.safetensors")
    assert all(torch.equal(shipped[key], copied[key]) for key in shipped)


@pytest.mark.parametrize("name", TINY)
def test_a_stage_resumes_from_a_trained_model(
    work: Workspace, exported: Path, name: str, tmp_path: Path
) -> None:
    new = replace(work, folder=tmp_path / "new")
    (tmp_path / "new").mkdir()
    (new.folder / "scenes").symlink_to(work.folder / "scenes")
    start_from(new, exported)
    if name == "unet":
        run(LatentsStage(), new)
    step = new.facts(name)["step"]
    before = restore(new, name)[1]
    settings = replace(TINY[name], steps=step + 1, lr=0.0)
    run(settings, new)
    assert new.facts(name)["step"] == step + 1
    after = restore(new, name)[1]
    trained = [key for key in before if "running" not in key and "num_batches" not in key]
    assert all(torch.equal(before[key], after[key]) for key in trained)


def test_a_model_without_card_and_captioner_can_be_started_from(
    work: Workspace, exported: Path, tmp_path: Path
) -> None:
    ignored = shutil.ignore_patterns("README.md", "captioner")
    shutil.copytree(exported, tmp_path / "model", ignore=ignored)
    new = replace(work, folder=tmp_path / "new")
    start_from(new, tmp_path / "model")
    settings, weights = restore(new, "vae")
    assert new.facts("vae")["step"] == 0 and settings["batch"] == VaeStage().batch
    assert settings["channels"] == (8, 8, 8, 8)  # those of the weights, not the defaults
    assert not (new.folder / "captioner").exists()
    torch.save({"average": weights, "settings": {"mark": 1}}, new.folder / "vae" / "checkpoint.pt")
    start_from(new, tmp_path / "model")
    assert restore(new, "vae")[0] == {"mark": 1}, "a checkpoint is never replaced"


def test_only_a_model_can_be_started_from(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no model in"):
        start_from(Workspace(tmp_path / "work"), tmp_path)


def test_a_checkpoint_of_another_network_is_refused(work: Workspace) -> None:
    with pytest.raises(
        ValueError, match=r"a different network, trained with .*channels=\(8, 8, 8, 8\)"
    ):
        run(replace(TINY["vae"], channels=(8, 8, 8, 16)), work)


def test_checkpoints_with_the_field_names_of_version_0_1_can_be_read(
    work: Workspace, tmp_path: Path
) -> None:
    old = {"evaluated": "judged", "image_width": "sight", "image_layers": "sight_layers"}
    for name in ("vae", "clip", "captioner"):
        shutil.copytree(work.folder / name, tmp_path / name)
        path = tmp_path / name / "checkpoint.pt"
        saved = torch.load(path, weights_only=True)
        saved["settings"] = {old.get(k, k): value for k, value in saved["settings"].items()}
        assert saved["settings"].keys() & set(old.values())
        torch.save(saved, path)
        assert restore(replace(work, folder=tmp_path), name)[0] == restore(work, name)[0]


def test_a_frozen_encoder_keeps_the_latents_valid(work: Workspace, tmp_path: Path) -> None:
    copy = replace(work, folder=tmp_path)
    shutil.copytree(work.folder / "vae", tmp_path / "vae")
    for name in ("scenes", "latents"):
        (tmp_path / name).symlink_to(work.folder / name)
    run(replace(TINY["vae"], steps=4, freeze_encoder=True), copy)
    before, after = vae.load(work), vae.load(copy)
    assert torch.equal(before.encoder.conv_in.weight, after.encoder.conv_in.weight)
    assert not torch.equal(before.decoder.conv_in.weight, after.decoder.conv_in.weight)
    assert encoded(copy, after).shape == (12, 4, 16, 16)
    run(replace(TINY["vae"], steps=6), copy)
    with pytest.raises(ValueError, match="not computed with this autoencoder"):
        encoded(copy, vae.load(copy))


def test_a_frozen_text_tower_keeps_the_unet_valid(work: Workspace, tmp_path: Path) -> None:
    copy = replace(work, folder=tmp_path)
    shutil.copytree(work.folder / "clip", tmp_path / "clip")
    (tmp_path / "scenes").symlink_to(work.folder / "scenes")
    run(replace(TINY["clip"], steps=4, freeze_text=True), copy)
    before, after = clip.load(work)[0], clip.load(copy)[0]
    ids = torch.tensor([[0, 5, 6, 1]])
    assert torch.equal(before.text_model(ids)[0], after.text_model(ids)[0])
    assert not torch.equal(before.visual_projection.weight, after.visual_projection.weight)


def test_the_latents_have_unit_variance(work: Workspace) -> None:
    assert np.std(encoded(work, vae.load(work)).astype(np.float32)) == pytest.approx(1, abs=0.1)


def test_psnr() -> None:
    x = torch.zeros(1, 3, 4, 4)
    y = x + 0.2  # a tenth of the range -1..1
    assert vae.psnr(x, y).item() == pytest.approx(20)
    mask = torch.zeros(1, 4, 4)
    mask[0, 0, 0] = 1
    y[0, :, 1:] = 1
    assert vae.psnr(x, y, mask).item() == pytest.approx(20)


def test_the_autoencoder_can_be_trained_on_its_mean_psnr() -> None:
    """Halving the error of a good crop gains as much as halving that of a bad one."""
    stage = VaeStage(l1=0.0, mse=0.0, edges=0.0, decibels=1.0)
    posterior = SimpleNamespace(mean=torch.zeros(2, 4), logvar=torch.zeros(2, 4))
    x = torch.zeros(2, 3, 8, 8)

    def loss(*errors: float) -> float:
        y = x + torch.tensor(errors).view(2, 1, 1, 1)
        return float(torch.stack(list(stage.terms(x, y, posterior).values())).sum())

    gains = loss(0.4, 0.8) - loss(0.2, 0.8), loss(0.4, 0.8) - loss(0.4, 0.4)
    assert gains == pytest.approx((math.log(2), math.log(2)), rel=0.02)  # of two crops


def test_the_tokenizer_encodes_any_text(work: Workspace) -> None:
    tokenizer = clip_tokenizer(work, [])
    assert tokenizer.model_max_length == LENGTH
    assert tokenizer("A RED fox").input_ids == tokenizer("a red fox").input_ids
    for words in ("zyzzyva", "café", "狐 in the snow!?"):
        ids = tokenizer(words).input_ids
        assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
        assert tokenizer.eos_token_id not in ids[1:-1]  # which would mean an unknown token
    assert len(tokenizer("a red fox").input_ids) <= 3 + 2 + 4


def test_fragments_are_true_of_their_scene() -> None:
    rng = np.random.default_rng(0)
    for seed in range(300):
        truth = world.truth(world.sample(seed))
        text, required = fragment(truth, rng)
        assert required <= facts(truth)
        assert text == text.strip().lower() and len(text.split()) <= 8
        assert text in framed(text, rng, 1.0)


@pytest.mark.parametrize("fact", [fact for group in SINGLE.values() for fact in group])
def test_every_fact_has_a_text(fact: str) -> None:
    text = name_fact(fact, np.random.default_rng(0))
    assert fact.partition("=")[2] in text or fact == "time=day"


def test_facts_of_a_scene() -> None:
    scene = replace(world.sample(0), kind="fox", companion="cat", place="snow", color="red")
    scene_facts = facts(world.truth(scene))
    assert {"thing=fox", "thing=cat", "place=snow", "color=red"} <= scene_facts
    assert "kind=cat" not in scene_facts and "thing=dog" not in scene_facts


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a red fox in the snow", "fox red none none snow day drawing"),
        ("a picture of an orange cat with a cat at sea", "cat orange none cat sea day drawing"),
        (
            "pixel art of a blue bus on the beach at night",
            "bus blue none none beach night pixel-art",
        ),
        (
            "a mosaic of a pink owl wearing a bow tie with a lamp in a room in the rain",
            "owl pink bow-tie lamp room rain mosaic",
        ),
        ("a a a", "   none none  day drawing"),
    ],
)
def test_parsing_a_caption(caption: str, expected: str) -> None:
    words = [word.replace("-", " ") for word in expected.split(" ")]
    parsed = parse_caption(caption)
    assert [word for word in words if word] == [word for word in parsed.values() if word]


def test_parsing_every_caption_of_the_world() -> None:
    for seed in range(500):
        scene = world.sample(seed)
        assert parse_caption(world.caption(scene)) == world.truth(scene)


def test_a_perfect_autoencoder_has_the_highest_psnr() -> None:
    values = vae.measure(lambda x: x, world.VALIDATION[:3])
    assert values["all"] == pytest.approx(100)


def test_diffusers_loads_the_export(work: Workspace, exported: Path) -> None:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(exported)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a red fox", num_inference_steps=1, guidance_scale=2).images[0]
    assert image.size == (128, 128)
    assert pipeline.scheduler.config.steps_offset == 1
    assert not pipeline.scheduler.config.set_alpha_to_one
    text_encoder = clip.load(work)[0].text_model
    ids = torch.tensor([[0, 5, 6, 1]])
    assert torch.allclose(pipeline.text_encoder(ids)[0], text_encoder(ids)[0], atol=2e-2)
    assert unet.load(work).config.cross_attention_dim == 16
    assert not list(exported.parent.glob("*.new"))
    assert load_model(str(exported), device="cpu").working_size.rule == "longest"
    for file in exported.rglob("*.json"):
        assert str(work.folder) not in file.read_text()


def test_the_tool_loads_the_export_and_evaluates_it(work: Workspace, exported: Path) -> None:
    defaults = '{"guidance_scale": 2.5}\n'
    (exported / "zerocon.json").write_text(defaults)
    file = str(work.folder / "classifiers.safetensors")
    run(ExportStage(to=str(exported), classifiers=file), work)
    assert (exported / "zerocon.json").read_text() == defaults
    run(
        EvaluationStage(generated=1, scenes=2, steps=2, weights=str(exported), classifiers=file),
        work,
    )
    metrics = work.facts("evaluate")["metrics"]
    assert set(metrics["generated"]) == set(world.VALUES)
    assert metrics["PSNR"]["all"] > 0
    card = (exported / "README.md").read_text()
    assert "| CLIP | caption among 64" in card and "1 images sampled in 2 steps" in card
    assert classifiers.load(Path(file)).read([world.render(world.sample(0))])


def test_stages_are_parsed_with_their_settings() -> None:
    stage = parse("unet:channels=32+64,compiled=false,lr=0.01", STAGES, "stage")
    assert (stage.channels, stage.compiled, stage.lr) == ((32, 64), False, 0.01)
    for name in STAGES:
        parse(name, STAGES, "stage")


def test_the_command(tmp_path: Path) -> None:
    text = "scenes:train=2,validation=1,dressed=1"
    done = CliRunner().invoke(command, ["mini", "--work", str(tmp_path), "--stage", text])
    assert done.exit_code == 0, done.output
    assert "scenes: train 2 of 2" in done.stderr and done.stdout == ""
    wrong = CliRunner().invoke(command, ["mini", "--work", str(tmp_path), "--stage", "unknown"])
    assert "there are: " in str(wrong.exception)
