"""The networks of a model, built from a checked configuration and safetensors.

Each network is planned first: from headers alone it is known whether its weights are complete and
fit. Only then are weights read. ``zerocon models verify`` stops after the plan.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from zerocon.errors import UnsupportedModelError
from zerocon.model.config import (
    CLIPSEG,
    PAIR,
    TEXT,
    VISION,
    choose,
    printable,
    read_json,
    require_buildable,
    sample_size,
    scheduler_values,
    shorten,
)
from zerocon.model.weights import (
    StoredTensor,
    WeightFiles,
    fit_keys,
    read_tensors,
    require_complete,
    require_expected,
    stored_tensors,
    weight_files,
)

DIFFUSERS, TRANSFORMERS = "diffusion_pytorch_model.safetensors", "model.safetensors"


@dataclass(frozen=True)
class NetworkPlan:
    """A network whose weights are known to be complete.

    Attributes:
        part: What messages call it.
        name: Of the model, for messages.
        network: An instance without weights, on the meta device.
        tensors: Where its weights are, by its own names for them.
        files: The files that they are in; None for a single-file checkpoint.
    """

    part: str
    name: str
    network: Any
    tensors: Mapping[str, StoredTensor]
    files: WeightFiles | None = None

    def load(self, dtype: torch.dtype) -> Any:
        """The network with its weights, in evaluation mode.

        Raises:
            UnsupportedModelError: Weights are NaN or infinite.
        """
        expected = {key: tuple(tensor.shape) for key, tensor in self.network.state_dict().items()}
        expected = {key: shape for key, shape in expected.items() if key in self.tensors}
        values = read_tensors(self.part, self.name, expected, self.tensors, dtype)
        if not hasattr(self.network, "all_tied_weights_keys"):  # of diffusers
            self.network.load_state_dict(values, assign=True)
            return self.network.eval()
        # its buffers are not in the files, and weights may be tied
        network = type(self.network).from_pretrained(
            None, config=self.network.config, state_dict=values, dtype=dtype
        )
        return network.eval()


def plan(
    part: str,
    name: str,
    build: Callable[[], Any],
    tensors: Mapping[str, StoredTensor],
    *,
    files: WeightFiles | None = None,
    strict: bool = False,
) -> NetworkPlan:
    """Check a network's weights against the network that its configuration describes.

    Args:
        part: "U-Net", for messages.
        name: Of the model, for messages.
        build: Makes the network.
        tensors: Of the files, by their keys.
        files: For the record.
        strict: Refuse weights that the network has no place for.

    Raises:
        ModelNotFoundError: Weights are missing.
        UnsupportedModelError: They do not fit, or the configuration describes no network.
    """
    with torch.device("meta"):
        network = build()
    tied: Mapping[str, str] = getattr(network, "all_tied_weights_keys", {})
    state = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    fitted, unexpected = fit_keys(tensors, state.keys())
    for target, source in tied.items():  # either name may be in the file
        if source not in fitted and target in fitted:
            fitted[source] = fitted.pop(target)
        fitted.pop(target, None)
    expected = {key: shape for key, shape in state.items() if key not in tied}
    require_complete(part, name, expected, fitted)
    if strict:
        require_expected(part, name, unexpected)
    return NetworkPlan(part, name, network, fitted, files)


def plan_folder(
    part: str, name: str, folder: Path, plain: str, dtype: str, build: Callable[[], Any]
) -> NetworkPlan:
    """``plan`` for the weight files in a network's directory."""
    files = weight_files(folder, plain, name, dtype)
    tensors = stored_tensors(files)
    return plan(part, name, build, tensors, files=files, strict=plain == DIFFUSERS)


def plan_unet(folder: Path, name: str, dtype: str = "float32") -> NetworkPlan:
    """diffusers' ``UNet2DConditionModel`` in a directory."""
    from diffusers import UNet2DConditionModel

    values = read_json(folder / "config.json", name)
    require_class("U-Net", values, name, UNet2DConditionModel.__name__)
    config = diffusers_config(UNet2DConditionModel, values, name, "unet/config.json")
    return plan_folder(
        "U-Net", name, folder, DIFFUSERS, dtype, lambda: UNet2DConditionModel(**config)
    )


