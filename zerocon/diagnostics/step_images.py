"""Intermediate images: the predicted clean image of every denoising step, as files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zerocon.errors import (
    MissingFolderError,
    NotWritableError,
    OutputExistsError,
    about_argument,
)
from zerocon.image.metadata import Provenance
from zerocon.image.saving import save_image
from zerocon.image.transforms import Frame, unfit
from zerocon.storage.atomic import require_writable
from zerocon.storage.paths import require_no_inputs, require_output_name

if TYPE_CHECKING:
    from zerocon.editing import Step
    from zerocon.model import Model

NAME = re.compile(r"step-\d{3,}\.png")


class StepImages:
    """An ``on_step`` callback that writes the clean prediction of every step.

    The files are ``folder/step-001.png`` and so on; the last one is the edited image.

    Args:
        folder: Created for the first image if it does not exist.
        model: Decodes the latents.
        frame: Of the source image, as ``prepare`` made it.
        overwrite: Replace existing files.
        provenance: Label of generated content.
    """

    def __init__(
        self,
        folder: Path,
        model: Model,
        frame: Frame,
        *,
        overwrite: bool = False,
        provenance: Provenance | None = None,
    ) -> None:
        self.folder, self.model, self.frame, self.overwrite = folder, model, frame, overwrite
        self.count, self.written = 0, 0  # files of this run of the edit, and of all runs
        self.provenance = provenance

    def __call__(self, step: Step) -> None:
        """Write the image of a step."""
        self.count += 1
        self.folder.mkdir(exist_ok=True)
        pixels = self.model.decode(step.clean if step.level else step.latents)
        path = self.folder / f"step-{self.count:03}.png"
        overwrite = self.overwrite or self.count <= self.written
        image = unfit(pixels[0], self.frame)
        save_image(image, path, overwrite=overwrite, provenance=self.provenance)
        self.written = max(self.written, self.count)

    def restart(self) -> None:
        """Start again from the first step; files written by this object are replaced."""
        self.count = 0


@about_argument("folder")
def check_folder(
    folder: Path, *, overwrite: bool = False, inputs: Sequence[Path | str] = ()
) -> Path:
    """Return ``folder`` if step images can be written there; cheap, call before editing.

    Raises:
        NotWritableError: It is a file, or cannot be created or written to.
        OutputExistsError: It has step images, and ``overwrite`` is false.
        OutputIsInputError: One of them is one of ``inputs``.
    """
    require_output_name(folder)
    if folder.exists() and not folder.is_dir():
        raise NotWritableError(f"{folder} is a file; give a directory for the step images")
    if not folder.exists() and not folder.parent.is_dir():
        raise MissingFolderError(
            f"the directory {folder.parent} of {folder.name} does not exist; create it"
        )
    require_writable(folder if folder.exists() else folder.parent)
    existing = [path for path in sorted(folder.glob("step-*.png")) if NAME.fullmatch(path.name)]
    require_no_inputs(existing, inputs)
    if existing and not overwrite:
        raise OutputExistsError(
            f"{existing[0]} exists already; add --overwrite or give another directory"
        )
    return folder
