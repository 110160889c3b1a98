"""Processes of ``zerocon batch`` that are stopped, meet, or lose the time: each a function.

It yields once for everything it has done: what did not hold, in lines.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from signal import SIGINT, SIGKILL, SIGTERM, Signals
from time import sleep

from zerocon.batch.commit import PARTS
from zerocon.batch.journal import FOLDER
from stress.sandbox import SEEDS, Run, Sandbox, SandboxFactory
from stress.trials import Wrong
from zerocon.errors import Interrupted

LONGEST = 2.0  # seconds of work, after some edits, in which a process meets its end
WRITING = 0.01  # seconds that a result takes on its way into place, about


def killed(workshop: SandboxFactory, rng: random.Random) -> Iterator[Wrong]:
    """Kill again and again at any moment of the work, until one run gets to the end."""
    return _stopped(workshop, rng, SIGKILL, -SIGKILL)


def terminated(workshop: SandboxFactory, rng: random.Random) -> Iterator[Wrong]:
    """As a system that goes down does."""
    return _stopped(workshop, rng, SIGTERM, Interrupted.code)


def interrupted(workshop: SandboxFactory, rng: random.Random) -> Iterator[Wrong]:
    """As people do."""
    return _stopped(workshop, rng, SIGINT, Interrupted.code)


def _stopped(
    workshop: SandboxFactory, rng: random.Random, signal: Signals, code: int
) -> Iterator[Wrong]:
    """What was wrong after each signal, and at the end for all of them."""
    stage, found = workshop.stage(SEEDS), list[Wrong]()
    while _aimed(stage, run := stage.start(), rng):
        got = run.end(signal)
        if run.events("end"):  # it was quicker
            break
        wrong = [] if got == code else [f"exit code {got}: {run.said()}"]
        wrong += stage.halfway()
        if signal != SIGKILL:
            wrong += [f"{name}: left behind" for name in stage.strays()]
            states = {state for state, _, _ in stage.entries().values()}
            wrong += [f"still {state}" for state in states - {"queued", "done"}]
        found.append(wrong)
    run.end()
    end = stage.settle(stage.whole(stage.start()))
    yield from ([*wrong, *end] for wrong in found)


def _aimed(stage: Sandbox, run: Run, rng: random.Random) -> bool:
    """Let a run come to any moment, in every second case one in which a result is written."""
    if not run.work(rng.uniform(0, LONGEST), done=rng.randrange(4)):
        return False
    if rng.random() < 0.5:
        parts = stage.outputs / FOLDER / PARTS
        while run.process.poll() is None and not list(parts.glob("*")):
            sleep(WRITING / 20)
        sleep(rng.uniform(0, WRITING))
    return run.process.poll() is None


def twice(workshop: SandboxFactory, rng: random.Random) -> Iterator[Wrong]:
    """The second one begins at any moment of the first one's start or work."""
    stage = workshop.stage()
    one, start = stage.start(), rng.uniform(0, 1)
    if start > 0.5:
        one.work(LONGEST * (start - 0.5))
    other = stage.start()
    wrong = [] if (got := one.end()) == 0 else [f"exit code {got}: {one.said()}"]
    wrong += stage.whole(other)
    made = [event["output"] for run in (one, other) for event in run.events("done")]
    once = sorted(made) == sorted(f"out/{name}" for name in stage.wanted)
    yield stage.settle(wrong + [f"{len(made)} edits made"] * (not once))


def clock(workshop: SandboxFactory, rng: random.Random) -> Iterator[Wrong]:
    """Time goes back by years all the while, in the process and then on the pictures."""
    stage = workshop.stage()
    site = stage.folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(JUMPS)
    stage.more = {"PYTHONPATH": str(site)}
    (run := stage.start()).work(rng.uniform(0, LONGEST))
    run.end(SIGKILL)
    wrong = stage.whole(stage.start())
    for image in stage.images.iterdir():
        os.utime(image, (0, rng.randrange(10**9)))
    wrong += stage.whole(again := stage.start())
    yield stage.settle(wrong + ["edited again"] * bool(again.events("done")))


JUMPS = """import random, time
def back(clock, unit):
    return lambda: clock() - unit * random.Random().choice((0, 3600, 10**8))
time.time, time.time_ns = back(time.time, 1), back(time.time_ns, 10**9)
"""
