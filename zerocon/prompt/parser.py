"""The parts of a bare phrase: "a dog wearing a hat at night" -> an object, an added thing, a time.

``RULES`` are tried in order for every piece of a phrase; the first one that applies says what the
piece is. A rule is a function with an example.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from zerocon.prompt import vocabulary
from zerocon.prompt.inflection import is_adjective, is_participle, is_plural, lemmas
from zerocon.prompt.vocabulary import (
    VocabularyEntry,
    bare,
    is_function_word,
    is_verb_at,
    lookup,
    starts,
    words,
)
from zerocon.prompt.word_files import grammar

# What a name means that is in several lists: "orange" is a color, "an orange" a fruit.
_PLAIN = ("style", "action", "attribute", "time", "place", "added", "object")
_WITH_ARTICLE = ("style", "added", "object", "place", "time", "attribute", "action")


@dataclass(frozen=True)
class PromptPart:
    """One part of a prompt: an object, an attribute, a place ...

    Attributes:
        category: One of ``vocabulary.CATEGORIES``.
        text: The phrase without its article: "red hat".
        head: Its noun: "hat".
        options: Entries of the head in the word lists, likeliest first; empty if it is unknown.
        joining: Joining word in the prompt ("wearing"), else "".
        removed: Whether the part is to be removed ("without a hat").
        determiner: The word before it: "a", "the", "some"; "" for none.
        plain: A listed place or time as it was given, without its article: "castle".
    """

    category: str
    text: str
    head: str
    options: tuple[VocabularyEntry, ...] = ()
    joining: str = ""
    removed: bool = False
    determiner: str = ""
    plain: str = ""

    @property
    def modifiers(self) -> str:
        """``text`` without ``head``: "red"."""
        return self.text.partition(self.head)[0].strip() if self.head in self.text else ""

    @property
    def phrase(self) -> str:
        """The part as it is written in a caption: "wearing a red hat"."""
        return f"{self.joining} {self.determined}" if self.joining else self.text

    @property
    def determined(self) -> str:
        """``text`` with an indefinite article where it needs one, or was given one: "a beer"."""
        if self.text in grammar("pronouns"):
            return self.text
        if self.number and self.number.split()[0] in grammar("sets"):
            return f"a {self.text}"
        if self.determiner in ("a", "an") and not vocabulary.article(self.text):
            return self.text if is_plural(self.text.split()) else f"{self.determiner} {self.text}"
        return vocabulary.determined(self.text)

    @property
    def is_list(self) -> bool:
        """Whether it names several things: "dog and a cat"."""
        return " and " in self.text

    @property
    def number(self) -> str:
        """Its leading number or quantity: "two", "herd of"; else ""."""
        tokens = self.text.split()
        if length := starts(tokens, grammar("quantities")):
            return " ".join(tokens[:length])
        return tokens[0] if tokens[0] in grammar("numbers") or tokens[0].isdigit() else ""

    def with_entry(self, entry: VocabularyEntry) -> PromptPart:
        """The same part with this meaning of its head."""
        if self.plain and entry.category in ("object", "added"):
            return replace(
                self, category=entry.category, text=self.plain, head=self.plain, options=(entry,)
            )
        return replace(self, category=entry.category, options=(entry,))


@dataclass(frozen=True)
class PhraseRule:
    """One form of a piece of a phrase; ``parse`` returns None for other forms."""

    name: str
    example: str
    parse: Callable[[list[str]], PromptPart | None]


def parse(text: str) -> tuple[PromptPart, ...]:
    """The parts of a phrase: "a dog on the beach" -> an object and a place.

    Words of the lists have their category. Other phrases are classified by form, by ``RULES``.
    """
    tokens = words(text)
    if not tokens:
        return ()
    if whole := _listed(tokens):
        given = tokens[0] if tokens[0] in grammar("determiners") else ""
        return (replace(whole, determiner=given),)
    plain = bare(tokens)
    for end in range(len(plain) - 1, 0, -1):
        if plain[end] == "of" and (part := _listed(plain[:end])) and part.category == "style":
            return part, *parse(" ".join(plain[end + 1 :]))
    if whole := _style(tokens):
        return (whole,)
    return tuple(part for chunk in split_phrase(tokens) if (part := parse_chunk(chunk)))


def parse_chunk(chunk: list[str]) -> PromptPart | None:
    """The part of one chunk of a phrase, None if it names nothing."""
    part = next((part for rule in RULES if (part := rule.parse(chunk))), None)
    skipped = starts(chunk, grammar("joining", "prepositions"))
    first = chunk[skipped] if skipped < len(chunk) else ""
    return replace(part, determiner=first) if part and first in grammar("determiners") else part


def split_phrase(tokens: Sequence[str]) -> list[list[str]]:
    """Words split before joining words, prepositions and verbs: "dog", "on the beach"."""
    chunks: list[list[str]] = [[]]
    i = 0
    while i < len(tokens):
        length = starts(tokens[i:], grammar("joining", "prepositions"))
        kept = chunks[-1][:1] == ["made"] and tokens[i] in ("of", "from", "out")
        kept = kept or tokens[i] == "of" or _belongs(chunks[-1], tokens, i)
        kept = kept or (chunks[-1][:1] in (["from"], ["seen"]) and i == 1)
        kept = kept or _directs(chunks[-1], tokens, i)
        if (length and not kept) or tokens[i] == "made" or (i and is_verb_at(tokens, i)):
            chunks.append([])
        length = max(length, 1)
        chunks[-1] += tokens[i : i + length]
        i += length
    chunks = [piece for chunk in chunks for piece in _at_conjunctions(chunk)]
    return [chunk for chunk in chunks if chunk]


def _directs(chunk: Sequence[str], tokens: Sequence[str], i: int) -> bool:
    """Whether a preposition says where a movement goes: "jumping over a fence"."""
    moving = len(chunk) == 1 and is_verb_at([*chunk, "the"], 0)
    in_air = list(tokens[i : i + 3]) == ["in", "the", "air"]
    return moving and (tokens[i] in grammar("directions") or in_air)


def _belongs(chunk: Sequence[str], tokens: Sequence[str], i: int) -> bool:
    """Whether a preposition continues a listed name or a state: "lying down", "covered in snow"."""
    if not chunk:
        return False
    for start in range(len(chunk)):
        for end in range(i + 1, min(len(tokens), i + 4) + 1):
            if lookup([*chunk[start:], *tokens[i:end]]):
                return True
    return chunk[-1].endswith(("ed", "ten")) and len(chunk) == 1


def _at_conjunctions(chunk: list[str]) -> list[list[str]]:
    """A chunk split at "and" between things of different kinds: "a dog and a hat".

    Things of one family stay together ("a dog and a cat", "red and blue").
    """
    links = ("and", "but", "", "&", "also", "then", "that", "who", "which", "is", "are")
    while chunk and chunk[-1] in links:
        chunk = chunk[:-1]
    while chunk and chunk[0] in links:
        chunk = chunk[1:]
    for i, word in enumerate(chunk):
        if word in ("and", "&") and all(map(is_property_word, bare(chunk[:i]))):
            continue  # "a black and white cow"
        if word in ("and", "&") and not _one_kind(chunk[:i], chunk[i + 1 :]):
            return [chunk[:i], *_at_conjunctions(chunk[i + 1 :])]
    return [chunk]


def _one_kind(before: list[str], after: list[str]) -> bool:
    """Whether two phrases joined by "and" are one thing: their heads are of one family."""
    skipped = starts(before, grammar("joining", "prepositions"))
    left, right = (parse_chunk(each) for each in (before[skipped:], after))
    if not (left and right and left.options and right.options):
        return bool(left and right and left.category == right.category == "attribute")
    return any(a.is_related(b) for a in left.options for b in right.options)


def _listed(tokens: list[str]) -> PromptPart | None:
    """A phrase that is in the word lists as a whole."""
    plain = bare(tokens)
    matches = lookup(tokens) or lookup(plain) or lookup(_without_style_words(plain))
    prefixed = starts(tokens, grammar("prepositions"))
    if not matches and prefixed:
        matches = tuple(e for e in lookup(vocabulary.core(tokens)) if e.category == "place")
    if not matches:
        return None
    order = _WITH_ARTICLE if len(plain) < len(tokens) and not prefixed else _PLAIN
    options = tuple(sorted(matches, key=lambda e: order.index(e.category)))
    first = options[0]
    if first.category in ("attribute", "style", "place", "time"):
        likened = tokens[0] in ("as", "like") or first.category == "style"
        word = " ".join(_without_style_words(plain) or plain if likened else plain)
        keeps = prefixed and not (likened and lookup(bare(word.split())))
        name = " ".join(tokens) if keeps else form_of(first, word)
        return PromptPart(first.category, name, name, options, plain=" ".join(plain))
    text = " ".join(plain)
    return PromptPart(first.category, text, text, options)


def form_of(entry: VocabularyEntry, plain: str) -> str:
    """How a listed word is written in a caption: "dusk" -> "at dusk", "wood" -> "wooden".

    The user's own word is kept where a form of it is listed, or it is one that needs no other.
    """
    if entry.name.endswith(plain):
        return entry.name
    for form in (entry.name, *entry.aliases):
        prefixed = form != plain and entry.category in ("place", "time", "style")
        if prefixed and " ".join(vocabulary.core(form.split())) == plain:
            return form
    if entry.category == "attribute":
        made_of = plain.startswith("made ") and entry.name[:3] == plain.split()[-1][:3]
        noun = entry.family == "materials" and len(plain.split()) == 1 and not is_adjective(plain)
        gray = entry.family == "colors" and " " not in plain
        if made_of and " " in entry.name:
            return plain.split()[-1]  # "gold", listed as a "golden metal"
        return entry.name if made_of or noun or gray else plain
    if entry.category == "style" and plain.split()[-1] in grammar("style words"):
        return vocabulary.determined(plain)
    return entry.name


def _without_style_words(plain: Sequence[str]) -> list[str]:
    """ "in pixel art style" -> "pixel art"; "like a mosaic" -> "mosaic"; otherwise empty."""
    text = list(plain)
    if text and text[-1].endswith("-style"):
        text[-1] = text[-1].removesuffix("-style")
    elif text and text[-1] == "style":
        text.pop()
    elif not text or text[0] not in ("as", "like"):
        return []
    text = bare(text[1:] if text[:1] in (["in"], ["as"], ["like"]) else text)
    return text if any(e.category == "style" for e in lookup(text)) else []


def _style(tokens: list[str]) -> PromptPart | None:
    """A style of unknown words: "klimt style" -> "in klimt style", "painting" -> "a painting"."""
    plain = bare(tokens)
    if tokens[:4] == ["in", "the", "style", "of"]:
        text = " ".join(tokens)
        return PromptPart("style", text, text)
    if tokens[-1] not in grammar("style words"):
        return None
    if tokens[0] in ("as", "like"):
        tokens = plain = bare(tokens[1:])
    phrase = " ".join(tokens if starts(tokens, grammar("prepositions")) else plain)
    text = phrase
    if phrase.endswith("style") and not phrase.startswith("in "):
        text = f"in {phrase}"
    elif not phrase.startswith("in "):
        text = vocabulary.determined(phrase)
    return PromptPart("style", text, phrase)


def _removal(chunk: list[str]) -> PromptPart | None:
    if chunk[0] not in ("without", "no"):
        return None
    text = " ".join(bare(chunk[1:]))
    return PromptPart("added", text, text, lookup(words(text)), removed=True) if text else None


def _material(chunk: list[str]) -> PromptPart | None:
    text = " ".join(chunk)
    return PromptPart("attribute", text, text) if chunk[0] == "made" and len(chunk) > 2 else None


def _state(chunk: list[str]) -> PromptPart | None:
    """A past participle with what it needs: "covered in snow"."""
    text = " ".join(chunk)
    follows = len(chunk) > 1 and chunk[1] in grammar("prepositions")
    if chunk[0].endswith(("ed", "ten")) and follows and not lookup(chunk[:1]):
        return PromptPart("attribute", text, text)
    first = lookup(chunk[:1])
    if chunk[0].endswith("ed") and follows and any(e.category == "attribute" for e in first):
        return PromptPart("attribute", text, text)
    return None


def _action(chunk: list[str]) -> PromptPart | None:
    """What the subject does: "running", "reading a book"."""
    length = starts(chunk, _actions())
    if not length and is_verb_at(chunk, 0) and chunk[0] not in grammar("joining"):
        length = 1
    rest = chunk[length:]
    if not length and _consumes(chunk):
        return PromptPart("action", " ".join(chunk), chunk[0], ())
    if not length:
        return None
    if rest and not length == len(chunk) and not is_function_word(rest[0]) and not _thing(rest):
        return None
    if rest and not is_function_word(rest[0]) and len(rest) == 1 and not is_participle(chunk[0]):
        return None
    head = " ".join(chunk[:length])
    return PromptPart(
        "action", " ".join(chunk), head, tuple(_only(lookup(chunk[:length]), "action"))
    )


def _consumes(chunk: list[str]) -> bool:
    """Whether a phrase is a verb with its object: "stirring soup"."""
    if len(chunk) < 2 or not is_participle(chunk[0]) or lookup(chunk[:1]):
        return False
    families = {e.family for e in lookup(chunk[-1:])}
    return bool(families & {"food", "fruit and vegetables", "drinks", "instruments"})


def _actions() -> frozenset[str]:
    return frozenset(
        form
        for e in vocabulary.entries("action")
        for form in (e.name, *e.aliases)
        if form not in grammar("joining")
    )


def _only(entries: Sequence[VocabularyEntry], *categories: str) -> list[VocabularyEntry]:
    return [e for e in entries if e.category in categories]


def _heads(body: Sequence[str]) -> list[tuple[int, tuple[VocabularyEntry, ...]]]:
    """Starts of names at the end of a phrase, the longest first, with their entries."""
    return [(i, matches) for i in range(len(body)) if (matches := lookup(body[i:]))]


def _joined(chunk: list[str]) -> PromptPart | None:
    """A thing with the word that attaches it: "wearing a tutu", "in a red dress"."""
    length = starts(chunk, grammar("joining", "prepositions"))
    joining, body = " ".join(chunk[:length]), bare(chunk[length:])
    if not joining or not body:
        return None
    head, options = _noun(body)
    worn = joining == "in" and any(e.joining == "wearing" for e in options)
    if joining in grammar("joining") or worn:
        return PromptPart("added", " ".join(body), head, options, joining)
    return None


def _place(chunk: list[str]) -> PromptPart | None:
    text = " ".join(chunk)
    length = starts(chunk, grammar("prepositions"))
    core = bare(chunk[length:])
    named = any(not is_function_word(word) or word in grammar("pronouns") for word in core)
    return PromptPart("place", text, text) if length and named else None


def _noun(body: Sequence[str]) -> tuple[str, tuple[VocabularyEntry, ...]]:
    """The noun of a phrase and its entries as a thing, the longest name first."""
    for i, matches in _heads(body):
        if things := _only(matches, "object", "added"):
            things.sort(key=lambda e: e.category != "added")
            return " ".join(body[i:]), tuple(things)
    return (body[-1] if body else ""), ()


def _thing(chunk: list[str]) -> PromptPart | None:
    """A noun of the lists with modifiers: "a small red car"."""
    body = bare(chunk)
    counted = starts(body, grammar("quantities"))
    of = body.index("of", counted) if "of" in body[counted:] else 0
    head, options = _noun(body[:of] if of else body)
    if of and not options:
        head, options = _noun(body)
    if not options:
        return None
    text = " ".join(body)
    return PromptPart(options[0].category, text, head, options)


def _listed_place(chunk: list[str]) -> PromptPart | None:
    """A place or time of the lists with modifiers and without preposition: "tropical beach"."""
    body = bare(chunk)
    for i, matches in _heads(body):
        for entry in _only(matches, "place", "time"):
            form = form_of(entry, " ".join(body[i:])).split()
            if form[-len(body[i:]) :] == body[i:] and all(map(is_property_word, body[:i])):
                name = " ".join([*form[: len(form) - len(body[i:])], *body])
                if i and form[:1] == ["at"] and len(form) == 2:
                    name = f"on {vocabulary.determined(' '.join(body))}"  # "on a rainy night"
                return PromptPart(entry.category, name, name, (entry,), plain=" ".join(body))
    return None


def _weather(chunk: list[str]) -> PromptPart | None:
    """A time with a word like "weather": "stormy weather", "a foggy day", "very windy"."""
    body = bare(chunk)
    if len(body) > 1 and body[0] in grammar("attribute words") and _only(lookup(body[1:]), "time"):
        body = [*body, "day"]
    if len(body) < 2 or body[-1] not in grammar("time words"):
        return None
    fillers = [word for word in body[:-1] if word in grammar("attribute words")]
    word = " ".join(body[len(fillers) : -1])
    times = _only(lookup(word.split()), "time")
    if not times:
        return None
    forms = (times[0].name, *times[0].aliases)
    name = next((form for form in forms if form.endswith(f"{word} {body[-1]}")), "")
    name = name or form_of(times[0], word)
    if body[-1] == "sky":
        name = f"under {vocabulary.determined(' '.join(body))}"
    if fillers and word in name:
        name = name.replace(word, " ".join([*fillers, word]))
    return PromptPart("time", name, name, tuple(times[:1]))


def _view(chunk: list[str]) -> PromptPart | None:
    """Where an image is taken from: "from behind", "seen through a window", "drone shot"."""
    body = bare(chunk)
    text = " ".join(chunk)
    if chunk[0] in grammar("view verbs") and len(chunk) > 2:
        return PromptPart("style", text, text, _views())
    if chunk[0] == "from" and len(chunk) > 1:
        return PromptPart("style", text, text, _views())
    if len(body) > 1 and body[-1] in grammar("view nouns"):
        text = vocabulary.determined(" ".join(body))
        return PromptPart("style", text, text, _views())
    return None


def _views() -> tuple[VocabularyEntry, ...]:
    return tuple(e for e in vocabulary.entries("style") if e.family == "views")[:1]


def _backdrop(chunk: list[str]) -> PromptPart | None:
    """A plain background: "white background" -> "on a white background"."""
    body = bare(chunk)
    if body[-1:] not in (["background"], ["backdrop"]) or len(body) < 2:
        return None
    kinds = {e.family for e in lookup(body[:-1]) if e.category == "attribute"}
    lead = "on" if kinds & {"colors", "materials", "patterns"} else "with"
    text = f"{lead} {vocabulary.determined(' '.join(body))}"
    return PromptPart("place", text, text)


def _property(chunk: list[str]) -> PromptPart | None:
    """Words that are properties by the lists, the dictionary or their ending: "very old"."""
    body = [word for word in bare(chunk) if word not in ("and", "&")]
    text = " ".join(bare(chunk))
    listed = _only(lookup(body), "attribute") or _only(lookup(body[-1:]), "attribute")
    for base in lemmas(body[-1]).get("ADJ", ()) if body else ():
        listed = listed or _only(lookup([base]), "attribute")  # "older" is of the family of "old"
    fillers = grammar("attribute words")
    if body and all(w in fillers or is_property_word(w) for w in body) and body[-1] not in fillers:
        return PromptPart("attribute", text, text, tuple(listed))
    if body and all(w in fillers or is_property_word(w) for w in body[:-1]):
        if listed or body[-1].endswith(tuple(grammar("attribute endings"))):
            return PromptPart("attribute", text, text, tuple(listed))
    return None


def is_property_word(word: str) -> bool:
    """Whether a word is a property: in the list, or an adjective that is no other listed word."""
    listed = {e.category for e in lookup([word])}
    if "attribute" in listed:
        return True
    if is_function_word(word):
        return False
    eaten = (
        word.endswith(("ed", "en")) and "VERB" in lemmas(word) and word not in lemmas(word)["VERB"]
    )
    return not listed & {"object", "added"} and (is_adjective(word) or eaten)


def _unknown(chunk: list[str]) -> PromptPart | None:
    body = bare(chunk)
    if not body:
        return None
    if game := _only(lookup(["playing", *body]), "action"):
        return PromptPart("action", game[0].name, game[0].name, tuple(game))
    if all(is_function_word(word) for word in body):
        return None
    return PromptPart("object", " ".join(body), body[-1])


RULES = (
    PhraseRule("removal", "without a hat", _removal),
    PhraseRule("listed", "at night", lambda chunk: _listed(chunk) or _style(chunk)),
    PhraseRule("view", "seen through a window", _view),
    PhraseRule("weather", "stormy weather", _weather),
    PhraseRule("material", "made of jam", _material),
    PhraseRule("state", "covered in snow", _state),
    PhraseRule("added thing", "wearing a tutu", _joined),
    PhraseRule("place", "on a skateboard", _place),
    PhraseRule("action", "polishing a lamp", _action),
    PhraseRule("thing", "a small red car", _thing),
    PhraseRule("place without preposition", "deserted beach", _listed_place),
    PhraseRule("background", "white background", _backdrop),
    PhraseRule("property", "slightly messy", _property),
    PhraseRule("unknown thing", "a gizmo", _unknown),
)
