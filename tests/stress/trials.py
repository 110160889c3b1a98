"""What is done to ``zerocon batch`` and what must hold: nothing is asserted, all is counted."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from stress.sandbox import SandboxFactory
from zerocon.errors import FileFormatError, ZeroconError
from zerocon.storage.atomic import writing

FORMAT = "zerocon.bench.fault/1"
KILL = "kill -9"

Wrong = list[str]  # what did not hold, in lines
Inject = Callable[[SandboxFactory, random.Random], Iterator[Wrong]]


class NotPossibleError(ZeroconError):
    """A fault cannot be made here, say without the right to mount."""


@dataclass(frozen=True)
class Fault:
    """Something that happens, so many ``times``, and what must hold after each."""

    inject: Inject
    times: int
    holds: str


@dataclass(frozen=True)
class InjectionRow:
    """One injection: what did not hold; or why there was none."""

    fault: str
    wrong: tuple[str, ...] = ()
    impossible: str = ""


def happen(
    name: str, fault: Fault, workshop: SandboxFactory, times: int, before: int = 0
) -> Iterator[InjectionRow]:
    """Let a fault happen until it has happened ``times``, ``before`` of them earlier.

    What comes as a set is finished, so that it may be some more.
    """
    rng = random.Random(f"{name} {before}")
    try:
        while before < times:
            for wrong in fault.inject(workshop, rng):
                yield InjectionRow(name, tuple(wrong))
                before += 1
    except NotPossibleError as error:
        yield InjectionRow(name, impossible=str(error))


def read(path: Path) -> list[InjectionRow]:
    """The rows of a file, which may not be there yet; a last line that was torn off is none."""
    found = []
    for line in path.read_text().splitlines(keepends=True) if path.exists() else []:
        try:
            said = json.loads(line)
            if said.pop("format") != FORMAT:
                raise ValueError
            found.append(InjectionRow(said["fault"], tuple(said["wrong"]), said["impossible"]))
        except (ValueError, LookupError, AttributeError):
            if line.endswith("\n"):
                raise FileFormatError(f"{path} is no file of rows of zerocon bench") from None
    return found


def save(path: Path, rows: Iterable[InjectionRow]) -> None:
    """Write all rows, a line each, in place of what was there."""
    lines = [json.dumps({"format": FORMAT, **asdict(row)}) for row in rows]
    with writing(path, overwrite=True) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines))


@dataclass(frozen=True)
class FaultLine:
    """Of the table: how often a fault was injected, and how often what must hold did."""

    fault: str
    injected: int
    holds: str
    held: int
    impossible: str = ""


def count(faults: Mapping[str, Fault], rows: Iterable[InjectionRow]) -> list[FaultLine]:
    """A line for every fault that was tried."""
    lines, rows = [], list(rows)
    for name, fault in faults.items():
        mine = [row for row in rows if row.fault == name]
        done = [row for row in mine if not row.impossible]
        held = sum(not row.wrong for row in done)
        why = "" if done or not mine else mine[-1].impossible
        if mine:
            lines.append(FaultLine(name, len(done), fault.holds, held, why))
    return lines


def shown(lines: Iterable[FaultLine], form: str) -> str:
    """The table, aligned or as Markdown."""
    head = ("fault", "injected", "what must hold", "held")
    said = [(each.fault, str(each.injected), each.holds,
             f"not possible here: {each.impossible}" if each.impossible else str(each.held))
            for each in lines]  # fmt: skip
    if form == "markdown":
        rows = [head, ("---",) * len(head), *said]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)
    widths = [max(map(len, column)) for column in zip(head, *said, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in (head, *said))


def missing(
    faults: Mapping[str, Fault],
    rows: Sequence[InjectionRow],
    workshop: SandboxFactory,
    kills: int | None,
) -> Iterator[InjectionRow]:
    """What ``rows`` lack of ``faults``, done now; ``kills`` are those of kill -9."""
    before = Counter(row.fault for row in rows if not row.impossible)
    for name, fault in faults.items():
        times = kills if kills is not None and name == KILL else fault.times
        yield from happen(name, fault, workshop, times, before[name])
