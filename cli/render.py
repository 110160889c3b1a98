"""What commands print: results on stdout, messages and warnings on stderr.

A line is one string, several lines are a list of strings: a line feed inside a string is part of a
value, such as a file's name, and is printed as its escape.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from zerocon.errors import Interrupted, NothingToChangeError, ZeroconError
from zerocon.evaluation_count import Evaluations
from zerocon.storage.escaping import json_text, one_line

from .progress import erase_status

if TYPE_CHECKING:
    from zerocon import Edit, EditRequest, Settings
    from zerocon.diagnostics.cost import CostEstimate
    from zerocon.diagnostics.grid import Axis, EditGrid
    from zerocon.image.compare import ImageComparison
    from zerocon.image.transforms import Box, Frame

JSON = {"json": 2, "jsonl": None}  # the formats that are JSON, and how they are indented
LONGEST = 1_000_000  # characters of a line of a result


def print_request(quiet: bool, request: EditRequest) -> None:
    """The parsed prompt on one line, then its warnings."""
    if not quiet:
        print_message(describe_request(request))
    warn(request.warnings)


def print_support(quiet: bool, edited: Edit) -> None:
    """Which part of the image was edited, and why, on one line."""
    if quiet or edited.support is None:
        return
    support, crop = edited.support, edited.source.crop
    whole = "image" if crop is None else f"crop {box_text(crop)}"
    rest = "all other pixels are copied from the source"
    if support.share == 1 and crop is None:
        rest = "every pixel may change"
    print_message(f"Support: {100 * support.share:.0f} % of the {whole} ({support.reason}); {rest}")


def box_text(box: Box) -> str:
    """A box as `--crop` takes it: ``X,Y,W,H``."""
    left, upper, right, lower = box
    return f"{left},{upper},{right - left},{lower - upper}"


def region(edited: Edit) -> dict[str, Any]:
    """Support and crop of an edit, as fields of the schema ``zerocon.edit/1``."""
    support, crop = edited.support, edited.source.crop
    facts: dict[str, Any] | None = None
    if support is not None:
        facts = {"extent": support.extent, "reason": support.reason}
        facts["share"] = round(support.share, 4)
    return {"support": facts, "crop": None if crop is None else box_text(crop)}


def review(edited: Edit) -> dict[str, Any]:
    """What the edited image is like, as the field ``result`` of the schema ``zerocon.edit/1``."""
    facts, pair = edited.review, edited.review and edited.review.similarity
    similarity = pair and dict(zip(("source", "target"), pair, strict=True))
    return {"result": facts and {"similarity": similarity, "changed": round(facts.changed, 2)}}


def print_error(
    form: str,
    kind: type[ZeroconError],
    message: str,
    path: str | None = None,
    hints: Sequence[str] = (),
) -> None:
    """One line on stderr; with a JSON format also ``zerocon.error/1`` on stdout."""
    line = message if kind is Interrupted else f"Error: {message}"
    print_message(f"{line} [{kind.id}]")
    if form in JSON:
        facts = {"id": kind.id, "message": message, "path": path, "hint": [*hints]}
        print_result(form, "", {"schema": "zerocon.error/1", "error": facts})


def warn(warnings: Iterable[str]) -> None:
    """One line for each warning."""
    for warning in warnings:
        print_message(f"Warning: {warning}")


def describe_request(request: EditRequest) -> str:
    """``"a cat" -> "a dog": cat -> dog (object); 128 sentences; CLIP 0.250 -> 0.220``."""
    parts = [*map(str, request.rewrite.changes), *directions(request)]
    parts.append(f"{request.sentences} sentences")
    if request.similarity is not None:
        before, after = request.similarity
        parts.append(f"CLIP {before:.3f} -> {after:.3f}")
    texts = '" -> "'.join(captions(request))
    return f'"{texts}": {"; ".join(parts)}'


def directions(request: EditRequest) -> list[str]:
    """The directions from files: ``cat -> dog (direction x 0.5)``."""
    return [
        f"{direction} (direction{'' if weight == 1 else f' x {weight:g}'})"
        for direction, weight in request.directions
    ]


def captions(request: EditRequest) -> list[str]:
    """The source caption and, if the prompt changes it, the target caption."""
    rewrite = request.rewrite
    return [rewrite.caption, *([rewrite.target_caption] if rewrite.changes else [])]


def labels(request: EditRequest) -> list[str]:
    """The texts below the source image and the edited image on a contact sheet."""
    texts = captions(request)
    return texts if len(texts) == 2 else [*texts, "; ".join(directions(request))]


def print_result(form: str, human: str | Sequence[str], record: dict[str, Any]) -> None:
    """The result on stdout: ``human``, one line or a list of lines, or ``record`` as JSON."""
    if form in JSON:
        print_json(record, indent=JSON[form])
        return
    print_lines([human] if isinstance(human, str) else human)


def print_lines(lines: Iterable[str]) -> None:
    """Lines of a result on stdout."""
    _echo("\n".join(one_line(line, LONGEST) for line in lines))


def print_json(record: Any, *, indent: int | None = None, file: TextIO | None = None) -> None:
    """A record as JSON, on stdout by default."""
    _echo(json_text(record, indent=indent), file)


def print_message(text: str) -> None:
    """Print a line on stderr."""
    _echo(one_line(text), sys.stderr)


def _echo(text: str, file: TextIO | None = None) -> None:
    erase_status()
    click.echo(text, file)


def print_comparison(
    form: str, file: Path, comparison: ImageComparison, changed: Sequence[str]
) -> None:
    """How ``file`` and its replay differ, and what else ``changed``, as ``zerocon.replay/1``."""
    facts = {"schema": "zerocon.replay/1", "file": str(file), **asdict(comparison)}
    print_result(form, [str(comparison), *changed], {**facts, "changed": changed})


def cost(evaluations: Evaluations) -> dict[str, float]:
    """Numbers of U-Net evaluations, in images."""
    return {
        "forwards": evaluations.forwards,
        "backwards": evaluations.backwards,
        "total": round(evaluations.total, 2),
    }


def record(
    request: EditRequest,
    settings: Settings,
    model: str,
    evaluations: Evaluations,
    inversion_source: str,
    image_path: Path,
    output: Path,
    values: Mapping[str, Any],
) -> dict[str, Any]:
    """All facts of an edit, done or estimated, as the schema ``zerocon.edit/1``."""
    rewrite, pair = request.rewrite, request.similarity
    files = zip(values["directions"], request.directions, strict=True)
    return {
        "schema": "zerocon.edit/1",
        "state": "edited",
        "input": str(image_path),
        "output": str(output),
        "from": values["from_"],
        "to": values["to"],
        "caption": rewrite.caption,
        "target_caption": rewrite.target_caption,
        "changes": [
            {"category": change.category, "from": change.source, "to": change.target}
            for change in rewrite.changes
        ],
        "directions": [
            {"file": str(file), "from": [*each.source], "to": [*each.target], "weight": weight}
            for (file, _), (each, weight) in files
        ],
        "sentences": request.sentences,
        "similarity": pair and dict(zip(("caption", "target_caption"), pair, strict=True)),
        "result": None,
        "model": model,
        "settings": asdict(settings),
        "seed": settings.seed,
        "inversion": inversion_source,
        "evaluations": cost(evaluations),
    }


def axes(several: Sequence[Axis]) -> dict[str, Any]:
    """What makes a record of an edit one of a grid, the schema ``zerocon.grid/1``."""
    names = [{"setting": axis.name, "values": [*axis.values]} for axis in several]
    return {"schema": "zerocon.grid/1", "axes": names} if several else {}


def grid(edits: EditGrid) -> dict[str, Any]:
    """What a grid's record has besides that of its first edit."""
    names = [axis.name for axis in edits.axes]
    cells = [
        {name: getattr(edited.settings, name) for name in names}
        | {"evaluations": cost(edited.evaluations), "warnings": [*edited.warnings]}
        | review(edited)
        for edited in edits.edits
    ]
    return axes(edits.axes) | {"cells": cells}


