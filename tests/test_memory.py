"""Out of memory: the ladder of savings, that the edit succeeds, and that the model is restored."""

from __future__ import annotations

import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import PurePosixPath

import pytest
import tiny
import torch
from click.testing import CliRunner
from conftest import gradient

import zerocon
from zerocon.api import run_within_memory
from zerocon.batch.executor import BatchExecutor, ExecutedJob, NoResult, SourceImage
from zerocon.batch.job import Job
from zerocon.cli import main
from zerocon.errors import OutOfMemoryError, classify
from zerocon.evaluation_count import count_evaluations
from zerocon.image.transforms import prepare
from zerocon.model import attention
from zerocon.model.companion import Companion, companion_dtype
from zerocon.model.determinism import deterministic
from zerocon.settings import Settings

STEPS = (
    "recomputing the source's activations instead of caching them",
    "recomputing activations in the backward pass",
    "encoding and decoding in tiles",
)


class Short:
    """A U-Net that runs out of memory in its first ``times`` calls with a gradient."""

    def __init__(self, model, times, error=None):
        self.left, self.real = times, model.unet.forward
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    def __call__(self, x, *args, **named):
        if self.left and x.requires_grad:
            self.left -= 1
            raise self.error
        return self.real(x, *args, **named)


def edit(model, **more):
    guidance = ("cross-attention", "contrastive")
    settings = replace(tiny.PLAIN, guidance_scale=3.0, guidance=guidance)
    words = {"to": "dog", "caption": "a cat", "settings": settings}
    return zerocon.edit(gradient(48, 64), model=model, **words, **more)


@pytest.mark.parametrize("times", [0, 1, 2, 3])
def test_each_shortage_takes_one_step_and_the_edit_succeeds(times):
    model, warnings = tiny.model(), []
    model.unet.forward = Short(model, times)
    usual, edited = edit(tiny.model()), edit(model, on_warning=warnings.append)
    # of random weights the latents are out of range
    warnings = [each for each in warnings if not each.startswith("probably damaged")]
    assert warnings == [f"out of memory; {step}" for step in STEPS[:times]]
    assert edited.settings.cache_source is (times == 0)
    ours, theirs = (torch.tensor(bytearray(e.image.tobytes())).int() for e in (edited, usual))
    assert edited.image.size == usual.image.size
    assert times == 3 or (ours - theirs).abs().max() <= 2, "a tile lacks the context of the whole"


def test_after_the_last_step_the_error_goes_through():
    model = tiny.model()
    model.unet.forward = Short(model, 99)
    with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate"):
        edit(model)


def test_other_errors_are_raised_at_once():
    model, warnings = tiny.model(), []
    model.unet.forward = Short(model, 1, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes"):
        edit(model, on_warning=warnings.append)
    assert not warnings


def test_a_real_shortage_of_this_machine_is_classified():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55)
    assert classify(caught.value) is OutOfMemoryError


def test_tensors_of_a_failed_attempt_are_freed_before_the_next_one():
    held = []

    def run(settings):
        if not held:
            big = torch.zeros(1000)
            held.append(weakref.ref(big))
            raise MemoryError
        return held[0]() is None

    assert run_within_memory(run, tiny.model(), Settings())


class Failing:
    """A U-Net that fails at gradients of several images, or of one image until it has failed once.

    Attributes:
        seen: Weak references to the memory of inputs, outputs and recorded activations.
        left: How many of them still exist at the first call after the failures.
    """

    def __init__(self, model, images, error):
        self.real, self.images, self.error = model.unet.forward, images, error
        self.seen, self.left, self.failures = [], None, 0

    def __call__(self, x, *args, **named):
        if self.failures and len(x) == 1 and self.left is None:
            self.left = sum(each() is not None for each in self.seen)
        output = self.real(x, *args, **named)
        self.add(x, output.sample)
        if x.requires_grad and len(x) >= self.images and (self.images > 1 or not self.failures):
            self.failures += 1
            raise type(self.error)(*self.error.args)
        return output

    def add(self, *tensors):
        self.seen += [weakref.ref(each.untyped_storage()) for each in tensors]


