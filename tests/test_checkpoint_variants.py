"""Checkpoints of every kind that people have: loaded, or refused with an error id, in one line.

A base model is built once. A case changes copies of its files, mostly their headers or JSON.
"""

from __future__ import annotations

import json
import re
import shutil
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import ldm
import pytest
import tiny
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import zerocon
from zerocon import mini
from zerocon.errors import ZeroconError
from zerocon.model import hub
from zerocon.model.weights import SUFFIX

UNET, VAE = "unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model"
TEXT, CAPTIONER, CLIP = "text_encoder/model", "captioner/model", "clip/model"
NETWORKS = (UNET, VAE, TEXT, CAPTIONER, CLIP)
LOADS = ""
Change = Callable[[Path], object]
Weights = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Case:
    """What is changed, and the id of the error; "" if the model loads."""

    name: str
    change: Change
    id: str = LOADS
    message: str = ""
    dtype: str | None = None
    verified: bool | None = None  # whether `models verify` says the same; None: as for loading
    companions: bool = False  # whether the model has a captioner and CLIP, which are loaded too


# changes of a folder


def file_of(folder: Path, name: str) -> Path:
    return folder / f"{name}{SUFFIX}"


def edit_weights(name: str, change: Callable[[dict[str, torch.Tensor]], Weights], f: Path) -> None:
    file = file_of(f, name)
    save_file({k: v.contiguous().clone() for k, v in change(load_file(file)).items()}, file)


def weights(name: str, change: Callable[[dict[str, torch.Tensor]], Weights]) -> Change:
    return partial(edit_weights, name, change)


def rename(pattern: str, new: str) -> Callable[[dict[str, torch.Tensor]], Weights]:
    return lambda values: {re.sub(pattern, new, key): value for key, value in values.items()}


def without(pattern: str) -> Callable[[dict[str, torch.Tensor]], Weights]:
    def change(values: dict[str, torch.Tensor]) -> Weights:
        kept = {key: value for key, value in values.items() if not re.search(pattern, key)}
        assert len(kept) < len(values)
        return kept

    return change


def with_more(**more: torch.Tensor) -> Callable[[dict[str, torch.Tensor]], Weights]:
    return lambda values: values | {key.replace("__", "."): each for key, each in more.items()}


def spoil(value: float, count: int = 1) -> Callable[[dict[str, torch.Tensor]], Weights]:
    def change(values: dict[str, torch.Tensor]) -> Weights:
        for key in sorted(values)[:count]:
            values[key].view(-1)[-1] = value
        return values

    return change


def reshape(values: dict[str, torch.Tensor]) -> Weights:
    key = max(values, key=lambda each: values[each].numel())
    return values | {key: values[key].flatten()[:7]}


def cast(dtype: torch.dtype) -> Callable[[dict[str, torch.Tensor]], Weights]:
    return lambda values: {key: value.to(dtype) for key, value in values.items()}


def variant(name: str, infix: str, keep: bool = False) -> Change:
    def change(folder: Path) -> None:
        file = file_of(folder, name)
        target = file.with_name(file.name.replace(SUFFIX, f".{infix}{SUFFIX}"))
        (shutil.copy if keep else shutil.move)(file, target)

    return change


def shards(name: str, index: str, files: str, lose: int | None = None) -> Change:
    """Split weights in two; ``index`` and ``files`` are names with ``{}`` for the stem."""

    def change(folder: Path) -> None:
        file = file_of(folder, name)
        values, stem = load_file(file), file.name.removesuffix(SUFFIX)
        file.unlink()
        listing = {}
        for number in range(2):
            shard = files.format(stem, number + 1)
            part = {key: values[key] for key in sorted(values)[number::2]}
            if number != lose:
                save_file(part, file.with_name(shard))
            listing |= dict.fromkeys(part, shard)
        index_file = file.with_name(index.format(stem))
        index_file.write_text(json.dumps({"metadata": {}, "weight_map": listing}))

    return change


def edit_json(file: str, remove: tuple[str, ...] = (), **values: Any) -> Change:
    def change(folder: Path) -> None:
        for path in folder.glob(file):
            if path.name == "preprocessor_config.json":
                path.with_name("processor_config.json").unlink(missing_ok=True)
            content = {k: v for k, v in json.loads(path.read_text()).items() if k not in remove}
            path.write_text(json.dumps(content | values))

    return change


