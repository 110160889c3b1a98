"""The structure of the code, read from the source: layers, cycles, heavy imports, sizes, names."""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parent.parent

# A module imports its own layer and those with lower numbers. A package is named once, for all of
# its modules; a module with a layer of its own is named too.
LAYERS = {
    0: "errors tensor_types rng evaluation_count registry settings diffusion storage",
    1: "conditioning image prompt world mini",
    2: "model activations",
    3: "inversion trajectory guidance attention_control direction sampling",
    4: "editing lock finishing diagnostics.text_check diagnostics.review diagnostics.trace",
    5: "request cache api",
    6: "recipe diagnostics batch exemplar",
    7: "bench training diagnostics.doctor diagnostics.model_checks",
    8: "cli",
}
LAYER = {name: layer for layer, names in LAYERS.items() for name in names.split()}

HEAVY = {"diffusers", "transformers", "tokenizers", "accelerate", "huggingface_hub"}
HEAVY_USERS = ("model", "training", "bench", "batch.launcher")
STANDARD_ONLY = ("errors", "registry", "settings", "storage", "evaluation_count", "image.naming")
WITHOUT_TORCH = ("prompt", "world", "mini")
IMPORTED_WITHOUT_TORCH = (
    "errors", "registry", "settings", "storage", "image", "prompt", "world", "mini", "cli",
    "model.spec", "model.hub", "cache", "recipe",
)  # fmt: skip
CLI_LIBRARIES = {"click", "cloup"}  # all that `zerocon --help` imports, so that it starts fast
WORLD_USERS = ("world", "training", "bench")

LARGEST_FOLDERS = {"zerocon": 23, "cli": 13}  # files directly in it
LONGEST_FUNCTION, MEDIAN_FUNCTION = 40, 8  # lines without docstring

# Modules that share a name. A module of cli/commands has the name of its command in any case.
SHARED_NAMES = {
    "captioner": "training.captioner trains what model.captioner loads",
    "clip": "training.clip trains what model.clip loads",
    "classifiers": "training.classifiers trains what bench.classifiers loads",
    "networks": "exemplar.networks extends a network that model.networks builds",
}


def sources() -> dict[str, Path]:
    """Module names without "zerocon." to files; those of cli/ are installed as zerocon.cli."""
    files = {}
    for folder, prefix in ((ROOT / "zerocon", ""), (ROOT / "cli", "cli.")):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = prefix + ".".join(part for part in parts if part != "__init__")
            files[name.rstrip(".") or "__init__"] = path
    return files


SOURCES = sources()
TREES = {module: ast.parse(path.read_text("utf-8")) for module, path in SOURCES.items()}


def within(module: str, names: tuple[str, ...] | dict[str, int]) -> str | None:
    """The longest of ``names`` that is ``module`` or a package around it."""
    parts = module.split(".")
    prefixes = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in names), None)


