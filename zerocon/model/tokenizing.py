"""Load a tokenizer; what it keeps of a text: where it is cut, and which words are unknown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from zerocon.errors import ModelNotFoundError, UnsupportedModelError
from zerocon.model.config import CONFIG_BYTES, INDEX_BYTES, read_json, shorten
from zerocon.prompt import vocabulary

WHOLE = "tokenizer.json"
FILES = {  # of older tokenizers, by class
    "CLIPTokenizer": ("vocab.json", "merges.txt"),
    "BertTokenizer": ("vocab.txt",),
}
CONFIGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
LONGEST = 100_000  # tokens: more than any text encoder reads, few enough to pad to


def tokenizer_files(folder: Path, kind: str) -> tuple[Path, ...]:
    """The files with the words of a tokenizer: ``tokenizer.json``, or those of older ones."""
    whole = folder / WHOLE
    return (whole,) if whole.exists() else tuple(folder / file for file in FILES[kind])


def load_tokenizer(
    kind: type, folder: Path, name: str, positions: int, words: int, **options: Any
) -> Any:
    """A tokenizer of transformers, with all its words, that makes no text too long.

    Args:
        kind: The class: ``CLIPTokenizer`` or ``BertTokenizer``.
        folder: With its files.
        name: Of the model, for messages.
        positions: Number of position embeddings of the network that reads the tokens.
        words: Number of token embeddings of that network.
        options: Tokens that differ from those of the files.

    Raises:
        ModelNotFoundError: There are no words.
        UnsupportedModelError: A file is damaged, or has words that the network does not have.
    """
    require_tokenizer(kind.__name__, folder, name)
    tokenizer = kind.from_pretrained(  # type: ignore[attr-defined]
        folder,
        local_files_only=True,
        trust_remote_code=False,
        model_max_length=positions,
        **options,
    )
    tokenizer.model_max_length = positions
    ids = tokenizer.get_vocab().values()
    if len(ids) <= len(set(tokenizer.all_special_ids)):
        raise ModelNotFoundError(f"{name} is not complete: the tokenizer has no words")
    if not 0 <= min(ids) <= max(ids) < words:
        raise UnsupportedModelError(
            f"{name} is damaged: the tokenizer has token {max(ids)}, and the network has {words}"
        )
    return tokenizer


def require_tokenizer(kind: str, folder: Path, name: str) -> None:
    """Check the files of a tokenizer without loading it; raises as ``load_tokenizer`` does."""
    files = tokenizer_files(folder, kind)
    if missing := [file for file in files if not file.is_file()]:
        raise ModelNotFoundError(
            f"{name} is not complete: the tokenizer has no {WHOLE} or {missing[0].name}"
        )
    for file in files:
        if file.stat().st_size > INDEX_BYTES:
            raise UnsupportedModelError(f"{name} is damaged: {file.name} is too large")
        if file.suffix == ".json":
            content = read_json(file, name, INDEX_BYTES)
            for key in ("padding", "truncation") if file.name == WHOLE else ():
                _require_short(content.get(key) or {}, name, f"{key} in {WHOLE}")
    for each in CONFIGS:
        if (folder / each).is_file():
            limit = INDEX_BYTES if each == "added_tokens.json" else CONFIG_BYTES
            values = read_json(folder / each, name, limit)
            # without a limit this one is astronomical, and replaced by the network's
            _require_short({**values, "model_max_length": None}, name, each)


def _require_short(values: Any, name: str, where: str) -> None:
    """Raise ``UnsupportedModelError`` for a number of tokens that no text has."""
    for value in values.values() if isinstance(values, Mapping) else ():
        if isinstance(value, int | float) and not -LONGEST <= value <= LONGEST:
            raise UnsupportedModelError(f"{name} is damaged: {where} says {shorten(value)}")
        _require_short(value, name, where)


def token_limit(tokenizer: Any, positions: int) -> int:
    """Largest number of tokens of a text, start and end tokens included.

    Args:
        tokenizer: One of transformers; without a configuration its own limit is astronomical.
        positions: Number of position embeddings of the text encoder.
    """
    return min(int(tokenizer.model_max_length), positions)


def unread_text(tokenizer: Any, text: str, limit: int) -> str:
    """The end of a text that does not fit into ``limit`` tokens, from a whole word on, or "".

    A word of which only some tokens fit is unread.
    """
    encoded = tokenizer(text, truncation=True, max_length=limit, return_offsets_mapping=True)
    end = max(last for _, last in encoded.offset_mapping)
    if end < len(text) and text[max(end - 1, 0) : end + 1].isalnum():  # inside a word
        end = text.rfind(" ", 0, end) + 1
    return text[end:].strip()


def unknown_words(tokenizer: Any, text: str, trained: Set[str]) -> tuple[str, ...]:
    """Words of a text, in lower case, that a text encoder was not trained on, each once.

    They become the tokenizer's unknown token, or are not among ``trained``, unless it is empty.
    A word of several tokens is not unknown by itself: word pieces spell every word.
    """

    def is_unknown(word: str) -> bool:
        if trained and not trained >= {*_parts(word)}:
            return True
        return tokenizer.unk_token_id in tokenizer(word, add_special_tokens=False).input_ids

    return tuple(w for w in dict.fromkeys(vocabulary.words(text)) if _parts(w) and is_unknown(w))


def _parts(word: str) -> list[str]:
    """The words of a compound: "red-orange" is two, "fox's" is "fox", and "-" is none."""
    return re.findall(r"[^\W_]+", word.removesuffix("'s"))
