"""The page "What to type" (docs/prompts.md), from the rules and the tested cases.

``python tests/prompt_page.py`` writes it; test_prompt_page.py compares it. ``--image`` also makes
its image, by editing ``examples/fox.png`` with the embedded model.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from prompt_cases import REFUSE, Understanding, read, understand

import zerocon
from zerocon.errors import UnclearPromptError
from zerocon.image.contact_sheet import sheet
from zerocon.prompt import cleaning, instructions, parser, rewrite_caption

PAGE = Path(__file__).parent.parent / "docs" / "prompts.md"
BENCH = "a cat sitting on a wooden bench"
EXAMPLES = 3  # rows of each kind
SHOWN = (
    "turn the fox into a bear", "can you make it blue?", "put a crown on it",
    "change the background to a beach", "night instead of day", "make it look like a mosaic",
    "owl, in the snow",
)  # fmt: skip
KINDS = (
    "thing", "color", "material", "added", "place", "time", "weather", "style", "instruction",
    "add", "remove", "contrast", "list", "named noun", "number", "property", "action", "view",
    "BLIP caption",
)  # fmt: skip

INTRODUCTION = """\
# What to type

`--to` takes a few words that the edited image shows ("dog", "at night", "a red hat"), or a
sentence that says what to do ("turn the cat into a dog"). zerocon reads them against the source
caption and writes the target caption, in which only that changes. `--dry-run` prints both captions
without editing; `zerocon caption` prints the source caption, and `--caption` replaces it.

    zerocon edit examples/fox.png --to "turn the fox into a bear" --model mini --dry-run

![Prompts for one image, and what the embedded model makes of them](prompts.jpg)

- A noun that is in the caption is what changes: "a blue roof" for "a house with a red roof". Only
  if there is none, words of the same kind are replaced ("dog" for "cat"), then the subject.
- What fits nothing in the caption is added, with a warning where that is a guess.
- Several changes are separated by commas, semicolons or "and".
- `--from` says what is replaced, `--to-caption` gives the whole target caption; both take any
  words.
- Only English is understood. A prompt that would not give an English sentence is refused before
  any time is spent, with prompts that work; `--ask` offers them on a terminal.

All tables are for the source caption "{caption}" unless they show another one. They are made by
the code, from the rules that it uses and from the cases that its tests use.
"""


def page() -> str:
    """The text of the page."""
    return "\n".join([*_lines(), ""])


def _lines() -> Iterator[str]:
    yield INTRODUCTION.format(caption=BENCH)
    yield from _table("Phrases", "Form", ((r.name, r.example) for r in parser.RULES))
    accepted = [(r.name, r.example) for r in instructions.RULES if not r.reason]
    yield from _table("Instructions", "Form", accepted)
    yield "## What is removed from a prompt\n"
    yield "| Part | Example | Read as |\n|---|---|---|"
    for rule in (*cleaning.PROMPT_RULES, cleaning.POLITE):
        yield f"| {rule.name} | {_code(rule.example)} | {cleaning.clean_prompt(rule.example)[0]} |"
    yield "\n## What is refused\n"
    yield "| Prompt | Reason |\n|---|---|"
    refused = [r.example for r in instructions.RULES if r.reason]
    for to in (*refused, "Hund", "asdf", "not a cat", "turn the elephant into a dog"):
        yield f"| {_code(to)} | {_reason(to)} |"
    yield "\n## Captions and prompts\n"
    yield "| Kind | Source caption | Prompt | Target caption |\n|---|---|---|---|"
    for each in _examples():
        yield f"| {each.case.kind} | {each.case.caption} | {_code(each.case.to)} | {each.result} |"


def _table(title: str, head: str, examples: Iterator[tuple[str, str]] | list) -> Iterator[str]:
    yield f"## {title}\n"
    yield f"| {head} | Prompt | Target caption |\n|---|---|---|"
    for name, to in examples:
        yield f"| {name} | {_code(to)} | {_target(to)} |"
    yield ""


def _target(to: str) -> str:
    caption = "a cat wearing a hat" if to == "without a hat" else BENCH
    try:
        return rewrite_caption(caption, to=to).target_caption
    except UnclearPromptError as error:
        return f"refused: {_short(error)}"


def _reason(to: str) -> str:
    try:
        return f"not refused: {rewrite_caption(BENCH, to=to).target_caption}"
    except UnclearPromptError as error:
        return _short(error)


def _short(error: UnclearPromptError) -> str:
    return str(error).partition(" (caption: ")[0].partition(" is not understood: ")[2]


def _examples() -> Iterator[Understanding]:
    """The first rows of each kind that are right, with different captions."""
    results = [understand(case) for case in read() if case.set in ("first", "development")]
    for kind in KINDS:
        captions: set[str] = {BENCH}
        for each in results:
            case = each.case
            usable = case.kind == kind and each.right and each.result != REFUSE
            if usable and case.caption not in captions and len(captions) <= EXAMPLES:
                captions.add(case.caption)
                yield each


def _code(text: str) -> str:
    mark = "``" if "`" in text else "`"
    return f"{mark}{text.replace('|', chr(92) + '|')}{mark}"


def image() -> Image.Image:
    """The example image, and its edits for prompts in everyday words."""
    source = Image.open(PAGE.parent.parent / "examples" / "fox.png").convert("RGB")
    model = zerocon.load("mini", device="cpu")
    edits = [zerocon.edit(source, to=prompt, model=model) for prompt in SHOWN]
    captions = [
        f'"{to}" -> {edit.request.target_caption}' for to, edit in zip(SHOWN, edits, strict=True)
    ]
    sides = [
        each.resize((256, 256), Image.Resampling.LANCZOS)
        for each in (source, *(e.image for e in edits))
    ]
    return sheet(sides, [edits[0].request.caption, *captions], 4, gap=8)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    if "--image" in sys.argv:
        image().save(PAGE.with_suffix(".jpg"), quality=90)
