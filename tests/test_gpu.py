"""Correctness on a GPU: run with ``pytest -m gpu``, or as a part of ``benchmarks/gpu.sh``.

The device is that of the environment variable ``ZEROCON_TEST_DEVICE``, by default ``cuda``. With
``cpu`` the tests that mean something there run, with few steps: the script is tried out so.

Bounds are from measurements of the embedded model on a CPU (docs/performance.md), with a margin of
10 dB for other kernels: a bound that is missed says that a kernel or a dtype is wrong, and not
that rounding differs.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image, ImageOps

import zerocon
from zerocon import api
from zerocon.bench.random_weights import SHAPES, random_captioner, random_model, random_scorer
from zerocon.cli import main
from zerocon.diagnostics.cost import estimate_cost
from zerocon.errors import NotFiniteError
from zerocon.request import parse_request
from zerocon.settings import PRESETS

# warnings of compilers and CUDA libraries are no failure
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore")]

DEVICE = os.environ.get("ZEROCON_TEST_DEVICE", "cuda")
ON_CPU = DEVICE == "cpu"
STEPS = 3 if ON_CPU else 12
FOX = Path(__file__).parent.parent / "examples" / "fox.png"
CAPTION = "a red fox in the snow"

Record = Callable[[str, object], None]

INJECTION = {"attention": ("injection:self=0.8,cross=0.5",), "guidance": (), "begin": 0.0}
GRADIENT = {"attention": (), "guidance": ("cross-attention", "contrastive")}
VARIANTS: dict[str, dict[str, Any]] = {
    "injection": INJECTION,
    "injection, begin": {**INJECTION, "begin": 0.3},
    "injection and guidance": {**GRADIENT, "attention": "injection"},
    "guidance": GRADIENT,
}
# Smallest PSNR in dB to float32, and largest error of the latents in units of the edit's own
# difference from the source. Measured on a CPU: 63, 63, 36, 32 dB and 52, 53, 36, 32 dB.
HALF = {
    ("float16", "injection"): (50.0, 0.02),
    ("float16", "injection, begin"): (50.0, 0.02),
    ("float16", "injection and guidance"): (24.0, 0.5),
    ("float16", "guidance"): (22.0, 0.7),
    ("bfloat16", "injection"): (40.0, 0.08),
    ("bfloat16", "injection, begin"): (40.0, 0.08),
    ("bfloat16", "injection and guidance"): (22.0, 0.6),
    ("bfloat16", "guidance"): (20.0, 0.8),
}
slow_on_cpu = pytest.mark.skipif(ON_CPU, reason="takes minutes on a CPU")


@dataclass(frozen=True)
class Result:
    """Image as integers, final latents, and those of the source."""

    image: np.ndarray
    latents: torch.Tensor
    source: torch.Tensor


@pytest.fixture(scope="session")
def device() -> str:
    """The device that is tested."""
    if DEVICE.startswith("cuda") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return DEVICE


@pytest.fixture
def cuda(device: str) -> Iterator[torch.device]:
    """The device, if it is a GPU, with nothing left of other tests in its memory."""
    if not device.startswith("cuda"):
        pytest.skip("needs a CUDA device: memory is that of its allocator")
    mini.cache_clear()
    gc.collect()
    torch.cuda.empty_cache()
    yield torch.device(device)
    gc.collect()
    torch.cuda.empty_cache()


@cache
def mini(device: str, dtype: str) -> Any:
    """The embedded model, with trained weights."""
    return zerocon.load("mini", device=device, dtype=dtype)


def edit(model: Any, image: Image.Image | None = None, **settings: Any) -> Result:
    """The fox becomes a bear."""
    seen: list[Any] = []
    edited = zerocon.edit(
        image or Image.open(FOX).convert("RGB"), to="bear", caption=CAPTION, model=model,
        on_step=seen.append, **{"steps": STEPS, "composite": "model", **settings},
    )  # fmt: skip
    latents, source = seen[-1].latents, edited.inversion.latents[0]
    return Result(np.asarray(edited.image, np.int16), latents.cpu(), source.cpu())


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """In dB; 99 for equal images."""
    error = np.square(np.float64(a) - np.float64(b)).mean()
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))


@cache
def reference(device: str, variant: str) -> Result:
    """In float32, without TF32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        return edit(mini(device, "float32"), **VARIANTS[variant])
    finally:
        torch.backends.cudnn.allow_tf32 = before


