"""``zerocon doctor``: does it work here?"""

from __future__ import annotations

from dataclasses import asdict

import click

from .. import options, render

UNWELL = 1  # the exit code where something is wrong


@click.command("doctor")
@options.form
@options.talk
def command(form: str) -> None:
    """Look at packages, device, memory, cache and models, and make one small edit.

    It is an edit of a drawn scene by the embedded model, judged against what was asked. Exit code 1
    if something is wrong; notes are worth knowing, and no more.
    """
    from zerocon.diagnostics.doctor import examine

    found = list(examine())
    lines = []
    for each in found:
        lines.append(f"{each.status:5}  {each.name:8} {each.said}")
        lines += [f"{'':16}-> {advice}" for advice in each.advice.split("; ") if advice]
    well = all(each.status != "wrong" for each in found)
    facts = {"well": well, "findings": [asdict(each) for each in found]}
    render.tell(form, "\n".join(lines), {"schema": "zerocon.doctor/1", **facts})
    if not well:
        click.get_current_context().exit(UNWELL)
