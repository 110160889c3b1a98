"""Methods by name: ``name:key=value,key=value`` becomes a method object, once.

Inverters, guidance losses, attention controls and translators are frozen dataclasses. Their fields
are their options, so that parsing, error messages and the table of ``zerocon methods`` follow from
the class itself.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import math
import re
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from types import MappingProxyType, NoneType
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from zerocon.errors import MethodError

Classes = Mapping[str, str | type]  # a name and its class, or "module:class" until it is used

FAMILIES = {  # the module, and the mapping in it, in which a family's own methods are registered
    "inverter": ("zerocon.inversion", "INVERTERS"),
    "guidance": ("zerocon.guidance", "GUIDANCE"),
    "attention": ("zerocon.attention_control", "ATTENTION"),
    "translator": ("zerocon.exemplar.translators", "TRANSLATORS"),
}


_objects: dict[tuple[str, str], object] = {}  # by family and text, see ``register``


class MethodRow(NamedTuple):
    """One method: name, first line of its docstring, options with their defaults as text."""

    name: str
    summary: str
    options: dict[str, str]


@cache
def available(family: str) -> Classes:
    """All methods of a family: those registered here and those of other packages.

    Other packages register a class under the entry point group ``zerocon.<family>``. A name that
    is registered here cannot be replaced. Entry points are scanned once per process.
    """
    module, mapping = FAMILIES[family]
    registered = getattr(importlib.import_module(module), mapping)
    return MappingProxyType({**_external(family), **registered})


def register(family: str, method: object) -> str:
    """Make an object resolvable in this process, and return its text.

    The text of an object of a registered class is what ``resolve`` reads anywhere; that of any
    other object is its ``repr``, and is known in this process only.
    """
    text = to_text(family, method)
    _objects[family, text] = method
    return text


def resolve(family: str, method: object) -> Any:
    """The method object for ``"name:key=value,..."``; an object is returned as it is.

    Raises:
        MethodError: for an unknown name or option, or a bad value; it lists what is available.
    """
    if not isinstance(method, str):
        return method
    # not cached: a class that was changed in a notebook has objects with the same ``repr``
    registered = _objects.get((family, method))
    return _resolve_text(family, method) if registered is None else registered


@cache
def _resolve_text(family: str, text: str) -> Any:
    return parse(text, available(family), family)


def split(text: str) -> tuple[str, ...]:
    """The methods in ``a,b:key=value,key=value,c``, without repetitions, in order."""
    return tuple(dict.fromkeys(re.split(r",(?![^,:]*=)", text)))


def parse(text: str, classes: Classes, kind: str = "method") -> Any:
    """The method that ``text`` names, with its options, such as ``contrastive:patches=64``.

    Raises:
        MethodError: for an unknown name or option, or a bad value; it lists what is available.
    """
    name, _, options = text.partition(":")
    name = name.strip()
    if name not in classes:
        raise MethodError(f'no {kind} "{name}"; {_choices(name, classes)}')
    cls = _class(classes[name])
    values = _parse_options(options, _option_types(cls), f"{kind} {name}")
    try:
        return cls(**values)
    except ValueError as error:  # the method checks its own values
        raise MethodError(str(error)) from error


def to_text(family: str, method: Any) -> str:
    """The text that ``resolve`` turns into ``method``; its ``repr`` for an unregistered class."""
    if isinstance(method, str):
        return method
    for name, entry in available(family).items():
        if _class(entry) is type(method):
            options = [
                f"{f.name}={_to_text(value)}"
                for f in fields(method)
                if f.init and (value := getattr(method, f.name)) != f.default
            ]
            return f"{name}:{','.join(options)}" if options else name
    return repr(method)


def describe(family: str) -> list[MethodRow]:
    """A row for each method of a family, sorted by name.

    The family's own classes are read from their source, so that listing them imports no torch.
    """
    rows = [*describe_own(family), *_rows_of_others(family)]
    return sorted({row.name: row for row in reversed(rows)}.values())


def describe_own(family: str) -> list[MethodRow]:
    """The rows of zerocon's own methods of a family, which no other package can replace."""
    return _rows_from_source(*FAMILIES[family])


def _external(family: str) -> dict[str, str | type]:
    return {point.name: point.value for point in entry_points(group=f"zerocon.{family}")}


def _rows_of_others(family: str) -> list[MethodRow]:
    rows = []
    for name, entry in _external(family).items():
        try:
            cls = _class(entry)
            summary = (inspect.getdoc(cls) or "").partition("\n")[0]
            options = {f.name: _to_text(f.default) for f in fields(cls) if f.init}
        except Exception as error:  # of another package: the other methods are listed all the same
            summary, options = f"cannot be imported: {error}", {}
        rows.append(MethodRow(name, summary, options))
    return rows


def _rows_from_source(module: str, mapping: str) -> list[MethodRow]:
    """Rows of the classes that ``mapping``, a literal dictionary of ``module``, names."""
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None, module
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == mapping:
            assert isinstance(node.value, ast.Dict), mapping
            pairs = zip(node.value.keys, node.value.values, strict=True)
            return [
                _row_from_class(ast.literal_eval(key), classes[ast.unparse(value)])
                for key, value in pairs
                if key is not None
            ]
    raise LookupError(f"{module} has no {mapping}")


def _row_from_class(name: str, node: ast.ClassDef) -> MethodRow:
    options = {
        ast.unparse(line.target): _to_text(ast.literal_eval(line.value))
        for line in node.body
        if isinstance(line, ast.AnnAssign)
        and line.value is not None
        and "ClassVar" not in ast.unparse(line.annotation)
    }
    return MethodRow(name, (ast.get_docstring(node) or "").partition("\n")[0], options)


def _class(entry: str | type) -> Any:
    return resolve_name(entry) if isinstance(entry, str) else entry


def _option_types(cls: Any) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {f.name: hints[f.name] for f in fields(cls) if f.init}


def _parse_options(text: str, types: Mapping[str, Any], method: str) -> dict[str, Any]:
    options = {}
    for pair in text.split(",") if text.strip() else []:
        key, _, value = (part.strip() for part in pair.partition("="))
        if key not in types:
            raise MethodError(f'{method} has no option "{key}"; {_choices(key, types)}')
        try:
            options[key] = _parse_value(value, types[key])
        except ValueError as error:
            raise MethodError(f"{method}: {key}={value}: {error}") from None
    return options


def _parse_value(text: str, wanted: Any) -> Any:
    if get_origin(wanted) is Literal:
        if text not in get_args(wanted):
            raise ValueError(f"must be {' or '.join(get_args(wanted))}")
        return text
    if get_origin(wanted) is tuple:  # of one type, as in tuple[int, ...]
        return tuple(_parse_value(part, get_args(wanted)[0]) for part in text.split("+"))
    if NoneType in get_args(wanted):  # a type or None
        return None if text == "none" else _parse_value(text, get_args(wanted)[0])
    if wanted is bool:
        if text not in ("true", "false"):
            raise ValueError("must be true or false")
        return text == "true"
    try:
        value = wanted(text)
    except ValueError:
        noun = {int: "an integer", float: "a number"}.get(wanted, wanted.__name__)
        raise ValueError(f"must be {noun}") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be a finite number")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError("must be an integer of at most 64 bits")
    return value


def _to_text(value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(map(_to_text, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _choices(name: str, names: Mapping[str, Any]) -> str:
    """What there is instead of ``name``, and the nearest of it."""
    close = get_close_matches(name, names, 1)
    hint = f' (did you mean "{close[0]}"?)' if close else ""
    return f"there are: {', '.join(names) or 'none'}{hint}"
