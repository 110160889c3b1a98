"""The benchmark of translation: tasks, methods, rows and tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

import zerocon
from zerocon.bench import translation_methods, translation_tables, translation_tasks
from zerocon.bench.translation_methods import pick
from zerocon.bench.translation_metrics import TranslationMetrics, warp_accuracy
from zerocon.bench.translation_row import TRANSLATIONS, TranslationRow
from zerocon.bench.translation_run import TranslationBenchmark, to_samples
from zerocon.bench.translation_tasks import TranslationBatch, choose, draw
from zerocon.cli import main
from zerocon.errors import MethodError, ModelNotFoundError
from zerocon.exemplar.encoders import Matcher, MatcherConfig
from zerocon.exemplar.networks import TranslationConfig, TranslationNetwork, save_weights
from zerocon.rng import seeded_generator
from zerocon.training.loop import write_initial
from zerocon.training.matcher import MatcherStage
from zerocon.training.translation_denoiser import DenoiserStage
from zerocon.training.workspace import Workspace
from zerocon.world import CLASSES

Bench = Callable[..., Result]


@pytest.fixture(scope="module")
def model() -> Any:
    return zerocon.load("mini", device="cpu")


@pytest.fixture(scope="module")
def batch(model: Any) -> TranslationBatch:
    """Two edge maps and two label maps."""
    return TranslationBatch([draw(n) for n in choose("validation", 2, 0, ("edge", "label"))], model)


@pytest.fixture(scope="module")
def weights(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directories with networks that were trained for nothing yet, one for each method."""
    folder = tmp_path_factory.mktemp("weights")
    small: dict[str, Any] = {"stem": 8, "width": 8, "inner": 8, "dilations": (1,)}
    matcher = MatcherConfig(stem=8, width=8, inner=8, dilations=(1,))
    configs = {
        "promote": TranslationConfig(**small),
        "concat": TranslationConfig(prior="none", **small),
        "bridge": TranslationConfig(bridge=True, **small),
    }
    for name, config in configs.items():
        with torch.random.fork_rng():
            torch.manual_seed(1)
            network = TranslationNetwork(model.unet, config)
            save_weights(folder / name, network, Matcher(matcher))
    return folder


# tasks


def test_tasks_have_kinds_and_numbers_of_their_own() -> None:
    chosen = choose("validation", 3, 2)
    assert len({number.seed for number in chosen}) == len(chosen) == 12
    assert [number.kind for number in chosen[::3]] == ["edge", "label", "sketch", "image"]
    longer = choose("validation", 5, 0)
    assert set(chosen) <= set(longer) and not set(chosen) & set(choose("validation", 2, 0))
    assert {n.seed for n in choose("test", 3, 2, ("label",))} == {n.seed for n in chosen[3:6]}
    with pytest.raises(MethodError, match='no condition "pose"; there are: edge, label'):
        choose("validation", 1, 0, ("edge", "pose"))


def test_a_task_has_the_structure_of_one_scene_and_the_colors_of_another() -> None:
    edge, image = (draw(n) for n in choose("validation", 1, 0, ("edge", "image")))
    assert np.array_equal(edge.condition[..., 0] > 0, edge.edges)
    for task in (edge, image):
        shapes = {each.shape for each in (task.condition, task.exemplar, task.target)}
        assert shapes == {(128, 128, 3)} and task.edges.any() and not task.edges.all()
        assert not np.array_equal(task.exemplar, task.target)
        assert not np.array_equal(task.classes, task.exemplar_classes)
    other = draw(choose("test", 1, 0, ("edge",))[0])
    assert other.seed == edge.seed and not np.array_equal(other.target, edge.target)


def test_shares_of_classes_are_those_of_the_pixels(batch: TranslationBatch) -> None:
    shares = batch.exemplar_shares
    assert shares.shape == (4, 256, len(CLASSES))
    assert torch.allclose(shares.sum(-1), torch.ones(4, 256))
    block = batch.tasks[2].exemplar_classes[
        8:16, 24:32
    ]  # the token in the second row and fourth column
    expected = np.bincount(block.ravel(), minlength=len(CLASSES)) / 64
    assert shares[2, 16 + 3].tolist() == pytest.approx(expected.tolist())


