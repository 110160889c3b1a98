"""The benchmark run on drawn scenes: tasks, metrics, and what methods share."""

import re
from collections import Counter
from dataclasses import replace
from itertools import combinations_with_replacement

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

import zerocon
from zerocon.bench import methods, runner
from zerocon.bench import tasks as drawn
from zerocon.bench.inputs import MethodResult, MethodSettings
from zerocon.bench.metrics import MAX_PSNR, evaluate
from zerocon.prompt import rewrite_caption
from zerocon.registry import split
from zerocon.settings import CHANGES, PRESETS, Settings, number_for
from zerocon.world import VALIDATION, caption, render, truth

# the model reads 14 letters of a caption: the caption's own direction is often zero
DEFAULTS = Settings(steps=2, guidance_scale=3.0, direction_from="bank")


class TrueClassifiers:
    """Classifiers that recognize the exact result; every other image counts as the source."""

    network = torch.nn.Identity()

    def __init__(self, task):
        self.task = task
        self.predictions = {render(task.target).tobytes(): truth(task.target)}

    def read(self, images, min_probability=0.0):
        source = truth(self.task.source)
        return [self.predictions.get(image.tobytes(), source) for image in images]

    def margins(self, images, pairs):
        read = self.read(images)
        return [
            {n: 5.0 if row[n] == new else -5.0 for n, (new, _) in pairs.items()} for row in read
        ]


@pytest.fixture(scope="module")
def tasks():
    return drawn.choose("validation", 8)


@pytest.fixture(scope="module")
def model():
    model = tiny.model()
    model.settings = DEFAULTS
    return model


def compare(model, task, *names, true_captions=True, **overrides):
    settings = MethodSettings(model.settings, overrides)
    run = runner.BenchmarkRun(model, TrueClassifiers(task), names, settings, true_captions)
    return {row.method: (row, image) for row, image in run.run(run.work([task]))}


def test_tasks_are_balanced_and_of_their_split(tasks):
    assert Counter(task.kind for task in tasks) == dict.fromkeys(drawn.KINDS, 8)
    assert all(task.seed in VALIDATION for task in tasks)
    assert tasks == drawn.choose("validation", 8)


def test_skip_leaves_out_the_first_scenes(tasks):
    later = [task for i, task in enumerate(tasks) if i % 8 >= 5]
    assert drawn.choose("validation", 3, skip=5) == later


def test_some_kinds_have_the_scenes_that_they_have_among_all(tasks):
    chosen = [task for task in tasks if task.kind in ("add", "style")]
    assert drawn.choose("validation", 8, kinds=("style", "add")) == chosen


def test_a_task_changes_as_many_parameters_as_its_kind_has(tasks):
    for task in tasks:
        assert len(task.changed) == (2 if task.kind == "two" else 1), task


def normalize(caption):
    """A caption in one of its equivalent wordings."""
    caption = re.sub("on the sea", "at sea", caption)
    caption = re.sub("watercolor painting", "watercolor", caption)
    caption = re.sub("in a (meadow|forest|city)", r"in the \1", caption)
    return re.sub("^a (picture|drawing) of ", "", caption)


def test_prompts_give_the_true_target_caption(tasks):
    """The source's true caption and the prompt are rewritten to the target's true caption."""
    for task in tasks:
        rewrite = rewrite_caption(caption(task.source), **task.prompt)
        assert normalize(rewrite.target_caption) == normalize(caption(task.target)), task.prompt


def test_metrics_of_the_exact_result_and_of_the_source(tasks):
    for task in tasks[::9]:
        stub, source, target = TrueClassifiers(task), render(task.source), render(task.target)
        exact = evaluate(task, target, source, stub)
        assert exact.success and exact.preserved
        assert exact.psnr_inside == MAX_PSNR and not exact.errors
        unedited = evaluate(task, source, source, stub)
        assert not unedited.success and unedited.preserved
        assert unedited.psnr_outside in (MAX_PSNR, None)
        assert (unedited.psnr_outside is None) == (task.kind == "time"), "that changes every pixel"
        assert unedited.psnr_inside < 40 and len(unedited.errors) == len(task.changed)
        scratch = evaluate(task, target, None, stub)
        assert scratch.success
        assert (scratch.preserved, scratch.psnr_inside, scratch.psnr_outside) == (None, None, None)


