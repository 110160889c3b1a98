"""What an edit writes: asked for, checked before anything is loaded, written when it is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import options, report
from .naming import name_output

if TYPE_CHECKING:
    from PIL.Image import Image

    from zerocon import Edit, Model
    from zerocon.editing import Step
    from zerocon.previews import Previews

asked = options.together(
    click.option("-o", "--output", type=click.Path(path_type=Path), help="[default: IMAGE-WORDS]"),
    options.overwrite,
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
class Outputs:
    """The files one edit of ``image`` makes; a witness of it while it is made."""

    image: Path
    output: Path
    compare: Path | None
    explain: Path | None
    steps_dir: Path | None
    overwrite: bool
    steps: list[Step] = field(default_factory=list)
    previews: Previews | None = None

    @classmethod
    def of(cls, image: Path, wish: str, values: Mapping[str, Any]) -> Outputs:
        """What the options ask for, if all of it can be written."""
        names = ("compare", "explain", "steps_dir", "overwrite")
        output = values["output"] or name_output(image, wish)
        wanted = cls(image, output, **{name: values[name] for name in names})
        wanted.check()
        return wanted

    def check(self) -> None:
        """Raise what stands in the way of any file, before time is spent."""
        from zerocon import plots
        from zerocon.images import check_output
        from zerocon.previews import NAME, check_folder

        files = {"-o": self.output, "--compare": self.compare, "--explain": self.explain}
        there = {option: path for option, path in files.items() if path}
        for path in there.values():
            check_output(path, overwrite=self.overwrite, source=self.image)
        if self.steps_dir:
            check_folder(self.steps_dir, overwrite=self.overwrite, source=self.image)
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

    def begin(self, picture: Image, model: Model) -> None:
        """Know the picture and the model that the steps to come are of."""
        if self.steps_dir:
            from zerocon.images import fit
            from zerocon.previews import Previews

            frame = fit(picture, model.size, model.multiple).frame
            self.previews = Previews(self.steps_dir, model, frame, overwrite=self.overwrite)

    def witness(self, step: Step) -> None:
        """Keep what a step showed."""
        self.steps.append(step)
        if self.previews:
            self.previews(step)

    def write(self, picture: Image, edited: Edit, model: Model) -> dict[str, Any]:
        """Write all files but the previews; what there is to record beside the edit."""
        from zerocon import plots
        from zerocon.images import save_picture, sheet

        save = partial(save_picture, overwrite=self.overwrite, source=self.image)
        save(edited.picture, self.output)
        if self.compare:
            labels = report.labels(edited.understanding)
            save(sheet([picture, edited.picture], labels, 2), self.compare)
        if not self.explain:
            return {}
        from zerocon.explanation import explain

        explanation = explain(picture, edited, self.steps, model)
        save(plots.draw(explanation), self.explain)
        cost = report.cost(explanation.evaluations)
        return {"explanation": {"output": str(self.explain), "evaluations": cost}}
