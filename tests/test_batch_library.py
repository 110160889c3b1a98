"""``zerocon.batch`` as a library: ``run``, ``plan``, events, and what it refuses."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from conftest import gradient
from PIL import Image

import zerocon
from zerocon import batch
from zerocon.batch.journal import FOLDER, Journal
from zerocon.batch.manifest import parse_setting
from zerocon.batch.parameters import BatchOptions, RunParameters
from zerocon.errors import (
    CommandError,
    FileFormatError,
    MethodError,
    OutputIsInputError,
    SettingError,
)
from zerocon.model.stable_diffusion import StableDiffusion
from zerocon.world import VALIDATION, render, sample


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    return tiny.model()


@pytest.fixture(autouse=True)
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with three images of one size."""
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        gradient(64, 48).rotate(90 * (number % 2)).save(Path("in", name))


@pytest.fixture
def arguments(model: StableDiffusion) -> dict[str, Any]:
    return {"to": "dog", "output": "out", "model": model, "steps": 2, "cache": False}


def states() -> dict[str, str]:
    journal = Journal(Path("out"))
    try:
        return {record.name: record.state for record in journal.records()}
    finally:
        journal.close()


def pixels(path: Path | str) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"), int)


def test_a_run_reports_every_job_and_returns_the_summary(arguments: dict[str, Any]) -> None:
    Path("in/d.png").write_bytes(b"not an image")
    events: list[batch.BatchEvent] = []
    summary = batch.run("in", **arguments, on_event=events.append)
    assert isinstance(events[0], batch.BatchStarted) and events[0].total == 4
    assert events[-1] is summary and not summary.complete
    done = [event for event in events if isinstance(event, batch.JobDone)]
    (failed,) = [event for event in events if isinstance(event, batch.JobFailed)]
    assert [event.output.name for event in done] == [f"{n}-dog-0.png" for n in "abc"]
    assert all(event.output.is_file() and event.evaluations for event in done)
    assert failed.job.image.name == "d.png" and failed.reason.endswith("]")
    finished = [event.finished for event in (*done, failed)]
    assert finished == sorted(finished) and finished[-1] == 4
    assert (summary.total, summary.done, summary.failed, summary.left) == (4, 3, 1, 0)
    assert [each.reason for each in summary.failures] == [failed.reason]
    assert summary.evaluations == sum(e.evaluations.total for e in done if e.evaluations)
    captions = '"a cat on a bench" -> "a dog on a bench"'
    assert str(done[-1]).endswith(f"/4] c-dog-0.png: {captions}") and "3 of 4 done" in str(summary)


def test_results_equal_those_of_edit(arguments: dict[str, Any], model: StableDiffusion) -> None:
    assert batch.run(["in/a.png", Path("in/b.png")], **arguments).complete
    for name in "ab":
        image = Image.open(f"in/{name}.png")
        settings = model.settings.overlay({"steps": 2})
        edited = zerocon.edit(image, model=model, to="dog", settings=settings)
        assert (pixels(f"out/{name}-dog-0.png") == np.asarray(edited.image.convert("RGB"))).all()


def test_settings_lie_over_those_of_the_model(
    arguments: dict[str, Any], model: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "settings", model.settings.overlay({"guidance_scale": 3.0}))
    options = {**arguments, "seed": [7], "preset": "fast", "strength": 0.5}
    assert batch.run("in/a.png", **options, guidance="none").complete
    settings = zerocon.Recipe.read(Path("out/a-dog-7.png")).settings
    assert (settings.steps, settings.seed, settings.strength) == (2, 7, 0.5)
    assert (settings.guidance_scale, settings.guidance) == (3, ())


def test_jobs_may_be_given_instead_of_images(arguments: dict[str, Any]) -> None:
    job = batch.Job(Path("in/a.png").absolute(), PurePosixPath("x/y.png"), {"to": "bus"})
    assert batch.run([job, "in/b.png"], **arguments).done == 2
    assert zerocon.Recipe.read(Path("out/x/y.png")).target_caption == "a bus on a bench"
    with pytest.raises(CommandError, match="would both be saved as"):
        batch.run([job, replace(job, image=Path("in/b.png"))], **arguments)


def test_the_same_call_again_runs_only_missing_jobs(arguments: dict[str, Any]) -> None:
    assert batch.run("in", **arguments).skipped == 0
    content = Path("out/a-dog-0.png").read_bytes()
    Path("out/b-dog-0.png").unlink()
    again = batch.run("in", **arguments)
    assert (again.skipped, again.edited, again.done) == (2, 1, 3)
    Path("out/a-dog-0.png").write_bytes(content[:50])
    rest = {name: arguments[name] for name in ("output", "model")}
    kept = batch.run(**rest, resume=True)
    assert (kept.skipped, kept.edited) == (3, 0) and "is kept" in kept.warnings[0].warnings[-1]
    resumed = batch.run(**rest, resume=True, overwrite=True)
    assert (resumed.skipped, resumed.edited, resumed.done) == (2, 1, 3)
    assert Path("out/a-dog-0.png").read_bytes() == content


