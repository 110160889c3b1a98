"""No code of the working directory is run, by any process that zerocon starts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from zerocon.batch import launcher
from zerocon.storage import processes

ROOT = Path(__file__).parents[1]
POISONED = ("torch", "accelerate", "zerocon", "cli", "click", "json", "numpy", "PIL", "diffusers")
POISONED += ("transformers", "ray", "sitecustomize", "usercustomize")
START = re.compile(
    r"(get_context|ProcessPoolExecutor|subprocess\.(run|Popen|call|check_\w+)|os\.(system|exec\w*|spawn\w*)|Pool)\("
)


@pytest.fixture
def poisoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with modules that leave a file when they are imported."""
    monkeypatch.chdir(tmp_path)
    for name in POISONED:
        code = f"open({str(tmp_path / 'was-run')!r}, 'a').write(__name__)\nraise SystemExit(9)"
        Path(f"{name}.py").write_text(code)
        Path(name).mkdir()
        Path(name, "__init__.py").write_text(code)
    return tmp_path


@pytest.mark.parametrize("path", [None, "", ".", f"{os.pathsep}."])
def test_workers_do_not_import_from_the_working_directory(
    poisoned: Path, monkeypatch: pytest.MonkeyPatch, path: str | None, capfd: pytest.CaptureFixture
) -> None:
    if path is not None:
        before = os.environ.get("PYTHONPATH", "")
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([path, before]))
    workers = launcher.launch("zerocon.cli", ["batch", "--help"], 2)
    assert workers.wait(300) == 0, capfd.readouterr().err
    assert capfd.readouterr().out.count("Usage: ") == 2
    assert not (poisoned / "was-run").exists()


def test_the_poison_works(poisoned: Path) -> None:
    subprocess.run([sys.executable, "-m", "zerocon.cli", "--version"], capture_output=True)
    assert (poisoned / "was-run").exists()


def test_workers_are_given_a_safe_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    here = str(Path.cwd())
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", here, ".", "relative"]))
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    safe = processes.safe_environment()
    assert (safe["PYTHONSAFEPATH"], safe["PYTHONPATH"]) == ("1", here)
    monkeypatch.setenv("PYTHONPATH", "")
    assert "PYTHONPATH" not in processes.safe_environment()


def test_every_place_that_starts_processes_makes_them_safe() -> None:
    files = [*ROOT.glob("zerocon/**/*.py"), *ROOT.glob("cli/**/*.py")]
    starting = [file for file in files if START.search(file.read_text("utf-8"))]
    assert {file.name for file in starting} >= {"launcher.py", "dataset.py"}
    assert [file for file in starting if "safe_environment()" not in file.read_text("utf-8")] == []


@pytest.mark.parametrize("program", ["batch --help", "train mini --work x --workers 2 --help"])
def test_a_command_makes_all_its_processes_safe(program: str) -> None:
    """Also those that libraries start: compilers, pools, Ray."""
    code = f"""import os, sys
sys.argv = ["zerocon", *{program.split()!r}]
from zerocon.cli import main
try:
    main()
except SystemExit:
    assert os.environ["PYTHONSAFEPATH"] == "1"
    assert "." not in os.environ.get("PYTHONPATH", "").split(":")
    sys.exit(7)
"""
    path = os.pathsep.join([os.environ.get("PYTHONPATH", ""), "."])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-P", "-c", code], env=environment, capture_output=True)
    assert done.returncode == 7, done.stderr


def test_launch_lines_of_the_pages_are_safe() -> None:
    pages = [*ROOT.glob("docs/*.md"), ROOT / "README.md", *ROOT.glob("examples/*")]
    lines = [
        line
        for page in pages
        if page.is_file() and page.suffix in (".md", ".py", ".sh")
        for line in re.findall(r".*accelerate launch.*", page.read_text("utf-8"))
    ]
    assert lines and all("PYTHONSAFEPATH=1 accelerate launch" in line for line in lines)


CONNECTIONS = """
import sys
from click.testing import CliRunner
tried = []
def refuse(event, args):
    # other processes of this machine are reached by a path, not by host and port
    if event in ("socket.getaddrinfo", "socket.connect") and not isinstance(args[-1], (str, bytes)):
        tried.append(event)
        raise OSError("there is no network in this test")
sys.addaudithook(refuse)
from zerocon.cli import main
for line in sys.argv[1:]:
    done = CliRunner().invoke(main, line.split())
    print(line, done.exit_code, len(tried), sep="|", flush=True)
    tried.clear()
"""


def test_only_models_pull_uses_the_network(tmp_path: Path) -> None:
    """Without the variables that forbid it, every attempt to connect is counted."""
    Image.effect_noise((64, 64), 50).convert("RGB").save(tmp_path / "cat.png")
    brief = "--model mini --device cpu --steps 1 --guidance none"
    lines = {
        f"edit cat.png --to dog --from cat {brief} -o dog.png": 0,
        "replay dog.png --source cat.png": 0,
        f"batch cat.png -o out --to dog {brief}": 0,
        "models list": 0,
        "edit cat.png --to dog --model owner/name": 3,
        "edit cat.png --to dog --model mini --caption cat --mask-text hat": 3,
        "edit cat.png --to dog --model mini --captioner owner/name": 3,
        "models verify owner/name": 3,
        "models pull owner/name --yes": 3,
    }
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_OFFLINE")}
    environment |= {"HF_HOME": str(tmp_path / "hub"), "ZEROCON_CACHE": str(tmp_path / "cache")}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", CONNECTIONS, *lines],
        capture_output=True, text=True, cwd=tmp_path, env=environment,
    )  # fmt: skip
    results = [line.split("|") for line in done.stdout.splitlines() if "|" in line]
    assert {line: int(code) for line, code, _ in results} == lines, (done.stdout, done.stderr)
    assert [line for line, _, tried in results if tried != "0"] == [results[-1][0]]
