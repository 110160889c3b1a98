"""``zerocon cache``: list, check and remove cached inversions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from zerocon.errors import ExitCode

from .. import options, render
from ..help import group

if TYPE_CHECKING:
    from zerocon.cache import Cache, CacheEntry

MEGABYTE = 1e6


@group(
    "cache",
    examples=(
        "zerocon cache ls",
        "zerocon cache prune --limit 500MB",
        "zerocon cache verify --repair",
        "zerocon cache clear",
    ),
)
def command() -> None:
    """List, check and remove cached inversions (ZEROCON_CACHE).

    A cached inversion can be decoded to the image that it was computed from.
    """


@command.subcommand("ls", examples=("zerocon cache ls --format json",))
@options.output_format
@options.verbosity
def list_entries(form: str) -> None:
    """List the cached inversions, least recently used first."""
    from zerocon.cache import Cache

    _print(form, Cache())


@command.subcommand("prune", examples=("zerocon cache prune --limit 500MB",))
@click.option(
    "--limit",
    metavar="SIZE",
    help="Total size, such as 500MB. [default: $ZEROCON_CACHE_LIMIT, else 2GB]",
)
@options.output_format
@options.verbosity
def prune(limit: str | None, form: str) -> None:
    """Remove least recently used inversions above a total size."""
    from zerocon.cache import Cache, size_of

    cache = Cache()
    _print(form, cache, removed=cache.prune(size_of(limit) if limit else None))


@command.subcommand("verify", examples=("zerocon cache verify --repair",))
@click.option("--repair", is_flag=True, help="Remove damaged entries.")
@options.output_format
@options.verbosity
def verify(repair: bool, form: str) -> int:
    """Read all cached inversions and report damaged ones.

    Exit status 1 if a damaged entry is left.
    """
    from zerocon.cache import Cache

    cache = Cache()
    damaged = cache.damaged()
    removed = cache.remove(damaged) if repair else []
    _print(form, cache, damaged=damaged, removed=removed)
    return ExitCode.OK if len(removed) == len(damaged) else ExitCode.CHECK_FAILED


@command.subcommand("clear", examples=("zerocon cache clear",))
@options.output_format
@options.verbosity
def clear(form: str) -> None:
    """Remove all cached inversions."""
    from zerocon.cache import Cache

    cache = Cache()
    _print(form, cache, removed=cache.prune(0))


def _print(
    form: str,
    cache: Cache,
    *,
    removed: Sequence[CacheEntry] = (),
    damaged: Sequence[CacheEntry] = (),
) -> None:
    """The entries, and those removed and damaged, as the schema ``zerocon.cache/1``."""
    entries = [_record(entry) for entry in cache.entries()]
    size = sum(entry["bytes"] for entry in entries)
    lines = [*map(_line, entries)]
    lines += [f"damaged: {entry.path.name}" for entry in damaged]
    lines += [f"removed: {entry.path.name}" for entry in removed]
    lines.append(
        f"{cache.folder}: {len(entries)} inversions, {size / MEGABYTE:.1f} of "
        f"{cache.limit / MEGABYTE:g} MB"
    )
    facts = {"folder": str(cache.folder), "limit": cache.limit, "bytes": size, "entries": entries}
    facts |= {"damaged": [each.path.name for each in damaged]}
    facts |= {"removed": [each.path.name for each in removed]}
    render.print_result(form, lines, {"schema": "zerocon.cache/1", **facts})


def _record(entry: CacheEntry) -> dict[str, Any]:
    used = datetime.fromtimestamp(entry.used, UTC).isoformat(timespec="seconds")
    return {"file": entry.path.name, "bytes": entry.bytes, "used": used, **entry.facts()}


def _line(record: dict[str, Any]) -> str:
    """``0a1b2c3d4e5f  42.7 MB  2026-01-31T12:00:00+00:00  mini, 50 steps: a drawing of a fox``"""
    inversion = f"{record['model']}, {record['steps']} steps: {record['caption']}"
    content = "cannot be read" if record["caption"] is None else inversion
    size = f"{record['bytes'] / MEGABYTE:.1f} MB"
    return f"{record['file'][:12]}  {size:>9}  {record['used']}  {content}"
