"""Stage 8: the trained parts in diffusers' directory layout, and the classifiers."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zerocon import mini
from zerocon.bench.classifiers import WEIGHTS as CLASSIFIERS
from zerocon.bench.classifiers import save as save_classifiers
from zerocon.training import captioner, classifiers, clip, unet, vae
from zerocon.training.dataset import SIZE, drawn
from zerocon.training.model_card import write_card
from zerocon.training.sample import SCHEDULE
from zerocon.training.tokenizers import caption_words, save_tokenizer

if TYPE_CHECKING:
    from zerocon.training.workspace import Workspace

MAX_BYTES = 28e6  # of all files, since they are part of a package
MAX_FILE_BYTES = 15e6
SIZE_RULE = "longest"  # the training images are squares
PRESERVED = ("zerocon.json", "README.md")  # written by hand or by the evaluation


@dataclass(frozen=True)
class ExportStage:
    """Write what is trained so far to the package, or to another directory."""

    to: str = ""  # a directory; empty for the package's
    classifiers: str = ""  # a file; empty for the package's

    def run(self, work: Workspace) -> None:
        folder = Path(self.to) if self.to else mini.path()
        new = folder.with_name(folder.name + ".new")
        shutil.rmtree(new, ignore_errors=True)
        _save_pipeline(work, new)
        _save_clip(work, new / "clip")
        if (work.folder / "captioner" / "checkpoint.pt").exists():
            _save_captioner(work, new / "captioner")
        else:
            work.say("export: no captioner trained yet")
        words = caption_words(drawn(work, "train").captions)
        facts = {"size_rule": SIZE_RULE, "words": words}  # until settings are tuned
        (new / "zerocon.json").write_text(json.dumps(facts) + "\n")
        for name in PRESERVED:
            if (folder / name).exists():
                shutil.copy(folder / name, new / name)
        _check_size(new)
        for file in new.rglob("*.safetensors"):
            file.chmod(
                0o644
            )  # safetensors creates it readable by its owner only, and it would be installed so
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)
        if (work.folder / "classifiers" / "checkpoint.pt").exists():
            target = Path(self.classifiers) if self.classifiers else CLASSIFIERS
            save_classifiers(classifiers.load(work), target)
        else:
            work.say("export: no classifiers trained yet")
        write_card(work, folder)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        work.say(f"export: {size / 1e6:.1f} MB in {folder}")


def _save_pipeline(work: Workspace, folder: Path) -> None:
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    text_image, tokenizer = clip.load(work)
    autoencoder = vae.load(work)
    StableDiffusionPipeline(
        vae=autoencoder.half(),
        text_encoder=text_image.text_model.half(),
        tokenizer=tokenizer,
        unet=unet.load(work).half(),
        scheduler=DDIMScheduler(**SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    save_tokenizer(tokenizer, folder / "tokenizer")
    _load_in_float32(folder / "text_encoder")


def _save_clip(work: Workspace, folder: Path) -> None:
    from transformers import CLIPProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    text_image, tokenizer = clip.load(work)
    images = CLIPImageProcessorPil(
        size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}, **_range()
    )
    _save_with_processor(text_image, CLIPProcessor(images, tokenizer), folder)


def _save_captioner(work: Workspace, folder: Path) -> None:
    from transformers import BlipProcessor
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    network, tokenizer = captioner.load(work)
    images = BlipImageProcessorPil(size={"height": SIZE, "width": SIZE}, **_range())
    _save_with_processor(network, BlipProcessor(images, tokenizer), folder)


def _save_with_processor(network: Any, processor: Any, folder: Path) -> None:
    network.half().save_pretrained(folder)
    processor.save_pretrained(folder)
    processor.image_processor.save_pretrained(
        folder
    )  # under its old name too, for older versions of transformers
    _load_in_float32(folder)


def _range() -> dict[str, Any]:
    return {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}  # -1..1, as in training


def _load_in_float32(folder: Path) -> None:
    """Make float32 the default dtype on loading: float16 is slower on a CPU."""
    file = folder / "config.json"
    file.write_text(
        json.dumps(json.loads(file.read_text()) | {"dtype": "float32"}, indent=2) + "\n"
    )


def _check_size(folder: Path) -> None:
    sizes = {file: file.stat().st_size for file in folder.rglob("*") if file.is_file()}
    largest = max(sizes, key=lambda file: sizes[file])
    if sum(sizes.values()) > MAX_BYTES:
        raise ValueError(
            f"the files have {sum(sizes.values()) / 1e6:.1f} MB; at most 28 are allowed"
        )
    if sizes[largest] > MAX_FILE_BYTES:
        raise ValueError(f"{largest} has {sizes[largest] / 1e6:.1f} MB; at most 15 are allowed")
