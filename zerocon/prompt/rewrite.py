"""Finding the words of a caption that one part of a prompt replaces, and replacing them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from zerocon.prompt import vocabulary
from zerocon.prompt.caption import (
    Span,
    covers,
    families,
    joined_start,
    locate,
    locate_noun,
    nouns,
    phrase_start,
    same,
    style_at,
    subject,
)
from zerocon.prompt.parser import PromptPart, parse
from zerocon.prompt.replace import (
    METHODS,
    put_action,
    put_added,
    put_attribute,
    put_object,
)
from zerocon.prompt.splice import CaptionEdit
from zerocon.prompt.vocabulary import (
    Mention,
    VocabularyEntry,
    bare,
    is_boundary,
    lookup,
    starts,
    words,
)
from zerocon.prompt.word_files import grammar

# CLIP's cosine of the image to each sentence; None without CLIP
Similarity = Callable[[Sequence[str]], Sequence[float] | None]
_MARGIN = 0.02  # cosines of paraphrases differ by less; a caption is contradicted above it
# Sentences that are scored: the commonest words of a family. Rare times ("during a solar eclipse")
# fit many images a little.
_CANDIDATES, _TIMES = 40, 9

# Families of single things that can take each other's place as the subject of an image. Other
# subjects (a room, a plate of food) keep theirs: what is unrelated is added to them.
SOLID = frozenset(
    ("animals", "people", "fantasy beings", "vehicles", "buildings", "plants", "toys and sport")
)
SNOW = "in the snow"  # a place and a weather
# In a room these join others of their family instead of replacing one.
GATHERED = frozenset(("furniture", "electronics", "plants", "animals", "people"))


@dataclass(frozen=True)
class Context:
    """What is used besides the caption while the parts of a prompt are put into it."""

    similarity: Similarity | None
    proper: frozenset[str]  # words of the prompt with a capital letter


def put_part(caption: str, part: PromptPart, context: Context) -> CaptionEdit:
    """Put a part into a caption, in place of the noun it names, related words, or the subject.

    CLIP's similarity is used if the caption has no related words: they may be missing from it.
    """
    text = words(caption)
    if named := _named_noun(text, part):
        return put_object(caption, _as_object(part), named)
    if ending := _same_ending(text, part):
        return METHODS["time"](caption, part, ending)
    if part.joining:
        around = (related_mention(text, entry, around=True) for entry in part.options)
        return put_added(caption, part, next((m for m in around if m), None))
    if kin := _kin(text, part):
        entry, mention = kin
        return METHODS[entry.category](caption, part.with_entry(entry), mention)
    if weather := _falling(text, part):
        return METHODS["time"](caption, part, weather)
    if part.options:
        part = part.with_entry(part.options[0])
    if part.category == "object":
        return _put_unrelated(caption, part, context.similarity)
    step = METHODS[part.category](caption, part, None)
    if part.category in ("added", "action") or step.source or step.source == step.target:
        return step
    if part.options and part.category != "style":
        if missing := _missing(caption, part, context.similarity):
            return _with_missing(step, missing)
    return step


def _kin(text: Sequence[str], part: PromptPart) -> tuple[VocabularyEntry, Mention] | None:
    """The words of a caption that are related to a part, the subject first."""
    alone = part.category in ("action", "attribute") and not part.determiner
    options = [e for e in part.options if not alone or e.category == part.category]
    related = [(e, m) for e in options if (m := related_mention(text, e))]
    related = [(e, m) for e, m in related if not _is_gathered(text, e, m)]
    related = [(e, m) for e, m in related if e.category != "added" or text[m.end :][:1] != ["of"]]
    related = [(e, m) for e, m in related if not _joins_view(part, m)]
    main = subject(text)
    related.sort(key=lambda pair: not covers(main, pair[1].start, pair[1].end))
    return related[0] if related else None


def _same_ending(text: Sequence[str], part: PromptPart) -> Mention | None:
    """The time or place of a caption that ends in the same noun: "a blue sky", "a pink sky"."""
    if part.category not in ("place", "time") or len(part.text.split()) < 3:
        return None
    for mention in vocabulary.mentions(text):
        alike = text[mention.end - 1] == part.text.split()[-1] and mention.end - mention.start > 1
        if alike and (mention.of("time") or mention.of("place")):
            return mention
    return None


def _joins_view(part: PromptPart, mention: Mention) -> bool:
    """Whether a view joins another one: "a close up of a cat seen from behind"."""
    view = part.category == "style" and any(e.family == "views" for e in mention.entries)
    return view and part.text.split()[0] not in ("a", "an")


def _falling(text: Sequence[str], part: PromptPart) -> Mention | None:
    """The rain in which a caption is, for a prompt with snow."""
    snow = part.category == "place" and any(e.name == SNOW for e in part.options[:1])
    return next((m for m in vocabulary.mentions(text) if _is_rain(m)), None) if snow else None


def _is_rain(mention: Mention) -> bool:
    return any(e.category == "time" and e.family == "weather" for e in mention.entries)


def _named_noun(text: Sequence[str], part: PromptPart) -> Mention | None:
    """The noun of a caption that a part names itself: "a red bench", "on a red bench"."""
    if part.category in ("object", "added") and not (part.joining and part.options):
        span = locate(text, part.head)
        holder = part.text.removeprefix(part.number).strip().partition(" of ")
        if holder[1] and (outer := locate(text, holder[0])):
            span = outer
    elif part.category == "place" and not part.options:
        core = vocabulary.core(words(part.text))
        span = locate(text, core[-1]) if core else None
        if span and not _same_lead(text, span, part):
            span = None
    else:
        return None
    if span is None or (part.joining and joined_start(text, phrase_start(text, span[0])) is None):
        return None
    return Mention(*span, lookup(text[slice(*span)]))


def _same_lead(text: Sequence[str], span: Span, part: PromptPart) -> bool:
    start = joined_start(text, phrase_start(text, span[0]))
    return start is not None and text[start] == part.text.split()[0]


def _as_object(part: PromptPart) -> PromptPart:
    """A part as the noun phrase it contains: "on a red bench" -> "red bench"."""
    if part.category == "place":
        core = vocabulary.core(words(part.text))
        return PromptPart("object", " ".join(core), core[-1], lookup(core[-1:]))
    return part


def _is_gathered(text: Sequence[str], entry: VocabularyEntry, mention: Mention) -> bool:
    """Whether a thing joins another of its family in a room: a bathtub does not replace a sink."""
    if entry in mention.entries or entry.category not in ("object", "added"):
        return False
    if same(text[mention.end - 1 : mention.end], entry.name.split()[-1]):
        return False  # "palm trees" for "pine trees"
    main = subject(text)
    scene = "places" in families(text, main)
    joins = scene and entry.family in GATHERED and mention.start > main[0]
    return joins or entry.family.startswith("parts of") or entry.name in grammar("sky things")


def _with_missing(step: CaptionEdit, missing: str) -> CaptionEdit:
    """The same edit of a source that the caption does not mention."""
    warning = f"the caption does not mention {missing!r}, which the image seems to show"
    return replace(step, source=missing, warnings=(warning,))


def replace_named(caption: str, part: PromptPart, source: str) -> CaptionEdit:
    """Put a part into a caption in place of ``source``, given by the user."""
    text = words(caption)
    span = locate(text, source) or locate_noun(text, source)
    meaning = parse(source)[0]
    alike = [e for e in part.options if e.category == meaning.category]
    part = part.with_entry(alike[0]) if alike else part
    if span is None:
        return _replace_absent(caption, part, source, meaning)
    if ground := _as_ground(text, span, part):
        return put_object(caption, ground, Mention(*span, ()))
    if part.category != meaning.category and (described := _describe(caption, part, span, meaning)):
        return described
    if part.category == "style" and (whole := style_at(text, span[0])):
        span = whole.start, max(span[1], whole.end)  # "a watercolor" of "a watercolor painting"
    if part.category == "action":
        return put_action(caption, part, None)
    mention = Mention(*span, meaning.options)
    replaced = part.category in ("place", "time", "style") or part.joining
    if replaced or meaning.category in ("added", "attribute"):
        return METHODS[part.category](caption, part, mention)
    return put_object(caption, part, mention)


def _describe(
    caption: str, part: PromptPart, span: Span, meaning: PromptPart
) -> CaptionEdit | None:
    """Put a property, an action or an added thing to a noun of the caption."""
    if part.category == "attribute":  # also a material: "turn the chair into gold"
        material = lookup(["made", "of", *part.text.split()])
        return put_attribute(caption, replace(part, options=(*material, *part.options)), None, span)
    if meaning.category not in ("object", "added"):
        return None
    if part.category == "action":
        return put_action(caption, part, None, span)
    return put_added(caption, part, None, span) if part.joining else None


def _as_ground(text: Sequence[str], span: Span, part: PromptPart) -> PromptPart | None:
    """A part as the ground under something: "turn the grass into sand"."""
    word = part.plain or part.text
    if starts(word.split(), grammar("prepositions")):
        return None
    if not any(e.category == "place" for e in lookup(text[slice(*span)])):
        return None
    if word.split()[-1] not in grammar("uncountable") or part.category in ("object", "added"):
        return None
    return PromptPart("object", word, word)


def _replace_absent(
    caption: str, part: PromptPart, source: str, meaning: PromptPart
) -> CaptionEdit:
    """Replace a source that the caption has another name for, or does not mention."""
    text = words(caption)
    related = [m for e in meaning.options if (m := related_mention(text, e, other=False))]
    category = part.category if part.category != "added" or related else "object"
    step = METHODS[category](caption, part, related[0] if related else None)
    name = " ".join(bare(words(source)))
    warning = f"the caption does not mention {source!r}"
    return replace(step, source=name, warnings=(warning,))


def _put_unrelated(caption: str, part: PromptPart, similarity: Similarity | None) -> CaptionEdit:
    """Put an object into a caption that names nothing of its family, with a warning."""
    text = words(caption)
    span = subject(text)
    name, kinds = " ".join(text[slice(*span)]), families(text, span)
    if not part.options:
        step = put_object(caption, part, None)
        warning = f"{part.text!r} is not in the word lists: taken as an object"
        return replace(step, warnings=(warning,))
    if missing := _missing(caption, part, similarity):
        return _with_missing(put_object(caption, part, None), missing)
    family = part.options[0].family
    if family.startswith("parts of"):
        return put_added(caption, part, None)
    if part.head in grammar("surfaces") and kinds & {"tableware", "food", "drinks", "electronics"}:
        phrase = f"on {part.determined}"
        return METHODS["place"](caption, PromptPart("place", phrase, phrase), None)
    if kinds and not (kinds & SOLID and family in SOLID):
        step = put_added(caption, part, None)
        warning = f"the caption names none of the {family}: {part.text!r} is added"
        return replace(step, warnings=(warning,) if "places" not in kinds else ())
    step = put_object(caption, part, None)
    if step.source == step.target or not name or step.category == "attribute":
        return step
    warning = f"the caption names none of the {family}: {part.text!r} replaces {name!r}"
    return replace(step, warnings=(warning,))


def related_mention(
    text: Sequence[str], entry: VocabularyEntry, other: bool = True, around: bool = False
) -> Mention | None:
    """The mention in a caption that an entry can replace: the subject, else the first one.

    ``other`` excludes attributes equal to the entry, ``around`` excludes the subject.
    """
    related = [m for m in _mentions(text, entry) if any(e.is_related(entry) for e in m.entries)]
    if entry.category == "place":
        related = [m for m in related if _is_replaceable_place(text, m, entry)]
    if entry.category == "attribute" and other:
        # "made of wood" can mean the cat although its bench is wooden already
        related = [m for m in related if entry not in m.entries and _qualifies(text, m)]
    start, end = subject(text)
    first = phrase_start(text, start) if start < end else 0
    of_subject = [m for m in related if first <= m.start and m.end <= end]
    if not around:
        return next(iter(of_subject or related), None)
    apart = (m for m in related if m not in of_subject)
    return next((m for m in apart if joined_start(text, phrase_start(text, m.start))), None)


def _mentions(text: Sequence[str], entry: VocabularyEntry) -> list[Mention]:
    """Mentions of a category, those that can be replaced."""
    if entry.category in ("object", "added"):
        return nouns(text)
    if entry.category == "style":
        styles = (m for i in range(min(len(text), 4)) if (m := style_at(text, i)))
        return [m for m in styles if text[m.end : m.end + 1] == ["of"]]
    if entry.category == "action":
        return []
    mentions = vocabulary.mentions(text)
    if entry.category != "time":
        return mentions
    main = subject(text)  # a time is not the subject of "a sunset over the ocean"
    return [m for m in mentions if not covers(main, m.start, m.end)]


def _is_replaceable_place(text: Sequence[str], mention: Mention, entry: VocabularyEntry) -> bool:
    """Whether a place gives way to another one: the subject does not, nor what it touches.

    A street can be in a city and in the snow, and "a city bus" is in no city.
    """
    main = subject(text)
    if covers(main, mention.start, mention.end) and _is_thing(mention):
        return False
    if " ".join(vocabulary.core(entry.name.split())) in grammar("cities"):
        return _is_city(mention)
    if entry.name == SNOW and not any(e.family == "nature" for e in mention.entries):
        return False
    attributive = mention.end < len(text) and not is_boundary(text, mention.end)
    return not attributive and not _leans(text, mention)


def _leans(text: Sequence[str], mention: Mention) -> bool:
    """Whether a place is what the subject touches: "leaning against a brick wall"."""
    start = joined_start(text, phrase_start(text, mention.start))
    touching = grammar("touching prepositions")
    return text[mention.start] in touching or (start is not None and text[start] in touching)


def _is_city(mention: Mention) -> bool:
    names = (" ".join(vocabulary.core(e.name.split())) for e in mention.entries)
    return any(name in grammar("cities") for name in names)


def _is_thing(mention: Mention) -> bool:
    return any(e.category == "object" for e in mention.entries)


def _qualifies(text: Sequence[str], mention: Mention) -> bool:
    """Whether a mention is used as an attribute: "a rock wall", not "a rock"."""
    if mention.end < len(text) and not is_boundary(text, mention.end):
        return True
    return mention.start > 0 and text[mention.start - 1] in ("is", "are", "was", "were", "and")


def _missing(caption: str, part: PromptPart, similarity: Similarity | None) -> str:
    """The word of the part's family with which the caption fits the image best, "" for none."""
    if similarity is None or not part.options:
        return ""
    target = part.options[0]
    family = [e for e in vocabulary.family(target) if e.name != target.name]
    family = family[: _TIMES if target.category == "time" else _CANDIDATES]
    method = METHODS[target.category]
    captions = {
        e.name: method(caption, PromptPart(e.category, e.name, e.name, (e,)), None).caption
        for e in family
    }
    captions = {name: other for name, other in captions.items() if other != caption}
    cosines = similarity([caption, *captions.values()])
    if cosines is None:
        return ""
    best, name = max(zip(cosines, ["", *captions], strict=True), key=lambda pair: pair[0])
    return name if best > cosines[0] + _MARGIN else ""
