"""When memory runs out: what is done without, in which order, and that the edit comes out."""

from __future__ import annotations

import pytest
import tiny
import torch
from click.testing import CliRunner
from conftest import gradient

import zerocon
from zerocon.api import run_within_memory
from zerocon.cli import main
from zerocon.errors import OutOfMemoryError, classify
from zerocon.image.transforms import prepare
from zerocon.model import attention
from zerocon.settings import Settings

STEPS = (
    "looking at the source again instead of remembering it",
    "computing again on the way back what is not kept",
    "encoding and decoding in tiles",
)


class Short:
    """A network that has no memory for its first ``times`` calls, or calls with a gradient."""

    def __init__(self, model, times, error=None):
        self.left, self.real = times, model.unet.forward
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    def __call__(self, x, *args, **named):
        if self.left and x.requires_grad:
            self.left -= 1
            raise self.error
        return self.real(x, *args, **named)


def edit(model, **more):
    settings = Settings(steps=4, guidance_scale=3.0, guidance=("cross-attention", "contrastive"))
    words = {"to": "dog", "caption": "a cat", "settings": settings}
    return zerocon.edit(gradient(48, 64), model=model, **words, **more)


@pytest.mark.parametrize("times", [0, 1, 2, 3])
def test_each_shortage_costs_one_step_and_the_edit_comes_out(times):
    model, told = tiny.model(), []
    model.unet.forward = Short(model, times)
    usual, found = edit(tiny.model()), edit(model, on_warning=told.append)
    assert told == [f"out of memory; {step}" for step in STEPS[:times]]
    assert found.settings.cache_source is (times == 0)
    ours, theirs = (torch.tensor(bytearray(e.image.tobytes())).int() for e in (found, usual))
    assert found.image.size == usual.image.size
    assert times == 3 or (ours - theirs).abs().max() <= 2, "tiles see less than the whole"


def test_after_the_last_step_the_error_goes_through():
    model = tiny.model()
    model.unet.forward = Short(model, 99)
    with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate"):
        edit(model)


def test_other_errors_are_nobody_s_business():
    model, told = tiny.model(), []
    model.unet.forward = Short(model, 1, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes"):
        edit(model, on_warning=told.append)
    assert not told


def test_a_real_shortage_of_this_machine_is_one():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55)
    assert classify(caught.value) is OutOfMemoryError


def test_what_failed_is_gone_before_it_is_tried_again():
    """Nothing of the failed try may hold memory while the next one runs."""
    import weakref

    held = []

    def run(settings):
        if not held:
            big = torch.zeros(1000)
            held.append(weakref.ref(big))
            raise MemoryError
        return held[0]() is None

    assert run_within_memory(run, tiny.model(), Settings())


@pytest.mark.parametrize("second", [False, True])
def test_computing_again_changes_no_bit(second):
    usual, spared = tiny.model(second=second), tiny.model(second=second)
    attention.checkpoint(spared.unet)
    assert edit(usual).image.tobytes() == edit(spared).image.tobytes()
    assert not [m for m in spared.unet.modules() if isinstance(m, attention._Explicit)]


def test_computing_again_keeps_less():
    def saved(model):
        sizes = []
        pack = lambda t: sizes.append(t.nbytes) or t  # noqa: E731
        with attention.watch(model.unet, {attention.CROSS}) as seen:
            x = torch.zeros(1, 4, 8, 8, requires_grad=True)
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
                model.eps(x, 0, model.embed(["a"]))
            assert seen.maps
        return sum(sizes)

    usual, spared = tiny.model(), tiny.model()
    attention.checkpoint(spared.unet)
    assert saved(spared) < saved(usual) / 2


def test_tiles_of_a_trained_model_look_like_the_whole():
    model = zerocon.load("mini", device="cpu")
    x = model.encode(prepare(gradient(128, 96), model.size, model.multiple).pixels)
    whole = model.decode(x)
    model.tile()
    again, tiled = model.encode(whole.clamp(-1, 1)), model.decode(x)
    assert again.shape == x.shape and model.vae.use_tiling
    error = (tiled - whole).square().mean()
    assert 0 < error < 0.02, "23 dB: what is far away is not seen"


def test_networks_that_wait_elsewhere_change_no_bit():
    usual, spared = tiny.model(), tiny.model()
    spared.offload()
    assert edit(usual).image.tobytes() == edit(spared).image.tobytes()


def test_on_the_command_line_it_is_a_warning_and_the_files_are_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gradient(48, 64).save("cat.png")
    model = tiny.model()
    model.unet.forward = Short(model, 1)
    monkeypatch.setattr(zerocon, "load", lambda *_, **__: model, raising=False)
    done = CliRunner().invoke(main, ["edit", "cat.png", "--to", "dog", "--steps-dir", "steps"])
    assert done.exit_code == 0, done.output
    assert f"Warning: out of memory; {STEPS[0]}\n" in done.stderr
    assert len(list((tmp_path / "steps").iterdir())) == 4