def execute(folder, model, sizes):
    """Execute a guided edit for an image of each size; equal sizes are one batch."""
    jobs = []
    for i, size in enumerate(sizes):
        file = folder / f"{i}.png"
        gradient(*size).rotate(180 * i).save(file)
        settings = {"guidance": ("cross-attention",), "guidance_scale": 3.0, "steps": 2}
        job = Job(file, PurePosixPath(file.name), {"to": "dog", "caption": "a cat"}, settings)
        jobs.append((job, SourceImage.read(file)))
    return BatchExecutor(model)(jobs)


def test_a_batch_that_ran_out_of_memory_is_freed_before_its_jobs_are_retried(tmp_path, monkeypatch):
    model = tiny.model()
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    model.unet.forward = failing = Failing(model, 2, error)
    inverted, invert_batch = [], zerocon.api.invert_batch

    def invert(images, *args, **named):
        inversion = invert_batch(images, *args, **named)
        inverted.append(len(images))
        maps = (part for level in inversion.observations for part in level.maps.values())
        failing.add(inversion.latents, inversion.eps, *maps)
        return inversion

    monkeypatch.setattr(zerocon.api, "invert_batch", invert)
    results = execute(tmp_path, model, [(48, 64), (48, 64)])
    assert [type(each) for each in results] == [ExecutedJob, ExecutedJob]
    assert inverted[0] == 2 and failing.failures == 1 + len(STEPS)
    assert failing.left == 0


def test_a_failed_job_holds_no_activations_while_others_run(tmp_path):
    model = tiny.model()
    model.unet.forward = failing = Failing(model, 1, KeyError("a bug"))
    results = execute(tmp_path, model, [(48, 64), (64, 64)])
    failed, edited = sorted(results, key=lambda each: isinstance(each, ExecutedJob))
    assert isinstance(failed, NoResult) and isinstance(failed.error, KeyError)
    assert isinstance(edited, ExecutedJob) and failing.failures == 1
    assert failing.left == 0


@pytest.mark.parametrize("second", [False, True])
def test_checkpointing_changes_no_bit(second):
    usual, spared = tiny.model(second=second), tiny.model(second=second)
    spared.runtime.checkpoint()
    assert edit(usual).image.tobytes() == edit(spared).image.tobytes()
    assert not [m for m in spared.unet.modules() if isinstance(m, attention.ExplicitAttention)]


def test_checkpointing_gives_the_gradients_of_several_losses():
    """Balanced losses take a gradient each through the same blocks."""
    edits = []
    for checkpointed in (False, True):
        model = tiny.model()
        if checkpointed:
            model.runtime.checkpoint()
        edits.append(edit(model, guidance_balance=1.0))
    assert edits[0].image.tobytes() == edits[1].image.tobytes()


def test_checkpointing_keeps_fewer_tensors():
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
    spared.runtime.checkpoint()
    assert saved(spared) < saved(usual) / 2


def test_tiles_of_a_trained_model_resemble_the_whole():
    model = zerocon.load("mini", device="cpu")
    x = model.encode(prepare(gradient(128, 96), model.working_size).pixels)
    whole = model.decode(x)
    model.runtime.tile()
    again, tiled = model.encode(whole.clamp(-1, 1)), model.decode(x)
    assert again.shape == x.shape and model.vae.use_tiling
    error = (tiled - whole).square().mean()
    assert 0 < error < 0.02, "23 dB: a tile lacks the context of the whole"


def test_offloading_changes_no_bit():
    usual, spared = tiny.model(), tiny.model()
    spared.runtime.offload()
    assert edit(usual).image.tobytes() == edit(spared).image.tobytes()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # of importing the compiler
@pytest.mark.parametrize("option", ["tile", "offload", "checkpoint", "compile"])
def test_an_option_is_off_again_after_its_block(option):
    model = tiny.model()
    before, outcome = model.runtime.compute_options(), edit(model).image.tobytes()
    forward = model.unet.forward
    with pytest.raises(ZeroDivisionError), model.runtime.using(getattr(model.runtime, option)):
        assert model.runtime.compute_options() != before
        raise ZeroDivisionError
    assert model.runtime.compute_options() == before
    assert not model.vae.use_tiling and not model.unet.is_gradient_checkpointing
    assert not hasattr(model.unet, "_hf_hook") and model.unet.forward == forward
    assert edit(model).image.tobytes() == outcome


