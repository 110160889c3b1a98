"""Faults, their injections and the table of counts: nothing is asserted here, all is counted."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from stress.sandbox import SandboxFactory
from zerocon.errors import FileFormatError, ZeroconError
from zerocon.storage.atomic import writing

FORMAT = "zerocon.stress.injection/1"
KILL = "kill -9"

Violations = list[str]  # what did not hold after an injection, in lines
Inject = Callable[[SandboxFactory, random.Random], Iterator[Violations]]


class NotPossibleError(ZeroconError):
    """A fault cannot be injected on this machine, for instance without the right to mount."""


@dataclass(frozen=True)
class Fault:
    """What is injected, how many ``times``, and the ``expectation`` that must hold after each.

    ``inject`` yields once per injection; some faults come in sets, such as nine damaged results.
    """

    inject: Inject
    times: int
    expectation: str


@dataclass(frozen=True)
class Injection:
    """One injection and what did not hold after it; or why it was ``not_possible``."""

    fault: str
    violations: tuple[str, ...] = ()
    not_possible: str = ""


def inject(
    name: str, fault: Fault, sandboxes: SandboxFactory, times: int, before: int = 0
) -> Iterator[Injection]:
    """Inject a fault until it was injected ``times``, of which ``before`` by earlier runs.

    A set that has begun is completed, so there may be more. The random generator is seeded with
    the name and ``before``: a resumed run does not repeat the earlier moments.
    """
    rng = random.Random(f"{name} {before}")
    try:
        while before < times:
            for violations in fault.inject(sandboxes, rng):
                yield Injection(name, tuple(violations))
                before += 1
    except NotPossibleError as error:
        yield Injection(name, not_possible=str(error))


def inject_missing(
    name: str,
    fault: Fault,
    injections: Iterable[Injection],
    sandboxes: SandboxFactory,
    kills: int | None = None,
) -> Iterator[Injection]:
    """Inject what ``injections`` lack of one fault; ``kills`` replaces the number of ``KILL``."""
    before = Counter(each.fault for each in injections if not each.not_possible)
    times = kills if kills is not None and name == KILL else fault.times
    yield from inject(name, fault, sandboxes, times, before[name])


def read(path: Path) -> list[Injection]:
    """The injections in a results file, none if it does not exist; ignores a truncated last line.

    Raises:
        FileFormatError: A line is not an injection.
    """
    injections = []
    for line in path.read_text().splitlines(keepends=True) if path.exists() else []:
        try:
            values = json.loads(line)
            if values.pop("format") != FORMAT:
                raise ValueError
            violations = tuple(values["violations"])
            injections.append(Injection(values["fault"], violations, values["not_possible"]))
        except (ValueError, LookupError, AttributeError):
            if line.endswith("\n"):
                raise FileFormatError(f"{path} is not a results file of pytest -m stress") from None
    return injections


def save(path: Path, injections: Iterable[Injection]) -> None:
    """Write all injections, one JSON object per line, in place of the file's content."""
    lines = [json.dumps({"format": FORMAT, **asdict(each)}) for each in injections]
    with writing(path, overwrite=True) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines))


@dataclass(frozen=True)
class FaultCount:
    """A row of the table: how often a fault was injected and how often the expectation held."""

    fault: str
    injected: int
    expectation: str
    held: int
    not_possible: str = ""


def count(faults: Mapping[str, Fault], injections: Iterable[Injection]) -> list[FaultCount]:
    """One row for every fault that was tried, in the order of ``faults``."""
    rows, injections = [], list(injections)
    for name, fault in faults.items():
        tried = [each for each in injections if each.fault == name]
        injected = [each for each in tried if not each.not_possible]
        held = sum(not each.violations for each in injected)
        reason = "" if injected or not tried else tried[-1].not_possible
        if tried:
            rows.append(FaultCount(name, len(injected), fault.expectation, held, reason))
    return rows


def as_markdown(rows: Iterable[FaultCount]) -> str:
    """The table of docs/batch.md."""
    head = ("fault", "injected", "what must hold", "held")
    cells = [
        (
            row.fault,
            str(row.injected),
            row.expectation,
            f"not possible here: {row.not_possible}" if row.not_possible else str(row.held),
        )
        for row in rows
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *cells))