# methods


def error(batch: TranslationBatch, name: str) -> float:
    return float((pick(name)(batch, 0).pixels - batch.target).square().mean())


def accuracy(batch: TranslationBatch, name: str) -> float:
    warped = pick(name)(batch, 0).warped_classes
    assert warped is not None
    values = [
        warp_accuracy(each.numpy(), task.classes, task.exemplar_classes, batch.grid)
        for each, task in zip(warped, batch.tasks, strict=True)
    ]
    return float(np.mean([value for value in values if value is not None]))


def test_bounds_are_where_they_should_be(batch: TranslationBatch) -> None:
    assert error(batch, "target") == 0
    assert torch.equal(pick("copy")(batch, 0).pixels, batch.exemplar)
    bounds = [error(batch, name) for name in ("vae", "true-warp", "position-warp", "adain")]
    assert bounds == sorted(bounds) and bounds[0] > 0
    assert error(batch, "class-mean") < error(batch, "copy")


def test_true_matches_are_of_the_right_class(batch: TranslationBatch) -> None:
    assert accuracy(batch, "true-warp") > 0.95 > 0.9 > accuracy(batch, "position-warp") > 0.3


def test_true_matches_are_the_nearest_of_the_class(model: Any) -> None:
    """An exemplar with the structure of the condition: every token comes from its own place."""
    task = draw(choose("validation", 1, 0, ("label",))[0])
    same = replace(task, exemplar=task.target, exemplar_classes=task.classes)
    method: Any = pick("true-warp")
    correspondence, _ = method.find(TranslationBatch([same], model))
    assert torch.equal(correspondence.match[0], torch.arange(256))


def test_class_means_are_the_exemplar_s(batch: TranslationBatch) -> None:
    pixels, task = pick("class-mean")(batch, 0).pixels[0], batch.tasks[0]
    for number in np.unique(task.classes):
        colors = pixels[:, torch.from_numpy(task.classes == number)]
        inside = task.exemplar_classes == number
        mean = batch.exemplar[0][:, torch.from_numpy(inside | ~inside.any())].mean(1)
        assert torch.allclose(colors, mean[:, None].expand_as(colors), atol=1e-5)


def test_adain_takes_the_statistics_of_the_exemplar(batch: TranslationBatch) -> None:
    seen: list[Any] = []

    class Recorded(TranslationBatch):
        def decode(self, latents: Any) -> Any:
            seen.append(latents)
            return super().decode(latents)

    pick("adain")(Recorded(batch.tasks[:1], batch.model), 0)
    for statistic in (torch.mean, torch.std):
        wanted = statistic(batch.exemplar_latents[:1], dim=(2, 3))
        assert torch.allclose(statistic(seen[0], dim=(2, 3)), wanted, atol=1e-3)


def test_corruption_replaces_so_many_blocks_and_the_same_in_every_method(
    batch: TranslationBatch,
) -> None:
    names = ("true-warp", "true-warp:corruption=0.2", "true-warp:corruption=0.5")
    clean, some, more = (pick(name).find(batch)[0].warped for name in names)  # type: ignore[attr-defined]
    changed = [(each != clean).any(1).float() for each in (some, more)]
    assert 0.1 < changed[0].mean() < 0.3 and 0.35 < changed[1].mean() < 0.65
    assert (changed[1][changed[0] == 1] == 1).float().mean() > 0.95, "the same ones, and more"
    moved = pick("position-warp:corruption=0.5").find(batch)[0].warped  # type: ignore[attr-defined]
    assert torch.equal(moved[changed[1][:, None].expand_as(moved) == 1],
                       more[changed[1][:, None].expand_as(more) == 1])  # fmt: skip
    errors = [error(batch, name) for name in names]
    assert errors == sorted(errors)
    assert accuracy(batch, names[2]) < accuracy(batch, names[1]) < accuracy(batch, names[0])


