"""Text to method: checked with methods of our own, since the parser serves every family."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, fields
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerocon import registry
from zerocon.registry import available, describe, parse


@dataclass(frozen=True)
class Magnet:
    """Pull things together.

    More about it.
    """

    weight: float = 0.5
    patches: int = 256
    sizes: tuple[int, ...] = (1, 2)
    targets: Literal["soft", "hard"] = "soft"
    loud: bool = False
    limit: float | None = None

    layer_patterns: ClassVar[frozenset[str]] = frozenset({"cross"})

    def __post_init__(self) -> None:
        if self.patches < 2:
            raise ValueError("patches must be at least 2")


@dataclass(frozen=True)
class Rest:
    """Do nothing."""


KNOWN: dict[str, str | type] = {"magnet": Magnet, "rest": f"{__name__}:Rest"}


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("magnet", Magnet()),
        ("magnet:weight=2", Magnet(weight=2.0)),
        ("magnet:weight=-1e-3,patches=64", Magnet(weight=-1e-3, patches=64)),
        ("magnet:sizes=4", Magnet(sizes=(4,))),
        ("magnet:sizes=1+2+4,targets=hard", Magnet(sizes=(1, 2, 4), targets="hard")),
        ("magnet:loud=true,limit=0.1", Magnet(loud=True, limit=0.1)),
        ("magnet:limit=none", Magnet()),
        ("rest", Rest()),
    ],
)
def test_parse(text: str, method: object) -> None:
    assert parse(text, KNOWN) == method


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("magnets", 'no guidance "magnets"; there are: magnet, rest'),
        ("", 'no guidance ""; there are: magnet, rest'),
        (
            "magnet:wieght=1",
            'guidance magnet has no option "wieght"; there are: '
            "weight, patches, sizes, targets, loud, limit",
        ),
        ("magnet:watches=cross", 'guidance magnet has no option "watches"; there are: weight'),
        ("magnet:patches=2.5", "guidance magnet: patches=2.5: must be a whole number"),
        ("magnet:weight", "guidance magnet: weight=: must be a number"),
        ("magnet:sizes=1+", "guidance magnet: sizes=1+: must be a whole number"),
        ("magnet:targets=firm", "guidance magnet: targets=firm: must be soft or hard"),
        ("magnet:loud=yes", "guidance magnet: loud=yes: must be true or false"),
        ("magnet:patches=1", "patches must be at least 2"),
        ("rest:weight=1", 'guidance rest has no option "weight"; there are: none'),
    ],
)
def test_a_mistake_is_one_line_that_says_what_there_is(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)) as caught:
        parse(text, KNOWN, "guidance")
    assert "\n" not in str(caught.value)


def test_describe_rows() -> None:
    (name, line, options), rest = describe(KNOWN)
    assert (name, line) == ("magnet", "Pull things together.")
    assert options == {
        "weight": "0.5",
        "patches": "256",
        "sizes": "1+2",
        "targets": "soft",
        "loud": "false",
        "limit": "none",
    }
    assert rest == ("rest", "Do nothing.", {})


@given(
    st.builds(
        Magnet,
        weight=st.floats(allow_nan=False, allow_infinity=False),
        patches=st.integers(2, 10**6),
        sizes=st.lists(st.integers(1, 9), min_size=1).map(tuple),
        targets=st.sampled_from(["soft", "hard"]),
        loud=st.booleans(),
        limit=st.none() | st.floats(0, 1),
    )
)
def test_what_is_shown_can_be_typed(method: Magnet) -> None:
    options = (f"{f.name}={registry._text(getattr(method, f.name))}" for f in fields(method))
    assert parse("magnet:" + ",".join(options), KNOWN) == method


def test_available_joins_other_packages_and_keeps_our_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    family: Any = ModuleType("zerocon.toys")
    family.TOYS = {"magnet": Magnet}
    monkeypatch.setitem(sys.modules, "zerocon.toys", family)
    points = [
        EntryPoint("rest", f"{__name__}:Rest", "zerocon.toys"),
        EntryPoint("magnet", "elsewhere:Impostor", "zerocon.toys"),
        EntryPoint("broken", "no_such_package:Thing", "zerocon.toys"),
    ]
    monkeypatch.setattr(
        registry, "entry_points", lambda group: [p for p in points if p.group == group]
    )
    known = available("toys")
    assert known["magnet"] is Magnet
    assert parse("rest", known) == Rest()  # and nothing was asked of the broken one
