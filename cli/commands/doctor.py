"""``zerocon doctor``: check the installation."""

from __future__ import annotations

from dataclasses import asdict

import click

from zerocon.errors import ExitCode

from .. import options, render
from ..help import command as help_command


@help_command(
    "doctor",
    examples=(
        "zerocon doctor",
        "zerocon --offline doctor",
        "zerocon doctor --format json",
    ),
)
@options.output_format
@options.verbosity
def command(form: str) -> None:
    """Check packages, device, memory, models and one small edit.

    The edit is one of a drawn scene by the embedded model, evaluated against the known answer.
    Exit status 1 if a check fails; notes are information only.
    """
    from zerocon.diagnostics.doctor import examine

    checks = list(examine())
    lines = []
    for check in checks:
        lines.append(f"{check.status:5}  {check.name:8} {check.message}")
        lines += [f"{'':16}-> {advice}" for advice in check.advice.split("; ") if advice]
    passed = all(check.status != "error" for check in checks)
    facts = {"well": passed, "findings": [asdict(check) for check in checks]}
    render.print_result(form, "\n".join(lines), {"schema": "zerocon.doctor/1", **facts})
    if not passed:
        click.get_current_context().exit(ExitCode.CHECK_FAILED)
