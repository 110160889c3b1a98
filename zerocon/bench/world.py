"""Edits of drawn scenes, judged against the truth: was it done, and did the rest stay?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import inf, log10
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from PIL import Image

from zerocon import library
from zerocon.images import fit, sheet, unfit
from zerocon.settings import Settings
from zerocon.world import TEST, VALIDATION, Scene, edits, phrase, render, sample, truth
from zerocon.world import caption as caption_of

if TYPE_CHECKING:
    from zerocon.bench.judges import Judges
    from zerocon.model import Model

SPLITS = {"validation": VALIDATION, "test": TEST}
KINDS = ("object", "colour", "add", "remove", "place", "time", "style", "two")
SIZE = 128


class Wish(TypedDict, total=False):
    """What is asked of ``zerocon.edit``, by its parameters' names."""

    to: str
    source: str
    to_caption: str


@dataclass(frozen=True)
class Case:
    """One wish about one scene, and the scene that would fulfil it exactly."""

    seed: int
    kind: str
    source: Scene
    target: Scene

    @property
    def changed(self) -> dict[str, tuple[str, str]]:
        """Named parameters that should change: name -> (before, after)."""
        before, after = truth(self.source), truth(self.target)
        return {name: (before[name], after[name]) for name in before if before[name] != after[name]}

    @property
    def wish(self) -> Wish:
        """What a person would tell ``zerocon.edit``: a word where one will do."""
        if len(self.changed) > 1:
            return {"to_caption": caption_of(self.target)}
        ((name, (before, after)),) = self.changed.items()
        if name == "companion" and before == "none":  # "a cat" alone would replace the subject
            near = "with" if f"with a {after}" in caption_of(self.target) else "next to"
            return {"to": f"{near} {phrase(name, after)}"}
        if name == "accessory" and before == "none":
            return {"to": phrase(name, after)}
        return {"source": phrase(name, before), "to": phrase(name, after)}


@dataclass(frozen=True)
class Row:
    """One edit and its verdicts.

    ``asked``: every judge of a changed parameter sees its new value. ``kept``: every other judge
    says what it says of the source's reconstruction. ``inside``: PSNR in dB to the true result in
    the region that should change; ``outside``: to the source's reconstruction elsewhere.
    """

    seed: int
    kind: str
    caption: str
    target_caption: str
    asked: bool
    kept: bool
    inside: float
    outside: float
    evaluations: float
    wrong: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """In a few words."""
        return "; ".join(self.wrong) or f"{self.kind}: right"


def cases(split: str, per_kind: int) -> list[Case]:
    """The first ``per_kind`` cases of every kind of edit in a split, in order of their seeds."""
    found: dict[str, list[Case]] = {kind: [] for kind in KINDS}
    for seed in SPLITS[split]:
        scene = sample(seed)
        target, kind = edits(scene, 0)
        if len(found[kind]) < per_kind:
            found[kind].append(Case(seed, kind, scene, target))
        if all(len(full) == per_kind for full in found.values()):
            break
    return [case for kind in KINDS for case in found[kind]]


def run(
    model: Model, judges: Judges, todo: Sequence[Case], settings: Settings, *, told: bool = False
) -> Iterator[tuple[Row, Image.Image]]:
    """Edit and judge each case; ``told`` gives the true caption instead of asking the captioner.

    A wish that the tool refuses is a row with nothing asked and nothing changed: the picture.
    """
    for case in todo:
        picture = render(case.source, SIZE)
        working = fit(picture, model.size, model.multiple)
        kept = unfit(model.decode(model.encode(working.pixels))[0], working.frame)
        caption = caption_of(case.source) if told else None
        try:
            edited = library.edit(
                picture, model=model, settings=settings, caption=caption, **case.wish
            )
            result, said, cost = edited.picture, edited.wording, edited.evaluations.total
            sentences = said.caption, said.target_caption
        except ValueError as refusal:
            result, cost, sentences = kept, 0.0, (caption or "", f"refused: {refusal}")
        yield _judge(case, result, kept, judges, cost, sentences), result


def _judge(
    case: Case,
    result: Image.Image,
    kept: Image.Image,
    judges: Judges,
    cost: float,
    sentences: tuple[str, str],
) -> Row:
    now, before = judges.read([result, kept])
    asked = {name: after for name, (_, after) in case.changed.items()}
    expected = {name: asked.get(name, value) for name, value in before.items()}
    wrong = tuple(f"{n}: {now[n]}, not {expected[n]}" for n in now if now[n] != expected[n])
    truth_picture = _array(render(case.target, SIZE))
    region = np.abs(truth_picture - _array(render(case.source, SIZE))).max(-1) > 0
    return Row(
        seed=case.seed,
        kind=case.kind,
        caption=sentences[0],
        target_caption=sentences[1],
        asked=all(now[name] == value for name, value in asked.items()),
        kept=all(now[name] == before[name] for name in now if name not in asked),
        inside=_psnr(_array(result), truth_picture, region),
        outside=_psnr(_array(result), _array(kept), ~region),
        evaluations=cost,
        wrong=wrong,
    )


def page(todo: Sequence[Case], done: Sequence[tuple[Row, Image.Image]]) -> Image.Image:
    """Source, edit and truth of every case side by side, to be looked at."""
    pictures, labels = [], []
    for case, (row, result) in zip(todo, done, strict=True):
        pictures += [render(case.source, SIZE), result, render(case.target, SIZE)]
        labels += [row.caption, row.verdict, row.target_caption]
    return sheet(pictures, labels, 6)


def table(rows: Sequence[Row]) -> str:
    """A Markdown table, a line per kind of edit and one for their mean."""
    lines = [
        "| edit | n | asked change seen | rest unchanged | both | dB inside | dB outside |",
        "|---|---|---|---|---|---|---|",
    ]
    groups = {kind: [row for row in rows if row.kind == kind] for kind in KINDS}
    measured = {kind: _means(group) for kind, group in groups.items() if group}
    for kind, means in measured.items():
        lines.append(_line(kind, len(groups[kind]), means))
    overall = [float(np.mean(column)) for column in zip(*measured.values(), strict=True)]
    lines.append(_line("mean over kinds", len(rows), overall))
    return "\n".join(lines)


def to_json(row: Row) -> str:
    """One line of JSON."""
    return json.dumps(asdict(row))


def _means(rows: Sequence[Row]) -> list[float]:
    both = [row.asked and row.kept for row in rows]
    shares = [np.mean([row.asked for row in rows]), np.mean([row.kept for row in rows])]
    shares.append(np.mean(both))
    outside = [min(row.outside, 99.0) for row in rows if row.outside < inf]
    levels = [np.mean([row.inside for row in rows]), np.mean(outside) if outside else np.nan]
    return [float(value) for value in [*shares, *levels]]


def _line(name: str, count: int, means: Sequence[float]) -> str:
    shares = [f"{100 * share:.0f} %" for share in means[:3]]
    levels = [f"{level:.1f}" for level in means[3:]]
    return f"| {' | '.join([name, str(count), *shares, *levels])} |"


def _array(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture, np.float64)


def _psnr(a: np.ndarray, b: np.ndarray, region: np.ndarray) -> float:
    """In dB over the pixels of ``region``; infinite where they agree or there are none."""
    if not region.any():
        return inf
    error = float(np.square(a - b)[region].mean())
    return 10 * log10(255**2 / error) if error else inf
