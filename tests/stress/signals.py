"""Faults of processes: signals, two batches at once, a clock that jumps.

Every function yields once per injection: what did not hold, in lines.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from signal import SIGINT, SIGKILL, SIGTERM, Signals
from time import sleep

from stress.sandbox import SEEDS, Run, Sandbox, SandboxFactory
from stress.trials import Violations
from zerocon.batch.commit import PARTS
from zerocon.batch.journal import FOLDER
from zerocon.errors import Interrupted

LONGEST = 2.0  # seconds of work, after some edits, before a process is stopped
WRITING = 0.01  # seconds that moving a result into place takes, roughly


def kill(sandboxes: SandboxFactory, rng: random.Random) -> Iterator[Violations]:
    """SIGKILL at random moments, again and again until one run completes."""
    return _stop(sandboxes, rng, SIGKILL, -SIGKILL)


def terminate(sandboxes: SandboxFactory, rng: random.Random) -> Iterator[Violations]:
    """SIGTERM at random moments, as a system that shuts down sends it."""
    return _stop(sandboxes, rng, SIGTERM, Interrupted.code)


def interrupt(sandboxes: SandboxFactory, rng: random.Random) -> Iterator[Violations]:
    """SIGINT at random moments: Ctrl-C."""
    return _stop(sandboxes, rng, SIGINT, Interrupted.code)


def _stop(
    sandboxes: SandboxFactory, rng: random.Random, signal: Signals, code: int
) -> Iterator[Violations]:
    """For each signal its violations, with those of the complete run at the end."""
    sandbox, stopped = sandboxes.create(SEEDS), list[Violations]()
    while _advance(sandbox, run := sandbox.start(), rng):
        status = run.finish(signal)
        if run.events("end"):  # the run completed before the signal arrived
            break
        violations = [] if status == code else [f"exit code {status}: {run.stderr()}"]
        violations += sandbox.check_partial()
        if signal != SIGKILL:
            violations += [f"{name}: left behind" for name in sandbox.leftovers()]
            states = {state for state, _, _ in sandbox.entries().values()}
            violations += [f"still {state}" for state in states - {"queued", "done"}]
        stopped.append(violations)
    run.finish()
    end = sandbox.close(sandbox.check_complete(sandbox.start()))
    yield from ([*violations, *end] for violations in stopped)


def _advance(sandbox: Sandbox, run: Run, rng: random.Random) -> bool:
    """Advance a run to a random moment, in half of the cases to one in which a result is written.

    Returns:
        Whether the process is still running.
    """
    if not run.advance(rng.uniform(0, LONGEST), done=rng.randrange(4)):
        return False
    if rng.random() < 0.5:
        parts = sandbox.outputs / FOLDER / PARTS
        while run.process.poll() is None and not list(parts.glob("*")):
            sleep(WRITING / 20)
        sleep(rng.uniform(0, WRITING))
    return run.process.poll() is None


def run_twice(sandboxes: SandboxFactory, rng: random.Random) -> Iterator[Violations]:
    """A second batch starts at a random moment while the first one starts or works."""
    sandbox = sandboxes.create()
    first, start = sandbox.start(), rng.uniform(0, 1)
    if start > 0.5:
        first.advance(LONGEST * (start - 0.5))
    second = sandbox.start()
    violations = [] if (got := first.finish()) == 0 else [f"exit code {got}: {first.stderr()}"]
    violations += sandbox.check_complete(second)
    outputs = [event["output"] for run in (first, second) for event in run.events("done")]
    once = sorted(outputs) == sorted(f"out/{name}" for name in sandbox.expected)
    yield sandbox.close(violations + [f"{len(outputs)} edits done"] * (not once))


def turn_clock_back(sandboxes: SandboxFactory, rng: random.Random) -> Iterator[Violations]:
    """The clock jumps back by years, first inside the process, then in the images' time stamps."""
    sandbox = sandboxes.create()
    site = sandbox.folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(JUMPS)
    sandbox.environment = {"PYTHONPATH": str(site)}
    (run := sandbox.start()).advance(rng.uniform(0, LONGEST))
    run.finish(SIGKILL)
    violations = sandbox.check_complete(sandbox.start())
    for image in sandbox.images.iterdir():
        os.utime(image, (0, rng.randrange(10**9)))
    violations += sandbox.check_complete(again := sandbox.start())
    yield sandbox.close(violations + ["edited again"] * bool(again.events("done")))


JUMPS = """import random, time
def back(clock, unit):
    return lambda: clock() - unit * random.Random().choice((0, 3600, 10**8))
time.time, time.time_ns = back(time.time, 1), back(time.time_ns, 10**9)
"""