def test_the_shipped_model_gives_the_same_bytes_before_and_after_a_retried_edit():
    model = zerocon.load("mini", device="cpu")
    settings = replace(model.settings, steps=3)
    words = {"to": "dog", "caption": "a cat", "settings": settings, "model": model}
    options = model.runtime.compute_options()
    before, forward = zerocon.edit(gradient(96, 64), **words).image.tobytes(), model.unet.forward
    warnings = []
    model.unet.forward = Short(model, len(STEPS))
    retried = zerocon.edit(gradient(96, 64), on_warning=warnings.append, **words).image.tobytes()
    model.unet.forward = forward
    retries = [each for each in warnings if each.startswith("out of memory")]
    assert [each.partition("; ")[2] for each in retries] == list(STEPS)
    assert retried != before, "tiles change pixels"
    assert model.runtime.compute_options() == options
    assert zerocon.edit(gradient(96, 64), **words).image.tobytes() == before


def test_the_model_is_restored_after_the_error_too():
    model = tiny.model()
    options, forward = model.runtime.compute_options(), model.unet.forward
    model.unet.forward = Short(model, 99)
    with pytest.raises(torch.OutOfMemoryError):
        edit(model)
    model.unet.forward = forward
    assert model.runtime.compute_options() == options


def test_other_threads_wait_for_a_retried_edit_and_compute_as_before():
    model = tiny.model()
    expected, seen = edit(model).image.tobytes(), []
    with ThreadPoolExecutor(1) as pool:
        for saving in model.runtime.memory_ladder():
            with saving.active:
                other = pool.submit(lambda: edit(model).image.tobytes())
                seen.append(other.done())
            seen.append(other.result(60) == expected)
    assert seen == [False, True] * len(STEPS[1:])


def test_the_ladder_offers_what_is_not_in_use():
    model = tiny.model()
    descriptions = lambda: [each.description for each in model.runtime.memory_ladder()]  # noqa: E731
    assert descriptions() == list(STEPS[1:])
    model.runtime.checkpoint()
    assert descriptions() == [STEPS[2]]
    model.runtime.tile()
    assert descriptions() == []


