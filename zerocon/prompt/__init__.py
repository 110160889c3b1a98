"""From a source caption and a prompt (``--to dog``) to the target caption and its changes.

``rewrite_caption`` cleans both (``cleaning``), reads the prompt's instructions (``instructions``)
and phrases (``parser``), and puts them into the caption one by one (``rewrite``). What would not
give an English sentence is refused (``checks``). The image is only used, through CLIP's similarity,
where the caption has no related words. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from zerocon.errors import NothingToChangeError, PromptError, UnclearPromptError
from zerocon.prompt import cleaning, execution, removal, rewrite
from zerocon.prompt.change import Change
from zerocon.prompt.checks import check_language, refusal, with_suggestions
from zerocon.prompt.difference import changes_between, is_caption
from zerocon.prompt.instructions import Instruction, read_clause, split_clauses
from zerocon.prompt.parser import parse
from zerocon.prompt.splice import CaptionEdit
from zerocon.prompt.vocabulary import words
from zerocon.prompt.word_files import grammar
from zerocon.storage.escaping import has_control_characters, one_line

LONGEST = 10_000  # characters of a prompt or caption; the text encoder reads a few hundred of them

__all__ = ["CaptionRewrite", "Change", "degenerate", "keep_caption", "rewrite_caption"]


@dataclass(frozen=True)
class CaptionRewrite:
    """Source caption, target caption, the changes between them, and warnings."""

    caption: str
    target_caption: str
    changes: tuple[Change, ...]
    warnings: tuple[str, ...] = field(default=())

    def summary(self) -> str:
        """``a cat on a bench: cat -> dog (object)``"""
        return f"{self.caption}: {', '.join(map(str, self.changes))}"


def rewrite_caption(
    caption: str,
    *,
    to: str | None = None,
    from_: str | None = None,
    to_caption: str | None = None,
    similarity: rewrite.Similarity | None = None,
) -> CaptionRewrite:
    """Rewrite a source caption as a prompt describes.

    Args:
        caption: Source caption; artifacts of BLIP's tokenizer are removed from it.
        to: What the edited image shows ("dog", "at night") or what to do ("turn the cat into a
            dog"), or "" to remove ``from_``.
        from_: The words that are replaced; by default those that ``to`` names, words related to
            it, or the subject.
        to_caption: The whole target caption, instead of ``to`` and ``from_``.
        similarity: CLIP's cosine of the image to each sentence, or None; called if the caption has
            no related words.

    Raises:
        PromptError: There is no prompt, it names nothing, removes what is not there, or contains
            control characters.
        UnclearPromptError: The prompt is not understood.
        NothingToChangeError: The caption says already what the prompt asks for.
    """
    if to is not None and to_caption is not None:
        raise PromptError("to and to_caption exclude each other: give one of them")
    for text in (to, from_, to_caption):
        _require_printable(text or "", "prompt")
    unchanged = keep_caption(caption)
    caption, warnings = unchanged.caption, unchanged.warnings
    if to_caption is not None:
        if from_ is not None:
            raise PromptError("to_caption is the whole target caption: leave out from_")
        if not to_caption.strip():
            raise PromptError("to_caption is empty; describe the edited image")
        target = " ".join(to_caption.split())
        return CaptionRewrite(caption, target, changes_between(caption, target), warnings)
    if to is None:
        raise PromptError("the prompt is missing: give to (a phrase) or to_caption (a sentence)")
    try:
        edits, notes = _edits(caption, to, from_, similarity)
    except UnclearPromptError as error:
        raise with_suggestions(error, to, caption, partial(_works, caption)) from None
    changes = tuple(change for edit in edits if (change := _change(edit)).source != change.target)
    if not changes:
        unchanged_error = NothingToChangeError(
            f'nothing would change: the caption "{caption}" already contains {to.strip()!r}'
        )
        unchanged_error.caption = caption
        raise unchanged_error
    warnings += (*notes, *(warning for edit in edits for warning in edit.warnings))
    return CaptionRewrite(caption, edits[-1].caption, changes, tuple(dict.fromkeys(warnings)))


def keep_caption(caption: str) -> CaptionRewrite:
    """A rewrite without changes, with a warning if the caption is degenerate.

    Raises:
        PromptError: The caption has control characters, or is much longer than any caption.
    """
    _require_printable(caption, "caption")
    flaw = degenerate(caption)
    warnings = (
        (f"the caption is useless ({flaw}); give a better one with --caption",) if flaw else ()
    )
    caption = cleaning.clean_caption(caption)
    return CaptionRewrite(caption, caption, (), warnings)


def _require_printable(text: str, noun: str) -> None:
    """Raise ``PromptError`` for text that a recipe could not hold."""
    if has_control_characters(text):
        raise PromptError(f"the {noun} contains control characters: {one_line(text, 80)}")
    if len(text) > LONGEST:
        raise PromptError(f"the {noun} has {len(text)} characters, more than {LONGEST}")


def _edits(
    caption: str, to: str, from_: str | None, similarity: rewrite.Similarity | None
) -> tuple[list[CaptionEdit], tuple[str, ...]]:
    """The edits of a caption that a prompt asks for, and notes on the prompt."""
    source = from_.strip() if from_ else ""
    if source and not parse(source):
        raise PromptError(f"{source!r} names nothing; {_NAMES}")
    if not to.strip():
        if not source:
            raise PromptError("to is empty: give from_, the words to remove")
        return [removal.remove(caption, source)], ()
    text, notes = cleaning.clean_prompt(to)
    clauses, more = cleaning.without_quality_tags(split_clauses(text))
    if not clauses or not any(parse(clause) for clause in clauses):
        if text and clauses != split_clauses(text):
            raise refusal(to.strip(), "it names nothing that can be seen")
        raise PromptError(f"{to.strip()!r} names nothing; {_NAMES}")
    context = rewrite.Context(similarity, _proper_words(clauses))
    whole = cleaning.clean_caption(to)
    if not source and is_caption(whole, caption):
        return _whole(caption, whole), ()
    if source:
        phrase = " ".join(clauses)
        return execution.replace_source(caption, parse(phrase), source, context), (*notes, *more)
    edits = []
    for step in _steps(clauses, caption):
        edits += execution.apply(caption, step, context)
        caption = edits[-1].caption
    return edits, (*notes, *more)


def _whole(caption: str, target: str) -> list[CaptionEdit]:
    """The edits to a prompt that is a target caption: the source caption with other words."""
    changes = changes_between(caption, target)
    return [CaptionEdit(target, c.category, c.source, c.target, c.noun) for c in changes]


def _works(caption: str, to: str) -> bool:
    """Whether a prompt is understood."""
    try:
        return bool(_edits(caption, to, None, None)[0])
    except PromptError:
        return False


_NAMES = "give an object, a place, a style ..."


def _steps(clauses: Sequence[str], caption: str) -> Iterator[Instruction]:
    """The steps of a prompt, clause by clause."""
    for clause in clauses:
        check_language(clause, words(caption))
        yield from read_clause(clause) or (Instruction("put", clause, clause=clause),)


def _proper_words(clauses: Sequence[str]) -> frozenset[str]:
    """Words that are written as names: with a capital letter, not first, not in all capitals."""
    tokens = [word for clause in clauses for word in clause.split()[1:]]
    names = (word for word in tokens if word[:1].isupper() and not word.isupper())
    return frozenset(words(" ".join(names)))


def _change(step: CaptionEdit) -> Change:
    return Change(step.category, step.source, step.target, step.noun)


def degenerate(caption: str) -> str | None:
    """Why a caption is useless, or None: captioners may return nothing, or repeat themselves."""
    text = [w for w in words(caption) if w]
    if not text:
        return "it is empty"
    content = [w for w in text if w not in grammar("stop words")]
    if not content:
        return "it names nothing"
    for word in dict.fromkeys(content):
        # at least half: "a red bird on a red branch with red berries" is a normal caption
        if content.count(word) >= max(3, len(content) / 2):
            return f"it repeats {word!r}"
    for length in (2, 3, 4):
        for i in range(len(text) - 2 * length + 1):
            if text[i : i + length] == text[i + length : i + 2 * length]:
                return f"it repeats {' '.join(text[i : i + length])!r}"
    return None
