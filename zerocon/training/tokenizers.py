"""Tokenizers of the embedded model: two small vocabularies, trained on the captions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zerocon.prompt import word_files

if TYPE_CHECKING:
    from zerocon.training.workspace import Workspace

LENGTH = 32  # tokens of a text: the longest caption has twenty words
PIECES = 1_200  # size of the CLIP vocabulary, at most; it has every byte, so any text has tokens
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]")


@cache
def frames() -> tuple[str, ...]:
    """Templates such as "a photo of {}", which add no fact about a scene."""
    return word_files.sections("templates/caption.txt")[""]


def framed(sentence: str, rng: np.random.Generator, share: float = 0.3) -> str:
    """The sentence, or with probability ``share`` the sentence inside a random template."""
    if rng.random() >= share:
        return sentence
    return frames()[int(rng.integers(len(frames())))].replace("{}", sentence)


def clip_tokenizer(work: Workspace, captions: Iterable[str]) -> Any:
    """The ``CLIPTokenizer`` of the workspace, trained on ``captions`` if there is none yet.

    It is saved, because the text encoder's weights depend on its token numbers.
    """
    from transformers import CLIPTokenizer

    folder = work.place("clip") / "tokenizer"
    if not folder.is_dir():
        vocab, merges = _pieces([*captions, *_common_text()])
        save_tokenizer(CLIPTokenizer(vocab, merges, model_max_length=LENGTH), folder)
    return CLIPTokenizer.from_pretrained(folder)


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Save with ``vocab.json`` and ``merges.txt``, which older versions of transformers read."""
    tokenizer.save_pretrained(folder)
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    merges = [" ".join(pair) for pair in model["merges"]]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))


def caption_words(captions: Iterable[str]) -> list[str]:
    """All words of the captions, sorted."""
    return sorted({word for caption in captions for word in caption.split()})


def blip_tokenizer(captions: Iterable[str]) -> Any:
    """A ``BertTokenizer`` of whole words, those of the captions."""
    from transformers import BertTokenizer

    vocab = {word: i for i, word in enumerate([*SPECIAL, *caption_words(captions)])}
    return BertTokenizer(vocab, bos_token="[DEC]", model_max_length=LENGTH)


def ids(tokenizer: Any, sentences: list[str]) -> Any:
    """Token numbers (n, LENGTH), padded and truncated as for the text encoder."""
    return tokenizer(
        sentences, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt"
    ).input_ids


def _common_text() -> Iterator[str]:
    """Text besides the captions, so that common words are not split into letters."""
    for name in ("object", "caption", "place", "time", "style", "added", "attribute"):
        yield from word_files.sections(f"templates/{name}.txt")[""]


def _pieces(corpus: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer
    from transformers import CLIPTokenizer

    standard = CLIPTokenizer().backend_tokenizer
    letters = sorted(ByteLevel.alphabet())
    learner = Tokenizer(BPE(end_of_word_suffix="</w>"))
    learner.normalizer, learner.pre_tokenizer = standard.normalizer, standard.pre_tokenizer
    trainer = BpeTrainer(
        vocab_size=PIECES,
        min_frequency=2,
        initial_alphabet=letters,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator(corpus, trainer)
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    ends = [f"{letter}</w>" for letter in letters]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *ends, *map("".join, merges)]
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}, merges
