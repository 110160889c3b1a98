"""Stage 4: the captioner, a small BLIP (2201.12086)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from zerocon.training.augment import as_pixels, mirrored, shifted
from zerocon.training.dataset import SIZE, drawn
from zerocon.training.loop import Rng, TrainingRun, restore, train
from zerocon.training.tokenizers import LENGTH, blip_tokenizer
from zerocon.world import VALUES

if TYPE_CHECKING:
    from zerocon.training.dataset import DrawnScenes
    from zerocon.training.workspace import Workspace

MEASURED = ("kind", "color", "place")  # parameters whose accuracy is measured


@dataclass(frozen=True)
class CaptionerStage(TrainingRun):
    """Train the captioner on the captions of the scenes."""

    steps: int = 8_000
    batch: int = 64
    lr: float = 1e-3
    width: int = 128
    image_layers: int = 4
    layers: int = 2
    shift: int = 8  # pixels, half a patch: without shifts it overfits the training scenes

    def build(self, tokenizer: Any) -> Any:
        from transformers import BlipConfig, BlipForConditionalGeneration

        text = {
            "vocab_size": len(tokenizer),
            "hidden_size": self.width,
            "encoder_hidden_size": self.width,
            "intermediate_size": 3 * self.width,
            "projection_dim": self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": 4,
            "max_position_embeddings": LENGTH,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.sep_token_id,
            "sep_token_id": tokenizer.sep_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
        vision = {
            "image_size": SIZE,
            "patch_size": 16,
            "hidden_size": self.width,
            "intermediate_size": 3 * self.width,
            "projection_dim": self.width,
            "num_hidden_layers": self.image_layers,
            "num_attention_heads": 4,
            "initializer_range": 0.02,  # the class's default, 1e-10, does not train
        }
        config = BlipConfig(text_config=text, vision_config=vision, projection_dim=self.width)
        return BlipForConditionalGeneration(config)

    def run(self, work: Workspace) -> None:
        scenes, unseen = drawn(work, "train"), drawn(work, "validation")
        tokenizer = blip_tokenizer(scenes.captions)
        network = self.build(tokenizer).to(work.device)

        def losses(rng: Rng) -> dict[str, Tensor]:
            chosen = np.sort(rng.integers(len(scenes), size=self.batch))
            x = mirrored(shifted(as_pixels(scenes.images[chosen]), self.shift, rng), rng)
            tokens = _tokens(tokenizer, [scenes.captions[i] for i in chosen]).to(work.device)
            mask = tokens != tokenizer.pad_token_id
            with work.autocast():
                loss = network(
                    input_ids=tokens,
                    attention_mask=mask.long(),
                    pixel_values=x.to(work.device),
                    labels=tokens.masked_fill(~mask, -100),
                ).loss
            return {"caption": loss.float()}

        def preview(average: Any) -> tuple[None, dict[str, float]]:
            return None, measure(average, tokenizer, unseen, work, 192)

        average, step = train(work, "captioner", self, network, losses, preview)
        if work.facts("captioner").get("step") != step:
            work.note("captioner", step=step, **measure(average, tokenizer, unseen, work, 1024))
            work.say(f"captioner: {work.facts('captioner')}")


def load(work: Workspace) -> tuple[Any, Any]:
    """The trained captioner and its tokenizer."""
    settings, weights = restore(work, "captioner")
    tokenizer = blip_tokenizer(drawn(work, "train").captions)
    network = CaptionerStage(**settings).build(tokenizer)
    network.load_state_dict(weights)
    return network.to(work.device).eval().requires_grad_(False), tokenizer


@torch.no_grad()
def measure(
    network: Any, tokenizer: Any, scenes: DrawnScenes, work: Workspace, count: int
) -> dict[str, float]:
    """Shares of scenes whose caption has the right kind, color and place, and all three."""
    correct = []
    for first in range(0, min(count, len(scenes)), 64):
        x = as_pixels(scenes.images[first : min(first + 64, count)]).to(work.device)
        tokens = network.generate(pixel_values=x, max_new_tokens=LENGTH - 2, do_sample=False)
        for i, row in enumerate(tokens, first):
            parsed = parse_caption(tokenizer.decode(row, skip_special_tokens=True))
            correct.append([parsed[name] == scenes.truths[i][name] for name in MEASURED])
    shares = dict(zip(MEASURED, np.mean(correct, axis=0).tolist(), strict=True))
    return shares | {"all": float(np.mean([all(row) for row in correct]))}


def parse_caption(caption: str) -> dict[str, str]:
    """The value of every named parameter in a caption: the first word that is one of its values.

    A parameter without such a word has the value that captions omit, or is empty.
    """
    rest = f" {caption.lower()} "
    omitted = {"accessory": "none", "companion": "none", "time": "day", "style": "drawing"}
    parsed = {name: omitted.get(name, "") for name in VALUES}
    for name in ("style", "color", "kind", "accessory", "companion", "place", "time"):
        places = {word: rest.find(f" {word} ") for word in VALUES[name]}
        present = {word: place for word, place in places.items() if place >= 0}
        if present:
            parsed[name] = min(present, key=lambda word: present[word])
            # so that the companion is the next animal and not the same one
            rest = rest.replace(f" {parsed[name]} ", " , ", 1)
    return parsed


def _tokens(tokenizer: Any, captions: list[str]) -> Tensor:
    """Token numbers of captions as the decoder emits them: [DEC] first, [SEP] last, padded."""
    tokens: Tensor = tokenizer(captions, padding=True, return_tensors="pt").input_ids
    tokens[:, 0] = tokenizer.bos_token_id
    return tokens