# precision


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", [pytest.param("float16", marks=slow_on_cpu), "bfloat16"])
def test_half_precision_is_near_float32(
    device: str, dtype: str, variant: str, record_property: Record
) -> None:
    exact, half = reference(device, variant), edit(mini(device, dtype), **VARIANTS[variant])
    decibels = psnr(exact.image, half.image)
    change = (exact.latents - exact.source).norm()
    error = float((half.latents - exact.latents).norm() / change)
    record_property("dB", round(decibels, 1))
    record_property("error of latents", round(error, 4))
    least, most = HALF[dtype, variant]
    assert decibels >= least and error <= most


@pytest.mark.parametrize(("variant", "least"), [("injection", 48.0), ("guidance", 24.0)])
def test_float32_is_that_of_a_cpu(
    cuda: torch.device, variant: str, least: float, record_property: Record
) -> None:
    decibels = psnr(reference(str(cuda), variant).image, reference("cpu", variant).image)
    record_property("dB", round(decibels, 1))
    assert decibels >= least


@pytest.mark.parametrize(
    ("dtype", "variant", "least"),
    [
        ("float32", "injection", 48.0),
        ("float32", "guidance", 24.0),
        pytest.param("float16", "injection", 40.0, marks=slow_on_cpu),
        pytest.param("float16", "guidance", 22.0, marks=slow_on_cpu),
    ],
)
def test_an_image_alone_is_near_the_same_in_a_batch(
    device: str, dtype: str, variant: str, least: float, record_property: Record
) -> None:
    model, fox = mini(device, dtype), Image.open(FOX).convert("RGB")
    settings = model.settings.overlay({"steps": STEPS, "composite": "model", **VARIANTS[variant]})
    images = [fox, ImageOps.mirror(fox)]
    requests = [
        parse_request(image, model, to="bear", caption=CAPTION, settings=settings)
        for image in images
    ]
    alone = api.edit_batch(images[:1], requests[:1], model=model, settings=settings)[0].image
    first = api.edit_batch(images, requests, model=model, settings=settings)[0].image
    decibels = psnr(np.int16(alone), np.int16(first))
    record_property("dB", round(decibels, 1))
    assert decibels >= least


# determinism and errors


