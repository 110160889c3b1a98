"""The default settings on copies of the embedded model that lack its own settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file
from test_bench_runner import TrueClassifiers

import zerocon
from zerocon import mini
from zerocon.bench import altered_models as transfer
from zerocon.bench import classifiers, tables, tasks
from zerocon.bench.altered_models import (
    COPY,
    EDIT,
    MINI,
    SCRATCH,
    Setup,
    Variant,
    network_of,
    write_copy,
)
from zerocon.bench.inputs import MethodSettings
from zerocon.bench.results import ResultRow
from zerocon.cli import main
from zerocon.model.defaults import FILE
from zerocon.model.guidance_scale import measured_scale
from zerocon.settings import Settings

HALF = network_of(0.5)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scales are measured, not read."""
    monkeypatch.setenv("ZEROCON_CACHE", str(tmp_path / "cache"))


# the copies


def test_a_copy_has_none_of_the_models_settings(tmp_path: Path) -> None:
    facts = json.loads((mini.path() / FILE).read_text())
    values = json.loads((write_copy(tmp_path / "a") / FILE).read_text())
    assert values == {name: facts[name] for name in ("size_rule", "words")}
    given = write_copy(tmp_path / "b", {"guidance_scale": 1.5})
    assert json.loads((given / FILE).read_text()) == values | {"guidance_scale": 1.5}
    assert zerocon.load(str(given)).settings == Settings(guidance_scale=1.5)
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert (given / weights).read_bytes() == (mini.path() / weights).read_bytes()


def test_an_altered_copy_has_a_scaled_cross_attention(tmp_path: Path) -> None:
    folder = write_copy(tmp_path / "half", factor=0.5)
    before, after = (load_file(each / transfer.UNET) for each in (mini.path(), folder))
    assert before.keys() == after.keys()
    layers = {name for name in before if "attn2.to_out" in name}
    assert layers == {name for name in before if not torch.equal(before[name], after[name])}
    for name in layers:
        assert after[name].dtype == before[name].dtype
        assert torch.equal(after[name], 0.5 * before[name])
    # the output of the layer itself, of weight and bias
    inputs = torch.randn(1, 4, 64, generator=torch.Generator().manual_seed(0))
    contexts = torch.randn(1, 3, 96, generator=torch.Generator().manual_seed(1))
    outputs = []
    for path in (mini.path(), folder):
        unet = zerocon.load(str(path)).unet
        (layer, *_) = [m for n, m in unet.named_modules() if n.endswith("attn2")]
        inputs = inputs[..., :1].expand(1, 4, layer.to_q.in_features)
        contexts = contexts[..., :1].expand(1, 3, layer.to_k.in_features)
        outputs.append(layer(inputs, contexts))
    assert torch.allclose(outputs[1], 0.5 * outputs[0], rtol=1e-5)


def test_scales_are_measured_on_the_copy_or_given(tmp_path: Path) -> None:
    shipped, given, copy, measured, other = transfer.setups(tmp_path, (0.5,), (3.0,))
    expected = json.loads((mini.path() / FILE).read_text())["guidance_scale"]
    scratch = {"methods": (SCRATCH, EDIT)}
    assert shipped.variant == Variant(MINI, expected, **scratch)
    assert given.variant == Variant(COPY, expected)
    scale = measured_scale(copy.model).scale
    assert copy.variant == Variant(COPY, scale, measured=True)
    assert measured.variant == Variant(HALF, measured_scale(measured.model).scale, True, **scratch)
    assert measured.variant.scale > scale, "it answers less to captions"
    assert other.variant == Variant(HALF, 3.0) and other.model is measured.model
    for setup in (shipped, given, copy, measured, other):
        resolved = setup.settings.resolve()
        assert resolved.guidance_scale == setup.variant.scale and resolved.composite == "model"
        default = setup.model.settings if setup is shipped else Settings()
        assert resolved.steps == default.steps
    names = [each.variant.name for each in (given, copy, other)]
    assert names == [
        f"copy, scale {expected:g}",
        f"copy, measured scale {scale:g}",
        f"{HALF}, scale 3",
    ]
    files = {each.variant.file for each in (shipped, given, copy, measured, other)}
    assert len(files) == 5 and not any(" " in name or "/" in name for name in files)


# the tables


def row(seed: int, method: str = EDIT, *, both: bool) -> ResultRow:
    """A row of a scene whose edit succeeded, or not."""
    scratch = method == SCRATCH
    return ResultRow(
        method=method, recipe="r", seed=seed, kind="color", caption="", target_caption="",
        success=both, preserved=None if scratch else True, psnr_inside=None, psnr_outside=None,
        errors=(), evaluations=1.0, seconds=1.0, settings={"steps": seed}, setup={"a": "b"},
    )  # fmt: skip


