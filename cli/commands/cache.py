"""``zerocon cache``: the inversions that edits keep, copies of pictures in their way."""

from __future__ import annotations

import click

from .. import options
from . import stock

DAMAGED = 1  # the exit code


@click.group("cache")
def command() -> None:
    """List, check and remove inversions that edits kept (ZEROCON_CACHE says where they lie)."""


@command.command("ls")
@options.form
@options.talk
def listing(form: str) -> None:
    """List them, those unused for longest first."""
    from zerocon.cache import Cache

    stock.tell(form, Cache())


@command.command("prune")
@click.option("--limit", metavar="SIZE", help="Like 500MB. [default: $ZEROCON_CACHE_LIMIT or 2GB]")
@options.form
@options.talk
def pruning(limit: str | None, form: str) -> None:
    """Remove those unused for longest, until the rest takes SIZE at most."""
    from zerocon.cache import Cache, size_of

    cache = Cache()
    stock.tell(form, cache, removed=cache.prune(size_of(limit) if limit else None))


@command.command("verify")
@click.option("--repair", is_flag=True, help="Remove what is damaged; the next edit makes it anew.")
@options.form
@options.talk
def verifying(repair: bool, form: str) -> int:
    """Read every byte of them. Exit code 1 if something damaged is left."""
    from zerocon.cache import Cache

    cache = Cache()
    damaged = cache.damaged()
    removed = cache.remove(damaged) if repair else []
    stock.tell(form, cache, damaged=damaged, removed=removed)
    return 0 if len(removed) == len(damaged) else DAMAGED


@command.command("clear")
@options.form
@options.talk
def clearing(form: str) -> None:
    """Remove all of them."""
    from zerocon.cache import Cache

    cache = Cache()
    stock.tell(form, cache, removed=cache.prune(0))