def unchanged(
    settings: Settings,
    model: str,
    image_path: Path,
    output: Path | None,
    values: Mapping[str, Any],
    caption: str | None,
) -> dict[str, Any]:
    """The fields of ``record`` for a prompt that changes nothing; ``output`` is a copy, or None."""
    facts: dict[str, Any] = {"schema": "zerocon.edit/1", "state": "unchanged"}
    facts["input"] = str(image_path)
    facts |= {
        "output": None if output is None else str(output),
        "from": values["from_"],
        "to": values["to"],
    }
    facts |= {"caption": caption, "target_caption": caption, "changes": [], "directions": []}
    facts |= {"sentences": 0, "similarity": None, "model": model, "settings": asdict(settings)}
    facts |= {"seed": settings.seed, "inversion": None, "evaluations": cost(Evaluations())}
    facts |= {"support": None, "crop": None, "result": None}
    return facts | ({"dry_run": True} if values["dry_run"] else {})


def print_unchanged(error: NothingToChangeError, *, copied: bool) -> None:
    """Why there is no edit, on one line."""
    no_file = "nothing is written; --copy-unchanged copies the image"
    then, message = "the source image is copied" if copied else no_file, str(error)
    print_message(f"{message[:1].upper()}{message[1:]}: {then} [{error.id}]")


def plan(estimate: CostEstimate) -> str:
    """The estimated cost of an edit, on one line."""
    gigabytes = [part / 1e9 for part in (estimate.peak, estimate.weights, estimate.cached)]
    peak, weights, cached = (f"{part:.2f}" for part in gigabytes)
    return (
        f"{estimate.evaluations.total:.1f} U-Net evaluations, {estimate.operations / 1e12:.3g} "
        f"TFLOP, {peak} GB peak memory ({weights} weights, {cached} cached activations)"
    )


def working_size(frame: Frame) -> str:
    """``at 626x352 pixels, reduced 6.4 times``"""
    reduction, change = frame.reduction, "not scaled"
    if frame.inner != frame.source:
        times = max(reduction, 1 / reduction)
        change = f"{'reduced' if reduction > 1 else 'enlarged'} {times:.1f} times"
    return "at {}x{} pixels, {}".format(*frame.inner, change)


def memory(estimate: CostEstimate) -> dict[str, int]:
    """Estimated memory in bytes."""
    return {
        "weights": estimate.weights,
        "cached": estimate.cached,
        "working": estimate.working,
        "peak": estimate.peak,
    }
