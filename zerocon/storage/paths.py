"""Checks of paths: an output is no input, stays in its directory, is named for all systems."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

from zerocon.errors import NotWritableError, OutputIsInputError

PRIVATE = ".zerocon"  # the directory of a batch's journal
DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$"}  # of Windows, with any extension
DEVICES |= {f"{name}{number}" for name in ("com", "lpt") for number in "0123456789¹²³"}
UNPORTABLE = re.compile(r'[<>:"|?*\\\x00-\x1f\x7f]')  # characters that Windows does not accept
WEIGHTS = (".safetensors", ".ckpt", ".bin", ".pt", ".pth")  # endings of files of weights
WORD = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")  # the name of a model that is not a path


def require_no_inputs(outputs: Iterable[Path | str], inputs: Iterable[Path | str]) -> None:
    """Check that no output is a file that the command reads; every command uses this.

    Files are compared by device and inode: links of both kinds and other spellings of a path, also
    on file systems that ignore case or the Unicode form of accents, are recognized.

    Raises:
        OutputIsInputError: For the first output that is the same file as one of ``inputs``.
    """
    read: dict[tuple[int, int], Path | str] = {}
    for each in inputs:
        if number := file_number(each):
            read.setdefault(number, each)
    for path in outputs:
        if (number := file_number(path)) and number in read:
            raise OutputIsInputError(
                f"{path} is an input of this command ({read[number]}); give another output"
            )


def file_number(file: Path | str) -> tuple[int, int] | None:
    """Device and inode of a file, links followed; None if there is none."""
    try:
        stat = os.stat(file)
    except (OSError, ValueError):
        return None
    return stat.st_dev, stat.st_ino


def files_in(*folders: Path | str | None) -> Iterator[Path]:
    """The files named, and those below the directories named, whatever does not exist left out."""
    for each in folders:
        if each is None:
            continue
        path = Path(each).expanduser()
        if path.is_dir():
            yield from (file for file in path.rglob("*") if file.is_file())
        else:
            yield path


def folded(path: PurePath | str) -> str:
    """A path as file systems compare it that ignore case and the Unicode form of accents."""
    return unicodedata.normalize("NFC", str(path)).casefold()


def name_fault(name: str) -> str | None:
    """Why one part of a path is not a valid name on every system; None if it is.

    Names that Windows reserves (``CON.png``, ``NUL``) would be devices there, a colon addresses a
    drive or a hidden stream, and dots and spaces at the end are dropped.
    """
    if name.split(".")[0].rstrip(" ").casefold() in DEVICES:
        return "is reserved on Windows"
    if match := UNPORTABLE.search(name):
        return f"contains {match[0]!r}, which is not allowed on Windows"
    if name.endswith((".", " ")):
        return "ends in a dot or a space, which Windows drops"
    return None


def require_output_name(path: Path | str) -> None:
    """Check the last part of an output's path.

    Raises:
        NotWritableError: It is not a valid name on every system, or in the directory of a journal.
    """
    fault = name_fault(Path(path).name)
    if fault is None and PRIVATE in map(folded, Path(path).parts):
        fault = f"is in {PRIVATE}, the directory of a journal"
    if fault is not None:
        raise NotWritableError(f"the output {str(path)!r} {fault}; give another name")


def result_fault(name: str) -> str | None:
    """Why the name of a result, below an output directory, cannot be used; None if it can.

    Parts that come from names of existing files may have characters that only this system accepts,
    but no name may lead out of the directory on any system, or be a device.
    """
    windows, posix = PureWindowsPath(name), PurePosixPath(name)
    if windows.anchor or posix.is_absolute():
        return "is an absolute path, or contains a drive"
    if ".." in windows.parts or ".." in posix.parts or "\0" in name or not posix.name:
        return "leads out of the output directory"
    for part in posix.parts:
        if folded(part).rstrip(". ") == PRIVATE:
            return f"is in {PRIVATE}, the directory of the journal"
        if part.split(".")[0].rstrip(" ").casefold() in DEVICES:
            return f"has the part {part!r}, which is reserved on Windows"
        if part.endswith((".", " ")):
            return f"has the part {part!r}, which ends in a dot or a space"
    return None


def leads_out(folder: Path, name: PurePath | str) -> bool:
    """Whether the directory of a file below ``folder`` is elsewhere, by a symbolic link."""
    return not (folder / name).parent.resolve().is_relative_to(folder.resolve())


def is_inside(file: Path | str, folders: Iterable[Path | str]) -> bool:
    """Whether a file is one of ``folders``, or below one of them, links followed."""
    real = Path(file).expanduser().resolve()
    return any(real.is_relative_to(Path(each).expanduser().resolve()) for each in folders)


def names_path(model: str, *, part: bool = False) -> bool:
    """Whether the name of a model is, or could be, a path instead of ``mini`` or a Hub id.

    The file system is not asked about names that are paths by their form: on Windows
    ``\\\\HOST\\SHARE`` would be sent the name and password hash of the user.

    Args:
        model: The name.
        part: It is that of a captioner, CLIP or segmentation model: none of them is ``mini``.
    """
    if model == "mini" and not part:
        return False
    if not WORD.fullmatch(model) or PurePath(model).suffix.lower() in WEIGHTS:
        return True
    return os.path.lexists(model)
