"""What is said of directions: in a line, on a page, in a table, as a record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zerocon import Direction

SHOWN = 3  # sentences of each side


def summary(direction: Direction) -> str:
    """``cat -> dog: 72 and 72 sentences; 0.83 of their length``"""
    source, target = map(len, direction.sentences)
    relative = float(direction.profile()[1].mean())
    return f"{direction}: {source} and {target} sentences; {relative:.2f} of their length"


def record(direction: Direction) -> dict[str, Any]:
    """Everything but the numbers of the vectors, as the schema ``zerocon.direction/1``."""
    lengths, relative = (each.tolist() for each in direction.profile())
    return {
        "schema": "zerocon.direction/1",
        "from": list(direction.source),
        "to": list(direction.target),
        "sentences": dict(zip(("from", "to"), map(list, direction.sentences), strict=True)),
        "encoder": direction.encoder,
        "model": direction.model,
        "zerocon": direction.version,
        "features": direction.tokens.shape[-1],
        "relative_length": sum(relative) / len(relative),
        "lengths": lengths,
        "relative_lengths": relative,
    }


def page(direction: Direction) -> str:
    """For people: words, maker, the first sentences, and where it is long."""
    sides = zip(("from", "to"), direction.sentences, strict=True)
    return "\n".join(
        [
            summary(direction),
            f"made by zerocon {direction.version} with {direction.model}, "
            f"text encoder {direction.encoder}",
            *(f"{side}: {_first(sentences)}" for side, sentences in sides),
            "",
            *_profile(direction),
        ]
    )


def _first(sentences: tuple[str, ...]) -> str:
    return "; ".join(sentences[:SHOWN]) + ("; ..." if len(sentences) > SHOWN else "")


def _profile(direction: Direction) -> list[str]:
    """Rows of positions in groups that double: what tells words apart stands at the beginning."""
    lengths, relative = direction.profile()
    shares = lengths**2 / (lengths**2).sum().clamp_min(1e-12)
    rows = ["| positions | length | relative | share |", "|---|---|---|---|"]
    first, last = 0, 1
    while first < len(lengths):
        last = min(last, len(lengths))
        part, name = slice(first, last), f"{first}..{last - 1}" if last - first > 1 else f"{first}"
        mean, near, share = lengths[part].mean(), relative[part].mean(), shares[part].sum()
        rows.append(f"| {name} | {mean:.2f} | {near:.2f} | {share:.0%} |")
        first, last = last, 2 * last
    return rows


def likenesses(direction: Direction, rows: list[dict[str, Any]]) -> str:
    """A table of pictures: CLIP's cosine to both sides' words, and the direction's length there."""
    source, target = ", ".join(direction.source), ", ".join(direction.target)
    lines = [f"| picture | caption | {source} | {target} | length |", "|---|---|---|---|---|"]
    for row in rows:
        numbers = f"{row['from']:.3f} | {row['to']:.3f} | {row['length']:.2f}"
        lines.append(f"| {row['input']} | {row['caption']} | {numbers} |")
    return "\n".join(lines)
