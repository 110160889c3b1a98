"""Every fault, injected as often as its row in the table says: nothing is lost or duplicated.

A fault that this machine does not permit has "not possible here" in the table. Linux only.
"""

from __future__ import annotations

import pytest

from stress import trials
from stress.conftest import InjectionLog
from stress.faults import FAULTS
from stress.sandbox import SandboxFactory


@pytest.mark.stress
@pytest.mark.parametrize("name", FAULTS, ids=lambda name: name.replace(" ", "-"))
def test_fault(
    name: str, log: InjectionLog, sandboxes: SandboxFactory, pytestconfig: pytest.Config
) -> None:
    kills = pytestconfig.getoption("--kills")
    missing = trials.inject_missing(name, FAULTS[name], log.injections.copy(), sandboxes, kills)
    for injection in missing:
        log.add(injection)
    failed = [each for each in log.injections if each.fault == name and each.violations]
    assert not failed
