"""What the stress tests share, and the tables that they print at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from stress import trials
from stress.faults import FAULTS
from stress.sandbox import SandboxFactory
from stress.soak import SoakReport
from stress.soak import as_markdown as soak_as_markdown

INJECTIONS = pytest.StashKey["InjectionLog"]()
SOAK = pytest.StashKey[SoakReport]()


class InjectionLog:
    """The injections of this run and of the results file; each new one is saved at once."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.injections = trials.read(path) if path else []

    def add(self, injection: trials.Injection) -> None:
        """Append an injection and write the results file, if there is one."""
        self.injections.append(injection)
        if self.path:
            trials.save(self.path, self.injections)


@pytest.fixture(scope="session")
def log(pytestconfig: pytest.Config) -> InjectionLog:
    """Injections so far, those of ``--stress-results`` included."""
    log = InjectionLog(pytestconfig.getoption("--stress-results"))
    pytestconfig.stash[INJECTIONS] = log
    return log


@pytest.fixture(scope="session")
def sandboxes(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> SandboxFactory:
    """Sandboxes in ``--work-dir`` or a temporary directory."""
    folder: Path | None = pytestconfig.getoption("--work-dir")
    return SandboxFactory(folder or tmp_path_factory.mktemp("stress"))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the tables of docs/batch.md."""
    if log := config.stash.get(INJECTIONS, None):
        terminalreporter.section("fault injection")
        terminalreporter.line(trials.as_markdown(trials.count(FAULTS, log.injections)))
    if report := config.stash.get(SOAK, None):
        terminalreporter.section("soak test")
        terminalreporter.line(soak_as_markdown(report))