@pytest.mark.parametrize("name", ["promote", "concat", "bridge"])
def test_sampling_depends_on_the_seed_and_not_on_the_batch(
    batch: TranslationBatch, weights: Path, name: str
) -> None:
    method = pick(f"{name}:weights={weights / name},steps=2")
    assert method.sampled
    batch = TranslationBatch(batch.tasks[1:3], batch.model)
    result = method(batch, 0)
    assert result.pixels.shape == batch.target.shape
    assert result.evaluations == (2 if name == "bridge" else 2 * 2)  # guidance doubles them
    assert result.pixels.isfinite().all() and result.pixels.abs().max() <= 1
    assert torch.equal(method(batch, 0).pixels, result.pixels)
    assert (method(batch, 1).pixels - result.pixels).abs().max() > 0.1
    alone = method(TranslationBatch(batch.tasks[1:], batch.model), 0)
    assert torch.allclose(alone.pixels, result.pixels[1:], atol=2e-3)


def test_regression_is_the_prior_and_knows_no_seed(batch: TranslationBatch, weights: Path) -> None:
    method = pick(f"regression:weights={weights / 'promote'}")
    assert not method.sampled
    first, second = method(batch, 0), method(batch, 1)
    assert torch.equal(first.pixels, second.pixels) and first.evaluations == 0
    with pytest.raises(MethodError, match="is a bridge, which has no prior"):
        pick(f"regression:weights={weights / 'bridge'}")(batch, 0)


def test_true_matches_can_be_given_to_a_trained_network(
    batch: TranslationBatch, weights: Path
) -> None:
    name = f"promote:weights={weights / 'promote'},steps=2"
    own, true = (pick(name + more).prepare(batch) for more in ("", ",matches=true"))  # type: ignore[attr-defined]
    assert not torch.equal(own.matched.warped, true.matched.warped)
    assert torch.equal(own.matched.appearance, true.matched.appearance)
    expected = pick("true-warp").find(batch)[0]  # type: ignore[attr-defined]
    assert torch.equal(true.matched.warped, expected.warped)
    assert torch.equal(true.matched.confidence, expected.confidence)


@pytest.mark.parametrize(
    ("name", "folder", "reason"),
    [
        ("concat", "promote", "was trained with the prior terminal, not none"),
        ("promote", "bridge", "is a bridge; use method bridge"),
        ("bridge", "promote", "is no bridge"),
    ],
)
def test_a_network_of_another_method_is_refused(
    batch: TranslationBatch, weights: Path, name: str, folder: str, reason: str
) -> None:
    with pytest.raises(MethodError, match=reason):
        pick(f"{name}:weights={weights / folder}")(batch, 0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("best", 'no method "best"; there are: target, vae, copy'),
        ("warp:corruption=2", "corruption must be from 0 to 1, not 2.0"),
        ("warp:matches=none", "must be trained or true or position"),
        ("copy:corruption=0.5", 'method copy has no option "corruption"'),
    ],
)
def test_a_wrong_method_is_refused(text: str, reason: str) -> None:
    with pytest.raises(MethodError, match=reason):
        pick(text)


def test_the_recipe_of_a_trained_method_names_its_weights(weights: Path, tmp_path: Path) -> None:
    recipes = [pick(f"promote:weights={weights / name}").recipe() for name in ("promote", "concat")]
    assert recipes[0]["hash"] != recipes[1]["hash"] and recipes[0]["steps"] == 20
    assert "hash" not in pick("true-warp").recipe()
    with pytest.raises(ModelNotFoundError, match="there is no config"):
        pick(f"warp:weights={tmp_path}").recipe()


def test_networks_are_read_from_a_training_in_progress(
    batch: TranslationBatch, tmp_path: Path
) -> None:
    work, base = Workspace(tmp_path), batch.model.unet
    matcher, denoiser = MatcherStage(width=8), DenoiserStage(width=24, channels=(32, 64))
    write_initial(work, "matcher", matcher, 0, matcher.build())
    write_initial(work, "small", denoiser, 0, denoiser.network(base))
    warped = pick(f"warp:weights={tmp_path / 'matcher'}")(batch, 0)
    assert warped.warped_classes is not None
    result = pick(f"promote:weights={tmp_path / 'small'},steps=1")(batch, 0)
    assert torch.equal(warped.warped_classes, result.warped_classes)
    hashes = [pick(f"warp:weights={tmp_path / n}").recipe()["hash"] for n in ("matcher", "small")]
    assert hashes[0] != hashes[1]
    with pytest.raises(MethodError, match="there is only a matcher"):
        pick(f"promote:weights={tmp_path / 'matcher'}")(batch, 0)