def rows(count: int, *, scratch: bool = False) -> list[ResultRow]:
    """Rows of ten scenes, ``count`` of which succeed."""
    sampled = [row(seed, SCRATCH, both=True) for seed in range(10)] if scratch else []
    return [*sampled, *(row(seed, both=seed < count) for seed in range(10))]


def test_copies_are_compared_with_the_model_and_measured_scales_with_the_best() -> None:
    scratch = (SCRATCH, EDIT)
    results = {
        Variant(MINI, 1.5, methods=scratch): rows(8, scratch=True),
        Variant(COPY, 1.5): rows(7),
        Variant(COPY, 1.6, True): rows(6),
        Variant(HALF, 2.4, True, scratch): rows(6, scratch=True),
        Variant(HALF, 1.0): rows(3),
        Variant(HALF, 2.0): rows(9),
        Variant(HALF, 3.0): rows(8),
    }
    means, differences = transfer.tables(results)
    both = [each.name for each in tables.COLUMNS].index("both")
    shown = {each.name: each.cells[both] for each in means.lines}
    assert list(shown)[:3] == [
        "mini, scale 1.5, from-scratch",
        "mini, scale 1.5",
        "copy, scale 1.5",
    ]
    assert len(shown) == len(results) + 2
    assert shown[f"{HALF}, measured scale 2.4, from-scratch"] is None
    assert shown[f"{HALF}, scale 2"].mean == 0.9
    assert differences.signed
    assert {each.name: pytest.approx(each.cells[both].mean) for each in differences.lines} == {
        "copy, scale 1.5 minus mini, scale 1.5": -0.1,
        "copy, measured scale 1.6 minus mini, scale 1.5": -0.2,
        f"{HALF}, measured scale 2.4 minus {HALF}, scale 2": -0.3,
    }


def test_facts_are_those_that_all_rows_share() -> None:
    results = {Variant(MINI, 1.5): rows(1), Variant(COPY, 1.5): rows(2)}
    shared, settings = transfer.facts(results)
    assert shared == {"a": "b"}
    assert list(settings) == ["mini, scale 1.5", "copy, scale 1.5"]


# the command


def bench(*arguments: object) -> Result:
    start = ["bench", "transfer", "-q", "--per-kind", "1", "--skip", "0"]
    return CliRunner().invoke(main, [*start, *map(str, arguments)])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Random weights in place of the copies; returns the arguments of ``transfer.setups``."""
    model, called = tiny.model(), []
    monkeypatch.setattr(
        classifiers, "load", lambda: TrueClassifiers(tasks.choose("validation", 1)[0])
    )

    def setups(folder: Path, *chosen: Any) -> Iterator[Setup]:
        called.append((folder, *chosen))
        assert folder.is_dir()
        for variant in (Variant(MINI, 3.0), Variant(COPY, 3.0), Variant(COPY, 2.0, True)):
            settings = Settings(steps=1, guidance_scale=variant.scale, begin=0.0)
            yield Setup(variant, model, MethodSettings(settings))

    monkeypatch.setattr(transfer, "setups", setups)
    return called


def test_the_command_measures_every_variant_and_resumes(small: list[Any], tmp_path: Path) -> None:
    folder = tmp_path / "results"
    done = bench("--factors", "0.25,4,0.25", "--scales", "2", "--results", folder)
    assert done.exit_code == 0, done.output
    ((copies, factors, scales),) = small
    assert (factors, scales) == ((0.25, 4.0), (2.0,)) and not copies.exists()
    # the copy with the model's scale has its settings and weights: the same rows
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(files) == {"mini-3.jsonl", "copy-measured.jsonl"}
    assert bench("--results", folder).stdout == done.stdout
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    record = json.loads(bench("--results", folder, "--format", "json").stdout)
    assert record["schema"] == "zerocon.bench.tables/3" and len(record["settings"]) == 3
    assert [line["n"] for table in record["tables"] for line in table["lines"]] == [8] * 5
    page = bench("--results", folder, "--format", "markdown").stdout
    assert "| copy, measured scale 2 minus mini, scale 3 | 8 |" in page


@pytest.mark.parametrize("text", ["", "a", "0,1", "-1", "nan", "inf", "1,,2"])
def test_factors_and_scales_are_positive_numbers(text: str, small: list[Any]) -> None:
    for option in ("--factors", "--scales"):
        done = bench(option, text)
        assert done.exit_code == 2 and "numbers above zero, such as 0.5,2" in done.stderr
    assert not small
