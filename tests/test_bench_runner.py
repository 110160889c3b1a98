"""Methods compared on drawn scenes: what is asked, what is judged, what is shared."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

import zerocon
from zerocon.bench import methods, runner
from zerocon.bench import tasks as drawn
from zerocon.bench.inputs import MethodSettings
from zerocon.bench.metrics import EQUAL, judge
from zerocon.prompt import understand
from zerocon.settings import FAST, Settings
from zerocon.world import VALIDATION, caption, render, truth

OWN = Settings(steps=2, guidance_scale=3.0)


class Seer:
    """Judges that know the scenes: whatever picture is not one of theirs is the source."""

    network = torch.nn.Identity()

    def __init__(self, task):
        self.task = task
        self.known = {render(task.target).tobytes(): truth(task.target)}

    def read(self, images):
        source = truth(self.task.source)
        return [self.known.get(image.tobytes(), source) for image in images]


@pytest.fixture(scope="module")
def tasks():
    return drawn.choose("validation", 8)


@pytest.fixture(scope="module")
def model():
    made = tiny.model()
    made.settings = OWN
    return made


def compare(model, task, *names, told=True, **given):
    asked = MethodSettings(model.settings, given)
    comparison = runner.BenchmarkRun(model, Seer(task), names, asked, told)
    return {row.method: (row, p) for row, p in comparison.run(comparison.work([task]))}


def test_cases_are_balanced_and_of_their_split(tasks):
    assert Counter(task.kind for task in tasks) == dict.fromkeys(drawn.KINDS, 8)
    assert all(task.seed in VALIDATION for task in tasks)
    assert tasks == drawn.choose("validation", 8)


def test_skipping_gives_the_scenes_after_the_first(tasks):
    later = [task for i, task in enumerate(tasks) if i % 8 >= 5]
    assert drawn.choose("validation", 3, skip=5) == later


def test_a_case_changes_what_its_kind_says(tasks):
    for task in tasks:
        assert len(task.changed) == (2 if task.kind == "two" else 1), task


def plain(said):
    """A caption in one of its wordings: scenes say the same in several ways."""
    said = re.sub("on the sea", "at sea", said)
    said = re.sub("watercolor painting", "watercolor", said)
    said = re.sub("in a (meadow|forest|city)", r"in the \1", said)
    return re.sub("^a (picture|drawing) of ", "", said)


def test_wishes_lead_to_the_true_caption(tasks):
    """From the true caption and the few words of the wish, the tool writes the target's caption."""
    for task in tasks:
        said = understand(caption(task.source), **task.prompt)
        assert plain(said.target_caption) == plain(caption(task.target)), task.prompt


def test_the_truth_is_judged_right_and_the_source_wrong(tasks):
    for task in tasks[::9]:
        seer, source, target = Seer(task), render(task.source), render(task.target)
        right = judge(task, target, source, seer)
        assert right.asked and right.kept and right.inside == EQUAL and not right.wrong
        wrong = judge(task, source, source, seer)
        assert not wrong.asked and wrong.kept and wrong.outside in (EQUAL, None)
        assert (wrong.outside is None) == (task.kind == "time"), "that changes every pixel"
        assert wrong.inside < 40 and len(wrong.wrong) == len(task.changed)
        made = judge(task, target, None, seer)
        assert made.asked and (made.kept, made.inside, made.outside) == (None, None, None)


def test_a_shared_inversion_changes_neither_picture_nor_cost(model, tasks):
    """Methods side by side give what ``zerocon.edit`` gives on its own."""
    task = tasks[0]
    names = ("default", "plain-ddim", "caption", "no-guidance", "word-swap")
    for name, (row, image) in compare(model, task, *names, strength=1.5).items():
        settings = methods.METHODS[name]
        settings = Settings(**settings.recipe(MethodSettings(OWN, {"strength": 1.5})))
        alone = zerocon.edit(
            render(task.source, drawn.SIZE), model=model, settings=settings,
            caption=caption(task.source), **task.prompt,
        )  # fmt: skip
        assert image.tobytes() == alone.image.tobytes(), name
        assert row.evaluations == pytest.approx(alone.evaluations.total), name
        assert row.caption == caption(task.source) and row.seconds > 0
        assert row.target_caption == caption(task.target)


def test_scenes_edited_together_come_out_as_they_do_alone(model, tasks):
    """Also beside one whose wish is refused."""
    names, some = ("vae", "from-scratch", "default", "no-guidance", "pix2pix-zero"), tasks[::20]
    broken = drawn.Task(some[1].seed, some[1].kind, some[1].source, some[1].source)
    some[1] = broken
    asked = MethodSettings(model.settings, {})

    def run(size):
        comparison = runner.BenchmarkRun(model, Seer(some[0]), names, asked, True, size)
        return {(r.seed, r.method): (r, p) for r, p in comparison.run(comparison.work(some))}

    alone, together = run(1), run(4)
    assert len(some) == 4 and alone.keys() == together.keys() and len(alone) == 4 * len(names)
    for key, (row, image) in together.items():
        before, other = alone[key]
        assert row.evaluations == before.evaluations and row.target_caption == before.target_caption
        assert np.abs(np.int16(image) - np.int16(other)).max() <= 2, key
    assert together[broken.seed, "default"][0].target_caption.startswith("refused")


