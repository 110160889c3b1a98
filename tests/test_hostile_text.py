"""Text of files, names and models cannot control a terminal, a table, JSON or a sheet."""

from __future__ import annotations

import json
import os
import re
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from click.testing import CliRunner, Result
from conftest import gradient
from stress.mutations import RECIPE

from zerocon.cli import main
from zerocon.direction import Direction
from zerocon.image.metadata import Provenance
from zerocon.image.saving import save_image
from zerocon.storage import escaping

# escape sequences of 7 and 8 bits, a forged line, a direction override, a table's separator, an
# invisible character, a spreadsheet's formula, HTML
HOSTILE = "=1+a\x1b[31m\x9b2J\r\nError: forged\u202eb|c\u200b<i>`d`"
PRINTABLE = "=1+a\u202eb|c\u200b<i>`d`"  # where control characters are refused
FORMATS = ("human", "json", "jsonl")


def run(*args: str, form: str, **environment: str) -> Result:
    return CliRunner(env=environment).invoke(main, [*args, "--format", form])


def require_clean(done: Result, form: str, code: int) -> None:
    """Neither stream has a character that controls the terminal."""
    assert done.exit_code == code, done.output
    for text in (done.stdout, done.stderr):
        unsafe = [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
        assert set(unsafe) <= {"\n", "\t"}, ascii(text)
        assert "\nError: forged" not in text
    if form == "json":
        json.loads(done.stdout)
    if form == "jsonl":
        [json.loads(line) for line in done.stdout.splitlines()]


# entrance: writes what it needs into the working directory, returns arguments and exit status


def missing_image() -> tuple[list[str], int]:
    return ["edit", f"{HOSTILE}.png", "--to", "dog"], 2


def bytes_that_are_not_utf8() -> tuple[list[str], int]:
    return ["edit", os.fsdecode(b"\xff\x1b[2J.png"), "--to", "dog"], 2


def save_with_hostile_name() -> None:
    """An edited image with a name that zerocon itself would not write."""
    save_image(gradient(32, 32), Path("edited.png"), provenance=Provenance(RECIPE.to_json()))
    Path("edited.png").rename(f"{HOSTILE}.png")


def file_name_of_a_recipe() -> tuple[list[str], int]:
    save_with_hostile_name()
    return ["inspect", "."], 0


def recipe() -> tuple[list[str], int]:
    hostile = replace(RECIPE, caption=PRINTABLE, model=PRINTABLE, prompt={"to": PRINTABLE})
    save_image(gradient(32, 32), Path("a.png"), provenance=Provenance(hostile.to_json()))
    return ["inspect", "a.png"], 0


def recipes_of_a_folder() -> tuple[list[str], int]:
    recipe()
    return ["inspect", "."], 0


def damaged_recipe() -> tuple[list[str], int]:
    text = RECIPE.to_json().replace('"a cat"', json.dumps(HOSTILE))
    save_image(gradient(32, 32), Path("a.png"), provenance=Provenance(text))
    return ["inspect", "a.png"], 2


def unknown_schema() -> tuple[list[str], int]:
    text = json.dumps({"schema": HOSTILE})
    save_image(gradient(32, 32), Path("a.png"), provenance=Provenance(text))
    return ["inspect", "a.png"], 2


def configuration_key() -> tuple[list[str], int]:
    Path("zerocon.toml").write_text(f"{json.dumps(HOSTILE)} = 1\n", "utf-8")
    return ["edit", "cat.png", "--to", "dog"], 2


def configuration_value() -> tuple[list[str], int]:
    Path("zerocon.toml").write_text(f"model = {json.dumps(HOSTILE)}\n", "utf-8")
    return ["edit", "cat.png", "--to", "dog"], 3


def preset() -> tuple[list[str], int]:
    Path("zerocon.toml").write_text(f"[presets.{json.dumps(HOSTILE)}]\nsteps = 1\n", "utf-8")
    return ["edit", "cat.png", "--to", "dog", "--preset", "none"], 2


def option() -> tuple[list[str], int]:
    return ["edit", "cat.png", f"--{HOSTILE}"], 2


def prompt() -> tuple[list[str], int]:
    return ["edit", "cat.png", "--to", HOSTILE, "--caption", "a cat", "--model", "mini"], 2


def caption() -> tuple[list[str], int]:
    return ["edit", "cat.png", "--to", "dog", "--caption", HOSTILE, "--model", "mini"], 2


def manifest_column() -> tuple[list[str], int]:
    Path("a.csv").write_text(f'image,"{HOSTILE}"\ncat.png,1\n', "utf-8", newline="")
    return ["batch", "--manifest", "a.csv", "-o", "out"], 2


def manifest_cell() -> tuple[list[str], int]:
    Path("a.jsonl").write_text(json.dumps({"image": HOSTILE, "to": "dog"}))
    return ["batch", "--manifest", "a.jsonl", "-o", "out"], 2


def manifest_value() -> tuple[list[str], int]:
    Path("a.jsonl").write_text(json.dumps({"image": "cat.png", "inverter": HOSTILE}))
    return ["batch", "--manifest", "a.jsonl", "-o", "out"], 2


def template() -> tuple[list[str], int]:
    return ["batch", "cat.png", "-o", "out", "--to", "dog", "--name", HOSTILE], 2


def direction_words() -> tuple[list[str], int]:
    direction = Direction.between(tiny.model(), ["a"], ["b"], words=(PRINTABLE, PRINTABLE))
    replace(direction, model=PRINTABLE).save("a.safetensors")
    return ["direction", "show", "a.safetensors"], 0


def direction_with_control_characters() -> tuple[list[str], int]:
    direction = Direction.between(tiny.model(), ["a"], ["b"], words=(HOSTILE, "b"))
    direction.save("a.safetensors")
    return ["direction", "show", "a.safetensors"], 2


def direction_file() -> tuple[list[str], int]:
    Path(f"{HOSTILE}.safetensors").write_text("no direction")
    return ["direction", "show", f"{HOSTILE}.safetensors"], 2


def inversion_file() -> tuple[list[str], int]:
    Path(f"{HOSTILE}.safetensors").write_text("no inversion")
    return ["edit", "cat.png", "--to", "dog", "--inversion", f"{HOSTILE}.safetensors"], 2


def model_name() -> tuple[list[str], int]:
    return ["models", "verify", HOSTILE], 3


def class_of_a_model() -> tuple[list[str], int]:
    Path("m").mkdir(exist_ok=True)
    Path("m/model_index.json").write_text(json.dumps({"_class_name": HOSTILE}))
    return ["edit", "cat.png", "--to", "dog", "--model", "m"], 2


ENTRANCES: tuple[Callable[[], tuple[list[str], int]], ...] = (
    missing_image, bytes_that_are_not_utf8, file_name_of_a_recipe, recipe, recipes_of_a_folder,
    damaged_recipe, unknown_schema, configuration_key, configuration_value, preset, option, prompt,
    caption, manifest_column, manifest_cell, manifest_value, template, direction_words,
    direction_with_control_characters, direction_file, inversion_file, model_name,
    class_of_a_model,
)  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    gradient(32, 32).save("cat.png")
    return tmp_path


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("entrance", ENTRANCES, ids=lambda each: each.__name__)
def test_every_entrance_and_every_format(
    entrance: Callable[[], tuple[list[str], int]], form: str, shared_models: None
) -> None:
    args, code = entrance()
    require_clean(run(*args, form=form), form, code)


@pytest.mark.parametrize("form", FORMATS)
def test_a_batch_of_hostile_names(form: str, shared_models: None) -> None:
    Path("in").mkdir()
    gradient(32, 32).save(f"in/{HOSTILE}.png")
    Path(f"in/{HOSTILE}2.png").write_text("no image")
    args = ["batch", "in", "-o", "out", "--to", "dog", "--caption", PRINTABLE.replace("b", " cat ")]
    args += ["--model", "mini", "--fast", "--steps", "1", "--sheet", "sheet.png"]
    done = run(*args, form=form)
    require_clean(done, form, 1)
    require_clean(run("batch", "status", "-o", "out", form=form), form, 0)
    assert Path("sheet.png").is_file()
    if form == "json":
        inputs = [each["input"] for each in json.loads(done.stdout)["failures"]]
        assert inputs == [str(Path(f"in/{HOSTILE}2.png").absolute())]  # as it is, once parsed


def test_tables_have_their_columns() -> None:
    save_with_hostile_name()
    recipes_of_a_folder()
    lines = run("inspect", ".", form="human").stdout.splitlines()
    assert len(lines) == 5
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines[:4]} == {6}
    assert not any("<i>" in line for line in lines)


