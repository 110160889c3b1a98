"""What a model's text encoder does not take of a prompt: text after its last token, unknown words.

Both are known before any U-Net evaluation is spent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from zerocon.conditioning import Conditioning
from zerocon.errors import PromptError, UnknownWordError
from zerocon.prompt import CaptionRewrite, vocabulary
from zerocon.prompt.word_files import grammar

if TYPE_CHECKING:
    from zerocon.direction import Direction
    from zerocon.model import Model

EXAMPLES = 3  # known words that are named instead of an unknown one
LAST = 8  # words of a text that is cut that are named
# A word belongs to what a direction changes if it is in so many more of one side's sentences. Those
# of the sentence bank share all other words.
DISTINCTIVE = 0.5


def check_words(model: Model, rewrite: CaptionRewrite, *, strict: bool) -> list[str]:
    """A warning if the model was not trained on words of the captions.

    Args:
        model: Tells which words it does not know; most models know any.
        rewrite: The captions and their changes.
        strict: Refuse new words that are unknown: the edit would go in a random direction.

    Raises:
        UnknownWordError: The target caption has new words that are unknown, and ``strict``.
    """
    unknown = _unknown(model, f"{rewrite.target_caption} {rewrite.caption}")
    if not unknown:
        return []
    before = vocabulary.words(rewrite.caption)
    for change in rewrite.changes if strict else ():
        added = {*vocabulary.words(change.target)} - {*before}
        if new := [word for word in unknown if word in added]:
            raise _refusal(model, new, change.category)
    return [f"the model {model.name} does not know {_quoted(unknown)}: their effect is random"]


def check_length(model: Model, rewrite: CaptionRewrite, step: Conditioning | None) -> list[str]:
    """Warnings about ends of the captions that the text encoder, or CLIP, does not read.

    Args:
        model: The model.
        rewrite: The captions.
        step: The direction from one caption to the other; None if they are equal.

    Raises:
        PromptError: The change is in what is not read, and nothing is left of the direction.
    """
    texts = (rewrite.target_caption, rewrite.caption)
    unread = [model.unread_text(text) for text in texts]
    warnings = []
    if any(unread):
        longest = _end(max(unread, key=len))
        target, source = (t.removesuffix(end).split() for t, end in zip(texts, unread, strict=True))
        lost = step is not None and target == source
        if lost and step is not None and not step.tokens.any():
            raise PromptError(
                f"nothing of the change is in the {model.max_tokens} tokens that the text encoder "
                f'reads; shorten the caption, of which is cut: "{longest}"'
            )
        what = "cut, and with it the change" if lost else "cut"
        warnings.append(f'the text encoder reads {model.max_tokens} tokens; {what}: "{longest}"')
    scorer = model.scorer if rewrite.changes else None
    if scorer is not None and scorer.max_tokens != model.max_tokens:
        if end := max(map(scorer.unread_text, texts), key=len):
            warnings.append(f'CLIP reads {scorer.max_tokens} tokens; cut: "{_end(end)}"')
    return warnings


def check_direction(model: Model, direction: Direction) -> list[str]:
    """A warning if the model does not know the words in which the direction's sides differ.

    Then the embedding of that side, and with it the direction, is random.
    """
    source, target = map(_shares, direction.sentences)
    gaps = {word: abs(source.get(word, 0) - target.get(word, 0)) for word in source | target}
    words = sorted(word for word, gap in gaps.items() if gap >= DISTINCTIVE)
    if not (unknown := _unknown(model, " ".join(words))):
        return []
    return [
        f'the model {model.name} does not know {_quoted(unknown)} of the direction "{direction}": '
        "an edit with it may distort the image"
    ]


def _unknown(model: Model, text: str) -> list[str]:
    """Unknown words of a text without those that name nothing: "and", but not "photo"."""
    stop, unknown = grammar("stop words"), model.unknown_words(text)
    return [word for word in unknown if word not in stop or vocabulary.lookup([word])]


def _refusal(model: Model, words: Sequence[str], category: str) -> UnknownWordError:
    instead = _known_relatives(model, words, category)
    examples = f"; it knows: {', '.join(instead)}" if instead else ""
    error = UnknownWordError(
        f"the model {model.name} does not know {_quoted(words)}{examples} (--to-caption takes any "
        "words)"
    )
    error.hints = instead
    return error


def _known_relatives(model: Model, words: Sequence[str], category: str) -> tuple[str, ...]:
    """Words of the lists that the model knows: of the words' families, else of their category."""
    entries = [entry for word in words for entry in vocabulary.lookup([word])]
    family = [other for entry in entries for other in (entry, *vocabulary.family(entry))]
    others = vocabulary.entries(category) if category in vocabulary.CATEGORIES else ()
    for group in (family, others):
        names = dict.fromkeys(entry.name for entry in group)
        if understood := [name for name in names if not model.unknown_words(name)]:
            return tuple(understood[:EXAMPLES])
    return ()


def _shares(sentences: Sequence[str]) -> dict[str, float]:
    """By word, the share of the sentences that have it."""
    counts = Counter(word for text in sentences for word in {*vocabulary.words(text)})
    return {word: count / len(sentences) for word, count in counts.items()}


def _quoted(words: Iterable[str]) -> str:
    return ", ".join(f'"{word}"' for word in words)


def _end(text: str) -> str:
    """The last words of a text: "... of the hill at night"."""
    words = text.split()
    return text if len(words) <= LAST else f"... {' '.join(words[-LAST:])}"
