"""Configuration files of models: read as data, checked, and reduced to the keys that are known.

A configuration may come from a stranger. Keys that would make a library run other code than its
own are refused by name; keys that no network here has are dropped; numbers are finite and bounded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any, NoReturn

from zerocon.errors import ModelNotFoundError, UnsupportedModelError

CONFIG_BYTES = 2_000_000  # the largest released ones have a few thousand
INDEX_BYTES = 8_000_000  # of weights or tokenizers: one line per tensor or word
LARGEST = 10_000_000  # of any number that a network's configuration has
LAYERS = 256  # of layers or blocks: more than any released network, few enough to build
LONGEST_LIST = 64  # of blocks, of numbers by block
MOST_BLOCKS = 1000  # of a U-Net or VAE: blocks times layers, in each of which are transformers
TRAIN_TIMESTEPS = 100_000
LIBRARIES = ("diffusers", "transformers", "stable_diffusion", "onnxruntime")
KERNELS = ("eager", "sdpa", "flash_attention_2", "flex_attention")  # of transformers itself

CODE_KEYS = {  # what a library would do with a key: a model that has it is refused
    "auto_map": "names code of its own",
    "custom_pipelines": "names code of its own",
    "custom_pipeline": "names code of its own",
    "custom_generate": "names code of its own",
    "trust_remote_code": "asks to run code of its own",
    "kernel_config": "names kernels of its own",
    "quantization_config": "has quantized weights, which other packages would have to read",
    "quantization": "has quantized weights, which other packages would have to read",
}
ATTENTION_KEYS = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")

TRANSFORMER = (
    "hidden_size", "intermediate_size", "projection_dim", "num_hidden_layers",
    "num_attention_heads", "hidden_act", "layer_norm_eps",
)  # fmt: skip
TEXT = (
    *TRANSFORMER, "vocab_size", "max_position_embeddings", "bos_token_id", "eos_token_id",
    "pad_token_id", "sep_token_id", "encoder_hidden_size", "is_decoder", "use_cache",
    "tie_word_embeddings",
)  # fmt: skip
VISION = (*TRANSFORMER, "num_channels", "image_size", "patch_size")
PAIR = ("projection_dim", "logit_scale_init_value", "image_text_hidden_size", "tie_word_embeddings")
CLIPSEG = (
    *PAIR, "extract_layers", "reduce_dim", "decoder_num_attention_heads", "conditional_layer",
    "decoder_hidden_act", "decoder_intermediate_size", "use_complex_transposed_convolution",
)  # fmt: skip
IMAGES = (
    "do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale",
    "rescale_factor", "do_normalize", "image_mean", "image_std", "do_convert_rgb",
)  # fmt: skip
IMAGE_CONFIGS = ("processor_config.json", "preprocessor_config.json")  # the newer one first
SCHEDULER = (
    "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas",
    "clip_sample", "set_alpha_to_one", "steps_offset", "prediction_type",
    "timestep_spacing", "rescale_betas_zero_snr",
)  # fmt: skip
BLOCK_KEYS = (  # of a U-Net or VAE: layers of a block, transformers of a layer
    ("layers_per_block", "mid_block_layers"),
    ("transformer_layers_per_block", "reverse_transformer_layers_per_block"),
)
SPACINGS = ("leading", "trailing", "linspace")
BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
SAMPLE_SIZES = {"epsilon": 64, "v_prediction": 96}  # of 1.x, and of the 2.x that predict v


def read_json(file: Path, name: str, most: int = CONFIG_BYTES) -> dict[str, Any]:
    """The object in a JSON file of the model ``name``, without keys that name code.

    Raises:
        ModelNotFoundError: There is no such file, or it cannot be read.
        UnsupportedModelError: It is no JSON object, too large, or would run code.
    """

    values = json_object(file, name, most)
    require_no_code(values, name, _label(file))
    return values


def json_object(file: Path, name: str, most: int = CONFIG_BYTES) -> dict[str, Any]:
    """``read_json`` without the check of its keys, for a file that is not loaded."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no number")

    try:
        status = file.stat()
        if not (S_ISREG(status.st_mode) or S_ISDIR(status.st_mode)):  # a pipe would wait
            raise ModelNotFoundError(f"{name} is not complete: {_label(file)} is no file")
        if status.st_size > most:
            raise UnsupportedModelError(f"{name} is damaged: {_label(file)} has over {most} bytes")
        values = json.loads(file.read_text(encoding="utf-8-sig"), parse_constant=refuse)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ModelNotFoundError(f"{name} is not complete: {_label(file)}: {reason}") from error
    except UnsupportedModelError:
        raise
    except (ValueError, RecursionError) as error:
        reason = "too deeply nested" if isinstance(error, RecursionError) else str(error)
        raise UnsupportedModelError(f"{name} is damaged: {_label(file)}: {reason}") from error
    if not isinstance(values, dict):
        raise UnsupportedModelError(f"{name} is damaged: {_label(file)} is not a JSON object")
    return values


def require_no_code(values: Any, name: str, where: str) -> None:
    """Raise ``UnsupportedModelError`` if a configuration would run code that is not installed."""
    if isinstance(values, list):
        for each in values:
            require_no_code(each, name, where)
    if not isinstance(values, Mapping):
        return
    for key, value in values.items():
        if key in CODE_KEYS and value not in (None, False, {}, []):
            raise UnsupportedModelError(
                f"{name} {CODE_KEYS[key]} ({key} in {where}); zerocon runs no code of a model"
            )
        if key in ATTENTION_KEYS and value not in (None, *KERNELS):
            raise UnsupportedModelError(
                f"{name} names kernels of its own ({key} in {where}); zerocon runs no code of a "
                "model"
            )
        require_no_code(value, name, where)