def test_escapes_of_every_format() -> None:
    assert escaping.one_line(HOSTILE) == (
        "=1+a\\x1b[31m\\x9b2J\\r\\nError: forged\\u202eb|c\\u200b<i>`d`"
    )
    assert escaping.visible("a\tb\nc\x1b") == "a\tb\nc\\x1b"
    assert escaping.markdown_row("a|b", "<c>") == r"| a\|b | &lt;c> |"
    text = escaping.json_text({HOSTILE: "\x7f\U000e0041\udcff"})
    assert text.isprintable() and json.loads(text) == {HOSTILE: "\x7f\U000e0041\udcff"}
    assert len(escaping.one_line("x" * 10_000)) < 5000


def test_all_that_a_terminal_obeys_is_escaped() -> None:
    for code in [
        *range(0x3100),
        *range(0xD800, 0xE000),
        *range(0xF800, 0x1FFFF),
        *range(0xE0000, 0xE1000),
    ]:
        character = chr(code)
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            shown = escaping.visible(character)
            assert shown.isascii() and (shown != character) == (character not in "\n\t"), hex(code)


def test_what_libraries_print_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        print(HOSTILE)
        print(HOSTILE, file=sys.stderr)
        raise ValueError("no")

    monkeypatch.setattr("zerocon.load", load, raising=False)
    done = CliRunner().invoke(main, ["edit", "cat.png", "--to", "dog"])
    for text in (done.stdout, done.stderr):
        assert "\\x1b[31m" in text and "\x1b" not in text and "\u202e" not in text
