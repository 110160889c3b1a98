"""``zerocon doctor``: check the installation, and a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
import cloup

from zerocon.errors import ExitCode

from .. import config_file, options, render
from ..help import command as help_command
from ..progress import status

if TYPE_CHECKING:
    from zerocon.diagnostics.doctor import Check


@help_command(
    "doctor",
    examples=(
        "zerocon doctor",
        "zerocon --offline doctor",
        "zerocon doctor --format json",
        "zerocon doctor --model ./my-stable-diffusion",
    ),
)
@cloup.option_group(
    "Model",
    click.option(
        "-m",
        "--model",
        metavar="NAME",
        shell_complete=config_file.complete_model,
        help="Check this model, too: a directory, a .safetensors file, a Hub id or mini.",
    ),
    *options.measured_model,
)
@options.output_format
@options.verbosity
def command(form: str, **values: Any) -> None:
    """Check packages, device, memory, models and one small edit.

    The edit is one of a drawn scene by the embedded model, evaluated against the known answer.

    With --model also a model: the values of its networks, its guidance scale, an edit of strength
    0, which must return the source, and an edit of a drawn scene with its default settings, whose
    result is not judged. About 200 U-Net evaluations; no captioner is needed.

    Exit status 1 if a check fails; notes are information only.
    """
    given = [name for name in ("device", "dtype", "offload", "prediction") if values[name]]
    if given and not values["model"]:
        raise click.UsageError(f"--{given[0]} needs --model")
    checks = []
    for check in _examine(values):
        checks.append(check)
        if form not in render.JSON:
            render.print_lines(_lines(check))
    passed = all(check.status != "error" for check in checks)
    if form in render.JSON:
        facts = {"well": passed, "findings": [asdict(check) for check in checks]}
        render.print_result(form, "", {"schema": "zerocon.doctor/1", **facts})
    if not passed:
        click.get_current_context().exit(ExitCode.CHECK_FAILED)


def _examine(values: dict[str, Any]) -> Iterator[Check]:
    """The checks of the installation, then those of the model if one is named."""
    from zerocon.diagnostics.doctor import examine

    with status("Checking the installation ...", options.is_quiet()):
        yield from examine()
    if not values["model"]:
        return
    with status(f"Checking {values['model']} ...", options.is_quiet()):
        from zerocon.diagnostics.model_checks import examine_model
        from zerocon.model import ModelSpec

        given = {name: values.get(name) for name in options.LOAD_OPTIONS}
        yield from examine_model(ModelSpec.of(values["model"], **given))


def _lines(check: Check) -> list[str]:
    """A check as text: its result, then what to do."""
    advice = [f"{'':16}-> {line}" for line in check.advice.split("; ") if line]
    return [f"{check.status:5}  {check.name:8} {check.message}", *advice]
