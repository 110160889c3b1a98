"""Files of others are read or refused in one line, before any work, whatever is in them."""

from __future__ import annotations

import json
import os
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from click.testing import CliRunner
from conftest import gradient
from PIL import Image
from safetensors.torch import save_file
from stress import mutations
from stress.mutations import RECIPE

import zerocon
from zerocon.batch import BatchOptions
from zerocon.batch.expansion import expand
from zerocon.cli import main
from zerocon.direction import Direction
from zerocon.errors import CommandError, FileFormatError, MismatchError, SettingError, ZeroconError
from zerocon.image.metadata import Provenance
from zerocon.image.saving import save_image
from zerocon.recipe import Recipe
from zerocon.settings import Settings
from zerocon.storage import strict_json
from zerocon.trajectory import Inversion

SLICE = 108  # cases of the fuzz test, which `pytest -m stress` runs in full


def test_mutated_files(tmp_path: Path) -> None:
    samples = mutations.write_samples(tmp_path)
    for seed in range(len(mutations.KINDS)):  # all samples are valid
        mutations.read(mutations.kind_of(seed), samples[mutations.kind_of(seed)], tmp_path)
    outcomes = list(mutations.run([*range(SLICE)], samples, tmp_path))
    assert len(outcomes) == SLICE
    assert [(o.seed, o.reason) for o in outcomes if o.violation] == []
    assert {o.result for o in outcomes} == {"read", "refused"}


def test_the_fuzz_test_finds_what_breaks_its_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(kind: str, data: bytes, folder: Path) -> None:
        actions: Mapping[str, Callable[[], object]] = {
            "direction": lambda: [0] * 10**9,
            "inversion": lambda: os._exit(3),
            "recipe": lambda: {}["a"],
            "csv": lambda: __import__("time").sleep(60),
        }
        actions.get(kind, lambda: None)()

    samples = mutations.write_samples(tmp_path)
    monkeypatch.setattr(mutations, "read", read)
    monkeypatch.setattr(mutations, "SECONDS", 1.0)
    results = [o.violation for o in mutations.run([*range(6)], samples, tmp_path)]
    assert results == [True, True, True, True, False, False]


