"""docs/: every command parsed or run, links and names checked against the code, the site built."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from documents import DOCS, PAGES, ROOT, arguments, commands, prepare, runs_here, understand
from words import hits

import zerocon
from zerocon.cli import main
from zerocon.settings import CHANGES, FAST, Settings, number_for, split_change

OWN_TESTS = ("README.md", "docs/custom-guidance.md")  # pages whose commands are run elsewhere
COMMANDS = [(page, command) for page, text in PAGES.items() for command in commands(text)]
RUN = {page: [c for c in commands(text) if runs_here(c)] for page, text in PAGES.items()}
RUN = {page: found for page, found in RUN.items() if found and page not in OWN_TESTS}
PYTHON = [
    (page, block)
    for page, text in PAGES.items()
    if page not in OWN_TESTS
    for block in re.findall(r"```python\n(.*?)```", text, re.S)
]
GUIDE = PAGES["docs/custom-guidance.md"]
OPTIONS = PAGES["docs/options.md"]


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_every_command_is_understood(
    page: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fox.safetensors").touch()  # an earlier command of the page writes it
    monkeypatch.chdir(tmp_path)
    understand(command)


@pytest.mark.parametrize("page", RUN)
def test_every_command_on_the_embedded_model_works(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_models: None
) -> None:
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZEROCON_STEPS", "4")
    monkeypatch.setenv("ZEROCON_CACHE", str(tmp_path / "cache"))
    for command in RUN[page]:
        done = CliRunner().invoke(main, arguments(command))
        assert done.exit_code == 0, f"{page}: {command}\n{done.output}"


@pytest.mark.parametrize(("page", "block"), PYTHON)
def test_python_of_the_pages_runs(
    page: str, block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    exec(compile(block, page, "exec"), {"zerocon": zerocon})
    for name in re.findall(r'save\(.*"([\w.]+)"\)', block):
        assert Path(name).is_file()


def test_the_configuration_of_the_page_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", PAGES["docs/configuration.md"], re.S)
    (tmp_path / "zerocon.toml").write_text(block)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["config", "show", "--origin"])
    assert done.exit_code == 0, done.output
    for name in tomllib.loads(block).keys() - {"presets"}:
        (line,) = re.findall(rf"^{name.replace('-', '_')} = .*$", done.stdout, re.M)
        assert "zerocon.toml" in line


# --- the guide to a guidance loss


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The guide's module, installed under the entry point of the guide's project file."""
    folder = tmp_path_factory.mktemp("guidance")
    blocks = re.findall(r"```python\n(.*?)```", GUIDE, re.S)
    name = re.match(r"# (\w+\.py)\n", blocks[0])
    assert name
    (folder / name[1]).write_text(blocks[0])
    (project,) = re.findall(r"```toml\n(.*?)```", GUIDE, re.S)
    facts = tomllib.loads(project)["project"]
    info = folder / f"{facts['name'].replace('-', '_')}-{facts['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Name: {facts['name']}\nVersion: {facts['version']}\n")
    points = facts["entry-points"]["zerocon.guidance"]
    lines = [f"{key} = {value}" for key, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[zerocon.guidance]", *lines]))
    prepare(folder)
    return folder


def run_python(folder: Path, *args: str) -> str:
    """Run Python in ``folder``, with its modules and its installed metadata."""
    more = {"PYTHONPATH": str(folder), "ZEROCON_STEPS": "4", "OMP_NUM_THREADS": "1"}
    command, environment = [sys.executable, *args], {**os.environ, **more}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", GUIDE, re.S)[1:])
def test_the_guide_to_a_guidance_loss_runs(block: str, package: Path) -> None:
    run_python(package, "-c", block)


def test_a_guidance_loss_of_another_package_is_found_by_name(package: Path) -> None:
    listed = run_python(package, "-m", "zerocon.cli", "methods")
    assert "| guidance | `low-frequency` |" in listed
    (command,) = commands(GUIDE)
    run_python(package, "-m", "zerocon.cli", *arguments(command), "-o", "edited.png")
    recipe = zerocon.Recipe.read(package / "edited.png")
    assert any(str(each).startswith("low-frequency") for each in recipe.settings.guidance)


# --- names


def rows(page: str, head: str) -> dict[str, list[str]]:
    """A table of a page by its first column, without the backquotes."""
    table = page.partition(f"| {head} |")[2].partition("\n\n")[0]
    cells = [line.strip("|").split(" | ") for line in table.splitlines()[2:]]
    return {c[0].strip().strip("`"): [x.strip() for x in c[1:]] for c in cells}


BY_KIND = "[by kind of change](#defaults-by-kind-of-change)"


def shown(value: object) -> str:
    """A default as the table of settings has it."""
    if value == ():
        return "`none`"
    if value in (Settings.attention, Settings.begin, Settings.difference_threshold):
        return BY_KIND
    if value is None or isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple) and isinstance(value[0], str):
        return ", ".join(f"`{each}`" for each in value)
    return f"`{'..'.join(map(str, value))}`" if isinstance(value, tuple) else f"`{value}`"


