"""Text to method object, checked with toy methods, since one parser serves every family."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from importlib import import_module
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerocon import registry
from zerocon.registry import available, describe, parse, resolve


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


CLASSES: dict[str, str | type] = {"magnet": Magnet, "rest": f"{__name__}:Rest"}


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
        ("magnet: weight=3, patches=64", Magnet(weight=3.0, patches=64)),
        (" magnet ", Magnet()),
        ("rest", Rest()),
    ],
)
def test_parse(text: str, method: object) -> None:
    assert parse(text, CLASSES) == method


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
        ("magnet:patches=2.5", "guidance magnet: patches=2.5: must be an integer"),
        ("magnet:weight", "guidance magnet: weight=: must be a number"),
        ("magnet:sizes=1+", "guidance magnet: sizes=1+: must be an integer"),
        ("magnet:targets=firm", "guidance magnet: targets=firm: must be soft or hard"),
        ("magnet:loud=yes", "guidance magnet: loud=yes: must be true or false"),
        ("magnet:patches=1", "patches must be at least 2"),
        ("rest:weight=1", 'guidance rest has no option "weight"; there are: none'),
    ],
)
def test_a_mistake_is_one_line_that_lists_what_is_available(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)) as caught:
        parse(text, CLASSES, "guidance")
    assert "\n" not in str(caught.value)


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A family of methods with a module of its own, and entry points of other packages."""
    family: Any = ModuleType("zerocon.toys")
    family.TOYS = {"magnet": Magnet}
    monkeypatch.setitem(sys.modules, "zerocon.toys", family)
    monkeypatch.setitem(registry.FAMILIES, "toys", ("zerocon.toys", "TOYS"))
    points = [
        EntryPoint("rest", f"{__name__}:Rest", "zerocon.toys"),
        EntryPoint("magnet", "elsewhere:Impostor", "zerocon.toys"),
        EntryPoint("broken", "no_such_package:Thing", "zerocon.toys"),
    ]
    monkeypatch.setattr(
        registry, "entry_points", lambda group: [p for p in points if p.group == group]
    )
    clear_caches()
    yield
    clear_caches()


def clear_caches() -> None:
    registry.available.cache_clear()
    registry._resolve_text.cache_clear()


@pytest.mark.parametrize("family", ["guidance", "inverter", "attention"])
def test_rows_read_from_source_are_those_of_the_classes(family: str) -> None:
    module, mapping = registry.FAMILIES[family]
    classes = getattr(import_module(module), mapping)
    assert [row.name for row in describe(family)] == sorted(classes)
    for name, summary, options in describe(family):
        cls = classes[name]
        assert summary == cls.__doc__.partition("\n")[0]
        assert options == {f.name: registry._to_text(f.default) for f in fields(cls) if f.init}


def test_listing_methods_imports_no_torch() -> None:
    code = "import sys; from zerocon.registry import describe"
    code += "; describe('guidance'); describe('inverter'); describe('attention')"
    code += "; print('torch' in sys.modules or 'numpy' in sys.modules)"
    output = subprocess.check_output([sys.executable, "-P", "-c", code], text=True)
    assert output.strip() == "False"


@pytest.mark.usefixtures("toys")
def test_rows_of_other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_rows_from_source", lambda module, mapping: [])
    rows = {row.name: row for row in describe("toys")}
    assert rows["rest"] == ("rest", "Do nothing.", {})
    assert rows["broken"].summary.startswith("cannot be imported")


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
def test_options_as_text_can_be_parsed_again(method: Magnet) -> None:
    options = (f"{f.name}={registry._to_text(getattr(method, f.name))}" for f in fields(method))
    assert parse("magnet:" + ",".join(options), CLASSES) == method


@pytest.mark.usefixtures("toys")
def test_available_joins_other_packages_and_keeps_registered_names() -> None:
    classes = available("toys")
    assert classes["magnet"] is Magnet
    assert parse("rest", classes) == Rest()  # the broken one is not imported
    assert resolve("toys", "rest") == Rest()


@pytest.mark.usefixtures("toys")
def test_a_method_is_parsed_once_and_an_object_is_taken_as_it_is() -> None:
    assert resolve("toys", "magnet:weight=2") is resolve("toys", "magnet:weight=2")
    assert resolve("toys", Rest()) == Rest()


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize(
    ("method", "text"),
    [
        (Magnet(), "magnet"),
        (Magnet(weight=2.0, sizes=(4, 8)), "magnet:weight=2.0,sizes=4+8"),
        ("magnet:weight=2", "magnet:weight=2"),
    ],
)
def test_to_text_is_what_resolve_reads(method: object, text: str) -> None:
    assert registry.to_text("toys", method) == text
    assert resolve("toys", text) == resolve("toys", method)
