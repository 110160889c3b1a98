"""Transfer: the default settings on copies of the embedded model that lack its own settings.

The default is one choice for every checkpoint, and only the guidance scale is measured on each. In
copies whose cross-attention has a larger or smaller output, the network answers to captions
differently; there the measured scale is compared with given ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from typing import TYPE_CHECKING, Any, NamedTuple

from safetensors.torch import load_file, save_file

import zerocon
from zerocon import api, mini
from zerocon.bench.inputs import MethodSettings
from zerocon.bench.tables import COLUMNS, Table, TableLine, line
from zerocon.model.defaults import FILE

if TYPE_CHECKING:
    from zerocon.bench.results import ResultRow
    from zerocon.model.stable_diffusion import StableDiffusion

UNET = Path("unet", "diffusion_pytorch_model.safetensors")
OUTPUT_LAYERS = (".attn2.to_out.0.weight", ".attn2.to_out.0.bias")
FACTS = ("size_rule", "words")  # of zerocon.json: how the model was trained
EDIT, SCRATCH = "default", "from-scratch"  # methods
MINI, COPY = "mini", "copy"  # networks with the embedded model's weights


@dataclass(frozen=True)
class Variant:
    """A network and the guidance scale that it is edited with.

    Attributes:
        network: ``MINI``, ``COPY``, or that of an altered copy.
        scale: The guidance scale.
        measured: Whether the scale was measured, rather than given.
        methods: Methods that are measured.
    """

    network: str
    scale: float
    measured: bool = False
    methods: tuple[str, ...] = (EDIT,)

    @property
    def name(self) -> str:
        """The name of its line."""
        return f"{self.network}, {'measured ' if self.measured else ''}scale {self.scale:g}"

    @property
    def file(self) -> str:
        """The name of its results file."""
        scale = "measured" if self.measured else f"{self.scale:g}"
        return f"{self.network.replace(' ', '-')}-{scale}.jsonl"


class Setup(NamedTuple):
    """What edits of a variant are made with."""

    variant: Variant
    model: StableDiffusion
    settings: MethodSettings


def network_of(factor: float) -> str:
    """The name of a copy whose cross-attention output is multiplied by ``factor``."""
    return f"cross-attention x{factor:g}"


def setups(folder: Path, factors: Sequence[float], scales: Sequence[float]) -> Iterator[Setup]:
    """Every variant, in the order of the table; each model is written and loaded when needed.

    Args:
        folder: An empty directory for the copies, about 25 MB each.
        factors: Of the output of the cross-attention layers, one altered copy each.
        scales: Guidance scales of altered copies, besides the measured one.
    """
    shipped = _load(MINI)
    yield _setup(MINI, shipped, {}, measured=False, methods=(SCRATCH, EDIT))
    given = shipped.settings.guidance_scale
    model = _load(write_copy(folder / "given", {"guidance_scale": given}))
    yield _setup(COPY, model, {}, measured=False)
    yield _setup(COPY, _load(write_copy(folder / "copy")), {}, measured=True)
    for factor in factors:
        network = network_of(factor)
        model = _load(write_copy(folder / f"{factor:g}", factor=factor))
        yield _setup(network, model, {}, measured=True, methods=(SCRATCH, EDIT))
        for scale in scales:
            yield _setup(network, model, {"guidance_scale": scale}, measured=False)


def write_copy(
    folder: Path, settings: Mapping[str, Any] | None = None, *, factor: float = 1.0
) -> Path:
    """Copy the embedded model without its settings, to a new directory.

    Args:
        folder: The directory; returned.
        settings: What ``zerocon.json`` says besides how the model was trained.
        factor: The output of every cross-attention layer of the U-Net is multiplied by it.
    """
    copytree(mini.path(), folder)
    facts = json.loads((folder / FILE).read_text(encoding="utf-8"))
    values = {name: facts[name] for name in FACTS} | dict(settings or {})
    (folder / FILE).write_text(json.dumps(values), encoding="utf-8")
    if factor != 1.0:
        weights = load_file(folder / UNET)
        scaled = {n: v * factor for n, v in weights.items() if n.endswith(OUTPUT_LAYERS)}
        save_file(weights | scaled, folder / UNET, {"format": "pt"})
    return folder


def tables(results: Mapping[Variant, Sequence[ResultRow]]) -> list[Table]:
    """Means of every variant; differences of copies from ``MINI``, and of the measured scale.

    On altered copies the measured scale is compared with the given one that is best in "both".
    """
    lines: list[TableLine] = []
    edits: dict[Variant, Sequence[ResultRow]] = {}
    for variant, rows in results.items():
        for method in variant.methods:
            part = [row for row in rows if row.method == method]
            lines.append(line(_name(variant, method), part, COLUMNS))
            if method == EDIT:
                edits[variant] = part
    differences = tuple(
        _difference(variant, reference, edits) for variant, reference in _references(edits).items()
    )
    return [
        Table("Means over kinds of edits", "model", COLUMNS, tuple(lines)),
        Table("Differences, on the same scenes", "model", COLUMNS, differences, signed=True),
    ]


def facts(
    results: Mapping[Variant, Sequence[ResultRow]],
) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """What the setups of all rows have in common, and the settings of every line by its name."""
    rows = [row for part in results.values() for row in part]
    shared = set.intersection(*({*row.setup.items()} for row in rows)) if rows else set()
    settings = {
        _name(variant, row.method): row.settings
        for variant, part in results.items()
        for row in part
    }
    return dict(sorted(shared)), settings


def _name(variant: Variant, method: str) -> str:
    return variant.name if method == EDIT else f"{variant.name}, {method}"


def _difference(
    variant: Variant, reference: Variant, edits: Mapping[Variant, Sequence[ResultRow]]
) -> TableLine:
    others = {row.seed: row for row in edits[reference]}
    name = f"{variant.name} minus {reference.name}"
    return line(name, edits[variant], COLUMNS, lambda row: others[row.seed])


def _references(edits: Mapping[Variant, Sequence[ResultRow]]) -> dict[Variant, Variant]:
    """What each variant that has a reference is compared with."""
    references = {}
    for variant in edits:
        given = [each for each in edits if each.network == variant.network and not each.measured]
        if variant.network == COPY:
            references[variant] = next(each for each in edits if each.network == MINI)
        elif variant.measured and given:
            references[variant] = max(given, key=lambda each: _both(edits[each]))
    return references


def _both(rows: Sequence[ResultRow]) -> float:
    """Success and preservation, the mean over kinds."""
    (both,) = line("", rows, [each for each in COLUMNS if each.name == "both"]).cells
    return -1.0 if both is None else both.mean


def _load(name: Path | str) -> StableDiffusion:
    return zerocon.load(str(name))  # type: ignore[return-value]


def _setup(
    network: str,
    model: StableDiffusion,
    given: Mapping[str, Any],
    *,
    measured: bool,
    methods: tuple[str, ...] = (EDIT,),
) -> Setup:
    settings = api.with_guidance_scale(model.settings.overlay(given), model)
    variant = Variant(network, settings.scale, measured, methods)  # type: ignore[arg-type]  # a number
    return Setup(variant, model, MethodSettings(settings, {"composite": "model"}))