class Readings:
    """Classifiers that read the source, except for the given values of result and reference.

    ``result`` is the margin of the new values in the result; that of the source is -4 and that of
    the exact result 6.
    """

    def __init__(self, task, *changes, result=6.0):
        self.values = [truth(task.source) | change for change in changes]
        self.result = result

    def read(self, images, min_probability=0.0):
        return self.values[: len(images)]

    def margins(self, images, pairs):
        return [dict.fromkeys(pairs, value) for value in (self.result, -4.0, 6.0)]


def test_a_parameter_that_is_misread_on_the_reference_is_left_out(tasks):
    task = next(task for task in tasks if task.kind == "color")
    image, new = render(task.target), {"color": task.target.color}
    wrong = {"time": "unclear", "style": "none"}
    assert evaluate(task, image, image, Readings(task, new, {})).preserved
    for result, reference, preserved in (
        (new | wrong, {}, False),
        (new | {"time": "unclear"}, {}, False),
        (new | wrong, wrong, True),
        (new, wrong, True),
        (new | wrong, {"style": "none"}, False),
    ):
        metrics = evaluate(task, image, image, Readings(task, result, reference))
        assert metrics.success and metrics.preserved == preserved
        assert bool(metrics.errors) == (not preserved)
    unclear = evaluate(task, image, image, Readings(task, {"color": "unclear"}, {}))
    assert not unclear.success and unclear.preserved


def test_a_change_must_be_about_as_clear_as_in_the_exact_result(tasks):
    task = next(task for task in tasks if task.kind == "object")
    new = {"kind": task.target.kind}
    for margin, success in ((-4.0, False), (3.9, False), (4.1, True), (9.0, True)):
        stub = Readings(task, new, {}, result=margin)
        metrics = evaluate(task, task.truth, task.image, stub)
        assert metrics.success == success and metrics.preserved
        assert metrics.errors == (() if success else ("kind: less clear than in the exact result",))
    misread = evaluate(task, task.truth, task.image, Readings(task, {}, {}, result=0.0))
    assert misread.errors == (f"kind: {task.source.kind}, not {task.target.kind}",)


def test_a_removal_must_change_the_pixels_that_it_should(tasks):
    """Whatever the classifiers read."""
    for task in [task for task in tasks if task.kind == "remove"]:
        ((name, _),) = task.changed.items()
        stub, source, exact = Readings(task, {name: "none"}, {}), task.image, task.truth
        assert evaluate(task, exact, source, stub).success
        for share, success in ((0.1, False), (0.5, True)):
            result = Image.blend(source, exact, share)
            assert evaluate(task, result, source, stub).success == success
        kept = evaluate(task, source, source, stub)
        assert not kept.success and kept.preserved and kept.errors == (f"{name}: not removed",)


def test_a_shared_inversion_changes_neither_image_nor_cost(model, tasks):
    """Methods that share an inversion give what a single ``zerocon.edit`` gives."""
    # the model reads 14 letters of a caption, in which the color is named
    task = next(task for task in tasks if task.kind == "color" and task.source.style == "drawing")
    names = ("default", "plain-ddim", "caption", "no-guidance", "word-swap")
    for name, (row, image) in compare(model, task, *names, strength=1.5).items():
        settings = methods.METHODS[name]
        settings = Settings(**settings.recipe(MethodSettings(DEFAULTS, {"strength": 1.5})))
        alone = zerocon.edit(
            render(task.source, drawn.SIZE), model=model, settings=settings,
            caption=caption(task.source), **task.prompt,
        )  # fmt: skip
        assert image.tobytes() == alone.image.tobytes(), name
        assert row.evaluations == pytest.approx(alone.evaluations.total), name
        assert row.caption == caption(task.source) and row.seconds > 0
        assert row.target_caption == caption(task.target)


