"""The table of prompts that specifies how a prompt is understood: ``data/prompts.tsv``.

A row is a set, a kind, a source caption, a prompt, and what is expected: a regular expression of
the whole target caption; REFUSE; SAME, where the caption says it already; or a regular expression
followed by ``|| REFUSE``, where both are right. The set "first" was written before the code,
"development" while it was written, and "second" by an author who saw neither the code nor its
rules; it was not used to improve them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from zerocon.errors import NothingToChangeError, PromptError
from zerocon.prompt import rewrite_caption

TABLE = Path(__file__).parent / "data" / "prompts.tsv"
REFUSE, SAME = "REFUSE", "SAME"


@dataclass(frozen=True)
class PromptCase:
    """One row of the table."""

    set: str
    kind: str
    caption: str
    to: str
    expected: str

    @property
    def refusal_is_right(self) -> bool:
        """Whether the prompt may be refused."""
        return self.expected.endswith(REFUSE)

    @property
    def pattern(self) -> str:
        """The regular expression of the target caption, "" if there is none."""
        text = self.expected.removesuffix(REFUSE).strip().removesuffix("||").strip()
        return "" if text == SAME else text


@dataclass(frozen=True)
class Understanding:
    """What became of a row: target caption, REFUSE or SAME, with the warnings and the reason."""

    case: PromptCase
    result: str
    warnings: tuple[str, ...] = ()
    reason: str = ""

    @property
    def right(self) -> bool:
        """Whether it is as expected."""
        if self.result == REFUSE:
            return self.case.refusal_is_right
        if self.result == SAME:
            return self.case.expected == SAME
        pattern = self.case.pattern
        return bool(pattern and re.fullmatch(pattern, self.result, re.IGNORECASE))


def read() -> list[PromptCase]:
    """All rows, in order."""
    lines = TABLE.read_text(encoding="utf-8").splitlines()[1:]
    return [PromptCase(*line.split("\t")) for line in lines]


def understand(case: PromptCase) -> Understanding:
    """Rewrite the caption of a row."""
    try:
        rewrite = rewrite_caption(case.caption, to=case.to)
    except NothingToChangeError as error:
        return Understanding(case, SAME, reason=str(error))
    except PromptError as error:
        return Understanding(case, REFUSE, reason=str(error))
    return Understanding(case, rewrite.target_caption, rewrite.warnings)
