"""The output files of one edit: checked before a model is loaded, written when it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from zerocon.image.naming import output_name

from . import options, render, stdio
from .help import ExpertOption

if TYPE_CHECKING:
    from PIL.Image import Image

    from zerocon import Edit, Model, Recipe, Settings
    from zerocon.diagnostics.step_images import StepImages
    from zerocon.editing import Step
    from zerocon.image.formats import Format
    from zerocon.image.read_options import ReadOptions
    from zerocon.image.reading import Photograph
    from zerocon.image.support import Support


metadata = options.together(
    options.metadata_level("full, minimal (IPTC mark of AI edits) or none."),
    click.option(
        "--keep-gps", cls=ExpertOption, is_flag=True, help="Keep the GPS position in the EXIF data."
    ),
)

copy_unchanged = click.option(
    "--copy-unchanged",
    cls=ExpertOption,
    is_flag=True,
    help="Copy the source image to the output where the prompt changes nothing.",
)

output_options = cloup.option_group(
    "Output",
    options.output("Edited image; - is stdout. [default: IMAGE-PROMPT]"),
    options.overwrite,
    options.dry_run,
    copy_unchanged,
    options.written_file("--compare", help="Also save source and edited image side by side."),
    options.written_file(
        "--grid",
        help="Save only a sheet of edits with several --strength, --seed or --guidance-scale.",
        expert=True,
    ),
    options.written_file("--explain", help="Also save a sheet of attention maps and losses."),
    options.written_file(
        "--save-mask",
        help="Also save where the image may have changed: white on black.",
        expert=True,
    ),
    options.written_file(
        "--steps-dir",
        help="Also save the predicted image after every step: DIR/step-001.png, ...",
        expert=True,
        metavar="DIR",
    ),
    metadata,
)


def _saved_mask(edited: Edit, support: Support) -> Image:
    """A given mask as it was, so that a replay can be given it; else the support that was found."""
    from zerocon.finishing import native_mask

    return edited.mask.image if edited.mask else native_mask(edited.source, support)


@dataclass
class EditOutputs:
    """The files of one edit of ``image_path``; collects the steps while the edit runs."""

    image_path: Path
    photograph: Photograph
    output: Path
    compare: Path | None
    explain: Path | None
    save_mask: Path | None
    steps_dir: Path | None
    overwrite: bool
    metadata: str
    inputs: tuple[Path, ...]
    grid: Path | None = None
    warnings: tuple[str, ...] = ()
    steps: list[Step] = field(default_factory=list)
    step_images: StepImages | None = None

    @classmethod
    def of(
        cls, image_path: Path, photograph: Photograph, prompt: str, values: Mapping[str, Any]
    ) -> EditOutputs:
        """The files that the options name; raises if one of them cannot be written."""
        names = ("compare", "explain", "save_mask", "steps_dir", "overwrite", "metadata", "grid")
        output = values["output"] or values["grid"]
        output = output or output_name(stdio.require_name(image_path), prompt)
        if output == stdio.PIPE and (form := values["form"]).startswith("json"):
            raise click.UsageError(
                f"-o - and --format {form} would both write to stdout; name the output: -o FILE"
            )
        if output == stdio.PIPE:
            stdio.require_pipe()
        outputs = cls(
            image_path,
            photograph,
            output,
            **{name: values[name] for name in names},
            inputs=options.input_files(values, stdio.source(image_path)),
        )
        outputs.check()
        lost = () if outputs.grid else photograph.format_warnings(outputs.format)
        outputs.warnings = photograph.warnings + lost
        return outputs

    @property
    def format(self) -> Format:
        """The output's format: by its extension; on stdout the source's own, or PNG."""
        from zerocon.image.formats import NAMED, format_of

        if self.output != stdio.PIPE:
            return format_of(self.output)
        return NAMED.get(self.photograph.kind, NAMED["PNG"])

    def check(self) -> None:
        """Raise for any file that cannot be written, before a model is loaded."""
        from zerocon.diagnostics import plots
        from zerocon.diagnostics.step_images import NAME, check_folder
        from zerocon.image.saving import check_output
        from zerocon.storage.paths import folded

        output = None if self.output == stdio.PIPE else self.output
        files = {"-o": output, "--compare": self.compare, "--explain": self.explain}
        files["--save-mask"] = self.save_mask
        outputs = {option: path for option, path in files.items() if path}
        for path in outputs.values():
            check_output(path, overwrite=self.overwrite, inputs=self.inputs)
        if self.steps_dir:
            check_folder(self.steps_dir, overwrite=self.overwrite, inputs=self.inputs)
            for option, path in outputs.items():
                inside = path.resolve().parent == self.steps_dir.resolve()
                if inside and NAME.fullmatch(path.name.casefold()):
                    raise click.UsageError(f"--steps-dir and {option} name the same file")
            outputs["--steps-dir"] = self.steps_dir
        for (one, path), (other, same) in combinations(outputs.items(), 2):
            if folded(path.resolve()) == folded(same.resolve()):
                raise click.UsageError(f"{other} and {one} name the same file")
        if self.explain:
            plots.require()

    def begin(self, model: Model, settings: Settings) -> None:
        """Prepare for the steps of an edit with ``model`` and ``settings``."""
        if self.metadata == "full" and not self.grid:
            model.fingerprint()  # raises for unreadable files before the edit, not after it
        if self.steps_dir:
            from zerocon.api import prepared_for
            from zerocon.diagnostics.step_images import StepImages
            from zerocon.image.metadata import Provenance

            frame = prepared_for(self.photograph.image, model, settings).frame
            # the mark alone: the recipe is complete only when the edit is
            marking = Provenance() if self.metadata != "none" else None
            self.step_images = StepImages(
                self.steps_dir, model, frame, overwrite=self.overwrite, provenance=marking
            )

    def warn(self, warning: str) -> None:
        """Print a warning, and keep it for the record."""
        render.warn([warning])
        self.warnings += (warning,)

    @property
    def step_callback(self) -> Callable[[Step], None] | None:
        """``on_step`` where an output is made of the steps."""
        return self.on_step if self.explain or self.steps_dir else None

    def on_step(self, step: Step) -> None:
        """Keep a step; an edit restarted after out-of-memory replaces the steps before it."""
        if self.steps and step.level >= self.steps[-1].level:
            self.steps.clear()
            if self.step_images:
                self.step_images.restart()
        self.steps.append(step)
        if self.step_images:
            self.step_images(step)

    def write(self, edited: Edit, model: Model, recipe: Callable[[], Recipe]) -> dict[str, Any]:
        """Write all files but the step images; returns what to add to the edit's record."""
        from zerocon.image.contact_sheet import sheet
        from zerocon.image.metadata import Provenance
        from zerocon.image.saving import save_image

        complete = Provenance.at(self.metadata, lambda: recipe().to_json())
        if complete:
            packet = self.photograph.kept.xmp
            for warning in complete.format_warnings(self.format.name, packet):
                self.warn(warning)
        save = partial(save_image, overwrite=self.overwrite, provenance=complete)
        if self.output == stdio.PIPE:
            written = self.photograph.write(edited.image, self.format, complete)
            stdio.send(written.data)
            left_out = written.warnings
        else:
            left_out = self.photograph.save(
                edited.image, self.output, overwrite=self.overwrite, provenance=complete
            )
        for warning in left_out:
            if warning not in self.warnings:
                self.warn(warning)
        if self.compare:
            labels = render.labels(edited.request)
            save(sheet([self.photograph.image, edited.image], labels, 2), self.compare)
        if self.save_mask and edited.support:
            # without mark and recipe, by which a replay would take it for an edited image
            mask = _saved_mask(edited, edited.support)
            save_image(mask, self.save_mask, overwrite=self.overwrite)
        facts: dict[str, Any] = {"warnings": [*self.warnings, *edited.request.warnings]}
        facts |= render.region(edited) | render.review(edited)
        return facts | (self._write_explanation(edited, model, save) if self.explain else {})

    def write_grid(self, sheet: Image) -> None:
        """Write the sheet of ``--grid``, with the mark of AI edits but without a recipe."""
        from zerocon.image.metadata import Provenance
        from zerocon.image.saving import save_image

        mark = None if self.metadata == "none" else Provenance()
        save_image(sheet, self.output, overwrite=self.overwrite, provenance=mark)

    def copy(self, source: Path | bytes, reading: ReadOptions) -> None:
        """Write the source image to the output: the same bytes, if the format is the same."""
        from zerocon.image.writing import copied_file, copy_image

        if self.output == stdio.PIPE:
            stdio.send(copied_file(source, self.format, **reading.arguments()))
            return
        copy_image(
            source, self.output,
            overwrite=self.overwrite, inputs=self.inputs, **reading.arguments(),
        )  # fmt: skip

    def _write_explanation(
        self, edited: Edit, model: Model, save: Callable[..., None]
    ) -> dict[str, Any]:
        """Write the sheet of ``--explain``; returns its file and cost."""
        from zerocon.diagnostics import plots
        from zerocon.diagnostics.explanation import explain

        explanation = explain(edited, self.steps, model)
        save(plots.draw(explanation), self.explain)
        cost = render.cost(explanation.evaluations)
        return {"explanation": {"output": str(self.explain), "evaluations": cost}}