@pytest.mark.parametrize(
    "later",
    [{"guidance_range": (0.0, 1.0)}, {"begin": 0.0}, {"guidance_range": (0.0, 1.0), "begin": 0.0}],
)
def test_methods_that_need_other_activations_do_not_share_an_inversion(
    later, model, tasks, monkeypatch
):
    """Of the first one's inversion the second would have to compute activations again."""
    task = next(task for task in tasks if task.kind == "color" and task.source.style == "drawing")
    few = {"guidance": ("cross-attention",), "guidance_range": (0.0, 0.5), "begin": 0.5}
    few |= {"attention": (), "steps": 4}
    for name, fixed in {"few": few, "more": few | later}.items():
        monkeypatch.setitem(methods.METHODS, name, methods.ZeroconMethod(fixed=fixed))
    _, (row, image) = compare(model, task, "few", "more").values()
    alone, other = compare(model, task, "more")["more"]
    assert row.evaluations == alone.evaluations
    assert image.tobytes() == other.tobytes()


def test_a_batch_gives_the_same_as_single_edits(model, tasks):
    """Also if one task of the batch has a prompt that is refused."""
    brief = "pix2pix-zero:steps=3"
    names, some = ("vae", "from-scratch", "default", "no-guidance", brief), tasks[::20]
    broken = drawn.Task(some[1].seed, some[1].kind, some[1].source, some[1].source)
    some[1] = broken
    settings = MethodSettings(model.settings, {"begin": 0.0})  # of all kinds: else costs differ

    def edit(size):
        run = runner.BenchmarkRun(model, TrueClassifiers(some[0]), names, settings, True, size)
        return {(row.seed, row.method): (row, image) for row, image in run.run(run.work(some))}

    alone, together = edit(1), edit(4)
    assert len(some) == 4 and alone.keys() == together.keys() and len(alone) == 4 * len(names)
    for key, (row, image) in together.items():
        before, other = alone[key]
        assert row.evaluations == before.evaluations and row.target_caption == before.target_caption
        assert np.abs(np.int16(image) - np.int16(other)).max() <= 2, key
    assert together[broken.seed, "default"][0].target_caption.startswith("refused")


def test_bounds_are_the_source_its_reconstruction_and_an_image_from_scratch(model, tasks):
    task = tasks[0]
    results = compare(model, task, "identity", "vae", "from-scratch", "default")
    identity, image = results["identity"]
    assert image.tobytes() == render(task.source, drawn.SIZE).tobytes()
    assert identity.evaluations == 0 and identity.psnr_outside < MAX_PSNR
    assert results["vae"][0].psnr_outside == MAX_PSNR
    scratch, image = results["from-scratch"]
    assert image.size == (drawn.SIZE, drawn.SIZE) and scratch.evaluations == 2 * DEFAULTS.steps
    assert (scratch.preserved, scratch.both, scratch.psnr_outside) == (None, None, None)
    again = compare(model, task, "from-scratch")["from-scratch"][1]
    assert image.tobytes() == again.tobytes()


def test_without_true_captions_the_captioner_is_used(model, tasks):
    task = next(task for task in tasks if task.kind == "style")
    row, _ = compare(model, task, "default", true_captions=False)["default"]
    assert row.caption == "a cat on a bench"


def test_a_refused_prompt_counts_as_an_unchanged_image(model, tasks, monkeypatch):
    def refuse(*_, **__):
        raise ValueError("nothing to do")

    monkeypatch.setattr("zerocon.prompt.rewrite_caption", refuse)
    methods = ("default", "pix2pix-zero")
    for row, _ in compare(model, tasks[0], *methods, composite="model").values():
        assert not row.success and row.preserved and row.evaluations == 0
        assert row.psnr_outside == MAX_PSNR
        assert row.target_caption == "refused: nothing to do"


