"""benchmarks/gpu.sh, tried out on a CPU with tiny networks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "gpu.sh"
TEST = "bfloat16-injection and not guidance and not begin"


def run(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        ["bash", str(SCRIPT), *options],
        env=os.environ | variables, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_the_script_tests_times_and_writes_one_table(tmp_path: Path) -> None:
    done = run(
        "--device", "cpu", "--tiny", "--budget", "90", "--out", str(tmp_path),
        "--methods", "ledits++,img2img,denoising loop",
        PYTEST_ADDOPTS=f"-k '{TEST}'",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    text, report = (
        (tmp_path / "gpu.md").read_text(),
        json.loads((tmp_path / "gpu.json").read_text()),
    )
    assert text in done.stdout
    (test,) = report["tests"]
    assert test["outcome"] == "passed" and float(test["measured"]["dB"]) > 36
    rows = {(row["method"], row["compiled"]): row for row in report["speed"]["rows"]}
    assert all(rows[name, False]["seconds"] > 0 for name in ("ledits++", "img2img"))
    assert "90 s needed" in rows["denoising loop", True]["reason"], "compilation takes minutes"
    assert rows["denoising loop", False]["evaluations"] == 4
    for part in (
        "# cpu", "torch 2.", "diffusers 0.", "commit ", "matrix product", "| sd1 | ledits++ | 1 |",
        "half precision is near float32[bfloat16-injection] | passed | dB ", "at most 8 GB",
    ):  # fmt: skip
        assert part in text
    assert done.stdout.index("| sd1 | ledits++") < done.stdout.index("# cpu"), "printed at once"


@pytest.mark.parametrize("options", [["--fast"], ["--budget"]])
def test_unknown_options_are_refused(options: list[str]) -> None:
    done = run(*options)
    assert done.returncode == 2 and options[0] in done.stderr
