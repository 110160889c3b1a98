"""What an editable install cannot show: that everything gets into the wheel."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import zerocon

ROOT = Path(__file__).parent.parent
FOLDERS = {"zerocon": "zerocon", "cli": "zerocon.cli", "prompts": "zerocon.prompts"}

LISTING = """
import json
import re
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


def test_the_citation_and_the_issue_templates_are_valid() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert zerocon.__version__.startswith(citation["version"])
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    templates = list((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert sorted(path.stem for path in templates) == ["bug", "feature"]
    for path in templates:
        template = yaml.safe_load(path.read_text())
        assert template["name"] and template["description"] and template["body"]


def test_the_files_that_the_guide_to_contributing_names_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`([\w./-]+/[\w.-]+\.\w+)`", text)
    named += re.findall(r"\]\(([^)]+)\)", text)
    listing = text.partition("## Layout\n")[2].partition("\n\nEach module")[0]
    named += re.findall(
        r"[\w/.-]+/(?:\w+\.py)?(?=[\s,;]|$)", re.sub(r"(\S+)\{(\S+)\}(\S+)", _each, listing)
    )
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists()] == []


def _each(braces: re.Match[str]) -> str:
    """``a/{b,c}.py`` as a shell expands it."""
    before, inside, after = braces.groups()
    return " ".join(f"{before}{part}{after}" for part in inside.split(","))
