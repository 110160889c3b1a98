"""``name:key=value,key=value`` to a method object, checked against the method's own fields."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import fields
from importlib.metadata import entry_points
from pkgutil import resolve_name
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from zerocon.errors import MethodError

FAMILIES = {  # of methods: the module and the mapping in which our own are registered
    "inverter": ("zerocon.inversion", "INVERTERS"),
    "guidance": ("zerocon.guidance", "GUIDANCE"),
}

Known = Mapping[str, str | type]  # a name and its class, or "module:class" until it is used


def available(family: str) -> dict[str, str | type]:
    """Methods of a family, ours and other packages' (entry points "zerocon.<family>"); ours win."""
    module, name = FAMILIES[family]
    own = getattr(importlib.import_module(module), name)
    others = {point.name: point.value for point in entry_points(group=f"zerocon.{family}")}
    return {**others, **own}


def parse(text: str, known: Known, kind: str = "method") -> Any:
    """The method that ``text`` names, with the options it gives, e.g. ``contrastive:patches=64``.

    Raises ``ValueError``, listing what there is, for an unknown name or option, or a bad value.
    """
    name, _, rest = text.partition(":")
    if name not in known:
        raise MethodError(f'no {kind} "{name}"; there are: {", ".join(sorted(known))}')
    cls = _class(known[name])
    types, options = _types(cls), {}
    for pair in rest.split(",") if rest else []:
        key, _, value = pair.partition("=")
        if key not in types:
            there = ", ".join(types) or "none"
            raise MethodError(f'{kind} {name} has no option "{key}"; there are: {there}')
        try:
            options[key] = _value(value, types[key])
        except ValueError as error:
            raise MethodError(f"{kind} {name}: {key}={value}: {error}") from None
    try:
        return cls(**options)
    except ValueError as error:  # the method's own word on the values
        raise MethodError(str(error)) from error


def describe(known: Known) -> list[tuple[str, str, dict[str, str]]]:
    """Rows of name, first line of the docstring, and options with defaults as ``parse`` reads."""
    rows = []
    for name in sorted(known):
        cls = _class(known[name])
        shown = {f.name: _text(f.default) for f in fields(cls) if f.init}
        rows.append((name, (cls.__doc__ or "").strip().partition("\n")[0], shown))
    return rows


def _class(entry: str | type) -> Any:
    return resolve_name(entry) if isinstance(entry, str) else entry


def _types(cls: Any) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {f.name: hints[f.name] for f in fields(cls) if f.init}


def _value(text: str, wanted: Any) -> Any:
    if get_origin(wanted) is Literal:
        if text not in get_args(wanted):
            raise ValueError(f"must be {' or '.join(get_args(wanted))}")
        return text
    if get_origin(wanted) is tuple:  # of one type, as in tuple[int, ...]
        return tuple(_value(part, get_args(wanted)[0]) for part in text.split("+"))
    if NoneType in get_args(wanted):  # a type or None
        return None if text == "none" else _value(text, get_args(wanted)[0])
    if wanted is bool:
        if text not in ("true", "false"):
            raise ValueError("must be true or false")
        return text == "true"
    try:
        return wanted(text)
    except ValueError:
        noun = {int: "a whole number", float: "a number"}.get(wanted, wanted.__name__)
        raise ValueError(f"must be {noun}") from None


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(map(_text, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
