"""Text and tensor files made to exhaust the machine are refused at once, or read in 500 MB.

Every file is read in a fresh process that imports only its reader. Seconds are processor time
without the import of torch; memory is the process's peak, with it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import text_bombs

SECONDS, BYTES = 2, 500_000_000
READ = """
import json, os, sys
from pathlib import Path
kind, path = sys.argv[1], Path(sys.argv[2])
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
def batch(**options):
    from zerocon.batch import BatchOptions
    from zerocon.batch.expansion import expand
    return lambda: len(expand(BatchOptions(output=path.parent / "out", **options)))
def names():
    return batch(files_from=path, to=("dog",))
def config():
    from zerocon.cli import config_file
    return lambda: bool(config_file.read(path))
def sentences():
    from zerocon.prompt import sentence_bank
    return lambda: len(sentence_bank.read(path))
def caption():
    from zerocon.batch.discovery import DiscoveredImage
    return lambda: len(DiscoveredImage(path.with_suffix(".png"), path).caption())
def model():
    from zerocon.model.config import INDEX_BYTES, read_json
    return lambda: len(read_json(path, "a model", INDEX_BYTES))
def translation():
    from zerocon.exemplar.networks import _read_config
    return lambda: len(_read_config(path))
def recipe():
    from zerocon.recipe.replay import read_recipe
    return lambda: bool(read_recipe(path.read_text("utf-8")))
def direction():
    from zerocon.direction import Direction
    return lambda: Direction.load(path).tokens.numel()
def inversion():
    from zerocon.trajectory import Inversion
    return lambda: Inversion.load(path).latents.numel()
def journal():
    from zerocon.batch import status
    from zerocon.batch.commit import recover
    from zerocon.batch.journal import Journal
    def read():
        count = status(path).total
        journal = Journal(path)
        try:
            recover(journal)
        finally:
            journal.close()
        return count
    return read
def results():
    from zerocon.bench.results import EDITS
    return lambda: len(EDITS.read(path))
def manifest():
    return batch(manifest=path)
read = globals().get(kind, manifest)()
before, problem, result = sum(os.times()[:2]), None, None
try:
    result = read()
except Exception as error:
    problem = [getattr(error, "id", type(error).__name__), str(error)]
took = sum(os.times()[:2]) - before
print(json.dumps([problem, result, took, peak()]))
"""
QUICK = ("zeros", "one key of many parts", "one inline key of many parts", "too many bytes")
ALLOWED = {  # what is read, though it is large, and its size
    ("csv", "100,000 rows"): 100_000,
    ("jsonl", "100,000 rows"): 100_000,
    ("journal", "100,000 failed jobs"): 100_000,
    ("journal", "jobs of another user"): 100_000,
    ("direction", "the largest"): 1024 * 8192,
    ("inversion", "1000 steps"): 1001 * 4 * 64 * 64,
}
CASES = [
    pytest.param(kind, name, id=f"{kind}-{name}", marks=[pytest.mark.stress] * (name not in QUICK))
    for kind, cases in text_bombs.CASES.items()
    for name in cases
]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measured on Linux")
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_a_text_is_refused_at_once_or_read_in_little_memory(
    tmp_path: Path, kind: str, name: str
) -> None:
    path = tmp_path / f"file.{'txt' if kind == 'caption' else kind}"
    text_bombs.CASES[kind][name](path)
    command = [sys.executable, "-c", READ, kind, str(path)]
    environment = {**os.environ, "ZEROCON_CACHE": os.environ.get("ZEROCON_CACHE", str(tmp_path))}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=True, env=environment
    )
    assert done.stderr == ""
    problem, result, seconds, peak = json.loads(done.stdout)
    print(kind, name, problem or result, f"{seconds:.2f} s", f"{peak / 1e6:.0f} MB")
    assert peak < BYTES
    if (kind, name) in ALLOWED:
        assert result == ALLOWED[kind, name]
    if problem is not None:
        assert seconds < SECONDS
        assert re.fullmatch(r"ZC-E\d{3}", problem[0])
        assert "\n" not in problem[1] and len(problem[1]) < 5000
