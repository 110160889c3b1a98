"""Who may import whom, read from the source: a module uses its own layer and those below."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

LAYERS = {
    0: "chance colour comparison diffusion errors evaluations files formats images naming "
    "photograph provenance registry settings shapes",
    1: "attention captioning mini model observation world",
    2: "direction guidance inversion scheme sentences wording",
    3: "album cache editing explanation forecast library memory painting plots previews recipe",
    4: "batch bench cli mini.training",
}
LAYER = {name: layer for layer, names in LAYERS.items() for name in names.split()}

STANDARD_ONLY = {"errors", "registry", "settings", "files", "evaluations", "naming", "__init__"}
WITHOUT_TORCH = {"sentences", "wording", "world", "mini"}
HEAVY = {"diffusers", "transformers", "tokenizers", "accelerate", "huggingface_hub"}
HEAVY_DOORS = {"model", "mini.training", "bench"}
TYPING = {"cli.configuration"}  # looks into the Hub's cache while somebody types: torch is slower
DRAWERS = {"world", "mini.training", "bench"}


def sources() -> dict[str, Path]:
    """Module names without "zerocon." to files, those of cli/ included."""
    found = {}
    for folder, prefix in ((ROOT / "zerocon", ""), (ROOT / "cli", "cli.")):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = prefix + ".".join(p for p in parts if p != "__init__")
            found[name.rstrip(".") or "__init__"] = path
    return found


SOURCES = sources()


def room(module: str) -> str:
    """The name in ``LAYERS`` under which a module lives."""
    parts = module.split(".")
    nested = ".".join(parts[:2])
    return nested if nested in LAYER else parts[0]


def imports(module: str, *, top_only: bool = False) -> Iterator[str]:
    """Absolute names that a module imports; with ``top_only``, those that cost on import."""
    tree = ast.parse(SOURCES[module].read_text())
    package = module.split(".") if SOURCES[module].name == "__init__.py" else module.split(".")[:-1]
    for node in _nodes(tree) if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join((["zerocon", *up] if node.level else []) + [node.module or ""]).strip(
                "."
            )
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not typing_only and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
            yield from _nodes(child)


def ours(module: str) -> set[str]:
    """Our modules among the imports, without "zerocon."."""
    named = {
        name.removeprefix("zerocon.") for name in imports(module) if name.startswith("zerocon.")
    }
    return {name for name in named if name in SOURCES}


def others(module: str, *, top_only: bool = False) -> set[str]:
    """Packages of others among the imports, the standard library left out."""
    named = {name.partition(".")[0] for name in imports(module, top_only=top_only)}
    return named - {"zerocon", ""} - set(sys.stdlib_module_names)


def test_every_module_has_a_layer() -> None:
    homeless = {module for module in SOURCES if room(module) not in LAYER} - {"__init__"}
    assert not homeless, "add them to LAYERS"


def test_a_module_imports_its_own_layer_and_below() -> None:
    above = {
        f"{module} -> {name}"
        for module in SOURCES
        for name in ours(module)
        if {room(module), room(name)} <= set(LAYER) and LAYER[room(name)] > LAYER[room(module)]
    }
    assert not above


def test_heavy_libraries_have_one_door() -> None:
    users = {module for module in SOURCES if others(module) & HEAVY} - TYPING
    assert {module for module in users if room(module) not in HEAVY_DOORS} == set()
    at_once = {module for module in users if others(module, top_only=True) & HEAVY}
    assert {module for module in at_once if room(module) == "model"} == set()


def test_drawing_has_one_door_that_opens_late() -> None:
    assert {module for module in SOURCES if "matplotlib" in others(module)} == {"plots"}
    assert "matplotlib" not in others("plots", top_only=True)


def test_what_is_light_stays_light() -> None:
    for module in SOURCES:
        used, at_once = others(module), others(module, top_only=True)
        assert room(module) not in STANDARD_ONLY or not used, module
        assert room(module) not in WITHOUT_TORCH or used <= {"numpy", "PIL"}, module
        assert room(module) != "cli" or at_once <= {"click"}, module
    assert "torch" not in others("images", top_only=True)


def test_the_command_line_imports_only_free_modules_at_once() -> None:
    for module in SOURCES:
        if room(module) == "cli":
            named = {n.removeprefix("zerocon.") for n in imports(module, top_only=True)}
            used = {room(name) for name in named if name in SOURCES}
            assert used <= STANDARD_ONLY | {"cli"}, module


def test_the_drawn_world_stays_out_of_the_tool() -> None:
    users = {module for module in SOURCES if any(room(n) == "world" for n in ours(module))}
    assert {module for module in users if room(module) not in DRAWERS} == set()


def test_no_function_is_named_as_its_module() -> None:
    """Where names load late, the one would hide the other, and which one depends on the day."""
    shadows = {
        module
        for module, path in SOURCES.items()
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == module.rpartition(".")[2]
    }
    assert not shadows