def write(file: str, content: str) -> Change:
    def change(folder: Path) -> None:
        (folder / file).write_text(content)

    return change


def remove(*files: str) -> Change:
    def change(folder: Path) -> None:
        for file in files:
            for path in folder.glob(file):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def several(*changes: Change) -> Change:
    def change(folder: Path) -> None:
        for each in changes:
            each(folder)

    return change


def cut(file: str, count: int = 50) -> Change:
    def change(folder: Path) -> None:
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content[:-count] if count else b"")

    return change


def edit_header(name: str, change: Callable[[dict[str, Any]], object]) -> Change:
    """Change the JSON header of a safetensors file, whose tensors stay as they are."""

    def apply(folder: Path) -> None:
        content = file_of(folder, name).read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        data = struct.pack("<Q", len(text)) + text + content[8 + length :]
        file_of(folder, name).write_bytes(data)

    return apply


def retype(header: dict[str, Any]) -> None:
    """Say that a tensor holds whole numbers, of as many bytes."""
    key = next(key for key in header if key != "__metadata__")
    header[key]["dtype"] = {"F32": "I32", "F16": "I16", "BF16": "I16"}[header[key]["dtype"]]


def part(name: str) -> str:
    return name.partition("/")[0]


MISSING = r"is not complete: the .+ lacks \d+ of \d+ weights: \S+"
PLACE = "has no place for"


def for_every_network() -> list[Case]:
    """The same changes of U-Net, VAE, text encoder, captioner and CLIP."""
    cases = []
    for name in NETWORKS:
        of, strict = part(name), name in (UNET, VAE)
        names = {
            f"{of}: names of a compiled network": weights(name, rename("^", "_orig_mod.")),
            f"{of}: names of a parallel network": weights(name, rename("^", "module.")),
            f"{of}: names of a wrapped network": weights(name, rename("^", "model.")),
            f"{of}: names of both": weights(name, rename("^", "module._orig_mod.")),
            f"{of}: a compiled part inside": weights(name, rename(r"\.", "._orig_mod.")),
            f"{of}: in float16": weights(name, cast(torch.float16)),
            f"{of}: in bfloat16": weights(name, cast(torch.bfloat16)),
            f"{of}: a list of positions": weights(
                name, with_more(embeddings__position_ids=torch.arange(4))
            ),
        }
        cases += [Case(key, change) for key, change in names.items()]
        for infix in ("fp16", "bf16", "fp32", "non_ema"):
            cases.append(Case(f"{of}: only {infix}", variant(name, infix)))
        plain = "{}-0000{}-of-00002" + SUFFIX
        half = "{}.fp16-0000{}-of-00002" + SUFFIX
        index = "{}" + SUFFIX + ".index"
        cases += [
            Case(f"{of}: shards", shards(name, f"{index}.json", plain)),
            Case(f"{of}: fp16 shards", shards(name, f"{index}.fp16.json", half)),
            Case(
                f"{of}: fp16 shards, the other spelling",
                shards(name, "{}.fp16" + f"{SUFFIX}.index.json", half),
            ),
            Case(
                f"{of}: a shard is missing",
                shards(name, f"{index}.json", plain, lose=1),
                "ZC-E050",
            ),
            Case(f"{of}: no weights", remove(f"{name}{SUFFIX}"), "ZC-E050"),
            Case(f"{of}: a weight is missing", weights(name, without("norm")), "ZC-E050", MISSING),
            Case(
                f"{of}: NaN",
                weights(name, spoil(float("nan"))),
                "ZC-E054",
                "NaN or infinite in float32",
                verified=True,
            ),
            Case(
                f"{of}: infinity",
                weights(name, spoil(float("inf"), 3)),
                "ZC-E054",
                "NaN or infinite in float32",
                verified=True,
            ),
            Case(f"{of}: another shape", weights(name, reshape), "ZC-E054", "has the shape 7"),
            Case(f"{of}: cut off", cut(f"{name}{SUFFIX}"), "ZC-E050"),
            Case(f"{of}: an empty file", cut(f"{name}{SUFFIX}", 0), "ZC-E050"),
            Case(f"{of}: integers", edit_header(name, retype), "ZC-E054", "quantized"),
            Case(
                f"{of}: weights of another layer",
                weights(name, with_more(more__layer__weight=torch.zeros(2))),
                "ZC-E054" if strict else LOADS,
                PLACE if strict else "",
            ),
            Case(f"{of}: no configuration", remove(f"{of}/config.json"), "ZC-E050"),
            Case(f"{of}: its configuration is a list", write(f"{of}/config.json", "[]"), "ZC-E054"),
            Case(f"{of}: it is cut off", cut(f"{of}/config.json", 9), "ZC-E054"),
            Case(
                f"{of}: a quantized network",
                edit_json(f"{of}/config.json", quantization_config={"bits": 4}),
                "ZC-E054",
                "quantized",
            ),
            Case(
                f"{of}: an unknown key is ignored",
                edit_json(f"{of}/config.json", unknown_key={"a": 1}),
            ),
        ]
    return [replace(each, companions=each.name.startswith(("captioner", "clip"))) for each in cases]