def test_a_resumed_run_keeps_its_parameters_except_those_given() -> None:
    recorded = RunParameters("mini", {"dtype": "float16", "tile": True}, "none", True, False)
    options = BatchOptions.of(output="out", resume=True, metadata="minimal", dtype="float32")
    load = {"dtype": "float32", "tile": True}
    assert options.resumed(recorded).parameters == RunParameters(
        "mini", load, "minimal", True, False
    )


class Stop(Exception):
    """Raised by a callback to cancel a run."""


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
@pytest.mark.parametrize("when", [batch.BatchStarted, batch.JobDone])
def test_an_exception_of_on_event_stops_the_run_and_leaves_it_resumable(
    arguments: dict[str, Any], when: type, error: type[BaseException]
) -> None:
    def stop(event: batch.BatchEvent) -> None:
        if isinstance(event, when):
            raise error

    with pytest.raises(error):
        batch.run("in", **arguments, on_event=stop)
    recorded = states()
    assert set(recorded.values()) <= {"done", "queued"} and "queued" in recorded.values()
    written = {path.name for path in Path("out").glob("*.png")}
    assert written == {name for name, state in recorded.items() if state == "done"}
    assert [path.name for path in Path("out", FOLDER).iterdir() if path.is_file()] == [
        "journal.sqlite"
    ]
    summary = batch.run("in", **arguments)
    assert summary.complete and summary.skipped == len(written)


