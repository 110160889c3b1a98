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
from zerocon.bench.inputs import Asked
from zerocon.bench.metrics import EQUAL, judge
from zerocon.prompt import understand
from zerocon.settings import FAST, Settings
from zerocon.world import VALIDATION, caption, render, truth

OWN = Settings(steps=2, scale=3.0)


class Seer:
    """Judges that know the scenes: whatever picture is not one of theirs is the source."""

    network = torch.nn.Identity()

    def __init__(self, case):
        self.case = case
        self.known = {render(case.target).tobytes(): truth(case.target)}

    def read(self, pictures):
        source = truth(self.case.source)
        return [self.known.get(picture.tobytes(), source) for picture in pictures]


@pytest.fixture(scope="module")
def cases():
    return drawn.choose("validation", 8)


@pytest.fixture(scope="module")
def model():
    made = tiny.model()
    made.settings = OWN
    return made


def compare(model, case, *names, told=True, **given):
    asked = Asked(model.settings, given)
    comparison = runner.Comparison(model, Seer(case), names, asked, told)
    return {row.method: (row, p) for row, p in comparison.run(comparison.work([case]))}


def test_cases_are_balanced_and_of_their_split(cases):
    assert Counter(case.kind for case in cases) == dict.fromkeys(drawn.KINDS, 8)
    assert all(case.seed in VALIDATION for case in cases)
    assert cases == drawn.choose("validation", 8)


def test_skipping_gives_the_scenes_after_the_first(cases):
    later = [case for i, case in enumerate(cases) if i % 8 >= 5]
    assert drawn.choose("validation", 3, skip=5) == later


def test_a_case_changes_what_its_kind_says(cases):
    for case in cases:
        assert len(case.changed) == (2 if case.kind == "two" else 1), case


def plain(said):
    """A caption in one of its wordings: scenes say the same in several ways."""
    said = re.sub("on the sea", "at sea", said)
    said = re.sub("watercolor painting", "watercolor", said)
    said = re.sub("in a (meadow|forest|city)", r"in the \1", said)
    return re.sub("^a (picture|drawing) of ", "", said)


def test_wishes_lead_to_the_true_caption(cases):
    """From the true caption and the few words of the wish, the tool writes the target's caption."""
    for case in cases:
        said = understand(caption(case.source), **case.wish)
        assert plain(said.target_caption) == plain(caption(case.target)), case.wish


def test_the_truth_is_judged_right_and_the_source_wrong(cases):
    for case in cases[::9]:
        seer, source, target = Seer(case), render(case.source), render(case.target)
        right = judge(case, target, source, seer)
        assert right.asked and right.kept and right.inside == EQUAL and not right.wrong
        wrong = judge(case, source, source, seer)
        assert not wrong.asked and wrong.kept and wrong.outside in (EQUAL, None)
        assert (wrong.outside is None) == (case.kind == "time"), "that changes every pixel"
        assert wrong.inside < 40 and len(wrong.wrong) == len(case.changed)
        made = judge(case, target, None, seer)
        assert made.asked and (made.kept, made.inside, made.outside) == (None, None, None)


def test_a_shared_inversion_changes_neither_picture_nor_cost(model, cases):
    """Methods side by side give what ``zerocon.edit`` gives on its own."""
    case = cases[0]
    names = ("default", "plain-ddim", "caption", "no-guidance", "word-swap")
    for name, (row, picture) in compare(model, case, *names, strength=1.5).items():
        settings = methods.METHODS[name]
        settings = Settings(**settings.recipe(Asked(OWN, {"strength": 1.5})))
        alone = zerocon.edit(
            render(case.source, drawn.SIZE), model=model, settings=settings,
            caption=caption(case.source), **case.wish,
        )  # fmt: skip
        assert picture.tobytes() == alone.picture.tobytes(), name
        assert row.evaluations == pytest.approx(alone.evaluations.total), name
        assert row.caption == caption(case.source) and row.seconds > 0
        assert row.target_caption == caption(case.target)


def test_scenes_edited_together_come_out_as_they_do_alone(model, cases):
    """Also beside one whose wish is refused."""
    names, some = ("vae", "from-scratch", "default", "no-guidance", "pix2pix-zero"), cases[::20]
    broken = drawn.Case(some[1].seed, some[1].kind, some[1].source, some[1].source)
    some[1] = broken
    asked = Asked(model.settings, {})

    def run(size):
        comparison = runner.Comparison(model, Seer(some[0]), names, asked, True, size)
        return {(r.seed, r.method): (r, p) for r, p in comparison.run(comparison.work(some))}

    alone, together = run(1), run(4)
    assert len(some) == 4 and alone.keys() == together.keys() and len(alone) == 4 * len(names)
    for key, (row, picture) in together.items():
        before, other = alone[key]
        assert row.evaluations == before.evaluations and row.target_caption == before.target_caption
        assert np.abs(np.int16(picture) - np.int16(other)).max() <= 2, key
    assert together[broken.seed, "default"][0].target_caption.startswith("refused")


