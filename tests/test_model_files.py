"""No pickle is opened and no code of a model runs, wherever a file lies."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file

import zerocon
from zerocon import mini
from zerocon.cli import main
from zerocon.errors import PickleRefusedError, UnsupportedModelError, ZeroconError
from zerocon.model.captioner import load_captioner
from zerocon.model.clip import load_scorer

CAPTION = ["--caption", "a cat"]
CPU = torch.device("cpu")
NETWORK = "diffusion_pytorch_model"


class Poison:
    """Writes a file when it is unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.victim,)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "mine")


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_segmenter(tmp_path_factory.mktemp("models") / "segmenter")


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    return tmp_path / "victim"


@pytest.fixture
def bad(folder: Path, tmp_path: Path) -> Path:
    """A model with a captioner and CLIP of its own, to be spoiled."""
    copy = shutil.copytree(folder, tmp_path / "bad")
    for part in ("captioner", "clip"):
        shutil.copytree(mini.path() / part, copy / part)
    return copy


def poison(file: Path, victim: Path) -> Path:
    """Write a pickle that touches ``victim`` when it is opened; it does, as is checked."""
    file.write_bytes(pickle.dumps({"weight": Poison(victim)}))
    pickle.loads(file.read_bytes())
    assert victim.exists()
    victim.unlink()
    return file


def replace_weights(part: Path, victim: Path, name: str | None = None) -> Path:
    """Put a poisoned pickle in the place of a network's weights."""
    for file in part.glob("*.safetensors*"):
        file.unlink()
    names = {"unet": f"{NETWORK}.bin", "vae": f"{NETWORK}.bin"}
    return poison(part / (name or names.get(part.name, "pytorch_model.bin")), victim)


def write_index(part: Path, target: str, infix: str = ".safetensors.index") -> None:
    """Replace a network's weights by an index that names ``target`` for all of them."""
    (whole,) = part.glob("*.safetensors")
    keys = load_file(whole)
    whole.unlink()
    index = part / f"{whole.name.removesuffix('.safetensors')}{infix}.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(keys, target)}))


def load(place: Path) -> Any:
    return zerocon.load(str(place), device="cpu")


def refuse_line(arguments: list[str], image_file: Path, id: str) -> str:
    done = CliRunner().invoke(main, ["edit", str(image_file), "--to", "dog", *arguments])
    assert done.exit_code in (2, 3), done.output
    line = done.stderr.splitlines()[-1]
    assert line.startswith("Error: ") and line.endswith(f"[{id}]") and done.stdout == ""
    assert {path.name for path in image_file.parent.glob("cat*")} == {"cat.png"}
    return line


@pytest.mark.parametrize("name", [None, "model.pt", "weights.ckpt", "weights.pth", "x.pkl"])
@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_pickle_in_the_place_of_weights(
    bad: Path, victim: Path, image_file: Path, part: str, name: str | None
) -> None:
    replace_weights(bad / part, victim, name)
    refuse_line([*CAPTION, "--model", str(bad)], image_file, "ZC-E053")
    assert not victim.exists()


@pytest.mark.parametrize("part", ["captioner", "clip"])
def test_a_pickle_in_a_companion_of_the_model(bad: Path, victim: Path, part: str) -> None:
    replace_weights(bad / part, victim)
    model = load(bad)
    with pytest.raises(PickleRefusedError, match="can run code"):
        model.captioner if part == "captioner" else model.scorer  # noqa: B018
    assert not victim.exists()


