"""What the picture would be if it were finished early, kept as a file after every step."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zerocon.errors import MissingFolderError, NotWritableError, OutputExistsError
from zerocon.image.metadata import Provenance
from zerocon.image.saving import require_not_input, save_image
from zerocon.image.transforms import Frame, unfit
from zerocon.storage.atomic import require_writable

if TYPE_CHECKING:
    from zerocon.editing import Step
    from zerocon.model import Model

NAME = re.compile(r"step-\d{3,}\.png")


class StepImages:
    """A witness of an edit that decodes every step's ``clean`` into FOLDER/step-001.png ...

    The last one is the edited picture itself: no way is left to be taken in one step.
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
        self.kept, self.own = 0, 0  # files of this walk, and of all walks
        self.provenance = provenance

    def __call__(self, step: Step) -> None:
        """Keep one more; the folder is made for the first."""
        self.kept += 1
        self.folder.mkdir(exist_ok=True)
        pixels = self.model.decode(step.clean if step.level else step.latents)
        path = self.folder / f"step-{self.kept:03}.png"
        overwrite, more = self.overwrite or self.kept <= self.own, self.provenance
        image = unfit(pixels[0], self.frame)
        save_image(image, path, overwrite=overwrite, provenance=more)
        self.own = max(self.own, self.kept)

    def restart(self) -> None:
        """Begin anew; what this one wrote itself is written over."""
        self.kept = 0


def check_folder(
    folder: Path, *, overwrite: bool = False, inputs: Sequence[Path | str] = ()
) -> Path:
    """``folder``, if previews may be kept there: cheap, so ask before the work.

    Raises ``ValueError`` for a file, for a folder that cannot be made or written to, for previews
    that are there (unless ``overwrite``), and always where one of them is one of the ``inputs``.
    """
    if folder.exists() and not folder.is_dir():
        raise NotWritableError(f"{folder} is a file; give a folder for the steps")
    if not folder.exists() and not folder.parent.is_dir():
        raise MissingFolderError(f"there is no folder {folder.parent} to make {folder.name} in")
    require_writable(folder if folder.exists() else folder.parent)
    there = [path for path in sorted(folder.glob("step-*.png")) if NAME.fullmatch(path.name)]
    for path in there:
        require_not_input(path, inputs)
    if there and not overwrite:
        raise OutputExistsError(f"{there[0]} exists already; give --overwrite or another folder")
    return folder