def choose(
    values: Mapping[str, Any], keys: Collection[str], name: str, where: str
) -> dict[str, Any]:
    """The values of known keys, whose numbers are bounded.

    Raises:
        UnsupportedModelError: A number is not one that a network can have.
    """
    chosen = {key: values[key] for key in keys if key in values}
    for key, value in chosen.items():
        if isinstance(value, list) and len(value) > LONGEST_LIST:
            raise UnsupportedModelError(
                f"{name} is damaged: {key} in {where} has {len(value)} values"
            )
        for number in _numbers_in(value):
            if not _is_sensible(key, number):
                raise UnsupportedModelError(
                    f"{name} is damaged: {key} in {where} is {shorten(value)}"
                )
    return chosen


def require_buildable(values: Mapping[str, Any], name: str, where: str) -> None:
    """Check that a U-Net or VAE of diffusers is one that is built in a reasonable time.

    Raises:
        UnsupportedModelError: It has more than ``MOST_BLOCKS`` blocks in blocks.
    """
    count = 1.0
    for kinds in BLOCK_KEYS:
        sizes = [max([1.0, *_numbers_in(values.get(key))]) for key in kinds]
        count *= max(sizes)
    lists = [values.get(key) for key in ("down_block_types", "up_block_types")]
    count *= max([1, *(len(each) for each in lists if isinstance(each, list))])
    if count > MOST_BLOCKS:
        raise UnsupportedModelError(
            f"{name} is damaged: {where} describes a network of {count:.0f} layers"
        )


def sample_size(value: Any, prediction: str, name: str) -> int:
    """Side in latents of the square that a U-Net was trained on.

    Args:
        value: ``sample_size`` of its configuration: a number, or height and width, of which the
            square of the same area is taken; None if the configuration does not say.
        prediction: What it predicts, which tells its generation where ``value`` is None.
        name: For messages.

    Raises:
        UnsupportedModelError: It is anything else.
    """
    if value is None or value == []:
        return SAMPLE_SIZES.get(prediction, SAMPLE_SIZES["epsilon"])
    sides = value if isinstance(value, list | tuple) else [value]
    is_size = all(isinstance(side, int) and not isinstance(side, bool) for side in sides)
    if not is_size or len(sides) > 2 or not all(1 <= side <= 4096 for side in sides):
        raise UnsupportedModelError(
            f"{name} is damaged: sample_size of the U-Net is {shorten(value)}, not a number of "
            "latents between 1 and 4096"
        )
    return round(math.sqrt(math.prod(sides) if len(sides) == 2 else sides[0] ** 2))


def scheduler_values(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The fields of a scheduler's configuration that a noise schedule depends on.

    Fields that the class it was saved by filled with defaults are left to our class's defaults, as
    diffusers does.

    Raises:
        UnsupportedModelError: A field has another type, or a value out of range.
    """
    defaults = values.get("_use_default_values") or ()
    chosen = {k: v for k, v in values.items() if k in SCHEDULER and k not in defaults}
    chosen = {k: v for k, v in chosen.items() if v is not None}
    timesteps = chosen.get("num_train_timesteps", 1000)
    for key, value in chosen.items():
        if right := _scheduler_fault(key, value, timesteps):
            raise UnsupportedModelError(
                f"{name} is damaged: {key} of the scheduler must be {right}, not {shorten(value)}"
            )
    if chosen.get("beta_start", 0.0001) > chosen.get("beta_end", 0.02):
        raise UnsupportedModelError(f"{name} is damaged: beta_start is larger than beta_end")
    return chosen


def _scheduler_fault(key: str, value: Any, timesteps: Any) -> str | None:
    """What a field must be, if ``value`` is not that."""
    if key in ("clip_sample", "set_alpha_to_one", "rescale_betas_zero_snr"):
        return None if isinstance(value, bool) else "true or false"
    if key in ("timestep_spacing", "beta_schedule"):
        names = SPACINGS if key == "timestep_spacing" else BETA_SCHEDULES
        return None if value in names else "one of " + ", ".join(names)
    if key == "prediction_type":
        return None if isinstance(value, str) else "text"
    if key in ("beta_start", "beta_end"):
        return None if _is_number(value) and 0 < value < 1 else "a number between 0 and 1"
    if key == "trained_betas":
        are = isinstance(value, list) and all(_is_number(b) and 0 <= b < 1 for b in value)
        return None if are and len(value) == timesteps else f"{timesteps} numbers between 0 and 1"
    # an offset above 1 leads past the last timestep
    least, most = (2, TRAIN_TIMESTEPS) if key == "num_train_timesteps" else (0, 1)
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return None if is_whole and least <= value <= most else f"a whole number of {least} to {most}"


def shorten(value: Any) -> str:
    """A value for a message, of at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def printable(text: object) -> str:
    """A name from a file for a message: one line of at most 120 printable characters."""
    name = str(text)
    name = name if name.isprintable() else ascii(name)
    return name if len(name) <= 120 else f"{name[:117]}..."


def _numbers_in(value: Any) -> Iterator[float]:
    """A number, or those in lists in lists."""
    if isinstance(value, list):
        for each in value:
            yield from _numbers_in(each)
    elif isinstance(value, int | float):
        yield value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_sensible(key: str, value: float) -> bool:
    """Whether a number is one that a network's configuration can have."""
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if "layers" in key:
        return -LAYERS <= value <= LAYERS
    return abs(value) <= LARGEST


def _label(file: Path) -> str:
    """A file with its directory: ``unet/config.json``."""
    return f"{file.parent.name}/{file.name}"
