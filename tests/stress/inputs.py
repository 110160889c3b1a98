"""What ``zerocon batch`` may be given: hostile files, odd names, many rows, mortal helpers."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL
from time import sleep

import psutil

from stress import files
from stress.signals import LONGEST
from stress.sandbox import LIMIT, LOOK, PROMPTS, SCENES, Run, Sandbox, SandboxFactory
from stress.trials import Wrong

ROWS = 10_000  # of the manifest
PATIENCE, MEMORY = 60.0, 2e9  # seconds of a core and bytes in which so many are planned
PROMPT, ENDING = PROMPTS[1], f"-{PROMPTS[1].replace(' ', '-')}-0"


def images(workshop: SandboxFactory, rng: random.Random) -> Iterator[Wrong]:
    """Bad pictures of all kinds among good ones."""
    stage = _simple(workshop)
    bad, odd = hostile.fill(stage.images, rng)
    code = (run := stage.start()).end()
    made, entries = stage.made(), stage.entries()
    common = [] if code == 1 else [f"exit code {code}: {run.said()[-500:]}"]
    common += [f"{name}: {entries.get(name)}" for name in map(_result, odd) if name not in made]
    stage.wanted = {**stage.wanted, **{name: made.get(name, "") for name in map(_result, odd)}}
    common += [*stage.halfway(), *(f"{name}: left behind" for name in stage.strays())]
    for name in sorted(bad):
        state, reason, _ = entries.get(_result(name), ("unknown", None, None))
        failed = state == "failed" and reason is not None and "[ZC-E" in reason
        yield [*common, *([] if failed else [f"{name}: {state}, {reason}"])]
    if not common:
        stage.clear()


def names(workshop: SandboxFactory, rng: random.Random) -> Iterator[Wrong]:
    """The same picture under names of every script, some no text at all, one too long."""
    stage = _simple(workshop)
    wanted, data = stage.wanted[f"0{ENDING}.png"], (stage.images / "0.png").read_bytes()
    there = [os.fsdecode(name) for name in hostile.NO_TEXT] + [*hostile.NAMES, hostile.TOO_LONG]
    for name in there:
        (stage.images / f"{name}.png").write_bytes(data)
    common = [] if (got := (run := stage.start()).end()) == 1 else [f"{got}: {run.said()[-500:]}"]
    said = {Path(each["input"]).stem: each for each in run.events() if "input" in each}
    # some of these names cannot be on a command line or on a line of a list
    (stage.folder / "list").write_bytes(
        b"\0".join(os.fsencode(path) for path in sorted(stage.images.iterdir()))
    )
    stage.options = ["--files-from", "list", "-0", *stage.options[1:]]
    common += ["edited again"] * bool((again := stage.start()).end() != 1 or again.events("done"))
    made = stage.made()
    common += [f"{len(made)} results"] * (len(made) != len(stage.wanted) + len(there) - 1)
    for name in there:
        told = said.get(name, {})
        result = made.get(str(told.get("output", "")).removeprefix("out/"))
        failed = name == hostile.TOO_LONG and told.get("event") == "failed"
        yield [*common, *([] if failed or result == wanted else [f"{name!a}: {told}"])]
    if not common:
        stage.clear()


def loops(workshop: SandboxFactory, rng: random.Random) -> Iterator[Wrong]:
    """Links that lead back up, to each other, and to the results."""
    stage = _simple(workshop)
    (stage.images / "below").mkdir()
    links = {"loop": ".", "up": "..", "a": "b", "b": "a", "below/back": "..", "made": "../out"}
    for name, target in links.items():
        (stage.images / name).symlink_to(target)
    yield stage.settle(stage.whole(stage.start()))


def manifest(workshop: SandboxFactory, rng: random.Random) -> Iterator[Wrong]:
    """Ten thousand edits, planned, begun, killed and begun again."""
    stage = workshop.stage()
    each = len(SCENES) * len(PROMPTS)
    rows = [
        f"in/{n % len(SCENES)}.png,{PROMPTS[n // len(SCENES) % 2]},{n // each}" for n in range(ROWS)
    ]
    (stage.folder / "list.csv").write_text("\n".join(["picture,to,seed", *rows]))
    stage.options = ["--manifest", "list.csv"]
    seconds, peak = _cost(run := stage.start("--dry-run"))
    wrong = [] if run.end() == 0 else [run.said()[-500:]]
    wrong += [f"{seconds:.0f} s and {peak / 1e9:.1f} GB"] * (seconds > PATIENCE or peak > MEMORY)
    wrong += ["a dry run wrote"] * stage.outputs.exists()
    made: list[str] = []
    for _ in range(2):
        (run := stage.start()).work(LONGEST)
        run.end(SIGKILL)
        made += [event["output"] for event in run.events("done")]
    states = [state for state, _, _ in stage.entries().values()]
    wrong += [f"{len(states)} orders"] * (len(states) != ROWS)
    wrong += ["an edit was made twice"] * (len(made) != len(set(made)))
    yield stage.settle(wrong)


def worker(workshop: SandboxFactory, rng: random.Random) -> Iterator[Wrong]:
    """One of two processes that work is killed."""
    stage = workshop.stage()
    (run := stage.start("--devices", "2")).work(done=1)
    _workers(run)[0].kill()
    wrong = stage.whole(run)
    made = [event["output"] for event in run.events("done")]
    wrong += [f"{len(made)} edits told of"] * (len(made) != len(stage.wanted))
    yield stage.settle(wrong)


def leader(workshop: SandboxFactory, rng: random.Random) -> Iterator[Wrong]:
    """The process that looks after two others is killed, and the same command given again."""
    stage = workshop.stage()
    (run := stage.start("--devices", "2")).work(done=1)
    orphans = psutil.Process(run.process.pid).children(recursive=True)
    run.end(SIGKILL)
    again = stage.start()
    again.end()
    _, alive = psutil.wait_procs(orphans, LIMIT)
    wrong = stage.whole(again) + [f"still at work: {len(alive)}"] * bool(alive)
    yield stage.settle(wrong)


def _simple(workshop: SandboxFactory) -> Sandbox:
    """Three pictures, one wish."""
    stage = workshop.stage(1)
    stage.options = [each for each in stage.options if each != f"--to={PROMPTS[0]}"]
    stage.wanted = {name: each for name, each in stage.wanted.items() if ENDING in name}
    return stage


def _result(name: str) -> str:
    """What the result of a picture is called."""
    stem, _, ending = name.rpartition(".")
    return f"{stem}{ENDING}.{'png' if ending == 'gif' else ending}"


def _workers(run: Run) -> list[psutil.Process]:
    """Processes that edit for another one."""
    below = psutil.Process(run.process.pid).children(recursive=True)
    told = [(each, each.cmdline()) for each in below]
    return [each for each, words in told if "--join" in words and "accelerate" not in str(words)]


def _cost(run: Run) -> tuple[float, int]:
    """Seconds of a core that a process takes until it ends, and the most memory that it has."""
    seconds, peak, process = 0.0, 0, psutil.Process(run.process.pid)
    while run.process.poll() is None:
        try:
            seconds, peak = sum(process.cpu_times()[:2]), max(peak, process.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        sleep(LOOK)
    return seconds, peak
