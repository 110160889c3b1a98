"""Faults of what is given: bad images, odd names, link loops, a long manifest, killed workers.

Every function yields once per injection: what did not hold, in lines.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL
from time import sleep

import psutil

from stress import files
from stress.sandbox import POLL_INTERVAL, PROMPTS, SCENES, TIMEOUT, Run, Sandbox, SandboxFactory
from stress.signals import LONGEST
from stress.trials import Violations

ROWS = 10_000  # of the manifest
MAX_SECONDS, MAX_MEMORY = 60.0, 2e9  # of a core, and bytes, to plan so many edits
PROMPT, ENDING = PROMPTS[1], f"-{PROMPTS[1].replace(' ', '-')}-0"


def bad_images(sandboxes: SandboxFactory, rng: random.Random) -> Iterator[Violations]:
    """Files of all kinds that are not readable images, among good ones."""
    sandbox = _create_simple(sandboxes)
    bad, odd = files.write_all(sandbox.images, rng)
    code = (run := sandbox.start()).finish()
    results, entries = sandbox.results(), sandbox.entries()
    common = [] if code == 1 else [f"exit code {code}: {run.stderr()[-500:]}"]
    expected = [_result_name(name) for name in odd]
    common += [f"{name}: {entries.get(name)}" for name in expected if name not in results]
    sandbox.expected = {**sandbox.expected, **{name: results.get(name, "") for name in expected}}
    common += [
        *sandbox.check_partial(),
        *(f"{name}: left behind" for name in sandbox.leftovers()),
    ]
    for name in sorted(bad):
        state, reason, _ = entries.get(_result_name(name), ("unknown", None, None))
        failed = state == "failed" and reason is not None and "[ZC-E" in reason
        yield [*common, *([] if failed else [f"{name}: {state}, {reason}"])]
    if not common:
        sandbox.remove()


def odd_names(sandboxes: SandboxFactory, rng: random.Random) -> Iterator[Violations]:
    """The same image under names of every script, some not valid text, one too long."""
    sandbox = _create_simple(sandboxes)
    expected = sandbox.expected[f"0{ENDING}.png"]
    data = (sandbox.images / "0.png").read_bytes()
    names = [os.fsdecode(name) for name in files.NOT_TEXT] + [*files.NAMES, files.TOO_LONG]
    for name in names:
        (sandbox.images / f"{name}.png").write_bytes(data)
    code = (run := sandbox.start()).finish()
    common = [] if code == 1 else [f"{code}: {run.stderr()[-500:]}"]
    events = {Path(each["input"]).stem: each for each in run.events() if "input" in each}
    common += _repeat_from_list(sandbox)
    results = sandbox.results()
    number = len(sandbox.expected) + len(names) - 1
    common += [f"{len(results)} results"] * (len(results) != number)
    for name in names:
        event = events.get(name, {})
        result = results.get(str(event.get("output", "")).removeprefix("out/"))
        failed = name == files.TOO_LONG and event.get("event") == "failed"
        yield [*common, *([] if failed or result == expected else [f"{name!a}: {event}"])]
    if not common:
        sandbox.remove()


def _repeat_from_list(sandbox: Sandbox) -> Violations:
    """Name the same images in a NUL-separated list; a violation if any is edited again.

    Some of the names fit neither on a command line nor on a line of a list.
    """
    paths = sorted(sandbox.images.iterdir())
    (sandbox.folder / "list").write_bytes(b"\0".join(os.fsencode(path) for path in paths))
    sandbox.options = ["--files-from", "list", "-0", *sandbox.options[1:]]
    run = sandbox.start()
    return ["edited again"] * bool(run.finish() != 1 or run.events("done"))


def link_loops(sandboxes: SandboxFactory, rng: random.Random) -> Iterator[Violations]:
    """Links that lead back up, to each other, and to the results."""
    sandbox = _create_simple(sandboxes)
    (sandbox.images / "below").mkdir()
    links = {"loop": ".", "up": "..", "a": "b", "b": "a", "below/back": "..", "results": "../out"}
    for name, target in links.items():
        (sandbox.images / name).symlink_to(target)
    yield sandbox.close(sandbox.check_complete(sandbox.start()))


def large_manifest(sandboxes: SandboxFactory, rng: random.Random) -> Iterator[Violations]:
    """Ten thousand edits: planned, started, killed, started and killed again."""
    sandbox = sandboxes.create()
    per_seed = len(SCENES) * len(PROMPTS)
    rows = [
        f"in/{n % len(SCENES)}.png,{PROMPTS[n // len(SCENES) % 2]},{n // per_seed}"
        for n in range(ROWS)
    ]
    (sandbox.folder / "list.csv").write_text("\n".join(["image,to,seed", *rows]))
    sandbox.options = ["--manifest", "list.csv"]
    seconds, memory = _measure(run := sandbox.start("--dry-run"))
    violations = [] if run.finish() == 0 else [run.stderr()[-500:]]
    too_much = seconds > MAX_SECONDS or memory > MAX_MEMORY
    violations += [f"{seconds:.0f} s and {memory / 1e9:.1f} GB"] * too_much
    violations += ["a dry run wrote files"] * sandbox.outputs.exists()
    outputs: list[str] = []
    for _ in range(2):
        (run := sandbox.start()).advance(LONGEST)
        run.finish(SIGKILL)
        outputs += [event["output"] for event in run.events("done")]
    jobs = len(sandbox.entries())
    violations += [f"{jobs} jobs"] * (jobs != ROWS)
    violations += ["an edit was repeated"] * (len(outputs) != len(set(outputs)))
    yield sandbox.close(violations)


def kill_worker(sandboxes: SandboxFactory, rng: random.Random) -> Iterator[Violations]:
    """One of two worker processes is killed."""
    sandbox = sandboxes.create()
    (run := sandbox.start("--devices", "2")).advance(done=1)
    _workers(run)[0].kill()
    violations = sandbox.check_complete(run)
    outputs = [event["output"] for event in run.events("done")]
    violations += [f"{len(outputs)} edits reported"] * (len(outputs) != len(sandbox.expected))
    yield sandbox.close(violations)


def kill_launcher(sandboxes: SandboxFactory, rng: random.Random) -> Iterator[Violations]:
    """The process that supervises two workers is killed; the same command is given again."""
    sandbox = sandboxes.create()
    (run := sandbox.start("--devices", "2")).advance(done=1)
    orphans = psutil.Process(run.process.pid).children(recursive=True)
    run.finish(SIGKILL)
    again = sandbox.start()
    again.finish()
    _, alive = psutil.wait_procs(orphans, TIMEOUT)
    violations = sandbox.check_complete(again)
    yield sandbox.close(violations + [f"still running: {len(alive)}"] * bool(alive))


def _create_simple(sandboxes: SandboxFactory) -> Sandbox:
    """A sandbox with three images and one prompt."""
    sandbox = sandboxes.create(1)
    sandbox.options = [each for each in sandbox.options if each != f"--to={PROMPTS[0]}"]
    sandbox.expected = {name: each for name, each in sandbox.expected.items() if ENDING in name}
    return sandbox


def _result_name(name: str) -> str:
    """The name of the result of an image."""
    stem, _, ending = name.rpartition(".")
    return f"{stem}{ENDING}.{'png' if ending == 'gif' else ending}"


def _workers(run: Run) -> list[psutil.Process]:
    """The worker processes of a run with ``--devices``."""
    children = psutil.Process(run.process.pid).children(recursive=True)
    commands = [(each, each.cmdline()) for each in children]
    return [each for each, line in commands if "--join" in line and "accelerate" not in str(line)]


def _measure(run: Run) -> tuple[float, int]:
    """Seconds of CPU time that a process takes until it ends, and its peak memory in bytes."""
    seconds, peak, process = 0.0, 0, psutil.Process(run.process.pid)
    while run.process.poll() is None:
        try:
            seconds, peak = sum(process.cpu_times()[:2]), max(peak, process.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        sleep(POLL_INTERVAL)
    return seconds, peak