def test_bounds_are_the_source_its_reconstruction_and_a_picture_from_nothing(model, tasks):
    task = tasks[0]
    found = compare(model, task, "identity", "vae", "from-scratch", "default")
    identity, image = found["identity"]
    assert image.tobytes() == render(task.source, drawn.SIZE).tobytes()
    assert identity.evaluations == 0 and identity.outside < EQUAL
    assert found["vae"][0].outside == EQUAL
    scratch, image = found["from-scratch"]
    assert image.size == (drawn.SIZE, drawn.SIZE) and scratch.evaluations == 2 * OWN.steps
    assert (scratch.kept, scratch.both, scratch.outside) == (None, None, None)
    again = compare(model, task, "from-scratch")["from-scratch"][1]
    assert image.tobytes() == again.tobytes()


def test_without_telling_the_captioner_is_asked(model, tasks):
    task = next(task for task in tasks if task.kind == "style")
    assert compare(model, task, "default", told=False)["default"][0].caption == "a cat on a bench"


def test_a_refused_wish_counts_as_nothing_done(model, tasks, monkeypatch):
    def refuse(*_, **__):
        raise ValueError("nothing to do")

    monkeypatch.setattr(zerocon.library, "understand", refuse)
    for row, _ in compare(model, tasks[0], "default", "pix2pix-zero").values():
        assert not row.asked and row.kept and row.evaluations == 0 and row.outside == EQUAL
        assert row.target_caption == "refused: nothing to do"


def test_a_mistake_is_no_refusal(model, tasks):
    with pytest.raises(ValueError, match="steps must be between 1 and 999"):
        compare(model, tasks[0], "default", steps=5000)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fast", {"steps": 24, "reuse_prediction": True, "guidance_scale": 4.0}),
        ("default", {"steps": 2, "reuse_prediction": False, "guidance_scale": 4.0}),
        ("no-guidance", {"guidance": ()}),
        ("cross-attention", {"guidance": ("cross-attention:weight=0.5",)}),
        ("contrastive", {"guidance": ("contrastive",)}),
        ("plain-ddim", {"source_correction": False}),
        ("word-swap", {"source_correction": False, "guidance": (), "strength": 1.0}),
    ],
)
def test_settings_of_a_method(name, said):
    own = replace(OWN, guidance=("cross-attention:weight=0.5", "contrastive"), strength=2.0)
    recipe = methods.pick(name).recipe(MethodSettings(own, {"guidance_scale": 4.0}))
    assert {key: recipe[key] for key in said} == said


def test_the_user_is_stronger_than_fast_and_the_method_stronger_than_the_user():
    asked = MethodSettings(OWN, {"steps": 7, "source_correction": True})
    assert methods.pick("fast").recipe(asked)["steps"] == 7
    assert methods.pick("plain-ddim").recipe(asked)["source_correction"] is False


@pytest.mark.parametrize(("settings", "most"), [({}, 260), (FAST, 90)])
def test_evaluations_of_an_edit(settings, most, image):
    edited = zerocon.edit(
        image, model=tiny.model(), to="dog", settings=Settings().overlay(settings)
    )
    assert most - 3 < edited.evaluations.total <= most


def test_methods_are_told_apart_at_commas():
    text = "default,pix2pix-zero:amount=0.1,scale=3,pix2pix-zero:amount=0.3,default"
    names = ("default", "pix2pix-zero:amount=0.1,scale=3", "pix2pix-zero:amount=0.3")
    assert methods.split(text) == names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("best", 'no method "best"; there are: identity, vae'),
        ("fast:steps=3", "method fast has no options"),
        ("pix2pix-zero:amout=3", 'method pix2pix-zero has no option "amout"'),
        ("pix2pix-zero:scale=1", "pix2pix-zero needs a scale above 1"),
    ],
)
def test_a_bad_method_is_said_before_any_work(name, message, model, tasks):
    with pytest.raises(ValueError, match=re.escape(message)):
        runner.BenchmarkRun(model, Seer(tasks[0]), (name,), MethodSettings(OWN))


@pytest.mark.parametrize("of", [1, 3, 7])
def test_shards_together_are_the_whole_and_share_nothing(model, tasks, of):
    comparison = runner.BenchmarkRun(model, Seer(tasks[0]), ("vae", "default"), MethodSettings(OWN))

    def jobs(tasks):
        return [(c.seed, name) for c, names in comparison.work(tasks) for name in names]

    parts = [job for i in range(of) for job in jobs(runner.share(tasks, i + 1, of))]
    assert len(parts) == len(set(parts)) == 2 * len(tasks)
    assert set(parts) == set(jobs(tasks))


def test_a_page_shows_source_edit_and_truth(model, tasks):
    done = list(compare(model, tasks[0], "vae").values())
    page = runner.page(tasks[:1], done)
    assert page.width == 6 * drawn.SIZE and page.height > drawn.SIZE
