"""Errors with stable ids, and the exit status of commands.

There is one error class per thing a user can do about it, with an id that does not change
between versions. Invalid input is a ``ValueError`` too; missing models, devices and packages are
``MissingError``. The docstrings of classes with an id are the page ``docs/errors.md``, printed by
``zerocon errors``: the first line says what happened, the rest what to do.
"""

from __future__ import annotations

import errno
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from functools import wraps
from typing import ClassVar, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class ExitCode(IntEnum):
    """Exit status of every command, each with its ``meaning``: the only table of them."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> ExitCode:
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    OK = 0, "success"
    CHECK_FAILED = (
        1,
        (
            "a check failed (`replay`, `doctor`, `cache verify`) or part of a batch failed; "
            "with a traceback: a bug"
        ),
    )
    USAGE = (
        2,
        (
            "invalid command line, configuration, prompt, image or file; "
            "not enough memory or disk space"
        ),
    )
    MISSING = 3, "a model, device or optional package is missing"
    INTERRUPTED = 130, "interrupted with Ctrl-C"

    @classmethod
    def table(cls) -> str:
        """All codes as a Markdown table."""
        rows = (f"| {each.value} | {each.meaning} |" for each in cls)
        return "\n".join(["| Exit status | Meaning |", "|---|---|", *rows])


class ZeroconError(Exception):
    """Another library or the operating system reported an error.

    A value that a library or an extension rejected, or a file operation that failed: a path that is
    too long, a disk with errors. The message is the original one. Check what it names; if that is
    right, run the command again with ``-v`` and report the output.
    """

    id: ClassVar[str] = "ZC-E001"
    code: ClassVar[ExitCode] = ExitCode.USAGE
    hints: tuple[str, ...] = ()  # what would be right, one phrase each; part of the message too
    path: str | None = None  # the file that it is about, see ``about``


class InputError(ZeroconError, ValueError):
    """Base class of errors in what the user gave: options, prompts, images, files."""


class MissingError(ZeroconError, RuntimeError):
    """Base class of missing models, devices and packages; the message says how to get them."""

    code = ExitCode.MISSING


class CommandError(InputError):
    """Invalid command line.

    An option or argument that does not exist, is missing, has an invalid value, or conflicts with
    another one. ``zerocon COMMAND --help`` lists the options. Two outputs need two names; an image
    read from stdin needs ``-o``.
    """

    id = "ZC-E010"


class ConfigurationError(InputError):
    """Invalid configuration.

    A ``zerocon.toml`` with a syntax error or an unknown key, or an invalid value in it or in a
    ``ZEROCON_*`` environment variable. The message names the file or the variable. ``zerocon config
    show --origin`` lists every value and where it comes from. A file that was found, not named by
    ``--config``, is not used if it belongs to another user or others may write it.
    """

    id = "ZC-E011"


class SettingError(InputError):
    """Invalid value of a setting.

    A number out of range, more steps than the model was trained with, an unknown device, dtype or
    prediction type. The message states the valid values.
    """

    id = "ZC-E012"


class MethodError(InputError):
    """Unknown method, or invalid option of a method.

    In ``--guidance``, ``--inverter``, ``--attention`` or the methods of ``zerocon bench world``:
    the name, an option after the colon, or the value of an option. ``zerocon methods`` lists all
    methods and their options with defaults.
    """

    id = "ZC-E013"


class UnreadableImageError(InputError):
    """The image cannot be read.

    The file does not exist, is a directory, lacks read permission, is empty, truncated or corrupt.
    Check the name, and whether another program opens the file; then copy or save it again. A JPEG
    whose end is missing is edited with ``--lenient``, and so is a JPEG 2000 without some of its
    tiles; what is missing is gray or black.
    """

    id = "ZC-E020"


class ImageFormatError(InputError):
    """The file is not an image, or its format is not supported.

    Supported are PNG, JPEG, WebP, TIFF, AVIF, GIF, BMP, PPM, JPEG 2000 and, with an extra package,
    HEIC; the ending of the file's name does not matter. Convert other files (camera raw, SVG, PDF,
    floating point pixels) to PNG, JPEG or TIFF first.
    """

    id = "ZC-E021"


class AnimatedImageError(InputError):
    """The image has several frames or pages.

    Only still images can be edited: save one frame or page as a file of its own.
    """

    id = "ZC-E022"


class ImageTooSmallError(InputError):
    """The image is too small.

    Both sides need at least 16 pixels. Use a larger image, or enlarge it.
    """

    id = "ZC-E023"


class ImageTooLargeError(InputError):
    """The image has too many pixels, or its file too many parts.

    The limits protect against small files that take minutes or gigabytes to decode: 100 million
    pixels, which ``--max-megapixels`` raises; scans of a JPEG, directories of a TIFF, bytes of
    headers and metadata. If the file comes from a source you trust, save the image again with
    another program.
    """

    id = "ZC-E024"


class MaskError(InputError):
    """The mask cannot be used.

    It has another aspect ratio than the image, is black everywhere, or is an array of the wrong
    shape or values. White may change, black is kept, gray changes in part. Give a mask of the
    image's size as it is displayed, that is, after its EXIF orientation is applied.
    """

    id = "ZC-E025"


class MaskTextError(InputError):
    """The words for a mask name nothing in the image.

    The segmentation model found no pixel that is likely to belong to them. Name one visible thing
    in other words, without what it does or what it is next to, or give the mask as a file.
    """

    id = "ZC-E026"


class CropError(InputError):
    """The crop does not lie in the image.

    A crop is given as X,Y,W,H: left, upper, width and height in pixels of the upright image, at
    least 16 pixels per side. `zerocon edit --dry-run` prints the image's size.
    """

    id = "ZC-E027"


class OutputExistsError(InputError, FileExistsError):
    """The output file exists already.

    Files are replaced only with ``--overwrite``. Add it, or give another name with ``-o``.
    """

    id = "ZC-E030"


class OutputIsInputError(InputError):
    """The output file is also an input.

    Inputs are never overwritten, not even with ``--overwrite`` or through a link. Give another
    output.
    """

    id = "ZC-E031"


class NotWritableError(InputError):
    """The output cannot be written.

    The directory does not exist or is a file, its permissions do not allow writing (or reading,
    where the message says so), or the output's name is that of a directory, or one that not every
    system has (``CON.png``, ``a:b.png``). Create the directory, change its permissions, or give
    another one.
    """

    id = "ZC-E032"


class MissingFolderError(NotWritableError, FileNotFoundError):
    """The directory of an output does not exist."""


class OutputFormatError(InputError):
    """The output format is not supported, or cannot hold this image.

    The format is chosen by the ending of the output's name. JPEG is limited to 65535 pixels per
    side, WebP to 16383. The message lists the valid endings, or states the limit.
    """

    id = "ZC-E033"


class NoSpaceError(ZeroconError):
    """No space left on the disk.

    The disk, or your quota on it, is full. No incomplete file was left. Free some space, or write
    to another disk.
    """

    id = "ZC-E034"


class PromptError(InputError):
    """The prompt is empty, or does not fit the image.

    No prompt, one that names nothing, or the removal of something that the caption does not
    mention. Name an object, a place or a style: ``--to "dog"``; remove with ``--to "" --from "a
    hat"``. ``zerocon caption`` prints the generated source caption, ``--caption`` replaces it, and
    ``--to-caption`` gives the whole target caption.
    """

    id = "ZC-E040"


class UnclearPromptError(PromptError):
    """The prompt is not understood.

    It is not English, contains a word that is in no word list, or can be read in several ways; the
    message names the reason and prompts that would work. ``--from`` says what is replaced, and
    ``--to-caption`` gives the whole target caption; both accept any words.
    """

    id = "ZC-E041"


class NothingToChangeError(PromptError):
    """The image is already as the prompt describes it.

    The source caption contains everything that the prompt asks for. Nothing was written; with
    ``--copy-unchanged`` the source image is copied to the output. If the caption is wrong, replace
    it with ``--caption``.
    """

    id = "ZC-E042"
    code = ExitCode.OK
    caption: str | None = None  # the source caption


class UnknownWordError(PromptError):
    """The model was not trained on a word of the prompt.

    Some models list the words of their training captions, as ``mini`` does. The edit direction of
    any other word is random. The message names words of the same kind that the model knows;
    ``--to-caption`` takes any words, and warns.
    """

    id = "ZC-E043"


class ModelNotFoundError(MissingError):
    """A model, or a part of it, is not installed or not complete.

    The message names the missing file, or up to three of the missing weights. Models are only
    downloaded by ``zerocon models pull NAME``, which also completes partial downloads. ``zerocon
    models list`` lists the installed ones, ``zerocon models verify NAME`` the missing parts of one.
    ``--model mini`` is always available.
    """

    id = "ZC-E050"


class DeviceNotFoundError(MissingError):
    """The device is not available.

    The message lists the available devices. If a GPU is missing from it, torch was installed
    without support for it, or its driver does not work. Without ``--device`` the best available
    device is used.
    """

    id = "ZC-E051"


class MissingPackageError(MissingError):
    """An optional package is not installed.

    HEIC images, explain sheets and some commands need additional packages. The message names the
    command that installs them.
    """

    id = "ZC-E052"


class PickleRefusedError(InputError):
    """The model is a pickle file.

    Loading a pickle (``.ckpt``, ``.bin``, ``.pt``, ``.pth``) can execute code of its author. None
    is opened: not as a model, not as the weights of a part, and not when an index of shards names
    one. The message has a command that converts it without executing any; then give the new file.
    """

    id = "ZC-E053"


class UnsupportedModelError(InputError):
    """The model is not supported, or is corrupt.

    Supported are complete text-to-image models of Stable Diffusion 1.x and 2.x; not SDXL, SD 3, a
    LoRA or an inpainting model. The message says which kind was detected; use a base model.
    A configuration that names code or kernels of its own, or quantized weights, is refused.
    Weights must be finite and fit the configuration. ``zerocon models verify NAME`` names corrupt
    files; download those again. A VAE alone is given with ``--vae``.
    """

    id = "ZC-E054"


class FileFormatError(InputError):
    """A file is missing, corrupt, or has the wrong format.

    Directions are made by ``zerocon direction``, inversions by ``zerocon invert``, results by
    ``zerocon bench world --results``, recipes are in images written by ``zerocon edit``; sentence
    files are UTF-8 text with one sentence per line. Files with values that are not finite, control
    characters, or sizes that no file of zerocon has are refused too. Check the name, or create the
    file again.
    """

    id = "ZC-E060"


class MismatchError(InputError):
    """A file belongs to another image, model or run.

    An inversion belongs to one image, caption and model, a direction to one text encoder, a recipe
    to one source image and model, a results file to one set of options. Use it with those
    (``--model``), or create a new one. Two batches that work in one directory need the same
    settings.
    """

    id = "ZC-E061"


class UntrustedReferenceError(InputError):
    """A file names a path or a model that the command line does not.

    Journals and recipes may come from strangers: what they name is not opened unless it is
    ``mini``, a Hub id in the cache, or named by the command line too. Give the model with
    ``--model`` (also ``--vae``, ``--captioner``, ``--clip``, ``--segmenter``). With
    ``batch --resume`` give the directories of the images, as in
    ``zerocon batch photos -o edited --resume``, and what weakens privacy or limits:
    ``--keep-gps``, ``--metadata``, ``--max-megapixels``. A journal of your own needs none of
    these, unless it was changed or the cache directory was removed.
    """

    id = "ZC-E064"


class OutOfMemoryError(ZeroconError, MemoryError):
    """Not enough memory.

    Before this error an edit retries with less memory, with a warning each time: it recomputes the
    source's activations instead of caching them, uses gradient checkpointing, offloads networks to
    the CPU and decodes in tiles. If that is not enough, close other programs that use the memory,
    or on a GPU try ``--dtype float16``; ``--device cpu`` is slower, but usually has more memory.
    ``--dry-run`` estimates what an edit needs.
    """

    id = "ZC-E070"


class Interrupted(ZeroconError):
    """The command was interrupted.

    With Ctrl-C. No incomplete output was left. Complete ones are kept: images of ``--steps-dir``,
    rows of ``--results`` and edits of ``zerocon batch``; the last two continue where they stopped
    when the command runs again.
    """

    id = "ZC-E071"
    code = ExitCode.INTERRUPTED


class NotFiniteError(ZeroconError):
    """The network computed values that are not finite.

    NaN or infinity in latents, gradients, embeddings, similarities or pixels: nothing was written
    or cached. In float16 and bfloat16 the part that failed has computed again in float32 before
    this error, with a warning. In float32 the weights are corrupt (run ``zerocon models verify
    NAME``), or the weight of a guidance loss is much too large.
    """

    id = "ZC-E072"
    part: str | None = None  # the network that computed them, see zerocon.model.precision


ERRORS = {
    each.id: each
    for each in list(vars().values())
    if isinstance(each, type) and issubclass(each, ZeroconError) and "id" in vars(each)
}

ERRNO = {
    errno.ENOSPC: NoSpaceError,
    errno.EDQUOT: NoSpaceError,
    errno.EACCES: NotWritableError,
    errno.EPERM: NotWritableError,
    errno.EROFS: NotWritableError,
    errno.ENOMEM: OutOfMemoryError,
}
# parts of torch's messages on CUDA, CPU and MPS; only CUDA has an exception class for it
NO_MEMORY = ("out of memory", "can't allocate memory", "invalid buffer size")


@contextmanager
def about(path: object) -> Iterator[None]:
    """Give errors of zerocon raised in the block the ``path`` of a file, unless they have one.

    Anything but a path is ignored: images come as bytes too.
    """
    try:
        yield
    except ZeroconError as error:
        if error.path is None and isinstance(path, str | os.PathLike):
            error.path = os.fsdecode(path)
        raise


def about_argument(name: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorator of a function that reads or writes a file: its errors are ``about`` this argument.

    Every function that opens a file given by the user has it, and no other code sets a path.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        signature = inspect.signature(function)

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            with about(signature.bind(*args, **kwargs).arguments.get(name)):
                return function(*args, **kwargs)

        return call

    return decorate


def classify(error: BaseException) -> type[ZeroconError] | None:
    """The class of this module that describes any exception; None for a bug."""
    if isinstance(error, ZeroconError):
        return type(error)
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(part in str(error).lower() for part in NO_MEMORY)
    ):
        return OutOfMemoryError
    if isinstance(error, OSError):
        return ERRNO.get(error.errno or 0, ZeroconError)
    return ZeroconError if isinstance(error, ValueError) else None