def test_on_the_command_line_it_is_a_warning_and_the_files_are_complete(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gradient(48, 64).save("cat.png")
    model = tiny.model()
    model.unet.forward = Short(model, 1)
    monkeypatch.setattr(zerocon, "load", lambda *_, **__: model, raising=False)
    done = CliRunner().invoke(main, ["edit", "cat.png", "--to", "dog", "--steps-dir", "steps"])
    assert done.exit_code == 0, done.output
    assert f"Warning: out of memory; {STEPS[0]}\n" in done.stderr
    assert len(list((tmp_path / "steps").iterdir())) == 4


class Empty:
    """A VAE decoder that runs out of memory in its first ``times`` calls."""

    def __init__(self, model, times):
        self.left, self.real = times, model.vae.decoder.forward

    def __call__(self, *args, **named):
        if self.left:
            self.left -= 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return self.real(*args, **named)


@pytest.mark.parametrize("times", [1, 2])
def test_a_retry_does_not_invert_again_and_gives_the_bytes_of_an_edit_with_less_memory(times):
    model, warnings = tiny.model(), []
    model.vae.decoder.forward = Empty(model, times)
    with count_evaluations() as spent:
        retried = edit(model, on_warning=warnings.append)
    assert sum(each.startswith("out of memory") for each in warnings) == times
    direct = tiny.model()
    settings = retried.settings
    assert not settings.cache_source
    once = zerocon.edit(
        gradient(48, 64), model=direct, to="dog", caption="a cat", settings=settings
    )
    assert retried.image.tobytes() == once.image.tobytes()
    assert retried.evaluations == once.evaluations, "the inversion's are counted"
    inverting = settings.steps + 1
    first = edit(tiny.model()).evaluations.forwards
    forwards = (once.evaluations.forwards - inverting) * times + first
    assert spent.forwards == forwards, "one inversion for all attempts"


def test_tiles_change_the_encoded_latents_so_that_they_are_inverted_again():
    model = tiny.model()
    model.vae.decoder.forward = Empty(model, 3)
    retried = edit(model)
    direct = tiny.model()
    with direct.runtime.using(direct.runtime.tile), direct.runtime.using(direct.runtime.checkpoint):
        settings = retried.settings
        words = {"to": "dog", "caption": "a cat", "settings": settings}
        once = zerocon.edit(gradient(48, 64), model=direct, **words)
    assert retried.compute == once.compute and retried.image.tobytes() == once.image.tobytes()


def test_a_given_inversion_is_used_without_its_activations_after_a_shortage():
    model = tiny.model()
    inversion = edit(model).inversion
    assert inversion.observation_bytes
    model.vae.decoder.forward = Empty(model, 1)
    with count_evaluations() as spent:
        edited = edit(model, inversion=inversion)
    assert edited.inversion.observation_bytes == 0
    assert spent.forwards == 3 * edited.settings.steps + edited.evaluations.forwards


# captioner and CLIP


class Moves(torch.nn.Linear):
    """A network that records where it is moved, without a device to be moved to."""

    def __init__(self):
        super().__init__(2, 2)
        self.moves = []

    @property
    def dtype(self):
        return self.weight.dtype

    def to(self, device):
        self.moves.append(str(device))
        return self


def on_device(model):
    """A companion on a device that this machine need not have, attached to ``model``."""
    companion = Companion(Moves(), None, None, "cuda")
    model.runtime.attach(companion)
    with companion.in_use() as device:
        assert str(device) == "cuda" and companion.on_device
    return companion


def test_companions_leave_the_device_before_the_inversion_and_stay_away():
    model = tiny.model()
    companion, forward = on_device(model), model.unet.forward
    seen = []

    def call(*args, **named):
        seen.append(companion.network.moves[-1])
        return forward(*args, **named)

    model.unet.forward = call
    edit(model)
    assert companion.network.moves == ["cuda", "cpu"] and set(seen) == {"cpu"}
    with companion.in_use():
        assert companion.network.moves[-1] == "cuda", "moved back for its next use"


def test_companions_are_parked_first_where_they_are_on_the_device():
    model, warnings, left = tiny.model(), [], [1]
    companion = on_device(model)

    def run(settings):
        with companion.in_use() as device:
            if left and str(device) != "cpu":
                raise torch.OutOfMemoryError("CUDA out of memory")
            assert settings.cache_source, "nothing else was given up"
            return str(device)

    settings = Settings(guidance=("cross-attention",))
    assert run_within_memory(run, model, settings, warnings.append) == "cpu"
    assert warnings == ["out of memory; computing captions and similarities in main memory"]
    assert not companion.parked and model.runtime.parking() is None


def test_a_parked_companion_is_taken_back_after_an_error_too():
    model = tiny.model()
    companion = on_device(model)
    parking = model.runtime.parking()
    with pytest.raises(ZeroDivisionError), parking.active:
        assert companion.parked and not companion.on_device
        raise ZeroDivisionError
    assert not companion.parked


def test_a_companion_is_in_half_precision_on_gpus_only():
    kinds = {torch.float32, torch.float16, torch.bfloat16}
    assert {companion_dtype(kind, torch.device("cpu")) for kind in kinds} == {torch.float32}
    cuda = {kind: companion_dtype(kind, torch.device("cuda")) for kind in kinds}
    half = torch.float16
    assert cuda == {torch.float32: torch.float32, torch.float16: half, torch.bfloat16: half}


# deterministic kernels


def test_deterministic_kernels_are_chosen_inside_an_edit_on_cuda_and_restored():
    def flags():
        return (
            torch.are_deterministic_algorithms_enabled(),
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.benchmark,
            torch.utils.deterministic.fill_uninitialized_memory,
        )

    torch.backends.cudnn.benchmark = True
    try:
        before = flags()
        with deterministic(torch.device("cpu")):
            assert flags() == before
        with pytest.raises(ZeroDivisionError), deterministic(torch.device("cuda")):
            with deterministic(torch.device("cuda")):
                assert flags() == (True, True, False, False)
            assert flags() == (True, True, False, False), "the outer block is open"
            raise ZeroDivisionError
        assert flags() == before
    finally:
        torch.backends.cudnn.benchmark = False
