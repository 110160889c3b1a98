"""What an edit writes: asked for, checked before anything is loaded, written when it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zerocon.image.naming import output_name

from . import options, render, stdio

if TYPE_CHECKING:
    from zerocon import Edit, Model, Recipe
    from zerocon.diagnostics.step_images import StepImages
    from zerocon.editing import Step
    from zerocon.image.formats import Format
    from zerocon.image.photo import Photograph

LEVELS = ("full", "minimal", "none")

written = options.together(
    click.option("--keep-gps", is_flag=True, help="Keep where the picture was taken, in its EXIF."),
    click.option(
        "--metadata",
        type=click.Choice(LEVELS),
        default=LEVELS[0],
        show_default=True,
        help="What the picture's file says of how it was made: its recipe, for `zerocon inspect` "
        "and `replay`, and IPTC's marking of pictures made in part by a network; the marking "
        "alone; or nothing.",
    ),
)

asked = options.together(
    click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        help="The ending says what kind of file; - is stdout. [default: IMAGE-WORDS]",
    ),
    options.overwrite,
    written,
    click.option("--compare", type=click.Path(path_type=Path), help="Also save both side by side."),
    click.option(
        "--explain",
        metavar="SHEET",
        type=click.Path(path_type=Path),
        help="Also save a sheet of what happened: the difference, where the changed words looked, "
        "losses. Needs matplotlib; costs a few evaluations, counted apart.",
    ),
    click.option(
        "--steps-dir",
        metavar="DIR",
        type=click.Path(path_type=Path),
        help="Also keep, after every step, what the picture would be if the rest of the way were "
        "one step: DIR/step-001.png ... Costs one decode a step.",
    ),
)


@dataclass
class EditOutputs:
    """The files one edit of ``image_path`` makes; a witness of it while it is made."""

    image_path: Path
    photograph: Photograph
    output: Path
    compare: Path | None
    explain: Path | None
    steps_dir: Path | None
    overwrite: bool
    metadata: str
    inputs: tuple[Path, ...]
    warnings: tuple[str, ...] = ()
    steps: list[Step] = field(default_factory=list)
    step_images: StepImages | None = None

    @classmethod
    def of(
        cls, image_path: Path, photograph: Photograph, prompt: str, values: Mapping[str, Any]
    ) -> EditOutputs:
        """What the options ask for, if all of it can be written."""
        names = ("compare", "explain", "steps_dir", "overwrite", "metadata")
        output = values["output"] or output_name(stdio.beside(image_path), prompt)
        if output == stdio.PIPE and (form := values["form"]).startswith("json"):
            raise click.UsageError(
                f"-o - and --format {form} would both be on stdout; give -o FILE"
            )
        if output == stdio.PIPE:
            stdio.require_pipe()
        wanted = cls(
            image_path,
            photograph,
            output,
            **{name: values[name] for name in names},
            inputs=options.input_files(values, stdio.source(image_path)),
        )
        wanted.check()
        wanted.warnings = photograph.warnings + photograph.format_warnings(wanted.kind)
        return wanted

    @property
    def kind(self) -> Format:
        """The output's kind of file: by its ending; on stdout the source's own, or PNG."""
        from zerocon.image.formats import NAMED, format_of

        if self.output != stdio.PIPE:
            return format_of(self.output)
        return NAMED.get(self.photograph.kind, NAMED["PNG"])

    def check(self) -> None:
        """Raise what stands in the way of any file, before time is spent."""
        from zerocon.diagnostics import plots
        from zerocon.diagnostics.step_images import NAME, check_folder
        from zerocon.image.saving import check_output

        inputs = self.inputs
        output = None if self.output == stdio.PIPE else self.output
        files = {"-o": output, "--compare": self.compare, "--explain": self.explain}
        there = {option: path for option, path in files.items() if path}
        for path in there.values():
            check_output(path, overwrite=self.overwrite, inputs=inputs)
        if self.steps_dir:
            check_folder(self.steps_dir, overwrite=self.overwrite, inputs=inputs)
            for option, path in there.items():
                inside = path.resolve().parent == self.steps_dir.resolve()
                if inside and NAME.fullmatch(path.name):
                    raise click.UsageError(f"--steps-dir and {option} name the same file")
            there["--steps-dir"] = self.steps_dir
        for (one, path), (other, same) in combinations(there.items(), 2):
            if path.resolve() == same.resolve():
                raise click.UsageError(f"{other} and {one} name the same file")
        if self.explain:
            plots.require()

    def begin(self, model: Model) -> None:
        """Know the model that the steps to come are of."""
        if self.metadata == "full":
            model.fingerprint()  # files that cannot be read are found before time is spent
        if self.steps_dir:
            from zerocon.diagnostics.step_images import StepImages
            from zerocon.image.metadata import Provenance
            from zerocon.image.transforms import fit

            frame = fit(self.photograph.image, model.size, model.multiple).frame
            # the recipe is whole when the edit is
            marking = Provenance() if self.metadata != "none" else None
            self.step_images = StepImages(
                self.steps_dir, model, frame, overwrite=self.overwrite, provenance=marking
            )

    def warn(self, said: str) -> None:
        """Pass a warning on, and keep it for the record."""
        render.warn([said])
        self.warnings += (said,)

    def on_step(self, step: Step) -> None:
        """Keep what a step showed; a walk that begins anew (memory ran out) takes its place."""
        if self.steps and step.level >= self.steps[-1].level:
            self.steps.clear()
            if self.step_images:
                self.step_images.restart()
        self.steps.append(step)
        if self.step_images:
            self.step_images(step)

    def write(self, edited: Edit, model: Model, recipe: Callable[[], Recipe]) -> dict[str, Any]:
        """Write all files but the previews; what there is to record beside the edit."""
        from zerocon.diagnostics import plots
        from zerocon.image.contact_sheet import sheet
        from zerocon.image.metadata import Provenance
        from zerocon.image.saving import save_image

        image = self.photograph.image
        whole = Provenance.at(self.metadata, lambda: recipe().to_json())
        said = whole and whole.within(self.kind.name)
        for warning in whole.format_warnings(self.kind.name) if whole else ():
            self.warn(warning)
        save = partial(save_image, overwrite=self.overwrite, provenance=whole)
        if self.output == stdio.PIPE:
            stdio.send(self.photograph.encode(edited.image, self.kind, said))
        else:
            self.photograph.save(
                edited.image, self.output, overwrite=self.overwrite, provenance=said
            )
        if self.compare:
            labels = render.labels(edited.request)
            save(sheet([image, edited.image], labels, 2), self.compare)
        more = {"warnings": [*self.warnings, *edited.request.warnings]}
        if not self.explain:
            return more
        from zerocon.diagnostics.explain import explain

        explanation = explain(image, edited, self.steps, model)
        save(plots.draw(explanation), self.explain)
        cost = render.cost(explanation.evaluations)
        return more | {"explanation": {"output": str(self.explain), "evaluations": cost}}
