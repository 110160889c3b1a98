"""Text and tensor files made to take gigabytes or minutes to read; each is written by a function.

``CASES`` has them by kind of file. Sizes are the limits of the readers, or just above them.
"""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Callable, Iterable
from itertools import repeat
from pathlib import Path, PurePosixPath
from typing import Any

from zerocon.batch import discovery, manifest
from zerocon.batch.job import Job
from zerocon.batch.journal import MOST_WORKERS, JobRecord, Journal
from zerocon.bench import results
from zerocon.cli import config_file
from zerocon.model.config import INDEX_BYTES
from zerocon.prompt import sentence_bank
from zerocon.storage import strict_json

HOLES = 832_000_000  # bytes of zeros, which take no space on the disk
HEADER = 3_900_000  # bytes of a safetensors file's header: 100,000 less than the limit
ROWS = manifest.MOST_ROWS
Maker = Callable[[Path], None]


def text(*parts: str | Callable[[], Iterable[str]]) -> Maker:
    """Writes texts one after the other; those that are large are made when they are written."""

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="") as file:
            for part in parts:
                file.writelines([part] if isinstance(part, str) else part())

    return write


def filled(unit: str, size: int) -> str:
    """``unit`` again and again, ``size`` bytes of UTF-8 at most."""
    return unit * (size // len(unit.encode()))


def many(unit: str, size: int) -> Callable[[], Iterable[str]]:
    """``filled`` for ``text``."""
    return lambda: [filled(unit, size)]


def numbered(form: str, count: int, between: str = "") -> Callable[[], Iterable[str]]:
    """``form`` with the numbers up to ``count``."""
    return lambda: ((between if i else "") + form.format(i) for i in range(count))


def lines(unit: str, count: int) -> Callable[[], Iterable[str]]:
    """``unit`` as many times."""
    return lambda: repeat(unit, count)


def zeros(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(HOLES)


def csv_rows(count: int) -> Iterable[str]:
    yield "image,to,from,caption,seed,strength,name\n"
    for i in range(count):
        image = f"photographs/summer holidays/{i // 1000:03d}/IMG_{i:06d}.jpg"
        caption = f"a photograph of a cat that sits on a red sofa next to {'a window ' * 30}"
        yield f"{image},a dog on the beach at night,a cat,{caption},{i},1.25,{{stem}}-{{seed}}\n"


def json_rows(count: int) -> Iterable[str]:
    for i in range(count):
        row = {"image": f"summer/{i // 1000:03d}/IMG_{i:06d}.jpg", "to": "a dog", "seed": i}
        yield json.dumps({**row, "strength": 1.25, "caption": "a photograph of a cat " * 10}) + "\n"


BYTES = manifest.LONGEST
TOML = manifest.LONGEST_TOML
WIDE = manifest.LONGEST_ROW
HEAD = "image,to\n"

CSV: dict[str, Maker] = {
    "100,000 rows": text(lambda: csv_rows(ROWS)),
    "100,001 rows": text(lambda: csv_rows(ROWS + 1)),
    "short rows": text(HEAD, many("a\n", BYTES - 20)),
    "rows without a prompt": text(HEAD, lines("a.png,\n", ROWS)),
    "too many cells": text(HEAD, lines("," * (WIDE - 10) + "\n", BYTES // WIDE - 1)),
    "one line of commas": text(HEAD, many(",", BYTES - 20)),
    "a header of commas": text(many("to,", WIDE - 10), "\n"),
    "an endless header": text(many("to,", BYTES)),
    "an endless cell": text(HEAD, '"', many("a", BYTES - 20)),
    "an endless cell of lines": text(HEAD, '"', many("a\n", BYTES - 20)),
    "an endless row of lines": text(HEAD, many('"\n",', BYTES - 20)),
    "empty lines": text(HEAD, many("\n", BYTES - 20)),
    "long cells": text(HEAD, lines(f"a.png,{'x' * 9_900}\n", BYTES // 10_000)),
    "long invalid cells": text(HEAD, lines(f"a.png,{'x' * 90_000}\n", BYTES // 100_000)),
    "wide characters": text(HEAD, many("\U0001f600", BYTES - 20)),
    "too many bytes": text(HEAD, many("a.png,dog\n", BYTES + 20)),
}
JSONL: dict[str, Maker] = {
    "100,000 rows": text(lambda: json_rows(ROWS)),
    "100,001 rows": text(lambda: json_rows(ROWS + 1)),
    "short rows": text(many("1\n", BYTES)),
    "empty lines": text(many("\n", BYTES)),
    "lists": text(lines(filled("[],", WIDE - 10) + "\n", BYTES // WIDE)),
    "lists in a row": text(
        lines(f'{{"image":"a","seed":[{filled("[],", WIDE - 90)}[]]}}\n', BYTES // WIDE)
    ),
    "many exemplars": text(
        lines(f'{{"image":"a","exemplar":[{filled(chr(34) * 2 + ",", WIDE - 90)}"a"]}}\n', 600)
    ),
    "an endless line": text(many("[", BYTES)),
    "an endless text": text('{"image":"', many("a", BYTES - 20)),
    "a deep line": text(lines("[" * (WIDE - 10) + "\n", 600)),
    "escapes": text(lines('{"image":"' + "\\\\" * (WIDE // 2 - 20) + '"}\n', 600)),
    "keys": text(
        lines("{" + ",".join(f'"{i:x}":1' for i in range(WIDE // 12)) + "}\n", BYTES // WIDE)
    ),
}
TABLES: dict[str, Maker] = {
    "rows": text('[[edits]]\nimage="a"\n', many('[[edits]]\nimage="a"\n', TOML - 40)),
    "empty rows": text(many("[[edits]]\n", TOML)),
    "tables": text(numbered("[a{}]\n", TOML // 10)),
    "tables of two parts": text(numbered("[a{}.b]\n", TOML // 12)),
    "one key of many parts": text("a", many(".a", TOML - 10), "=1"),
    "one table of many parts": text("[a", many(".a", TOML - 10), "]"),
    "one quoted key of many parts": text("a", many('."a"', TOML - 10), "=1"),
    "keys": text(numbered("a{}=1\n", TOML // 10)),
    "lists": text("a=[", many("[],", TOML - 10), "]"),
    "a deep list": text("a=", many("[", TOML - 10)),
    "numbers": text("a=[", many("1,", TOML - 10), "]"),
    "one number": text("a=0x", many("f", TOML - 10)),
    "inline tables": text("a=[", many("{a=1},", TOML - 10), "]"),
    "an inline table": text("a={", numbered("a{}=1", TOML // 10, ","), "}"),
    "one text": text('a="', many("x", TOML - 10), '"'),
    "escapes": text('a="', many("\\u0041", TOML - 10), '"'),
    "quotes": text(many('"', TOML)),
    "a text of quotes": text('a="""', many('"', TOML - 10)),
    "comments": text(many("#\n", TOML)),
    "too many bytes": text(many("#\n", TOML + 2)),
}
SMALL = config_file.LONGEST
CONFIG: dict[str, Maker] = {
    "tables": text(numbered("[presets.a{}]\n", SMALL // 20)),
    "tables of many parts": text(numbered("[a{}" + ".a" * 8 + "]\n", SMALL // 25)),
    "one key of many parts": text("a", many(".a", SMALL - 10), "=1"),
    "one inline key of many parts": text("b={a", many(".a", SMALL - 10), "=1}"),
    "one quoted key of many parts": text("a", many(".'a'", SMALL - 10), "=1"),
    "after a text with a quote": text('b="""a""""\na', many(".a", SMALL - 20), "=1"),
    "after a text with two quotes": text("b='''a'''''\na", many(".a", SMALL - 20), "=1"),
    "presets": text(numbered("[presets.a{}]\nsteps=9\n", SMALL // 30)),
    "lists": text("model=[", many("[],", SMALL - 10), "]"),
    "one number": text("steps=0x", many("f", SMALL - 10)),
    "comments": text(many("#\n", SMALL + 2)),
}
NAMES: dict[str, Maker] = {
    "short names": text(many("a\n", discovery.LONGEST)),
    "empty lines": text(many("\n", discovery.LONGEST)),
    "one name": text(many("a", discovery.LONGEST)),
    "one pattern": text(many("*", discovery.LONGEST)),
    "patterns of many parts": text("**/" * 1300 + "none\n"),
    "wide characters": text(many("\U0001f600", discovery.LONGEST - 10), "a\n"),
    "too many bytes": text(many("a", discovery.LONGEST + 1)),
}
SENTENCES: dict[str, Maker] = {
    "short sentences": text(many("a\n", sentence_bank.LONGEST_FILE)),
    "other ends of lines": text(many("a\v", sentence_bank.LONGEST_FILE)),
    "one sentence": text(many("a", sentence_bank.LONGEST_FILE)),
    "too many bytes": text(many("a cat on a red sofa\n", sentence_bank.LONGEST_FILE + 20)),
}
MODEL: dict[str, Maker] = {
    "lists": text('{"a":[', many("[],", INDEX_BYTES - 10), "1]}"),
    "objects": text('{"a":[', many("{},", INDEX_BYTES - 10), "1]}"),
    "keys": text("{", numbered('"{:x}":1', INDEX_BYTES // 12, ","), "}"),
    "a deep list": text('{"a":', many("[", INDEX_BYTES - 10)),
    "one number": text('{"a":', many("9", INDEX_BYTES - 10), "}"),
    "too many bytes": text(many(" ", INDEX_BYTES + 1)),
}
LONG = strict_json.LONGEST
RECIPE: dict[str, Maker] = {
    "lists": text('{"schema":"zerocon.recipe/2","a":[', many("[],", LONG - 50), "1]}"),
    "objects": text('{"schema":"zerocon.recipe/2","a":[', many("{},", LONG - 50), "1]}"),
    "keys": text("{", numbered('"{:x}":1', LONG // 12, ","), "}"),
    "one text": text('{"caption":"', many("a", LONG - 20), '"}'),
    "escapes": text('{"caption":"', many("\\\\", LONG - 20), '"}'),
    "directions": text('{"directions":[', many("{},", LONG - 50), "{}]}"),
    "a deep list": text(many("[", LONG)),
    "too many characters": text(many(" ", LONG + 1)),
}


def tensors(header: Callable[[], dict[str, Any] | str], data: int = 0) -> Maker:
    """A safetensors file whose tensors are zeros."""

    def write(path: Path) -> None:
        content = header()
        line = (content if isinstance(content, str) else json.dumps(content)).encode()
        with path.open("wb") as file:
            file.write(struct.pack("<Q", len(line)) + line)
            file.truncate(8 + len(line) + data)

    return write


FORMATS = {"direction": "zerocon.direction/1", "inversion": "zerocon.inversion/3"}


def trajectory(levels: int) -> Maker:
    """An inversion of 512x512 pixels."""
    size = levels * 4 * 64 * 64 * 4

    def header() -> dict[str, Any]:
        numbers = [n / levels for n in range(levels)]
        columns = {"times": numbers, "alphas": [1.0] * levels, "sigmas": numbers}
        metadata = {"format": FORMATS["inversion"], "schedule": columns, "captions": ["a cat"]}
        metadata |= {"images": ["a" * 32], "model": "a model", "recipe": {}}
        shape = [levels, 1, 4, 64, 64]
        parts = {"latents": _tensor(shape, 0, size), "eps": _tensor(shape, size, 2 * size)}
        return {"__metadata__": {"inversion": json.dumps(metadata)}, **parts}

    return tensors(header, 2 * size)


def vectors(positions: int, features: int) -> Maker:
    """A direction of this shape."""
    size, shape = positions * features * 4, [1, positions, features]
    metadata = {"format": FORMATS["direction"], "source": ["cat"], "target": ["dog"]}
    metadata |= {"sentences": [["a cat"], ["a dog"]], "encoder": "a", "model": "b", "version": "c"}
    parts = {"tokens": _tensor(shape, 0, size), "origin": _tensor(shape, size, 2 * size)}
    header = {"__metadata__": {"direction": json.dumps(metadata)}, **parts}
    return tensors(lambda: header, 2 * size)


def _tensor(shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}


def headers(entry: str) -> dict[str, Maker]:
    """Headers of safetensors files that take much memory."""
    name = "tokens" if entry == "direction" else "latents"

    def ending(rest: Callable[[], str]) -> Maker:
        """With this end of the metadata."""

        def header() -> str:
            line = f'{{"format":"{FORMATS[entry]}",{rest()}}}'
            return json.dumps({"__metadata__": {entry: line}}, ensure_ascii=False)

        return tensors(header)

    def sides() -> dict[str, Any]:
        tensor = {"dtype": "F32", "shape": [1] * (HEADER // 3 - 100), "data_offsets": [0, 4]}
        metadata = {entry: f'{{"format":"{FORMATS[entry]}"}}'}
        return {"__metadata__": metadata, name: tensor}

    return {
        "lists": ending(lambda: f'"a":[{filled("[],", HEADER - 200)}1]'),
        "objects": ending(lambda: f'"a":[{filled("{},", HEADER - 200)}1]'),
        "numbers": ending(lambda: f'"a":[{filled("9,", HEADER - 200)}1]'),
        "keys": ending(lambda: ",".join(f'"{i:x}":0' for i in range(HEADER // 15))),
        "wide characters": ending(lambda: f'"a":[{filled("[],", HEADER - 200)}1],"b":"\U0001f600"'),
        "many tensors": tensors(lambda: {f"a{i}": _tensor([0], 0, 0) for i in range(HEADER // 70)}),
        "many sides": tensors(sides, 4),
        "a long header": tensors(lambda: " " * 4_000_001),
    }


SQL = Callable[[], Iterable[str]]
NONE: SQL = tuple


def database(
    statements: SQL = NONE, rows: Callable[[], Iterable[tuple[Any, ...]]] = tuple, end: str = ""
) -> Maker:
    """A journal after further statements of SQL, and with rows of jobs."""

    def write(path: Path) -> None:
        Journal(path).close()
        file = path / ".zerocon" / "journal.sqlite"
        connection = sqlite3.connect(file, isolation_level=None)
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        for statement in statements():
            connection.execute(statement)
        connection.executemany(JOB, rows())
        connection.execute(end or "SELECT 1")
        connection.execute("COMMIT")
        connection.close()

    return write


def of_zeros(path: Path) -> None:
    (path / ".zerocon").mkdir(parents=True)
    zeros(path / ".zerocon" / "journal.sqlite")


def own_jobs(path: Path) -> None:
    """A run of this user's own, of which all jobs failed."""
    journal = Journal(path)
    journal.begin({"images": []}, ((None, record(i)) for i in range(ROWS)))
    journal.close()


def record(number: int) -> JobRecord:
    image = Path(f"/photographs/summer/{number // 1000:03d}/IMG_{number:06d}.jpg")
    prompt = {"to": "a dog on the beach", "caption": "a photograph of a cat on a red sofa"}
    job = Job(image, PurePosixPath(f"{number}.jpg"), prompt, {"seed": number, "strength": 1.25})
    return JobRecord(job, "a" * 32, "12345 12345", "64x64", "failed", message="it failed " * 9)


JOB = "INSERT INTO jobs VALUES (?, ?, 'h', ?, 's', '', ?, 0, NULL, NULL, ?, ?, NULL, NULL)"
RUN = "INSERT INTO runs VALUES (1, '{}')"
ALL_JOBS = "INSERT INTO run_jobs SELECT 1, name FROM jobs"


def jobs(
    count: int,
    settings: Callable[[], str] = lambda: "",
    state: str = "failed",
    worker: str | None = None,
) -> Maker:
    """A run of another user of as many jobs, each with these settings."""
    head = '{"image": "a.png", "prompt": {"to": "dog"}, "directions": [], "name"'

    def rows() -> Iterable[tuple[Any, ...]]:
        values = settings()
        for i in range(count):
            line = f'{head}: "{i}.png", "settings": {{{values}}}}}'
            named = None if worker is None else worker.format(i)
            yield f"{i}.png", line, "a.png", state, "it failed", named

    return database(lambda: [RUN], rows, ALL_JOBS)


def states() -> Iterable[tuple[Any, ...]]:
    return ((str(i), "{}", "a", f"s{i}", "", None) for i in range(300_000))


def definitions() -> Iterable[str]:
    columns = ",".join(f"c{i}" for i in range(1500))
    return (f"CREATE TABLE t{i} ({columns})" for i in range(1500))


JOURNAL: dict[str, Maker] = {
    "zeros": of_zeros,
    "100,000 failed jobs": own_jobs,
    "jobs of another user": jobs(100_000),
    "too many jobs of another user": jobs(120_000),
    "long jobs": jobs(300, lambda: f'"a": "{"a" * 900_000}"'),
    "lists": jobs(300, lambda: f'"a": [{filled("[],", 900_000)}1]'),
    "values": jobs(300, lambda: f'"a": [{filled("1,", 900_000)}1]'),
    "keys": jobs(2000, lambda: ",".join(f'"{i:x}":1' for i in range(9000))),
    "a job of megabytes": jobs(1, lambda: f'"a": "{"a" * 20_000_000}"'),
    "parameters of megabytes": database(
        lambda: [f"INSERT INTO runs VALUES (1, '{'[' * 20_000_000}')"]
    ),
    "parameters of lists": database(
        lambda: [f"INSERT INTO runs VALUES (1, '[{filled('[],', 900_000)}1]')"]
    ),
    "tables": database(definitions),
    "a definition of megabytes": database(lambda: [f"CREATE TABLE t (a /* {'x' * 900_000} */)"]),
    "states": database(lambda: [RUN], states, ALL_JOBS),
    "workers": jobs(MOST_WORKERS + 9, state="running", worker="w{}"),
}


def result_rows(field: Callable[[], str]) -> Maker:
    """Results of a measurement, in which one field is this one."""
    head = '{"format":"zerocon.bench.row/3","method":"a","recipe":"a","seed":1,"kind":"a",'
    head += '"caption":"a","target_caption":"a","success":true,"preserved":null,'
    head += '"psnr_inside":null,"psnr_outside":null,"evaluations":1,"seconds":1,"setup":{},'
    head += '"settings":{},"native":null'

    def rows() -> Iterable[str]:
        line = f'{head},"errors":{field()}}}\n'
        return repeat(line, results.LONGEST // len(line))

    return text(rows)


RESULTS: dict[str, Maker] = {
    "lists": result_rows(lambda: f"[{filled('[],', 100_000)}1]"),
    "objects": result_rows(lambda: f"[{filled('{},', 100_000)}1]"),
    "numbers": result_rows(lambda: f"[{filled('.1,'.replace('.', '0.'), 100_000)}1]"),
    "keys": result_rows(lambda: "{" + ",".join(f'"{i:x}":1' for i in range(9000)) + "}"),
    "rows": result_rows(lambda: "[]"),
    "short lines": text(many("{}\n", results.LONGEST)),
    "a deep list": text(many("[", results.LONGEST - 10), "\n"),
    "too many bytes": text(many("{}\n", results.LONGEST + 9)),
}
CAPTION: dict[str, Maker] = {
    "too long": text("a" * 50_000),
    "empty lines": text("\n" * 39_000),
}
CASES: dict[str, dict[str, Maker]] = {
    "csv": CSV,
    "jsonl": JSONL,
    "toml": TABLES,
    "config": CONFIG,
    "names": NAMES,
    "sentences": SENTENCES,
    "caption": CAPTION,
    "model": MODEL,
    "translation": {"too many bytes": text(many(" ", 100_001))},
    "recipe": RECIPE,
    "direction": {**headers("direction"), "the largest": vectors(1024, 8192)},
    "inversion": {**headers("inversion"), "1000 steps": trajectory(1001),
                  "2000 steps": trajectory(2001)},
    "journal": JOURNAL,
    "results": RESULTS,
}  # fmt: skip
for kind, cases in CASES.items():
    if kind not in ("recipe", "journal"):
        cases["zeros"] = zeros
