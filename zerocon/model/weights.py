"""Weight files of networks: which ones there are, what their headers say, and their tensors.

Only safetensors are opened, by names that are checked here. A pickle is never opened, whatever
an index or a configuration says.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from os.path import lexists
from pathlib import Path, PureWindowsPath
from stat import S_ISREG
from typing import TYPE_CHECKING, NamedTuple

from safetensors import safe_open

from zerocon.errors import ModelNotFoundError, PickleRefusedError, UnsupportedModelError
from zerocon.model.config import INDEX_BYTES, printable, read_json, shorten

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SUFFIX = ".safetensors"
PICKLES = (".ckpt", ".bin", ".pt", ".pth", ".pkl", ".pickle")
VARIANTS = ("fp16", "bf16", "fp32", "non_ema")  # in names of weight files
PREFERENCES = {  # variants in the order of preference, by dtype; None is the file without one
    "float32": (None, "fp32", "fp16", "bf16", "non_ema"),
    "float16": ("fp16", None, "fp32", "bf16", "non_ema"),
    "bfloat16": ("bf16", None, "fp32", "fp16", "non_ema"),
}
DTYPES = ("F64", "F32", "F16", "BF16")  # of weights; all others are quantized or no weights
MOST_SHARDS = 1000
LONGEST_HEADER = 10_000_000  # bytes; those of released models have 200,000
LISTED = 3  # keys that a message names
# Modules around a network whose names are left in front of its keys, and wrappers inside of it.
WRAPPERS = ("module", "model", "text_model", "transformer", "unet", "vae", "text_encoder")
COMPILED = "_orig_mod."  # of torch.compile, anywhere in a key
# Weights next to those of a network that take no part in it: averages, losses, counters.
ASIDE = ("model_ema.", "loss.", "ema.", "num_batches_tracked", "position_ids", "decay")
OLD_NAMES = (  # of older versions of diffusers and transformers
    (r"\.LayerNorm\.gamma$", ".LayerNorm.weight"),
    (r"\.LayerNorm\.beta$", ".LayerNorm.bias"),
    (r"\.query\.(?=weight$|bias$)", ".to_q."),
    (r"\.key\.(?=weight$|bias$)", ".to_k."),
    (r"\.value\.(?=weight$|bias$)", ".to_v."),
    (r"\.proj_attn\.(?=weight$|bias$)", ".to_out.0."),
)

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


class StoredTensor(NamedTuple):
    """Where a tensor is: file, key, shape, and dtype as safetensors writes it ("F16").

    ``third`` says which third of the rows it is, of a tensor that holds three; None for all rows.
    """

    file: Path
    key: str
    shape: Shape
    dtype: str
    third: int | None = None

    def split(self) -> tuple[StoredTensor, ...]:
        """The three thirds of the rows: queries, keys and values of an attention layer."""
        shape = (self.shape[0] // 3, *self.shape[1:])
        return tuple(self._replace(shape=shape, third=i) for i in range(3))


@dataclass(frozen=True)
class WeightFiles:
    """The weights of one network.

    Attributes:
        files: One file, or all shards.
        variant: "fp16", "bf16", "fp32" or "non_ema"; None for files without one.
        index: The file that lists the shards.
    """

    files: tuple[Path, ...]
    variant: str | None = None
    index: Path | None = None

    @property
    def all(self) -> tuple[Path, ...]:
        """The index, if any, and the weights."""
        return (*([self.index] if self.index else ()), *self.files)


def weight_files(folder: Path, plain: str, name: str, dtype: str = "float32") -> WeightFiles:
    """The files of a network's weights, of the variant that fits a dtype best.

    Args:
        folder: Of the network.
        plain: Name of the single file without a variant, "model.safetensors".
        name: Of the model, for messages.
        dtype: That the network will have.

    Returns:
        The files; ``plain``, which does not exist, where there are none.

    Raises:
        PickleRefusedError: The weights are pickles, or an index names one.
        UnsupportedModelError: The index is damaged, or names files elsewhere.
    """
    stem = plain.removesuffix(SUFFIX)
    for variant in PREFERENCES[dtype]:
        infix = f".{variant}" if variant else ""
        whole = folder / f"{stem}{infix}{SUFFIX}"
        if lexists(whole):
            return WeightFiles((whole,), variant)
        indices = {f"{stem}{SUFFIX}.index{infix}.json", f"{stem}{infix}{SUFFIX}.index.json"}
        for index in sorted(folder / each for each in indices):
            if lexists(index):
                return WeightFiles(_shards(index, name), variant, index)
    refuse_pickles(folder)
    return WeightFiles((folder / plain,))


def refuse_pickles(folder: Path) -> None:
    """Raise ``PickleRefusedError`` if the only weights in a network's directory are pickles."""
    pickles = sorted(each for each in folder.glob("*") if each.suffix.lower() in PICKLES)
    if pickles and not any(folder.glob(f"*{SUFFIX}")):
        raise PickleRefusedError(pickle_message(pickles[0]))


