"""``name:key=value,key=value`` to a method object, checked against the method's own fields."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import fields
from importlib.metadata import entry_points
from pathlib import Path
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
    return {**dict(_entry_points(family)), **own}


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
    return [(name, *_from_class(_class(known[name]))) for name in sorted(known)]


def describe_family(family: str) -> list[tuple[str, str, dict[str, str]]]:
    """The same rows for ``available(family)``, without importing torch.

    Our own methods are read from the source of their module, and only those of other packages are
    imported.
    """
    own = _from_source(*FAMILIES[family])
    others = {name: _from_class(resolve_name(value)) for name, value in _entry_points(family)}
    return [(name, *row) for name, row in sorted({**others, **own}.items())]


def _from_class(cls: Any) -> tuple[str, dict[str, str]]:
    """First line of the docstring, and options with their defaults."""
    shown = {f.name: _text(f.default) for f in fields(cls) if f.init}
    return (cls.__doc__ or "").strip().partition("\n")[0], shown


def _from_source(module: str, mapping: str) -> dict[str, tuple[str, dict[str, str]]]:
    """The same for the dataclasses in ``mapping`` ({"name": Class, ...}), by name."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None, module
    body = ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body
    classes = {node.name: node for node in body if isinstance(node, ast.ClassDef)}
    (methods,) = (
        node.value
        for node in body
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict)
        if ast.unparse(node.target) == mapping
    )
    return {
        ast.literal_eval(name): _from_node(classes[ast.unparse(cls)])
        for name, cls in zip(methods.keys, methods.values, strict=True)
        if name is not None
    }


def _from_node(cls: ast.ClassDef) -> tuple[str, dict[str, str]]:
    """The same for one class, whose fields have literals as defaults."""
    shown = {
        ast.unparse(node.target): _text(ast.literal_eval(node.value))
        for node in cls.body
        if isinstance(node, ast.AnnAssign) and node.value is not None
        if not ast.unparse(node.annotation).startswith("ClassVar")
    }
    return (ast.get_docstring(cls) or "").partition("\n")[0], shown


def _entry_points(family: str) -> Iterator[tuple[str, str]]:
    return ((point.name, point.value) for point in entry_points(group=f"zerocon.{family}"))


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