def test_pixels_become_samples_by_rounding() -> None:
    pixels = torch.tensor([-1.5, -1, 0.001, 1, 2]).reshape(1, 1, 1, 5).expand(1, 3, 1, 5)
    assert to_samples(pixels)[0, 0, :, 1].tolist() == [0, 0, 128, 255, 255]


# rows


class Seeded(translation_methods.TranslationMethod):
    """The target, with noise of the seed."""

    sampled = True

    def __call__(self, batch: TranslationBatch, seed: int) -> Any:
        noise = torch.randn(batch.target.shape, generator=seeded_generator(str(seed)))
        return translation_methods.TranslationResult(batch.target + 0.05 * noise, None, 3.0)


@pytest.fixture
def seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(translation_methods.METHODS, "seeded", Seeded)  # type: ignore[arg-type]


def test_a_row_has_every_sample_and_their_mean_image(model: Any, seeded: None) -> None:
    run = TranslationBenchmark(model, ("copy", "seeded"), samples=2, mean_of=4, batch_size=2)
    done = list(run.run(run.work(choose("validation", 2, 0, ("label",)))))
    assert [(row.method, row.seed) for row, _ in done] == [
        ("copy", 1), ("copy", 5), ("seeded", 1), ("seeded", 5),
    ]  # fmt: skip
    (copy, image), (row, _) = done[0], done[2]
    assert copy.samples[0].copy_score > 0 and copy.mean_image is None and len(copy.samples) == 1
    assert np.array_equal(
        np.asarray(image), draw(choose("validation", 1, 0, ("label",))[0]).exemplar
    )
    assert len(row.samples) == 2 and row.samples[0].psnr != row.samples[1].psnr
    noise = 10 * np.log10(4 / 0.05**2)
    assert row.samples[0].psnr == pytest.approx(noise, abs=0.5)
    assert row.mean_image is not None
    assert row.mean_image.psnr == pytest.approx(noise + 10 * np.log10(4), abs=0.7), "of 4 samples"
    assert row.evaluations == 3 and row.seconds > 0 and row.warp_accuracy is None
    assert row.target_embedding == copy.target_embedding != copy.samples[0].embedding
    assert TRANSLATIONS.from_json(TRANSLATIONS.to_json(row)) == row


# tables


def metrics(psnr: float = 20.0, copy: float = -5.0, **more: Any) -> TranslationMetrics:
    return TranslationMetrics(**{
        "psnr": psnr, "ssim": 0.5, "psnr_matched": psnr + 1, "psnr_rest": None, "color_error": 4.0,
        "semantic_consistency": 0.9, "texture_relevance": None, "swd": 100.0, "edge_f1": 0.7,
        "self_similarity": 9.0, "copy_score": copy, "embedding": (1.0, 0.0), **more,
    })  # fmt: skip


def row(method: str, seed: int, *samples: TranslationMetrics, **more: Any) -> TranslationRow:
    values: dict[str, Any] = {
        "recipe": method, "kind": "edge", "mean_image": None, "warp_accuracy": None,
        "target_embedding": (1.0, 0.0), "evaluations": 30.0, "seconds": 2.0, "memory": 10**9,
        "settings": {"of": method}, "setup": {"weights": "w", "mean_of": "8"}, **more,
    }  # fmt: skip
    return TranslationRow(method=method, seed=seed, samples=samples, **values)


def cells(table: Any, name: str) -> dict[str, Any]:
    line = next(line for line in table.lines if line.name == name)
    return dict(zip((column.name for column in table.columns), line.cells, strict=True))


def find(shown: Any, start: str) -> Any:
    return next(table for table in shown if table.title.startswith(start))


