"""Sentence bank: both sides come from the same templates and differ in the change only."""

from __future__ import annotations

import re

import pytest

from zerocon.prompt import Change, rewrite_caption
from zerocon.prompt.parser import parse
from zerocon.prompt.sentence_bank import pairs
from zerocon.prompt.vocabulary import CATEGORIES, VocabularyEntry, determined, entries

CHANGES = [
    Change("object", "cat", "dog"),
    Change("object", "polar bear", "owl"),
    Change("object", "cats", "owls"),
    Change("object", "black cat", "two dogs"),
    Change("object", "man", "robot"),
    Change("object", "gizmo", "iridescent widget"),
    Change("object", "", "dog"),
    Change("attribute", "red", "orange", "fox"),
    Change("attribute", "red", "blue"),
    Change("attribute", "", "made of jam", "car"),
    Change("attribute", "old", "", "sunglasses"),
    Change("added", "", "wearing a red hat", "fox"),
    Change("added", "wearing a hat", "wearing a crown", "cat"),
    Change("added", "next to a ball", ""),
    Change("added", "cat", "", "dog"),
    Change("place", "in the snow", "on the beach", "fox"),
    Change("place", "beach", "desert"),
    Change("place", "", "underwater", "igloo"),
    Change("time", "", "at night", "street"),
    Change("time", "in winter", "in summer"),
    Change("action", "sitting", "standing", "cat"),
    Change("action", "", "reading a book", "woman"),
    Change("style", "", "a pencil sketch", "fox"),
    Change("style", "a picture", "in the style of klimt"),
    Change("caption", "a cat on a bench", "an owl at night"),
]
any_change = pytest.mark.parametrize("change", CHANGES, ids=str)


@any_change
def test_both_sides_have_equally_many_sentences_and_none_twice(change: Change) -> None:
    source, target = pairs(change)
    assert len(source) == len(target) >= 64
    assert len(set(source)) == len(source) and len(set(target)) == len(target)
    assert not any(before == after for before, after in zip(source, target, strict=True))


@any_change
def test_swapping_source_and_target_swaps_the_lists(change: Change) -> None:
    source, target = pairs(change)
    swapped = Change(change.category, change.target, change.source, change.noun)
    assert pairs(swapped) == (target, source)


@any_change
def test_articles_and_spaces_are_correct(change: Change) -> None:
    for sentence in [s for side in pairs(change) for s in side]:
        assert sentence == sentence.strip() and "  " not in sentence and "{" not in sentence
        for article, word in re.findall(r"\b(an?) ([\w-]+)", sentence):
            assert determined(word) in (f"{article} {word}", word), sentence
        assert not re.search(r"\ban? (two|owls|cats|sunglasses)\b", sentence), sentence


@any_change
def test_each_side_contains_its_own_words_only(change: Change) -> None:
    source, target = pairs(change)
    for before, after in zip(source, target, strict=True):
        word = change.target.split()[-1] if change.target else ""
        assert word in after
        if change.source and change.category != "style":
            assert change.source.split()[-1] in before
        if change.category in ("added", "place", "time") and not change.source:
            # otherwise the sentences are equal
            assert set(before.split()) - {"a", "an"} <= set(after.split())


def test_the_noun_of_the_caption_is_the_most_frequent() -> None:
    source, _ = pairs(Change("attribute", "red", "blue", "igloo"))
    assert sum("igloo" in sentence for sentence in source) >= 8
    assert source[0] == "a red igloo"


def test_limit() -> None:
    change = Change("object", "cat", "dog")
    assert pairs(change, limit=2) == (["a cat", "a photo of a cat"], ["a dog", "a photo of a dog"])
    assert pairs(change, limit=1)[0] == pairs(change)[0][:1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Change("object", "cat", "cat"), "nothing changes"),
        (Change("mood", "sad", "happy"), "no category 'mood'; there are: object"),
    ],
)
def test_invalid_changes(change: Change, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pairs(change)
    with pytest.raises(ValueError, match="at least 1"):
        pairs(Change("object", "cat", "dog"), limit=0)


ALL = [entry for category in CATEGORIES for entry in entries(category)]


def test_the_lists_have_thousands_of_entries_and_none_twice_in_a_family() -> None:
    assert len(ALL) > 5000
    names = [(e.category, e.family, name) for e in ALL for name in (e.name, *e.aliases)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("phrase", "category", "family"),
    [
        ("capybara", "object", "animals"), ("fire truck", "object", "vehicles"),
        ("fries", "object", "food"), ("chimney", "object", "parts of buildings"),
        ("hoodie", "added", "clothes"), ("tattoo", "added", "faces"),
        ("rustic", "attribute", "looks"), ("bright", "attribute", "light"),
        ("at the airport", "place", "built"), ("in a hallway", "place", "indoors"),
        ("by candlelight", "time", "light"), ("caravaggio style", "style", "in the manner of"),
    ],
)  # fmt: skip
def test_words_of_edits_of_photographs_are_listed(phrase: str, category: str, family: str) -> None:
    entry = parse(phrase)[0].options[0]
    assert (entry.category, entry.family) == (category, family)


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_listed_word_is_a_valid_prompt(category: str) -> None:
    """Each entry is recognized with a plain caption, and has sentences."""

    def check(entry: VocabularyEntry) -> None:
        rewrite = rewrite_caption("a picture of a widget", to=entry.name)
        assert not any("word lists" in warning for warning in rewrite.warnings), entry
        for change in rewrite.changes:
            assert len(pairs(change)[0]) >= 64, (entry, change)

    for entry in entries(category):
        if entry.name != "a picture":
            check(entry)