def test_a_wrong_setting_is_an_error_rather_than_a_refusal(model, tasks):
    with pytest.raises(ValueError, match="steps must be between 1 and 999"):
        compare(model, tasks[0], "default", steps=5000)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fast", {"steps": 2, "guidance": (), "guidance_scale": 4.0}),
        ("default", {"steps": 2, "attention": DEFAULTS.attention, "guidance_scale": 4.0}),
        ("paper", {"steps": 50, "attention": (), "push_limit": None, "guidance_scale": 4.0}),
        ("version-0.1", {"steps": 50, "attention": (), "guidance_scale": 1.5, "polyak_step": True}),
        ("no-guidance", {"guidance": ()}),
        ("cross-attention", {"guidance": ("cross-attention:weight=0.5",)}),
        ("contrastive", {"guidance": ("contrastive",)}),
        ("plain-ddim", {"source_correction": False}),
        ("word-swap", {"source_correction": False, "guidance": (), "strength": 1.0}),
    ],
)
def test_settings_of_a_method(name, expected):
    defaults = replace(
        DEFAULTS, guidance=("cross-attention:weight=0.5", "contrastive"), strength=2.0
    )
    recipe = methods.pick(name).recipe(MethodSettings(defaults, {"guidance_scale": 4.0}))
    assert {key: recipe[key] for key in expected} == expected


def test_version_0_1_takes_the_smallest_limit_of_several_changes():
    limits = {"attribute": 0.05, "time": 0.05, "place": 0.03, "style": 0.02}
    text = methods.VERSION_0_1["guidance_limit"]
    kinds = [kind for kind in CHANGES if kind not in ("several", "action")]  # 0.1 had neither
    for one, other in combinations_with_replacement(kinds, 2):
        changes = {one, other} if one == other else {one, other, "several"}
        expected = min(limits.get(kind, 0.01) for kind in (one, other))
        assert number_for(text, changes) == expected, changes


def test_options_override_a_preset_and_fixed_settings_override_options():
    settings = MethodSettings(DEFAULTS, {"steps": 7, "source_correction": True})
    assert methods.pick("fast").recipe(settings)["steps"] == 7
    assert methods.pick("plain-ddim").recipe(settings)["source_correction"] is False


@pytest.mark.parametrize(
    ("preset", "least", "most"), [("default", 60, 110), ("fast", 50, 73), ("paper", 257, 260)]
)
def test_evaluations_of_an_edit(preset, least, most, image):
    settings = replace(Settings().overlay(PRESETS[preset]), guidance_scale=5.0)
    edited = zerocon.edit(image, model=tiny.model(), to="dog", settings=settings)
    assert least < edited.evaluations.total <= most


def test_methods_are_split_at_commas():
    text = "default,pix2pix-zero:amount=0.1,guidance_scale=3,folder:path=/a=b/c,default"
    names = ("default", "pix2pix-zero:amount=0.1,guidance_scale=3", "folder:path=/a=b/c")
    assert split(text) == names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("best", 'no method "best"; there are: identity, vae'),
        ("fast:steps=3", "method fast has no options"),
        ("pix2pix-zero:amout=3", 'method pix2pix-zero has no option "amout"'),
        ("pix2pix-zero:guidance_scale=1", "pix2pix-zero needs a guidance scale above 1"),
        ("folder", "method folder needs the directory of its images: folder:path=DIR"),
        ("folder:dir=a", 'method folder has no option "dir"; there are: path'),
    ],
)
def test_a_wrong_method_is_refused_before_any_work(name, message, model, tasks):
    with pytest.raises(ValueError, match=re.escape(message)):
        runner.BenchmarkRun(model, TrueClassifiers(tasks[0]), (name,), MethodSettings(DEFAULTS))


@pytest.mark.parametrize("of", [1, 3, 7])
def test_shards_are_disjoint_and_complete(model, tasks, of):
    settings = MethodSettings(DEFAULTS)
    run = runner.BenchmarkRun(model, TrueClassifiers(tasks[0]), ("vae", "default"), settings)

    def jobs(tasks):
        return [(task.seed, name) for task, names in run.work(tasks) for name in names]

    parts = [job for i in range(of) for job in jobs(runner.share(tasks, i + 1, of))]
    assert len(parts) == len(set(parts)) == 2 * len(tasks)
    assert set(parts) == set(jobs(tasks))