def test_a_pickle_in_named_companions(
    bad: Path, segmenter: Path, victim: Path, image_file: Path, tmp_path: Path
) -> None:
    spoiled = shutil.copytree(segmenter, tmp_path / "segmenter")
    for part in (bad / "captioner", bad / "clip", spoiled):
        replace_weights(part, victim)
    captioner = ["--model", "mini", "--captioner", str(bad / "captioner"), "--device", "cpu"]
    refuse_line(captioner, image_file, "ZC-E053")
    mask = ["--model", "mini", *CAPTION, "--mask-text", "hat", "--segmenter", str(spoiled)]
    refuse_line(mask, image_file, "ZC-E053")
    with pytest.raises(PickleRefusedError):
        load_scorer(tmp_path, str(bad / "clip"), CPU)
    for file in (bad / "captioner").glob("*.bin"):
        direct = ["--model", "mini", "--captioner", str(file)]
        refuse_line(direct, image_file, "ZC-E053")
    assert not victim.exists()


@pytest.mark.parametrize("part", ["vae", "clip", "captioner", "unet"])
def test_a_pickle_in_a_model_that_training_starts_from(
    victim: Path, tmp_path: Path, part: str
) -> None:
    model = shutil.copytree(mini.path(), tmp_path / "model")
    replace_weights(model / part, victim)
    args = ["train", "mini", "--work", str(tmp_path / "work"), "--start-from", str(model)]
    done = CliRunner().invoke(main, args)
    assert done.exit_code == 2 and done.stderr.splitlines()[-1].endswith("[ZC-E053]"), done.output
    assert not victim.exists()


@pytest.mark.parametrize("infix", [".safetensors.index", ".fp16.safetensors.index"])
@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "captioner", "clip"])
def test_an_index_that_names_a_pickle(bad: Path, victim: Path, part: str, infix: str) -> None:
    write_index(bad / part, "shard.bin", infix)
    poison(bad / part / "shard.bin", victim)
    with pytest.raises(PickleRefusedError, match=r"names the pickle shard\.bin"):
        model = load(bad)
        model.captioner if part == "captioner" else model.scorer  # noqa: B018
    assert not victim.exists()


TARGETS = [
    "../shard.safetensors", "/etc/shard.safetensors", "C:\\shard.safetensors", "..",
    "sub/shard.safetensors", "shard.npz", "shard", "", "shard.safetensors/..",
]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
def test_an_index_that_names_a_file_elsewhere(bad: Path, target: str) -> None:
    (whole,) = (bad / "unet").glob("*.safetensors")
    shutil.copy(whole, bad / "shard.safetensors")
    write_index(bad / "unet", target)
    with pytest.raises(UnsupportedModelError, match="in the same directory"):
        load(bad)


def test_a_pickle_with_the_name_of_safetensors_is_not_opened(bad: Path, victim: Path) -> None:
    (whole,) = (bad / "unet").glob("*.safetensors")
    poison(whole, victim)
    with pytest.raises(ZeroconError, match="is not complete"):
        load(bad)
    single = poison(bad / "single.safetensors", victim)
    with pytest.raises(UnsupportedModelError, match="cannot read"):
        load(single)
    assert not victim.exists()


def test_pickles_beside_safetensors_are_not_opened(bad: Path, victim: Path) -> None:
    for part in ("unet", "vae", "text_encoder", "captioner", "clip"):
        name = f"{NETWORK}.bin" if part in ("unet", "vae") else "pytorch_model.bin"
        poison(bad / part / name, victim)
    model = load(bad)
    assert model.captioner and model.scorer
    assert not victim.exists()


