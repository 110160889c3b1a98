"""Mutated text and tensor files, read in worker processes with limits of time and memory.

Case ``seed`` is a pure function of its number: ``mutate(kind_of(seed), seed, samples)``.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import resource
import shutil
import struct
import traceback
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path, PurePosixPath
from typing import Any

import tiny
import torch
from PIL import Image

import zerocon
from zerocon.batch import BatchOptions, status
from zerocon.batch.expansion import expand
from zerocon.batch.job import Job
from zerocon.batch.journal import JobRecord, Journal
from zerocon.cli import config_file
from zerocon.direction import Direction
from zerocon.errors import ZeroconError
from zerocon.recipe import DirectionReference, Recipe
from zerocon.settings import Settings
from zerocon.trajectory import Inversion

SECONDS, BYTES = 5.0, 1_500_000_000  # limits of one case
KINDS = ("direction", "inversion", "recipe", "csv", "jsonl", "toml", "config", "journal", "name")
VALUES: tuple[Any, ...] = (
    None, True, -1, -5, 10**9, 10**30, 0, 1e308, float("nan"), float("inf"), -float("inf"), "",
    "x" * 20_000, "\x1b[31m\r\n", "\u202e|\u200b", "\ud800", "../../etc/passwd", "=1+1", "{stem}",
    "\0", [], {}, [[]], {"a": {"b": []}}, ["a"] * 2000, {str(n): n for n in range(2000)}, "nan",
    "none",
)  # fmt: skip
RAW = (
    b"\0",
    b"\xff",
    b"\n",
    b'"',
    b"[" * 3000,
    b"{" * 3000,
    b"9" * 6000,
    b"\xef\xbb\xbf",
    b",",
    b"|",
)
TEMPLATES = (
    "{stem:{x}}", "{to.__class__}", "{stem:>99999999}", "{stem!r}", "{}", "{0}", "{stem[0]}", "{",
    "}", "{stem:{to.__class__}}", "{seed:0>4}{suffix}", "{stem:.3}", "{stem:%Y}", "a/../b",
    "/etc/x", "\x1b{stem}", "{stem}\0", "{{stem}}", "{stem:\n<9}", "x" * 5000,
    "{from}{to}{strength}",
)  # fmt: skip
ONE = BatchOptions(output=Path("output"), to=("dog",), seed=(1,))
RECIPE = Recipe(
    image="a" * 32,
    size=(64, 64),
    model="mini",
    weights="b" * 16,
    prediction="epsilon",
    compute={"device": "cpu", "dtype": "float32", "threads": 1, "tiled": False},
    prompt={"to": "dog"},
    caption="a cat",
    target_caption="a dog",
    directions=(DirectionReference("cat -> dog", 0.5, "c" * 32),),
    inversion=None,
    settings=Settings(),
    versions={"torch": "2.12", "zerocon": "0.2"},
)


@dataclass(frozen=True)
class Outcome:
    """How a case ended: "read", "refused", or a violation with its reason."""

    seed: int
    kind: str
    result: str
    reason: str = ""

    @property
    def violation(self) -> bool:
        """Whether it is neither read nor refused with an error of zerocon."""
        return self.result not in ("read", "refused")


def kind_of(seed: int) -> str:
    """The kind of file of a case."""
    return KINDS[seed % len(KINDS)]


def write_samples(folder: Path) -> dict[str, bytes]:
    """A valid file of each kind, by kind."""
    model = tiny.model()
    Direction.between(model, ["a cat"], ["a dog"], words=("cat", "dog")).save(folder / "d")
    image = Image.new("RGB", (64, 64), "red")
    image.save(folder / "cat.png")
    zerocon.invert(image, model, settings=Settings(steps=2, guidance=())).save(folder / "i")
    samples = {"direction": (folder / "d").read_bytes(), "inversion": (folder / "i").read_bytes()}
    samples["recipe"] = RECIPE.to_json().encode()
    cell = str(folder / "cat.png")
    samples["csv"] = f"image,to,seed,strength,name\n{cell},dog,3,1.5,{{stem}}.png\n".encode()
    row = {"image": cell, "to": "dog", "seed": 3, "guidance": ["contrastive"], "size": 512}
    samples["jsonl"] = f"{json.dumps(row)}\n".encode()
    samples["toml"] = f'[[edits]]\nimage = "{cell}"\nto = "dog"\nsteps = 9\n'.encode()
    samples["config"] = b'model = "mini"\nsteps = 30\nkeep_gps = true\n[presets.a]\nseed = 1\n'
    output = folder / "output"
    journal = Journal(output)
    job = Job(folder / "cat.png", PurePosixPath("dog.png"), {"to": "dog"}, {"seed": 1})
    journal.begin({"images": []}, [(None, JobRecord(job, "h", "s", "64", "failed", message="x"))])
    journal.close()
    samples["journal"] = (output / ".zerocon" / "journal.sqlite").read_bytes()
    shutil.rmtree(output)
    samples["name"] = b"{stem}-{to}{suffix}"
    return samples


def mutate(seed: int, samples: Mapping[str, bytes]) -> bytes:
    """The mutated file of a case."""
    draw, kind = random.Random(seed), kind_of(seed)
    data = samples[kind]
    if kind == "name":
        text = draw.choice(TEMPLATES)
        return (text + draw.choice(TEMPLATES) if draw.random() < 0.5 else text).encode()
    if kind in ("recipe", "jsonl") and draw.random() < 0.7:
        return _dumped(_mutated(json.loads(data), draw), draw)
    if kind in ("direction", "inversion") and draw.random() < 0.8:
        return _with_header(data, kind, draw)
    for _ in range(draw.choice((1, 1, 2, 5, 20))):
        data = _with_bytes(data, draw)
    return data


def read(kind: str, data: bytes, folder: Path) -> None:
    """Read a file as the commands do; raises whatever they raise."""
    file = folder / f"case.{kind}"
    if kind == "journal":
        (folder / ".zerocon").mkdir(exist_ok=True)
        for each in (folder / ".zerocon").iterdir():
            each.unlink()
        (folder / ".zerocon" / "journal.sqlite").write_bytes(data)
        status(folder)
        journal = Journal(folder)
        try:
            journal.records()
        finally:
            journal.close()
        return
    file.write_bytes(data)
    text = data.decode("utf-8", "surrogateescape")
    readers: Mapping[str, Callable[[], object]] = {
        "direction": lambda: str(Direction.load(file).profile()),
        "inversion": lambda: repr(Inversion.load(file)),
        "recipe": lambda: Recipe.from_json(text).to_json(),
        "config": lambda: config_file.read(file),
        "name": lambda: expand(replace(ONE, images=(str(folder / "cat.png"),), name=text)),
    }
    readers.get(kind, lambda: expand(BatchOptions(output=folder / "out", manifest=file)))()


def run(seeds: list[int], samples: Mapping[str, bytes], folder: Path) -> Iterator[Outcome]:
    """Read the cases in a worker process, which is replaced when one of them breaks a limit."""
    fork = multiprocessing.get_context("fork")  # torch is imported once
    while seeds:
        mine, theirs = fork.Pipe()
        worker = fork.Process(target=_work, args=(seeds, samples, folder, theirs))
        worker.start()
        theirs.close()
        for number, seed in enumerate(seeds):
            try:
                outcome = mine.recv() if mine.poll(SECONDS) else None
                reason = f"more than {SECONDS} s"
            except EOFError:
                outcome, reason = None, "the process ended"
            yield outcome or Outcome(seed, kind_of(seed), "violation", reason)
            if outcome is None:
                seeds = seeds[number + 1 :]
                break
        else:
            seeds = []
        worker.kill()
        worker.join()


def _work(
    seeds: list[int], samples: Mapping[str, bytes], folder: Path, answers: Connection
) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, used + BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    torch.set_num_threads(1)
    for seed in seeds:
        answers.send(_outcome(seed, samples, folder))


def _outcome(seed: int, samples: Mapping[str, bytes], folder: Path) -> Outcome:
    kind, data = kind_of(seed), mutate(seed, samples)
    try:
        read(kind, data, folder)
    except ZeroconError as error:
        return Outcome(seed, kind, "refused", str(error)[:80])
    except BaseException as error:
        lines = traceback.format_exception(error)
        return Outcome(seed, kind, "violation", "".join(lines[-3:]))
    return Outcome(seed, kind, "read")


def _with_bytes(data: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(data) + 1)
    length = draw.choice((0, 1, 1, 4, 100))
    new = draw.choice((b"", draw.randbytes(length), draw.choice(RAW)))
    return data[:place] + new + data[place + draw.choice((0, length, len(new))) :]


def _with_header(data: bytes, kind: str, draw: random.Random) -> bytes:
    """A safetensors file whose header or metadata is changed."""
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), bytearray(data[8 + length :])
    choice = draw.random()
    if choice < 0.5:  # the metadata
        line = json.loads(header["__metadata__"][kind])
        header["__metadata__"][kind] = _dumped(_mutated(line, draw), draw).decode()
    elif choice < 0.8:  # shapes, dtypes, offsets
        header = _mutated(header, draw)
    else:  # numbers
        value = draw.choice((float("nan"), float("inf"), -float("inf"), 1e38, 3e6))
        place = 4 * draw.randrange(len(body) // 4)
        body[place : place + 4] = struct.pack("<f", value)
    text = json.dumps(header).encode()
    size = draw.choice((len(text), len(text), len(text), 2**63, len(text) + 9, 0))
    return struct.pack("<Q", size) + text + bytes(body)


def _mutated(value: Any, draw: random.Random) -> Any:
    """JSON with one to three values replaced, removed or added."""
    for _ in range(draw.choice((1, 1, 3))):
        parents = [each for each in _nodes(value) if isinstance(each, dict | list) and each]
        if not parents:
            return deepcopy(draw.choice(VALUES))
        parent = draw.choice(parents)
        key = draw.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
        if (action := draw.random()) < 0.15:
            del parent[key]
        elif action < 0.25 and isinstance(parent, dict):
            parent[str(draw.choice(VALUES))[:50]] = deepcopy(draw.choice(VALUES))
        else:
            parent[key] = deepcopy(draw.choice(VALUES))
    return value


def _nodes(value: Any) -> Iterator[Any]:
    yield value
    for each in value.values() if isinstance(value, dict) else value:
        if isinstance(each, dict | list):
            yield from _nodes(each)


def _dumped(value: Any, draw: random.Random) -> bytes:
    text = json.dumps(value)
    if draw.random() < 0.1:
        depth = draw.choice((50, 5000, 100_000))
        text = text.replace(":", ":" + "[" * depth, 1)
    return text.encode()