def test_an_interruption_is_an_event(
    arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    events: list[batch.BatchEvent] = []
    monkeypatch.setattr("zerocon.batch.executor.BatchExecutor.__call__", interrupt)
    with pytest.raises(KeyboardInterrupt):
        batch.run("in", **arguments, on_event=events.append)
    assert events[-1] == batch.BatchInterrupted(done=0, total=3)


def test_fail_fast_stops_at_the_first_failure(arguments: dict[str, Any]) -> None:
    Path("in/0.png").write_bytes(b"not an image")
    summary = batch.run("in", **arguments, fail_fast=True)
    assert summary.failed == 1 and summary.left > 0 and not summary.complete


def test_shards_are_disjoint_and_complete(arguments: dict[str, Any]) -> None:
    totals, names = [], []
    for part in (1, 2, 3):
        events: list[batch.BatchEvent] = []
        summary = batch.run("in", **arguments, shard=(part, 3), on_event=events.append)
        totals.append(summary.total)
        names += [event.job.name for event in events if isinstance(event, batch.JobDone)]
    assert sum(totals) == 3 and len(names) == len(set(names)) == 3


def test_a_plan_is_what_a_run_does_and_writes_nothing(arguments: dict[str, Any]) -> None:
    plan = batch.plan("in", **arguments, seed=[0, 1])
    assert not Path("out").exists()
    assert (plan.total, len(plan.jobs), plan.estimate.images) == (6, 6, 3)
    assert plan.estimate.seconds > 0 and plan.estimate.peak > 0
    summary = batch.run("in", **arguments, seed=[0, 1])
    assert summary.evaluations == pytest.approx(plan.estimate.evaluations.total)
    after = batch.plan("in", **arguments, seed=[0, 1])
    assert (len(after.jobs), len(after.skipped)) == (0, 6)


def test_values_that_are_not_finite_fail_one_image_only(
    arguments: dict[str, Any], model: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode, calls = model.vae.decode, iter(range(100))

    def broken(latents: torch.Tensor, **more: object) -> object:
        # two calls for each image: the edit and the source
        return decode(latents * float("nan") if next(calls) == 2 else latents, **more)

    monkeypatch.setattr(model.vae, "decode", broken)
    summary = batch.run("in", **arguments)
    assert [each.job.image.name for each in summary.failures] == ["b.png"]
    assert summary.failures[0].reason.endswith("[ZC-E072]")
    assert sorted(path.name for path in Path("out").glob("*.png")) == ["a-dog-0.png", "c-dog-0.png"]


@pytest.mark.parametrize("inputs", [[], ["in/a.txt"]])
def test_no_result_replaces_an_input(arguments: dict[str, Any], inputs: list[str]) -> None:
    Path("in/a.txt").write_text("text")
    before = Path("in/a.png").read_bytes()
    name = "in/a.txt.png" if inputs else "in/{stem}{suffix}"
    if inputs:
        Path("in/a.txt.png").symlink_to(Path("in/a.txt").absolute())
    options = {**arguments, "output": ".", "overwrite": True, "name": name, "inputs": inputs}
    with pytest.raises(OutputIsInputError):
        batch.run("in/a.png", **options)
    assert Path("in/a.png").read_bytes() == before and Path("in/a.txt").read_text() == "text"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"color": "red"}, SettingError, "no option or setting 'color'"),
        ({"steps": 0}, SettingError, "steps must be"),
        ({"guidance": "no-such"}, MethodError, "no-such"),
        ({"batch_size": 0}, SettingError, "batch_size must be a number from 1"),
        ({"devices": "some"}, SettingError, 'devices must be a number from 1, or "all"'),
        ({"backend": "threads"}, SettingError, "backend must be local or ray"),
        ({"metadata": "some"}, SettingError, "metadata must be one of"),
        ({"shard": (3, 2)}, SettingError, "shard must be"),
        ({"preset": "slow"}, CommandError, 'no preset "slow"'),
        ({"devices": 2}, CommandError, "give it by its name"),
        ({"images": "nothing"}, CommandError, "no such file"),
        ({"images": []}, CommandError, "name images"),
        ({"images": [], "resume": True}, CommandError, "out has no journal"),
    ],
)
def test_invalid_arguments_fail_before_any_edit(
    arguments: dict[str, Any], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as raised:
        batch.run(**{"images": "in", **arguments, **options})
    assert message in str(raised.value) and not Path("out").exists()


def test_a_journal_of_another_version_is_refused(arguments: dict[str, Any]) -> None:
    Path("out", FOLDER).mkdir(parents=True)
    with sqlite3.connect(Path("out", FOLDER, "journal.sqlite")) as connection:
        connection.execute("CREATE TABLE orders (name TEXT)")
        connection.execute("PRAGMA user_version = 1")
    with pytest.raises(FileFormatError, match="is a journal of format 1, this version of zerocon"):
        batch.run("in", **arguments)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("steps", "24", 24),
        ("strength", "1", 1.0),
        ("guidance_scale", "7", 7.0),
        ("guidance_scale", "7..3", (7.0, 3.0)),
        ("guidance_range", "0..0.6", (0.0, 0.6)),
        ("guidance_limit", "0.01,style=0.05", "0.01,style=0.05"),
        ("guidance", "contrastive:patches=64", ("contrastive:patches=64",)),
        ("reuse_prediction", "true", True),
        ("polyak_step", "no", False),
        ("inverter", "fixed-point:iterations=3", "fixed-point:iterations=3"),
        ("attention", "injection:self=0.5", ("injection:self=0.5",)),
        ("begin", "0.2", 0.2),
        ("seed", "x", "x"),
    ],
)
def test_settings_of_a_manifest_are_parsed_as_on_the_command_line(
    name: str, text: str, value: object
) -> None:
    parsed = parse_setting(name, text)
    assert parsed == value and type(parsed) is type(value)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four rendered images of one size."""
    folder = tmp_path_factory.mktemp("rendered")
    for number in range(4):
        render(sample(VALIDATION[number]), 128).save(folder / f"{number}.png")
    return folder


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    error = float(((first - second) ** 2).mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


def edit_mini(images: Path, output: str, batch_size: int, **settings: Any) -> list[Path]:
    arguments = {"to": "at night", "model": "mini", "steps": 8, "cache": False}
    assert batch.run(images, output=output, batch_size=batch_size, **arguments, **settings).complete
    return sorted(Path(output).glob("*.png"))


def test_without_guidance_a_batch_on_mini_equals_single_edits_up_to_rounding(
    rendered: Path,
) -> None:
    single = edit_mini(rendered, "single", 1, guidance="none")
    together = edit_mini(rendered, "together", 4, guidance="none")
    assert len(single) == len(together) == 4
    for one, other in zip(single, together, strict=True):
        assert np.abs(pixels(one) - pixels(other)).max() <= 2


def test_with_guidance_a_batch_on_mini_amplifies_rounding_and_is_reproducible(
    rendered: Path,
) -> None:
    single, together = edit_mini(rendered, "single", 1), edit_mini(rendered, "together", 4)
    again = edit_mini(rendered, "again", 4)
    for index, (one, other) in enumerate(zip(single, together, strict=True)):
        assert other.read_bytes() == again[index].read_bytes()
        assert psnr(pixels(one), pixels(other)) > 15
        different = single[(index + 1) % 4]
        assert psnr(pixels(different), pixels(other)) < 15


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, zerocon.batch, zerocon.batch.events, zerocon.batch.parameters\n"
    code += "print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "PIL"} & {*done.stdout.split()}
