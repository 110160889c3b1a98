"""What zerocon refuses or cannot do: a class, and an id that stays, for each thing to do about it.

Mistakes in what was given are ``ValueError`` too, and things that are not here ``MissingError``.
The docstrings are the page ``docs/errors.md``, which ``zerocon errors`` prints: the first line says
what happened, the rest what to do.
"""

from __future__ import annotations

import errno
from typing import ClassVar


class ZeroconError(Exception):
    """Something else was refused.

    A value that a library or another package's method did not take, or a file that the system did
    not give: a path too long, a disk that fails. The message is theirs. Look at what it names; if
    that is right, run the command again with ``-v`` and report what it shows.
    """

    id: ClassVar[str] = "ZC-E001"
    code: ClassVar[int] = 2  # the command line's exit code


class InputError(ZeroconError, ValueError):
    """A mistake in what was given."""


class MissingError(ZeroconError, RuntimeError):
    """A model, a device or a package is not there; the message says in one line how to get it."""

    code = 3


class CommandError(InputError):
    """The command line is not understood.

    An option or argument that does not exist, is missing, has no value of its kind, or cannot stand
    beside another one. ``zerocon COMMAND --help`` lists what there is. Two outputs need two names;
    a picture from stdin needs ``-o``.
    """

    id = "ZC-E010"


class ConfigurationError(InputError):
    """The configuration is not understood.

    A ``zerocon.toml`` that is no TOML or has a key that does not exist, or a value in it or in a
    ``ZEROCON_*`` variable that the option of that name does not take. The message names the file or
    the variable. ``zerocon config show --origin`` shows what holds and who says so.
    """

    id = "ZC-E011"


class SettingError(InputError):
    """A setting has a value that it cannot have.

    A number out of its range, more steps than the model knows, a device, dtype or prediction that
    has no such name. The message says what would be right. Without the option, the default holds.
    """

    id = "ZC-E012"


class MethodError(InputError):
    """There is no such method, or it has no such option.

    Of ``--guidance``, ``--inverter`` or the methods of ``zerocon bench world``: a name, an option
    after the colon, or a value of an option. ``zerocon methods`` lists methods and options with
    their defaults.
    """

    id = "ZC-E013"


class UnreadableImageError(InputError):
    """The picture cannot be read.

    There is no such file, it is a folder or may not be read, or it is empty, cut off or damaged.
    Check the name, and whether another program opens the file; then copy or save it again.
    """

    id = "ZC-E020"


class ImageFormatError(InputError):
    """The file is no picture, or one of a kind that is not edited.

    Read are PNG, JPEG, WebP, TIFF, AVIF, GIF, BMP, PPM, JPEG 2000 and, with an extra, HEIC; the
    name's ending does not matter. Export anything else (a camera's raw file, SVG, PDF, floating
    point colours) as PNG, JPEG or TIFF first.
    """

    id = "ZC-E021"


class AnimatedImageError(InputError):
    """The picture moves, or has several pages.

    One picture is edited at a time: save the frame or page you mean as a file of its own.
    """

    id = "ZC-E022"


class ImageTooSmallError(InputError):
    """The picture is too small.

    A picture needs 16 pixels a side; below there is nothing to see. Enlarge it, or take a larger
    one.
    """

    id = "ZC-E023"


class ImageTooLargeError(InputError):
    """The picture has more pixels than may be read.

    The limit guards against small files that unpack to many gigabytes. Scale the picture down
    with a program that you trust with it.
    """

    id = "ZC-E024"


class OutputExistsError(InputError, FileExistsError):
    """An output exists already.

    Nothing is replaced without being asked: give ``--overwrite``, or another name with ``-o``.
    """

    id = "ZC-E030"


class OutputIsInputError(InputError):
    """An output is the very picture that is edited.

    An input is never overwritten, also not with ``--overwrite`` or through a link: give another
    name.
    """

    id = "ZC-E031"


class NotWritableError(InputError):
    """A file cannot be written there.

    The folder does not exist, is no folder, or you may not write to it (or, where the message says
    so, read from it); or the name is that of a folder. Make the folder, get the right to use it, or
    name another one.
    """

    id = "ZC-E032"


class MissingFolderError(NotWritableError, FileNotFoundError):
    """The folder of an output does not exist."""


class OutputFormatError(InputError):
    """No output of this kind can be written.

    The ending says what kind of file is made, and this one is unknown, or of a kind that cannot
    hold this picture (JPEG ends at 65535 pixels a side, WebP at 16383). The message lists the
    endings that are known, or says what stands in the way.
    """

    id = "ZC-E033"


