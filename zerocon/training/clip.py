"""Stage 3: CLIP (2103.00020), whose text tower becomes the text encoder of the U-Net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, softplus

from zerocon.training.augment import as_pixels
from zerocon.training.caption_fragments import SINGLE, Facts, facts, fragment, name_fact
from zerocon.training.dataset import SIZE, drawn
from zerocon.training.loop import Rng, TrainingRun, restore, train
from zerocon.training.tokenizers import LENGTH, clip_tokenizer, framed, ids
from zerocon.world import VALUES

if TYPE_CHECKING:
    from zerocon.training.dataset import DrawnScenes
    from zerocon.training.workspace import Workspace

GROUP = 64  # captions among which the right one is retrieved


@dataclass(frozen=True)
class ClipStage(TrainingRun):
    """Train image and text embeddings with whole captions and with fragments."""

    steps: int = 8_000
    batch: int = 128
    lr: float = 1e-3
    width: int = 160  # of the text tower, and so of the U-Net's cross-attention inputs
    layers: int = 3
    image_width: int = 144
    image_layers: int = 4
    named: float = 0.5  # weight of predicting the parameters from the image: a faster start
    freeze_text: bool = False  # train the image tower only: text encoder and U-Net stay valid

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
            "hidden_size": self.image_width,
            "intermediate_size": 3 * self.image_width,
            "num_hidden_layers": self.image_layers,
            "num_attention_heads": 4,
            "projection_dim": 128,
        }
        config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=128)
        # on CPUs the backward pass of fused attention is several times slower in bfloat16
        clip = CLIPModel._from_config(config, attn_implementation="eager")
        heads = {name: nn.Linear(self.image_width, len(values)) for name, values in VALUES.items()}
        return nn.ModuleDict({"clip": clip, "heads": nn.ModuleDict(heads)})

    def run(self, work: Workspace) -> None:
        scenes, unseen = drawn(work, "train"), drawn(work, "validation")
        tokenizer = clip_tokenizer(work, scenes.captions)
        network = self.build(len(tokenizer)).to(work.device)
        if self.freeze_text:
            network["clip"].text_model.requires_grad_(False)
        data = _TextData(scenes, tokenizer)

        def losses(rng: Rng) -> dict[str, Tensor]:
            chosen = np.sort(rng.choice(len(scenes), min(self.batch, len(scenes)), replace=False))
            tokens, matches = data.sample(chosen, rng)
            matches, labels = matches.to(work.device), data.labels[chosen].to(work.device)
            x = as_pixels(scenes.images[chosen]).to(work.device)
            with work.autocast():
                image_embeddings, features = _embed_images(network, x)
                text_embeddings = _embed_text(network, tokens.to(work.device))
                predicted = [head(features) for head in network["heads"].values()]
            scale = network["clip"].logit_scale.exp().clamp(max=100)
            terms = _contrastive_terms(scale * image_embeddings @ text_embeddings.T, matches)
            heads = zip(predicted, labels.T, strict=True)
            entropies = [cross_entropy(logits.float(), label) for logits, label in heads]
            return {**terms, "named": self.named * torch.stack(entropies).mean()}

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
    """Shares of scenes whose caption is retrieved among 64, and whose kind by its name."""
    names = ids(tokenizer, [f"a {kind}" for kind in VALUES["kind"]]).to(work.device)
    kinds = _embed_text(network, names)
    retrieved, named = [], []
    for first in range(0, min(count, len(scenes)), GROUP):
        rows = range(first, min(first + GROUP, len(scenes)))
        x = as_pixels(scenes.images[rows.start : rows.stop]).to(work.device)
        images, _ = _embed_images(network, x)
        captions = [scenes.captions[i] for i in rows]
        texts = _embed_text(network, ids(tokenizer, captions).to(work.device))
        best = (images @ texts.T).argmax(1).tolist()
        retrieved += [captions[b] == true for b, true in zip(best, captions, strict=True)]
        guesses = [VALUES["kind"][k] for k in (images @ kinds.T).argmax(1).tolist()]
        named += [
            guess in (scenes.truths[i]["kind"], scenes.truths[i]["companion"])
            for guess, i in zip(guesses, rows, strict=True)
        ]
    return {"top1_of_64": float(np.mean(retrieved)), "kind_by_name": float(np.mean(named))}


class _TextData:
    """Texts for a batch of scenes: whole captions, fragments, and every single fact."""

    def __init__(self, scenes: DrawnScenes, tokenizer: Any) -> None:
        self.scenes, self.tokenizer = scenes, tokenizer
        self.facts = [facts(truth) for truth in scenes.truths]
        self.single = [fact for group in SINGLE.values() for fact in group]
        self.labels = torch.tensor(
            [[VALUES[name].index(truth[name]) for name in VALUES] for truth in scenes.truths]
        )

    def sample(self, chosen: np.ndarray[Any, Any], rng: Rng) -> tuple[Tensor, Tensor]:
        """Token numbers (texts, LENGTH), and which texts are true of which image.

        The texts are as many captions as images, as many fragments, then the single facts; the
        second tensor is a boolean (images, texts).
        """
        captions = [framed(self.scenes.captions[i], rng) for i in chosen]
        parts = [fragment(self.scenes.truths[i], rng) for i in chosen]
        parts += [(name_fact(fact, rng), frozenset({fact})) for fact in self.single]
        tokens = ids(self.tokenizer, captions + [framed(text, rng) for text, _ in parts])
        true = [self.facts[i] for i in chosen]
        return tokens, _matches(true + [required for _, required in parts], true)


def _embed_images(network: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Unit embeddings of images, and the features before the projection."""
    features = network["clip"].vision_model(pixel_values=x).pooler_output
    return normalize(network["clip"].visual_projection(features).float(), dim=-1), features


def _embed_text(network: Any, tokens: Tensor) -> Tensor:
    """Unit embeddings of texts."""
    pooled = network["clip"].text_model(input_ids=tokens).pooler_output
    return normalize(network["clip"].text_projection(pooled).float(), dim=-1)


def _matches(required: list[Facts], true: list[Facts]) -> Tensor:
    """Boolean (images, texts): whether the text's required facts are true of the image."""
    return torch.tensor([[each <= facts for each in required] for facts in true])


def _contrastive_terms(logits: Tensor, matches: Tensor) -> dict[str, Tensor]:
    """Losses of captions, fragments and single facts; logits and matches are (images, texts)."""
    n, groups = len(logits), [len(group) for group in SINGLE.values()]
    pairs = [torch.split(both[:, 2 * n :], groups, 1) for both in (logits, matches)]
    return {
        "captions": _symmetric_loss(logits[:, :n], matches[:, :n]),
        "fragments": _symmetric_loss(logits[:, n : 2 * n], matches[:, n : 2 * n]),
        "words": sum(map(_contrastive_loss, *pairs), logits.new_zeros(())) / len(groups),
    }


def _symmetric_loss(logits: Tensor, matches: Tensor) -> Tensor:
    """The contrastive loss of images over texts and of texts over images, averaged."""
    return (_contrastive_loss(logits, matches, 0) + _contrastive_loss(logits, matches, 1)) / 2


def _contrastive_loss(logits: Tensor, matches: Tensor, dim: int = 1) -> Tensor:
    """Each matching pair against all wrong ones of its row (dim 1) or column (dim 0).

    Other matching pairs are left out of the sum: an image of a fox in the snow matches several
    texts, and they do not compete.
    """
    wrong = logits.masked_fill(matches, -1e4)  # the gradient of -inf would be nan
    return softplus(wrong.logsumexp(dim, keepdim=True) - logits)[matches].mean()
