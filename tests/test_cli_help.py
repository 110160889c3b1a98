"""Help pages: groups, length, examples, defaults, suggestions and wording."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner
from words import hits

from zerocon.cli import COMMANDS, SECTIONS, main
from zerocon.cli.help import HelpCommand

WIDTHS = (80, 100)
LINES = 60  # of `zerocon edit --help`, at most


def commands(group: click.Group, *path: str) -> Iterator[tuple[str, ...]]:
    """The names of all commands and their subcommands."""
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)


EVERY = [(), *commands(main)]


def page(*args: str, width: int = 100) -> str:
    """A help page on a terminal with ``width`` columns, the last of which stays free."""
    done = CliRunner().invoke(main, [*args], terminal_width=width - 1)
    assert (done.exit_code, done.stderr) == (0, "")
    return done.stdout


def find(path: tuple[str, ...]) -> HelpCommand:
    command: click.Command | None = main
    for name in path:
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), name)
    assert isinstance(command, HelpCommand), path
    return command


# pages


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
@pytest.mark.parametrize("option", ["--help", "--help-all"])
def test_help_uses_no_withdrawn_word(path: tuple[str, ...], option: str) -> None:
    assert not hits(" ".join(page(*path, option).split()))


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
@pytest.mark.parametrize("width", WIDTHS)
def test_help_fits_the_terminal_and_nothing_is_cut_off(path: tuple[str, ...], width: int) -> None:
    text, _, examples = page(*path, "--help-all", width=width).partition("\nExamples:\n")
    assert max(map(len, text.splitlines())) < width
    assert max(map(len, examples.splitlines())) < 100
    lists = [line for line in text.splitlines() if re.match(r"  [a-z]", line)]
    assert not [line for line in lists if line.endswith("...")]


def test_help_of_zerocon_has_one_line_per_command_in_sections() -> None:
    text = page("--help", width=80)
    for title, names in SECTIONS.items():
        (section,) = re.findall(rf"^{title}:\n((?:  .*\n)+)", text, re.MULTILINE)
        assert [line.split()[0] for line in section.splitlines()] == list(names)
        assert all(len(line.split()) > 2 for line in section.splitlines())
    assert len(COMMANDS) == 18


@pytest.mark.parametrize("width", WIDTHS)
def test_help_of_edit_is_grouped_and_short(width: int) -> None:
    text = page("edit", "--help", width=width)
    assert len(text.splitlines()) <= LINES
    headings = re.findall(r"^(\w+):$", text, re.MULTILINE)
    assert headings == [
        "Prompt", "Output", "Method", "Region", "Model", "Performance", "General", "Examples",
    ]  # fmt: skip
    assert re.search(r"^Prompt:\n  --to ", text, re.MULTILINE), "the most used option comes first"


def test_help_all_adds_the_expert_options() -> None:
    names = re.compile(r"^  (?:-\w, )?(--[\w-]+)", re.MULTILINE)
    usual, every = (names.findall(page("edit", option)) for option in ("--help", "--help-all"))
    assert set(usual) < set(every)
    options = {
        max(each.opts, key=len)
        for each in find(("edit",)).params
        if each.param_type_name == "option"
    }
    assert set(every) == options | {"--help"}
    assert {"--inverter", "--guidance-limit", "--reuse-prediction"} <= set(every) - set(usual)


@pytest.mark.parametrize("path", [path for path in EVERY if path], ids=" ".join)
def test_every_option_has_a_help_text(path: tuple[str, ...]) -> None:
    options = [each for each in find(path).params if isinstance(each, click.Option)]
    assert not [each.opts for each in options if not each.help and not each.hidden]
    assert not [each.opts for each in options if each.help and each.help[-1] not in ".]"]


# examples


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_examples_are_valid_command_lines(path: tuple[str, ...]) -> None:
    examples = find(path).examples
    assert len(examples) >= (3 if len(path) < 2 else 1)
    for example in examples:
        words = shlex.split(
            example.partition("|")[2] if " | " in example else example, comments=True
        )
        words = words[words.index("zerocon") + 1 :] if "zerocon" in words else []
        ctx: click.Context = click.Context(main)
        command: click.Command = main
        while isinstance(command, click.Group):
            _, words, _ = command.make_parser(ctx).parse_args(words)
            if not words or (inner := command.get_command(ctx, words[0])) is None:
                break
            command, words = inner, words[1:]
            ctx = click.Context(command, parent=ctx)
        if not isinstance(command, click.Group):
            command.make_parser(ctx).parse_args(words)  # raises for an unknown option


# suggestions


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("edti fox.png", "No such command 'edti'. Did you mean 'edit'?"),
        ("models lst", "No such command 'lst'. Did you mean 'list'?"),
        ("edit fox.png --too dog", "Did you mean '--to'?"),
        ("edit fox.png --guidance_scale 3", "'--guidance-scale'"),
        ("edit fox.png dog", 'unexpected argument "dog"; the prompt is an option: --to dog'),
        ("edit fox.png a red hat", "the prompt is an option: --to 'a red hat'"),
        ("edit fox.png fox.jpg --to dog", "for several images use zerocon batch"),
    ],
)
def test_a_mistyped_command_line_is_answered_with_a_suggestion(line: str, message: str) -> None:
    done = CliRunner().invoke(main, line.split())
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert message in done.stderr