def nodes(node: ast.AST, *, functions: bool) -> Iterator[ast.AST]:
    """All nodes that run: not those under TYPE_CHECKING, functions' bodies only on request."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield other
                yield from nodes(other, functions=functions)
            continue
        if functions or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from nodes(child, functions=functions)


@cache
def imports(module: str, *, functions: bool = True) -> frozenset[str]:
    """Absolute names that a module imports, in functions too or at module level only."""
    package = module.split(".") if SOURCES[module].name == "__init__.py" else module.split(".")[:-1]
    package = [part for part in package if part != "__init__"]
    names = set()
    for node in nodes(TREES[module], functions=functions):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = ["zerocon", *package][: len(package) + 2 - node.level] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            names |= {_imported(base, alias.name) for alias in node.names}
    return frozenset(names)


def _imported(base: str, name: str) -> str:
    """The module that ``from base import name`` reads: a module of the package, or ``base``."""
    module = f"{base}.{name}"
    return module if module.removeprefix("zerocon.") in SOURCES else base


def ours(module: str, *, functions: bool = True) -> set[str]:
    """Modules of zerocon among the imports, without "zerocon."; the package itself left out."""
    names = {name.removeprefix("zerocon.") for name in imports(module, functions=functions)}
    return {name for name in names if name in SOURCES} - {module}


def others(module: str, *, functions: bool = True) -> set[str]:
    """Packages of others among the imports, the standard library left out."""
    names = {name.partition(".")[0] for name in imports(module, functions=functions)}
    return names - {"zerocon", ""} - set(sys.stdlib_module_names)


def cycles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Strongly connected components of more than one module (Tarjan's algorithm)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    components = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for target in sorted(graph[name]):
            if target not in order:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], order[target])
        if low[name] == order[name]:
            start = stack.index(name)
            components.append(set(stack[start:]))
            del stack[start:]

    for name in graph:
        if name not in order:
            visit(name)
    return [component for component in components if len(component) > 1]


def imported_at_once(start: str) -> dict[str, set[str]]:
    """Every module that importing ``start`` imports, as the path to it, with its libraries.

    A package is imported before its modules.
    """
    paths, queue, libraries = {start: start}, [start], {}
    while queue:
        module = queue.pop()
        libraries[paths[module]] = others(module, functions=False)
        parents = {module.rpartition(".")[0]} & SOURCES.keys()
        for target in (ours(module, functions=False) | parents) - paths.keys():
            paths[target] = f"{paths[module]} -> {target}"
            queue.append(target)
    return libraries


# layers


def test_every_module_has_a_layer() -> None:
    missing = {module for module in SOURCES if within(module, LAYER) is None} - {"__init__"}
    assert not missing, "add them to LAYERS"
    unused = {name for name in LAYER if name not in SOURCES}
    assert not unused, "they do not exist"


def test_a_module_imports_its_own_layer_and_lower_ones() -> None:
    wrong = {
        f"{module} ({LAYER[layer]}) -> {name} ({LAYER[other]})"
        for module in SOURCES
        for name in ours(module)
        if (layer := within(module, LAYER)) and (other := within(name, LAYER))
        if LAYER[other] > LAYER[layer]
    }
    assert not wrong


def test_there_are_no_import_cycles() -> None:
    assert cycles({module: ours(module) for module in SOURCES}) == []


def test_cycles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"a", "f"}, "f": {"e"}}
    assert sorted(map(sorted, cycles(graph))) == [["b", "c"], ["e", "f"]]
    assert cycles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_relative_and_function_level_imports_are_seen() -> None:
    assert "cli.options" in ours("cli.commands.edit")
    assert "trajectory" in ours("cache") and "trajectory" not in ours("cache", functions=False)
    assert "editing" not in ours("cache"), "it is imported for type checking only"


# heavy imports


def test_heavy_libraries_are_imported_in_few_packages_only() -> None:
    users = {module for module in SOURCES if others(module) & HEAVY}
    assert {module for module in users if not within(module, HEAVY_USERS)} == set()
    at_once = {module for module in users if others(module, functions=False) & HEAVY}
    assert {module for module in at_once if within(module, ("model",))} == set()


def test_matplotlib_is_imported_in_one_module_and_late() -> None:
    users = {module for module in SOURCES if "matplotlib" in others(module)}
    assert users == {"diagnostics.plots"}
    assert "matplotlib" not in others("diagnostics.plots", functions=False)


@pytest.mark.parametrize("name", IMPORTED_WITHOUT_TORCH)
def test_importing_a_light_module_does_not_import_torch(name: str) -> None:
    for start in (module for module in SOURCES if within(module, (name,))):
        for path, libraries in imported_at_once(start).items():
            assert not libraries & {"torch", *HEAVY}, path


def test_light_modules_need_few_libraries() -> None:
    for module in SOURCES:
        used = others(module)
        assert not within(module, STANDARD_ONLY) or not used, module
        assert not within(module, WITHOUT_TORCH) or used <= {"numpy", "PIL", "lemminflect"}, module
    assert not others("__init__")


def test_importing_the_command_line_imports_no_other_libraries() -> None:
    paths = {
        library: path
        for module in SOURCES
        if within(module, ("cli",))
        for path, libraries in imported_at_once(module).items()
        for library in libraries - CLI_LIBRARIES
    }
    assert not paths


def test_the_rendered_world_is_used_for_training_and_benchmarks_only() -> None:
    users = {module for module in SOURCES if any(within(n, ("world",)) for n in ours(module))}
    assert {module for module in users if not within(module, WORLD_USERS)} == set()


# sizes


@pytest.mark.parametrize("folder", LARGEST_FOLDERS)
def test_a_folder_has_few_files(folder: str) -> None:
    files = [path.name for path in (ROOT / folder).iterdir() if path.is_file()]
    assert len(files) <= LARGEST_FOLDERS[folder], sorted(files)


def function_lengths() -> dict[str, int]:
    """Lines of every function from ``def`` to its end, without the docstring."""
    lengths = {}
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if ast.get_docstring(node) is not None:
                    lines -= node.body[0].end_lineno - node.body[0].lineno + 1
                lengths[f"{module}:{node.lineno} {node.name}"] = lines
    return lengths


def test_functions_are_short() -> None:
    lengths = function_lengths()
    long = {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION}
    assert not long
    assert median(lengths.values()) <= MEDIAN_FUNCTION


# names


def test_no_two_public_classes_have_one_name() -> None:
    homes = defaultdict(list)
    for module, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(module)
    assert {name: modules for name, modules in homes.items() if len(modules) > 1} == {}


def test_no_two_modules_have_one_name() -> None:
    homes = defaultdict(list)
    for module, path in SOURCES.items():
        if path.stem not in ("__init__", "__main__") and not within(module, ("cli.commands",)):
            homes[path.stem].append(module)
    shared = {name: modules for name, modules in homes.items() if len(modules) > 1}
    assert {name: modules for name, modules in shared.items() if name not in SHARED_NAMES} == {}
    assert SHARED_NAMES.keys() <= shared.keys(), "no longer needed"


def test_no_function_is_named_as_its_module() -> None:
    """Where names load late, one would hide the other, depending on the order of imports."""
    shadows = {
        module
        for module, tree in TREES.items()
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name == module.rpartition(".")[2]
    }
    assert not shadows