def pickle_message(file: Path) -> str:
    """Why a pickle is refused, and how to convert it without running its code."""
    # diffusers looks for the same name with the new suffix, transformers for a shorter one
    target = "model.safetensors" if file.name == "pytorch_model.bin" else f"{file.stem}.safetensors"
    why = f"{file} is a pickle, which can run code when it is opened"
    if not re.fullmatch(r"[\w./ +-]+", str(file)):  # its name would be part of a command
        return f"{why}; get the same weights as .safetensors"
    return (
        f"{why}; convert it once, without "
        f'running any: python -c "import torch; from safetensors.torch import save_file; '
        f"w = torch.load('{file}', map_location='cpu', weights_only=True); "
        "save_file({k: v.clone() for k, v in w.get('state_dict', w).items() "
        f"if hasattr(v, 'clone')}}, '{file.with_name(target)}', "
        "{'format': 'pt'})\""
    )


def stored_tensors(weights: WeightFiles) -> dict[str, StoredTensor]:
    """The tensors of all files, by key, from the headers.

    Raises:
        SafetensorError: A file is damaged; or ``OSError``.
    """
    return {
        key: StoredTensor(file, key, *facts)
        for file in weights.files
        for key, facts in _header(file).items()
    }


def require_header(file: Path) -> None:
    """Check what safetensors does not: that a file ends, and its header is not a huge list.

    Raises:
        UnsupportedModelError: Its header is larger than ``LONGEST_HEADER``.
        OSError: It is a pipe or a device, or cannot be read.
    """
    if not S_ISREG(file.stat().st_mode):
        raise OSError(f"{file} is no regular file")
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
    if LONGEST_HEADER < length < file.stat().st_size:
        raise UnsupportedModelError(f"{file} is damaged: its header has {length} bytes")


def _header(file: Path) -> dict[str, tuple[Shape, str]]:
    """Shape and dtype of each tensor of a safetensors file."""
    require_header(file)
    with safe_open(file, framework="np") as weights:
        slices = {key: weights.get_slice(key) for key in weights.keys()}
        return {k: (tuple(each.get_shape()), str(each.get_dtype())) for k, each in slices.items()}


def fit_keys(
    stored: Mapping[str, StoredTensor], expected: Collection[str]
) -> tuple[dict[str, StoredTensor], list[str]]:
    """Tensors by the names that a network has for them, and keys that it has no name for.

    Names of wrappers in front (``module.``, ``_orig_mod.``, ``text_model.``) are ignored where the
    network has none, and added where it has them.
    """
    fitted: dict[str, StoredTensor] = {}
    unexpected = []
    for key, tensor in stored.items():
        target = next((each for each in _spellings(key) if each in expected), None)
        if target is None:
            unexpected.append(key)
        elif target not in fitted or target == key:  # an exact name is preferred
            fitted[target] = tensor
    return fitted, unexpected


def _spellings(key: str) -> Iterable[str]:
    """The names that a tensor may have in a network, the most literal one first."""
    bare = [key.replace(COMPILED, "")]
    while (first := bare[-1].partition("."))[0] in WRAPPERS and first[2]:
        bare.append(first[2])
    for each in (key, *bare):
        yield from (each, f"text_model.{each}")
        old = each
        for pattern, new in OLD_NAMES:
            old = re.sub(pattern, new, old)
        if old != each:
            yield old


