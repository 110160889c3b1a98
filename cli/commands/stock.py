"""What is said of the cache of inversions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from .. import render

if TYPE_CHECKING:
    from zerocon.cache import Cache, CacheEntry

MEGABYTE = 1e6


def tell(
    form: str,
    cache: Cache,
    *,
    removed: Sequence[CacheEntry] = (),
    damaged: Sequence[CacheEntry] = (),
) -> None:
    """What is there now, and what was found on the way, as the schema ``zerocon.cache/1``."""
    there = [_facts(entry) for entry in cache.entries()]
    size = sum(each["bytes"] for each in there)
    lines = [*map(_line, there)]
    lines += [f"damaged: {entry.path.name}" for entry in damaged]
    lines += [f"removed: {entry.path.name}" for entry in removed]
    lines.append(
        f"{cache.folder}: {len(there)} kept, {size / MEGABYTE:.1f} of "
        f"{cache.limit / MEGABYTE:g} MB at most"
    )
    facts = {"folder": str(cache.folder), "limit": cache.limit, "bytes": size, "entries": there}
    gone = {"damaged": [each.path.name for each in damaged]}
    gone |= {"removed": [each.path.name for each in removed]}
    render.tell(form, "\n".join(lines), {"schema": "zerocon.cache/1", **facts, **gone})


def _facts(entry: CacheEntry) -> dict[str, Any]:
    used = datetime.fromtimestamp(entry.used, UTC).isoformat(timespec="seconds")
    return {"file": entry.path.name, "bytes": entry.bytes, "used": used, **entry.facts()}


def _line(facts: dict[str, Any]) -> str:
    """``0a1b2c3d4e5f  42.7 MB  2026-01-31T12:00:00+00:00  mini, 50 steps: a drawing of a fox``"""
    said = f"{facts['model']}, {facts['steps']} steps: {facts['caption']}"
    about = "cannot be read" if facts["caption"] is None else said
    size = f"{facts['bytes'] / MEGABYTE:.1f} MB"
    return f"{facts['file'][:12]}  {size:>9}  {facts['used']}  {about}"
