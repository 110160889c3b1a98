"""What is said: talk and warnings on stderr, results on stdout."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

if TYPE_CHECKING:
    from zerocon import EditRequest, Settings
    from zerocon.diagnostics.cost import CostEstimate
    from zerocon.image.compare import ImageComparison
    from zerocon.nfe import Evaluations


def announce(quiet: bool, request: EditRequest) -> None:
    """One line on what was understood, then the warnings, before time is spent."""
    if not quiet:
        click.echo(understood(request), err=True)
    warn(request.warnings)


def warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        click.echo(f"Warning: {warning}", err=True)


def understood(request: EditRequest) -> str:
    """``"a cat" -> "a dog": cat -> dog (object); 128 sentences; CLIP 0.250 -> 0.220``."""
    parts = [*map(str, request.rewrite.changes), *steps(request)]
    parts.append(f"{request.sentences} sentences")
    if request.similarity is not None:
        before, after = request.similarity
        parts.append(f"CLIP {before:.3f} -> {after:.3f}")
    said = '" -> "'.join(captions(request))
    return f'"{said}": {"; ".join(parts)}'


def steps(request: EditRequest) -> list[str]:
    """The directions out of files: ``cat -> dog (direction x 0.5)``."""
    return [
        f"{direction} (direction{'' if weight == 1 else f' x {weight:g}'})"
        for direction, weight in request.directions
    ]


def captions(request: EditRequest) -> list[str]:
    """The caption and, where words were said, the caption of the wanted picture."""
    wording = request.rewrite
    return [wording.caption, *([wording.target_caption] if wording.changes else [])]


def labels(request: EditRequest) -> list[str]:
    """What is written under a picture and its edit."""
    said = captions(request)
    return said if len(said) == 2 else [*said, "; ".join(steps(request))]


def tell(form: str, human: str, record: dict[str, Any]) -> None:
    """The result on stdout."""
    indent = {"json": 2, "jsonl": None}
    if form in indent:
        human = json.dumps(record, indent=indent[form], ensure_ascii=False)
    echo(human)


def echo(text: str, file: TextIO | None = None) -> None:
    """Say on stdout what may hold names of files, some of which are no text: those as JSON does."""
    click.echo(text.encode("utf-8", "backslashreplace").decode(), file)


def compared(form: str, file: Path, found: ImageComparison, changed: Sequence[str]) -> None:
    """Whether ``file`` came out again, and what is not as it was, as ``zerocon.replay/1``."""
    facts = {"schema": "zerocon.replay/1", "file": str(file), **asdict(found)}
    tell(form, "\n".join([str(found), *changed]), {**facts, "changed": changed})


def cost(evaluations: Evaluations) -> dict[str, float]:
    """U-Net passes, in pictures."""
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
    origin: str,
    image_path: Path,
    output: Path,
    values: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything worth knowing about an edit, done or not, as the schema ``zerocon.edit/1``."""
    wording, pair = request.rewrite, request.similarity
    files = zip(values["directions"], request.directions, strict=True)
    return {
        "schema": "zerocon.edit/1",
        "input": str(image_path),
        "output": str(output),
        "from": values["from_"],
        "to": values["to"],
        "caption": wording.caption,
        "target_caption": wording.target_caption,
        "changes": [
            {"category": change.category, "from": change.source, "to": change.target}
            for change in wording.changes
        ],
        "directions": [
            {
                "file": str(file),
                "from": list(direction.source),
                "to": list(direction.target),
                "weight": weight,
            }
            for (file, _), (direction, weight) in files
        ],
        "sentences": request.sentences,
        "similarity": pair and dict(zip(("caption", "target_caption"), pair, strict=True)),
        "model": model,
        "settings": asdict(settings),
        "seed": settings.seed,
        "inversion": origin,
        "evaluations": cost(evaluations),
    }


def plan(forecast: CostEstimate) -> str:
    """What an edit would cost, on one line."""
    gigabytes = [part / 1e9 for part in (forecast.peak, forecast.weights, forecast.remembered)]
    peak, weights, remembered = (f"{part:.2f}" for part in gigabytes)
    return (
        f"{forecast.evaluations.total:.1f} U-Net evaluations, {forecast.operations / 1e12:.3g} "
        f"TFLOP, {peak} GB at most ({weights} of weights, {remembered} remembered)"
    )


def memory(forecast: CostEstimate) -> dict[str, int]:
    """Bytes."""
    names = ("weights", "remembered", "working", "peak")
    return {name: getattr(forecast, name) for name in names}