class NoSpaceError(ZeroconError):
    """There is no space left to write to.

    The disk, or your share of it, is full. No half file was left behind. Make space, or name an
    output on another disk.
    """

    id = "ZC-E034"


class PromptError(InputError):
    """The wish asks for nothing, or makes no sense for this picture.

    No words, words that name nothing, a change to what is there already, or the removal of
    something that the caption does not mention. Say a thing, a place, a style: ``--to "dog"``;
    remove with ``--to "" --from "a hat"``. ``zerocon caption`` shows what the picture is taken for,
    ``--caption`` corrects it, and ``--to-caption`` says the whole wanted picture.
    """

    id = "ZC-E040"


class ModelNotFoundError(MissingError):
    """A model, or a part of it, is not on this machine.

    Nothing is downloaded behind your back: the message says what to get, mostly with ``zerocon
    models pull NAME``, which also completes what is not whole. ``zerocon models list`` shows what
    is here, ``zerocon models verify NAME`` what a model lacks, and ``--model mini`` is always here.
    """

    id = "ZC-E050"


class DeviceNotFoundError(MissingError):
    """The device is not on this machine.

    The message lists those that are. If a GPU is missing there, torch was installed without support
    for it, or its driver does not run. Without ``--device``, the best one there is does the work.
    """

    id = "ZC-E051"


class MissingPackageError(MissingError):
    """An optional package is not installed.

    HEIC, sheets and a few kinds of pictures need more than zerocon itself. The message says what to
    install.
    """

    id = "ZC-E052"


class PickleRefusedError(InputError):
    """The model is a pickle.

    Opening a pickle (``.ckpt``, ``.bin``, ``.pt``, ``.pth``) can run code of whoever made it. The
    message has a command that converts it without running any; name the new file then.
    """

    id = "ZC-E053"


class UnsupportedModelError(InputError):
    """The model is none that zerocon can edit with, or is damaged.

    It edits with Stable Diffusion 1.x and 2.x, whole and for pictures from text: not with XL, 3, a
    LoRA, or an inpainting model. The message says what was found; take a base model. ``zerocon
    models verify NAME`` names damaged files; get those again.
    """

    id = "ZC-E054"


class FileFormatError(InputError):
    """A file is not what it was given as.

    A direction is made by ``zerocon direction``, an inversion by ``zerocon invert``, rows by
    ``zerocon bench world --results``; sentences are text in UTF-8, one a line. The file is not there,
    is something else, or was cut off. Check the name, or make the file again.
    """

    id = "ZC-E060"


class MismatchError(InputError):
    """A file is of another picture, model or run.

    An inversion is of one picture, one caption and one model, a direction of one text encoder, rows
    of one setup. Use it with what it was made for (``--model``), or make a new one.
    """

    id = "ZC-E061"


class OutOfMemoryError(ZeroconError, MemoryError):
    """There is not enough memory.

    An edit does with less by itself where memory runs out, and says so each time: it remembers
    nothing of the source, keeps less for the way back, on a GPU keeps networks elsewhere until they
    are called, and decodes in tiles. Where that is not enough, close what else uses the memory, and
    on a GPU try ``--dtype float16``; ``--device cpu`` is slower, and mostly has more.
    ``--dry-run`` says what an edit needs.
    """

    id = "ZC-E070"


class NotFiniteError(ZeroconError):
    """The network computed values that are not finite.

    NaN or infinity in latents, embeddings or pixels: no image can be made of them, and none was
    written or cached. In half precision the VAE of some models overflows: use ``--dtype float32``,
    or ``bfloat16``. In float32 the weights are damaged: ``zerocon models verify NAME``.
    """

    id = "ZC-E072"


class Interrupted(ZeroconError):
    """You interrupted the command.

    With Ctrl-C. No half output was left behind. What was complete by then is there: previews of
    ``--steps-dir``, and rows of ``--results`` and results of ``zerocon batch``, which go on from where
    they are.
    """

    id = "ZC-E071"
    code = 130


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
NO_MEMORY = ("out of memory", "can't allocate memory", "invalid buffer size")  # GPU, CPU, MPS


def classify(error: BaseException) -> type[ZeroconError] | None:
    """The class that explains ``error``, which may be anybody's; None for a bug."""
    if isinstance(error, ZeroconError):
        return type(error)
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(said in str(error).lower() for said in NO_MEMORY)
    ):
        return OutOfMemoryError
    if isinstance(error, OSError):
        return ERRNO.get(error.errno or 0, ZeroconError)
    return ZeroconError if isinstance(error, ValueError) else None