def test_tables_have_means_over_samples_and_kinds() -> None:
    rows = [
        row("m", 0, metrics(10), metrics(14), kind="edge"),
        row("m", 4, metrics(20), metrics(20), kind="edge"),
        row("m", 1, metrics(30, copy=1.0), metrics(30), kind="label"),
    ]
    shown = translation_tables.tables(rows, ["m"])
    fidelity = cells(find(shown, "Fidelity"), "m")
    assert fidelity["psnr"].mean == pytest.approx(((12 + 20) / 2 + 30) / 2)
    assert fidelity["psnr_matched"].mean == pytest.approx(fidelity["psnr"].mean + 1)
    assert fidelity["psnr_rest"] is None
    assert fidelity["copied"].mean == pytest.approx((0 + 1 / 2) / 2)
    by_kind = find(shown, "m, by kind of condition")
    assert by_kind.head == "condition" and [line.name for line in by_kind.lines] == [
        "edge",
        "label",
    ]
    assert cells(by_kind, "edge")["psnr"].mean == 16
    costs = cells(find(shown, "Cost"), "m")
    assert (costs["evaluations"].mean, costs["seconds"].mean, costs["gigabytes"].mean) == (30, 2, 1)
    with pytest.raises(ValueError, match="no rows of best; there are: m"):
        translation_tables.tables(rows, ["best"])


def test_the_spread_is_that_of_the_means_of_seeds() -> None:
    rows = [
        row("m", 0, metrics(10), metrics(12), metrics(14)),
        row("m", 1, metrics(20), metrics(22), metrics(24)),
        row("fixed", 0, metrics(10)),
    ]
    spread = find(translation_tables.tables(rows), "Standard deviation")
    assert [line.name for line in spread.lines] == ["m"]
    assert cells(spread, "m")["psnr"] == (2.0, None, None), "15, 17, 19"
    assert cells(spread, "m")["ssim"].mean == 0 and cells(spread, "m")["psnr_rest"] is None


def test_a_mean_image_has_a_line_of_its_own_and_costs_all_samples() -> None:
    rows = [row("m", seed, metrics(10), metrics(10), mean_image=metrics(16)) for seed in (0, 1)]
    shown = translation_tables.tables(rows)
    fidelity = find(shown, "Fidelity")
    assert [line.name for line in fidelity.lines] == ["m", "m, mean of 8"]
    assert cells(fidelity, "m, mean of 8")["psnr"].mean == 16
    assert cells(find(shown, "Cost"), "m, mean of 8")["evaluations"].mean == 240


def test_fd_mini_compares_the_sets_of_embeddings() -> None:
    targets = [(1.0, 0.0), (0.0, 1.0), (0.6, 0.8)]
    shifted = [
        row(
            "m",
            i,
            metrics(embedding=(a + 3, b)),
            metrics(embedding=(a, b)),
            target_embedding=(a, b),
        )
        for i, (a, b) in enumerate(targets)
    ]
    fidelity = find(translation_tables.tables(shifted), "Fidelity")
    assert cells(fidelity, "m")["fd_mini"].mean == pytest.approx((9 + 0) / 2)
    single = find(translation_tables.tables(shifted[:1]), "Fidelity")
    assert cells(single, "m")["fd_mini"] is None


def test_differences_and_the_effect_of_corruption_are_paired() -> None:
    levels = {"warp": 20, "warp:corruption=0.5": 14, "promote": 22, "promote:corruption=0.5": 19}
    rows = [
        row(name, seed, metrics(level + 5 * seed))
        for seed in range(3)
        for name, level in levels.items()
    ]
    shown = translation_tables.tables(rows)
    from_warp, effect = find(shown, "Difference from warp"), find(shown, "Effect of corruption")
    assert cells(from_warp, "promote")["psnr"] == pytest.approx((2, 2, 2))
    assert [line.name for line in from_warp.lines] == list(levels)[1:]
    assert cells(effect, "warp:corruption=0.5")["psnr"] == pytest.approx((-6, -6, -6))
    assert cells(effect, "promote:corruption=0.5")["psnr"] == pytest.approx((-3, -3, -3))


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("warp:corruption=0.2", "warp"),
        ("promote:matches=true,corruption=0.2", "promote:matches=true"),
        ("promote:corruption=0.2,steps=5", "promote:steps=5"),
        ("promote:steps=5", None),
        ("copy", None),
    ],
)
def test_the_uncorrupted_method_is_the_one_without_the_option(name: str, base: Any) -> None:
    assert translation_tables.uncorrupted(name) == base