def test_bounds_are_the_source_its_reconstruction_and_a_picture_from_nothing(model, cases):
    case = cases[0]
    found = compare(model, case, "identity", "vae", "from-scratch", "default")
    identity, picture = found["identity"]
    assert picture.tobytes() == render(case.source, drawn.SIZE).tobytes()
    assert identity.evaluations == 0 and identity.outside < EQUAL
    assert found["vae"][0].outside == EQUAL
    scratch, picture = found["from-scratch"]
    assert picture.size == (drawn.SIZE, drawn.SIZE) and scratch.evaluations == 2 * OWN.steps
    assert (scratch.kept, scratch.both, scratch.outside) == (None, None, None)
    again = compare(model, case, "from-scratch")["from-scratch"][1]
    assert picture.tobytes() == again.tobytes()


def test_without_telling_the_captioner_is_asked(model, cases):
    case = next(case for case in cases if case.kind == "style")
    assert compare(model, case, "default", told=False)["default"][0].caption == "a cat on a bench"


def test_a_refused_wish_counts_as_nothing_done(model, cases, monkeypatch):
    def refuse(*_, **__):
        raise ValueError("nothing to do")

    monkeypatch.setattr(zerocon.library, "understand", refuse)
    for row, _ in compare(model, cases[0], "default", "pix2pix-zero").values():
        assert not row.asked and row.kept and row.evaluations == 0 and row.outside == EQUAL
        assert row.target_caption == "refused: nothing to do"


def test_a_mistake_is_no_refusal(model, cases):
    with pytest.raises(ValueError, match="steps must be between 1 and 999"):
        compare(model, cases[0], "default", steps=5000)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fast", {"steps": 24, "looks": 1, "scale": 4.0}),
        ("default", {"steps": 2, "looks": 2, "scale": 4.0}),
        ("no-guidance", {"guidance": ()}),
        ("cross-attention", {"guidance": ("cross-attention:weight=0.5",)}),
        ("contrastive", {"guidance": ("contrastive",)}),
        ("plain-ddim", {"corrected": False}),
        ("word-swap", {"corrected": False, "guidance": (), "strength": 1.0}),
    ],
)
def test_settings_of_a_method(name, said):
    own = replace(OWN, guidance=("cross-attention:weight=0.5", "contrastive"), strength=2.0)
    recipe = methods.pick(name).recipe(Asked(own, {"scale": 4.0}))
    assert {key: recipe[key] for key in said} == said


def test_the_user_is_stronger_than_fast_and_the_method_stronger_than_the_user():
    asked = Asked(OWN, {"steps": 7, "corrected": True})
    assert methods.pick("fast").recipe(asked)["steps"] == 7
    assert methods.pick("plain-ddim").recipe(asked)["corrected"] is False


@pytest.mark.parametrize(("settings", "most"), [({}, 260), (FAST, 90)])
def test_evaluations_of_an_edit(settings, most, picture):
    edited = zerocon.edit(
        picture, model=tiny.model(), to="dog", settings=Settings().overlay(settings)
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
def test_a_bad_method_is_said_before_any_work(name, message, model, cases):
    with pytest.raises(ValueError, match=re.escape(message)):
        runner.Comparison(model, Seer(cases[0]), (name,), Asked(OWN))


@pytest.mark.parametrize("of", [1, 3, 7])
def test_shards_together_are_the_whole_and_share_nothing(model, cases, of):
    comparison = runner.Comparison(model, Seer(cases[0]), ("vae", "default"), Asked(OWN))

    def jobs(cases):
        return [(c.seed, name) for c, names in comparison.work(cases) for name in names]

    parts = [job for i in range(of) for job in jobs(runner.share(cases, i + 1, of))]
    assert len(parts) == len(set(parts)) == 2 * len(cases)
    assert set(parts) == set(jobs(cases))


def test_a_page_shows_source_edit_and_truth(model, cases):
    done = list(compare(model, cases[0], "vae").values())
    page = runner.page(cases[:1], done)
    assert page.width == 6 * drawn.SIZE and page.height > drawn.SIZE
