"""Stage 3: CLIP, whose text half becomes the U-Net's text encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, softplus

from zerocon.training.augment import as_pixels
from zerocon.training.caption_fragments import SINGLE, Facts, facts, fragment, naming
from zerocon.training.dataset import SIZE, drawn
from zerocon.training.loop import Rng, TrainingRun, restore, train
from zerocon.training.tokenizers import LENGTH, clip_tokenizer, framed, ids
from zerocon.world import VALUES

if TYPE_CHECKING:
    from zerocon.training.dataset import DrawnScenes
    from zerocon.training.workspace import Workspace

GROUP = 64  # captions among which the right one is to be found


@dataclass(frozen=True)
class ClipStage(TrainingRun):
    """Train pictures and sentences to meet, whole captions and short ones alike."""

    steps: int = 8_000
    batch: int = 128
    lr: float = 1e-3
    width: int = 160  # of the text tower: what the U-Net's cross-attention reads
    layers: int = 3
    sight: int = 144  # width of the image tower
    sight_layers: int = 4
    named: float = 0.5  # of a reading of each parameter off the picture: it speeds up the start
    freeze_text: bool = False  # train the rest on: the text encoder, and the U-Net, stay valid

    def build(self, vocabulary: int) -> Any:
        from transformers import CLIPConfig, CLIPModel

        text = {
            "vocab_size": vocabulary,
            "hidden_size": self.width,
            "intermediate_size": 3 * self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": 4,
            "max_position_embeddings": LENGTH,
            "projection_dim": 128,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 1,
        }
        vision = {
            "image_size": SIZE,
            "patch_size": 16,
            "hidden_size": self.sight,
            "intermediate_size": 3 * self.sight,
            "num_hidden_layers": self.sight_layers,
            "num_attention_heads": 4,
            "projection_dim": 128,
        }
        config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=128)
        # the fused attention's backward pass is several times slower than this in bfloat16 on CPUs
        clip = CLIPModel._from_config(config, attn_implementation="eager")
        heads = {name: nn.Linear(self.sight, len(words)) for name, words in VALUES.items()}
        return nn.ModuleDict({"clip": clip, "heads": nn.ModuleDict(heads)})

    def run(self, work: Workspace) -> None:
        scenes, unseen = drawn(work, "train"), drawn(work, "validation")
        tokenizer = clip_tokenizer(work, scenes.captions)
        network = self.build(len(tokenizer)).to(work.device)
        if self.freeze_text:
            network["clip"].text_model.requires_grad_(False)
        known = [facts(truth) for truth in scenes.truths]
        single = [fact for group in SINGLE.values() for fact in group]
        numbers = torch.tensor(
            [[VALUES[name].index(truth[name]) for name in VALUES] for truth in scenes.truths]
        )

        def losses(rng: Rng) -> dict[str, Tensor]:
            chosen = np.sort(rng.choice(len(scenes), min(self.batch, len(scenes)), replace=False))
            whole = [framed(scenes.captions[i], rng) for i in chosen]
            parts = [fragment(scenes.truths[i], rng) for i in chosen]
            parts += [(naming(fact, rng), frozenset({fact})) for fact in single]
            said = ids(tokenizer, whole + [framed(words, rng) for words, _ in parts])
            asked = [known[i] for i in chosen] + [wanted for _, wanted in parts]
            right = _true_of(asked, [known[i] for i in chosen]).to(work.device)
            x = as_pixels(scenes.images[chosen]).to(work.device)
            with work.autocast():
                seen, features = _look(network, x)
                heard = _listen(network, said.to(work.device))
                read = [head(features) for head in network["heads"].values()]
            likeness = network["clip"].logit_scale.exp().clamp(max=100) * seen @ heard.T
            n, groups = len(chosen), [len(group) for group in SINGLE.values()]
            alike, true = (torch.split(both[:, 2 * n :], groups, 1) for both in (likeness, right))
            answers = numbers[chosen].to(work.device)
            return {
                "captions": _contrast(likeness[:, :n], right[:, :n]),
                "fragments": _contrast(likeness[:, n : 2 * n], right[:, n : 2 * n]),
                "words": sum(map(_against_wrong, alike, true), x.new_zeros(())) / len(groups),
                "named": self.named
                * torch.stack(
                    [cross_entropy(r.float(), a) for r, a in zip(read, answers.T, strict=True)]
                ).mean(),
            }

        def preview(average: nn.Module) -> tuple[None, dict[str, float]]:
            return None, measure(average, tokenizer, unseen, work, 256)

        average, step = train(work, "clip", self, network, losses, preview)
        if work.facts("clip").get("step") != step:
            work.note("clip", step=step, **measure(average, tokenizer, unseen, work, 1024))
            work.say(f"clip: {work.facts('clip')}")


def load(work: Workspace) -> tuple[Any, Any]:
    """The trained ``CLIPModel`` and its tokenizer."""
    settings, weights = restore(work, "clip")
    tokenizer = clip_tokenizer(work, [])
    network = ClipStage(**settings).build(len(tokenizer))
    network.load_state_dict(weights)
    return network["clip"].to(work.device).eval().requires_grad_(False), tokenizer


@torch.no_grad()
def measure(
    network: Any, tokenizer: Any, scenes: DrawnScenes, work: Workspace, count: int
) -> dict[str, float]:
    """Shares of scenes whose caption is found among 64, and whose kind is found by name."""
    names = ids(tokenizer, [f"a {kind}" for kind in VALUES["kind"]]).to(work.device)
    kinds = _listen(network, names)
    found, named = [], []
    for first in range(0, min(count, len(scenes)), GROUP):
        rows = range(first, min(first + GROUP, len(scenes)))
        seen, _ = _look(network, as_pixels(scenes.images[rows.start : rows.stop]).to(work.device))
        said = [scenes.captions[i] for i in rows]
        heard = _listen(network, ids(tokenizer, said).to(work.device))
        best = (seen @ heard.T).argmax(1).tolist()
        found += [said[b] == own for b, own in zip(best, said, strict=True)]
        guesses = [VALUES["kind"][k] for k in (seen @ kinds.T).argmax(1).tolist()]
        named += [
            guess in (scenes.truths[i]["kind"], scenes.truths[i]["companion"])
            for guess, i in zip(guesses, rows, strict=True)
        ]
    return {"top1_of_64": float(np.mean(found)), "kind_by_name": float(np.mean(named))}


def _look(network: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    features = network["clip"].vision_model(pixel_values=x).pooler_output
    return normalize(network["clip"].visual_projection(features).float(), dim=-1), features


def _listen(network: Any, said: Tensor) -> Tensor:
    pooled = network["clip"].text_model(input_ids=said).pooler_output
    return normalize(network["clip"].text_projection(pooled).float(), dim=-1)


def _true_of(asked: list[Facts], known: list[Facts]) -> Tensor:
    """(pictures, sentences): does the sentence hold of the picture?"""
    return torch.tensor([[wanted <= facts for wanted in asked] for facts in known])


def _contrast(likeness: Tensor, right: Tensor) -> Tensor:
    """The loss of pictures that look for their sentences, and sentences for their pictures."""
    return (_against_wrong(likeness, right, 0) + _against_wrong(likeness, right, 1)) / 2


def _against_wrong(likeness: Tensor, right: Tensor, dim: int = 1) -> Tensor:
    """Each right pair against all wrong ones of its row (dim 1) or column (dim 0).

    Other right ones stay out of it: a picture of a fox in the snow need not choose between them.
    """
    wrong = likeness.masked_fill(right, -1e4)  # not -inf, whose gradient is none
    return softplus(wrong.logsumexp(dim, keepdim=True) - likeness)[right].mean()