# the command


@pytest.fixture
def bench(model: Any, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr("zerocon.load", lambda *_, **__: model)

    def run(*arguments: object) -> Result:
        start = ["bench", "translate", "-q", "--per-kind", "1"]
        return CliRunner().invoke(main, [*start, *map(str, arguments)])

    return run


def test_the_command_prints_tables_and_saves_a_sheet(bench: Bench, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    done = bench("--methods", "target,copy", "--sheet", sheet, "--format", "markdown")
    assert done.exit_code == 0, done.output
    assert "| target | 2 | 99.0 | 99.0 |" in done.stdout
    assert "| copy | 2 |" in done.stdout and "100 % |" in done.stdout
    with Image.open(sheet) as page:
        width, height = page.size
        assert width == 4 + 5 * 132 and height > 2 * 128
        task = draw(choose("validation", 1, 0, ("edge",))[0])
        cell = np.asarray(page.crop((4 + 132, 4, 4 + 132 + 128, 4 + 128)))
        assert np.array_equal(cell, task.exemplar)
    record = json.loads(bench("--methods", "copy", "--format", "json").stdout)
    assert record["schema"] == "zerocon.bench.tables/3" and record["settings"] == {"copy": {}}
    assert record["tables"][0]["lines"][0]["copied"]["mean"] == 1


def test_a_run_continues_after_an_interruption_and_in_shards(bench: Bench, tmp_path: Path) -> None:
    whole, truncated = tmp_path / "whole.jsonl", tmp_path / "truncated.jsonl"
    table = bench("--methods", "target,copy", "--results", whole, "--per-kind", 1).stdout
    lines = whole.read_bytes().splitlines(keepends=True)
    assert len(lines) == 4
    truncated.write_bytes(lines[0] + lines[1][:50])
    done = bench("--methods", "target,copy", "--results", truncated)
    assert done.exit_code == 0, done.output
    rows = {path: TRANSLATIONS.read(path) for path in (whole, truncated)}
    same = [[replace(r, seconds=0, memory=0) for r in part] for part in rows.values()]
    assert len(same[1]) == 4 and all(r in same[0] for r in same[1])
    again = bench("--methods", "target,copy", "--results", whole)
    assert again.stdout == table and whole.read_bytes() == b"".join(lines)
    shards = [tmp_path / f"{i}.jsonl" for i in (1, 2)]
    for i, path in enumerate(shards, 1):
        bench("--methods", "target,copy", "--results", path, "--shard", f"{i}/2")
    merged = CliRunner().invoke(main, ["bench", "table", *map(str, shards)])
    assert merged.exit_code == 0, merged.output
    head = table.split("Cost of one image")[0]
    assert merged.stdout.split("Cost of one image")[0].split() == head.split()


def test_rows_of_another_run_are_refused(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    bench("--methods", "copy", "--results", path)
    before = path.read_bytes()
    done = bench("--methods", "copy", "--results", path, "--samples", 2)
    assert done.exit_code == 2 and "of another run: different samples" in done.stderr
    assert path.read_bytes() == before
    done = CliRunner().invoke(main, ["bench", "world", "--results", str(path)])
    assert done.exit_code == 2 and "not a row of zerocon bench" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["--methods", "copy,best"], 2, 'no method "best"'),
        (["--conditions", "pose"], 2, 'no condition "pose"'),
        (["--methods", "copy", "--by-kind", "vae"], 2, "--by-kind vae is not one of"),
        (["--methods", "copy,promote:weights=nowhere"], 3, "there is no config.json"),
    ],
)
def test_a_mistake_is_one_line_before_any_work(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, reason: str
) -> None:
    monkeypatch.setattr(translation_tasks, "triplet", pytest.fail)
    done = bench(*arguments)
    assert done.exit_code == code and reason in done.stderr, done.output
    assert done.stderr.count("\n") == 1 and not done.stdout