@pytest.mark.parametrize("options", [(), ("--fast",)], ids=["default", "fast"])
def test_the_same_command_gives_the_same_bytes(
    device: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    for name in ("a.png", "b.png"):
        done = CliRunner().invoke(
            main,
            [
                "edit", str(FOX), "--to", "bear", "--caption", CAPTION, "--model", "mini",
                "--device", device, "--steps", str(STEPS), "-o", str(tmp_path / name), *options,
            ],
        )  # fmt: skip
        assert done.exit_code == 0, done.output
    a, b = (np.asarray(Image.open(tmp_path / name)) for name in ("a.png", "b.png"))
    assert (a == b).all(), f"{psnr(a, b):.1f} dB"


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_weights_that_are_not_finite_end_in_an_error(device: str, part: str) -> None:
    model = zerocon.load("mini", device=device)
    *_, last = getattr(model, part).parameters()
    last.data.fill_(float("nan"))
    with pytest.raises(NotFiniteError):
        edit(model, steps=1)


def test_a_vae_that_overflows_in_float16_makes_no_wrong_image(cuda: torch.device) -> None:
    images = []
    for dtype in ("float32", "float16"):
        model = zerocon.load("mini", device=str(cuda), dtype=dtype)
        norm = model.vae.decoder.conv_norm_out
        for weight in (norm.weight, norm.bias):
            weight.data *= 2.0**9  # to float16's largest number and beyond
        before = norm.forward
        norm.forward = lambda x, before=before: before(x) * 2.0**9
        try:
            images.append(edit(model, **INJECTION).image)
        except NotFiniteError:
            assert dtype == "float16"
            return
    assert psnr(*images) >= 20


# memory, with random weights in the size of Stable Diffusion 1.x


def whole_model(device: torch.device) -> Any:
    """With BLIP and CLIP in the size of the default ones."""
    return random_model(
        SHAPES["sd1"],
        device,
        torch.float16,
        captioner=lambda: random_captioner(device, CAPTION),
        scorer=lambda: random_scorer(device),
    )


def peak(device: torch.device, run: Callable[[], object]) -> int:
    """Bytes of tensors at the highest point of a second run; the first one allocates workspaces."""
    run()
    gc.collect()
    torch.cuda.reset_peak_memory_stats(device)
    run()
    return torch.cuda.max_memory_allocated(device)


@pytest.mark.parametrize(
    "preset",
    [*map(dict, PRESETS.values()), INJECTION],
    ids=[*PRESETS, "injection"],
)
def test_the_forecast_of_memory_is_right(
    cuda: torch.device, preset: dict[str, Any], record_property: Record
) -> None:
    model = whole_model(cuda)
    settings = model.settings.overlay({**preset, "steps": 10})
    image = Image.open(FOX).convert("RGB").resize((512, 512))
    measured = peak(cuda, lambda: zerocon.edit(image, to="bear", model=model, settings=settings))
    expected = estimate_cost(model, settings, image.size).peak
    record_property("GB measured", round(measured / 1e9, 2))
    record_property("GB forecast", round(expected / 1e9, 2))
    assert expected == pytest.approx(measured, rel=0.1)


def test_an_edit_with_too_little_memory_succeeds_with_less(
    cuda: torch.device, record_property: Record
) -> None:
    model = random_model(SHAPES["sd1"], cuda, torch.float16)
    image, warnings = Image.open(FOX).convert("RGB").resize((512, 512)), list[str]()

    def run() -> Image.Image:
        return zerocon.edit(
            image, to="bear", caption=CAPTION, model=model, on_warning=warnings.append,
            settings=model.settings.overlay({**PRESETS["paper"], "steps": 2}),
        ).image  # fmt: skip

    needed = peak(cuda, run)
    assert not any("out of memory" in line for line in warnings)
    gc.collect()
    torch.cuda.empty_cache()
    held, options = torch.cuda.memory_allocated(cuda), model.runtime.compute_options()
    limit = held + 0.6 * (needed - held)
    index = torch.cuda.current_device() if cuda.index is None else cuda.index
    total = torch.cuda.get_device_properties(index).total_memory
    try:
        torch.cuda.set_per_process_memory_fraction(limit / total, index)
        result = run()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, index)
    steps = [line for line in warnings if line.startswith("out of memory; ")]
    record_property("GB needed", round(needed / 1e9, 2))
    record_property("GB allowed", round(limit / 1e9, 2))
    record_property("steps", len(steps))
    assert steps and result.size == image.size
    assert model.runtime.compute_options() == options


# last, since compilation takes long


@slow_on_cpu
@pytest.mark.parametrize(
    ("settings", "least"), [({"attention": (), "guidance": ()}, 36.0), (INJECTION, 36.0)]
)
def test_compiled_is_near_uncompiled(
    device: str, settings: dict[str, Any], least: float, record_property: Record
) -> None:
    model = mini(device, "float16" if device.startswith("cuda") else "float32")
    plain = edit(model, **settings)
    with model.runtime.using(model.runtime.compile):
        compiled = edit(model, **settings)
    decibels = psnr(plain.image, compiled.image)
    record_property("dB", round(decibels, 1))
    assert decibels >= least