def test_a_contact_sheet_shows_source_edit_and_exact_result(model, tasks):
    done = list(compare(model, tasks[0], "vae").values())
    page = runner.page(runner.cells(tasks[0], *done[0]))
    assert page.width == 6 * drawn.SIZE and page.height > drawn.SIZE
    third = (2 * drawn.SIZE, 0, 3 * drawn.SIZE, drawn.SIZE)
    assert page.crop(third).tobytes() == render(tasks[0].target).tobytes()


# at a render size


class Exact:
    """A method that gives the exact result, and a mask of the left half of the image."""

    def recipe(self, settings):
        return {}

    def __call__(self, batch, settings):
        return [self.result(source) for source in batch.sources]

    def result(self, source):
        mask = np.zeros((source.image.height, source.image.width), np.float32)
        mask[:, : source.image.width // 2] = 0.6
        return MethodResult(source.task.truth, mask=mask)


@pytest.fixture
def large(model, monkeypatch):
    """Rows by method of a task of 256 pixels, measured at that size unless ``native`` is False."""
    monkeypatch.setitem(methods.METHODS, "exact", Exact())

    def measure(task, *names, native=True):
        task = replace(task, size=256)
        run = runner.BenchmarkRun(
            model, TrueClassifiers(task), names, MethodSettings(DEFAULTS), True,
            render_size=256 if native else None,
        )  # fmt: skip
        return {row.method: (row, image) for row, image in run.run(run.work([task]))}

    return measure


def test_methods_edit_the_rendered_image_and_give_its_size(large, tasks):
    results = large(tasks[0], "identity", "vae", "default", "from-scratch", "exact")
    assert {image.size for _, image in results.values()} == {(256, 256)}
    source = render(tasks[0].source, 256)
    assert results["identity"][1].tobytes() == source.tobytes()
    assert all(row.setup["render_size"] == "256" for row, _ in results.values())


def test_with_a_render_size_the_reference_is_the_source(large, tasks):
    results = large(tasks[0], "identity", "vae")
    assert results["identity"][0].psnr_outside == MAX_PSNR > results["vae"][0].psnr_outside
    assert results["identity"][0].native.equal == 1.0 > results["vae"][0].native.equal
    results = large(tasks[0], "identity", "vae", native=False)
    assert results["identity"][0].psnr_outside < MAX_PSNR == results["vae"][0].psnr_outside
    assert {row.native for row, _ in results.values()} == {None}
    assert not any("render_size" in row.setup for row, _ in results.values())


def test_native_measurements_of_the_exact_result(large, tasks):
    results = large(tasks[0], "exact", "from-scratch", "identity")
    native = results["exact"][0].native
    assert native.inside_error == native.outside_error == native.whole_error == 0
    assert native.inside_samples > 0 and native.whole_samples == 3 * 256**2
    region = (np.array(render(tasks[0].source, 256)) != render(tasks[0].target, 256)).any(-1)
    left = np.arange(256)[None] < 128
    assert native.mask_iou == pytest.approx((region & left).sum() / (region | left).sum())
    assert results["identity"][0].native.mask_iou is None
    assert results["from-scratch"][0].native is None, "it ignores the source"


def test_a_task_is_rendered_once_for_all_methods_and_then_freed(large, tasks, monkeypatch):
    sizes = []

    def count(scene, size):
        sizes.append(size)
        return render(scene, size)

    monkeypatch.setattr(drawn, "render", count)
    large(tasks[0], "identity", "vae", "exact")
    assert sizes == [256, 256], "source and exact result"
    task = drawn.choose("validation", 1, size=64)[0]
    image = task.image
    assert task.image is image and image.size == (64, 64)
    task.free_images()
    assert task.image is not image and task.image.tobytes() == image.tobytes()


def test_a_contact_sheet_shows_large_images_reduced(large, tasks):
    task = replace(tasks[0], size=600)
    (row, _), image = large(tasks[0], "vae")["vae"], render(task.source, 600)
    assert runner.page(runner.cells(task, row, image)).width == 6 * runner.CELL
    assert image.size == task.image.size == (600, 600), "the images themselves stay"