UNET_CONFIG, VAE_CONFIG = "unet/config.json", "vae/config.json"
TEXT_CONFIG, SCHEDULER = "text_encoder/config.json", "scheduler/scheduler_config.json"
HUGE = 10**9

CONFIGURATIONS = [
    Case("sample_size: a list", edit_json(UNET_CONFIG, sample_size=[8, 8])),
    Case("sample_size: height and width", edit_json(UNET_CONFIG, sample_size=[6, 12])),
    Case("sample_size: null", edit_json(UNET_CONFIG, sample_size=None)),
    Case("sample_size: absent", edit_json(UNET_CONFIG, remove=("sample_size",))),
    Case("sample_size: negative", edit_json(UNET_CONFIG, sample_size=-5), "ZC-E054", "sample_size"),
    Case("sample_size: 0", edit_json(UNET_CONFIG, sample_size=0), "ZC-E054", "sample_size"),
    Case("sample_size: text", edit_json(UNET_CONFIG, sample_size="64"), "ZC-E054", "sample_size"),
    Case("sample_size: true", edit_json(UNET_CONFIG, sample_size=True), "ZC-E054", "sample_size"),
    Case("sample_size: 1e9", edit_json(UNET_CONFIG, sample_size=HUGE), "ZC-E054", "sample_size"),
    Case("inpainting", edit_json(UNET_CONFIG, in_channels=9), "ZC-E054"),
    Case("a width of text", edit_json(UNET_CONFIG, cross_attention_dim=20), "ZC-E054"),
    Case("widths of text", edit_json(UNET_CONFIG, block_out_channels="16"), "ZC-E054"),
    Case("many layers", edit_json(UNET_CONFIG, layers_per_block=HUGE), "ZC-E054"),
    Case("layers as text", edit_json(UNET_CONFIG, layers_per_block="one"), "ZC-E054"),
    Case("heads of no width", edit_json(UNET_CONFIG, attention_head_dim=0), "ZC-E054"),
    Case("no such block", edit_json(UNET_CONFIG, down_block_types=["A", "B"]), "ZC-E054"),
    Case("an epsilon of NaN", edit_json(UNET_CONFIG, norm_eps=float("nan")), "ZC-E054"),
    Case("another U-Net", edit_json(UNET_CONFIG, _class_name="UNet3DConditionModel"), "ZC-E054"),
    Case("classes", edit_json(UNET_CONFIG, num_class_embeds=5), "ZC-E050"),
    Case("another VAE", edit_json(VAE_CONFIG, _class_name="AutoencoderTiny"), "ZC-E054"),
    Case("a scale of 0", edit_json(VAE_CONFIG, scaling_factor=0), "ZC-E054", "scaling_factor"),
    Case("a scale of text", edit_json(VAE_CONFIG, scaling_factor="1"), "ZC-E054", "scaling_factor"),
    Case("gray images", edit_json(VAE_CONFIG, in_channels=1), "ZC-E054"),
    Case("a text encoder without a type", edit_json(TEXT_CONFIG, remove=("model_type",))),
    Case("another text encoder", edit_json(TEXT_CONFIG, model_type="t5"), "ZC-E054", "is T5"),
    Case("no such activation", edit_json(TEXT_CONFIG, hidden_act="none"), "ZC-E054"),
    Case("many positions", edit_json(TEXT_CONFIG, max_position_embeddings=HUGE), "ZC-E054"),
    Case("many words", edit_json(TEXT_CONFIG, vocab_size=10**7), "ZC-E054"),
    Case("half of a head", edit_json(TEXT_CONFIG, num_attention_heads=3), "ZC-E054"),
    Case("text as a width", edit_json(TEXT_CONFIG, hidden_size="16"), "ZC-E054"),
    # scheduler
    Case("trailing", edit_json(SCHEDULER, timestep_spacing="trailing")),
    Case("the spacing is absent", edit_json(SCHEDULER, remove=("timestep_spacing",))),
    Case("fields of another class", edit_json(SCHEDULER, _class_name="PNDMScheduler", skip_prk=1)),
    Case("betas are null", edit_json(SCHEDULER, trained_betas=None)),
    Case("betas of their own", edit_json(SCHEDULER, trained_betas=[0.01] * 1000)),
    Case("too few betas", edit_json(SCHEDULER, trained_betas=[0.01]), "ZC-E054", "trained_betas"),
    Case("no such spacing", edit_json(SCHEDULER, timestep_spacing="odd"), "ZC-E054", "one of"),
    Case("an offset as text", edit_json(SCHEDULER, steps_offset="1"), "ZC-E054", "whole number"),
    Case("an offset of 2", edit_json(SCHEDULER, steps_offset=2), "ZC-E054", "whole number"),
    Case("a large offset", edit_json(SCHEDULER, steps_offset=HUGE), "ZC-E054", "whole number"),
    Case("negative times", edit_json(SCHEDULER, num_train_timesteps=-5), "ZC-E054"),
    Case("1e9 times", edit_json(SCHEDULER, num_train_timesteps=HUGE), "ZC-E054"),
    Case("times as text", edit_json(SCHEDULER, num_train_timesteps="1000"), "ZC-E054"),
    Case("half a time", edit_json(SCHEDULER, num_train_timesteps=0.5), "ZC-E054"),
    Case("a beta above 1", edit_json(SCHEDULER, beta_end=2.0), "ZC-E054", "beta_end"),
    Case("betas backwards", edit_json(SCHEDULER, beta_start=0.5), "ZC-E054", "beta_start"),
    Case("no such betas", edit_json(SCHEDULER, beta_schedule="cubic"), "ZC-E054"),
    Case("a sample", edit_json(SCHEDULER, prediction_type="sample"), "ZC-E054"),
    Case("flow", edit_json(SCHEDULER, _class_name="FlowMatchEulerDiscreteScheduler"), "ZC-E054"),
    Case("no scheduler", remove(SCHEDULER), "ZC-E050"),
    Case("the scheduler is a list", write(SCHEDULER, "[1]"), "ZC-E054"),
    # the index of a model
    Case("model_index: a list", write("model_index.json", "[]"), "ZC-E054", "not a JSON object"),
    Case("model_index: a number", write("model_index.json", "1"), "ZC-E054"),
    Case("model_index: deep", write("model_index.json", "[" * 99999), "ZC-E054"),
    Case("model_index: NaN", write("model_index.json", '{"a": NaN}'), "ZC-E054"),
    Case("model_index: no text", write("model_index.json", "\x00\x01"), "ZC-E054"),
    Case("model_index: no class", write("model_index.json", "{}"), "ZC-E054"),
    # tokenizer
    Case("no limit", edit_json("tokenizer/tokenizer_config.json", remove=("model_max_length",))),
    Case("1e30", edit_json("tokenizer/tokenizer_config.json", model_max_length=int(1e30))),
    Case("1e9", edit_json("tokenizer/tokenizer_config.json", model_max_length=HUGE)),
    Case("-5", edit_json("tokenizer/tokenizer_config.json", model_max_length=-5)),
    Case("a limit of text", edit_json("tokenizer/tokenizer_config.json", model_max_length="x")),
    Case("no configuration", remove("tokenizer/tokenizer_config.json")),
    Case("padded by 1e9", edit_json("tokenizer/tokenizer_config.json", stride=HUGE), "ZC-E054"),
    Case("a list", write("tokenizer/tokenizer_config.json", "[]"), "ZC-E054"),
    Case("no words", write("tokenizer/tokenizer.json", "{}"), "ZC-E054", verified=True),
    Case("cut off", cut("tokenizer/tokenizer.json"), "ZC-E054"),
    Case("no tokenizer", remove("tokenizer"), "ZC-E050"),
    Case("no files", remove("tokenizer/*"), "ZC-E050"),
    Case(
        "Fixed padding of 1e9",
        edit_json(
            "tokenizer/tokenizer.json",
            padding={
                "strategy": {"Fixed": HUGE},
                "direction": "Right",
                "pad_to_multiple_of": None,
                "pad_id": 0,
                "pad_type_id": 0,
                "pad_token": "a",
            },
        ),
        "ZC-E054",
        "padding in",
    ),
    Case(
        "old names of layers",
        weights(VAE, rename(r"(attentions.*)\.to_q\.", r"\1.query.")),
    ),
    Case(
        "old names of attention",
        weights(
            VAE,
            lambda values: rename(r"(attentions.*)\.to_out\.0\.", r"\1.proj_attn.")(
                {re.sub(r"(attentions.*)\.to_k\.", r"\1.key.", k): v for k, v in values.items()}
            ),
        ),
    ),
    Case("text_model in front", weights(TEXT, rename("^", "text_model."))),
    Case(
        "CLIP's vision network too",
        weights(TEXT, with_more(vision_model__layer__weight=torch.zeros(2))),
    ),
    Case(
        "an overflow in float16",
        weights(UNET, spoil(1e30)),
        "ZC-E054",
        "in float16",
        dtype="float16",
        verified=True,
    ),
    Case("fp16 beside plain", variant(UNET, "fp16", keep=True), dtype="float16"),
    Case(
        "fp16 is read in float16",
        several(variant(UNET, "fp16", keep=True), weights(UNET, without("norm"))),
        dtype="float16",
    ),
    Case(
        "plain is read in float32",
        several(variant(UNET, "fp16", keep=True), weights(UNET, without("norm"))),
        "ZC-E050",
        MISSING,
    ),
]
COMPANIONS = [
    *(
        Case(f"a captioner: {kind}", edit_json("captioner/config.json", model_type=kind), "ZC-E054")
        for kind in ("blip-2", "git", "clip", "vision-encoder-decoder", "instructblip", "florence2")
    ),
    Case(
        "a captioner that answers questions",
        edit_json("captioner/config.json", architectures=["BlipForQuestionAnswering"]),
        "ZC-E054",
        "answers questions",
    ),
    Case("CLIP: SigLIP", edit_json("clip/config.json", model_type="siglip"), "ZC-E054", "SigLIP"),
    Case("a captioner without words", remove("captioner/tokenizer*"), "ZC-E050", "tokenizer"),
    Case("CLIP without words", remove("clip/tokenizer*"), "ZC-E050", "tokenizer"),
    Case("no images", remove("captioner/*processor_config.json"), "ZC-E050"),
    Case(
        "images of 1e6 pixels a side",
        edit_json("clip/preprocessor_config.json", size={"shortest_edge": 10**6}),
        "ZC-E054",
        "size of images",
    ),
    Case(
        "images of another size",
        edit_json("clip/preprocessor_config.json", do_center_crop=False),
        "ZC-E054",
        "the network takes 3x128x128",
    ),
    Case(
        "images of another size for the captioner",
        edit_json("captioner/preprocessor_config.json", size={"height": 64, "width": 64}),
        "ZC-E054",
        "the network takes 3x128x128",
    ),
    Case(
        "a deviation of 0",
        edit_json("captioner/preprocessor_config.json", image_std=[0, 0, 0]),
        "ZC-E054",
        "image_std",
    ),
]
CASES = [
    *for_every_network(),
    *CONFIGURATIONS,
    *(replace(each, companions=True) for each in COMPANIONS),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a few thousand weights with a captioner and CLIP."""
    folder = tiny.save(tmp_path_factory.mktemp("models") / "base")
    for name in ("captioner", "clip"):
        shutil.copytree(mini.path() / name, folder / name)
    return folder


def load_all(path: Path, companions: bool, **options: Any) -> None:
    """Load a model, its captioner and CLIP if it has them, and encode a text."""
    model = zerocon.load(str(path), device="cpu", **options)
    if companions:
        assert model.captioner and model.scorer
    assert model.embed(["a cat"]).tokens.isfinite().all()
    assert 1 <= model.size <= 4096 and model.schedule(4).steps == 4


def refusal(call: Callable[[], object], message: str) -> str:
    """The id of the error that ``call`` raises, "" if it raises none."""
    try:
        call()
    except ZeroconError as error:
        text = str(error)
        assert "\n" not in text and len(text) < 1000
        assert re.search(message, text), text
        return error.id
    return LOADS


def test_there_are_enough_variants() -> None:
    assert len(CASES) + len(FILES) >= 150
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_directory_loads_or_is_refused(base: Path, tmp_path: Path, case: Case) -> None:
    left_out = shutil.ignore_patterns(*(() if case.companions else ("captioner", "clip")))
    folder = shutil.copytree(base, tmp_path / "model", ignore=left_out)
    case.change(folder)
    options = {} if case.dtype is None else {"dtype": case.dtype}
    assert refusal(lambda: load_all(folder, case.companions, **options), case.message) == case.id
    verified = refusal(lambda: hub.verify(str(folder), case.dtype or "float32"), "")
    assert bool(verified) == (bool(case.id) and case.verified is None), verified


# single files


U = "model.diffusion_model."


def widen(values: dict[str, torch.Tensor]) -> Weights:
    """A U-Net that takes a mask and a masked image too."""
    key = f"{U}input_blocks.0.0.weight"
    return values | {key: torch.cat([values[key], values[key], values[key][:, :1]], 1)}


FILES = [
    ("as it is", lambda values: values, LOADS, ""),
    ("compiled", rename("^", "_orig_mod."), LOADS, ""),
    ("a compiled U-Net", rename(r"^model\.diffusion_model\.", f"{U}_orig_mod."), LOADS, ""),
    ("in parallel", rename("^", "module."), LOADS, ""),
    ("wrapped", rename("^", "model."), LOADS, ""),
    ("in half", cast(torch.float16), LOADS, ""),
    ("old text encoder", rename(r"text_model\.", ""), LOADS, ""),
    ("no post_quant_conv", without(r"\.(post_)?quant_conv"), LOADS, ""),
    ("attention as in diffusers", rename(r"(attn_1)\.([qkv])\.", r"\1.to_\2."), LOADS, ""),
    ("averages too", with_more(model_ema__decay=torch.ones(1)), LOADS, ""),
    ("old name of the VAE", rename(r"^first_stage_model\.", "vae."), LOADS, ""),
    ("without a VAE", without(r"^first_stage_model\."), "ZC-E054", "--vae FILE"),
    ("without a text encoder", without(r"^cond_stage_model\."), "ZC-E054", "no text encoder"),
    ("without a U-Net", without(r"^model\."), "ZC-E054", "is a VAE; give a base model"),
    ("a U-Net alone", without(r"^(?!model\.)"), "ZC-E054", "no VAE"),
    ("a block lost", without(r"input_blocks\.1\."), "ZC-E050", "is not complete"),
    ("the last block lost", without(r"input_blocks\.3\."), "ZC-E05", ""),
    ("an output block lost", without(r"output_blocks\.3\."), "ZC-E050", "lacks"),
    ("the middle lost", without(r"middle_block\.1\."), "ZC-E05", "middle_block"),
    ("a weight lost", without(r"time_embed\.0\.bias"), "ZC-E050", "lacks 1 of"),
    ("a layer of text lost", without(r"encoder\.layers\.0\."), "ZC-E05", ""),
    ("words lost", without("token_embedding"), "ZC-E050", "token_embedding"),
    ("NaN", spoil(float("nan"), 500), "ZC-E054", "NaN"),
    ("more layers", with_more(model__diffusion_model__x__w=torch.ones(1)), "ZC-E054", PLACE),
    ("inpainting", widen, "ZC-E054", "is for inpainting"),
    ("VAE weight lost", without(r"encoder\.mid\.block_1\.conv1\.bias"), "ZC-E050", "lacks"),
]
KINDS = [
    ("lora_unet_down_blocks_0_attentions_0.lora_up.weight", "is a LoRA"),
    ("lora_te_text_model_encoder_layers_0.alpha", "is a LoRA"),
    ("base_model.model.down_blocks.0.attentions.0.to_q.lora_A.weight", "is a LoRA"),
    ("unet.down_blocks.0.attentions.0.attn1.to_q.lora.up.weight", "is a LoRA"),
    ("unet.down_blocks.0.attn1.processor.to_q_lora.up.weight", "is a LoRA"),
    ("text_encoder.text_model.encoder.layers.0.q_proj.lora_linear_layer.up.weight", "is a LoRA"),
    ("lycoris_unet_down_blocks_0.hada_w1_a", "is a LyCORIS"),
    ("unet_down_blocks_0.lokr_w1", "is a LyCORIS"),
    ("unet_down_blocks_0.dora_scale", "is a LyCORIS"),
    ("emb_params", "is a textual inversion"),
    ("<cat-toy>", "is a textual inversion"),
    ("control_model.input_blocks.0.0.weight", "is a ControlNet"),
    ("controlnet_cond_embedding.conv_in.weight", "is a ControlNet"),
    ("ip_adapter.1.to_k_ip.weight", "Adapter"),
    ("encoder.down.0.block.0.conv1.weight", "is a VAE"),
    ("encoder.down_blocks.0.resnets.0.conv1.weight", "is a VAE"),
    ("first_stage_model.decoder.mid.block_1.conv1.weight", "is a VAE"),
    ("text_model.encoder.layers.0.mlp.fc1.weight", "is CLIP"),
    ("vision_model.encoder.layers.0.mlp.fc1.weight", "is CLIP"),
    ("down_blocks.0.resnets.0.time_emb_proj.weight", "is the U-Net of a diffusers directory"),
    ("text_decoder.bert.encoder.layer.0.x.weight", "is a BLIP model"),
    ("conditioner.embedders.0.x", "is Stable Diffusion XL"),
]


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("files") / f"single{SUFFIX}"
    return ldm.save(file, tiny.model(wide=True), modelspec__resolution="64x64")


def save_changed(
    single: Path, folder: Path, change: Callable[[dict[str, torch.Tensor]], Weights]
) -> Path:
    shutil.copytree(single.parent / "tokenizer", folder / "tokenizer")
    values = {key: value.contiguous().clone() for key, value in change(load_file(single)).items()}
    with safe_open(single, framework="pt") as opened:
        save_file(values, folder / "changed.safetensors", opened.metadata())
    return folder / "changed.safetensors"


@pytest.mark.parametrize(("name", "change", "id", "message"), FILES, ids=[f[0] for f in FILES])
def test_a_file_loads_or_is_refused(
    single: Path, tmp_path: Path, name: str, change: Any, id: str, message: str
) -> None:
    file = save_changed(single, tmp_path, change)
    loaded = refusal(lambda: zerocon.load(str(file), device="cpu"), message)
    assert loaded.startswith(id) and bool(loaded) == bool(id)
    assert refusal(lambda: hub.verify(str(file)), "") == (LOADS if name == "NaN" else loaded)


@pytest.mark.parametrize(("key", "message"), KINDS)
def test_files_that_are_no_base_model_are_named(tmp_path: Path, key: str, message: str) -> None:
    file = tmp_path / "other.safetensors"
    save_file({key: torch.zeros(2, 2)}, file)
    assert refusal(lambda: zerocon.load(str(file), device="cpu"), message) == "ZC-E054"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"adapter_config.json": "{}"}, "it is a LoRA"),
        ({"config.json": '{"_class_name": "ControlNetModel"}'}, "it has ControlNetModel alone"),
        ({"config.json": '{"_class_name": "AutoencoderKL"}'}, "AutoencoderKL alone, for --vae"),
        ({"config.json": '{"model_type": "blip"}'}, "it has blip alone, for --captioner"),
        ({"config.json": "["}, r"\(no model_index.json\)"),
    ],
)
def test_directories_that_are_no_base_model_are_named(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert refusal(lambda: zerocon.load(str(tmp_path), device="cpu"), message) == "ZC-E050"


def test_names_in_files_are_printed_as_one_line(base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(base, tmp_path / "model")
    weights(UNET, with_more(**{"a\n\x1b[31m": torch.zeros(1)}))(folder)
    message = r"'a\\n\\x1b\[31m'"
    assert refusal(lambda: zerocon.load(str(folder), device="cpu"), message) == "ZC-E054"


def test_renamed_keys_give_the_same_network(single: Path, tmp_path: Path) -> None:
    whole = zerocon.load(str(single), device="cpu")
    file = save_changed(single, tmp_path, rename("^", "module._orig_mod."))
    other = zerocon.load(str(file), device="cpu")
    x, c = torch.randn(1, 4, 8, 8), whole.embed(["a cat"])
    assert torch.equal(c.tokens, other.embed(["a cat"]).tokens)
    assert torch.equal(whole.eps(x, 300, c), other.eps(x, 300, c))
    assert torch.equal(whole.decode(x), other.decode(x))