# directions and inversions


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a direction ``d``, an inversion ``i`` and an image ``cat.png``."""
    folder, model = tmp_path_factory.mktemp("files"), tiny.model()
    Direction.between(model, ["a cat"], ["a dog"], words=("cat", "dog")).save(folder / "d")
    gradient(64, 64).save(folder / "cat.png")
    image = Image.open(folder / "cat.png")
    zerocon.invert(image, model, settings=Settings(steps=2, guidance=())).save(folder / "i")
    return folder


def changed(source: Path, target: Path, change: Callable[[dict[str, Any], Any], None]) -> Path:
    """A copy whose tensors and metadata ``change`` has changed."""
    data = source.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    ((entry, text),) = json.loads(data[8 : 8 + length])["__metadata__"].items()
    from safetensors.torch import load

    tensors, metadata = load(data), json.loads(text)
    change(tensors, metadata)
    save_file(tensors, target, {entry: json.dumps(metadata)})
    return target


def tensor(name: str, value: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    def change(tensors: dict[str, Any], _: Any) -> None:
        tensors[name] = value(tensors[name]).contiguous()

    return change


def entry(**values: Any) -> Any:
    return lambda _, metadata: metadata.update(values)


def without(name: str) -> Any:
    return lambda _, metadata: metadata.pop(name)


def filled(number: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def fill(values: torch.Tensor) -> torch.Tensor:
        values.view(-1)[3] = number
        return values

    return fill


COLUMN = {"times": [0, 1, 2], "alphas": [1.0, 0.9, 0.5], "sigmas": [0.0, 0.4, 0.8]}
DIRECTIONS = {
    "NaN": tensor("tokens", filled(float("nan"))),
    "infinity": tensor("origin", filled(float("inf"))),
    "too large": tensor("tokens", filled(1e30)),
    "integers": tensor("tokens", lambda t: t.int()),
    "half precision": tensor("tokens", lambda t: t.half()),
    "two dimensions": tensor("tokens", lambda t: t[0]),
    "no positions": tensor("tokens", lambda t: t[:, :0]),
    "two rows": tensor("tokens", lambda t: torch.cat([t, t])),
    "different shapes": tensor("origin", lambda t: t[:, :1]),
    "a further tensor": lambda tensors, _: tensors.update(x=torch.zeros(2)),
    "no tensor": lambda tensors, _: tensors.pop("origin"),
    "no words": entry(source=[], target=[]),
    "words of one side": entry(source=["a", "b"]),
    "words that are numbers": entry(source=[1]),
    "words as one text": entry(source="cat"),
    "no sentences": entry(sentences=[[], []]),
    "one side of sentences": entry(sentences=[["a"]]),
    "no encoder": without("encoder"),
    "an encoder of a wrong type": entry(encoder=5),
    "control characters": entry(model="a\x1b[2J"),
    "surrogates": entry(model="\ud800"),
    "a long text": entry(model="x" * 100_000),
    "another format": entry(format="zerocon.direction/99"),
}
INVERSIONS = {
    "NaN": tensor("latents", filled(float("nan"))),
    "infinity": tensor("eps", filled(-float("inf"))),
    "different shapes": tensor("eps", lambda t: t[:, :, :2]),
    "four dimensions": tensor("latents", lambda t: t[0]),
    "one level": lambda tensors, _: tensors.update({n: t[:1].clone() for n, t in tensors.items()}),
    "doubles": tensor("latents", lambda t: t.double()),
    "no schedule": without("schedule"),
    "a schedule of a wrong type": entry(schedule=[1, 2]),
    "a short schedule": entry(schedule={name: each[:2] for name, each in COLUMN.items()}),
    "NaN in the schedule": entry(schedule={**COLUMN, "sigmas": [0.0, float("nan"), 1.0]}),
    "infinity in the schedule": entry(schedule={**COLUMN, "times": [0, 1, float("inf")]}),
    "a negative time": entry(schedule={**COLUMN, "times": [-5, 1, 2]}),
    "a huge time": entry(schedule={**COLUMN, "times": [0, 1, 10**9]}),
    "times backwards": entry(schedule={**COLUMN, "times": [2, 1, 0]}),
    "noise backwards": entry(schedule={**COLUMN, "sigmas": [0.8, 0.4, 0.0]}),
    "no signal": entry(schedule={**COLUMN, "alphas": [1.0, 0.9, 0.0]}),
    "truth values": entry(schedule={**COLUMN, "times": [False, True, True]}),
    "no captions": entry(captions=[]),
    "captions of a wrong type": entry(captions=[None]),
    "two captions": entry(captions=["a", "b"]),
    "two images": entry(images=["a", "b"]),
    "a recipe of a wrong type": entry(recipe=["ddim"]),
    "a recipe of numbers": entry(recipe={"inverter": 5}),
    "float32 of another length": entry(float32=["vae", "vae"]),
    "a model of a wrong type": entry(model=None),
    "control characters": entry(captions=["a\x9b"]),
}


@pytest.mark.parametrize("name", DIRECTIONS)
def test_a_direction_is_refused(name: str, files: Path, tmp_path: Path) -> None:
    file = changed(files / "d", tmp_path / "d", DIRECTIONS[name])
    with pytest.raises(FileFormatError) as caught:
        Direction.load(file)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("name", INVERSIONS)
def test_an_inversion_is_refused(name: str, files: Path, tmp_path: Path) -> None:
    file = changed(files / "i", tmp_path / "i", INVERSIONS[name])
    with pytest.raises(FileFormatError) as caught:
        Inversion.load(file)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_unchanged_files_are_read(files: Path, tmp_path: Path) -> None:
    nothing = lambda *_: None  # noqa: E731
    direction = Direction.load(changed(files / "d", tmp_path / "d", nothing))
    assert torch.equal(direction.tokens, Direction.load(files / "d").tokens)
    inversion = Inversion.load(changed(files / "i", tmp_path / "i", nothing))
    assert torch.equal(inversion.latents, Inversion.load(files / "i").latents)


@pytest.mark.parametrize("length", [2**63, 10**9, 99])
def test_a_header_that_lies_about_its_length(length: int, files: Path, tmp_path: Path) -> None:
    for name, read in (("d", Direction.load), ("i", Inversion.load)):
        data = (files / name).read_bytes()
        (tmp_path / name).write_bytes(struct.pack("<Q", length) + data[8:])
        with pytest.raises(FileFormatError):
            read(tmp_path / name)


def test_tensors_that_overlap_or_end_outside(files: Path, tmp_path: Path) -> None:
    data = (files / "d").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    for offsets in ([0, 2**40], [0, 0], [8, 4], [-4, 4]):
        header = json.loads(data[8 : 8 + length])
        header["tokens"]["data_offsets"] = offsets
        text = json.dumps(header).encode()
        (tmp_path / "d").write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
        with pytest.raises(FileFormatError):
            Direction.load(tmp_path / "d")


@pytest.mark.skipif(os.name != "posix", reason="needs pipes in the file system")
def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    for read in (Direction.load, Inversion.load):
        with pytest.raises(FileFormatError, match="regular file"):
            read(tmp_path / "pipe.csv")
    with pytest.raises(FileFormatError, match="regular file"):
        expand(BatchOptions(output=tmp_path, manifest=tmp_path / "pipe.csv"))


def test_files_that_do_not_fit_the_model(files: Path, tmp_path: Path) -> None:
    model = tiny.model()
    short = {name: tensor(name, lambda t: t[:, :3]) for name in ("tokens", "origin")}
    file = tmp_path / "d"
    changed(files / "d", file, lambda t, m: [each(t, m) for each in short.values()])
    with pytest.raises(MismatchError, match="shape"):
        Direction.load(file).on(model)
    image = Image.open(files / "cat.png")

    def fewer(tensors: dict[str, Any], _: Any) -> None:
        tensors.update({name: each[:, :, :3].contiguous() for name, each in tensors.items()})

    inversion = Inversion.load(changed(files / "i", tmp_path / "i", fewer))
    with pytest.raises(MismatchError, match="channels"):
        zerocon.edit(image, to="dog", caption="a cat", model=model, inversion=inversion)
    for recipe in ({}, {"encoder": model.embed([""]).encoder}):
        inversion = Inversion.load(changed(files / "i", tmp_path / "j", entry(recipe=recipe)))
        with pytest.raises(MismatchError, match="was made with"):
            zerocon.edit(image, to="dog", caption="a cat", model=model, inversion=inversion)


# recipes


@pytest.mark.parametrize(
    "change",
    [
        {"size": [10**9, 64]},
        {"size": [0, 64]},
        {"settings": {"steps": 10**9}},
        {"settings": {"steps": -5}},
        {"settings": {"seed": 10**30}},
        {"settings": {"guidance": ["contrastive"] * 1000}},
        {"settings": {"guidance": ["x" * 5000]}},
        {"settings": {"strength": float("nan")}},
        {"settings": {"guidance_scale": 1e300}},
        {"directions": [{"change": "a", "weight": float("inf"), "hash": ""}]},
        {"directions": "abc"},
        {"directions": [None]},
        {"prompt": []},
        {"compute": None},
        {"versions": [["torch", "2"]]},
        {"schema": {}},
        {"schema": []},
        {"caption": "x" * 2_000_000},
        {"caption": "a\x1b"},
        {"image": None},
    ],
)
def test_a_recipe_is_refused(change: dict[str, Any]) -> None:
    text = json.dumps({**json.loads(RECIPE.to_json()), **change})
    with pytest.raises(FileFormatError) as caught:
        Recipe.from_json(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        "[" * 65 + "]" * 65,
        "9" * 5000,
        "1e999",
        "NaN",
        "-Infinity",
        '{"a": 1, "a": 2}',
        f"{{{', '.join(f'{chr(34)}{n}{chr(34)}: 1' for n in range(200_000))}}}",
        '"' + "\\\\" * 400_000,
        '"' * 900_001,
        "",
        "\ufeff{}",
    ],
    ids=lambda text: text[:12],
)
def test_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        strict_json.parse(text)


def test_json_is_read() -> None:
    record = {"a": [1, -2.5, None, True, '[[[\\"]]]'], "b": {"c": 2**62}}
    assert strict_json.parse(json.dumps(record)) == record
    assert strict_json.parse("[" * 64 + "]" * 64)


def test_one_bad_image_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = Provenance(RECIPE.to_json())
    for name in ("a.png", "z.png"):
        save_image(gradient(32, 32), tmp_path / name, provenance=good)
    save_image(gradient(32, 32), tmp_path / "b.png", provenance=Provenance("[" * 9999))
    (tmp_path / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    (tmp_path / "d.png").write_bytes(b"")
    save_image(gradient(32, 32), tmp_path / "e.png", provenance=good)
    read = Recipe.from_json

    def fail(text: str) -> Recipe:
        if len(text) > 9000:
            raise ZeroDivisionError("a bug")
        return read(text)

    monkeypatch.setattr(Recipe, "from_json", fail)
    done = CliRunner().invoke(main, ["inspect", str(tmp_path), "--format", "json"])
    images = json.loads(done.stdout)["images"]
    assert done.exit_code == 0
    assert [Path(each["file"]).name for each in images if each["recipe"]] == [
        "a.png", "e.png", "z.png",
    ]  # fmt: skip
    assert [Path(each["file"]).name for each in images if each["problem"]] == [
        "b.png", "c.png", "d.png",
    ]  # fmt: skip
    assert "b.png: a bug" in done.stderr


# settings, templates, manifests


@pytest.mark.parametrize(
    "values",
    [{"steps": 10**9}, {"steps": -5}, {"seed": 2**63}, {"seed": -1}, {"strength": 1e7},
     {"guidance_scale": float("inf")}, {"guidance": ("a",) * 65}, {"attention": ("x" * 1001,)}],
)  # fmt: skip
def test_a_setting_out_of_range(values: dict[str, Any]) -> None:
    with pytest.raises(SettingError) as caught:
        Settings(**values)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "text",
    ["contrastive:weight=nan", "contrastive:weight=inf", f"contrastive:patches={10**30}"],
)
def test_an_option_of_a_method_out_of_range(text: str) -> None:
    with pytest.raises(ZeroconError):
        zerocon.registry.resolve("guidance", text)
    with pytest.raises(ZeroconError):
        zerocon.registry.resolve("inverter", f"fixed-point:rounds={10**9}")


@pytest.mark.parametrize(
    "template",
    ["{stem:{x}}", "{stem:{to}}", "{to.__class__}", "{stem[0]}", "{stem:>99999999}", "{stem:>201}",
     "{stem!r}", "{0}", "{}", "{", "}", "{stem:%Y}", "{stem:\n<9}", "a\x1b{stem}", "x" * 1001,
     "{stem:a<b}", "../{stem}", "/{stem}"],
)  # fmt: skip
def test_a_template_is_refused(template: str, files: Path) -> None:
    with pytest.raises(CommandError) as caught:
        name_of(template, files)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{seed:0>4}-{stem:.2}{suffix}", "0001-ca.png"),
        ("{to}/{stem:_^5}{suffix}", "dog/_cat_.png"),
        ("{{{stem}}}.png", "{cat}.png"),
    ],
)
def test_a_template_is_filled(template: str, name: str, files: Path) -> None:
    assert name_of(template, files) == name


def name_of(template: str, files: Path) -> str:
    """The name of the result of one edit."""
    options = replace(mutations.ONE, images=(str(files / "cat.png"),), name=template)
    (job,) = expand(options)
    return str(job.name)


MANIFESTS = {
    "a NUL byte": (".csv", b"image,to\ncat.png,do\0g\n"),
    "a NUL byte in a path": (".jsonl", b'{"image": "c\\u0000at.png", "to": "dog"}'),
    "a cell of a megabyte": (".csv", b"image,to\ncat.png," + b"x" * 1_000_000 + b"\n"),
    "a long cell": (".jsonl", json.dumps({"image": "a", "to": "x" * 10_001}).encode()),
    "a column twice": (".csv", b"image,to,to\ncat.png,dog,fox\n"),
    "a key twice": (".jsonl", b'{"image": "cat.png", "to": "dog", "to": "fox"}'),
    "UTF-16": (".csv", "image,to\ncat.png,dog\n".encode("utf-16")),
    "Latin-1": (".csv", "image,to\ncat.png,caf\xe9\n".encode("latin-1")),
    "NaN": (".jsonl", b'{"image": "cat.png", "to": "dog", "strength": NaN}'),
    "a deep value": (".jsonl", b'{"image": ' + b"[" * 100_000),
    "a deep value of TOML": (".toml", b"a = " + b"[" * 100_000),
    "an integer of 5,000 digits": (".toml", b"[[edits]]\nimage = 'a'\nseed = " + b"9" * 5000),
    "a list as a setting": (".jsonl", b'{"image": "cat.png", "to": "dog", "seed": [[1]]}'),
    "an object as a setting": (".jsonl", b'{"image": "cat.png", "to": "dog", "size": {"a": 1}}'),
    "a date": (".toml", b"[[edits]]\nimage = 'a'\nto = 'dog'\nseed = 2020-01-01\n"),
    "a lone surrogate": (".jsonl", b'{"image": "cat.png", "to": "\\ud800"}'),
    "a nested field": (".jsonl", b'{"image": "cat.png", "to": "a", "name": "{stem:{x}}"}'),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_is_refused(name: str, files: Path, tmp_path: Path) -> None:
    suffix, data = MANIFESTS[name]
    file = tmp_path / f"a{suffix}"
    file.write_bytes(data)
    with pytest.raises(ZeroconError) as caught:
        expand(BatchOptions(output=tmp_path / "out", manifest=file))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 2000


def test_line_ends_and_byte_order_marks_of_manifests(files: Path, tmp_path: Path) -> None:
    cat = str(files / "cat.png")
    texts = [f"image,to\r\n{cat},dog\r\n", f"image,to\r{cat},dog\r", f"\ufeffimage,to\n{cat},dog"]
    for text in texts:
        (tmp_path / "a.csv").write_bytes(text.encode())
        (job,) = expand(BatchOptions(output=tmp_path / "out", manifest=tmp_path / "a.csv"))
        assert job.prompt == {"to": "dog"}
    line = json.dumps({"image": cat, "to": "a\u2028dog"}, ensure_ascii=False)
    (tmp_path / "a.jsonl").write_text(line + "\r\n", "utf-8", newline="")
    (job,) = expand(BatchOptions(output=tmp_path / "out", manifest=tmp_path / "a.jsonl"))
    assert job.prompt == {"to": "a\u2028dog"}


# standard streams


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["bash", "-c", line.replace("zerocon", f"{sys.executable} -m zerocon.cli")],
        cwd=folder, capture_output=True, timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("zerocon edit - --to dog -o a.png <&-", 2, b"stdin is closed"),
        ("zerocon edit cat.png --to dog --model mini -o - >&-", 2, b"stdout is closed"),
        ("zerocon methods >&-", 0, b""),
        ("zerocon edit gone.png --to dog 2>&-", 2, b""),
        ("zerocon edit gone.png --to dog <&- >&- 2>&-", 2, b""),
        ("zerocon methods > /dev/full", 2, b"No space left"),
        ("zerocon errors | head -c 1 > /dev/null; exit ${PIPESTATUS[0]}", None, b""),
        ("zerocon edit gone.png --to dog 2>&1 | true; exit ${PIPESTATUS[0]}", None, b""),
    ],
)
def test_closed_streams(
    line: str, code: int | None, message: bytes, files: Path, tmp_path: Path
) -> None:
    (tmp_path / "cat.png").write_bytes((files / "cat.png").read_bytes())
    done = shell(line, tmp_path)
    assert done.returncode in ((code,) if code is not None else (0, 1, 2)), done.stderr
    assert message in done.stderr and b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr and b"BrokenPipe" not in done.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["cat.png"]


# names that are not UTF-8


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_not_utf8(tmp_path: Path, shared_models: None) -> None:
    name = tmp_path / os.fsdecode(b"caf\xe9.png")
    gradient(32, 32).save(name)
    args = ["edit", str(name), "--to", "dog", "--caption", "a cat", "--model", "mini"]
    args += ["--fast", "--steps", "1", "--format", "json"]
    done = CliRunner().invoke(main, args)
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["input"] == str(name) and Path(record["output"]).is_file()
    assert "\\udce9" in done.stdout
    recipe = CliRunner().invoke(main, ["inspect", record["output"]])
    assert recipe.exit_code == 0


# zerocon.toml that was found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    gradient(32, 32).save("cat.png")
    return tmp_path


def dry_run(*options: str, **environment: str) -> list[str]:
    """Lines about the configuration that a dry run prints on stderr."""
    args = [*options, "edit", "cat.png", "--to", "dog", "--caption", "a cat", "-n", "--steps", "2"]
    done = CliRunner(env=environment).invoke(main, args)
    assert done.exit_code == 0, done.output
    assert "Configuration" not in done.stdout
    return [line for line in done.stderr.splitlines() if line.startswith("Configuration")]


@pytest.mark.usefixtures("shared_models")
class TestFoundConfiguration:
    MINI = 'model = "mini"\nno_cache = true\n'

    def test_which_file_is_used_is_said(self, here: Path) -> None:
        (here / "zerocon.toml").write_text(self.MINI)
        assert dry_run() == [f"Configuration: {here / 'zerocon.toml'}"]
        Path("zerocon.toml").write_text(self.MINI)
        assert dry_run() == ["Configuration: zerocon.toml"]
        assert dry_run(ZEROCON_QUIET="1") == []
        assert dry_run("--config", "zerocon.toml") == []

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("keep_gps = true", "keep_gps = true"),
            ('metadata = "none"', 'metadata = "none"'),
            ('clip = "./clip"', 'clip = "./clip"'),
            ('vae = "./vae"', 'vae = "./vae"'),
            ("max_megapixels = 5000", 'max_megapixels = "5000"'),
            ("max_megapixels = 100", None),
            ("keep_gps = false", None),
            ('metadata = "full"', None),
            ('guidance = "contrastive:weight=1"', None),
            ("guidance = []", None),
        ],
    )
    def test_what_weakens_privacy_or_loads_code_is_said(
        self, here: Path, line: str, said: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = zerocon.load
        monkeypatch.setattr(
            zerocon, "load", lambda name, **_: real(name, device="cpu"), raising=False
        )
        for folder in (here, here / "sub"):
            (folder / "zerocon.toml").write_text(f"{self.MINI}{line}\n")
            expected = [f" sets {said}"] if said else []
            assert [text.partition("zerocon.toml")[2] for text in dry_run(ZEROCON_QUIET="1")] == (
                expected
            )
            (folder / "zerocon.toml").unlink()

    def test_what_an_option_overrides_is_not_said(self, here: Path) -> None:
        Path("zerocon.toml").write_text(f'{self.MINI}metadata = "none"\n')
        assert dry_run(ZEROCON_METADATA="minimal") == ["Configuration: zerocon.toml"]

    def test_a_method_of_another_package_is_said(self, here: Path) -> None:
        from zerocon.cli.config_file import _matters

        assert _matters("guidance", ["contrastive", "theirs:weight=1"])
        assert _matters("attention", ["style=theirs"]) and _matters("inverter", "theirs")
        assert not _matters("attention", ["style=none"]) and not _matters("inverter", "ddim")

    @pytest.mark.skipif(os.name != "posix", reason="needs modes of files")
    @pytest.mark.parametrize("mode", [0o646, 0o666, 0o664])
    def test_a_file_that_others_may_write_is_refused(
        self, here: Path, mode: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("zerocon.cli.config_file._is_private_group", lambda _: False)
        (here / "zerocon.toml").write_text(self.MINI)
        (here / "zerocon.toml").chmod(mode)
        done = CliRunner().invoke(main, ["edit", "cat.png", "--to", "dog"])
        assert done.exit_code == 2 and "[ZC-E011]" in done.stderr and "write" in done.stderr
        assert dry_run("--config", str(here / "zerocon.toml")) == []

    @pytest.mark.skipif(os.name != "posix", reason="needs owners of files")
    def test_a_file_of_another_user_is_refused(
        self, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = here / "zerocon.toml"
        file.write_text(self.MINI)
        stats = Path.stat

        def stat_of(path: Path, **options: Any) -> os.stat_result:
            values = list(stats(path, **options))
            values[stat.ST_UID] = os.getuid() + 1 if path == file else values[stat.ST_UID]
            return os.stat_result(values)

        monkeypatch.setattr(Path, "stat", stat_of)
        done = CliRunner().invoke(main, ["edit", "cat.png", "--to", "dog"])
        assert done.exit_code == 2 and "another user" in done.stderr
        assert dry_run("--config", str(file)) == []

    def test_a_private_group_may_write(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("zerocon.cli.config_file._is_private_group", lambda _: True)
        Path("zerocon.toml").write_text(self.MINI)
        Path("zerocon.toml").chmod(0o664)
        assert dry_run() == ["Configuration: zerocon.toml"]

    @pytest.mark.parametrize("text", ["a = " + "[" * 9999, "seed = " + "9" * 5000, "#" * 300_000])
    def test_a_file_without_end(self, here: Path, text: str) -> None:
        Path("zerocon.toml").write_text(text)
        done = CliRunner().invoke(main, ["edit", "cat.png", "--to", "dog"])
        assert done.exit_code == 2 and done.stderr.endswith("[ZC-E011]\n")
        assert done.stderr.count("\n") == 1
