"""From a source caption and a prompt to the target caption and its changes."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Sequence

import pytest
from lemminflect.config import lemma_lu_fn

from zerocon.prompt import CaptionRewrite, Change, degenerate, rewrite_caption
from zerocon.prompt.inflection import _preferred, is_plural_word, lemmas, plural, singular
from zerocon.prompt.vocabulary import determined
from zerocon.prompt.word_files import grammar

BENCH = "a cat sitting on a wooden bench"
DRAWN = "a picture of a red fox wearing a hat next to a ball in the snow at night"
COUCH = "there is a cat that is sitting on a couch"
SURF = "a man riding a wave on top of a surfboard"
AND = " + "

# caption | to | target caption | changes (source -> target (category))
TABLE = f"""
{BENCH} | dog | a dog sitting on a wooden bench | cat -> dog (object)
{BENCH} | an owl | an owl sitting on a wooden bench | cat -> owl (object)
{BENCH} | polar bear | a polar bear sitting on a wooden bench | cat -> polar bear (object)
{BENCH} | sofa | a cat sitting on a wooden sofa | bench -> sofa (object)
{BENCH} | car | a car sitting on a wooden bench | cat -> car (object)
{BENCH} | a red hat | a cat wearing a red hat sitting on a wooden bench \
| + wearing a red hat (added)
{BENCH} | wearing a tutu | a cat wearing a tutu sitting on a wooden bench | + wearing a tutu (added)
{BENCH} | a ball | a cat sitting on a wooden bench next to a ball | + next to a ball (added)
{BENCH} | pencil sketch | a pencil sketch of {BENCH} | + a pencil sketch (style)
{BENCH} | in pixel art style | pixel art of {BENCH} | + pixel art (style)
{BENCH} | in the style of klimt | {BENCH} in the style of klimt | + in the style of klimt (style)
{BENCH} | ukiyo-e painting | a ukiyo-e painting of {BENCH} | + a ukiyo-e painting (style)
{BENCH} | at night | {BENCH} at night | + at night (time)
{BENCH} | rainy | {BENCH} in the rain | + in the rain (time)
{BENCH} | red | a red cat sitting on a wooden bench | + red (attribute)
{BENCH} | metal | a cat sitting on a metal bench | wooden -> metal (attribute)
{BENCH} | made of wood | a wooden cat sitting on a wooden bench | + wooden (attribute)
{BENCH} | made of jam | a cat made of jam sitting on a wooden bench | + made of jam (attribute)
{BENCH} | a metal bench | a cat sitting on a metal bench | wooden -> metal (attribute)
{BENCH} | on the beach | {BENCH} on the beach | + on the beach (place)
{BENCH} | on a skateboard | a cat sitting on a skateboard \
| on a wooden bench -> on a skateboard (place)
{BENCH} | a dog on the beach | a dog sitting on a wooden bench on the beach \
| cat -> dog (object){AND}+ on the beach (place)
{BENCH} | a dog wearing sunglasses | a dog wearing sunglasses sitting on a wooden bench \
| cat -> dog (object){AND}+ wearing sunglasses (added)
{BENCH} | a tiger at night in a forest | a tiger sitting on a wooden bench in a forest at night \
| cat -> tiger (object){AND}+ at night (time){AND}+ in a forest (place)
{DRAWN} | bear | {DRAWN.replace("fox", "bear")} | fox -> bear (object)
{DRAWN} | orange | {DRAWN.replace("a red", "an orange")} | red -> orange (attribute)
a frog wearing a crown at sea | with a rabbit | a frog wearing a crown with a rabbit at sea \
| + with a rabbit (added)
a frog wearing a crown and a scarf at sea | with a ball \
| a frog wearing a crown and a scarf with a ball at sea | + with a ball (added)
{DRAWN} | crown | {DRAWN.replace("hat", "crown")} | wearing a hat -> wearing a crown (added)
{DRAWN} | bow tie | {DRAWN.replace("hat", "hat and a bow tie")} | + wearing a bow tie (added)
{DRAWN} | balloon | {DRAWN.replace("ball", "balloon")} | next to a ball -> next to a balloon (added)
{DRAWN} | desert | {DRAWN.replace("snow", "desert")} | in the snow -> in the desert (place)
{DRAWN} | at sunset | {DRAWN.replace("at night", "at sunset")} | at night -> at sunset (time)
{DRAWN} | pixel art | {DRAWN.replace("a picture", "pixel art")} | a picture -> pixel art (style)
{DRAWN} | without a hat | {DRAWN.replace(" wearing a hat", "")} | wearing a hat -
a red tree at sea | next to a flower | a red tree next to a flower at sea \
| + next to a flower (added)
a red tree at sea | mushroom | a red mushroom at sea | tree -> mushroom (object)
a red fox at night | on the beach | a red fox on the beach at night | + on the beach (place)
{SURF} | a woman | {SURF.replace("man", "woman")} | man -> woman (object)
{SURF} | a robot at sunset | {SURF.replace("man", "robot")} at sunset \
| man -> robot (object){AND}+ at sunset (time)
{COUCH} | dog | {COUCH.replace("cat", "dog")} | cat -> dog (object)
{COUCH} | with a bow tie | there is a cat with a bow tie that is sitting on a couch \
| + with a bow tie (added)
{COUCH} | oil painting | an oil painting of a cat that is sitting on a couch \
| + an oil painting (style)
an image of a cat in a kitchen | mosaic | a mosaic of a cat in a kitchen \
| an image -> a mosaic (style)
two cats on a couch | dog | two dogs on a couch | cat -> dog (object)
a group of elephants in a field | a wolf | a group of wolves in a field | elephant -> wolf (object)
a group of people on a street | robots | a group of robots on a street | people -> robots (object)
a black cat | dog | a black dog | cat -> dog (object)
a black cat | a white dog | a white dog | black cat -> white dog (object)
an orange cat | blue | a blue cat | orange -> blue (attribute)
an apple on a plate | an orange | an orange on a plate | apple -> orange (object)
a bus driving down a city street | in the desert | a bus driving in the desert \
| down a city street -> in the desert (place)
a dog on a sandy beach | in the snow | a dog in the snow | on a sandy beach -> in the snow (place)
a beach with palm trees | in the desert | a desert with palm trees | beach -> desert (place)
a street with cars | in the snow | a street with cars in the snow | + in the snow (place)
a large jet flying over a city | a dragon | a large dragon flying over a city \
| jet -> dragon (object)
araffe standing in a field | zebra | a zebra standing in a field | araffe -> zebra (object)
a cat laying on top of a bed | on a raft | a cat laying on a raft \
| on top of a bed -> on a raft (place)
a castle | van gogh style | a castle in the style of van gogh \
| + in the style of van gogh (style)
a red car parked on a street | yellow | a yellow car parked on a street | red -> yellow (attribute)
a car on a rock | metal | a metal car on a rock | + metal (attribute)
a woman holding an umbrella | a sword | a woman holding a sword \
| holding an umbrella -> holding a sword (added)
a man with glasses | a beard | a man with glasses and a beard | + with a beard (added)
a young man | old | an old man | young -> old (attribute)
a bowl of oranges on a table | apples | a bowl of apples on a table | oranges -> apples (object)
A photo of a Cat, asleep. | dog | A photo of a dog, asleep. | cat -> dog (object)
"""


def text(change: Change) -> str:
    return str(change).replace("(nothing) ->", "+")


def rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in row.split(" | ")] for row in table.splitlines() if row]


@pytest.mark.parametrize(("caption", "to", "target", "changes"), rows(TABLE))
def test_to(caption: str, to: str, target: str, changes: str) -> None:
    rewrite = rewrite_caption(caption, to=to)
    assert rewrite.caption == caption
    assert rewrite.target_caption == target
    if changes.endswith(" -"):
        changes = f"{changes[:-2]} -> (nothing) (added)"
    assert [text(change) for change in rewrite.changes] == changes.split(AND)


FROM = f"""
{BENCH} | bench | chair | a cat sitting on a wooden chair | bench -> chair (object)
{BENCH} | wooden bench | sofa | a cat sitting on a sofa | wooden bench -> sofa (object)
{BENCH} | cat | white | a white cat sitting on a wooden bench | + white (attribute)
{BENCH} | the bench | made of stone | a cat sitting on a stone bench | wooden -> stone (attribute)
{BENCH} | cat | a dog at night | a dog sitting on a wooden bench at night \
| cat -> dog (object){AND}+ at night (time)
a horse and a man | man | woman | a horse and a woman | man -> woman (object)
a fox next to a flower | flower | lamp | a fox next to a lamp \
| next to a flower -> next to a lamp (added)
a dog in the park | park | beach | a dog on the beach | in the park -> on the beach (place)
a cat on a couch | couch | beach | a cat on the beach | on a couch -> on the beach (place)
a watercolor painting of a cat | a watercolor | a mosaic | a mosaic of a cat \
| a watercolor painting -> a mosaic (style)
"""


@pytest.mark.parametrize(("caption", "source", "to", "target", "changes"), rows(FROM))
def test_from_to(caption: str, source: str, to: str, target: str, changes: str) -> None:
    rewrite = rewrite_caption(caption, from_=source, to=to)
    assert rewrite.target_caption == target
    assert [text(change) for change in rewrite.changes] == changes.split(AND)
    assert not rewrite.warnings


REMOVED = f"""
{DRAWN} | a hat | {DRAWN.replace(" wearing a hat", "")} | added | wearing a hat
{DRAWN} | ball | {DRAWN.replace(" next to a ball", "")} | added | next to a ball
{DRAWN} | at night | {DRAWN.replace(" at night", "")} | time | at night
{DRAWN} | snow | {DRAWN.replace(" in the snow", "")} | place | in the snow
{DRAWN} | red | {DRAWN.replace(" red", "")} | attribute | red
a cat wearing a red hat on a bench | a red hat | a cat on a bench | added | wearing a red hat
a cat wearing a red hat on a bench | hat | a cat on a bench | added | wearing a red hat
a cat and a dog on a couch | dog | a cat on a couch | added | dog
a cat and a dog on a couch | cat | a dog on a couch | added | cat
a woman holding an umbrella | umbrella | a woman | added | holding an umbrella
{BENCH} | cat | a wooden bench | added | cat
a painting of a cat | painting | a cat | style | a painting
"""


@pytest.mark.parametrize(("caption", "source", "target", "category", "removed"), rows(REMOVED))
def test_removal(caption: str, source: str, target: str, category: str, removed: str) -> None:
    rewrite = rewrite_caption(caption, from_=source, to="")
    assert rewrite.target_caption == target
    (change,) = rewrite.changes
    assert (change.category, change.source, change.target) == (category, removed, "")


CAPTIONS = f"""
{BENCH} | an owl sitting on a wooden bench | cat -> owl (object)
{DRAWN} | {DRAWN.replace("red", "blue")} | red -> blue (attribute)
{DRAWN} | {DRAWN.replace(" wearing a hat", "")} | wearing a hat -> (nothing) (added)
{DRAWN} | {DRAWN.replace("in the snow", "on the beach")} | in the snow -> on the beach (place)
{DRAWN} | {DRAWN.replace("in the snow", "in the desert")} | in the snow -> in the desert (place)
{DRAWN} | {DRAWN.replace("a picture", "a mosaic")} | a picture -> a mosaic (style)
{DRAWN} | {DRAWN.replace("fox", "cat").replace(" at night", "")} \
| fox -> cat (object){AND}at night -> (nothing) (time)
a red fox in the snow | a red fox on the beach at night \
| in the snow -> on the beach (place){AND}+ at night (time)
a red fox | pixel art of a red fox | + pixel art (style)
"""


@pytest.mark.parametrize(("caption", "target", "changes"), rows(CAPTIONS))
def test_to_caption(caption: str, target: str, changes: str) -> None:
    rewrite = rewrite_caption(caption, to_caption=target)
    assert rewrite.target_caption == target
    assert [text(change) for change in rewrite.changes] == changes.split(AND)


def test_quite_different_captions_are_one_change() -> None:
    (change,) = rewrite_caption(BENCH, to_caption="people dancing wildly").changes
    assert change == Change("caption", BENCH, "people dancing wildly")


@pytest.mark.parametrize("row", rows(TABLE), ids=lambda row: row[1])
def test_swapped_captions_swap_the_changes(row: list[str]) -> None:
    there = rewrite_caption(row[0], to_caption=row[2])
    back = rewrite_caption(row[2], to_caption=row[0])
    swapped = [Change(c.category, c.target, c.source) for c in back.changes]
    assert swapped == [Change(c.category, c.source, c.target) for c in there.changes]


class SimilarityTo:
    """Similarity of an image: 1 for sentences with a word, 0 for others; counts them."""

    def __init__(self, word: str) -> None:
        self.word, self.scored = word, 0

    def __call__(self, sentences: Sequence[str]) -> list[float]:
        self.scored += len(sentences)
        return [float(self.word in sentence.split()) for sentence in sentences]


@pytest.mark.parametrize(
    ("caption", "to", "shown", "source", "target"),
    [
        ("a thing on a chair", "dog", "cat", "cat", "a dog on a chair"),
        ("a fox in the snow", "blue", "red", "red", "a blue fox in the snow"),
        ("a fox wearing a hat", "on the beach", "snow", "in the snow", "on the beach"),
        ("a fox", "at night", "sunset", "at sunset", "a fox at night"),
    ],
)
def test_the_image_supplies_a_source_that_the_caption_does_not_mention(
    caption: str, to: str, shown: str, source: str, target: str
) -> None:
    rewrite = rewrite_caption(caption, to=to, similarity=SimilarityTo(shown))
    assert rewrite.changes[0].source == source
    assert rewrite.target_caption.endswith(target)
    assert len(rewrite.warnings) == 1 and source in rewrite.warnings[0]


def test_similarity_is_computed_only_when_needed() -> None:
    similarity = SimilarityTo("cat")
    rewrite_caption(BENCH, to="dog", similarity=similarity)
    rewrite_caption(BENCH, to="a red hat", similarity=similarity)
    assert similarity.scored == 0
    rewrite_caption("a thing", to="dog", similarity=similarity)
    assert 2 < similarity.scored < 50


def test_without_clip_only_the_caption_counts() -> None:
    assert rewrite_caption("a fox", to="blue", similarity=lambda _: None) == rewrite_caption(
        "a fox", to="blue"
    )


def test_the_caption_wins_if_it_fits_the_image_best() -> None:
    rewrite = rewrite_caption(
        "a red house in a meadow", to="tree", similarity=SimilarityTo("house")
    )
    assert rewrite.changes == (Change("object", "house", "tree"),)


def test_a_small_difference_does_not_contradict_the_caption() -> None:
    def slightly(sentences: Sequence[str]) -> list[float]:
        return [0.74, *(0.75 for _ in sentences[1:])]

    rewrite = rewrite_caption("a fox", to="at night", similarity=slightly)
    assert rewrite.changes == (Change("time", "", "at night", "fox"),) and not rewrite.warnings


@pytest.mark.parametrize(
    ("to", "source", "warning"),
    [
        ("gizmo", "cat", "'gizmo' is not in the word lists: taken as an object"),
        ("dog", "kitten", "the caption does not mention 'kitten'"),
        ("car", None, "the caption names none of the vehicles: 'car' replaces 'cat'"),
    ],
)
def test_warnings(to: str, source: str | None, warning: str) -> None:
    assert rewrite_caption(BENCH, to=to, from_=source).warnings == (warning,)


def test_a_source_with_another_name_in_the_caption_is_matched_by_family() -> None:
    rewrite = rewrite_caption("a cat on a chair", from_="stool", to="sofa")
    assert rewrite.target_caption == "a cat on a sofa"
    assert rewrite.changes[0].source == "stool"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "the prompt is missing"),
        ({"to": ""}, "give from_, the words to remove"),
        ({"to": "cat"}, f"nothing would change: the caption \"{BENCH}\" already contains 'cat'"),
        ({"to": "the cat"}, "nothing would change"),
        ({"to": "with the"}, "'with the' names nothing"),
        ({"to": "dog", "from_": "an"}, "'an' names nothing"),
        ({"to": "", "from_": "hat"}, "cannot remove 'hat': the caption does not mention it"),
        ({"to": "dog", "to_caption": "a dog"}, "give one of them"),
        ({"to_caption": BENCH}, "the captions are equal"),
        ({"to_caption": "a dog", "from_": "cat"}, "leave out from_"),
        ({"to_caption": " "}, "empty"),
    ],
)
def test_invalid_prompts(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rewrite_caption(BENCH, **arguments)


def test_removing_the_whole_caption() -> None:
    with pytest.raises(ValueError, match="nothing else is left"):
        rewrite_caption("a boat", from_="boat", to="")


def test_an_empty_caption_still_has_a_target() -> None:
    rewrite = rewrite_caption("", to="a dog at night")
    assert rewrite.target_caption == "a dog at night"
    assert "empty" in rewrite.warnings[0]


@pytest.mark.parametrize(
    ("caption", "flaw"),
    [
        ("", "it is empty"),
        (" . ", "it is empty"),
        ("a picture of the", "it names nothing"),
        ("bald bald bald man", "it repeats 'bald'"),
        ("a dog, a dog, a dog", "it repeats 'dog'"),
        ("a red fox red fox in the snow", "it repeats 'red fox'"),
        ("next to a next to a wall", "it repeats 'next to a'"),
        (BENCH, None),
        (DRAWN, None),
        ("a red bird on a red branch with red berries in a garden with a fence", None),
        ("a man and a woman and a dog", None),
        ("a cat next to a cat", None),
    ],
)
def test_degenerate(caption: str, flaw: str | None) -> None:
    assert degenerate(caption) == flaw


def test_a_rewrite_is_summarized_in_one_line() -> None:
    rewrite = rewrite_caption(BENCH, to="a dog at night")
    assert rewrite.summary() == f"{BENCH}: cat -> dog (object), (nothing) -> at night (time)"
    assert isinstance(rewrite, CaptionRewrite) and hash(rewrite) == hash(
        rewrite_caption(BENCH, to="a dog at night")
    )


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("owl", "an owl"), ("unicorn", "a unicorn"), ("hour", "an hour"), ("x-ray", "an x-ray"),
        ("old man", "an old man"), ("one-eyed cat", "a one-eyed cat"), ("sunglasses", "sunglasses"),
        ("bus", "a bus"), ("cactus", "a cactus"), ("two dogs", "two dogs"), ("people", "people"),
        ("the dog", "the dog"), ("cats on a mat", "cats on a mat"), ("glass", "a glass"),
        ("uniform with buttons", "a uniform with buttons"), ("bow tie", "a bow tie"),
        ("hourglass", "an hourglass"), ("triceratops", "a triceratops"), ("bacon", "bacon"),
    ],
)  # fmt: skip
def test_articles(phrase: str, expected: str) -> None:
    assert determined(phrase) == expected


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("cat", "cats"), ("fox", "foxes"), ("bus", "buses"), ("pony", "ponies"), ("man", "men"),
        ("wolf", "wolves"), ("sheep", "sheep"), ("horse", "horses"), ("donkey", "donkeys"),
        ("vase", "vases"), ("church", "churches"), ("mouse", "mice"), ("elf", "elves"),
        ("collie", "collies"), ("shelf", "shelves"), ("policewoman", "policewomen"),
    ],
)  # fmt: skip
def test_plurals(one: str, many: str) -> None:
    assert plural(one) == many
    assert singular(many) == one


def test_every_plural_of_the_dictionary_has_an_ending_of_plurals() -> None:
    """Words without a plural ending are singulars; the dictionary is not loaded for them."""
    with gzip.open(lemma_lu_fn, "rt") as lines:
        listed = {line.partition(",")[0] for line in lines}
    nouns = {w: lemmas(w).get("NOUN", ()) for w in listed if w == w.lower() and " " not in w}
    plurals = [word for word, singulars in nouns.items() if singulars and word not in singulars]
    known = {*_preferred(), *grammar("uncountable")}  # which come before the dictionary
    assert len(plurals) > 10_000
    assert [w for w in plurals if not is_plural_word(w) and w not in known] == []


def test_prompts_need_no_torch() -> None:
    code = "import sys, zerocon.prompt.sentence_bank; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
