import re
from collections import Counter
from dataclasses import replace

import pytest
import tiny

from zerocon.bench import world as bench
from zerocon.settings import Settings
from zerocon.wording import understand
from zerocon.world import VALIDATION, caption, render, truth


class Seer:
    """Judges that know the scenes: whatever picture is not one of theirs is the source."""

    def __init__(self, case):
        self.case = case
        self.known = {render(case.target).tobytes(): truth(case.target)}

    def read(self, pictures):
        source = truth(self.case.source)
        return [self.known.get(picture.tobytes(), source) for picture in pictures]


@pytest.fixture(scope="module")
def cases():
    return bench.cases("validation", 8)


def test_cases_are_balanced_and_of_their_split(cases):
    assert Counter(case.kind for case in cases) == dict.fromkeys(bench.KINDS, 8)
    assert all(case.seed in VALIDATION for case in cases)
    assert cases == bench.cases("validation", 8)


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
        right = bench._judge(case, target, source, seer, 1.0, ("", ""))
        assert right.asked and right.kept and right.inside == float("inf") and not right.wrong
        wrong = bench._judge(case, source, source, seer, 1.0, ("", ""))
        assert not wrong.asked and wrong.kept and wrong.outside == float("inf")
        assert wrong.inside < 40 and len(wrong.wrong) == len(case.changed)


def test_scenes_are_edited_judged_and_tabled(cases):
    case = cases[0]
    model = tiny.model()
    model.settings = Settings(steps=2)
    done = list(bench.run(model, Seer(case), [case], model.settings, told=True))
    ((row, picture),) = done
    assert row.caption == caption(case.source) and row.target_caption == caption(case.target)
    assert row.evaluations > 0 and picture.size == (bench.SIZE, bench.SIZE)
    page = bench.page([case], done)
    assert page.width == 6 * bench.SIZE and page.height > bench.SIZE
    table = bench.table([row, replace(row, asked=True, inside=20.0)])
    assert "| object | 2 | 50 % | 100 % | 50 % |" in table


def test_a_refused_wish_counts_as_nothing_done(cases, monkeypatch):
    def refuse(*_, **__):
        raise ValueError("nothing to do")

    monkeypatch.setattr(bench.library, "edit", refuse)
    case = cases[0]
    ((row, _),) = bench.run(tiny.model(), Seer(case), [case], Settings(), told=True)
    assert not row.asked and row.kept and row.evaluations == 0
    assert row.target_caption == "refused: nothing to do"