def plan_vae(folder: Path, name: str, dtype: str = "float32") -> NetworkPlan:
    """diffusers' ``AutoencoderKL`` in a directory."""
    from diffusers import AutoencoderKL

    values = read_json(folder / "config.json", name)
    require_class("VAE", values, name, AutoencoderKL.__name__)
    config = diffusers_config(AutoencoderKL, values, name, "vae/config.json")
    return plan_folder("VAE", name, folder, DIFFUSERS, dtype, lambda: AutoencoderKL(**config))


def plan_text_encoder(folder: Path, name: str, dtype: str = "float32") -> NetworkPlan:
    """transformers' ``CLIPTextModel`` in a directory, also from a CLIP of both encoders."""
    from transformers import CLIPTextConfig, CLIPTextModel

    values = read_json(folder / "config.json", name)
    require_type("text encoder", values, name, ("clip_text_model", "clip"))
    if values.get("model_type") == "clip":
        values = nested(values, "text_config", name)
    config = CLIPTextConfig(**choose(values, TEXT, name, "text_encoder/config.json"))
    return plan_folder(
        "text encoder", name, folder, TRANSFORMERS, dtype, lambda: CLIPTextModel(config)
    )


def plan_captioner(folder: Path, name: str, dtype: str = "float32") -> NetworkPlan:
    """transformers' ``BlipForConditionalGeneration`` in a directory."""
    from transformers import BlipConfig, BlipForConditionalGeneration

    config = BlipConfig(**_pair(folder, "captioner", name, ("blip",), PAIR))
    return plan_folder(
        "captioner", name, folder, TRANSFORMERS, dtype, lambda: BlipForConditionalGeneration(config)
    )


def plan_clip(folder: Path, name: str, dtype: str = "float32") -> NetworkPlan:
    """transformers' ``CLIPModel`` in a directory."""
    from transformers import CLIPConfig, CLIPModel

    config = CLIPConfig(**_pair(folder, "CLIP", name, ("clip",), PAIR))
    return plan_folder("CLIP", name, folder, TRANSFORMERS, dtype, lambda: CLIPModel(config))


def plan_segmenter(folder: Path, name: str, dtype: str = "float32") -> NetworkPlan:
    """transformers' ``CLIPSegForImageSegmentation`` in a directory."""
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

    config = CLIPSegConfig(**_pair(folder, "segmentation model", name, ("clipseg",), CLIPSEG))
    return plan_folder(
        "segmentation model",
        name,
        folder,
        TRANSFORMERS,
        dtype,
        lambda: CLIPSegForImageSegmentation(config),
    )


def read_scheduler(file: Path, name: str, prediction: str | None = None) -> Any:
    """diffusers' ``DDIMScheduler`` with the noise schedule of a scheduler's configuration."""
    from diffusers import DDIMScheduler

    values = scheduler_values(read_json(file, name), name)
    return DDIMScheduler(**values | ({} if prediction is None else {"prediction_type": prediction}))


def diffusers_config(
    network: type, values: Mapping[str, Any], name: str, where: str
) -> dict[str, Any]:
    """The arguments of a class of diffusers in a configuration."""
    keys = [key for key in inspect.signature(network.__init__).parameters if key != "self"]  # type: ignore[misc]
    chosen = choose(values, keys, name, where)
    require_buildable(chosen, name, where)
    return chosen


def require_class(part: str, values: Mapping[str, Any], name: str, expected: str) -> None:
    """Raise ``UnsupportedModelError`` if a configuration is for another class of diffusers."""
    kind = values.get("_class_name", expected)
    if kind != expected:
        raise UnsupportedModelError(
            f"{name} has the {part} {printable(kind)}; zerocon edits with {expected}"
        )


def require_type(
    part: str, values: Mapping[str, Any], name: str, expected: tuple[str, ...]
) -> None:
    """Raise ``UnsupportedModelError`` if a configuration is for another type of transformers."""
    kind = values.get("model_type", expected[0])
    if kind in expected:
        return
    text = f"{name} is {OTHER_TYPES.get(str(kind), f'a model of type {printable(kind)}')}"
    raise UnsupportedModelError(f"{text}; {ADVICE[part]}")


