"""The table of ``zerocon bench speed --suite`` from its JSON; needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

HEAD = (
    "shape", "method", "images", "compiled", "seconds", "evaluations", "TFLOP/s",
    "times the FLOP limit", "GB", "first run",
)  # fmt: skip


def markdown_head() -> str:
    """The table's first two lines."""
    return _line(HEAD) + "\n" + _line(("---",) * len(HEAD))


def markdown_row(row: Mapping[str, Any]) -> str:
    """One line of the table of a row as JSON; seconds and evaluations are per image."""
    facts = (row["shape"], row["method"], f"{row['images']}", "yes" if row["compiled"] else "no")
    if row["times_limit"] is None:
        return _line((*facts, f"not measured: {row['reason']}", *[""] * 5))
    return _line((
        *facts, f"{row['seconds']:.3g}", f"{row['evaluations']:.1f}",
        f"{row['operations'] / row['seconds'] / 1e12:.3g}", f"{row['times_limit']:.1f}",
        "-" if row["memory"] is None else f"{row['memory'] / 1e9:.2f}", f"{row['warm_up']:.1f}",
    ))  # fmt: skip


def markdown_targets(targets: Sequence[Mapping[str, Any]]) -> str:
    """A list of targets as JSON."""
    words = {None: "not measured", True: "met", False: "not met"}
    return "\n".join(
        f"- {each['text']}: {words[each['met']]}"
        + ("" if each["value"] is None else f" ({each['value']:.2f})")
        for each in targets
    )


def markdown_of(report: Mapping[str, Any]) -> str:
    """Table and targets of a report of ``suite.to_json``."""
    rows = "\n".join(map(markdown_row, report["rows"]))
    return f"{markdown_head()}\n{rows}\n\n{markdown_targets(report['targets'])}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