def test_a_pickle_in_a_snapshot_of_the_hubs_cache(
    bad: Path, victim: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    replace_weights(bad / "vae", victim)
    repository = tmp_path / "hub" / "models--some--model"
    shutil.copytree(bad, repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    with pytest.raises(PickleRefusedError):
        load(Path("some/model"))
    done = CliRunner().invoke(main, ["models", "verify", "some/model"])
    assert done.exit_code == 2 and done.stderr.endswith("[ZC-E053]\n")
    assert not victim.exists()


@pytest.mark.parametrize("what", ["--vae", "--model", "--captioner", "--clip"])
def test_a_pickle_on_the_command_line(
    victim: Path, tmp_path: Path, image_file: Path, what: str
) -> None:
    file = poison(tmp_path / "old.ckpt", victim)
    model = [] if what == "--model" else ["--model", "mini"]
    caption = [] if what == "--captioner" else CAPTION
    if what == "--clip":
        with pytest.raises(PickleRefusedError):
            load_scorer(tmp_path, str(file), CPU)
    else:
        refuse_line([*model, *caption, what, str(file)], image_file, "ZC-E053")
    assert not victim.exists()


def test_the_command_in_the_message_holds_no_code_from_a_name(victim: Path, tmp_path: Path) -> None:
    file = poison(tmp_path / "a'); print('x').ckpt", victim)
    with pytest.raises(PickleRefusedError) as caught:
        load(file)
    assert "python -c" not in str(caught.value)


# code that a configuration names

CODE = [
    ("auto_map", {"AutoModel": "evil.Model"}),
    ("trust_remote_code", True),
    ("attn_implementation", "someone/evil-kernels"),
    ("_attn_implementation", "someone/evil-kernels"),
    ("_attn_implementation_internal", "someone/evil-kernels"),
    ("quantization_config", {"quant_method": "bitsandbytes"}),
    ("custom_generate", "someone/evil"),
]
CONFIGS = [
    "unet/config.json", "vae/config.json", "text_encoder/config.json", "model_index.json",
    "scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json",
]  # fmt: skip
OTHERS = [
    "captioner/config.json", "captioner/preprocessor_config.json",
    "captioner/tokenizer_config.json", "clip/config.json", "clip/preprocessor_config.json",
]  # fmt: skip


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize(("key", "value"), CODE)
def test_a_configuration_that_names_code_is_refused(
    bad: Path, victim: Path, key: str, value: Any
) -> None:
    for name in ("evil.py", "modeling_evil.py", "pipeline.py"):
        for place in (bad, bad / "captioner", bad / "unet"):
            (place / name).write_text(f"open({str(victim)!r}, 'w')")
    for file in (*CONFIGS, *OTHERS):
        before = (bad / file).read_text()
        change(bad / file, **{key: value})
        if file.startswith(("captioner", "clip")):
            (bad / file).with_name("processor_config.json").unlink(missing_ok=True)
        with pytest.raises(UnsupportedModelError, match="zerocon runs no code of a model"):
            model = load(bad)
            model.captioner if file.startswith("captioner") else model.scorer
        (bad / file).write_text(before)
    assert not victim.exists()


def test_code_in_a_nested_configuration_is_refused(bad: Path) -> None:
    file = bad / "captioner" / "config.json"
    text = json.loads(file.read_text())["text_config"]
    change(file, text_config=text | {"auto_map": {"AutoModel": "evil.Model"}})
    with pytest.raises(UnsupportedModelError, match=r"auto_map in captioner/config\.json"):
        load_captioner(bad, None, CPU)


@pytest.mark.parametrize(
    "values",
    [
        {"_class_name": ["pipeline", "EvilPipeline"]},
        {"_class_name": {"a": 1}},
        {"unet": ["evil", "UNet2DConditionModel"]},
        {"scheduler": ["scheduling_evil", "EvilScheduler"]},
    ],
)
def test_a_pipeline_of_the_models_own_is_refused(bad: Path, values: dict[str, Any]) -> None:
    change(bad / "model_index.json", **values)
    with pytest.raises(UnsupportedModelError, match="names code of its own"):
        load(bad)


def test_nobody_is_asked_whether_to_run_code(
    bad: Path, image_file: Path, victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers asks on the terminal where a class is chosen by a configuration."""
    change(bad / "captioner" / "config.json", auto_map={"AutoConfig": "evil.Config"})
    (bad / "captioner" / "evil.py").write_text(f"open({str(victim)!r}, 'w')")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question"))
    arguments = ["edit", str(image_file), "--to", "dog", "--model", str(bad)]
    done = CliRunner().invoke(main, arguments, input="y\n" * 10)
    assert done.exit_code == 2 and done.stderr.endswith("[ZC-E054]\n") and not victim.exists()


def test_kernels_of_transformers_itself_are_no_code_of_a_model(bad: Path) -> None:
    for part in ("text_encoder", "captioner", "clip"):
        change(bad / part / "config.json", _attn_implementation="sdpa", attn_implementation=None)
    model = load(bad)
    assert model.captioner and model.scorer


def test_a_reference_of_the_hubs_cache_leads_into_the_cache_only(
    bad: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--some--model"
    (repository / "snapshots").mkdir(parents=True)
    (repository / "refs").mkdir()
    for reference in (os.path.relpath(bad, repository / "snapshots"), str(bad), "..", "."):
        (repository / "refs" / "main").write_text(reference)
        with pytest.raises(ZeroconError, match="is not on this machine"):
            load(Path("some/model"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes")
@pytest.mark.parametrize(
    "file",
    [
        "model_index.json",
        "unet/config.json",
        f"vae/{NETWORK}.safetensors",
        "tokenizer/tokenizer.json",
    ],
)
def test_a_pipe_in_the_place_of_a_file_does_not_wait(
    bad: Path, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (bad / file).unlink(missing_ok=True)
    os.mkfifo(bad / file)
    for args in (["models", "verify", str(bad)], ["caption", "x.png", "--model", str(bad)]):
        Image.new("RGB", (64, 64)).save("x.png")
        done = CliRunner().invoke(main, args)
        assert done.exit_code in (2, 3) and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize(
    "values",
    [
        {"down_block_types": ["DownBlock2D"] * 20_000},
        {"layers_per_block": 200},
        {"layers_per_block": [1, 200]},
        {"transformer_layers_per_block": [[1, 200], [200]], "layers_per_block": 3},
        {"transformer_layers_per_block": [[1, 10**9]]},
    ],
    ids=str,
)
def test_a_network_without_end_is_refused_before_it_is_built(
    bad: Path, values: dict[str, Any]
) -> None:
    file = bad / "unet" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
    with pytest.raises(UnsupportedModelError, match="is damaged: "):
        zerocon.load(str(bad), device="cpu")


def test_a_header_without_end_is_refused(bad: Path) -> None:
    file = bad / "vae" / f"{NETWORK}.safetensors"
    with file.open("wb") as opened:
        opened.write((50_000_000).to_bytes(8, "little"))
        opened.truncate(60_000_000)
    with pytest.raises(UnsupportedModelError, match="its header has 50000000 bytes"):
        zerocon.load(str(bad), device="cpu")


def test_a_deep_configuration_in_the_hubs_cache_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--owner--deep"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True)
    (repository / "snapshots" / "abc" / "config.json").write_text("[" * 100_000)
    done = CliRunner().invoke(main, ["models", "list"])
    assert done.exit_code == 0 and "owner/deep" not in done.stdout


def test_weights_are_only_read_by_one_function() -> None:
    """No code but that of ``zerocon.model`` names a function that could open a pickle."""
    folder = Path(zerocon.__file__).parent
    words = (
        "torch.load(",
        "pickle.load",
        "from_single_file",
        "AutoModel",
        "trust_remote_code=True",
    )
    found = [
        f"{file.relative_to(folder)}: {word}"
        for file in folder.rglob("*.py")
        for word in words
        if word in file.read_text(encoding="utf-8")
    ]
    of_networks = r"(?:Model|AutoencoderKL|Generation|Segmentation|network\))\s*\.from_pretrained\("
    found += [
        f"{file.relative_to(folder)}: from_pretrained"
        for file in folder.rglob("*.py")
        if re.search(of_networks, file.read_text(encoding="utf-8"))
    ]
    allowed = [
        "model/networks.py: from_pretrained",  # from tensors that were read already
        "model/weights.py: torch.load(",  # in a command that a message suggests
        "training/loop.py: torch.load(",  # what a training of this machine wrote itself
    ]
    assert sorted(found) == allowed
