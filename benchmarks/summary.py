"""One table of what ``benchmarks/gpu.sh`` measured: ``gpu.md`` and ``gpu.json`` in its folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from zerocon.bench.timing_table import markdown_of


def read_tests(path: Path) -> list[dict[str, Any]]:
    """Name, outcome, reason and measured numbers of each test in a JUnit file."""
    if not path.is_file():
        return []
    rows = []
    for case in ElementTree.parse(path).iter("testcase"):
        outcomes = {each.tag: each.get("message", "") for each in case}
        outcome = next((o for o in ("failure", "error", "skipped") if o in outcomes), "passed")
        rows.append(
            {
                "name": case.get("name", "").removeprefix("test_").replace("_", " "),
                "outcome": {"failure": "failed"}.get(outcome, outcome),
                "reason": outcomes.get(outcome, "").splitlines()[:1],
                "seconds": float(case.get("time", 0)),
                "measured": {p.get("name"): p.get("value") for p in case.iter("property")},
            }
        )
    return rows


def commit(root: Path) -> str:
    """Of the checkout, with ``-dirty`` where files differ; "unknown" outside of one."""
    done = subprocess.run(
        ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"],
        capture_output=True,
        text=True,
    )
    return done.stdout.strip() or "unknown"


def as_markdown(report: dict[str, Any]) -> str:
    """The whole report."""
    speed, tests = report["speed"], report["tests"]
    card = speed.get("card") or speed.get("device", "no device")
    facts = [f"commit {report['commit']}"]
    facts += [f"{name} {speed[name]}" for name in PACKAGES if speed.get(name)]
    if speed:
        facts += [speed["dtype"], f"matrix product {speed['rate'] / 1e12:.3g} TFLOP/s"]
    lines = [f"# {card}", "", ", ".join(facts), "", "## Correctness", ""]
    if not tests:
        lines.append("The tests did not finish.")
    else:
        lines += ["| test | outcome | measured |", "|---|---|---|"]
        lines += [f"| {row['name']} | {row['outcome']} | {_numbers(row)} |" for row in tests]
    return "\n".join(
        [*lines, "", "## Speed", "", markdown_of(speed) if speed else "Nothing was timed.", ""]
    )


PACKAGES = ("zerocon", "torch", "diffusers", "transformers", "cuda")


def _numbers(row: dict[str, Any]) -> str:
    measured = [f"{name} {value}" for name, value in row["measured"].items()]
    return ", ".join(measured or row["reason"])


def main(folder: Path) -> None:
    """Join the files of one run, print the table and write it."""
    path = folder / "speed.json"
    speed = json.loads(path.read_text()) if path.is_file() else {}
    root = Path(__file__).parent.parent
    report = {"commit": commit(root), "tests": read_tests(folder / "tests.xml"), "speed": speed}
    text = as_markdown(report)
    (folder / "gpu.json").write_text(json.dumps(report, indent=2) + "\n")
    (folder / "gpu.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
