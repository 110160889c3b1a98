"""Options of ``zerocon bench world`` that say what is compared, and where it is kept."""

from __future__ import annotations

import re
from pathlib import Path

import click

from ..options import together

# bank, caption and mean are there too: one of them is the model's default already
METHODS = "identity,vae,from-scratch,default,fast,no-guidance,cross-attention,contrastive,"
METHODS += "plain-ddim,word-swap,pix2pix-zero"


def shard(text: str) -> tuple[int, int]:
    """``I/N``, I from 1 to N."""
    part, of = map(int, text.split("/")) if re.fullmatch(r"\d+/\d+", text) else (0, 0)
    if not 1 <= part <= of:
        raise click.BadParameter(f"{text!r} is not like 1/4")
    return part, of


what = together(
    click.option(
        "--methods",
        metavar="NAME,NAME,...",
        default=METHODS,
        show_default=True,
        help="What is compared; also bank, caption, mean (where the direction comes from), and a "
        "peer with options, as pix2pix-zero:amount=0.3.",
    ),
    click.option(
        "--per-kind",
        type=click.IntRange(1),
        default=25,
        show_default=True,
        help="Scenes for every kind of edit.",
    ),
    click.option(
        "--skip",
        type=click.IntRange(0),
        default=0,
        help="Leave out so many of every kind first: scenes that nobody has looked at yet.",
    ),
    click.option(
        "--split",
        type=click.Choice(["validation", "test"]),
        default="validation",
        show_default=True,
        help="Tune on validation; look at test once.",
    ),
    click.option("--shard", type=shard, default="1/1", metavar="I/N", help="Do part I of N only."),
    click.option(
        "--batch-size",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        help="Scenes edited together: faster, and the same but for rounding. Seconds are then a "
        "scene's share; pix2pix-zero takes one scene at a time.",
    ),
    click.option(
        "--true-captions", is_flag=True, help="Give the true captions instead of asking for them."
    ),
    click.option(
        "--results",
        "lines",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Save a JSON line per edit as soon as it is done. Started again with the same file, "
        "only what is missing is done.",
    ),
    click.option(
        "--sheet", type=click.Path(path_type=Path), help="Save source, edit and truth (one method)."
    ),
)
