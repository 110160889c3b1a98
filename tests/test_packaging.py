"""What an editable install cannot show: that everything gets into the wheel."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {"zerocon": "zerocon", "cli": "zerocon.cli", "prompts": "zerocon.prompts"}

LISTING = """
import json
from setuptools import Distribution
dist = Distribution({"script_name": "setup.py"})
dist.parse_config_files(["setup.cfg"])
build = dist.get_command_obj("build_py")
build.ensure_finalized()
modules = [path for _, _, path in build.find_all_modules()]
data = [f"{folder}/{name}" for _, folder, _, names in build.data_files for name in names]
print(json.dumps({"packages": dist.packages, "files": modules + data}))
"""


@pytest.fixture(scope="module")
def shipped() -> dict[str, list[str]]:
    """What setuptools would put into a wheel, without building one."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LISTING],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    listed: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return listed


def _there() -> list[Path]:
    return [
        path.relative_to(ROOT)
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*"))
        if path.is_file() and path.suffix != ".pyc" and not path.name.startswith(".")
    ]


def test_every_package_folder_is_listed(shipped: dict[str, list[str]]) -> None:
    folders = {path.parent.parts for path in _there() if path.name == "__init__.py"}
    names = {".".join((FOLDERS[top], *rest)) for top, *rest in folders}
    assert sorted(names) == sorted(shipped["packages"])


def test_every_file_is_shipped_once(shipped: dict[str, list[str]]) -> None:
    files = [str(Path(name)) for name in shipped["files"]]
    assert sorted({str(path) for path in _there()} - set(files)) == []
    assert len(files) == len(set(files))
