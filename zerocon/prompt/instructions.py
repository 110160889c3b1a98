"""From a prompt in everyday words to instructions: what is put in, replaced, added or removed.

``RULES`` is the grammar of instructions: they are tried in order, and the first one that matches a
clause of the prompt says what the clause means. The groups of a form have these names:

    new     what is put in; ``old`` is what it replaces or describes, by default found by meaning
    thing   what is added, to ``owner`` if there is one; ``wearing`` and ``holding`` say how
    next    what is added next to the subject
    gone    what is removed
    place   the new surroundings
    rest    the words after "make": split into ``old`` and ``new`` by ``split_predicate``

A clause that no rule matches is a bare phrase ("a dog on the beach"), parsed by
``zerocon.prompt.parser``. To add a rule, add an entry with an example, which the tests use.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from zerocon.prompt.inflection import is_adjective, lemmas, participle
from zerocon.prompt.vocabulary import bare, is_function_word, lookup, words
from zerocon.prompt.word_files import grammar


@dataclass(frozen=True)
class Instruction:
    """One change that a prompt asks for.

    Attributes:
        kind: put, add, fill, remove, place, or refuse.
        phrase: What is put in, added, removed; the reason, if refused.
        source: What ``phrase`` replaces, describes or belongs to; "" if it is to be found.
        clause: The words of the prompt, for messages.
        onto: Of a thing that is added, where: "on the bed", "filled with".
    """

    kind: str
    phrase: str
    source: str = ""
    clause: str = ""
    onto: str = ""


@dataclass(frozen=True)
class InstructionRule:
    """A form of sentence.

    Attributes:
        name: Name in the documentation.
        example: A prompt of this form, for the caption "a cat sitting on a wooden bench".
        forms: Regular expressions of whole clauses in lower case; ``{NAME}`` is one of ``PARTS``.
        reason: Why a clause of this form is refused, if it is.
    """

    name: str
    example: str
    forms: tuple[str, ...]
    reason: str = ""

    def match(self, clause: str) -> re.Match[str] | None:
        """The match of a whole clause, None if it has another form."""
        matches = (_compile(form).fullmatch(clause) for form in self.forms)
        return next((match for match in matches if match), None)


# Parts of the forms below, by the name in braces.
PARTS = {
    "IT": r"(?:it|this|that|them|everything|everyone|him|her|all)",
    "PHOTO": (
        r"(?:the |this |that |my |whole |entire |full )*"
        r"(?:image|picture|photo|photograph|pic|scene|it all)"
    ),
    "THE": r"(?:the|his|her|its|their|my|your|this|that|these|those|one|both|all|each) ",
    "A": r"(?:an?|some|two|three|four|five|more|another|several) ",
    "INTO": r"(?:in ?to|to|to be|into being|as|become|to look like|look like)",
    "FOR": r"(?:with|for|by|to|into|against)",
    "ONTO": r"(?:to|onto|on to|on top of|on|for|in|inside|around|over|with|upon)",
    "BESIDE": (r"(?:next to|beside|near|by|close to|along with|along|together with)"),
    "SETTING": (
        r"(?:the |its |his |her )?(?:background|bg|backdrop|setting|scene|scenery|location|place|"
        r"surroundings?|environment)"
    ),
    "WHEN": (
        r"(?:the |its )?(?:season|weather|time(?: of (?:the )?day)?|lighting|light|sky|mood|style|"
        r"art ?style|look|atmosphere|medium)"
    ),
    "BE": r"(?:be|become|turn|look|turn into|look like)",
    "SHALL": r"(?:should|must|could|can|will|shall|would|needs to|has to|to)",
    "CHANGE": (
        r"(?:(?:turn|change|make|transform|convert|morph|alter|switch|modify|repaint|recolou?r|"
        r"redraw)|(?:paint|dye|colou?r|render|draw)"
        r"(?= (?:the|his|her|its|their|it|this|that|him|them) ))"
    ),
    "SWAP": (
        r"(?:replace|swap|swap out|exchange|substitute|trade|switch|switch out|change|change out)"
    ),
    "ADD": r"(?:add|put|place|insert|include|attach|stick|throw in|draw)",
    "REMOVE": (
        r"(?:(?:remove|delete|erase|get rid of|take away|take off|take out|eliminate|omit|"
        r"edit out|crop out|cut out|without|w/o|minus|no more|not any|no)"
        r"|(?:take|clear|drop|hide|cut|lose|wipe|strip|exclude)"
        r"(?= (?:the|his|her|its|their|all|any|that|this) ))"
    ),
    "MOVE": r"(?:set|put|place|move|bring|take|have|show|send)",
    "WANT": r"(?:(?:i (?:want|need|wish|would like)|i'd like|let|have|make) )?",
}

RULES = (
    # Refused
    InstructionRule(
        "no change",
        "keep it the same",
        (
            r"(?:nothing|none|same|the same|unchanged|original|ok|yes|no|don'?t)",
            r"(?:as (?:it )?is|as before|no (?:edits?|changes?|thanks?)|do nothing)",
            r"nothing (?:at all|else|to change)|(?:keep|leave|stay)\b.*",
            r"(?:exactly |just )?(?:the )?same(?: as .*| image| picture| photo| thing)?",
        ),
        "it asks for no change",
    ),
    InstructionRule(
        "prohibition",
        "don't change the bench",
        (r"(?:do not|don'?t|dont|never|avoid)\b.*",),
        "it says what not to do; say what the edited image shows",
    ),
    InstructionRule(
        "question",
        "what is this",
        (r"(?:what|why|who|whose|where|how|which|when|is|are|does|do|did|was|were|am)\b.*",),
        "it is a question; say what the edited image shows",
    ),
    InstructionRule(
        "geometry",
        "rotate the bench",
        (
            r"(?:zoom|rotate|flip|resize|enlarge|shrink|straighten|align|tilt|upscale|stretch|"
            r"reverse|undo)\b.*",
            r"(?:crop|mirror|scale|cent(?:er|re)) (?:it|this|in|out|{PHOTO}|{THE}.+)",
            r"(?:turn|move|shift|pan|bring|push|pull)(?: {IT}| {PHOTO}| {THE}.+?)? "
            r"(?:left|right|up|down|around|over|away|closer|forwards?|backwards?|back|sideways|"
            r"upside down|to the (?:left|right|top|bottom|cent(?:er|re)|side))\b.*",
        ),
        "an edit in place cannot move, turn, crop or scale",
    ),
    InstructionRule(
        "quality",
        "make it better",
        (
            r"(?:fix|improve|enhance|correct|restore|retouch|refine|repair|clean up|sharpen|"
            r"denoise|beautify|optimi[sz]e|surprise|help|edit|do|try|upgrade|adjust|tweak)\b.*",
            r"(?:make|change|turn) (?:{IT}|{PHOTO}) (?:look )?(?:much |way |a lot |a bit |even )?"
            r"(?:better|nicer|good|great|cool|cooler|different|best|right|perfect|worse|pop|"
            r"interesting|more interesting|awesome|amazing|fun|something else)",
            r"(?:better|nicer|cooler|different|more|less|something|anything|whatever|random)",
            r"something (?:else|different|new)",
            r"(?:more|better|higher|best) (?:quality|resolution|details?)",
        ),
        "it names nothing that can be seen",
    ),
    # One thing in place of another
    InstructionRule(
        "Y instead of X",
        "a dog instead of a cat",
        (
            r"(?:(?:have|use|with|show|be|make it|put) )?(?P<new>.+?),? (?:instead of|rather than|"
            r"in place of|in lieu of|and no(?:t| longer)|no longer) (?P<old>.+)",
            r"(?:instead of|rather than|in place of) (?P<old>.+?)"
            r"(?:,| have| use| show| put) (?P<new>.+)",
            r"(?:instead of|rather than|in place of) (?P<old>(?:{THE})?[\w'-]+) (?P<new>{A}.+)",
            r"(?P<new>.+) instead",
        ),
    ),
    InstructionRule("not X but Y", "not a cat but a dog", (r"not (?P<old>.+?),? but (?P<new>.+)",)),
    InstructionRule(
        "Y, not X", "a dog, not a cat", (r"(?P<new>.+?),? (?:and |but )?not (?P<old>.+)",)
    ),
    InstructionRule(
        "X -> Y",
        "cat -> dog",
        (
            r"(?P<old>\S.*?) ?(?:-+>|=+>|→|⇒|>+|:=|=) ?(?P<new>\S.*)",
            r"(?P<old>.+?) (?:becomes?|turns? into|turned into|turning into|changes? (?:in)?to) "
            r"(?P<new>.+)",
        ),
    ),
    # Surroundings, weather, style
    InstructionRule(
        "background",
        "change the background to a beach",
        (
            r"{CHANGE} {SETTING} colou?rs? (?:{INTO}|with) (?P<place>.+)",
            r"{CHANGE} {SETTING} (?:{INTO} )?(?P<place>.+)",
            r"{SWAP} {SETTING} {FOR} (?P<place>.+)",
            r"{MOVE} (?:{IT}|{PHOTO}|{SETTING}|{THE}\w+) (?P<place>(?:in|on|at|to|into|onto|"
            r"inside|under|near|by|over|against) (?!it\b|him\b|her\b).+)",
            r"(?:with )?(?:an? |the )?(?P<place>[\w' ]+?) as (?:the |a )?(?:background|backdrop)",
            r"{SETTING}(?::| is| should be| =| to) (?P<place>.+)",
        ),
    ),
    InstructionRule(
        "weather, time or style",
        "change the weather to rain",
        (
            r"(?:{CHANGE}|{SWAP}|set) {WHEN} (?:(?:{INTO}|{FOR}) )?(?P<new>.+)",
            r"{WHEN}: ?(?P<new>.+)",
        ),
    ),
    InstructionRule(
        "the whole image",
        "turn it into a watercolor",
        (
            r"(?:{CHANGE}|see|show|imagine|have|create) (?:{PHOTO}|{IT})"
            r"(?: (?:look|appear|seem|feel))? (?:{INTO}|like|in|with) (?P<new>.+)",
            r"{CHANGE} (?:in ?to|to) (?P<new>.+)",
        ),
    ),
    # Replacements
    InstructionRule(
        "color of X",
        "change the color of the bench to red",
        (
            r"(?:{CHANGE}|set) (?:{THE})?colou?rs? of (?P<old>.+?) (?:{INTO}|with) (?P<new>.+)",
            r"(?:{CHANGE}|set) (?P<old>.+?)(?:'s)? colou?rs? (?:{INTO}|with) (?P<new>.+)",
        ),
    ),
    InstructionRule(
        "X made of Y",
        "make the bench out of gold",
        (
            r"(?:{CHANGE} )?(?P<old>{THE}.+?)(?: (?:is|are|should be))? "
            r"(?:made of|made out of|made from|out of) (?P<made>[\w' ]+)",
        ),
    ),
    InstructionRule(
        "X in a color",
        "the bench in dark blue",
        (r"(?P<old>{THE}[\w' -]+?) in (?P<property>[\w' -]+)",),
    ),
    InstructionRule(
        "fill X with Y",
        "cover the bench with flowers",
        (r"(?P<filled>fill|cover|decorate) (?P<owner>{IT}|(?:{THE})?.+?) with (?P<thing>.+)",),
    ),
    InstructionRule(
        "replace X with Y",
        "replace the cat with a dog",
        (r"{SWAP} (?P<old>.+?) {FOR} (?P<new>.+)",),
    ),
    InstructionRule(
        "turn X into Y",
        "turn the cat into a dog",
        (r"{CHANGE} (?P<old>.+?)(?: look| appear)? (?:{INTO}|like) (?P<new>.+)",),
    ),
    # Additions
    InstructionRule(
        "dress X in Y",
        "dress the cat in a coat",
        (
            r"(?:let|have|make|dress|give|get|put|i want|i'd like) (?P<owner>{IT}|{THE}[\w' ]+?) "
            r"(?:to )?(?P<wearing>wear(?:ing)?|in|into) (?P<thing>(?:an? |some |the )?.+)",
        ),
    ),
    InstructionRule(
        "let X hold Y",
        "let the cat hold a flower",
        (
            r"(?:let|have|make|give) (?P<owner>{IT}|{THE}[\w' ]+?) "
            r"(?P<holding>hold(?:ing)?|carry(?:ing)?) (?P<thing>.+)",
        ),
    ),
    InstructionRule(
        "give X Y",
        "give the cat a hat",
        (
            r"give (?P<thing>{A}.+?) to (?P<owner>.+)",
            r"give (?P<owner>{IT}|{THE}[\w']+(?: \w+)?) (?P<thing>{A}.+)",
            r"give (?P<owner>{IT}|{THE}[\w']+) (?P<thing>.+)",
        ),
    ),
    InstructionRule(
        "add Y next to X",
        "add a dog next to the cat",
        (
            r"{ADD} (?P<next>.+?) {BESIDE} (?:{IT}|(?:{THE}).+)",
            r"{ADD} (?P<thing>.+ (?:behind|in front of|above|below|under) (?:{IT}|(?:{THE}).+))",
        ),
    ),
    InstructionRule(
        "X has Y",
        "the cat has a hat",
        (
            r"(?P<owner>{THE}[\w' -]+?|it|he|she|they|{IT}) (?:has|have|wears?) (?P<thing>.+)",
            r"(?P<owner>{THE}[\w' -]+?|it|he|she|they|{IT}) (?:is |are )?"
            r"(?P<wearing>wearing) (?P<thing>.+)",
            r"(?P<owner>{THE}[\w' -]+?|it|he|she|they|{IT}) (?:is |are )?"
            r"(?P<holding>holding|holds?|carrying|carries) (?P<thing>.+)",
        ),
    ),
    InstructionRule(
        "put Y on X",
        "put a hat on the cat",
        (
            r"{ADD} (?:{IT} on|on) (?P<thing>.+)",
            r"{ADD} (?P<thing>.+?) (?P<onto>{ONTO}) (?P<owner>(?:{THE}).+|{IT}|{PHOTO})",
        ),
    ),
    InstructionRule(
        "add Y",
        "add a hat",
        (
            r"{ADD} (?:in |also )?(?P<thing>.+)",
            r"(?:i|we) (?:want|need|would like) (?P<thing>{A}.+)",
            r"i'd like (?P<thing>{A}.+)",
            r"(?:have|need|show|give) (?P<thing>{A}.+)",
            r"there (?:is|are|should be|must be) (?P<thing>.+?)(?: too| as well| also)?",
            r"(?:also|plus|and also|as well as) (?P<thing>{A}.+)",
            r"(?P<thing>{A}.+) (?:too|as well|also)",
        ),
    ),
    # Removals
    InstructionRule(
        "remove the background",
        "remove the background",
        (r"{REMOVE} {SETTING}",),
        "a background can be replaced, not removed",
    ),
    InstructionRule(
        "remove X",
        "remove the bench",
        (
            r"i (?:do not|don'?t) (?:want|need|like) (?P<gone>.+)",
            r"{REMOVE} (?P<gone>.+?)"
            r"(?: (?:away|off|out|please|completely|entirely|from .+|in .+|on .+))?",
        ),
    ),
    # Statements
    InstructionRule(
        "X is Y",
        "the cat is black",
        (
            r"{WANT}(?P<old>(?!an? |it |he |she |they |there |i )[\w' -]+?) {SHALL} (?:now )?{BE}"
            r"(?: in(?:to)?| like)? (?P<new>.+)",
            r"(?:let|make|have) (?P<old>{THE}.+?) be(?:come)? (?P<new>.+)",
            r"{SHALL} (?:now )?be (?P<new>.+)",
            r"(?P<old>{THE}.+?) (?:is|are|was|were|gets|becomes|turns)(?: now)? (?P<new>.+)",
            r"{WANT}(?:{IT}|he|she|they)(?: {SHALL})? {BE} (?P<new>.+)",
            r"(?:(?P<old>{THE}[\w' -]+?)|it|he|she|they) (?:looks?|seems?|appears?|feels?)"
            r"(?: like)? (?P<new>.+)",
            r"(?:it|he|she|they|this)(?:'s|'re| is| are)(?: now)? (?P<new>.+)",
        ),
    ),
    InstructionRule(
        "make his X Y",
        "make his bench blue",
        (r"(?:{CHANGE}|let|have) (?P<rest>(?:his|her|its|their) .+)",),
    ),
    InstructionRule(
        "make it Y",
        "make it snowy",
        (
            r"(?:{CHANGE}|let|have) (?:{IT}|{PHOTO})(?: all)?"
            r"(?: (?:look|appear|seem|become|be|turn|get|feel))?(?: like| into| more)? (?P<new>.+)",
        ),
    ),
    InstructionRule("make X Y", "make the cat blue", (r"(?:{CHANGE}|let|have|get) (?P<rest>.+)",)),
    InstructionRule(
        "X to Y", "cat to dog", (r"(?:from )?(?P<old>[\w' -]+?) (?:in)?to (?P<new>[\w' -]+)",)
    ),
    # What is left: an instruction without its second half
    InstructionRule(
        "incomplete",
        "change the cat",
        (r"(?:{CHANGE}|{SWAP}|{ADD}|{REMOVE}|move|set|let|give|dress|get|want|i want|please)\b.*",),
        "it does not say what the result shows",
    ),
)


@cache
def _compile(form: str) -> re.Pattern[str]:
    for name, part in PARTS.items():
        form = form.replace("{" + name + "}", part)
    return re.compile(form)


# Words that start another instruction after "and".
VERBS = (
    r"(?:please )?(?:turn|change|make|transform|convert|replace|swap|exchange|add|put|place|insert|"
    r"give|remove|delete|erase|get rid of|take|let|dress|paint|colou?r|set|draw|"
    r"the \w+ (?:is|are|should))"
)


def split_clauses(text: str) -> list[str]:
    """Clauses of a prompt: at semicolons, commas, and "and" before another instruction."""
    text = re.sub(r"(?i)^not ([^,;]+), (?!but )", r"not \1 but ", text)
    text = re.sub(r"(?i), (?=(?:and |but )?(?:not|instead of|rather than) )", " ", text)
    text = re.sub(r"(?i)^(instead of|rather than|in place of) ([^,;]+), ", r"\1 \2\0", text)
    ends = r"\s*[;\n]\s*|\s*,\s*(?:and |then )*"
    links = rf"\s+(?:and then|and|then|&|\+)\s+(?={VERBS}\b)"
    parts = re.split(f"{ends}|{links}", text, flags=re.IGNORECASE)
    return [part.replace("\0", ", ").strip() for part in parts if part and part.strip()]


def read_clause(clause: str) -> tuple[Instruction, ...] | None:
    """The instructions of a clause; None for a bare phrase."""
    return next((instructions for _, instructions in matches(clause)), None)


def matches(clause: str) -> Iterator[tuple[InstructionRule, tuple[Instruction, ...]]]:
    """The rules that a clause fits, in order, each with what it means by them."""
    text = clause.lower()
    if lookup(bare(words(text))):  # "stretch limousine", "clear sky"
        return
    for rule in RULES:
        if not (match := rule.match(text)):
            continue
        if rule.reason:
            yield rule, (Instruction("refuse", rule.reason, clause=clause),)
        elif instructions := tuple(_instructions(rule, match, clause)):
            yield rule, instructions


def _instructions(
    rule: InstructionRule, match: re.Match[str], clause: str
) -> Iterator[Instruction]:
    """What a match of a rule means; nothing if its words do not fit after all."""
    if not (groups := _fitting_groups(rule, match)):
        return
    if gone := groups.get("gone"):
        for each in re.split(r"\s*,\s*|\s+(?:and|or|&)\s+", gone):
            yield Instruction("remove", each, clause=clause)
    elif place := groups.get("place"):
        yield Instruction("place", place, clause=clause)
    elif neighbor := groups.get("next"):
        yield Instruction("add", f"next to {neighbor}", clause=clause)
    elif "thing" in groups:
        yield _addition(groups, clause)
    else:
        yield from _replacements(groups.get("old", ""), groups["new"], match, clause)


def _fitting_groups(rule: InstructionRule, match: re.Match[str]) -> dict[str, str]:
    """The groups of a match, with ``old`` and ``new`` where others give them; empty if unfit."""
    groups = {name: text for name, text in match.groupdict().items() if text}
    if rule.name == "X to Y" and not all(_is_listed(groups[end]) for end in ("old", "new")):
        return {}
    if material := groups.get("made"):
        groups["new"] = f"made of {material}"
    if value := groups.get("property"):
        return groups | {"new": value} if _is_property(bare(words(value))) else {}
    if rest := groups.get("rest"):
        halves = split_predicate(rest, owned=rule.name == "make his X Y")
        return {"old": halves[0], "new": halves[1]} if halves else {}
    if rule.name in ("Y instead of X", "Y, not X"):  # "the bench should be red, not blue"
        inner = re.sub(
            r"^(?:give|use|put|have|show) (?:it |him |her |them |the \w+ )?", "", groups["new"]
        )
        groups["new"] = re.sub(r"^(?:the )?\w+ (?:should be|is|are) ", "", inner)
    return groups


def _addition(groups: dict[str, str], clause: str) -> Instruction:
    """The instruction to add, or to fill with, a thing."""
    whom, where = groups.get("owner", ""), groups.get("onto", "")
    owner = "" if _is_pronoun(whom) else whom
    if verb := groups.get("filled"):
        past = {"fill": "filled with", "cover": "covered with"}.get(verb, "decorated with")
        return Instruction("fill", groups["thing"], owner, clause, past)
    lead = next((f"{each} " for each in ("wearing", "holding") if each in groups), "")
    kept = where and (owner or where in ("around", "over", "above", "behind"))
    onto = f"{where} {whom}" if kept else ""
    return Instruction("add", lead + groups["thing"], owner, clause, onto)


def _replacements(old: str, new: str, match: re.Match[str], clause: str) -> Iterator[Instruction]:
    """A replacement, and those that follow in the same sentence.

    "replace the woman with a man and the bench with a chair" says the verb once.
    """
    link = re.compile(r"(.+?) and (.+?) (with|for|by|into|to) (.+)").fullmatch(new)
    if link and old and re.search(rf" {link[3]} ", match.group()[: match.start("new")] + " "):
        yield Instruction("put", _predicate(link[1]), _noun(old), clause)
        yield from _replacements(link[2], link[4], match, clause)
        return
    if not _noun(old) and new in grammar("falling"):
        new = participle(new)  # "make it snow"
    yield Instruction("put", _predicate(new), _noun(old), clause)


def _is_listed(text: str) -> bool:
    return bool(lookup(bare(text.split())))


def _noun(text: str) -> str:
    """What is replaced, "" for a pronoun."""
    return "" if _is_pronoun(text) else text


def _is_pronoun(text: str) -> bool:
    return not text or re.fullmatch(f"{PARTS['IT']}|{PARTS['PHOTO']}", text) is not None


def _predicate(text: str) -> str:
    """What something becomes, as a phrase: "smile" -> "smiling", "to be red" -> "red"."""
    text = re.sub(r"^(?:to )?(?:be|become|look|appear|seem|being|turn)(?: like)? ", "", text)
    first, _, rest = text.partition(" ")
    if lookup(text.split()) or lookup(bare(text.split())) or is_function_word(first):
        return text
    if _is_verb(first) and not lookup([first]):
        return f"{participle(first)} {rest}".strip()
    return text


def _is_verb(word: str) -> bool:
    return "VERB" in lemmas(word) and word in lemmas(word)["VERB"] and not is_adjective(word)


def split_predicate(text: str, *, owned: bool = False) -> tuple[str, str] | None:
    """What changes and what it becomes, of "make X Y": "the cat blue" -> "the cat", "blue".

    The first half is the shortest that leaves a property, an action or a noun with an article; if
    it is ``owned`` ("her dress"), it must be a noun of the lists.
    """
    tokens = text.split()
    for i in range(len(tokens) - 1, 0, -1):
        if tokens[i] in ("a", "an") and not owned:
            return " ".join(tokens[:i]), " ".join(tokens[i:])
    start = 1 if tokens[0] in grammar("determiners") else 0
    for i in range(start + 1, len(tokens)):
        rest = tokens[i:]
        if owned and not any(_is_thing(tokens[j:i]) for j in range(start, i)):
            continue
        if _is_property(rest) and not _is_property(tokens[start:i]):
            return " ".join(tokens[:i]), _predicate(" ".join(rest))
    for i in range(start + 1, len(tokens)):
        if _is_thing(tokens[start:i]) and _is_thing(tokens[i:]):  # "the beer orange juice"
            return " ".join(tokens[:i]), " ".join(tokens[i:])
    return None


def _is_thing(tokens: list[str]) -> bool:
    return any(e.category in ("object", "added") for e in lookup(tokens))


def _is_property(tokens: list[str]) -> bool:
    """Whether words are a property or an action by themselves: "dark green", "older", "smile"."""
    listed = {e.category for e in lookup(tokens)}
    if listed & {"attribute", "action", "style", "time"}:
        return True
    if listed:
        return False
    if all(word in grammar("attribute words") or _is_simple_property(word) for word in tokens):
        return True
    first = tokens[0]
    return (_is_verb(first) or first.endswith(("ing", "ed"))) and not lookup([first])


def _is_simple_property(word: str) -> bool:
    listed = {e.category for e in lookup([word])}
    return "attribute" in listed or (not listed and is_adjective(word))
