"""The review of an edited image: how much changed, and whether it is the target caption."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
from click.testing import CliRunner
from PIL import Image

import zerocon
from zerocon.cli import main
from zerocon.diagnostics.review import EditReview, doubts, is_unlike_target, mean_change
from zerocon.request import EditRequest, parse_request

FOX = Path(__file__).parent.parent / "examples" / "fox.png"
NIGHT = ["edit", str(FOX), "--to", "at night", "--model", "mini", "--fast"]


class CatClip:
    """Any image is similar to sentences about cats by 0.3, to others by 0.2."""

    max_tokens = 77

    def unread_text(self, text: str) -> str:
        return ""

    def similarity(self, image: Image.Image, texts: Sequence[str]) -> list[float]:
        return [0.3 if "cat" in text else 0.2 for text in texts]


@pytest.fixture
def request_(image: Image.Image) -> EditRequest:
    """Cat to dog, of an image whose cosines are 0.3 to the source caption, 0.2 to the target."""
    model = tiny.model()
    model._load_scorer = CatClip  # type: ignore[assignment]
    return parse_request(image, model, to="dog")


# the amount of change


def plain(level: int, width: int = 16) -> np.ndarray:
    return np.full((16, width, 3), level, np.uint8)


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        (plain(7), plain(7), 0),
        (plain(7), plain(17), 10),
        (plain(255), plain(0), 255),
        (plain(7, 32), np.hstack([plain(7), plain(17)]), 10),  # half of the image
        (plain(50, 160), np.hstack([plain(50, 159), plain(40, 1)]), 10),  # a 160th of it
        (plain(50, 32), np.hstack([plain(60), plain(80)]), (100 + 900) / (10 + 30)),
        (plain(50), plain(50) + np.array([0, 0, 30], np.uint8), 30),  # one channel
    ],
)
def test_mean_change_is_that_of_the_changed_samples(before, after, change) -> None:
    images = Image.fromarray(before), Image.fromarray(after)
    assert mean_change(*images) == mean_change(*reversed(images)) == pytest.approx(change)


# warnings


@pytest.mark.parametrize(
    ("before", "after", "unlike"),
    [
        ((0.30, 0.20), (0.30, 0.20), True),  # nothing changed
        ((0.30, 0.20), (0.28, 0.22), True),  # 0.06 of 0.10 are left
        ((0.30, 0.20), (0.27, 0.23), False),  # 0.04 are left
        ((0.30, 0.20), (0.20, 0.30), False),
        ((0.30, 0.20), (0.32, 0.15), True),  # the other way
        ((0.20, 0.30), (0.20, 0.31), False),  # the target was closer before
        ((0.20, 0.30), (0.20, 0.30), False),
        ((0.20, 0.30), (0.24, 0.30), True),
    ],
)
def test_half_of_the_source_captions_lead_must_go(before, after, unlike: bool) -> None:
    assert is_unlike_target(before, after) == unlike


@pytest.mark.parametrize(
    ("review", "settings", "expected"),
    [
        (EditReview(60.0, (0.2, 0.3)), {}, ""),
        (EditReview(8.04, (0.2, 0.3)), {}, "little changed: 8.0 of 255 levels; try a larger"),
        (EditReview(8.04, (0.3, 0.2)), {}, "little changed: 8.0 of 255 levels; try a larger"),
        (EditReview(0.0, (0.3, 0.2)), {}, ""),  # the compositing reports it
        (EditReview(8.04, (0.2, 0.3)), {"composite": "model"}, ""),
        (
            EditReview(60.0, (0.29, 0.21)),
            {},
            "the result does not look like the target caption: CLIP 0.210, source caption 0.290 "
            "(before the edit 0.200 and 0.300)",
        ),
        (EditReview(60.0, (0.29, 0.21)), {"strength": -1.0}, ""),
        (EditReview(60.0, None), {}, ""),
    ],
)
def test_doubtful_results_have_one_warning(review, settings, expected, request_) -> None:
    warnings = doubts(review, request_, replace(zerocon.Settings(), **settings))
    assert len(warnings) == bool(expected)
    assert "".join(warnings).startswith(expected)


# in an edit


def test_an_edit_is_reviewed_as_it_is_written(image: Image.Image) -> None:
    model = tiny.model()
    model._load_scorer = CatClip  # type: ignore[assignment]
    shown: list[str] = []
    edited = zerocon.edit(image, to="dog", model=model, on_warning=shown.append)
    assert edited.review == EditReview(mean_change(image, edited.image), (0.3, 0.2))
    assert doubts(edited.review, edited.request, edited.settings)[0] in edited.warnings
    assert shown == list(edited.warnings)


def test_without_clip_or_target_caption_only_the_change_is_reviewed(image: Image.Image) -> None:
    model = tiny.model()
    edited = zerocon.edit(image, to="dog", model=model)
    assert edited.review is not None and edited.review.similarity is None
    model._load_scorer = CatClip  # type: ignore[assignment]
    direction = zerocon.Direction.of_words(model, "cat", "dog")
    directed = zerocon.edit(image, directions=[(direction, 1.0)], model=model)
    assert directed.review is not None and directed.review.similarity is None
    assert directed.review.changed > 0


def test_a_good_edit_of_the_embedded_model_has_no_warning(tmp_path: Path) -> None:
    output = tmp_path / "night.png"
    done = CliRunner().invoke(main, [*NIGHT, "-o", str(output), "--format", "json"])
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    result, before = record["result"], record["similarity"]
    assert result["similarity"]["target"] > result["similarity"]["source"]
    assert result["similarity"]["source"] < before["caption"]
    assert result["similarity"]["target"] > before["target_caption"]
    source, written = Image.open(FOX).convert("RGB"), Image.open(output)
    assert result["changed"] == round(mean_change(source, written), 2) > 30
    assert record["warnings"] == []


@pytest.mark.parametrize("strength", ["0.05", "0.2"])
def test_a_weak_edit_of_the_embedded_model_has_a_warning(strength: str, tmp_path: Path) -> None:
    options = ["--strength", strength, "-o", str(tmp_path / "night.png"), "--format", "json"]
    done = CliRunner().invoke(main, [*NIGHT, *options])
    assert done.exit_code == 0, done.output
    (warning,) = json.loads(done.stdout)["warnings"]
    assert warning.startswith(("little changed: ", "the result does not look like the target"))
    assert f"Warning: {warning}" in done.stderr.splitlines()


def test_a_dry_run_has_no_result(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, [*NIGHT, "--dry-run", "--format", "json"])
    assert json.loads(done.stdout)["result"] is None


def test_a_batch_has_the_warning_of_each_image(tmp_path: Path) -> None:
    command = ["batch", str(FOX), *NIGHT[2:], "--strength", "0.05", "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(main, [*command, "--no-cache", "--format", "jsonl"])
    assert done.exit_code == 0, done.output
    events = [json.loads(line) for line in done.stdout.splitlines()]
    (warnings,) = [each["warnings"] for each in events if each.get("event") == "done"]
    assert any(line.startswith("little changed: ") for line in warnings)
