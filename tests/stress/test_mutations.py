"""2,000 mutated text and tensor files: each is read or refused, within limits."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from stress import mutations

CASES = 2000


@pytest.mark.stress
def test_mutated_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = mutations.write_samples(tmp_path)
    outcomes = list(mutations.run([*range(CASES)], samples, tmp_path))
    with capsys.disabled():
        print(f"\nseeds 0 to {CASES - 1}")
        for (kind, result), count in sorted(Counter((o.kind, o.result) for o in outcomes).items()):
            print(f"{kind:10} {result:10} {count}")
    violations = [f"seed {o.seed}, {o.kind}: {o.reason}" for o in outcomes if o.violation]
    assert len(outcomes) == CASES and not violations, "\n".join(violations)