def test_the_table_of_settings_is_that_of_the_code() -> None:
    table = rows(OPTIONS, "option | name | default | meaning")
    assert {cells[0].strip("`"): cells[1] for cells in table.values()} == {
        each.name: shown(each.default) for each in fields(Settings)
    }
    for option, (name, *_) in table.items():
        assert option.split("/")[0] == f"--{name.strip('`').replace('_', '-')}"
    assert all(f"`{change}`" in OPTIONS for change in CHANGES)
    for name, value in FAST.items():
        assert f"{name} {shown(value).strip('`')}" in OPTIONS


def test_the_table_of_defaults_by_kind_of_change_is_that_of_the_code() -> None:
    defaults, lines = Settings(), []
    order = dict.fromkeys([split_change(each)[0] for each in defaults.attention])
    numbers = (defaults.begin, defaults.difference_threshold)
    for text in numbers:
        order |= dict.fromkeys(each.partition("=")[0] for each in text.split(",")[1:])
    for kind in (*(each for each in order if each), ""):
        kinds = [kind] if kind else []
        begin, threshold = (number_for(each, kinds) for each in numbers)
        name = f"`{kind}`" if kind else "any other"
        attention = defaults.attention_for(kinds)
        lines.append(f"| {name} | `{attention}` | `{begin:g}` | `{threshold:g}` |")
    head = ["| kind of change | attention | begin | threshold |", "|---|---|---|---|"]
    table = "\n".join([*head, *lines])
    assert table in OPTIONS, f"the table in docs/options.md should be\n{table}"


def every_command(group: click.Group, name: str = "") -> Iterator[tuple[str, click.Command]]:
    """All commands with options of their own, subcommands too, by full name."""
    context = click.Context(group)
    for each in group.list_commands(context):
        command = group.get_command(context, each)
        assert command is not None
        full = f"{name} {each}".strip()
        if isinstance(command, click.Group):
            yield from every_command(command, full)
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield full, command


GROUPS = {  # of options that several commands share, by the name that the page gives them
    "method": {
        *rows(OPTIONS, "option | name | default | meaning"),
        "--fast",
        "--preset",
        "--recipe",
    },
    "model": {*rows(OPTIONS.partition("## Model")[2], "option | name | default | meaning")},
    "messages": {"--format", "--quiet", "--verbose"},
}


def abridged(command: click.Command) -> str:
    """A command's options as the table has them: whole groups by name, the others in order."""
    options = [p for p in command.params if isinstance(p, click.Option)]
    flags = ["/".join(p.opts[-1:] + p.secondary_opts[-1:]) for p in options]
    whole = {name: group for name, group in GROUPS.items() if group <= {*flags}}
    rest = sorted(
        {*flags}.difference(*whole.values()) - {"--help", "--help-all", "--join", "--digest"}
    )
    return " ".join([*(f"`{flag}`" for flag in rest), *(f"*{name}*" for name in whole)])


def test_the_table_of_options_is_that_of_the_commands() -> None:
    expected = {name: abridged(command) for name, command in every_command(main)}
    table = {name: cells[0] for name, cells in rows(OPTIONS, "command | options").items()}
    lines = "\n".join(f"| `{name}` | {flags} |" for name, flags in expected.items())
    assert table == expected, f"the table in docs/options.md should be\n{lines}"


def test_the_table_of_methods_is_the_program_s_own() -> None:
    done = CliRunner().invoke(main, ["methods"])
    assert done.exit_code == 0
    assert done.stdout.strip() in PAGES["docs/method.md"]


@pytest.mark.parametrize("page", PAGES)
def test_pages_have_no_number_left_open(page: str) -> None:
    assert re.findall(r"{{benchmark: [^}]*}}", PAGES[page]) == []


# --- the site


def test_every_image_and_link_leads_somewhere() -> None:
    for page, text in PAGES.items():
        for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", text):
            assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


def test_every_public_name_is_in_the_reference() -> None:
    pages = "".join((DOCS / "api" / f"{path.stem}.md").read_text() for path in DOCS.glob("api/*"))
    documented = re.findall(r"^::: (\S+)$", pages, re.M)
    for name in zerocon.__all__:
        value = getattr(zerocon, name)
        full = f"{value.__module__}.{value.__qualname__}"
        assert any(full == each or full.startswith(f"{each}.") for each in documented), name


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = [path for path in tmp_path.rglob("*.html") if path.name != "404.html"]
    assert len(pages) == len(PAGES) - 1  # the README is not a page of the site
    for page in pages:
        external = re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"https?:", page.read_text())
        assert not external, f"{page} loads something from the network"


@pytest.mark.parametrize("page", PAGES)
def test_pages_use_no_withdrawn_word(page: str) -> None:
    assert hits(PAGES[page], page) == []
