"""What a tokenizer keeps of a text: where the text is cut, and which words are unknown."""

from __future__ import annotations

import re
from collections.abc import Set
from typing import Any

from zerocon.prompt import vocabulary


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
