"""Values that are not finite end in one clear error; nothing is written, nothing is cached."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from conftest import gradient

import zerocon
from zerocon.cli import main
from zerocon.errors import NotFiniteError

EDIT = ["edit", "cat.png", "--to", "dog", "--caption", "a cat", "--steps", "2"]


def spoil(part: torch.nn.Module, value: float) -> None:
    """Set the last weights of ``part``, so that its output is not finite."""
    *_, last = part.parameters()
    last.data.fill_(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "encoder"])
def test_nothing_is_written_or_cached(
    part: str, value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = zerocon.load("mini")
    spoil(model.vae.encoder if part == "encoder" else getattr(model, part), value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(zerocon, "load", lambda *_, **__: model, raising=False)
    monkeypatch.setenv("ZEROCON_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ZEROCON_NO_CACHE")
    gradient(48, 64).save("cat.png")
    done = CliRunner().invoke(main, [*EDIT, "--steps-dir", "steps", "-o", "dog.png"])
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error")]
    assert done.exit_code == NotFiniteError.code and len(errors) == 1
    assert "not finite" in errors[0] and errors[0].endswith("[ZC-E072]")
    written = {path.name for path in tmp_path.rglob("*") if path.suffix == ".png"}
    assert written <= {"cat.png", "step-001.png"}  # of steps before, if any
    if part != "vae":  # its decoder is called last, the inversion is finite
        assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_one_image_of_a_batch_fails_and_the_others_are_edited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, count = zerocon.load("mini"), 0
    decode = model.vae.decode

    def broken(latents: torch.Tensor, **more: object) -> object:
        nonlocal count
        count += 1
        return decode(latents * float("nan") if count == 3 else latents, **more)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model.vae, "decode", broken)
    monkeypatch.setattr(zerocon, "load", lambda *_, **__: model, raising=False)
    for name in ("a.png", "b.png", "c.png"):
        gradient(48, 64).rotate(ord(name[0])).save(name)
    args = ["batch", "a.png", "b.png", "c.png", *EDIT[2:], "-o", "out", "--name", "{stem}.png"]
    done = CliRunner().invoke(main, args)
    assert done.exit_code == 1 and "[ZC-E072]" in done.output
    assert sorted(path.name for path in Path("out").glob("*.png")) == ["a.png", "c.png"]
