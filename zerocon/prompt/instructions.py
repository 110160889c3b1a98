"""From a prompt in everyday words to steps: what is put in, what it replaces, what is removed.

``RULES`` is the grammar of instructions: they are tried in order, and the first one that matches a
clause of the prompt says what the clause means. A rule is a pattern whose groups have these names:

    new     what is put in; ``old`` is what it replaces or describes, by default found by meaning
    thing   what is added, to ``owner`` if there is one
    gone    what is removed
    place   the new surroundings
    rest    words after "make X": split into ``old`` and ``new`` by ``split_predicate``
    refused nothing: such a clause is refused, for the rule's ``reason``

A clause that no rule matches is a bare phrase ("a dog on the beach"), parsed by
``zerocon.prompt.parser``. To add a rule, add a line with an example; the page "What to type" and
the tests use the example too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from zerocon.prompt.inflection import is_adjective, lemmas, participle
from zerocon.prompt.vocabulary import bare, is_function_word, lookup
from zerocon.prompt.word_files import grammar


@dataclass(frozen=True)
class Step:
    """One change that a prompt asks for.

    Attributes:
        kind: put, add, remove, place, or refuse.
        phrase: What is put in, added, removed; the reason, if refused.
        source: What ``phrase`` replaces, describes or belongs to; "" if it is to be found.
        clause: The words of the prompt, for messages.
    """

    kind: str
    phrase: str
    source: str = ""
    clause: str = ""


@dataclass(frozen=True)
class InstructionRule:
    """A form of sentence.

    Attributes:
        name: Name in the documentation.
        pattern: Regular expression of the whole clause, in lower case; ``{NAME}`` is a part below.
        example: A prompt of this form, for the caption "a cat sitting on a wooden bench".
        reason: Why a clause of this form is refused, if it is.
    """

    name: str
    pattern: str
    example: str
    reason: str = ""

    def match(self, clause: str) -> re.Match[str] | None:
        """The match of a whole clause, None if it has another form."""
        return _compile(self.pattern).fullmatch(clause)


# Parts of patterns.
PARTS = {
    "PHOTO": r"(?:the |this |that |my |whole |entire |full )*(?:image|picture|photo|photograph|pic|scene|it all)",
    "IT": r"(?:it|this|that|them|everything|everyone|him|her|all)",
    "THE": r"(?:the|his|her|its|their|my|your|this|that|these|those|one|both|all|each) ",
    "A": r"(?:an?|some|two|three|four|five|more|another|several) ",
    "TO": r"(?:in ?to|to|to be|into being|as|become|to look like|look like)",
    "WITH": r"(?:with|for|by|to|into|against)",
    "SETTING": r"(?:the |its |his |her )?(?:background|backdrop|setting|scene|scenery|location|place|surroundings?|environment|landscape behind)",
    "WHEN": r"(?:the |its )?(?:season|weather|time(?: of (?:the )?day)?|lighting|light|sky|mood|style|art ?style|look|atmosphere|medium)",
    "COLOR": r"colou?rs?",
    "MORE": r"(?:to |onto |on to |on top of |on |for |in |inside |around |over |with |upon )",
}  # fmt: skip

CHANGE = (
    r"(?:(?:turn|change|make|transform|convert|morph|alter|switch|modify|repaint|recolou?r|redraw)"
    r"|(?:paint|dye|colou?r|render|draw)(?= (?:the|his|her|its|their|it|this|that|him|them) ))"
)
SWAP = r"(?:replace|swap|swap out|exchange|substitute|trade|switch|switch out|change|change out)"
ADD = r"(?:add|put|place|insert|include|attach|stick|throw in|draw)"
REMOVE = (
    r"(?:(?:remove|delete|erase|get rid of|take away|take off|take out|eliminate|omit|edit out|"
    r"crop out|cut out|without|minus|no more|not any|no)"
    r"|(?:take|clear|drop|hide|cut|lose|wipe|strip|exclude)(?= (?:the|his|her|its|their|all|any|that|this) ))"
)

RULES = (
    # nothing to do
    InstructionRule(
        "no change",
        r"(?:nothing|none|same|the same|unchanged|original|as (?:it )?is|as before|no (?:edits?|changes?|thanks?)|"
        r"do nothing|nothing (?:at all|else|to change)|(?:keep|leave)\b.*|stay.*|don'?t|no|yes|ok|"
        r"(?:exactly |just )?(?:the )?same(?: as .*| image| picture| photo| thing)?)",
        "keep it the same",
        "it asks for no change",
    ),
    InstructionRule(
        "prohibition",
        r"(?:do not|don'?t|dont|never|avoid)\b.*",
        "don't change the bench",
        "it says what not to do; say what the edited image shows",
    ),
    InstructionRule(
        "question",
        r"(?:what|why|who|whose|where|how|which|when|is|are|does|do|did|was|were|should|am)\b.*",
        "what is this",
        "it is a question; say what the edited image shows",
    ),
    InstructionRule(
        "geometry",
        r"(?:zoom|rotate|flip|resize|enlarge|shrink|straighten|align|tilt|upscale|stretch|reverse|undo)\b.*|"
        r"(?:crop|mirror|scale|cent(?:er|re)) (?:it|this|in|out|{PHOTO}|{THE}.+)|"
        r"(?:turn|move|shift|pan|bring|push|pull)(?: {IT}| {PHOTO}| {THE}.+?)? (?:left|right|up|down|around|over|away|"
        r"closer|forwards?|backwards?|back|sideways|upside down|to the (?:left|right|top|bottom|cent(?:er|re)|side))\b.*",
        "rotate the bench",
        "an edit in place cannot move, turn, crop or scale",
    ),
    InstructionRule(
        "quality",
        r"(?:fix|improve|enhance|correct|restore|retouch|refine|repair|clean up|sharpen|denoise|beautify|"
        r"optimi[sz]e|surprise|help|edit|do|try|upgrade|adjust|tweak)\b.*|"
        r"(?:make|change|turn) (?:{IT}|{PHOTO}) (?:look )?(?:much |way |a lot |a bit |even )?"
        r"(?:better|nicer|good|great|cool|cooler|different|best|right|perfect|worse|pop|interesting|"
        r"more interesting|awesome|amazing|fun|something else)|"
        r"(?:better|nicer|cooler|different|more|less|something|anything|something (?:else|different|new)|whatever|random)|"
        r"(?:more|better|higher|best) (?:quality|resolution|details?)",
        "make it better",
        "it names nothing that can be seen",
    ),
    # contrasts
    InstructionRule(
        "instead of",
        r"(?:(?:have|use|with|show|be|make it|put|i want) )?(?P<new>.+?),? (?:instead of|rather than|in place of|in lieu of|and no(?:t| longer)|no longer) (?P<old>.+)",
        "a dog instead of a cat",
    ),
    InstructionRule(
        "instead of", r"(?:instead of|rather than|in place of) (?P<old>.+?)(?:,| have| use| show| put) (?P<new>.+)", "instead of a cat, a dog"
    ),
    InstructionRule("not X but Y", r"not (?P<old>.+?),? but (?P<new>.+)", "not a cat but a dog"),
    InstructionRule("Y, not X", r"(?P<new>.+?),? (?:and |but )?not (?P<old>.+)", "a dog, not a cat"),
    InstructionRule("X -> Y", r"(?P<old>.+?) ?(?:-+>|=+>|→|⇒|>+|becomes?|turns? into|turned into|turning into|changes? (?:in)?to|goes to|:=|=) ?(?P<new>.+)", "cat -> dog"),
    # surroundings, weather, style
    InstructionRule(
        "background",
        rf"{CHANGE} {{SETTING}} (?:{{TO}} )?(?P<place>.+)|{SWAP} {{SETTING}} {{WITH}} (?P<place2>.+)|"
        r"(?:set|put|place|move|bring|take|have|show|send) (?:{IT}|{PHOTO}|{SETTING}|{THE}\w+) (?P<place3>(?:in|on|at|to|into|onto|inside|under|near|by|over|against) (?!it\b|him\b|her\b).+)|"
        r"(?:with )?(?:an? |the )?(?P<place4>[\w' ]+?) (?:as (?:the |a )?(?:background|backdrop)|in the background)|"
        r"(?:the )?(?:background|backdrop|setting|location|scene)(?::| is| should be| =| to)? (?P<place5>.+)",
        "change the background to a beach",
    ),
    InstructionRule(
        "weather, time, style",
        rf"(?:{CHANGE}|{SWAP}|set) {{WHEN}} (?:{{TO}}|{{WITH}}) (?P<new>.+)|(?:season|weather|time|lighting|sky|style): ?(?P<new2>.+)",
        "change the weather to rain",
    ),
    InstructionRule(
        "the whole image",
        rf"(?:{CHANGE}|see|show|imagine|have|create) (?:{{PHOTO}}|{{IT}})(?: (?:look|appear|seem|feel))? (?:{{TO}}|like|in|with) (?P<new>.+)|(?:{CHANGE}) (?:in ?to|to) (?P<new2>.+)",
        "turn it into a watercolor",
    ),
    # replacements
    InstructionRule(
        "color of",
        rf"(?:{CHANGE}|set) (?:{{THE}})?{{COLOR}} of (?P<old>.+?) (?:{{TO}}|with) (?P<new>.+)|"
        rf"(?:{CHANGE}|set) (?P<old2>.+?)(?:'s)? {{COLOR}} (?:{{TO}}|with) (?P<new2>.+)",
        "change the color of the bench to red",
    ),
    InstructionRule("replace", rf"{SWAP} (?P<old>.+?) {{WITH}} (?P<new>.+)", "replace the cat with a dog"),
    InstructionRule("turn into", rf"{CHANGE} (?P<old>.+?)(?: look| appear)? (?:{{TO}}|like) (?P<new>.+)", "turn the cat into a dog"),
    # additions
    InstructionRule("wear", r"(?:let|have|make|dress|give|get|put) (?P<owner>{IT}|{THE}[\w' ]+?) (?:wear(?:ing)?|in|into) (?P<thing>(?:an? |some |the )?.+)", "dress the cat in a coat"),
    InstructionRule("hold", r"(?:let|have|make|give) (?P<owner>{IT}|{THE}[\w' ]+?) (?P<holding>hold(?:ing)?|carry(?:ing)?) (?P<thing>.+)", "let the cat hold a flower"),
    InstructionRule("give", r"give (?P<thing>{A}.+?) to (?P<owner>.+)|give (?P<owner2>{IT}|{THE}[\w']+(?: \w+)?) (?P<thing2>{A}.+)|give (?P<owner3>{IT}|{THE}[\w']+) (?P<thing3>.+)", "give the cat a hat"),
    InstructionRule("add next to", rf"{ADD} (?P<next>.+?) (?:next to|beside|near|by|close to|along with|along|together with|behind|in front of|above|below|under|under it) (?:{{IT}}|(?:{{THE}}).+)", "add a dog next to the cat"),
    InstructionRule("put on", rf"{ADD} (?:{{IT}} on|on) (?P<thing>.+)|{ADD} (?P<thing2>.+?) {{MORE}}(?P<owner2>(?:{{THE}}).+|{{IT}}|{{PHOTO}})", "put a hat on the cat"),
    InstructionRule("add", rf"{ADD} (?:in |also )?(?P<thing>.+)", "add a hat"),
    # removals
    InstructionRule(
        "remove the background", rf"{REMOVE} {{SETTING}}", "remove the background",
        "a background can be replaced, not removed",
    ),
    InstructionRule(
        "remove", rf"{REMOVE} (?P<gone>.+?)(?: (?:away|off|out|please|completely|entirely|from .+|in .+|on .+))?", "remove the bench"
    ),
    # predicates
    InstructionRule("statement", r"(?:(?:i (?:want|need|wish|would like|'d like)|let|have|make) )?(?P<old>{THE}.+?) (?:(?:should|must|could|can|will|shall|would|needs to|has to|to) (?:now )?(?:be(?:come)?|turn|look|have been)(?: in(?:to)?| like)?|is|are|was|were|gets|becomes|turns)(?: now)? (?P<new>.+)", "the cat is black"),
    InstructionRule("statement", r"(?:(?:i (?:want|need|wish|would like|'d like)|let|have|make) )?(?:{IT}|he|she|they|i want)(?: (?:to|should|must|could|will))?(?: be(?:come)?|'s|'re| is| are| look like| look)(?: now)? (?P<new>.+)", "it should be a dog"),
    InstructionRule("make his X Y", rf"(?:{CHANGE}|let|have) (?P<rest>(?:his|her|its|their) .+)", "make her dress blue"),
    InstructionRule("make it", rf"(?:{CHANGE}|let|have) (?:{{IT}}|{{PHOTO}})(?: all)?(?: (?:look|appear|seem|become|be|turn|get|feel))?(?: like| into| more)? (?P<new>.+)", "make it snowy"),
    InstructionRule("make X Y", rf"(?:{CHANGE}|let|have|get) (?P<rest>.+)", "make the cat blue"),
    InstructionRule("X to Y", r"(?P<old>[\w' -]+?) (?:in)?to (?P<new>[\w' -]+)", "cat to dog"),
    # what is left of an instruction without its second half
    InstructionRule(
        "incomplete", rf"(?:{CHANGE}|{SWAP}|{ADD}|{REMOVE}|move|set|let|give|dress|get|want|i want|please)\b.*", "change the cat",
        "it does not say what the result shows",
    ),
)  # fmt: skip


@cache
def _compile(pattern: str) -> re.Pattern[str]:
    for name, part in PARTS.items():
        pattern = pattern.replace("{" + name + "}", part)
    return re.compile(pattern)


VERBS = (
    r"(?:please )?(?:turn|change|make|transform|convert|replace|swap|exchange|add|put|place|insert|give|"
    r"remove|delete|erase|get rid of|take|let|dress|paint|colou?r|set|draw|the \w+ (?:is|are|should))"
)


def split_clauses(text: str) -> list[str]:
    """Clauses of a prompt: at semicolons, commas, and "and" before another instruction."""
    text = re.sub(r", (?=(?:and |but )?(?:not|instead of|rather than) )", " ", text)
    text = re.sub(r"\b(instead of|rather than|in place of) ([^,;]+), ", r"\1 \2\0", text)
    parts = re.split(
        rf"\s*[;\n]\s*|\s*,\s*(?:and |then )*|\s+(?:and then|and|then|&|\+)\s+(?={VERBS}\b)", text
    )
    return [part.replace("\0", ", ").strip() for part in parts if part and part.strip()]


def read_clause(clause: str) -> tuple[Step, ...] | None:
    """The steps of an instruction; None for a bare phrase."""
    text = clause.lower()
    for rule in RULES:
        if not (match := rule.match(text)):
            continue
        if rule.reason:
            return (Step("refuse", rule.reason, clause=clause),)
        if steps := tuple(_steps(rule, match, clause)):
            return steps
    return None


def _steps(rule: InstructionRule, match: re.Match[str], clause: str) -> Iterator[Step]:
    """What a match of a rule means; nothing if its words do not fit after all."""
    groups = {name.rstrip("2345"): text for name, text in match.groupdict().items() if text}
    if rule.name == "X to Y" and not all(_is_listed(groups[end]) for end in ("old", "new")):
        return
    if "rest" in groups:
        halves = split_predicate(groups["rest"], owned=rule.name == "make his X Y")
        if not halves:
            return
        groups = {"old": halves[0], "new": halves[1]}
    if "gone" in groups:
        for gone in re.split(r"\s*,\s*|\s+(?:and|or|&)\s+", groups["gone"]):
            yield Step("remove", gone, clause=clause)
    elif "place" in groups:
        yield Step("place", groups["place"], clause=clause)
    elif "next" in groups:
        yield Step("add", f"next to {groups['next']}", clause=clause)
    elif "thing" in groups:
        owner = "" if _is_pronoun(groups.get("owner", "")) else groups.get("owner", "")
        lead = {"wear": "wearing ", "hold": "holding "}.get(rule.name, "")
        yield Step("add", lead + groups["thing"], owner, clause)
    else:
        yield from _replacements(groups.get("old", ""), groups["new"], match, clause)


def _replacements(old: str, new: str, match: re.Match[str], clause: str) -> Iterator[Step]:
    """A replacement, and those that follow in the same sentence.

    "replace the woman with a man and the bench with a chair" says the verb once.
    """
    link = re.compile(r"(.+?) and (.+?) (with|for|by|into|to) (.+)").fullmatch(new)
    if link and old and re.search(rf" {link[3]} ", match.group()[: match.start("new")] + " "):
        yield Step("put", _predicate(link[1]), _noun(old), clause)
        yield from _replacements(link[2], link[4], match, clause)
        return
    yield Step("put", _predicate(new), _noun(old), clause)


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
    if any(e.category == "time" for e in lookup([participle(first)])):
        return participle(first)  # "make it snow"
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


def with_clause(step: Step, clause: str) -> Step:
    """The same step with other words of the prompt."""
    return replace(step, clause=clause)