def require_complete(
    part: str, name: str, expected: Shapes, tensors: Mapping[str, StoredTensor]
) -> None:
    """Check that a network has all its weights, in shapes that fit.

    Raises:
        ModelNotFoundError: Weights are missing.
        UnsupportedModelError: Weights have other shapes than the network, or are quantized.
    """
    for key in (each for each in expected if each in tensors):
        if _squeezed(tensors[key].shape) != _squeezed(expected[key]):
            raise UnsupportedModelError(
                f"{name} is damaged: the weights of the {part} do not fit its configuration: {key} "
                f"has the shape {_text(tensors[key].shape)} instead of {_text(expected[key])}"
            )
        if tensors[key].dtype not in DTYPES:
            raise UnsupportedModelError(
                f"{name} has quantized weights: {key} of the {part} is {tensors[key].dtype}; use "
                "weights in float32, float16 or bfloat16"
            )
    if missing := [key for key in expected if key not in tensors]:
        raise ModelNotFoundError(
            f"{name} is not complete: the {part} lacks {len(missing)} of {len(expected)} weights: "
            f"{listed(missing)}"
        )


def require_expected(part: str, name: str, unexpected: Collection[str]) -> None:
    """Raise ``UnsupportedModelError`` for weights that belong to another network."""
    others = sorted(key for key in unexpected if not any(each in key for each in ASIDE))
    if others:
        raise UnsupportedModelError(
            f"{name} is damaged, or another model than it says: the {part} has no place for "
            f"{len(others)} weights: {listed(others)}"
        )


def read_tensors(
    part: str,
    name: str,
    expected: Shapes,
    tensors: Mapping[str, StoredTensor],
    dtype: torch.dtype,
) -> dict[str, Tensor]:
    """The weights of a network in a dtype, all of them finite.

    Raises:
        UnsupportedModelError: A weight is NaN or infinite, in ``dtype`` or in the file.
    """
    values: dict[str, Tensor] = {}
    for file in sorted({tensor.file for tensor in tensors.values()}):
        with safe_open(file, framework="pt") as weights:
            for key, shape in expected.items():
                stored = tensors[key]
                if stored.file == file:
                    whole = weights.get_tensor(stored.key)
                    rows = whole if stored.third is None else whole.chunk(3)[stored.third]
                    values[key] = rows.reshape(shape).to(dtype).contiguous()
    require_finite_weights(part, name, values)
    return values


def require_finite_weights(part: str, name: str, values: Mapping[str, Tensor]) -> None:
    """Raise ``UnsupportedModelError`` if a weight is NaN or infinite."""
    bad = [key for key, value in values.items() if not _is_finite(value)]
    if bad:
        dtype = str(values[bad[0]].dtype).removeprefix("torch.")
        hint = "" if dtype == "float32" else ", or try --dtype float32"
        raise UnsupportedModelError(
            f"{name} is damaged: weights of the {part} are NaN or infinite in {dtype}: "
            f"{listed(bad)}; download it again{hint}"
        )


def _is_finite(value: Tensor) -> bool:
    """Whether all elements are finite, in one pass and without a copy."""
    if not value.numel():
        return True
    low, high = value.aminmax()  # NaN propagates
    return bool(low.isfinite() and high.isfinite())


def listed(keys: Iterable[str]) -> str:
    """The first three keys, for a message."""
    keys = list(keys)
    more = f" and {len(keys) - LISTED} more" if len(keys) > LISTED else ""
    return ", ".join(map(printable, keys[:LISTED])) + more


def _shards(index: Path, name: str) -> tuple[Path, ...]:
    """The files that an index names, all of them safetensors in the same directory."""
    listing = read_json(index, name, INDEX_BYTES).get("weight_map")
    if not isinstance(listing, dict) or not listing:
        raise UnsupportedModelError(f"{name} is damaged: {index.name} has no weight_map")
    names = sorted({str(each) for each in listing.values()})
    if len(names) > MOST_SHARDS:
        raise UnsupportedModelError(f"{name} is damaged: {index.name} names {len(names)} files")
    for each in names:
        if PureWindowsPath(each).suffix.lower() in PICKLES:
            raise PickleRefusedError(
                f"{name}: {index.name} names the pickle {printable(each)}, and opening one can run "
                "code of its author; get the same weights as .safetensors"
            )
        if PureWindowsPath(each).name != each or not each.endswith(SUFFIX):
            raise UnsupportedModelError(
                f"{name} is damaged: {index.name} names {shorten(each)}, which is no "
                ".safetensors file in the same directory"
            )
    return tuple(index.parent / each for each in names)


def _squeezed(shape: Shape) -> Shape:
    """A shape without the 1 x 1 kernel of a convolution, which is a linear layer."""
    return shape[:2] if len(shape) in (3, 4) and set(shape[2:]) == {1} else shape


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "one number"