def nested(values: Mapping[str, Any], key: str, name: str) -> dict[str, Any]:
    """A configuration inside another one, of which older versions wrote two copies."""
    parts = [values.get(each) or {} for each in (key, f"{key}_dict")]
    if not all(isinstance(each, dict) for each in parts):
        raise UnsupportedModelError(f"{name} is damaged: {key} is not an object")
    return {k: v for k, v in (parts[0] | parts[1]).items() if v is not None}


def require_networks_fit(name: str, unet: Any, vae: Any, text_encoder: Any) -> None:
    """Raise ``UnsupportedModelError`` if the networks of a model are not for each other."""
    width, wanted = text_encoder.config.hidden_size, unet.config.cross_attention_dim
    if any(each != width for each in (wanted if isinstance(wanted, list | tuple) else [wanted])):
        raise UnsupportedModelError(
            f"{name} is damaged: the text encoder's embeddings have {width} features, and the "
            f"U-Net takes {shorten(wanted)}"
        )
    more = [
        key
        for key in ("class_embed_type", "encoder_hid_dim_type", "num_class_embeds")
        if unet.config.get(key) is not None
    ]
    if more:
        raise UnsupportedModelError(
            f"{name} takes other inputs than noise and text ({more[0]}); use the base model"
        )
    scale = vae.config.scaling_factor
    if not isinstance(scale, int | float) or not 0 < scale < 100:
        raise UnsupportedModelError(
            f"{name} is damaged: the VAE's scaling_factor is {shorten(scale)}"
        )
    for key in ("shift_factor", "latents_mean", "latents_std"):
        if vae.config.get(key):
            raise UnsupportedModelError(f"{name} has a VAE of another family ({key})")
    pixels = (vae.config.in_channels, vae.config.out_channels)
    if pixels != (3, 3):
        raise UnsupportedModelError(f"{name} has a VAE of {pixels} channels instead of RGB images")


def fix_sample_size(unet: Any, prediction: str, name: str) -> None:
    """Replace the U-Net's ``sample_size``, which may be a list or absent, by a number."""
    size = sample_size(unet.config.get("sample_size"), prediction, name)
    unet.register_to_config(sample_size=size)


def _pair(
    folder: Path, part: str, name: str, types: tuple[str, ...], keys: tuple[str, ...]
) -> dict[str, Any]:
    """The configuration of a model with a text and a vision network."""
    values = read_json(folder / "config.json", name)
    require_type(part, values, name, types)
    classes = values.get("architectures") or []
    other = next((OTHER_CLASSES[each] for each in OTHER_CLASSES if each in classes), None)
    if other:
        raise UnsupportedModelError(f"{name} {other}; {ADVICE[part]}")
    chosen = choose(values, keys, name, "config.json")
    for key, allowed in (("text_config", TEXT), ("vision_config", VISION)):
        chosen[key] = choose(nested(values, key, name), allowed, name, f"{key} of config.json")
    return chosen


OTHER_TYPES = {  # models of transformers that are given as captioner, CLIP or segmenter
    "blip": "BLIP, which writes captions",
    "blip-2": "BLIP-2",
    "instructblip": "InstructBLIP",
    "git": "GIT",
    "clip": "CLIP, which compares images with texts",
    "clip_text_model": "the text encoder of a diffusion model",
    "clipseg": "CLIPSeg, which finds words in images",
    "siglip": "SigLIP",
    "chinese_clip": "Chinese CLIP",
    "vision-encoder-decoder": "a vision encoder with a language model (such as ViT-GPT2)",
    "florence2": "Florence-2",
    "t5": "T5",
}
OTHER_CLASSES = {  # uses of BLIP that do not write captions
    "BlipForQuestionAnswering": "answers questions about images",
    "BlipForImageTextRetrieval": "compares images with texts",
}
ADVICE = {
    "captioner": "captions are written by BLIP, such as Salesforce/blip-image-captioning-base, or "
    "give the source caption: --caption",
    "CLIP": "similarities are computed with CLIP, such as openai/clip-vit-large-patch14",
    "segmentation model": "a mask needs clipseg, such as CIDAS/clipseg-rd64-refined",
    "text encoder": "zerocon edits with CLIP's text encoder",
}
